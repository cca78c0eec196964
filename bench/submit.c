/* Two measurements: of processes (submit), and of containers beside those that are made without Mentat (docker).
 *
 * Jobs of one task each, one after the other: each is submitted, and its `running` awaited in the event stream, before
 * the next. The clock of the fixed names starts when the answer says that the job was accepted, which is when it is on
 * disk; that of request_to_running when the request is sent. */
#include "bench.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cluster.h"
#include "figure.h"

#define RUNNING_MS 30000

#define DOCKER_TARGET "unix:/var/run/docker.sock"

struct options {
    int64_t count;
    const char *dir;
    const char *image;           /* docker; NULL: processes */
};

struct submit {
    struct cluster cluster;
    struct http_call *events;
    struct buf line;             /* of the event stream, not complete yet */
    const char *image;           /* NULL: a process */
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

static char *job_body(const struct submit *s)
{
    CLEANUP_FREE char *config = s->image
        ? mem_printf("\"docker\",\"config\":{\"image\":\"%s\",\"pull\":\"never\",\"user\":\"65534\",\"network\":\"none\",", s->image)
        : mem_strdup("\"exec\",\"config\":{");
    return mem_printf("{\"name\":\"%s\",\"services\":[{\"name\":\"%s\",\"driver\":%s\"command\":[\"/bin/sleep\"],\"args\":"
                      "[\"100000\"]},\"kill\":{\"timeout\":\"0s\"},\"resources\":{\"cpus\":0.001,\"memory_mb\":%d}}]}", s->service,
                      s->service, config, s->image ? 8 : 4);
}

static int submit_one(struct submit *s, int64_t number, double *accepted_ms, double *requested_ms, struct error *err)
{
    snprintf(s->service, sizeof s->service, "bench-%lld", (long long)number);
    s->running = false;
    CLEANUP_FREE char *body = job_body(s);
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

/* --- containers, with Mentat and without, in turn --- */

static int engine_call(struct cluster *c, enum http_method method, const char *path, const char *body, struct error *err)
{
    return cluster_call_to(c, DOCKER_TARGET, method, path, body, NULL, err);
}

/* What `docker run -d` does: the same container, as far as Docker is concerned. */
static int plain_one(struct submit *s, int64_t number, double *ms, struct error *err)
{
    CLEANUP_FREE char *create = mem_printf("/containers/create?name=mentat-bench-%lld", (long long)number);
    CLEANUP_FREE char *start = mem_printf("/containers/mentat-bench-%lld/start", (long long)number);
    CLEANUP_FREE char *body = mem_printf("{\"Image\":\"%s\",\"Cmd\":[\"/bin/sleep\",\"100000\"],\"User\":\"65534\",\"HostConfig\":{"
                                         "\"NetworkMode\":\"none\",\"Memory\":%d}}", s->image, 8 << 20);
    uint64_t sent = uv_hrtime();
    if (engine_call(&s->cluster, HTTP_METHOD_POST, create, body, err) ||
        engine_call(&s->cluster, HTTP_METHOD_POST, start, NULL, err))
        return error_context(err, "plain Docker");
    *ms = (double)(uv_hrtime() - sent) / 1e6;
    return 0;
}

static void plain_remove(struct submit *s, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        CLEANUP_FREE char *path = mem_printf("/containers/mentat-bench-%lld?force=1", (long long)i);
        engine_call(&s->cluster, HTTP_METHOD_DELETE, path, NULL, NULL);
    }
}

/* The agent has to hear from the engine before containers are placed on its node. */
static int wait_for_docker(struct submit *s, struct error *err)
{
    for (int tries = 0; tries < 200; tries++) {
        json_t *nodes = NULL, *d;
        size_t i;
        bool healthy = false;
        if (cluster_call(&s->cluster, HTTP_METHOD_GET, "/v1/nodes", NULL, &nodes, err))
            return -1;
        json_array_foreach(json_object_get(json_array_get(json_object_get(nodes, "items"), 0), "drivers"), i, d)
            healthy |= !strcmp(json_string_value(json_object_get(d, "name")), "docker") && json_is_true(json_object_get(d, "healthy"));
        json_decref(nodes);
        if (healthy)
            return 0;
        if (cluster_sleep(&s->cluster, 50, err))
            return -1;
    }
    return error_set(err, ERROR_UNAVAILABLE, "no Docker engine answers at " DOCKER_TARGET);
}

static int measure_docker(const struct options *o, struct submit *s, struct error *err)
{
    CLEANUP_FREE double *accepted = mem_array((size_t)o->count, sizeof *accepted);
    CLEANUP_FREE double *requested = mem_array((size_t)o->count, sizeof *requested);
    CLEANUP_FREE double *plain = mem_array((size_t)o->count, sizeof *plain);
    CLEANUP_FREE double *over = mem_array((size_t)o->count, sizeof *over);
    if (cluster_start(&s->cluster, &(struct cluster_options){.parent = o->dir, .agent = true}, err) ||
        wait_for_docker(s, err) || start_events(s, err))
        return -1;
    int rc = 0;
    int64_t done = 0;
    for (; done < o->count && !rc; done++) {
        rc = plain_one(s, done, &plain[done], err) || submit_one(s, done, &accepted[done], &requested[done], err);
        over[done] = requested[done] - plain[done];
    }
    plain_remove(s, done);
    if (rc)
        return -1;
    print("docker_submit_to_running", accepted, o, &s->cluster);
    print("docker_request_to_running", requested, o, &s->cluster);
    print("docker_plain", plain, o, &s->cluster);
    print("docker_over_plain", over, o, &s->cluster);
    return 0;
}

static int run_docker(int argc, char **argv)
{
    static const struct option known[] = {
        {"count", required_argument, NULL, 'c'}, {"dir", required_argument, NULL, 'd'},
        {"image", required_argument, NULL, 'i'}, {0},
    };
    struct options o = {.count = 100};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;)
        if (c == 'd')
            o.dir = optarg;
        else if (c == 'i')
            o.image = optarg;
        else if (c != 'c' || bench_count(optarg, 10000, &o.count))
            return 2;
    if (optind < argc || !o.image)
        return 2;
    struct submit s = {.image = o.image};
    struct error err = {0};
    int rc = measure_docker(&o, &s, &err);
    cluster_stop(&s.cluster);
    buf_free(&s.line);
    if (rc)
        fprintf(stderr, "mentat-bench docker: %s\n", err.text);
    return rc ? 1 : 0;
}

const struct bench bench_docker = {
    .name = "docker",
    .usage = "--image IMAGE [--count N] [--dir DIR]",
    .help = "the same container by Mentat and by Docker alone, in turn, N times; IMAGE is in the engine at its default "
            "socket and has /bin/sleep",
    .run = run_docker,
};

const struct bench bench_submit = {
    .name = "submit",
    .usage = "[--count N] [--dir DIR]",
    .help = "from a job's acceptance to its task's `running` in the event stream, N times, with state on disk in DIR",
    .run = run,
};
