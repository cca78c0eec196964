/* Jobs of one task each, one after the other: each is submitted, and its `running` awaited in the event stream, before
 * the next. The clock of the fixed names starts when the answer says that the job was accepted, which is when it is on
 * disk; that of request_to_running when the request is sent. */
#include "bench.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cluster.h"
#include "figure.h"

#define RUNNING_MS 30000

struct options {
    int64_t count;
    const char *dir;
};

struct submit {
    struct cluster cluster;
    struct http_call *events;
    struct buf line;             /* of the event stream, not complete yet */
    char service[32];            /* whose `running` is awaited */
    bool streaming, running;
    struct error failure;        /* why the stream ended */
    uint64_t running_ns;         /* when it was seen */
};

/* --- the event stream --- */

static void take_line(struct submit *s, const char *line, size_t len)
{
    static const char prefix[] = "data: ";
    size_t skip = sizeof prefix - 1;
    if (len < skip || memcmp(line, prefix, skip))
        return;
    json_t *e = json_loadb(line + skip, len - skip, 0, NULL);
    const char *kind = json_string_value(json_object_get(e, "kind")), *to = json_string_value(json_object_get(e, "to"));
    const char *service = json_string_value(json_object_get(e, "service"));
    if (kind && service && to && !strcmp(kind, "alloc") && !strcmp(service, s->service) && !strcmp(to, "running")) {
        s->running = true;
        s->running_ns = uv_hrtime();
    }
    json_decref(e);
}

static void on_events_head(struct http_call *call, const struct http_response *res, void *arg)
{
    ((struct submit *)arg)->streaming = res->status == 200;
}

static void on_events_data(struct http_call *call, const char *data, size_t len, void *arg)
{
    struct submit *s = arg;
    buf_add(&s->line, data, len);
    for (char *end; s->line.len && (end = memchr(s->line.data, '\n', s->line.len));) {
        take_line(s, s->line.data, (size_t)(end - s->line.data));
        buf_consume(&s->line, (size_t)(end - s->line.data) + 1);
    }
}

static void on_events_done(struct http_call *call, struct http_response *res, const struct error *err, void *arg)
{
    struct submit *s = arg;
    s->events = NULL;
    error_set(&s->failure, ERROR_UNAVAILABLE, "the event stream ended: %s", err ? err->text : "by the server");
}

static bool is_streaming(void *arg)
{
    const struct submit *s = arg;
    return s->streaming || !s->events;
}

static bool is_running(void *arg)
{
    const struct submit *s = arg;
    return s->running || !s->events;
}

static int start_events(struct submit *s, struct error *err)
{
    struct http_call_options o = {
        .method = HTTP_METHOD_GET, .target = s->cluster.target, .path = "/v1/events", .on_head = on_events_head,
        .on_data = on_events_data, .on_done = on_events_done, .arg = s,
    };
    s->events = http_call_start(s->cluster.client, &o);
    return cluster_wait(&s->cluster, is_streaming, s, RUNNING_MS, err);
}

/* --- one job --- */

static int submit_one(struct submit *s, int64_t number, double *accepted_ms, double *requested_ms, struct error *err)
{
    snprintf(s->service, sizeof s->service, "bench-%lld", (long long)number);
    s->running = false;
    CLEANUP_FREE char *body = mem_printf(
        "{\"name\":\"%s\",\"services\":[{\"name\":\"%s\",\"driver\":\"exec\",\"config\":{\"command\":[\"/bin/sleep\"],"
        "\"args\":[\"100000\"]},\"resources\":{\"cpus\":0.001,\"memory_mb\":4}}]}", s->service, s->service);
    uint64_t sent = uv_hrtime();
    if (cluster_call(&s->cluster, HTTP_METHOD_POST, "/v1/jobs", body, NULL, err))
        return -1;
    uint64_t accepted = uv_hrtime();
    if (cluster_wait(&s->cluster, is_running, s, RUNNING_MS, err))
        return error_context(err, "%s is not seen running", s->service);
    if (!s->running) {
        *err = s->failure;
        return -1;
    }
    /* Both ways lead through this one thread: the event may have been read before the answer was. */
    *accepted_ms = s->running_ns > accepted ? (double)(s->running_ns - accepted) / 1e6 : 0;
    *requested_ms = (double)(s->running_ns - sent) / 1e6;
    return 0;
}

static void print(const char *what, double *values, const struct options *o, const struct cluster *c)
{
    static const struct { const char *name; double share; } shares[] = {{"p50", 0.5}, {"p99", 0.99}};
    for (size_t i = 0; i < ARRAY_LEN(shares); i++) {
        CLEANUP_FREE char *name = mem_printf("%s_%s_ms", what, shares[i].name);
        figure_print(name, figure_percentile(values, (size_t)o->count, shares[i].share), "ms",
                     "\"count\":%lld,\"filesystem\":\"%s\"", (long long)o->count, c->filesystem);
    }
}

static int measure(const struct options *o, struct submit *s, struct error *err)
{
    CLEANUP_FREE double *accepted = mem_array((size_t)o->count, sizeof *accepted);
    CLEANUP_FREE double *requested = mem_array((size_t)o->count, sizeof *requested);
    if (cluster_start(&s->cluster, &(struct cluster_options){.parent = o->dir, .agent = true}, err) ||
        start_events(s, err))
        return -1;
    for (int64_t i = 0; i < o->count; i++)
        if (submit_one(s, i, &accepted[i], &requested[i], err))
            return -1;
    print("submit_to_running", accepted, o, &s->cluster);
    print("request_to_running", requested, o, &s->cluster);
    return 0;
}

static int run(int argc, char **argv)
{
    static const struct option known[] = {
        {"count", required_argument, NULL, 'c'}, {"dir", required_argument, NULL, 'd'}, {0},
    };
    struct options o = {.count = 100};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;)
        if (c == 'd')
            o.dir = optarg;
        else if (c != 'c' || bench_count(optarg, 10000, &o.count))
            return 2;
    if (optind < argc)
        return 2;
    struct submit s = {0};
    struct error err = {0};
    int rc = measure(&o, &s, &err);
    cluster_stop(&s.cluster);
    buf_free(&s.line);
    if (rc)
        fprintf(stderr, "mentat-bench submit: %s\n", err.text);
    return rc ? 1 : 0;
}

const struct bench bench_submit = {
    .name = "submit",
    .usage = "[--count N] [--dir DIR]",
    .help = "from a job's acceptance to its task's `running` in the event stream, N times, with state on disk in DIR",
    .run = run,
};
