/* Docker seccomp: the strict filter of system calls, as the engine reads it. */
#pragma once
#include "base/buf.h"

/* Appends the profile's JSON: everything that is not named fails with EPERM. */
void docker_seccomp_strict(struct buf *out);
/* The names of the allowed calls, NULL-ended, sorted. */
extern const char *const docker_seccomp_allowed[];
