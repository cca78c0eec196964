#include "agent/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

#define CGROUP_NESTING_MAX 8
#define KILL_ROUNDS 64
#define SHIMS_END_MS 2000

static const struct controller {
    const char *name;
    unsigned bit;
    bool v2;              /* may be asked for in cgroup.subtree_control */
    bool needed;          /* without it a limit is not kept */
} controllers[] = {
    {"cpu", CGROUP_CPU, .v2 = true, .needed = true},
    {"cpuacct", CGROUP_CPUACCT, .v2 = false},
    {"memory", CGROUP_MEMORY, .v2 = true, .needed = true},
    {"pids", CGROUP_PIDS, .v2 = true, .needed = true},
    {"freezer", CGROUP_FREEZER, .v2 = false},
};

/* --- small files --- */

static int path_join(char out[static PATH_MAX], const char *dir, const char *id, const char *file)
{
    int n = snprintf(out, PATH_MAX, "%s%s%s%s%s", dir, *id ? "/" : "", id, *file ? "/" : "", file);
    return n > 0 && n < PATH_MAX ? 0 : -1;
}

/* Returns 0, or the errno. */
static int text_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    ssize_t n = write(fd, text, strlen(text));
    int failed = n < 0 ? errno : 0;
    close(fd);
    return failed;
}

/* At most size-1 bytes, NUL-ended. Returns the length, or -1. */
static ssize_t text_read(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, out, size - 1);
    close(fd);
    out[n > 0 ? n : 0] = 0;
    return n;
}

static void sleep_ms(int64_t ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&ts, NULL);
}

static unsigned controllers_parse(const char *text)
{
    unsigned found = 0;
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, " ,\n");
        for (size_t i = 0; i < ARRAY_LEN(controllers); i++)
            if (strlen(controllers[i].name) == n && memcmp(controllers[i].name, p, n) == 0)
                found |= controllers[i].bit;
        p += n;
        p += strspn(p, " ,\n");
    }
    return found;
}

/* --- the agent's subtree --- */

/* The first thing that stood in the way, uppermost group first: the rest follows from it. */
struct obstacle {
    int failed;           /* errno; 0: nothing stood in the way */
    bool controller;      /* a controller could not be passed on; else the subtree could not be made */
    char where[128];
};

static void obstacle_note(struct obstacle *o, int failed, bool controller, const char *where)
{
    if (o->failed)
        return;
    o->failed = failed;
    o->controller = controller;
    snprintf(o->where, sizeof o->where, "%s", where);
}

static bool group_populated(const char *group)
{
    char path[PATH_MAX], c[2];
    return path_join(path, group, "", "cgroup.procs") == 0 && text_read(path, c, sizeof c) > 0;
}

/* A group with processes of its own cannot pass on what its groups could be limited by; only the first of all can. With
 * some controllers the kernel tries nevertheless, and then no process may enter the groups below: not asked for. */
static bool v2_keeps_to_itself(const char *dir)
{
    char path[PATH_MAX];
    bool first = path_join(path, dir, "", "cgroup.type") < 0 || access(path, F_OK) < 0;
    return !first && group_populated(dir);
}

/* Asks for every useful controller below `dir`. What the host refuses is simply not there afterwards. */
static void v2_enable(const char *dir, struct obstacle *obstacle)
{
    char path[PATH_MAX], text[32];
    if (v2_keeps_to_itself(dir)) {
        obstacle_note(obstacle, EBUSY, true, dir);
        return;
    }
    if (path_join(path, dir, "", "cgroup.subtree_control") < 0)
        return;
    for (size_t i = 0; i < ARRAY_LEN(controllers); i++) {
        if (!controllers[i].v2)
            continue;
        snprintf(text, sizeof text, "+%s", controllers[i].name);
        int failed = text_write(path, text);
        if (failed)
            obstacle_note(obstacle, failed, true, dir);
    }
}

/* Makes each folder of `name` below the mount; returns the errno of the first that cannot be made. */
static int subtree_make(const char *mount, const char *name, bool v2, char path[static PATH_MAX], struct obstacle *obstacle)
{
    if (path_join(path, mount, name, "") < 0)
        return ENAMETOOLONG;
    for (char *p = path + strlen(mount); p; p = strchr(p + 1, '/')) {
        char saved = *p;
        *p = 0;
        if (p != path + strlen(mount) && mkdir(path, 0755) < 0 && errno != EEXIST) {
            int failed = errno;
            *p = saved;
            return failed;
        }
        if (v2)
            v2_enable(path, obstacle);
        *p = saved;
    }
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return errno;
    if (v2)
        v2_enable(path, obstacle);
    return access(path, W_OK) < 0 ? errno : 0;
}

static unsigned v2_controllers(const char *dir)
{
    char path[PATH_MAX], text[512];
    unsigned found = 0;
    if (path_join(path, dir, "", "cgroup.subtree_control") == 0 && text_read(path, text, sizeof text) > 0)
        found = controllers_parse(text);
    if (path_join(path, dir, "", "cgroup.kill") == 0 && access(path, W_OK) == 0)
        found |= CGROUP_KILL;
    return found;
}

static void hierarchy_add(struct cgroup_root *r, const char *mount, const char *name, bool v2, unsigned offered,
                          struct obstacle *obstacle)
{
    unsigned have = 0;
    for (unsigned i = 0; i < r->n; i++) {
        if (v2 && r->v[i].v2)
            return;              /* the kernel has one; it may be mounted at several places */
        have |= r->v[i].controllers;
        if (r->v[i].v2 && r->v[i].controllers & CGROUP_CPU)
            offered &= ~(unsigned)CGROUP_CPUACCT;
    }
    if (have & CGROUP_KILL)
        offered &= ~(unsigned)CGROUP_FREEZER;
    offered &= ~have;
    if ((!v2 && !offered) || r->n == CGROUP_HIERARCHIES_MAX)
        return;
    char path[PATH_MAX];
    int failed = subtree_make(mount, name, v2, path, obstacle);
    if (failed) {
        obstacle_note(obstacle, failed, false, mount);
        return;
    }
    char shims[PATH_MAX];
    if (v2 && path_join(shims, path, CGROUP_SHIMS, "") == 0 && (mkdir(shims, 0755) == 0 || errno == EEXIST))
        offered = v2_controllers(path);
    if (offered)
        r->v[r->n++] = (struct cgroup_hierarchy){.path = mem_strdup(path), .controllers = offered, .v2 = v2};
}

static void mounts_scan(struct cgroup_root *r, const char *name, bool v2, struct obstacle *obstacle)
{
    FILE *f = setmntent("/proc/self/mounts", "re");
    if (!f)
        return;
    struct mntent m;
    char line[4096];
    while (getmntent_r(f, &m, line, sizeof line)) {
        if (v2 && strcmp(m.mnt_type, "cgroup2") == 0)
            hierarchy_add(r, m.mnt_dir, name, true, 0, obstacle);
        else if (!v2 && strcmp(m.mnt_type, "cgroup") == 0)
            hierarchy_add(r, m.mnt_dir, name, false, controllers_parse(m.mnt_opts), obstacle);
    }
    endmntent(f);
}

static void reason_write(char *out, size_t size, enum cgroup_mode mode, const struct obstacle *o)
{
    if (mode == CGROUP_OFF)
        snprintf(out, size, "control groups are switched off in the configuration");
    else if (o->failed == EACCES || o->failed == EPERM)
        snprintf(out, size, "not permitted in %s; run the agent as root", o->where);
    else if (o->failed == EROFS)
        snprintf(out, size, "%s is mounted read-only", o->where);
    else if (o->controller && o->failed == EBUSY)
        snprintf(out, size, "processes stand in %s itself, and such a group passes nothing on (cgroup v2); move them into a "
                 "group of their own below it, or run the agent on the host itself", o->where);
    else if (o->controller && o->failed == ENOENT)
        snprintf(out, size, "not among the controllers of %s; see its cgroup.controllers: what is missing there is kept back "
                 "by the group above, or by cgroup_disable= on the kernel's command line", o->where);
    else if (o->failed)
        snprintf(out, size, "%s: %s", o->where, strerror(o->failed));
    else
        snprintf(out, size, "no cgroup file system with such a controller is mounted");
}

static void warning_write(struct cgroup_root *r, enum cgroup_mode mode, const struct obstacle *obstacle)
{
    unsigned have = 0;
    for (unsigned i = 0; i < r->n; i++)
        have |= r->v[i].controllers;
    char missing[64] = "", why[384];
    for (size_t i = 0; i < ARRAY_LEN(controllers); i++)
        if (controllers[i].needed && !(have & controllers[i].bit))
            snprintf(missing + strlen(missing), sizeof missing - strlen(missing), "%s%s", *missing ? ", " : "",
                     controllers[i].name);
    if (!*missing)
        return;
    reason_write(why, sizeof why, mode, obstacle);
    snprintf(r->warning, sizeof r->warning, "limits are not enforced for %s: %s", missing, why);
}

void cgroup_open(struct cgroup_root *r, const char *name, enum cgroup_mode mode)
{
    *r = (struct cgroup_root){0};
    struct obstacle obstacle = {0};
    if (mode == CGROUP_AUTO || mode == CGROUP_V2)
        mounts_scan(r, name, true, &obstacle);
    if (mode == CGROUP_AUTO || mode == CGROUP_V1)
        mounts_scan(r, name, false, &obstacle);
    warning_write(r, mode, &obstacle);
}

void cgroup_close(struct cgroup_root *r)
{
    for (unsigned i = 0; i < r->n; i++)
        free(r->v[i].path);
    *r = (struct cgroup_root){0};
}

void cgroup_remove_root(struct cgroup_root *r)
{
    /* A shim lets go of everything a moment before it is dead; one of an earlier agent cannot be waited for otherwise. */
    cgroup_remove(r, CGROUP_SHIMS, SHIMS_END_MS, NULL);
    /* Upwards as long as nothing else is there; the mount itself refuses. */
    for (unsigned i = 0; i < r->n; i++) {
        CLEANUP_FREE char *path = mem_strdup(r->v[i].path);
        for (char *end; rmdir(path) == 0 && (end = strrchr(path, '/'));)
            *end = 0;
    }
}

int cgroup_list(const struct cgroup_root *r, struct str_list *ids, struct error *err)
{
    for (unsigned i = 0; i < r->n; i++) {
        DIR *dir = opendir(r->v[i].path);
        if (!dir)
            return error_set_errno(err, errno, "cannot list the control groups in %s", r->v[i].path);
        for (struct dirent *e; (e = readdir(dir));) {
            if (e->d_type != DT_DIR || e->d_name[0] == '.')
                continue;
            bool known = false;
            for (uint32_t k = 0; k < ids->n && !known; k++)
                known = strcmp(ids->v[k], e->d_name) == 0;
            if (!known)
                str_list_add(ids, e->d_name);
        }
        closedir(dir);
    }
    return 0;
}

/* --- one group --- */

/* A limit is one number in one file. */
static int limit_write(const char *group, const char *file, int64_t value, const char *suffix)
{
    char path[PATH_MAX], text[64];
    if (path_join(path, group, "", file) < 0)
        return ENAMETOOLONG;
    snprintf(text, sizeof text, "%lld%s", (long long)value, suffix);
    return text_write(path, text);
}

static int cpu_limit(const char *group, bool v2, const struct cgroup_limits *l)
{
    int64_t shares = (int64_t)(l->cpus * 1024);
    shares = shares < 2 ? 2 : shares > 262144 ? 262144 : shares;
    int failed = v2 ? limit_write(group, "cpu.weight", 1 + (shares - 2) * 9999 / 262142, "")
                    : limit_write(group, "cpu.shares", shares, "");
    if (failed || l->cpu_max <= 0)
        return failed;
    int64_t quota = (int64_t)(l->cpu_max * 100000);
    quota = quota < 1000 ? 1000 : quota;
    return v2 ? limit_write(group, "cpu.max", quota, " 100000") : limit_write(group, "cpu.cfs_quota_us", quota, "");
}

static int memory_limit(const char *group, bool v2, const struct cgroup_limits *l)
{
    if (l->memory_mb <= 0)
        return 0;
    int64_t bytes = l->memory_mb << 20;
    int failed = limit_write(group, v2 ? "memory.max" : "memory.limit_in_bytes", bytes, "");
    if (failed)
        return failed;
    /* A host without swap accounting has no such file: nothing to keep off then. */
    failed = v2 ? limit_write(group, "memory.swap.max", 0, "")
                : limit_write(group, "memory.memsw.limit_in_bytes", bytes, "");
    return failed == ENOENT ? 0 : failed;
}

static int limits_write(const struct cgroup_hierarchy *h, const char *group, const struct cgroup_limits *l, struct error *err)
{
    int failed;
    if (h->controllers & CGROUP_CPU && (failed = cpu_limit(group, h->v2, l)))
        return error_set_errno(err, failed, "cannot set the cpu limit in %s", group);
    if (h->controllers & CGROUP_MEMORY && (failed = memory_limit(group, h->v2, l)))
        return error_set_errno(err, failed, "cannot set the memory limit of %lld MB in %s", (long long)l->memory_mb, group);
    if (h->controllers & CGROUP_PIDS && l->pids > 0 && (failed = limit_write(group, "pids.max", l->pids, "")))
        return error_set_errno(err, failed, "cannot set the limit of %lld processes in %s", (long long)l->pids, group);
    return 0;
}

int cgroup_create(const struct cgroup_root *r, const char *id, const struct cgroup_limits *limits, struct error *err)
{
    char group[PATH_MAX];
    bool cleared = false;
    for (unsigned i = 0; i < r->n; i++) {
        if (path_join(group, r->v[i].path, id, "") < 0)
            return error_set(err, ERROR_INVALID, "the control group's path is too long: %s", r->v[i].path);
        if (mkdir(group, 0755) < 0) {
            if (errno != EEXIST || cleared)
                return error_set_errno(err, errno, "cannot make the control group %s", group);
            /* Left by a run whose shim was killed: what still lives in it must not stand beside the new task. */
            cgroup_kill(r, id);
            if (cgroup_remove(r, id, 2000, err) < 0)
                return -1;
            cleared = true;
            i = UINT_MAX;        /* the groups made so far went with it: from the first again */
            continue;
        }
        if (limits_write(&r->v[i], group, limits, err) < 0)
            return -1;
    }
    return 0;
}

int cgroup_join(const struct cgroup_root *r, const char *id, pid_t pid, struct error *err)
{
    char path[PATH_MAX], text[24];
    snprintf(text, sizeof text, "%d", (int)pid);
    for (unsigned i = 0; i < r->n; i++) {
        int failed = path_join(path, r->v[i].path, id, "cgroup.procs") < 0 ? ENAMETOOLONG : text_write(path, text);
        if (failed)
            return error_set_errno(err, failed, "cannot enter the control group %s", path);
    }
    return 0;
}

/* SIGKILL to every process listed in the file; returns their number. */
static int procs_kill(const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    int n = 0;
    for (int pid; fscanf(f, "%d", &pid) == 1;) {
        if (pid > 0) {
            kill(pid, SIGKILL);
            n++;
        }
    }
    fclose(f);
    return n;
}

/* Frozen processes cannot fork, so one pass finds them all. A group that does not freeze in time (a process waits in
 * the kernel) is killed nevertheless; the rounds make up for forks in between. */
static int freezer_kill(const char *group)
{
    char state[PATH_MAX], procs[PATH_MAX], text[16];
    if (path_join(state, group, "", "freezer.state") < 0 || path_join(procs, group, "", "cgroup.procs") < 0)
        return 0;
    text_write(state, "FROZEN");
    for (int i = 0; i < 50 && text_read(state, text, sizeof text) > 0 && strncmp(text, "FROZEN", 6) != 0; i++)
        sleep_ms(1);
    int n = procs_kill(procs);
    text_write(state, "THAWED");
    return n;
}

int cgroup_kill(const struct cgroup_root *r, const char *id)
{
    char group[PATH_MAX], path[PATH_MAX];
    const struct cgroup_hierarchy *freezer = NULL;
    for (unsigned i = 0; i < r->n; i++) {
        if (r->v[i].controllers & CGROUP_FREEZER)
            freezer = &r->v[i];
        if (!(r->v[i].controllers & CGROUP_KILL) || path_join(group, r->v[i].path, id, "") < 0)
            continue;
        int there = group_populated(group);
        if (path_join(path, group, "", "cgroup.kill") == 0 && text_write(path, "1") == 0)
            return there;
    }
    if (freezer && path_join(group, freezer->path, id, "") == 0)
        return freezer_kill(group) > 0;
    int there = 0;
    for (int round = 0; r->n && round < KILL_ROUNDS; round++) {
        if (path_join(path, r->v[0].path, id, "cgroup.procs") < 0 || procs_kill(path) == 0)
            break;
        there = 1;
        sleep_ms(1);
    }
    return there;
}

/* Groups that the task itself made are below its own. Returns 0 or the errno. */
static int group_remove(const char *group, int depth)
{
    if (rmdir(group) == 0 || errno == ENOENT)
        return 0;
    int failed = errno;
    DIR *dir = depth < CGROUP_NESTING_MAX ? opendir(group) : NULL;
    if (!dir)
        return failed;
    bool nested = false;
    for (struct dirent *e; (e = readdir(dir));) {
        char path[PATH_MAX];
        if (e->d_type == DT_DIR && e->d_name[0] != '.' && path_join(path, group, e->d_name, "") == 0)
            nested |= group_remove(path, depth + 1) == 0;
    }
    closedir(dir);
    return nested && rmdir(group) == 0 ? 0 : failed;
}

int cgroup_remove(const struct cgroup_root *r, const char *id, int64_t wait_ms, struct error *err)
{
    char group[PATH_MAX];
    for (unsigned i = 0; i < r->n; i++) {
        if (path_join(group, r->v[i].path, id, "") < 0)
            continue;
        int failed;
        for (int64_t pause = 1; (failed = group_remove(group, 0)) == EBUSY && wait_ms > 0; pause *= 2) {
            sleep_ms(pause < wait_ms ? pause : wait_ms);
            wait_ms -= pause;
        }
        if (failed)
            return error_set_errno(err, failed, "cannot remove the control group %s", group);
    }
    return 0;
}

/* --- usage: one row for each number and the file it stands in --- */

static const struct usage_row {
    unsigned controller;
    bool v2;
    const char *file, *key;          /* key: the line that starts with it; NULL: the file is the number */
    size_t offset;
} usage_rows[] = {
    {CGROUP_MEMORY, true, "memory.current", NULL, offsetof(struct cgroup_usage, memory_bytes)},
    {CGROUP_MEMORY, true, "memory.peak", NULL, offsetof(struct cgroup_usage, memory_peak_bytes)},
    {CGROUP_MEMORY, true, "memory.max", NULL, offsetof(struct cgroup_usage, memory_limit_bytes)},
    {CGROUP_MEMORY, true, "memory.events", "oom_kill ", offsetof(struct cgroup_usage, oom_kills)},
    {CGROUP_MEMORY, false, "memory.usage_in_bytes", NULL, offsetof(struct cgroup_usage, memory_bytes)},
    {CGROUP_MEMORY, false, "memory.max_usage_in_bytes", NULL, offsetof(struct cgroup_usage, memory_peak_bytes)},
    {CGROUP_MEMORY, false, "memory.limit_in_bytes", NULL, offsetof(struct cgroup_usage, memory_limit_bytes)},
    {CGROUP_MEMORY, false, "memory.oom_control", "oom_kill ", offsetof(struct cgroup_usage, oom_kills)},
    {CGROUP_PIDS, true, "pids.current", NULL, offsetof(struct cgroup_usage, pids)},
    {CGROUP_PIDS, false, "pids.current", NULL, offsetof(struct cgroup_usage, pids)},
};
static const struct cpu_row { unsigned controller; bool v2; const char *file, *key; double scale; } cpu_rows[] = {
    {CGROUP_CPU, true, "cpu.stat", "usage_usec ", 1e-6},
    {CGROUP_CPUACCT, false, "cpuacct.usage", NULL, 1e-9},
};

/* Returns -1 when the file, or the line, is not there or is not a number ("max"). */
static int64_t number_read(const char *group, const char *file, const char *key)
{
    char path[PATH_MAX], text[2048];
    if (path_join(path, group, "", file) < 0 || text_read(path, text, sizeof text) <= 0)
        return -1;
    const char *p = text;
    if (key) {
        while (p && strncmp(p, key, strlen(key)) != 0) {
            p = strchr(p, '\n');
            p = p ? p + 1 : NULL;
        }
        if (!p)
            return -1;
        p += strlen(key);
    }
    char *end;
    long long n = strtoll(p, &end, 10);
    return end == p ? -1 : n;
}

int cgroup_usage(const struct cgroup_root *r, const char *id, struct cgroup_usage *out, struct error *err)
{
    char group[PATH_MAX];
    *out = (struct cgroup_usage){0};
    if (!r->n)
        return error_set(err, ERROR_UNSUPPORTED, "this node has no control groups: %s", r->warning);
    for (unsigned i = 0; i < r->n; i++) {
        const struct cgroup_hierarchy *h = &r->v[i];
        if (path_join(group, h->path, id, "") < 0 || access(group, F_OK) < 0)
            return error_set(err, ERROR_NOT_FOUND, "the control group of %s is gone", id);
        for (size_t k = 0; k < ARRAY_LEN(usage_rows); k++) {
            const struct usage_row *row = &usage_rows[k];
            if (!(h->controllers & row->controller) || row->v2 != h->v2)
                continue;
            int64_t n = number_read(group, row->file, row->key);
            if (n > 0)
                *(int64_t *)(void *)((char *)out + row->offset) = n;
        }
        for (size_t k = 0; k < ARRAY_LEN(cpu_rows); k++) {
            int64_t n = h->controllers & cpu_rows[k].controller && cpu_rows[k].v2 == h->v2
                ? number_read(group, cpu_rows[k].file, cpu_rows[k].key) : -1;
            if (n > 0)
                out->cpu_seconds = (double)n * cpu_rows[k].scale;
        }
    }
    if (out->memory_limit_bytes >= INT64_MAX / 2)        /* version 1's way to say "none" */
        out->memory_limit_bytes = 0;
    return 0;
}
