#include "sandbox/memory.h"

#include <sys/prctl.h>

void memory_hide(void)
{
    if (!SANITIZED)
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}
