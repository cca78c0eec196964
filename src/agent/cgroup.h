/* Control groups: the limits of tasks, and the one sure way to end a whole process tree. Version 2 first; version 1
 * where the host still mounts its controllers apart. One subtree per agent, one group per allocation in it.
 * Plain system calls and no state outside the structs, so that the shim can use it. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "model/field.h"

enum cgroup_controller {
    CGROUP_CPU = 1 << 0,
    CGROUP_CPUACCT = 1 << 1,         /* version 1; in version 2 part of cpu */
    CGROUP_MEMORY = 1 << 2,
    CGROUP_PIDS = 1 << 3,
    CGROUP_FREEZER = 1 << 4,         /* version 1 */
    CGROUP_KILL = 1 << 5,            /* version 2: cgroup.kill */
};
#define CGROUP_HIERARCHIES_MAX 8
#define CGROUP_SHIMS ".shims"        /* the group of the shims themselves, in version 2; not in cgroup_list */

struct cgroup_hierarchy {
    char *path;                      /* the agent's subtree: "/sys/fs/cgroup/memory/mentat/NAME" */
    unsigned controllers;            /* those to be set here; 0 is never kept */
    bool v2;
};
struct cgroup_root {
    struct cgroup_hierarchy v[CGROUP_HIERARCHIES_MAX];
    unsigned n;
    char warning[512];               /* what is missing, in plain words; "" when limits work fully */
};

enum cgroup_mode { CGROUP_AUTO, CGROUP_V1, CGROUP_V2, CGROUP_OFF };

struct cgroup_limits {
    double cpus, cpu_max;            /* cpus: share; cpu_max 0: none */
    int64_t memory_mb, pids;         /* 0: none */
};
struct cgroup_usage {
    double cpu_seconds;
    int64_t memory_bytes, memory_peak_bytes, memory_limit_bytes, pids, oom_kills;
};

/* Finds the mounted hierarchies and makes the subtree `name` ("mentat/NODE") in each. Without rights, or without any
 * controller, the root is empty or partial and `warning` says so; that is no error. */
void cgroup_open(struct cgroup_root *r, const char *name, enum cgroup_mode mode);
void cgroup_close(struct cgroup_root *r);                      /* frees; the directories stay */
/* The subtree itself goes too, and the folders above it, as far as they are empty. Waits up to 2 s for shims that are
 * about to be dead. */
void cgroup_remove_root(struct cgroup_root *r);
/* Every group below the root, in any hierarchy: the allocations of living and dead tasks. */
int cgroup_list(const struct cgroup_root *r, struct str_list *ids, struct error *err);

int cgroup_create(const struct cgroup_root *r, const char *id, const struct cgroup_limits *limits, struct error *err);
/* pid 0: the caller. */
int cgroup_join(const struct cgroup_root *r, const char *id, pid_t pid, struct error *err);
/* SIGKILL to everything in it, forks in flight included. Returns 1 when something was there, 0 when it was empty. */
int cgroup_kill(const struct cgroup_root *r, const char *id);
/* Removes an empty group; waits up to wait_ms for the dead to be gone. -1 when something still lives in it. */
int cgroup_remove(const struct cgroup_root *r, const char *id, int64_t wait_ms, struct error *err);
int cgroup_usage(const struct cgroup_root *r, const char *id, struct cgroup_usage *out, struct error *err);
