#include "agent/process_cgroup.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

static const struct { const char *name; unsigned controller; } controllers[] = {
    {"cpuacct", CGROUP_CPUACCT}, {"memory", CGROUP_MEMORY}, {"pids", CGROUP_PIDS},
};

/* A line of /proc/PID/cgroup: "4:memory:/docker/ID", or "0::/docker/ID" of version 2. */
static void hierarchy_add(struct cgroup_root *r, const char *names, const char *path, const char *mount, bool v2)
{
    struct cgroup_hierarchy h = {.path = mem_printf("%s%s", mount, path), .v2 = v2};
    if (v2)
        h.controllers = CGROUP_CPU | CGROUP_MEMORY | CGROUP_PIDS;
    for (size_t i = 0; !v2 && i < ARRAY_LEN(controllers); i++)
        if (strstr(names, controllers[i].name))
            h.controllers |= controllers[i].controller;
    if (h.controllers && r->n < CGROUP_HIERARCHIES_MAX && access(h.path, F_OK) == 0)
        r->v[r->n++] = h;
    else
        free(h.path);
}

/* Where a hierarchy is mounted: "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0". */
static char *mount_of(const char *mounts, const char *names, bool v2)
{
    for (const char *line = mounts; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        char where[256], kind[32], options[512];
        if (sscanf(line, "%*s %255s %31s %511s", where, kind, options) != 3 || strcmp(kind, v2 ? "cgroup2" : "cgroup") != 0)
            continue;
        size_t n = strlen(options), k = strlen(names);
        if (v2 || (n >= k && !strcmp(options + n - k, names)))
            return mem_strdup(where);
    }
    return NULL;
}

int process_cgroup_usage(int pid, struct cgroup_usage *out, struct error *err)
{
    CLEANUP_FREE char *path = mem_printf("/proc/%d/cgroup", pid);
    CLEANUP_BUF struct buf groups = {0}, mounts = {0};
    if (file_read(path, 65536, &groups, err) < 0 || file_read("/proc/self/mounts", 4 << 20, &mounts, err) < 0)
        return -1;
    struct cgroup_root r = {0};
    char *rest = groups.data;
    for (char *line; (line = strsep(&rest, "\n"));) {
        char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = 0;
        names++;
        CLEANUP_FREE char *mount = mount_of(mounts.data, names, !*names);
        if (mount)
            hierarchy_add(&r, names, group, mount, !*names);
    }
    int result = r.n ? cgroup_usage(&r, "", out, err)
        : error_set(err, ERROR_NOT_FOUND, "the control groups of process %d are not to be found", pid);
    cgroup_close(&r);
    return result;
}
