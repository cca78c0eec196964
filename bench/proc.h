/* Proc: what the kernel says of a process. */
#pragma once
#include <sys/types.h>

#include "base/error.h"

/* Adds the numbers behind these keys ("VmRSS:", NULL ends them) in a file of /proc. */
int proc_sum(const char *path, const char *const *keys, double *sum, struct error *err);
/* In MiB. private: what no other process shares. */
int proc_memory_mb(pid_t pid, double *resident, double *private, struct error *err);
