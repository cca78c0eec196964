/* Time zone: names of zones in jobs become POSIX rules before they are proposed, so that every server computes alike
 * whatever its zone files say. */
#pragma once
#include "model/model.h"

/* Fills time_zone_rule of each scheduled service. 0, or -1 with a problem for each unknown zone and err. */
int time_zone_resolve(struct job *job, struct problem_list *problems, struct error *err);
