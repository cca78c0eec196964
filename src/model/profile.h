/* Security profiles: what a task may do on its node, as data. One row a profile, one line of a row a privilege. From
 * this table come the checks of servers and agents, what drivers do, `mt plan` and docs/security.md. */
#pragma once
#include "model/model.h"

struct privileges {
    bool root;                       /* run as root */
    bool writable_root;              /* write to the container's own root file system */
    bool new_privileges;             /* gain privileges by set-user-ID programs and file capabilities */
    bool any_network;                /* join a named network, instead of the job's own or none */
    bool engine_seccomp;             /* the engine's default filter of system calls, instead of the strict one */
    const char *const *capabilities; /* NULL-ended; empty: none */
    int64_t tmpfs_mb;                /* size of /tmp in memory; 0: it is a part of the root file system */
    int64_t pids;                    /* processes and threads, when the service names no limit; also the highest one */
};

struct profile {
    const char *name;
    enum driver_kind driver;
    const char *help;
    struct privileges may;
};

/* The row of a service's profile; PROFILE_DEFAULT gives that of the driver. */
const struct profile *profile_of(enum driver_kind driver, enum security_profile profile);
