#include "agent/rights.h"

#include <linux/capability.h>

#include "sandbox/capabilities.h"

/* Directories and files of tasks' users, their processes, mounts and taps of machines, limits, ports below 1024. */
#define OWN \
    (CAPABILITY(CAP_CHOWN) | CAPABILITY(CAP_DAC_OVERRIDE) | CAPABILITY(CAP_FOWNER) | CAPABILITY(CAP_FSETID) | \
     CAPABILITY(CAP_KILL) | CAPABILITY(CAP_NET_ADMIN) | CAPABILITY(CAP_NET_BIND_SERVICE) | CAPABILITY(CAP_SYS_ADMIN) | \
     CAPABILITY(CAP_SYS_PTRACE) | CAPABILITY(CAP_SYS_RESOURCE))

/* As in mentat-agent.service, also where that did not start it. */
#define NOBODYS \
    (CAPABILITY(CAP_SYS_MODULE) | CAPABILITY(CAP_SYS_BOOT) | CAPABILITY(CAP_SYS_TIME) | CAPABILITY(CAP_SYS_RAWIO) | \
     CAPABILITY(CAP_SYS_PACCT) | CAPABILITY(CAP_SYS_TTY_CONFIG) | CAPABILITY(CAP_MAC_ADMIN) | CAPABILITY(CAP_MAC_OVERRIDE) | \
     CAPABILITY(CAP_LINUX_IMMUTABLE) | CAPABILITY(CAP_LEASE) | CAPABILITY(CAP_WAKE_ALARM) | CAPABILITY(CAP_BLOCK_SUSPEND) | \
     CAPABILITY(CAP_AUDIT_CONTROL) | CAPABILITY(CAP_AUDIT_READ) | CAPABILITY(CAP_CHECKPOINT_RESTORE))

int rights_keep(struct error *err)
{
    return capabilities_keep(OWN, ~NOBODYS, err);
}
