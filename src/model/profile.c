#include "model/profile.h"

static const char *const no_capabilities[] = {NULL};
/* What Docker gives containers by itself. */
static const char *const engine_capabilities[] = {
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT", NULL,
};

static const struct profile profiles[] = {
    [PROFILE_FIRECRACKER] = {
        .name = "firecracker", .driver = DRIVER_FIRECRACKER,
        .help = "A virtual machine of its own; the kernel that the task sees is not the host's.",
        .may = {.root = true, .writable_root = true, .new_privileges = true, .capabilities = no_capabilities},
    },
    [PROFILE_DOCKER_HARDENED] = {
        .name = "docker-hardened", .driver = DRIVER_DOCKER,
        .help = "A container that could not harm its host even if its program were taken over.",
        .may = {.capabilities = no_capabilities, .tmpfs_mb = 64, .pids = 512},
    },
    [PROFILE_DOCKER_LEGACY] = {
        .name = "docker-legacy", .driver = DRIVER_DOCKER,
        .help = "A container as Docker itself runs them, for images that need root or write to their root.",
        .may = {.root = true, .writable_root = true, .new_privileges = true, .any_network = true, .engine_seccomp = true,
                .capabilities = engine_capabilities, .pids = 4096},
    },
    [PROFILE_EXEC_INTERNAL] = {
        .name = "exec-internal", .driver = DRIVER_EXEC,
        .help = "A process of the host with its limits; for programs that are trusted as the host is.",
        .may = {.root = true, .writable_root = true, .new_privileges = true, .any_network = true, .engine_seccomp = true,
                .capabilities = no_capabilities},
    },
};

const struct profile *profile_of(enum driver_kind driver, enum security_profile profile)
{
    static const enum security_profile defaults[] = {
        [DRIVER_NONE] = PROFILE_EXEC_INTERNAL, [DRIVER_FIRECRACKER] = PROFILE_FIRECRACKER,
        [DRIVER_DOCKER] = PROFILE_DOCKER_HARDENED, [DRIVER_EXEC] = PROFILE_EXEC_INTERNAL,
    };
    return &profiles[profile == PROFILE_DEFAULT ? defaults[driver] : profile];
}
