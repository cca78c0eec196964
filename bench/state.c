/* A large state on three servers: what memory it takes, how long writes wait while snapshots of it are taken, and how long
 * a server needs that starts again: from its own disk, and from the leader's snapshot when the log that it lacks is gone. */
#include "bench.h"

#include <dirent.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cluster.h"
#include "figure.h"
#include "fill.h"
#include "proc.h"

#define SERVERS 3
#define ALLOCS_PER_NODE 100
#define SERVICES 100
#define WAIT_MS 120000
#define SNAPSHOTS 3              /* that are waited for while writing */
#define WRITES_MOST 1000000
#define LAG_SNAPSHOTS 2          /* after so many the log does not reach back to a server that was away */
/* A snapshot each megabyte of log. */
#define SERVER_CONFIG FILL_SERVER_CONFIG "snapshot_mb: 1\nsegment_mb: 8\n"

struct options {
    int64_t allocs;
    const char *dir;
};

struct state_bench {
    const struct options *options;
    struct cluster cluster;
    struct fill fill;
    size_t leader, follower;     /* servers */
    double *writes_ms;
    size_t write_count, written;
};

/* --- what servers say --- */

struct status { int64_t term, applied, snapshot; };

static int read_status(struct state_bench *b, size_t server, struct status *out, struct error *err)
{
    json_t *answer = NULL;
    if (cluster_call_to(&b->cluster, b->cluster.targets[server], HTTP_METHOD_GET, "/v1/cluster", NULL, &answer, err))
        return -1;
    *out = (struct status){.term = json_integer_value(json_object_get(answer, "term")),
                           .applied = json_integer_value(json_object_get(answer, "applied_index")),
                           .snapshot = json_integer_value(json_object_get(answer, "snapshot_index"))};
    json_decref(answer);
    return 0;
}

static bool has_applied(const json_t *answer, void *arg)
{
    return json_integer_value(json_object_get(answer, "applied_index")) >= *(int64_t *)arg;
}

/* Until the server has what the leader has now. */
static int wait_equal(struct state_bench *b, size_t server, struct error *err)
{
    struct status leader;
    if (read_status(b, b->leader, &leader, err))
        return -1;
    return cluster_wait_answer(&b->cluster, b->cluster.targets[server], HTTP_METHOD_GET, "/v1/cluster", NULL, has_applied,
                               &leader.applied, err);
}

static void print(const struct state_bench *b, const char *name, double value, const char *unit)
{
    figure_print(name, value, unit, "\"allocs\":%zu,\"servers\":%d,\"filesystem\":\"%s\"", b->fill.alloc_count, SERVERS,
                 b->cluster.filesystem);
}

/* --- writes while snapshots are taken --- */

static int write_one(struct state_bench *b, struct error *err)
{
    CLEANUP_FREE char *body = mem_printf(
        "{\"name\":\"w\",\"services\":[{\"name\":\"w\",\"driver\":\"exec\",\"count\":0,\"config\":{\"command\":"
        "[\"/usr/bin/program\"]},\"meta\":{\"build\":\"%zu\",\"notes\":\"%0900d\"}}]}", b->written, 0);
    uint64_t sent = uv_hrtime();
    if (cluster_write(&b->cluster, HTTP_METHOD_PUT, "/v1/jobs/w", body, err))
        return -1;
    b->written++;
    if (b->write_count < WRITES_MOST)
        b->writes_ms[b->write_count++] = (double)(uv_hrtime() - sent) / 1e6;
    return 0;
}

/* One write after the other, until a server has taken so many more snapshots. */
static int write_until(struct state_bench *b, size_t server, unsigned snapshots, struct error *err)
{
    struct status now;
    int64_t seen = -1;
    uint64_t until = uv_hrtime() + WAIT_MS * 1000000ULL;
    b->write_count = 0;
    for (;;) {
        if (read_status(b, server, &now, err))
            return -1;
        if (seen >= 0 && now.snapshot != seen && !snapshots--)
            return 0;
        seen = now.snapshot;
        for (int i = 0; i < 100; i++)
            if (write_one(b, err))
                return -1;
        if (uv_hrtime() > until)
            return error_set(err, ERROR_TIMEOUT, "no snapshots within %d s", WAIT_MS / 1000);
    }
}

/* The newest snapshot's file. */
static double snapshot_mb(const struct state_bench *b)
{
    CLEANUP_FREE char *path = mem_printf("%s/state-%zu", b->cluster.dir, b->leader);
    DIR *dir = opendir(path);
    double bytes = 0;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        CLEANUP_FREE char *file = mem_printf("%s/%s", path, e->d_name);
        struct stat st;
        if (!strncmp(e->d_name, "snapshot-", strlen("snapshot-")) && stat(file, &st) == 0 && (double)st.st_size > bytes)
            bytes = (double)st.st_size;
    }
    if (dir)
        closedir(dir);
    return bytes / (1 << 20);
}

static int measure_writes(struct state_bench *b, struct error *err)
{
    if (write_until(b, b->leader, SNAPSHOTS, err) || !b->write_count)
        return -1;
    double seconds, count;
    if (cluster_metric(&b->cluster, b->cluster.target, "mentat_snapshot_seconds_sum", &seconds, err) ||
        cluster_metric(&b->cluster, b->cluster.target, "mentat_snapshot_seconds_count", &count, err))
        return -1;
    print(b, "snapshot_mb", snapshot_mb(b), "MiB");
    print(b, "snapshot_ms", seconds / count * 1000, "ms");
    print(b, "write_while_snapshots_p50_ms", figure_percentile(b->writes_ms, b->write_count, 0.5), "ms");
    print(b, "write_while_snapshots_worst_ms", figure_percentile(b->writes_ms, b->write_count, 1), "ms");
    return 0;
}

static int measure_memory(struct state_bench *b, struct error *err)
{
    const struct { const char *name; size_t server; } rows[] = {
        {"leader_state_resident_mb", b->leader}, {"follower_state_resident_mb", b->follower}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        double resident, private;
        if (wait_equal(b, rows[i].server, err) ||
            proc_memory_mb(b->cluster.children[rows[i].server].pid, &resident, &private, err))
            return -1;
        print(b, rows[i].name, resident, "MiB");
    }
    return 0;
}

/* --- a server that comes back --- */

static int measure_return(struct state_bench *b, const char *name, bool lags, struct error *err)
{
    cluster_stop_server(&b->cluster, b->follower);
    if (lags && write_until(b, b->leader, LAG_SNAPSHOTS, err))
        return -1;
    uint64_t begin = uv_hrtime();
    if (cluster_start_server(&b->cluster, b->follower, err) || wait_equal(b, b->follower, err))
        return -1;
    print(b, name, (double)(uv_hrtime() - begin) / 1e6, "ms");
    return 0;
}

static int measure(struct state_bench *b, struct error *err)
{
    struct cluster_options o = {.parent = b->options->dir, .server_config = SERVER_CONFIG, .servers = SERVERS};
    struct status before, after;
    if (cluster_start(&b->cluster, &o, err))
        return -1;
    b->leader = cluster_leader(&b->cluster);
    b->follower = (b->leader + 1) % SERVERS;
    if (read_status(b, b->leader, &before, err) || fill_state(&b->cluster, &b->fill, err) || measure_memory(b, err) ||
        measure_writes(b, err) || measure_return(b, "restart_ms", false, err) ||
        measure_return(b, "restart_by_snapshot_ms", true, err) || read_status(b, b->leader, &after, err))
        return -1;
    print(b, "elections_meanwhile", (double)(after.term - before.term), "elections");
    return 0;
}

static int run(int argc, char **argv)
{
    static const struct option known[] = {
        {"allocs", required_argument, NULL, 'a'}, {"dir", required_argument, NULL, 'd'}, {0},
    };
    struct options o = {.allocs = 100000};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;)
        if (c == 'd')
            o.dir = optarg;
        else if (c != 'a' || bench_count(optarg, 1000000, &o.allocs))
            return 2;
    if (optind < argc)
        return 2;
    size_t nodes = ((size_t)o.allocs + ALLOCS_PER_NODE - 1) / ALLOCS_PER_NODE;
    struct state_bench b = {.options = &o, .fill = {.nodes = nodes, .services = SERVICES, .wanted = (size_t)o.allocs},
                            .writes_ms = mem_array(WRITES_MOST, sizeof(double))};
    struct error err = {0};
    int rc = measure(&b, &err);
    cluster_stop(&b.cluster);
    fill_clear(&b.fill);
    free(b.writes_ms);
    if (rc)
        fprintf(stderr, "mentat-bench state: %s\n", err.text);
    return rc ? 1 : 0;
}

const struct bench bench_state = {
    .name = "state",
    .usage = "[--allocs N] [--dir DIR]",
    .help = "three servers with N allocations in their state: memory, writes while snapshots are taken, and returns",
    .run = run,
};
