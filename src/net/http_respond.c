/* Answers. Each ends the request: it is freed, and its connection goes on with the next one or finishes. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "net/http_conn.h"
#include "net/http_target.h"

static struct request *request_of(const struct http_request *pub)
{
    return container_of((uintptr_t)pub, struct request, pub);
}

static bool alive(const struct request *r)
{
    return r->conn && !stream_closing(r->conn->stream);
}

void http_request_free(struct request *r)
{
    http_target_free(r->pub.segments, r->pub.segment_count, &r->pub.query);
    http_head_free(&r->head);
    buf_free(&r->pub.body);
    tls_peer_release((struct tls_peer *)(uintptr_t)r->pub.tls);
    free((char *)(uintptr_t)r->pub.peer);
    free(r);
}

/* Cuts request and connection apart; NULL when the connection is dead. */
static struct conn *request_leave(struct request *r)
{
    struct conn *c = r->conn;
    if (c)
        c->req = NULL;
    return c && !stream_closing(c->stream) ? c : NULL;
}

/* ---- Heads ---- */

static const char *date_text(struct http_server *server)
{
    time_t now = time(NULL);
    if (now != server->date_second) {
        struct tm tm;
        server->date_second = now;
        strftime(server->date, sizeof server->date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    }
    return server->date;
}

/* Control characters would end the header. */
static void add_clean(struct buf *out, const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s >= 0x20 || *s == '\t')
            buf_add_char(out, *s);
}

static void add_head(struct buf *out, struct conn *c, int status, const struct http_header *headers, size_t count)
{
    buf_printf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, http_status_text(status), date_text(c->server));
    for (size_t i = 0; i < count; i++) {
        add_clean(out, headers[i].name);
        buf_add_string(out, ": ");
        add_clean(out, headers[i].value);
        buf_add_string(out, "\r\n");
    }
}

static void add_connection(struct buf *out, const struct conn *c, bool http_1_0)
{
    if (!c->keep_alive)
        buf_add_string(out, "Connection: close\r\n");
    else if (http_1_0)
        buf_add_string(out, "Connection: keep-alive\r\n");
}

/* ---- Whole answers ---- */

static void send_whole(struct conn *c, int status, const struct http_header *headers, size_t count, struct buf *body,
                       const struct request *r)
{
    size_t len = body ? body->len : 0;
    CLEANUP_BUF struct buf out = {.secret = body && body->secret};
    bool bodyless = status == 204 || status == 304 || status < 200;
    buf_reserve(&out, 256 + (len < 4096 ? len : 0));
    add_head(&out, c, status, headers, count);
    if (!bodyless)
        buf_printf(&out, "Content-Length: %zu\r\n", len);
    add_connection(&out, c, r && r->head.minor_version == 0);
    buf_add_string(&out, "\r\n");
    bool silent = bodyless || !len || (r && r->head.method == HTTP_METHOD_HEAD);
    if (!silent && len < 4096) {
        buf_add(&out, body->data, len);
        silent = true;
    }
    bool cork = !silent && !c->feeding;
    if (cork)
        stream_cork(c->stream);
    stream_write_buf(c->stream, &out);
    if (!silent)
        stream_write_buf(c->stream, body);
    if (cork)
        stream_uncork(c->stream);
}

void http_respond(struct http_request *req, int status, const struct http_header *headers, size_t count,
                  struct buf *body)
{
    struct request *r = request_of(req);
    INVARIANT(r->handed && !r->begun);
    struct conn *c = request_leave(r);
    if (c) {
        if (c->server->stopping)
            c->keep_alive = false;
        send_whole(c, status, headers, count, body, r);
        conn_next(c);
    }
    if (body)
        buf_free(body);
    http_request_free(r);
}

void http_respond_text(struct http_request *req, int status, const char *content_type, const char *text)
{
    CLEANUP_BUF struct buf body = {0};
    struct http_header type = {"Content-Type", content_type};
    if (content_type)
        buf_add_string(&body, text);
    http_respond(req, status, &type, content_type ? 1 : 0, &body);
}

static void add_json_string(struct buf *out, const char *s)
{
    buf_add_char(out, '"');
    for (; *s; s++) {
        unsigned char ch = (unsigned char)*s;
        if (ch == '"' || ch == '\\')
            buf_printf(out, "\\%c", ch);
        else if (ch < 0x20)
            buf_printf(out, "\\u%04x", ch);
        else
            buf_add_char(out, (char)ch);
    }
    buf_add_char(out, '"');
}

static void add_error(struct buf *out, enum error_code code, const char *text)
{
    buf_printf(out, "{\"error\":{\"code\":\"%s\",\"message\":", error_code_name(code));
    add_json_string(out, text);
    buf_add_string(out, "}}\n");
}

static const struct http_header json_type = {"Content-Type", "application/json"};

void http_respond_error(struct http_request *req, const struct error *err)
{
    CLEANUP_BUF struct buf body = {0};
    add_error(&body, err->code, err->text);
    http_respond(req, error_http_status(err->code), &json_type, 1, &body);
}

/* The error codes of the statuses that only the server itself gives. */
static enum error_code refusal_code(int status)
{
    switch (status) {
    case 413:
    case 414:
    case 431: return ERROR_TOO_LARGE;
    case 403: return ERROR_DENIED;
    case 408: return ERROR_TIMEOUT;
    case 501:
    case 505: return ERROR_UNSUPPORTED;
    case 503: return ERROR_UNAVAILABLE;
    default: return ERROR_INVALID;
    }
}

void conn_refuse(struct conn *c, int status, const char *why)
{
    CLEANUP_BUF struct buf body = {0};
    if (c->req) {
        http_request_free(c->req);
        c->req = NULL;
    }
    c->keep_alive = false;
    add_error(&body, refusal_code(status), why);
    send_whole(c, status, &json_type, 1, &body, NULL);
    conn_finish(c);
}

void http_request_drop(struct http_request *req)
{
    struct request *r = request_of(req);
    struct conn *c = request_leave(r);
    if (c)
        stream_close(c->stream);
    http_request_free(r);
}

const char *http_request_header(const struct http_request *req, const char *name)
{
    return http_headers_get(&req->headers, name);
}

const char *http_request_query(const struct http_request *req, const char *name)
{
    /* Unlike headers, parameters care about case. */
    for (size_t i = 0; i < req->query.count; i++)
        if (!strcmp(req->query.items[i].name, name))
            return req->query.items[i].value;
    return NULL;
}

bool http_request_alive(const struct http_request *req)
{
    return alive(request_of(req));
}

/* ---- Streaming ---- */

void http_stream_begin(struct http_request *req, int status, const struct http_header *headers, size_t count,
                       enum http_stream_kind kind)
{
    struct request *r = request_of(req);
    INVARIANT(r->handed && !r->begun);
    r->begun = true;
    r->endless = kind == HTTP_STREAM_ENDLESS;
    r->chunked = r->head.minor_version > 0;
    if (!alive(r))
        return;
    struct conn *c = r->conn;
    if (!r->chunked || c->server->stopping)
        c->keep_alive = false;
    CLEANUP_BUF struct buf out = {0};
    add_head(&out, c, status, headers, count);
    if (r->chunked)
        buf_add_string(&out, "Transfer-Encoding: chunked\r\n");
    add_connection(&out, c, !r->chunked);
    buf_add_string(&out, "\r\n");
    stream_write_buf(c->stream, &out);
    conn_wrote(c);
    if (r->endless && c->peer_ended)
        stream_close(c->stream);
}

size_t http_stream_write(struct http_request *req, const void *data, size_t len)
{
    struct request *r = request_of(req);
    INVARIANT(r->begun);
    if (!alive(r))
        return 0;
    struct conn *c = r->conn;
    if (!len || r->head.method == HTTP_METHOD_HEAD)
        return stream_pending(c->stream);
    if (!r->chunked) {
        stream_write(c->stream, data, len);
    } else {
        char size[24];
        int n = snprintf(size, sizeof size, "%zx\r\n", len);
        bool cork = !c->feeding;
        if (cork)
            stream_cork(c->stream);
        stream_write(c->stream, size, (size_t)n);
        stream_write(c->stream, data, len);
        stream_write(c->stream, "\r\n", 2);
        if (cork)
            stream_uncork(c->stream);
    }
    if (!alive(r))
        return 0;
    conn_wrote(c);
    size_t pending = stream_pending(c->stream);
    c->told_pending = pending;
    return pending;
}

size_t http_stream_pending(const struct http_request *req)
{
    const struct request *r = request_of(req);
    return alive(r) ? stream_pending(r->conn->stream) : 0;
}

void http_stream_end(struct http_request *req)
{
    struct request *r = request_of(req);
    INVARIANT(r->begun);
    struct conn *c = request_leave(r);
    if (c && r->chunked && r->head.method != HTTP_METHOD_HEAD)
        stream_write(c->stream, "0\r\n\r\n", 5);
    if (c)
        conn_next(c);
    http_request_free(r);
}

void http_stream_abort(struct http_request *req)
{
    http_request_drop(req);
}

/* ---- Upgrade ---- */

struct stream *http_upgrade(struct http_request *req, const char *protocol, const struct http_header *headers,
                            size_t count)
{
    struct request *r = request_of(req);
    INVARIANT(r->handed && !r->begun);
    if (!r->pub.wants_upgrade) {
        struct error err;
        error_set(&err, ERROR_INVALID, "this needs Connection: upgrade and Upgrade: %s", protocol);
        http_respond_error(req, &err);
        return NULL;
    }
    struct conn *c = request_leave(r);
    http_request_free(r);
    if (!c)
        return NULL;
    CLEANUP_BUF struct buf out = {0};
    struct stream *s = c->stream;
    add_head(&out, c, 101, headers, count);
    buf_printf(&out, "Connection: upgrade\r\nUpgrade: %s\r\n\r\n", protocol);
    stream_write_buf(s, &out);
    stream_read_stop(s);
    stream_set_handlers(s, NULL, NULL);
    if (c->backlog.len)
        stream_unread(s, &c->backlog);
    if (c->gone)
        *c->gone = true;
    if (c->peer_ended)
        stream_close(s);    /* its next reader would wait for an end that was told already */
    conn_free(c);
    stream_uncork(s);
    return s;
}
