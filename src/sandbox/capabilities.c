#include "sandbox/capabilities.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int exchange(long call, struct __user_cap_data_struct data[static _LINUX_CAPABILITY_U32S_3], struct error *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(call, &header, data) ? error_set_errno(err, errno, "capabilities") : 0;
}

int capabilities_keep(uint64_t own, uint64_t programs, struct error *err)
{
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (exchange(SYS_capget, data, err))
        return -1;
    bool may = data[0].effective & CAPABILITY(CAP_SETPCAP);
    /* Until the kernel knows no more of them. */
    for (unsigned long c = 0; may && prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
        if (!((own | programs) & CAPABILITY(c)) && prctl(PR_CAPBSET_DROP, c, 0, 0, 0))
            return error_set_errno(err, errno, "capability %lu", c);
    for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        uint32_t part = (uint32_t)(own >> (32 * i));
        data[i].effective &= part;
        data[i].permitted &= part;
        data[i].inheritable &= part;
    }
    return exchange(SYS_capset, data, err);
}
