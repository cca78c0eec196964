/* What a server and an agent cost that have nothing to do: memory, and how often they wake up. */
#include "bench.h"

#include <dirent.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cluster.h"
#include "figure.h"
#include "proc.h"

#define SETTLE_MS 5000           /* until what begins with the start is over */

struct options {
    int64_t seconds;
    const char *dir;
};

/* Voluntary switches of all threads: each is one that had gone to sleep. */
static int read_wakeups(pid_t pid, double *sum, struct error *err)
{
    static const char *const keys[] = {"voluntary_ctxt_switches:", NULL};
    CLEANUP_FREE char *tasks = mem_printf("/proc/%d/task", (int)pid);
    DIR *dir = opendir(tasks);
    int rc = dir ? 0 : error_set(err, ERROR_SYSTEM, "%s cannot be read", tasks);
    *sum = 0;
    for (struct dirent *e; !rc && (e = readdir(dir));) {
        CLEANUP_FREE char *path = mem_printf("%s/%s/status", tasks, e->d_name);
        if (e->d_name[0] != '.')
            rc = proc_sum(path, keys, sum, err);
    }
    if (dir)
        closedir(dir);
    return rc;
}

static int measure(const struct options *o, struct cluster *c, struct error *err)
{
    if (cluster_start(c, &(struct cluster_options){.parent = o->dir, .agent = true}, err) ||
        cluster_sleep(c, SETTLE_MS, err))
        return -1;
    const struct { const char *name; pid_t pid; } programs[] = {{"server", c->children[0].pid}, {"agent", c->agent_child->pid}};
    double before[2], after[2], resident[2], private[2];
    for (size_t i = 0; i < ARRAY_LEN(programs); i++)
        if (read_wakeups(programs[i].pid, &before[i], err))
            return -1;
    if (cluster_sleep(c, o->seconds * 1000, err))
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(programs); i++)
        if (read_wakeups(programs[i].pid, &after[i], err) ||
            proc_memory_mb(programs[i].pid, &resident[i], &private[i], err))
            return -1;
    for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
        const struct { const char *what; double value; const char *unit; } figures[] = {
            {"resident_mb", resident[i], "MiB"},
            {"private_mb", private[i], "MiB"},
            {"wakeups_per_second", (after[i] - before[i]) / (double)o->seconds, "1/s"},
        };
        for (size_t k = 0; k < ARRAY_LEN(figures); k++) {
            CLEANUP_FREE char *name = mem_printf("%s_idle_%s", programs[i].name, figures[k].what);
            figure_print(name, figures[k].value, figures[k].unit, "\"seconds\":%lld", (long long)o->seconds);
        }
    }
    return 0;
}

static int run(int argc, char **argv)
{
    static const struct option known[] = {
        {"seconds", required_argument, NULL, 's'}, {"dir", required_argument, NULL, 'd'}, {0},
    };
    struct options o = {.seconds = 30};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;)
        if (c == 'd')
            o.dir = optarg;
        else if (c != 's' || bench_count(optarg, 3600, &o.seconds))
            return 2;
    if (optind < argc)
        return 2;
    struct cluster c;
    struct error err = {0};
    int rc = measure(&o, &c, &err);
    cluster_stop(&c);
    if (rc)
        fprintf(stderr, "mentat-bench idle: %s\n", err.text);
    return rc ? 1 : 0;
}

const struct bench bench_idle = {
    .name = "idle",
    .usage = "[--seconds N] [--dir DIR]",
    .help = "memory and wakeups of a server and an agent that have nothing to do, over N seconds",
    .run = run,
};
