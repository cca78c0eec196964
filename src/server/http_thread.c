/* The way of a request: on_request → route, identity, query, body, prepare → core thread → on_answer → respond.
 * A client that leaves while the core thread has its request sets `gone`; the answer then ends it. */
#include "server/http_thread.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "base/timefmt.h"
#include "net/http_guard.h"
#include "server/audit_request.h"
#include "server/forward.h"

#define SNAPSHOT_LIMIT ((size_t)1 << 30)

TAILQ_HEAD(active_list, request);

struct http_thread {
    const struct server_config *config;
    struct control *control;
    struct http_thread **all;
    size_t count;
    uv_loop_t loop;
    uv_thread_t thread;
    bool running;
    struct http_server *http;
    struct http_client *agents, *servers;
    struct tls_context *tls;
    struct access_table *access;
    struct audit *audit;
    struct rate_limits *rates;
    struct log_limit limits_told;
    uint64_t ids;                        /* of requests */
    struct http_guard guard;
    struct queue answers;
    struct queue_item stop_item;         /* sent to itself: stop */
    struct queue_item revoked_item;      /* from the core thread: a token was revoked */
    atomic_bool revoked_told;
    int64_t stop_grace_ms;
    void (*stopped)(void *ctx);
    void *stopped_ctx;
    bool stopping;
    unsigned open_clients;
    struct active_list active;
    struct splice_list splices;
    struct http_metrics metrics;
};

struct queue *http_thread_answers(struct http_thread *t)
{
    return &t->answers;
}

struct http_client *http_thread_agents(struct http_thread *t)
{
    return t->agents;
}

struct http_client *http_thread_servers(struct http_thread *t)
{
    return t->servers;
}

struct splice_list *http_thread_splices(struct http_thread *t)
{
    return &t->splices;
}

const struct server_config *http_thread_config(const struct http_thread *t)
{
    return t->config;
}

bool http_thread_has_tls(const struct http_thread *t)
{
    return t->tls != NULL;
}

int http_thread_port(const struct http_thread *t)
{
    return http_server_port(t->http);
}

/* --- ends of a request --- */

/* Once for each refusal, and counted. */
static void say_refused(struct http_thread *t, const struct http_request *http, const struct identity *who,
                        const struct error *err)
{
    CLEANUP_FREE char *path = mem_strndup(http->target, strcspn(http->target, "?"));    /* a query may hold a secret */
    atomic_fetch_add_explicit(&t->metrics.denied, 1, memory_order_relaxed);
    LOG_W("a request was refused", "peer", http->peer, "who", who->name, "method", http_method_name(http->method), "path",
          path, "reason", err->text);
}

static bool counts_latency(const struct request *r)
{
    return !r->streaming && !r->wait_ms && !r->target;
}

void request_answered(struct request *r, int status)
{
    struct http_thread *t = r->thread;
    size_t row = (size_t)(r->route - routes);
    size_t class = (size_t)status / 100 < METRICS_STATUS_CLASSES ? (size_t)status / 100 : METRICS_STATUS_CLASSES - 1;
    if (r->answered)
        return;
    r->answered = true;
    atomic_fetch_add_explicit(&t->metrics.requests[row * METRICS_STATUS_CLASSES + class], 1, memory_order_relaxed);
    if (counts_latency(r))
        histogram_add(r->route->method == HTTP_METHOD_GET ? &t->metrics.reads : &t->metrics.writes,
                      (int64_t)uv_hrtime() - r->started_ns);
    audit_request(t->audit, r, status);
}

void request_done(struct request *r)
{
    struct http_thread *t = r->thread;
    atomic_fetch_sub_explicit(&t->metrics.active, 1, memory_order_relaxed);
    TAILQ_REMOVE(&t->active, r, active_link);
    request_delete(r);
}

static int add_headers(const struct request *r, struct http_header *headers, char index[static 24],
                       char lag[static TIME_TEXT_SIZE])
{
    int n = 0;
    headers[n++] = (struct http_header){HEADER_REQUEST, r->id};
    if (r->answer.body.len)
        headers[n++] = (struct http_header){"Content-Type",
                                            r->answer.content_type ? r->answer.content_type : "application/json"};
    if (r->answer.index) {
        snprintf(index, 24, "%llu", (unsigned long long)r->answer.index);
        headers[n++] = (struct http_header){"X-Mentat-Index", index};
    }
    if (r->answer.lagging) {
        duration_format(lag, r->answer.lag_ms < 0 ? 0 : r->answer.lag_ms);
        headers[n++] = (struct http_header){"X-Mentat-Lag", r->answer.lag_ms < 0 ? "unknown" : lag};
    }
    return n;
}

void request_finish(struct request *r)
{
    struct answer *a = &r->answer;
    if (a->error.code == ERROR_DENIED || a->error.code == ERROR_UNAUTHENTICATED)
        say_refused(r->thread, r->http, &r->who, &a->error);
    if (atomic_load(&r->gone)) {
        request_answered(r, 499);
        http_request_drop(r->http);
        request_done(r);
        return;
    }
    if (a->error.code != ERROR_NONE && a->error.code != ERROR_UNKNOWN_OUTCOME &&
        request_left_open(r, a->status ? a->status : error_http_status(a->error.code))) {
        a->status = 0;
        a->error.code = ERROR_UNKNOWN_OUTCOME;
        error_context(&a->error, "a leader was lost while it had the request, which may or may not be done; now");
    }
    if (a->error.code != ERROR_NONE) {
        buf_clear(&a->body);
        answer_error_body(&a->error, &a->problems, &a->body);
        a->content_type = NULL;
        if (!a->status)
            a->status = error_http_status(a->error.code);
    }
    if (!a->status)
        a->status = a->body.len ? 200 : 204;
    struct http_header headers[4];
    char index[24], lag[TIME_TEXT_SIZE];
    int n = add_headers(r, headers, index, lag);
    int status = a->status;
    request_answered(r, status);
    http_respond(r->http, status, headers, (size_t)n, &a->body);
    request_done(r);
}

static void answered(struct request *r)
{
    if (r->forward)
        forward_start(r);
    else if (r->route->respond)
        r->route->respond(r);
    else
        request_finish(r);
}

void request_send(struct request *r)
{
    r->away = true;
    if (queue_push(&r->thread->control->inbox, &r->item))
        return;
    r->away = false;
    error_set(&r->answer.error, ERROR_TOO_MANY, "the server has more requests than it can take; nothing was done, try "
              "again soon");
    r->answer.status = 503;
    answered(r);
}

static void on_client_gone(struct http_request *http)
{
    struct request *r = http->data;
    atomic_store(&r->gone, true);
    if (!r->away && r->cut)
        r->cut(r);
}

/* --- arrival --- */

/* One that a server hands on keeps its id. */
static void give_id(struct http_thread *t, const struct http_request *http, char id[static REQUEST_ID_SIZE])
{
    char name[TLS_NAME_SIZE];
    const char *given = http_request_header(http, HEADER_REQUEST);
    bool keep = given && tls_peer_role(http->tls, "server", name) && strlen(given) == REQUEST_ID_SIZE - 1 &&
                !given[strspn(given, "0123456789abcdef")];
    if (keep)
        memcpy(id, given, REQUEST_ID_SIZE);
    else
        snprintf(id, REQUEST_ID_SIZE, "%016llx", (unsigned long long)hash_mix(t->ids++));
}

/* more: one further header, or NULL. */
static void respond_error(struct http_request *http, int status, const struct http_header *more, const struct error *err)
{
    struct buf body = {0};
    answer_error_body(err, NULL, &body);
    struct http_header headers[] = {{"Content-Type", "application/json"}, more ? *more : (struct http_header){0}};
    http_respond(http, status, headers, more ? 2 : 1, &body);
}

/* --- too often --- */

/* 0: it may go on. Else how long it has to wait for that. */
static int64_t take_allowance(struct http_thread *t, const struct http_request *http, const struct identity *who,
                              const struct error *refused)
{
    char address[ADDRESS_HOLDER_SIZE];
    if (who->kind == IDENTITY_TOKEN)
        return rate_take(t->rates, RATE_TOKEN, who->holder->id, time_monotonic_ms());
    if (who->kind != IDENTITY_NOBODY)
        return 0;
    address_holder(http->peer, address);
    return rate_take(t->rates, refused->code == ERROR_UNAUTHENTICATED ? RATE_FAILURE : RATE_ADDRESS, address, time_monotonic_ms());
}

/* Counted; told no more often than the log can bear. */
static void refuse_for_now(struct http_thread *t, struct http_request *http, const struct identity *who, int64_t wait_ms)
{
    char seconds[24];
    uint64_t unsaid;
    struct error err;
    atomic_fetch_add_explicit(&t->metrics.limited, 1, memory_order_relaxed);
    error_set(&err, ERROR_TOO_MANY, "%s asks too often; nothing was done, try again later", who->holder ? who->name : "this address");
    if (log_limit_allows(&t->limits_told, time_monotonic_ms(), &unsaid))
        LOG_W("requests come too often", "peer", http->peer, "who", who->name, "not_told", LOG_U64(unsaid));
    snprintf(seconds, sizeof seconds, "%lld", (long long)(wait_ms + 999) / 1000);
    respond_error(http, error_http_status(err.code), &(struct http_header){"Retry-After", seconds}, &err);
}

/* Parsed, and allowed as far as this server can tell. */
static bool admit(struct request *r)
{
    struct http_thread *t = r->thread;
    const struct route *route = r->route;
    struct error *err = &r->answer.error;
    if (r->stranger)
        return request_parse_way(r, err) == 0;
    bool audited = t->config->audit != AUDIT_REQUIRED || !audit_wants(route) || audit_admit(t->audit, err) == 0;
    return audited && request_parse(r, err) == 0 && (route->read || route->write || route->run || r->command.len);
}

enum admission { REFUSED, ADMITTED, LEADER_JUDGES };

/* Who asks, and whether it may. A token that is not known here may be one all the same: the leader knows. */
static enum admission identify(struct http_thread *t, const struct http_request *http, const struct route *route,
                               struct identity *who, struct error *err)
{
    if (tls_context_refuses(t->tls, http->tls)) {
        *who = (struct identity){0};
        error_set(err, ERROR_DENIED, "the certificate of this connection was revoked: its server or node was removed from the cluster");
        return REFUSED;
    }
    if (identity_of_request(t->access, http, route->right, who, err) == 0)
        return identity_check(who, route->right, err) ? REFUSED : ADMITTED;
    if (err->code != ERROR_NOT_FOUND)
        return REFUSED;
    enum access_knowledge knowledge = access_table_knowledge(t->access);
    if (knowledge != ACCESS_COMPLETE && route->place == PLACE_LEADER)
        return LEADER_JUDGES;
    if (knowledge == ACCESS_BEHIND)
        error_set(err, ERROR_UNAVAILABLE, "this server does not know the token, and cannot say yet that there is no such one; ask "
                  "another server, or try again");
    else
        err->code = ERROR_UNAUTHENTICATED;
    return REFUSED;
}

static void on_request(struct http_request *http, void *arg)
{
    struct http_thread *t = arg;
    struct error err = {0};
    const char *params[ROUTE_PARAM_MAX] = {NULL};
    CLEANUP_FREE char *allow = NULL;
    const struct route *route = route_find(http->method, http->segments, http->segment_count, params, &allow, &err);
    struct identity who;
    char id[REQUEST_ID_SIZE];
    give_id(t, http, id);
    enum admission admission = route ? identify(t, http, route, &who, &err) : REFUSED;
    int64_t wait_ms = route && t->rates ? take_allowance(t, http, &who, &err) : 0;
    if (wait_ms) {
        refuse_for_now(t, http, &who, wait_ms);
        identity_clear(&who);
        return;
    }
    if (route && admission == REFUSED) {
        say_refused(t, http, &who, &err);
        if (audit_wants(route))
            audit_refused(t->audit, http, &who, id, error_http_status(err.code), &err);
        identity_clear(&who);
        route = NULL;
    }
    if (!route) {
        atomic_fetch_add_explicit(&t->metrics.unrouted, 1, memory_order_relaxed);
        respond_error(http, allow ? 405 : error_http_status(err.code), allow ? &(struct http_header){"Allow", allow} : NULL, &err);
        return;
    }
    struct request *r = request_new(t, http, route);
    r->started_ns = (int64_t)uv_hrtime();
    r->who = who;
    r->stranger = admission == LEADER_JUDGES;
    memcpy(r->id, id, sizeof id);
    memcpy(r->params, params, sizeof params);
    http->data = r;
    http->on_close = on_client_gone;
    TAILQ_INSERT_TAIL(&t->active, r, active_link);
    atomic_fetch_add_explicit(&t->metrics.active, 1, memory_order_relaxed);
    if (admit(r))
        request_send(r);
    else
        request_finish(r);
}

static bool is_snapshot(const struct http_request *http)
{
    return http->method == HTTP_METHOD_PUT && http->segment_count == 2 && !strcmp(http->segments[1], "snapshot");
}

static int check_head(const struct http_request *http, void *arg, int *status, struct error *err)
{
    struct http_thread *t = arg;
    return http_guard_check(&t->guard, http, is_snapshot(http), status, err);
}

static size_t body_limit_of(const struct http_request *http, void *arg)
{
    struct http_thread *t = arg;
    return is_snapshot(http) ? SNAPSHOT_LIMIT : (size_t)t->config->body_limit_mb << 20;
}

/* --- stopping --- */

static void on_answers_closed(void *ctx)
{
    struct http_thread *t = ctx;
    if (t->stopped)
        t->stopped(t->stopped_ctx);
}

static void on_client_closed(void *arg)
{
    struct http_thread *t = arg;
    if (--t->open_clients == 0)
        queue_close(&t->answers, on_answers_closed);
}

/* The core thread answers everything, even what nobody reads any more: those requests end here. */
static void close_when_idle(struct http_thread *t)
{
    if (t->http || !TAILQ_EMPTY(&t->active) || !t->agents)
        return;
    t->open_clients = 2;
    http_client_close(steal(&t->agents), on_client_closed, t);
    http_client_close(steal(&t->servers), on_client_closed, t);
}

/* Cutting a request takes it off the list. */
static void cut_requests(struct http_thread *t, bool endless_only)
{
    for (struct request *r = TAILQ_FIRST(&t->active), *next; r; r = next) {
        next = TAILQ_NEXT(r, active_link);
        if (!r->away && r->cut && (r->endless || !endless_only))
            r->cut(r);
    }
}

/* Streams that began, or are about to begin, by a token that is not good any more; what the core thread has is asked again
 * there. */
static void cut_revoked(struct http_thread *t)
{
    for (struct request *r = TAILQ_FIRST(&t->active), *next; r; r = next) {
        next = TAILQ_NEXT(r, active_link);
        if (!r->away && r->cut && (r->streaming || r->endless) && access_holder_revoked(r->who.holder))
            r->cut(r);
    }
    splice_close_revoked(&t->splices);
}

/* Core thread. */
static void on_revoked(void *ctx)
{
    struct http_thread *t = ctx;
    if (!atomic_exchange(&t->revoked_told, true) && !queue_push_answer(&t->answers, &t->revoked_item))
        atomic_store(&t->revoked_told, false);
}

static void on_http_stopped(void *arg)
{
    struct http_thread *t = arg;
    t->http = NULL;
    cut_requests(t, false);
    close_when_idle(t);
}

static void stop(struct http_thread *t)
{
    t->stopping = true;
    http_server_stop(t->http, t->stop_grace_ms, on_http_stopped, t);
    splice_close_all(&t->splices);
    cut_requests(t, true);
}

static void on_answer(void *ctx, struct queue_item *item)
{
    struct http_thread *t = ctx;
    if (item == &t->stop_item) {
        stop(t);
        return;
    }
    if (item == &t->revoked_item) {
        atomic_store(&t->revoked_told, false);
        cut_revoked(t);
        return;
    }
    struct request *r = container_of(item, struct request, item);
    r->away = false;
    if ((atomic_load(&r->gone) || (t->stopping && r->endless && r->streaming)) && r->cut)
        r->cut(r);
    else
        answered(r);
    if (t->stopping)
        close_when_idle(t);
}

/* --- start --- */

static struct http_client *agents_client(struct http_thread *t)
{
    struct http_client_options options = {.tls = t->tls, .connect_timeout_ms = 3000};
    return http_client_new(&t->loop, &options);
}

static struct http_client *servers_client(struct http_thread *t)
{
    struct http_client_options options = {.tls = t->tls, .connect_timeout_ms = 1000, .keep_per_target = 256};
    return http_client_new(&t->loop, &options);
}

int http_thread_new(struct http_thread **out, const struct http_thread_options *o, struct error *err)
{
    struct http_thread *t = NEW(struct http_thread);
    t->config = o->config;
    t->control = o->control;
    t->all = o->all;
    t->count = o->count;
    t->tls = o->tls ? tls_context_hold(o->tls) : NULL;
    t->access = o->access;
    t->audit = o->audit;
    t->rates = o->rates;
    random_system(&t->ids, sizeof t->ids);
    if (t->access)
        access_table_watch(t->access, on_revoked, t);
    t->metrics.requests = mem_array(route_count * METRICS_STATUS_CLASSES, sizeof *t->metrics.requests);
    TAILQ_INIT(&t->active);
    http_guard_init(&t->guard, &o->address);
    http_guard_add(&t->guard, o->config->advertise);
    for (uint32_t i = 0; i < o->config->servers.n; i++)      /* as the others call it */
        http_guard_add(&t->guard, o->config->servers.v[i]);
    INVARIANT(uv_loop_init(&t->loop) == 0);
    queue_open(&t->answers, &t->loop, SIZE_MAX, on_answer, t);
    t->agents = agents_client(t);
    t->servers = servers_client(t);
    struct http_server_options options = {
        .on_request = on_request,
        .body_limit_of = body_limit_of,
        .check = check_head,
        .arg = t,
        .refused = &t->metrics.strangers,
        .max_connections = o->max_connections,
        .max_per_address = o->config->max_per_address ? (size_t)o->config->max_per_address : (o->max_connections + 1) / 2,
    };
    t->http = http_server_new(&t->loop, &options);
    struct http_listen_options listen = {.tls = t->tls, .reuse_port = true};
    *out = t;
    if (http_server_listen(t->http, &o->address, &listen, err) == 0)
        return 0;
    http_thread_stop(t, 0, NULL, NULL);
    http_thread_join(t);
    *out = NULL;
    return -1;
}

static void run(void *arg)
{
    struct http_thread *t = arg;
    uv_run(&t->loop, UV_RUN_DEFAULT);
}

void http_thread_run(struct http_thread *t)
{
    t->running = true;
    INVARIANT(uv_thread_create(&t->thread, run, t) == 0);
}

void http_thread_stop(struct http_thread *t, int64_t grace_ms, void (*stopped)(void *ctx), void *ctx)
{
    t->stop_grace_ms = grace_ms;
    t->stopped = stopped;
    t->stopped_ctx = ctx;
    queue_push_answer(&t->answers, &t->stop_item);
}

void http_thread_join(struct http_thread *t)
{
    if (t->running)
        uv_thread_join(&t->thread);
    else
        uv_run(&t->loop, UV_RUN_DEFAULT);
    INVARIANT(uv_loop_close(&t->loop) == 0);
    tls_context_free(t->tls);
    http_guard_clear(&t->guard);
    free(t->metrics.requests);
    free(t);
}

/* --- metrics --- */

static void add_requests(struct http_thread *t, struct buf *out)
{
    metric_help(out, "mentat_http_requests_total", "counter", "Answered requests by route and status class.");
    for (size_t row = 0; row < route_count; row++)
        for (size_t class = 1; class < METRICS_STATUS_CLASSES; class++) {
            uint64_t total = 0;
            for (size_t i = 0; i < t->count; i++)
                total += atomic_load_explicit(&t->all[i]->metrics.requests[row * METRICS_STATUS_CLASSES + class],
                                              memory_order_relaxed);
            if (!total)
                continue;
            CLEANUP_FREE char *labels = mem_printf("method=\"%s\",route=\"%s\",status=\"%zuxx\"",
                                                   http_method_name(routes[row].method), routes[row].path, class);
            metric_add(out, "mentat_http_requests_total", labels, (double)total);
        }
}

void http_thread_metrics(struct http_thread *t, struct buf *out)
{
    struct histogram reads = {0}, writes = {0};
    uint64_t unrouted = 0, denied = 0, limited = 0, strangers = 0, active = 0;
    for (size_t i = 0; i < t->count; i++) {
        struct http_metrics *m = &t->all[i]->metrics;
        histogram_sum(&reads, &m->reads);
        histogram_sum(&writes, &m->writes);
        unrouted += atomic_load_explicit(&m->unrouted, memory_order_relaxed);
        denied += atomic_load_explicit(&m->denied, memory_order_relaxed);
        limited += atomic_load_explicit(&m->limited, memory_order_relaxed);
        strangers += atomic_load_explicit(&m->strangers, memory_order_relaxed);
        active += atomic_load_explicit(&m->active, memory_order_relaxed);
    }
    add_requests(t, out);
    metric_help(out, "mentat_audit_sink_dropped_total", "counter", "Audit lines that audit_sink did not get: it cannot keep up.");
    metric_add(out, "mentat_audit_sink_dropped_total", NULL, (double)audit_dropped(t->audit));
    metric_help(out, "mentat_http_unrouted_total", "counter", "Requests for no known route, or without the right.");
    metric_add(out, "mentat_http_unrouted_total", NULL, (double)unrouted);
    metric_help(out, "mentat_http_denied_total", "counter", "Requests of nobody, or of somebody without the right.");
    metric_add(out, "mentat_http_denied_total", NULL, (double)denied);
    metric_help(out, "mentat_http_limited_total", "counter", "Requests that came too often: 429.");
    metric_add(out, "mentat_http_limited_total", NULL, (double)limited);
    metric_help(out, "mentat_http_refused_connections_total", "counter", "Connections without the right TLS or certificate.");
    metric_add(out, "mentat_http_refused_connections_total", NULL, (double)strangers);
    metric_help(out, "mentat_http_active_requests", "gauge", "Requests that are not answered yet, streams too.");
    metric_add(out, "mentat_http_active_requests", NULL, (double)active);
    metric_help(out, "mentat_http_request_seconds", "histogram", "Time of requests, without waits and streams.");
    metric_histogram(out, "mentat_http_request_seconds", "kind=\"read\"", &reads);
    metric_histogram(out, "mentat_http_request_seconds", "kind=\"write\"", &writes);
}
