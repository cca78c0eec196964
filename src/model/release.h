/* Release: what the format of services.yaml has and this release of Mentat does not do yet. Reading a file knows these
 * keys; a server refuses a job that asks for them, which is better than to run it as if it did not. */
#pragma once
#include "model/model.h"

/* Adds a problem for each key of the job that this release would ignore. */
void job_release_check(const struct job *job, struct problem_list *problems);
