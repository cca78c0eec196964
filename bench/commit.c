/* Durable writes through the HTTP API, beside etcd where the machine has it: as many servers of each on loopback, in the same
 * directory, in turn within one run, driven by the same client, which holds N writes in flight, each on a connection of its
 * own to the leader. Both answer a write when a majority of the servers has synced it to disk, which is what both do by
 * themselves.
 *
 * A write of ours is `PUT /v1/jobs/JOB` with another `meta` than before: a new version of a service, which runs nothing since
 * its count is 0. One of etcd's is a put of the same text, as its JSON gateway takes it. Each writer has a job, or key, of its
 * own. */
#include "bench.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "cluster.h"
#include "etcd.h"
#include "figure.h"

#define INFLIGHT_MOST 1000
#define ROUNDS 3                 /* of each system in turn */
#define WARM_MS 300
#define DRAIN_MS 60000
#define WRITE_MS 30000

struct options {
    int64_t servers, inflight;   /* inflight 0: each of the usual ones */
    int64_t milliseconds;        /* of a round */
    const char *dir;
};

/* Who is written to. */
struct system {
    const char *name;
    char *target;                /* NULL: not there */
    enum http_method method;
    /* Of the writer's number and its count of writes; the caller's. */
    char *(*path)(size_t writer);
    char *(*body)(size_t writer, uint64_t n);
    const char *proof;           /* what the answer to a write that changed something says */
    double *latencies_ms;
    size_t count, capacity;
    double seconds;
};

struct writer {
    struct commit_bench *bench;
    size_t number;
    uint64_t n, sent_ns;
};

struct commit_bench {
    const struct options *options;
    struct cluster cluster;
    struct writer writers[INFLIGHT_MOST];
    struct system *system;       /* that is measured */
    uint64_t measured_from_ns;   /* 0: not yet */
    bool ending;
    size_t open;                 /* writes without an answer yet */
    struct error error;
};

/* --- what is written --- */

static char *document(size_t writer, uint64_t n)
{
    return mem_printf("{\"name\":\"c%zu\",\"services\":[{\"name\":\"c%zu\",\"driver\":\"exec\",\"count\":0,\"config\":"
                      "{\"command\":[\"/usr/bin/program\"]},\"meta\":{\"build\":\"%010llu\"}}]}", writer, writer,
                      (unsigned long long)n);
}

static char *mentat_path(size_t writer)
{
    return mem_printf("/v1/jobs/c%zu", writer);
}

static char *etcd_path(size_t writer)
{
    return mem_strdup("/v3/kv/put");
}

static char *etcd_body(size_t writer, uint64_t n)
{
    CLEANUP_FREE char *key = mentat_path(writer), *value = document(writer, n);
    CLEANUP_BUF struct buf key64 = {0}, value64 = {0};
    base64_add(&key64, key, strlen(key));
    base64_add(&value64, value, strlen(value));
    return mem_printf("{\"key\":\"%s\",\"value\":\"%s\"}", key64.data, value64.data);
}

/* --- writing --- */

static void write_on(struct writer *w);

static void note(struct system *s, double ms)
{
    if (s->count == s->capacity)
        s->latencies_ms = mem_realloc_array(s->latencies_ms, s->capacity = s->capacity * 2 + 4096, sizeof(double));
    s->latencies_ms[s->count++] = ms;
}

static void check_answer(struct commit_bench *b, const struct http_response *res, const struct error *err)
{
    if (b->error.code)
        return;
    if (err)
        b->error = *err;
    else if (res->status != 200 || !res->body.data || !strstr(res->body.data, b->system->proof))
        error_set(&b->error, ERROR_INTERNAL, "a write was answered with %d %.200s", res->status,
                  res->body.data ? res->body.data : "");
}

static void on_answer(struct http_call *call, struct http_response *res, const struct error *err, void *arg)
{
    struct writer *w = arg;
    struct commit_bench *b = w->bench;
    b->open--;
    check_answer(b, res, err);
    if (b->measured_from_ns && w->sent_ns >= b->measured_from_ns && !b->ending)
        note(b->system, (double)(uv_hrtime() - w->sent_ns) / 1e6);
    if (!b->ending && !b->error.code)
        write_on(w);
}

static void write_on(struct writer *w)
{
    struct commit_bench *b = w->bench;
    static const struct http_header type = {"Content-Type", "application/json"};
    CLEANUP_FREE char *path = b->system->path(w->number), *body = b->system->body(w->number, w->n++);
    struct http_call_options o = {
        .method = b->system->method, .target = b->system->target, .path = path, .headers = &type, .header_count = 1,
        .body = body, .body_len = strlen(body), .response_timeout_ms = WRITE_MS, .on_done = on_answer, .arg = w,
    };
    b->open++;
    w->sent_ns = uv_hrtime();
    http_call_start(b->cluster.client, &o);
}

static bool all_answered(void *arg)
{
    return !((struct commit_bench *)arg)->open;
}

static int measure_round(struct commit_bench *b, struct system *s, int64_t inflight, struct error *err)
{
    b->system = s;
    b->ending = false;
    b->measured_from_ns = 0;
    for (int64_t i = 0; i < inflight; i++)
        write_on(&b->writers[i]);
    int rc = cluster_sleep(&b->cluster, WARM_MS, err);
    b->measured_from_ns = uv_hrtime();
    if (!rc)
        rc = cluster_sleep(&b->cluster, b->options->milliseconds, err);
    s->seconds += (double)(uv_hrtime() - b->measured_from_ns) / 1e9;
    b->ending = true;
    struct error late = {0};
    if (cluster_wait(&b->cluster, all_answered, b, DRAIN_MS, &late) && !rc) {
        *err = late;
        rc = -1;
    }
    if (!rc && b->error.code) {
        *err = b->error;
        rc = -1;
    }
    return rc ? error_context(err, "writing to %s", s->name) : 0;
}

static int print(const struct commit_bench *b, struct system *s, int64_t inflight, struct error *err)
{
    const struct options *o = b->options;
    if (!s->count)
        return error_set(err, ERROR_TIMEOUT, "no write was answered by %s in time", s->name);
    const struct { const char *name; double value; const char *unit; } figures[] = {
        {"commits_per_second", (double)s->count / s->seconds, "1/s"},
        {"commit_p50_ms", figure_percentile(s->latencies_ms, s->count, 0.5), "ms"},
        {"commit_p99_ms", figure_percentile(s->latencies_ms, s->count, 0.99), "ms"},
    };
    for (size_t i = 0; i < ARRAY_LEN(figures); i++)
        figure_print(figures[i].name, figures[i].value, figures[i].unit,
                     "\"by\":\"%s\",\"servers\":%lld,\"inflight\":%lld,\"seconds\":%.3g,\"filesystem\":\"%s\"", s->name,
                     (long long)o->servers, (long long)inflight, (double)(ROUNDS * o->milliseconds) / 1000,
                     b->cluster.filesystem);
    return 0;
}

static int measure_inflight(struct commit_bench *b, struct system *systems, size_t n, int64_t inflight, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        systems[i].count = 0;
        systems[i].seconds = 0;
    }
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < n; i++)
            if (systems[i].target && measure_round(b, &systems[i], inflight, err))
                return -1;
    for (size_t i = 0; i < n; i++)
        if (systems[i].target && print(b, &systems[i], inflight, err))
            return -1;
    return 0;
}

static int measure(struct commit_bench *b, struct system *systems, size_t n, struct error *err)
{
    static const int64_t usual[] = {1, 16, 256};
    const struct options *o = b->options;
    struct cluster_options cluster = {.parent = o->dir, .server_config = "log_level: warn\n", .servers = (size_t)o->servers,
                                      .connections = INFLIGHT_MOST};
    if (cluster_start(&b->cluster, &cluster, err))
        return -1;
    systems[0].target = mem_strdup(b->cluster.target);
    if (!etcd_is_there())
        fprintf(stderr, "mentat-bench commit: etcd not found, peer skipped (Debian's package is etcd-server)\n");
    else if (!(systems[1].target = etcd_start(&b->cluster, (size_t)o->servers, err)))
        return -1;
    for (size_t i = 0; i < (o->inflight ? 1 : ARRAY_LEN(usual)); i++)
        if (measure_inflight(b, systems, n, o->inflight ? o->inflight : usual[i], err))
            return -1;
    return 0;
}

static int run(int argc, char **argv)
{
    static const struct option known[] = {
        {"servers", required_argument, NULL, 's'}, {"inflight", required_argument, NULL, 'i'},
        {"milliseconds", required_argument, NULL, 'm'}, {"dir", required_argument, NULL, 'd'}, {0},
    };
    struct options o = {.servers = 1, .milliseconds = 1000};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;)
        if (c == 'd')
            o.dir = optarg;
        else if (c == '?' || bench_count(optarg, c == 's' ? CLUSTER_SERVERS : c == 'i' ? INFLIGHT_MOST : 3600000,
                                         c == 's' ? &o.servers : c == 'i' ? &o.inflight : &o.milliseconds))
            return 2;
    if (optind < argc || o.servers == 2)
        return 2;
    struct commit_bench *b = NEW(struct commit_bench);
    b->options = &o;
    for (size_t i = 0; i < INFLIGHT_MOST; i++)
        b->writers[i] = (struct writer){.bench = b, .number = i};
    struct system systems[] = {
        {.name = "mentat", .method = HTTP_METHOD_PUT, .path = mentat_path, .body = document,
         .proof = "\"changed\":true"},
        {.name = "etcd", .method = HTTP_METHOD_POST, .path = etcd_path, .body = etcd_body,
         .proof = "\"revision\""},
    };
    struct error err = {0};
    int rc = measure(b, systems, ARRAY_LEN(systems), &err);
    b->ending = true;
    cluster_stop(&b->cluster);
    for (size_t i = 0; i < ARRAY_LEN(systems); i++) {
        free(systems[i].target);
        free(systems[i].latencies_ms);
    }
    free(b);
    if (rc)
        fprintf(stderr, "mentat-bench commit: %s\n", err.text);
    return rc ? 1 : 0;
}

const struct bench bench_commit = {
    .name = "commit",
    .usage = "[--servers 1|3] [--inflight N] [--milliseconds N] [--dir DIR]",
    .help = "durable writes per second through the API with N in flight (default: 1, 16 and 256), beside etcd where it is there",
    .run = run,
};
