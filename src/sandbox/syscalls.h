/* System calls: the filter of mentat-server and mt. What these need is allowed; to start a program or to look into another
 * process ends them at once; all else fails with EPERM. */
#pragma once
#include <stdbool.h>

#include "base/error.h"

/* From here on, for this thread and those that it begins. No new privileges either. In a sanitizer's
 * build there is no filter. -1 with err: the kernel has none. */
int syscalls_restrict(struct error *err);
/* Whether this build has the filter. */
bool syscalls_can_restrict(void);
