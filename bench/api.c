/* Reads of a server that has many allocations in its state. They are put there through its API, by nodes that exist only
 * in their registrations and reports. Then some connections ask, each the next question as soon as it has its answer. */
#include "bench.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "cluster.h"
#include "figure.h"

#define NODES 100
#define SERVICES 100
#define PAGE 100                 /* allocations in a page */
#define WARM_MS 500
#define PLACE_MS 120000
/* Nobody beats for these nodes. */
#define SERVER_CONFIG "heartbeat: 1h\nnode_grace: 24h\nlog_level: warn\n"

struct options {
    int64_t allocs, connections, seconds;
    const char *dir;
};

struct api_bench {
    const struct options *options;
    struct cluster cluster;
    char **allocs;               /* ids */
    size_t alloc_count;
    struct random random;
    const struct read *read;
    bool ending;
    size_t open;                 /* questions without an answer yet */
    uint64_t measured_from_ns;   /* 0: not yet */
    double *latencies_ms;
    size_t count, capacity;
    struct error error;
};

struct asker {
    struct api_bench *bench;
    uint64_t sent_ns;
};

/* --- what is asked --- */

static char *path_services(struct api_bench *b)
{
    return mem_strdup("/v1/services");
}

static char *path_service(struct api_bench *b)
{
    return mem_printf("/v1/services/s%d", (int)random_below(&b->random, SERVICES));
}

static const char *any_alloc(struct api_bench *b)
{
    return b->allocs[random_below(&b->random, b->alloc_count)];
}

static char *path_alloc(struct api_bench *b)
{
    return mem_printf("/v1/allocs/%s", any_alloc(b));
}

static char *path_page(struct api_bench *b)
{
    return mem_printf("/v1/allocs?limit=%d&cursor=%s", PAGE, any_alloc(b));
}

static char *path_any(struct api_bench *b);

static const struct read { const char *name; char *(*path)(struct api_bench *b); } reads[] = {
    {"alloc", path_alloc}, {"service", path_service}, {"page of 100 allocs", path_page}, {"services", path_services},
    {"all in turn", path_any},
};

static char *path_any(struct api_bench *b)
{
    return reads[random_below(&b->random, ARRAY_LEN(reads) - 1)].path(b);
}

/* --- asking --- */

static void ask(struct asker *a);

static void on_answer(struct http_call *call, struct http_response *res, const struct error *err, void *arg)
{
    struct asker *a = arg;
    struct api_bench *b = a->bench;
    b->open--;
    if (err && !b->error.code)
        b->error = *err;
    else if (!err && res->status != 200 && !b->error.code)
        error_set(&b->error, ERROR_INTERNAL, "a read was answered with %d %.200s", res->status,
                  res->body.data ? res->body.data : "");
    if (b->measured_from_ns && a->sent_ns >= b->measured_from_ns && !b->ending) {
        if (b->count == b->capacity)
            b->latencies_ms = mem_realloc_array(b->latencies_ms, b->capacity = b->capacity * 2 + 1024, sizeof(double));
        b->latencies_ms[b->count++] = (double)(uv_hrtime() - a->sent_ns) / 1e6;
    }
    if (!b->ending && !b->error.code)
        ask(a);
}

static void ask(struct asker *a)
{
    struct api_bench *b = a->bench;
    CLEANUP_FREE char *path = b->read->path(b);
    struct http_call_options o = {.method = HTTP_METHOD_GET, .target = b->cluster.target, .path = path,
                                  .response_timeout_ms = 30000, .on_done = on_answer, .arg = a};
    b->open++;
    a->sent_ns = uv_hrtime();
    http_call_start(b->cluster.client, &o);
}

static bool all_answered(void *arg)
{
    return !((struct api_bench *)arg)->open;
}

static int measure_read(struct api_bench *b, const struct read *read, struct error *err)
{
    const struct options *o = b->options;
    CLEANUP_FREE struct asker *askers = mem_array((size_t)o->connections, sizeof *askers);
    b->read = read;
    b->ending = false;
    b->count = 0;
    b->measured_from_ns = 0;
    for (int64_t i = 0; i < o->connections; i++) {
        askers[i].bench = b;
        ask(&askers[i]);
    }
    int rc = cluster_sleep(&b->cluster, WARM_MS, err);
    b->measured_from_ns = uv_hrtime();
    if (!rc)
        rc = cluster_sleep(&b->cluster, o->seconds * 1000, err);
    double seconds = (double)(uv_hrtime() - b->measured_from_ns) / 1e9;
    b->ending = true;
    struct error late = {0};
    if (cluster_wait(&b->cluster, all_answered, b, 60000, &late) && !rc) {
        *err = late;
        rc = -1;
    }
    if (rc)
        return -1;
    if (b->error.code || !b->count) {
        *err = b->error;
        return b->count ? -1 : error_set(err, ERROR_TIMEOUT, "no read was answered within %lld s", (long long)o->seconds);
    }
    const struct { const char *name; double value; const char *unit; } figures[] = {
        {"api_requests_per_second", (double)b->count / seconds, "1/s"},
        {"api_p50_ms", figure_percentile(b->latencies_ms, b->count, 0.5), "ms"},
        {"api_p99_ms", figure_percentile(b->latencies_ms, b->count, 0.99), "ms"},
    };
    for (size_t i = 0; i < ARRAY_LEN(figures); i++)
        figure_print(figures[i].name, figures[i].value, figures[i].unit,
                     "\"read\":\"%s\",\"allocs\":%zu,\"services\":%d,\"nodes\":%d,\"connections\":%lld,\"seconds\":%lld",
                     read->name, b->alloc_count, SERVICES, NODES, (long long)o->connections, (long long)o->seconds);
    return 0;
}

/* --- the state --- */

static int register_nodes(struct api_bench *b, struct error *err)
{
    for (int i = 0; i < NODES; i++) {
        CLEANUP_FREE char *body = mem_printf(
            "{\"node\":{\"id\":\"%012x\",\"name\":\"n%d\",\"address\":\"127.0.0.1:1\",\"ip\":\"127.0.0.1\","
            "\"version\":\"%s\",\"arch\":\"x86_64\",\"kernel\":\"6.1.0\",\"cpus\":64,\"memory_mb\":262144,"
            "\"disk_mb\":1000000,\"drivers\":[{\"name\":\"exec\",\"healthy\":true}]}}", i, i, MENTAT_VERSION);
        if (cluster_call(&b->cluster, HTTP_METHOD_POST, "/v1/agent/register", body, NULL, err))
            return -1;
    }
    return 0;
}

static int submit_services(struct api_bench *b, struct error *err)
{
    for (int i = 0; i < SERVICES; i++) {
        CLEANUP_FREE char *body = mem_printf(
            "{\"name\":\"s%d\",\"services\":[{\"name\":\"s%d\",\"driver\":\"exec\",\"count\":%lld,"
            "\"config\":{\"command\":[\"/usr/bin/program\"],\"args\":[\"--port\",\"${port.http}\"]},"
            "\"ports\":[{\"name\":\"http\",\"port\":8080}],\"resources\":{\"cpus\":0.1,\"memory_mb\":16}}]}", i, i,
            (long long)((b->options->allocs + SERVICES - 1 - i) / SERVICES));
        if (cluster_call(&b->cluster, HTTP_METHOD_POST, "/v1/jobs", body, NULL, err))
            return -1;
    }
    return 0;
}

/* Says that all which the node was given and was not reported yet runs. */
static int report_node(struct api_bench *b, int node, json_t *seen, struct error *err)
{
    CLEANUP_FREE char *path = mem_printf("/v1/agent/allocs?node=%012x", node);
    json_t *work = NULL, *alloc;
    CLEANUP_BUF struct buf report = {0};
    size_t i, before = b->alloc_count;
    if (cluster_call(&b->cluster, HTTP_METHOD_GET, path, NULL, &work, err))
        return -1;
    buf_printf(&report, "{\"node_id\":\"%012x\",\"allocs\":[", node);
    json_array_foreach(json_object_get(work, "allocs"), i, alloc) {
        const char *id = json_string_value(json_object_get(alloc, "id"));
        if (!id || json_object_get(seen, id))
            continue;
        buf_printf(&report, "%s{\"id\":\"%s\",\"seq\":1,\"state\":\"running\",\"reason\":\"started\","
                   "\"time\":\"2026-01-01T00:00:00Z\",\"started_at\":\"2026-01-01T00:00:00Z\",\"ip\":\"127.0.0.1\"}",
                   b->alloc_count > before ? "," : "", id);
        json_object_set_new(seen, id, json_true());
        b->allocs = mem_realloc_array(b->allocs, b->alloc_count + 1, sizeof *b->allocs);
        b->allocs[b->alloc_count++] = mem_strdup(id);
    }
    json_decref(work);
    buf_add_string(&report, "]}");
    return b->alloc_count == before ? 0
                                    : cluster_call(&b->cluster, HTTP_METHOD_POST, "/v1/agent/report", report.data, NULL, err);
}

static int fill_state(struct api_bench *b, struct error *err)
{
    json_t *seen = json_object();
    int rc = register_nodes(b, err) || submit_services(b, err) ? -1 : 0;
    uint64_t until = uv_hrtime() + PLACE_MS * 1000000ULL;
    while (!rc && b->alloc_count < (size_t)b->options->allocs) {
        for (int i = 0; i < NODES && !rc; i++)
            rc = report_node(b, i, seen, err);
        if (!rc && uv_hrtime() > until)
            rc = error_set(err, ERROR_TIMEOUT, "only %zu of %lld allocations were placed within %d s", b->alloc_count,
                           (long long)b->options->allocs, PLACE_MS / 1000);
    }
    json_decref(seen);
    return rc;
}

static int measure(struct api_bench *b, struct error *err)
{
    struct cluster_options o = {.parent = b->options->dir, .server_config = SERVER_CONFIG,
                                .connections = (size_t)b->options->connections};
    if (cluster_start(&b->cluster, &o, err) || fill_state(b, err))
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(reads); i++)
        if (measure_read(b, &reads[i], err))
            return error_context(err, "reading %s", reads[i].name);
    return 0;
}

static int run(int argc, char **argv)
{
    static const struct option known[] = {
        {"allocs", required_argument, NULL, 'a'}, {"connections", required_argument, NULL, 'c'},
        {"seconds", required_argument, NULL, 's'}, {"dir", required_argument, NULL, 'd'}, {0},
    };
    struct options o = {.allocs = 10000, .connections = 16, .seconds = 5};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;)
        if (c == 'd')
            o.dir = optarg;
        else if (c == '?' || bench_count(optarg, c == 'a' ? 100000 : c == 'c' ? 1000 : 3600,
                                         c == 'a' ? &o.allocs : c == 'c' ? &o.connections : &o.seconds))
            return 2;
    if (optind < argc)
        return 2;
    struct api_bench b = {.options = &o, .random = {1}};
    struct error err = {0};
    int rc = measure(&b, &err);
    b.ending = true;
    cluster_stop(&b.cluster);
    for (size_t i = 0; i < b.alloc_count; i++)
        free(b.allocs[i]);
    free(b.allocs);
    free(b.latencies_ms);
    if (rc)
        fprintf(stderr, "mentat-bench api: %s\n", err.text);
    return rc ? 1 : 0;
}

const struct bench bench_api = {
    .name = "api",
    .usage = "[--allocs N] [--connections N] [--seconds N] [--dir DIR]",
    .help = "reads per second, and how long they take, with N allocations in the server's state",
    .run = run,
};
