/* Capabilities: what is left of root's rights to a process that runs as root. */
#pragma once
#include <stdint.h>

#include "base/error.h"

#define CAPABILITY(number) (UINT64_C(1) << (number))      /* CAPABILITY(CAP_KILL), by linux/capability.h */

/* This thread and those that it begins keep `own` of what they have; programs that it starts as root get what is in
 * `programs` as well. Without a right to do so (not root) nothing is to be taken. -1 with err. */
int capabilities_keep(uint64_t own, uint64_t programs, struct error *err);
