#include "agent/api.h"

#include <string.h>

#include "agent/api_streams.h"
#include "agent/ingress/ingress.h"
#include "base/file.h"
#include "base/log.h"
#include "net/http_guard.h"

#define STOP_GRACE_MS 1000

struct agent_api {
    uv_loop_t *loop;
    struct http_server *server;
    struct http_guard guard;
    struct runner *runner;
    const struct store *store;
    struct ingress_node *const *ingress;
    struct drivers *drivers;
    int (*admits)(void *ctx, const struct service *s, struct error *err);
    const char *volume_root;
    void (*volumes_changed)(void *ctx);
    void *ctx;
    struct api_stream_list streams;
    uint64_t denied;                             /* requests */
    atomic_uint_fast64_t strangers;              /* connections */
    struct tls_context *tls;         /* NULL: plain; borrowed */
};

/* --- routes; view is there when the path names an allocation --- */

static void get_logs(struct agent_api *api, struct http_request *req, const struct runner_view *view)
{
    CLEANUP_FREE char *dir = runner_alloc_dir(api->runner, view->record->alloc.id);
    api_logs(api->loop, &api->streams, req, view, dir, view->record->report.state >= ALLOC_COMPLETE);
}

static void get_exec(struct agent_api *api, struct http_request *req, const struct runner_view *view)
{
    api_exec(&api->streams, req, view);
}

struct signal_request { char *signal; };
static const struct field signal_request_fields[] = {
    {.name = "signal", .tag = 1, .kind = FIELD_STRING, .offset = offsetof(struct signal_request, signal),
     .flags = FIELD_REQUIRED},
    {0},
};
static const struct type signal_request_type = {
    .name = "signal_request", .size = sizeof(struct signal_request), .fields = signal_request_fields,
};

static int send_signal(struct http_request *req, const struct runner_view *view, struct error *err)
{
    struct problem_list problems = {0};
    struct signal_request body;
    if (type_from_json(&signal_request_type, req->body.data ? req->body.data : "", req->body.len, false, &body,
                       &problems) < 0) {
        error_set(err, ERROR_INVALID, "%s", problems.n ? problems.v[0].message : "the body is not understood");
        problem_list_clear(&problems);
        return -1;
    }
    int number = signal_number(body.signal);
    int rc;
    if (number <= 0)
        rc = error_set(err, ERROR_INVALID, "signal: there is no signal \"%.40s\"", body.signal);
    else if (!view->task)
        rc = error_set(err, ERROR_CONFLICT, "allocation %s does not run (%s)", view->record->alloc.id,
                       alloc_state_names[view->record->report.state]);
    else
        rc = task_signal(view->task, number, err);
    type_clear(&signal_request_type, &body);
    return rc;
}

static void post_signal(struct agent_api *api, struct http_request *req, const struct runner_view *view)
{
    struct error err;
    if (send_signal(req, view, &err) < 0)
        http_respond_error(req, &err);
    else
        http_respond_text(req, 204, NULL, NULL);
}

static void get_container(struct agent_api *api, struct http_request *req, const struct runner_view *view)
{
    api_container(api->drivers, api->admits, api->ctx, req);
}

static void change_volume(struct agent_api *api, struct http_request *req, const struct runner_view *view)
{
    api_volume(&(struct api_volume_options){.loop = api->loop, .runner = api->runner, .root = api->volume_root,
                                            .changed = api->volumes_changed, .ctx = api->ctx}, req);
}

static void get_healthz(struct agent_api *api, struct http_request *req, const struct runner_view *view)
{
    http_respond_text(req, 200, "application/json", "{\"status\":\"ok\"}");
}

static void respond(struct http_request *req, const char *content_type, struct buf *body)
{
    struct http_header type = {"Content-Type", content_type};
    http_respond(req, 200, &type, 1, body);
}

static void add_alloc(void *ctx, const struct runner_view *v)
{
    struct buf *b = ctx;
    const struct alloc_report *r = &v->record->report;
    buf_printf(b, "%s{\"id\":", b->len > 1 ? "," : "");
    json_add_string(b, v->record->alloc.id);
    buf_add_string(b, ",\"service\":");
    json_add_string(b, v->record->alloc.service);      /* qualified: this API is for servers and operators of the node */
    buf_printf(b, ",\"replica\":%lld,\"state\":\"%s\",\"phase\":\"%s\",\"pid\":%d,\"restarts\":%lld,\"handle\":",
               (long long)v->record->alloc.replica, alloc_state_names[r->state], v->phase, v->pid,
               (long long)r->restarts);
    json_add_string(b, v->record->handle);
    buf_add_string(b, ",\"reason\":");
    json_add_string(b, r->reason);
    buf_add_string(b, ",\"health\":");
    json_add_string(b, v->health);
    struct task_stats stats;
    if (v->task && task_stats(v->task, &stats, NULL) == 0)
        buf_printf(b, ",\"stats\":{\"cpu_seconds\":%.6f,\"memory_bytes\":%lld,\"memory_peak_bytes\":%lld,"
                   "\"memory_limit_bytes\":%lld,\"pids\":%lld}", stats.cpu_seconds, (long long)stats.memory_bytes,
                   (long long)stats.memory_peak_bytes, (long long)stats.memory_limit_bytes, (long long)stats.pids);
    buf_add_char(b, '}');
}

static void get_allocs(struct agent_api *api, struct http_request *req, const struct runner_view *view)
{
    struct buf body = {0};
    buf_add_char(&body, '[');
    runner_each(api->runner, add_alloc, &body);
    buf_add_char(&body, ']');
    respond(req, "application/json", &body);
}

static void count_state(void *ctx, const struct runner_view *v)
{
    ((uint64_t *)ctx)[v->record->report.state]++;
}

static long long resident_bytes(void)
{
    size_t bytes = 0;
    return uv_resident_set_memory(&bytes) ? 0 : (long long)bytes;
}

static void get_metrics(struct agent_api *api, struct http_request *req, const struct runner_view *view)
{
    uint64_t states[ALLOC_LOST + 1] = {0};
    runner_each(api->runner, count_state, states);
    struct buf b = {0};
    buf_add_string(&b, "# HELP mentat_agent_allocs Allocations on this node by state.\n# TYPE mentat_agent_allocs gauge\n");
    for (int i = 0; i <= ALLOC_LOST; i++)
        buf_printf(&b, "mentat_agent_allocs{state=\"%s\"} %llu\n", alloc_state_names[i], (unsigned long long)states[i]);
    const struct runner_counters *c = runner_counters(api->runner);
    const struct { const char *name, *kind, *help; long long value; } rows[] = {
        {"starts_total", "counter", "Starts of tasks.", (long long)c->starts},
        {"start_failures_total", "counter", "Starts of tasks that failed.", (long long)c->start_failures},
        {"exits_total", "counter", "Ends of tasks.", (long long)c->exits},
        {"restarts_total", "counter", "Restarts by the restart policy.", (long long)c->restarts},
        {"removed_total", "counter", "Dead allocations whose files were deleted.", (long long)c->removed},
        {"denied_total", "counter", "Requests of who is no server.", (long long)api->denied},
        {"refused_connections_total", "counter", "Connections without the right TLS or certificate.", (long long)api->strangers},
        {"store_failing", "gauge", "1 while the agent's state cannot be written.", store_failing(api->store) != NULL},
        {"resident_memory_bytes", "gauge", "Resident memory of the agent.", resident_bytes()},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        buf_printf(&b, "# HELP mentat_agent_%s %s\n# TYPE mentat_agent_%s %s\nmentat_agent_%s %lld\n", rows[i].name,
                   rows[i].help, rows[i].name, rows[i].kind, rows[i].name, rows[i].value);
    api_task_metrics(api->runner, &b);
    if (*api->ingress)
        ingress_metrics(*api->ingress, &b);
    respond(req, "text/plain; version=0.0.4", &b);
}

/* "*" stands for an allocation's id or a unique beginning of it, "?" for another name. */
static const struct agent_route {
    enum http_method method;
    const char *path[4];
    void (*handle)(struct agent_api *api, struct http_request *req, const struct runner_view *view);
} routes[] = {
    {HTTP_METHOD_GET, {"v1", "allocs"}, get_allocs},
    {HTTP_METHOD_GET, {"v1", "allocs", "*", "logs"}, get_logs},
    {HTTP_METHOD_GET, {"v1", "allocs", "*", "exec"}, get_exec},
    {HTTP_METHOD_POST, {"v1", "allocs", "*", "signal"}, post_signal},
    {HTTP_METHOD_GET, {"v1", "containers", "?"}, get_container},
    {HTTP_METHOD_DELETE, {"v1", "volumes", "?"}, change_volume},
    {HTTP_METHOD_PUT, {"v1", "volumes", "?"}, change_volume},
    {HTTP_METHOD_GET, {"v1", "healthz"}, get_healthz},
    {HTTP_METHOD_GET, {"v1", "metrics"}, get_metrics},
};

static bool matches(const struct agent_route *route, const struct http_request *req, const char **id)
{
    size_t i = 0;
    for (; i < ARRAY_LEN(route->path) && route->path[i]; i++) {
        if (i >= req->segment_count)
            return false;
        if (!strcmp(route->path[i], "*"))
            *id = req->segments[i];
        else if (strcmp(route->path[i], "?") && strcmp(route->path[i], req->segments[i]))
            return false;
    }
    return i == req->segment_count;
}

static void on_request(struct http_request *req, void *arg)
{
    struct agent_api *api = arg;
    struct error err;
    error_set(&err, ERROR_NOT_FOUND, "there is no such path in the agent API");
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        const char *id = NULL;
        if (!matches(&routes[i], req, &id))
            continue;
        if (routes[i].method != req->method) {
            error_set(&err, ERROR_INVALID, "this path is for %s", http_method_name(routes[i].method));
            continue;
        }
        struct runner_view view;
        if (id && runner_find(api->runner, id, &view, &err) < 0)
            break;
        routes[i].handle(api, req, id ? &view : NULL);
        return;
    }
    http_respond_error(req, &err);
}

static int check_head(const struct http_request *req, void *arg, int *status, struct error *err)
{
    struct agent_api *api = arg;
    char name[TLS_NAME_SIZE];
    CLEANUP_FREE char *path = mem_strndup(req->target, strcspn(req->target, "?"));     /* a query may hold a secret */
    /* Who may ask here has root's power over tasks: with TLS, servers alone. */
    if (api->tls && !tls_peer_role(req->tls, "server", name)) {
        *status = 403;
        api->denied++;
        LOG_W("a request was refused", "peer", req->peer, "path", path, "reason", "its certificate is not a server's");
        return error_set(err, ERROR_DENIED, "this is for servers: your certificate carries no name ID.server.mentat");
    }
    if (tls_context_refuses(api->tls, req->tls)) {
        *status = 403;
        api->denied++;
        LOG_W("a request was refused", "peer", req->peer, "path", path, "reason", "its certificate was revoked");
        return error_set(err, ERROR_DENIED, "your certificate was revoked: the server was removed from the cluster");
    }
    return http_guard_check(&api->guard, req, false, status, err);
}

/* --- life --- */

int agent_api_open(uv_loop_t *loop, const struct agent_api_options *o, struct agent_api **out, struct error *err)
{
    struct agent_api *api = NEW(struct agent_api);
    api->loop = loop;
    api->runner = o->runner;
    api->store = o->store;
    api->ingress = o->ingress;
    api->tls = o->tls;
    api->drivers = o->drivers;
    api->admits = o->admits;
    api->volume_root = o->volume_root;
    api->volumes_changed = o->volumes_changed;
    api->ctx = o->ctx;
    LIST_INIT(&api->streams);
    http_guard_init(&api->guard, &o->address);
    http_guard_add(&api->guard, o->advertise);
    api->server = http_server_new(loop, &(struct http_server_options){.on_request = on_request, .check = check_head,
                                                                      .arg = api, .refused = &api->strangers, .max_connections = 1000,
                                                                      .body_limit = 65536});
    *out = api;
    return http_server_listen(api->server, &o->address, &(struct http_listen_options){.tls = o->tls}, err);
}

int agent_api_port(const struct agent_api *api)
{
    return http_server_port(api->server);
}

void agent_api_ended(struct agent_api *api, const char *alloc_id)
{
    struct api_stream *s, *next;
    for (s = LIST_FIRST(&api->streams); s; s = next) {
        next = LIST_NEXT(s, link);
        if (s->ended && !strcmp(s->alloc_id, alloc_id))
            s->ended(s);
    }
}

static void on_stopped(void *arg)
{
    http_guard_clear(&((struct agent_api *)arg)->guard);
    free(arg);
}

void agent_api_close(struct agent_api *api)
{
    struct api_stream *s, *next;
    for (s = LIST_FIRST(&api->streams); s; s = next) {
        next = LIST_NEXT(s, link);
        s->close(s);
    }
    http_server_stop(api->server, STOP_GRACE_MS, on_stopped, api);
}
