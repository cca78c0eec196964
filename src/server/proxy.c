#include "server/proxy.h"

#include <string.h>

#include "base/text.h"
#include "base/timefmt.h"
#include "net/exec_frames.h"
#include "server/http_thread.h"
#include "server/splice.h"

#define PENDING_LIMIT (256 * 1024)
#define ANSWER_MS 10000

int proxy_logs_prepare(struct request *r, struct error *err)
{
    const char *stream = request_query(r, "stream"), *since = request_query(r, "since");
    uint64_t tail;
    int64_t time;
    if (stream && strcmp(stream, "stdout") && strcmp(stream, "stderr"))
        return error_set(err, ERROR_INVALID, "stream: stdout or stderr, not \"%.64s\"", stream);
    if (since && time_parse(since, &time))
        return error_set(err, ERROR_INVALID, "since: \"%.64s\" is not a time such as 2026-01-31T12:00:00Z", since);
    return request_query_number(r, "tail", 0, INT64_MAX, &tail, err) ||
           request_query_bool(r, "follow", &r->endless, err) ? -1 : 0;
}

int proxy_exec_prepare(struct request *r, struct error *err)
{
    if (!r->http->wants_upgrade || !http_headers_has_token(&r->http->headers, "Upgrade", EXEC_PROTOCOL))
        return error_set(err, ERROR_INVALID, "exec is a stream in both directions: ask with Connection: Upgrade and "
                         "Upgrade: " EXEC_PROTOCOL);
    r->endless = true;
    return 0;
}

int proxy_aim(struct request *r, const struct node *n, struct error *err)
{
    if (n->state == NODE_DOWN)
        return error_set(err, ERROR_UNAVAILABLE, "node %s is down (%s); its agent cannot be reached", n->name,
                         n->state_reason ? n->state_reason : "no reason known");
    if (!n->address || !*n->address)
        return error_set(err, ERROR_UNAVAILABLE, "node %s gave no address of its agent", n->name);
    r->target = mem_printf("%s://%s", http_thread_has_tls(r->thread) ? "https" : "http", n->address);
    r->node_name = mem_strdup(n->name);
    return 0;
}

int proxy_container_read(struct control *c, struct request *r, struct error *err)
{
    const struct node *n = control_find_node(c, r->params[0], err);
    return n ? proxy_aim(r, n, err) : -1;
}

int proxy_read(struct control *c, struct request *r, struct error *err)
{
    const struct alloc *a = control_find_alloc(c, r, err);
    if (!a)
        return -1;
    const struct node *n = a->node_id ? core_node(c->core, a->node_id) : NULL;
    if (!n)
        return error_set(err, ERROR_NOT_FOUND, "allocation %s was on node %s, which is gone", a->id,
                         a->node_name ? a->node_name : "-");
    if (proxy_aim(r, n, err) < 0)
        return error_context(err, "allocation %s", a->id);
    r->alloc_id = mem_strdup(a->id);
    return 0;
}

static void unreachable(struct request *r, const struct error *cause)
{
    error_set(&r->answer.error, cause->code == ERROR_NOT_FOUND ? ERROR_UNAVAILABLE : cause->code,
              "the agent of node %s (%s) cannot be asked: %s", r->node_name, r->target, cause->text);
}

static void cut(struct request *r)
{
    if (r->call)
        http_call_cancel(steal(&r->call));
    if (atomic_load(&r->gone)) {
        request_answered(r, 499);
        http_request_drop(r->http);
    } else if (r->streaming)
        http_stream_abort(r->http);
    else {
        if (access_holder_revoked(r->who.holder))
            access_holder_check(r->who.holder, time_now_ms(), &r->answer.error);
        else
            error_set(&r->answer.error, ERROR_UNAVAILABLE, "this server is stopping");
        request_finish(r);
        return;
    }
    request_done(r);
}

static void on_drain(struct http_request *http)
{
    struct request *r = http->data;
    if (r->call)
        http_call_resume(r->call);
}

static void on_head(struct http_call *call, const struct http_response *res, void *arg)
{
    struct request *r = arg;
    r->streaming = true;
    r->answer.status = res->status;
    request_answered(r, res->status);
    const char *type = http_headers_get(&res->headers, "Content-Type");
    const char *position = http_headers_get(&res->headers, LOG_POSITION_HEADER);
    struct http_header headers[] = {{"Content-Type", type ? type : "application/octet-stream"},
                                    {LOG_POSITION_HEADER, position}};
    http_stream_begin(r->http, res->status, headers, position ? 2 : 1, r->endless ? HTTP_STREAM_ENDLESS : HTTP_STREAM_FINITE);
}

static void on_data(struct http_call *call, const char *data, size_t len, void *arg)
{
    struct request *r = arg;
    if (http_stream_write(r->http, data, len) > PENDING_LIMIT)
        http_call_pause(call);
}

static void on_stream_done(struct http_call *call, struct http_response *res, const struct error *err, void *arg)
{
    struct request *r = arg;
    r->call = NULL;
    if (r->streaming) {
        if (err)
            http_stream_abort(r->http);
        else
            http_stream_end(r->http);
        request_done(r);
        return;
    }
    if (err)
        unreachable(r, err);
    request_finish(r);
}

/* A whole answer of the agent's: handed on as it is. */
static void on_whole_done(struct http_call *call, struct http_response *res, const struct error *err, void *arg)
{
    struct request *r = arg;
    r->call = NULL;
    if (err) {
        unreachable(r, err);
    } else {
        r->answer.status = res->status;
        r->answer.body = res->body;
        res->body = (struct buf){0};
    }
    request_finish(r);
}

static void on_upgrade(struct http_call *call, struct http_response *res, struct stream *agent, void *arg)
{
    struct request *r = arg;
    r->call = NULL;
    request_answered(r, 101);
    struct stream *client = http_upgrade(r->http, EXEC_PROTOCOL, NULL, 0);
    if (client)
        splice_start(http_thread_splices(r->thread), client, agent, r->who.holder);
    else
        stream_close(agent);
    request_done(r);
}

/* The agent's path is ours with the whole id, or without the node, and our query is its query. */
static char *agent_path(const struct request *r)
{
    struct buf path = {0};
    if (r->agent_path)
        return mem_strdup(r->agent_path);
    if (r->alloc_id) {
        buf_printf(&path, "/v1/allocs/%s%s", r->alloc_id, strrchr(r->route->path, '/'));
    } else {
        buf_add_string(&path, "/v1/containers/");
        http_add_encoded(&path, r->params[1]);
    }
    const char *between = "?";
    for (size_t i = 0; i < r->http->query.count; i++) {
        if (!strcmp(r->http->query.items[i].name, "namespace"))      /* was ours to ask about */
            continue;
        buf_add_string(&path, between);
        between = "&";
        http_add_encoded(&path, r->http->query.items[i].name);
        buf_add_char(&path, '=');
        http_add_encoded(&path, r->http->query.items[i].value);
    }
    return buf_steal(&path);
}

void proxy_respond(struct request *r)
{
    if (r->answer.error.code != ERROR_NONE || atomic_load(&r->gone)) {
        request_finish(r);
        return;
    }
    bool upgrade = r->http->wants_upgrade, stream = !upgrade && r->route->method == HTTP_METHOD_GET;
    struct http_header headers[] = {{"Connection", "Upgrade"}, {"Upgrade", EXEC_PROTOCOL}};
    struct http_header json = {"Content-Type", "application/json"};
    CLEANUP_FREE char *path = agent_path(r);
    CLEANUP_FREE char *name = mem_printf("%s.agent.mentat", r->node_name);
    struct http_call_options call = {
        .method = r->route->method,
        .target = r->target,
        .server_name = http_thread_has_tls(r->thread) ? name : NULL,
        .path = path,
        .headers = upgrade ? headers : &json,
        .header_count = upgrade ? 2 : r->http->body.len > 0,
        .body = r->http->body.data,
        .body_len = r->http->body.len,
        .response_timeout_ms = ANSWER_MS,
        .on_head = stream ? on_head : NULL,
        .on_data = stream ? on_data : NULL,
        .on_done = stream ? on_stream_done : on_whole_done,
        .on_upgrade = upgrade ? on_upgrade : NULL,
        .arg = r,
    };
    r->cut = cut;
    r->http->on_drain = on_drain;
    r->call = http_call_start(http_thread_agents(r->thread), &call);
}
