#include "agent/drivers/firecracker_config.h"

#define AT(member) offsetof(struct firecracker_config, member)

static const struct field firecracker_config_fields[] = {
    {.name = "binary", .tag = 1, .kind = FIELD_STRING, .offset = AT(binary), .default_text = "firecracker",
     .help = "Firecracker 1.7, by its name in PATH or its path."},
    {.name = "jailer", .tag = 2, .kind = FIELD_STRING, .offset = AT(jailer), .default_text = "jailer",
     .help = "Its jailer, which an agent that is root starts it by; `none`: without a jail."},
    {.name = "kernel", .tag = 3, .kind = FIELD_STRING, .offset = AT(kernel),
     .default_text = "/var/lib/mentat/kernel/vmlinux",
     .help = "Kernel of machines whose service names none; uncompressed (scripts/guest-kernel.sh)."},
    {.name = "modules", .tag = 4, .kind = FIELD_STRING, .offset = AT(modules),
     .help = "Its modules, a cpio archive as scripts/guest-kernel.sh makes; default: it needs none."},
    {.name = "run_dir", .tag = 5, .kind = FIELD_STRING, .offset = AT(run_dir), .default_text = "/tmp/mentat",
     .help = "Directory in which each machine has its jail and its sockets, below `firecracker/`."},
    {.name = "image_roots", .tag = 6, .kind = FIELD_STR_LIST, .flags = FIELD_SCALAR_OK, .offset = AT(image_roots),
     .help = "Directories below which images and kernels of services are; default: /srv/images. What lies elsewhere on "
             "this host no service can read."},
    {.name = "image_max_mb", .tag = 7, .kind = FIELD_SIZE_MB, .offset = AT(image_max_mb), .default_text = "8192",
     .min = 1, .max = 1 << 30, .help = "How large what is in an image may be, unpacked."},
    {.name = "image_gc_age", .tag = 8, .kind = FIELD_DURATION, .offset = AT(image_gc_age_ms), .default_text = "24h",
     .min = 1000, .max = 31536000000, .help = "How long a built image is kept after its last use."},
    {.name = "uid_base", .tag = 9, .kind = FIELD_INT, .offset = AT(uid_base), .default_text = "870000",
     .min = 1000, .max = 2000000000,
     .help = "Machine number N runs as user and group uid_base + N; nobody else may have these."},
    {.name = "overhead_mb", .tag = 10, .kind = FIELD_SIZE_MB, .offset = AT(overhead_mb), .default_text = "64",
     .min = 8, .max = 65536, .help = "Memory that a machine's process may take beyond that of its guest."},
    {.name = "start_timeout", .tag = 11, .kind = FIELD_DURATION, .offset = AT(start_timeout_ms), .default_text = "60s",
     .min = 1000, .max = 3600000, .help = "How long a machine may take from its start until its service runs."},
    {.name = "bridge", .tag = 12, .kind = FIELD_STRING, .offset = AT(bridge), .default_text = "mentat0",
     .help = "Bridge that the machines of this node are on; at most 9 characters."},
    {.name = "network", .tag = 13, .kind = FIELD_STRING, .offset = AT(network), .default_text = NETWORK_AUTO,
     .help = "Addresses of this node's machines, such as 10.88.0.0/24; the first one is the bridge's. `auto`: what the servers "
             "give this node; `none`: machines have no network."},
    {.name = "dns", .tag = 14, .kind = FIELD_STR_LIST, .flags = FIELD_SCALAR_OK, .offset = AT(dns),
     .help = "Name servers that are asked for names outside of `mentat`; default: those of this host; `none`: no such name "
             "is answered."},
    {.name = "vsock", .tag = 15, .kind = FIELD_BOOL, .offset = AT(vsock), .default_text = "true",
     .help = "Speak with guests over vsock where their kernel has it; else, and without, over the serial line."},
    {.name = "kvm_check", .tag = 16, .kind = FIELD_BOOL, .offset = AT(kvm_check), .default_text = "true",
     .help = "Require a working /dev/kvm; false is for monitors that do not need it."},
    {.name = "snapshots_max_mb", .tag = 20, .kind = FIELD_SIZE_MB, .offset = AT(snapshots_max_mb), .default_text = "4096",
     .min = 0, .max = 1 << 30, .help = "How much of the disk snapshots of machines may take (`config.snapshot`); the one that was "
             "not used for the longest goes first."},
    {0},
};

const struct type firecracker_config_type = {
    .name = "firecracker_config",
    .size = sizeof(struct firecracker_config),
    .fields = firecracker_config_fields,
    .help = "How the agent runs microVMs.",
};
