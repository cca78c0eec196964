/* A connection's round: idle → head → body → the handler answers → idle. One request at a time: the bytes of
 * pipelined ones wait in backlog, and reading stops when that is full. The peer may end its direction any time: it
 * still gets the answer to what it asked completely. Errors of the peer are answered and end the connection; a
 * connection that dies takes its request's `conn` pointer with it, and the handler's answer goes nowhere. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "net/http_conn.h"
#include "net/http_target.h"

#define BACKLOG_LIMIT (64 * 1024)
#define LINGER_MS 2000
#define LINGER_BYTES (512 * 1024)
#define REFUSED_LIMIT 64

/* ---- Timeouts ---- */

static void on_write_late(struct deadline *d)
{
    struct conn *c = container_of(d, struct conn, writing);
    if (!stream_pending(c->stream))
        return;
    if (stream_written(c->stream) > c->write_mark) {
        conn_wrote(c);
        return;
    }
    LOG_D("peer does not read", "peer", stream_peer(c->stream));
    stream_close(c->stream);
}

void conn_wrote(struct conn *c)
{
    if (!stream_pending(c->stream) || deadline_is_set(&c->writing))
        return;
    c->write_mark = stream_written(c->stream);
    deadline_set(&c->server->deadlines, &c->writing, c->server->options.write_timeout_ms, on_write_late);
}

static void on_read_late(struct deadline *d);

static void wait_at_most(struct conn *c, int64_t ms)
{
    deadline_set(&c->server->deadlines, &c->reading, ms, on_read_late);
}

static void wait_for_body(struct conn *c)
{
    c->body_mark = c->req->pub.body.len;
    wait_at_most(c, c->server->options.body_timeout_ms);
}

static void on_read_late(struct deadline *d)
{
    struct conn *c = container_of(d, struct conn, reading);
    const struct http_server_options *o = &c->server->options;
    switch (c->phase) {
    case CONN_IDLE:
    case CONN_LINGER:
        stream_close(c->stream);
        break;
    case CONN_HEAD:
        conn_refuse(c, 408, "the request's head took too long");
        break;
    case CONN_BODY: {
        uint64_t needed = (uint64_t)o->body_rate * (uint64_t)o->body_timeout_ms / 1000;
        if (c->req->pub.body.len - c->body_mark >= (needed ? needed : 1))
            wait_for_body(c);
        else
            conn_refuse(c, 408, "the request's body comes too slowly");
        break;
    }
    case CONN_ANSWER:
        break;
    }
}

/* ---- Ends ---- */

void conn_finish(struct conn *c)
{
    c->phase = CONN_LINGER;
    c->keep_alive = false;
    buf_free(&c->backlog);
    http_parse_free(c->parse);
    c->parse = NULL;
    stream_end(c->stream);
    if (c->peer_ended && !stream_pending(c->stream)) {
        stream_close(c->stream);
        return;
    }
    conn_wrote(c);
    wait_at_most(c, LINGER_MS);
    stream_read_start(c->stream);
}

/* NULL: it, or all together, have as many as there may be. */
static struct holder *holder_take(struct http_server *server, const char *peer)
{
    struct holder *h;
    char address[ADDRESS_HOLDER_SIZE];
    address_holder(peer, address);
    HASH_FIND_STR(server->holders, address, h);
    if (server->conn_count >= server->options.max_connections || (h && h->count >= server->options.max_per_address))
        return NULL;
    if (!h) {
        h = NEW(struct holder);
        memcpy(h->address, address, sizeof address);
        HASH_ADD_STR(server->holders, address, h);
    }
    h->count++;
    server->conn_count++;
    return h;
}

static void holder_give_back(struct http_server *server, struct holder *h)
{
    server->conn_count--;
    if (--h->count)
        return;
    HASH_DEL(server->holders, h);
    free(h);
}

void conn_free(struct conn *c)
{
    struct http_server *server = c->server;
    TAILQ_REMOVE(&server->conns, c, entry);
    if (c->holder)
        holder_give_back(server, c->holder);
    else
        server->refused_count--;
    deadline_remove(&server->deadlines, &c->reading);
    deadline_remove(&server->deadlines, &c->writing);
    http_parse_free(c->parse);
    buf_free(&c->backlog);
    free(c);
    http_server_maybe_stopped(server);
}

/* Whoever knocks with a wrong certificate, or none, does so again and again. */
static void tell_refused(struct http_server *server, const char *peer, const struct error *err)
{
    uint64_t unsaid;
    if (server->options.refused)
        atomic_fetch_add_explicit(server->options.refused, 1, memory_order_relaxed);
    if (log_limit_allows(&server->refusals, time_monotonic_ms(), &unsaid))
        LOG_W("a connection was refused", "peer", peer, "reason", err->text, "not_told", LOG_U64(unsaid));
}

static void on_close(struct stream *s, void *arg, const struct error *err)
{
    struct conn *c = arg;
    struct request *r = c->req;
    if (err && c->shaking && !c->server->stopping)
        tell_refused(c->server, stream_peer(s), err);
    else if (err)
        LOG_D("connection broke", "peer", stream_peer(s), "error", err->text);
    c->req = NULL;
    if (r) {
        r->conn = NULL;
        if (!r->handed)
            http_request_free(r);
        else if (r->pub.on_close)
            r->pub.on_close(&r->pub);
    }
    conn_free(c);
}

static void on_eof(struct stream *s, void *arg)
{
    struct conn *c = arg;
    c->peer_ended = true;
    bool answering = c->phase == CONN_ANSWER && !c->req->endless;
    bool sending = c->phase == CONN_LINGER && stream_pending(s);
    if (!answering && !sending)
        stream_close(s);
}

/* ---- Requests ---- */

#define SECRET_BODY_MOST (256 * 1024)      /* longer ones are copied when they grow, and hold no secret */

static void on_body(void *arg, const char *data, size_t len)
{
    struct conn *c = arg;
    struct request *r = c->req;
    if (!r || r->too_large)
        return;
    if (len > r->limit - r->pub.body.len)
        r->too_large = true;
    else
        buf_add(&r->pub.body, data, len);
}

static struct request *request_new(struct conn *c)
{
    struct request *r = NEW(struct request);
    r->conn = c;
    http_parse_take_head(c->parse, &r->head);
    r->pub.method = r->head.method;
    r->pub.target = r->head.target;
    r->pub.headers = r->head.headers;
    r->pub.wants_upgrade = r->head.upgrade && r->head.minor_version > 0;
    r->pub.peer = mem_strdup(stream_peer(c->stream));
    r->pub.tls = tls_peer_hold(stream_tls_peer(c->stream));
    return r;
}

static bool check_expectation(struct conn *c, bool has_body, bool body_is_here)
{
    const char *expect = http_headers_get(&c->req->head.headers, "Expect");
    if (!expect || c->req->head.minor_version == 0)
        return true;
    if (strcasecmp(expect, "100-continue")) {
        conn_refuse(c, 417, "the only expectation understood is 100-continue");
        return false;
    }
    if (has_body && !body_is_here) {
        stream_write(c->stream, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        conn_wrote(c);
    }
    return true;
}

static void conn_head(struct conn *c, bool more_is_here)
{
    const struct http_server_options *o = &c->server->options;
    struct request *r = c->req = request_new(c);
    struct error err;
    c->keep_alive = r->head.keep_alive;
    c->phase = CONN_BODY;
    if (r->head.method == HTTP_METHOD_OTHER) {
        conn_refuse(c, 501, "this method is not served");
        return;
    }
    if (http_target_parse(r->head.target, &r->pub.segments, &r->pub.segment_count, &r->pub.query, &err)) {
        conn_refuse(c, 400, err.text);
        return;
    }
    int status;
    if (o->check && o->check(&r->pub, o->arg, &status, &err)) {
        conn_refuse(c, status, err.text);
        return;
    }
    bool has_body = r->head.chunked || r->head.content_length > 0;
    r->limit = has_body && o->body_limit_of ? o->body_limit_of(&r->pub, o->arg) : o->body_limit;
    if (r->head.content_length > 0 && (uint64_t)r->head.content_length > r->limit) {
        conn_refuse(c, 413, "the body is too large");
        return;
    }
    r->pub.body.secret = !r->head.chunked && r->head.content_length <= SECRET_BODY_MOST;
    if (!check_expectation(c, has_body, more_is_here))
        return;
    if (has_body)
        wait_for_body(c);
}

static void conn_hand_over(struct conn *c)
{
    struct http_server *server = c->server;
    deadline_unset(&c->reading);
    c->phase = CONN_ANSWER;
    c->req->handed = true;
    server->options.on_request(&c->req->pub, server->options.arg);
}

static bool receiving(const struct conn *c)
{
    return c->phase < CONN_ANSWER && !stream_closing(c->stream);
}

/* One step of parsing; false when the connection was handed over. */
static bool conn_step(struct conn *c, const char **data, size_t *len, enum http_parse_event *event)
{
    size_t used;
    bool gone = false;
    const char *why;
    *event = http_parse_run(c->parse, *data, *len, &used);
    *data += used;
    *len -= used;
    if (c->req && c->req->too_large) {
        conn_refuse(c, 413, "the body is too large");
        return true;
    }
    switch (*event) {
    case HTTP_PARSE_MORE:
        break;
    case HTTP_PARSE_HEAD:
        conn_head(c, *len);
        break;
    case HTTP_PARSE_END:
        if (c->req->pub.wants_upgrade) {
            buf_add(&c->backlog, *data, *len);
            *len = 0;
        }
        c->gone = &gone;
        conn_hand_over(c);
        if (gone)
            return false;
        c->gone = NULL;
        break;
    case HTTP_PARSE_FAILED: {
        int status = http_parse_failure(c->parse, &why);
        conn_refuse(c, status, why);
        break;
    }
    }
    return true;
}

/* What remains after parsing stopped. */
static void conn_settle(struct conn *c, const char *data, size_t len)
{
    if (c->phase == CONN_ANSWER && len)
        buf_add(&c->backlog, data, len);
    if (c->phase == CONN_ANSWER && c->backlog.len > BACKLOG_LIMIT)
        stream_read_stop(c->stream);
    if (c->phase == CONN_IDLE && c->backlog.len)
        stream_unread(c->stream, &c->backlog);
    else if (c->phase == CONN_IDLE && c->peer_ended)
        conn_finish(c);
    else if (c->phase < CONN_ANSWER && c->peer_ended)
        stream_close(c->stream);    /* it ended inside a request */
    if (c->phase == CONN_IDLE) {
        http_parse_free(c->parse);
        c->parse = NULL;
    }
}

static void on_drain(struct stream *s, void *arg);

static void conn_feed(struct conn *c, const char *data, size_t len)
{
    const struct http_server_options *o = &c->server->options;
    struct stream *s = c->stream;
    enum http_parse_event event = HTTP_PARSE_MORE;
    c->feeding = true;
    stream_cork(s);
    while (receiving(c) && (len || event == HTTP_PARSE_HEAD)) {
        if (c->phase == CONN_IDLE) {
            c->phase = CONN_HEAD;
            wait_at_most(c, o->header_timeout_ms);
        }
        if (!c->parse)
            c->parse = http_parse_new(HTTP_PARSE_REQUESTS, &(struct http_parse_limits){
                .head = o->header_limit, .target = o->target_limit}, on_body, c);
        if (!conn_step(c, &data, &len, &event))
            return;
    }
    c->feeding = false;
    if (!stream_closing(s))
        conn_settle(c, data, len);
    stream_uncork(s);
    if (stream_closing(s))
        return;
    conn_wrote(c);
    /* What was gathered may have gone at once, but its writer was told that it is pending. */
    if (c->told_pending && !stream_pending(s))
        on_drain(s, c);
}

static void on_read(struct stream *s, void *arg, const char *data, size_t len)
{
    struct conn *c = arg;
    if (c->phase == CONN_LINGER) {
        c->lingered += len;
        if (c->lingered > LINGER_BYTES)
            stream_close(s);
    } else if (c->phase == CONN_ANSWER) {
        conn_settle(c, data, len);
    } else {
        conn_feed(c, data, len);
    }
}

void conn_next(struct conn *c)
{
    if (stream_closing(c->stream))
        return;
    if (!c->keep_alive || c->server->stopping) {
        conn_finish(c);
        return;
    }
    c->phase = CONN_IDLE;
    wait_at_most(c, c->server->options.idle_timeout_ms);
    conn_wrote(c);
    if (c->feeding)
        return;         /* the loop above goes on */
    conn_settle(c, NULL, 0);
    stream_read_start(c->stream);
}

static void on_drain(struct stream *s, void *arg)
{
    struct conn *c = arg;
    deadline_unset(&c->writing);
    c->told_pending = false;
    if (c->phase == CONN_LINGER && c->peer_ended)
        stream_close(s);
    else if (c->req && c->req->begun && c->req->pub.on_drain)
        c->req->pub.on_drain(&c->req->pub);
}

static void on_open(struct stream *s, void *arg)
{
    struct conn *c = arg;
    c->shaking = false;
    if (c->phase != CONN_IDLE)
        return;
    wait_at_most(c, c->server->options.idle_timeout_ms);
    stream_read_start(s);
}

static const struct stream_handlers conn_handlers = {
    .on_read = on_read,
    .on_eof = on_eof,
    .on_drain = on_drain,
    .on_close = on_close,
    .on_open = on_open,
};

void conn_accept(struct listener *listener)
{
    struct http_server *server = listener->server;
    struct conn *c = NEW(struct conn);
    c->stream = stream_accept(&listener->uv.stream, server->shared, listener->tls, &conn_handlers, c);
    if (!c->stream) {
        free(c);
        return;
    }
    c->server = server;
    c->holder = holder_take(server, stream_peer(c->stream));
    TAILQ_INSERT_TAIL(&server->conns, c, entry);
    if (!c->holder)
        server->refused_count++;
    if (!c->holder && (listener->tls || server->refused_count > REFUSED_LIMIT))
        stream_close(c->stream);
    else if (!c->holder)
        conn_refuse(c, 503, "too many connections; try again later");
    else if ((c->shaking = listener->tls))
        wait_at_most(c, server->options.header_timeout_ms);     /* the handshake */
    else
        on_open(c->stream, c);
}
