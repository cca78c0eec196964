/* Reads of a server that has many allocations in its state: some connections ask, each the next question as soon as it has
 * its answer. */
#include "bench.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "cluster.h"
#include "figure.h"
#include "fill.h"

#define NODES 100
#define SERVICES 100
#define PAGE 100                 /* allocations in a page */
#define WARM_MS 500

struct options {
    int64_t allocs, connections, seconds;
    bool tls;
    const char *dir;
};

struct api_bench {
    const struct options *options;
    struct cluster cluster;
    struct fill fill;
    struct random random;
    bool tls;                    /* with tokens, in this cluster */
    bool fresh;                  /* each question on a connection of its own */
    const struct read *read;
    bool ending;
    size_t open;                 /* questions without an answer yet */
    uint64_t measured_from_ns;   /* 0: not yet */
    double rate;                 /* requests per second, as last measured */
    double *latencies_ms;
    size_t count, capacity;
    struct error error;
};

struct asker {
    struct api_bench *bench;
    struct http_client *client;  /* fresh: of this question */
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
    return b->fill.allocs[random_below(&b->random, b->fill.alloc_count)];
}

static char *path_alloc(struct api_bench *b)
{
    return mem_printf("/v1/allocs/%s", any_alloc(b));
}

static char *path_page(struct api_bench *b)
{
    return mem_printf("/v1/allocs?limit=%d&cursor=%s", PAGE, any_alloc(b));
}

static char *path_health(struct api_bench *b)
{
    return mem_strdup("/v1/healthz");
}

static char *path_any(struct api_bench *b);

static const struct read { const char *name; char *(*path)(struct api_bench *b); } reads[] = {
    {"alloc", path_alloc}, {"service", path_service}, {"page of 100 allocs", path_page}, {"services", path_services},
    {"all in turn", path_any},
};
static const struct read health = {"health", path_health};

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
    if (a->client)
        http_client_close(steal(&a->client), NULL, NULL);
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
    struct http_header token = {"Authorization", b->cluster.authorization};
    struct http_call_options o = {.method = HTTP_METHOD_GET, .target = b->cluster.target, .path = path, .headers = &token,
                                  .header_count = b->tls, .response_timeout_ms = 30000, .on_done = on_answer, .arg = a};
    b->open++;
    a->sent_ns = uv_hrtime();
    if (b->fresh)
        a->client = http_client_new(&b->cluster.loop, &(struct http_client_options){.tls = b->cluster.context});
    http_call_start(a->client ? a->client : b->cluster.client, &o);
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
    b->rate = (double)b->count / seconds;
    const struct { const char *name; double value; const char *unit; } figures[] = {
        {b->fresh ? "api_connections_per_second" : "api_requests_per_second", b->rate, "1/s"},
        {"api_p50_ms", figure_percentile(b->latencies_ms, b->count, 0.5), "ms"},
        {"api_p99_ms", figure_percentile(b->latencies_ms, b->count, 0.99), "ms"},
    };
    for (size_t i = 0; i < ARRAY_LEN(figures); i++)
        figure_print(figures[i].name, figures[i].value, figures[i].unit,
                     "\"read\":\"%s\",\"allocs\":%zu,\"services\":%d,\"nodes\":%d,\"connections\":%lld,\"seconds\":%lld,"
                     "\"tls\":%s", read->name, b->fill.alloc_count, SERVICES, NODES, (long long)o->connections,
                     (long long)o->seconds, b->tls ? "true" : "false");
    return 0;
}

static struct fill fill_of(const struct options *o)
{
    return (struct fill){.nodes = NODES, .services = SERVICES, .wanted = (size_t)o->allocs};
}

/* All kinds of reads of one cluster; with --tls only the last, of all kinds in turn. */
static int measure_cluster(struct api_bench *b, bool tls, struct error *err)
{
    struct cluster_options o = {.parent = b->options->dir, .server_config = FILL_SERVER_CONFIG, .tls = tls,
                                .connections = (size_t)b->options->connections};
    b->tls = tls;
    if (cluster_start(&b->cluster, &o, err) || fill_state(&b->cluster, &b->fill, err))
        return -1;
    for (size_t i = b->options->tls ? ARRAY_LEN(reads) - 1 : 0; i < ARRAY_LEN(reads); i++)
        if (measure_read(b, &reads[i], err))
            return error_context(err, "reading %s", reads[i].name);
    return 0;
}

static int measure(struct api_bench *b, struct error *err)
{
    if (!b->options->tls)
        return measure_cluster(b, false, err);
    if (measure_cluster(b, false, err))
        return -1;
    double plain = b->rate;
    cluster_stop(&b->cluster);
    fill_clear(&b->fill);
    b->fill = fill_of(b->options);
    if (measure_cluster(b, true, err))
        return -1;
    figure_print("api_tls_ratio", b->rate / plain, "ratio", "\"connections\":%lld", (long long)b->options->connections);
    b->fresh = true;
    return measure_read(b, &health, err);
}

static int run(int argc, char **argv)
{
    static const struct option known[] = {
        {"allocs", required_argument, NULL, 'a'}, {"connections", required_argument, NULL, 'c'},
        {"seconds", required_argument, NULL, 's'}, {"dir", required_argument, NULL, 'd'}, {"tls", no_argument, NULL, 't'}, {0},
    };
    struct options o = {.allocs = 10000, .connections = 16, .seconds = 5};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;)
        if (c == 'd')
            o.dir = optarg;
        else if (c == 't')
            o.tls = true;
        else if (c == '?' || bench_count(optarg, c == 'a' ? 100000 : c == 'c' ? 1000 : 3600,
                                         c == 'a' ? &o.allocs : c == 'c' ? &o.connections : &o.seconds))
            return 2;
    if (optind < argc)
        return 2;
    struct api_bench b = {.options = &o, .random = {1}, .fill = fill_of(&o)};
    struct error err = {0};
    int rc = measure(&b, &err);
    b.ending = true;
    cluster_stop(&b.cluster);
    fill_clear(&b.fill);
    free(b.latencies_ms);
    if (rc)
        fprintf(stderr, "mentat-bench api: %s\n", err.text);
    return rc ? 1 : 0;
}

const struct bench bench_api = {
    .name = "api",
    .usage = "[--allocs N] [--connections N] [--seconds N] [--tls] [--dir DIR]",
    .help = "reads per second, and how long they take, with N allocations in the server's state; --tls: plain, "
            "then with TLS and a token, and new connections",
    .run = run,
};
