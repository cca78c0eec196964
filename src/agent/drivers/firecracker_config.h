/* Firecracker configuration: the block `firecracker` of agent.yaml. */
#pragma once
#include <stdint.h>

#include "model/model.h"

struct firecracker_config {
    char *binary, *jailer;           /* names or paths; jailer "none": without */
    char *kernel, *modules;          /* modules NULL: the kernel has all that it needs */
    char *run_dir;
    struct str_list image_roots;
    int64_t image_max_mb, image_gc_age_ms;
    int64_t uid_base;
    int64_t overhead_mb;
    int64_t start_timeout_ms;
    char *bridge, *network;          /* network "auto": from the servers; "none": machines without one */
    struct str_list dns;
    bool vsock, kvm_check;
    int64_t snapshots_max_mb;
};
extern const struct type firecracker_config_type;
