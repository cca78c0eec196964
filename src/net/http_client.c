/* Calls and connections. A call takes an unused connection of its target or opens one, sends its request, and gives the
 * connection back when the answer is complete and both sides keep it. Callbacks may cancel any call, so after each one
 * the connection looks whether the call is still its own.
 *
 * Fails: before the connection is open nothing reached the peer (unavailable). A kept connection that breaks before
 * the first byte of an answer was most likely closed by the peer meanwhile: what may be repeated is sent again, once,
 * on a fresh one. Everything else that breaks after sending has an unknown outcome. */
#include "net/http_client.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>

#include "base/mem.h"
#include "base/text.h"
#include "net/address.h"
#include "net/deadline.h"
#include "net/http_parse.h"
#include "net/stream_open.h"

#define HEAD_LIMIT (64 * 1024)
#define DEFAULT(field, value) do { if (!(field)) (field) = (value); } while (0)

/* Where a connection leads; two calls with the same text may share it. */
struct target {
    char *text;
    struct address address;
    bool tls;
};

struct link {
    LIST_ENTRY(link) entry;         /* client->idle or client->busy */
    struct http_client *client;
    struct stream *stream;
    struct target target;
    struct http_call *call;         /* NULL while unused */
    struct http_parse *parse;
    bool open;
    bool reused;                    /* an answer came on it before */
    bool answered;                  /* the first byte of the present answer came */
    struct deadline keep;
};
LIST_HEAD(link_list, link);

enum call_wait {
    CALL_WAITS_CONNECT,
    CALL_WAITS_HEAD,
    CALL_WAITS_BODY,
};

struct http_call {
    LIST_ENTRY(http_call) entry;
    struct http_client *client;
    struct link *link;              /* NULL: failed at the start, on_done is due */
    struct http_call_options o;     /* its strings are not kept */
    struct target target;
    struct buf request;
    bool retried;
    bool wants_upgrade;
    enum call_wait wait;
    bool has_head;
    bool keep_alive;
    struct http_response res;
    bool paused;
    bool leaving;                   /* its last callback runs */
    bool *gone;                     /* set when it is freed while a callback runs */
    bool due;                       /* held bytes, or the end, wait for the loop */
    bool ended;                     /* the answer is complete; only held bytes are before on_done */
    bool too_large;
    struct buf held;
    struct deadline late;
    struct error why;               /* with link NULL */
};
LIST_HEAD(call_list, http_call);

struct http_client {
    uv_loop_t *loop;
    struct http_client_options o;
    char *server_name;
    struct stream_shared *shared;
    struct deadlines deadlines;
    uv_idle_t soon;                 /* runs while a call is due */
    struct link_list idle, busy, closing;
    struct call_list calls;
    unsigned open_handles;
    bool closed;
    void (*on_closed)(void *arg);
    void *closed_arg;
};

static void link_start(struct http_call *call);

/* ---- Targets ---- */

static void target_free(struct target *t)
{
    free(t->text);
    *t = (struct target){0};
}

static int target_parse(const char *text, const struct http_client *client, struct target *t, struct error *err)
{
    char host[ADDRESS_TEXT_SIZE];
    bool https = text_has_prefix(text, "https://");
    if (!https && !text_has_prefix(text, "http://") && !text_has_prefix(text, "unix:"))
        return error_set(err, ERROR_INVALID,
                         "target \"%s\": expected http://HOST:PORT, https://HOST:PORT or unix:/PATH", text);
    if (https && !client->o.tls)
        return error_set(err, ERROR_INVALID, "target \"%s\": https needs a CA file", text);
    const char *from = text_has_prefix(text, "unix:") ? text : strstr(text, "://") + 3;
    size_t len = *from == 'u' && from == text ? strlen(from) : strcspn(from, "/?#");
    if (len >= sizeof host || (from != text && from[len] && strcmp(from + len, "/")))
        return error_set(err, ERROR_INVALID, "target \"%s\": the path belongs into the request", text);
    snprintf(host, sizeof host, "%.*s", (int)len, from);
    if (address_parse(host, https ? 443 : 80, &t->address, err))
        return -1;
    if (!*t->address.host)
        return error_set(err, ERROR_INVALID, "target \"%s\": the host is missing", text);
    t->tls = https;
    t->text = mem_strdup(text);
    return 0;
}

/* ---- The end of calls ---- */

/* From now on nobody finds the call any more, not even who closes the client in its last callback. */
static void call_leave(struct http_call *call)
{
    call->leaving = true;
    LIST_REMOVE(call, entry);
    deadline_remove(&call->client->deadlines, &call->late);
    if (call->link)
        call->link->call = NULL;
    call->link = NULL;
}

static void call_free(struct http_call *call)
{
    if (call->gone)
        *call->gone = true;
    target_free(&call->target);
    buf_free(&call->request);
    buf_free(&call->held);
    buf_free(&call->res.body);
    free(call->res.headers.items);
    free(call->res.headers.text);
    free(call);
}

static void call_done(struct http_call *call, const struct error *err)
{
    call_leave(call);
    call->o.on_done(call, call->has_head ? &call->res : NULL, err, call->o.arg);
    call_free(call);
}

static void link_close(struct link *l)
{
    LIST_REMOVE(l, entry);
    LIST_INSERT_HEAD(&l->client->closing, l, entry);
    stream_close(l->stream);
}

static void call_fail(struct http_call *call, enum error_code code, const char *text)
{
    struct error err;
    error_set(&err, code, "%s %s%s: %s", http_method_name(call->o.method), call->target.text ? call->target.text : "",
              call->o.path ? call->o.path : "", text);
    struct link *l = call->link;
    call_done(call, &err);
    if (l)
        link_close(l);
}

static void on_keep_over(struct deadline *d)
{
    link_close(container_of(d, struct link, keep));
}

/* The connection is free again: keep it, when it may be kept. */
static void link_release(struct link *l)
{
    struct http_client *client = l->client;
    size_t kept = 0;
    struct link *other;
    if (stream_closing(l->stream))
        return;
    LIST_FOREACH(other, &client->idle, entry)
        kept += !strcmp(other->target.text, l->target.text);
    if (client->closed || kept >= client->o.keep_per_target) {
        link_close(l);
        return;
    }
    LIST_REMOVE(l, entry);
    LIST_INSERT_HEAD(&client->idle, l, entry);
    l->reused = true;
    deadline_set(&client->deadlines, &l->keep, client->o.keep_ms, on_keep_over);
    stream_read_start(l->stream);   /* to notice that the peer closes it */
}

/* The answer is complete and delivered. */
static void call_complete(struct http_call *call)
{
    struct link *l = call->link;
    bool too_large = call->too_large;
    bool keep = call->keep_alive && !too_large && !stream_pending(l->stream);
    if (too_large) {
        call_fail(call, ERROR_TOO_LARGE, "the answer is larger than allowed");
        return;
    }
    l->call = NULL;
    call->link = NULL;
    deadline_unset(&call->late);
    /* First the connection: a call that on_done starts can have it. */
    if (keep)
        link_release(l);
    else
        link_close(l);
    call_done(call, NULL);
}

/* ---- Timeouts ---- */

static void on_late(struct deadline *d)
{
    struct http_call *call = container_of(d, struct http_call, late);
    static const char *const texts[] = {
        [CALL_WAITS_CONNECT] = "no connection in time",
        [CALL_WAITS_HEAD] = "no answer in time",
        [CALL_WAITS_BODY] = "the answer stopped in the middle",
    };
    if (call->paused || call->ended)
        return;
    call_fail(call, ERROR_TIMEOUT, texts[call->wait]);
}

static void call_wait(struct http_call *call, enum call_wait wait)
{
    const int64_t spans[] = {
        [CALL_WAITS_CONNECT] = call->client->o.connect_timeout_ms,
        [CALL_WAITS_HEAD] = call->o.response_timeout_ms,
        [CALL_WAITS_BODY] = call->o.idle_timeout_ms,
    };
    call->wait = wait;
    if (spans[wait] > 0)
        deadline_set(&call->client->deadlines, &call->late, spans[wait], on_late);
    else
        deadline_unset(&call->late);
}

/* ---- Answers ---- */

static void on_soon(uv_idle_t *idle);

static void call_due(struct http_call *call)
{
    call->due = true;
    if (!uv_is_active((uv_handle_t *)&call->client->soon))
        uv_idle_start(&call->client->soon, on_soon);
}

static void on_body(void *arg, const char *data, size_t len)
{
    struct link *l = arg;
    struct http_call *call = l->call;
    /* Informational answers, and those of cancelled calls. */
    if (!call || !call->has_head || call->too_large)
        return;
    if (!call->o.on_data) {
        if (len > call->o.response_limit - call->res.body.len)
            call->too_large = true;
        else
            buf_add(&call->res.body, data, len);
    } else if (call->paused || call->held.len) {
        buf_add(&call->held, data, len);
    } else {
        call->o.on_data(call, data, len, call->o.arg);
    }
}

static void link_head(struct link *l)
{
    struct http_call *call = l->call;
    const struct http_head *peek = http_parse_head(l->parse);
    call->keep_alive = peek->keep_alive;
    if (peek->status / 100 == 1 && peek->status != 101)
        return;
    struct http_head head;
    http_parse_take_head(l->parse, &head);
    call->has_head = true;
    call->res.status = head.status;
    call->res.headers = head.headers;
    head.headers = (struct http_headers){0};
    http_head_free(&head);
    call_wait(call, CALL_WAITS_BODY);
    if (call->o.on_head && call->res.status != 101)
        call->o.on_head(call, &call->res, call->o.arg);
}

static void link_upgrade(struct link *l, const char *data, size_t len)
{
    struct http_call *call = l->call;
    struct stream *s = l->stream;
    if (!call->wants_upgrade) {
        call_fail(call, ERROR_CORRUPT, "the peer changed the protocol unasked");
        return;
    }
    stream_read_stop(s);
    stream_set_handlers(s, NULL, NULL);
    if (len) {
        struct buf rest = {0};
        buf_add(&rest, data, len);
        stream_unread(s, &rest);
    }
    LIST_REMOVE(l, entry);
    LIST_INSERT_HEAD(&l->client->closing, l, entry);
    l->stream = NULL;
    call_leave(call);
    call->o.on_upgrade(call, &call->res, s, call->o.arg);
    call_free(call);
}

static void link_free(struct link *l);

/* The message is over; len more bytes came after it. false: the link is gone. */
static bool link_end(struct link *l, const char *data, size_t len)
{
    struct http_call *call = l->call;
    if (!call->has_head)
        return true;        /* 100 or another informational one: the answer follows */
    if (call->res.status == 101) {
        link_upgrade(l, data, len);
        if (l->stream)
            return true;
        link_free(l);
        return false;
    }
    if (len)
        call->keep_alive = false;       /* an answer to a question that was not asked */
    call->ended = true;
    deadline_unset(&call->late);
    if (!call->paused && !call->held.len)
        call_complete(call);
    return true;
}

static bool live(const struct link *l, const struct http_call *call)
{
    return l->call == call && !stream_closing(l->stream);
}

static void link_read(struct link *l, const char *data, size_t len)
{
    struct http_call *call = l->call;
    enum http_parse_event event = HTTP_PARSE_MORE;
    l->answered = true;
    while ((len || event == HTTP_PARSE_HEAD) && live(l, call) && !call->ended) {
        size_t used;
        event = http_parse_run(l->parse, data, len, &used);
        data += used;
        len -= used;
        if (!live(l, call))
            return;
        if (call->too_large) {
            call_fail(call, ERROR_TOO_LARGE, "the answer is larger than allowed");
            return;
        }
        switch (event) {
        case HTTP_PARSE_MORE:
            break;
        case HTTP_PARSE_HEAD:
            link_head(l);
            break;
        case HTTP_PARSE_END:
            if (!link_end(l, data, len))
                return;
            break;
        case HTTP_PARSE_FAILED: {
            const char *why;
            http_parse_failure(l->parse, &why);
            call_fail(call, ERROR_CORRUPT, why);
            return;
        }
        }
    }
    if (live(l, call) && call->wait == CALL_WAITS_BODY && !call->ended)
        call_wait(call, CALL_WAITS_BODY);
}

/* ---- Connections ---- */

static void on_open(struct stream *s, void *arg)
{
    struct link *l = arg;
    l->open = true;
    if (!l->call || !l->call->paused)
        stream_read_start(s);
    if (l->call)
        call_wait(l->call, CALL_WAITS_HEAD);
}

static void on_read(struct stream *s, void *arg, const char *data, size_t len)
{
    struct link *l = arg;
    if (!l->call || l->call->ended)
        link_close(l);      /* nothing was asked */
    else
        link_read(l, data, len);
}

static void client_maybe_closed(struct http_client *client);

static void link_free(struct link *l)
{
    struct http_client *client = l->client;
    LIST_REMOVE(l, entry);
    deadline_remove(&client->deadlines, &l->keep);
    http_parse_free(l->parse);
    target_free(&l->target);
    free(l);
    client_maybe_closed(client);
}

static bool may_retry(const struct link *l, const struct http_call *call)
{
    return l->reused && !l->answered && !call->retried && http_method_idempotent(call->o.method);
}

/* The connection broke under a call. */
static void link_broken(struct link *l, const char *why, enum error_code code)
{
    struct http_call *call = l->call;
    if (may_retry(l, call)) {
        l->call = NULL;
        link_close(l);
        call->retried = true;
        link_start(call);
        return;
    }
    if (l->open && code != ERROR_DENIED)
        code = ERROR_UNKNOWN_OUTCOME;
    call_fail(call, code, why);
}

static void on_eof(struct stream *s, void *arg)
{
    struct link *l = arg;
    struct http_call *call = l->call;
    if (!call || call->ended) {
        if (!call)
            link_close(l);
        else
            call->keep_alive = false;
        return;
    }
    if (http_parse_eof(l->parse) == HTTP_PARSE_END) {
        call->keep_alive = false;
        link_end(l, NULL, 0);
        return;
    }
    link_broken(l, "the peer closed the connection before the answer was complete", ERROR_UNKNOWN_OUTCOME);
}

static void on_close(struct stream *s, void *arg, const struct error *err)
{
    struct link *l = arg;
    if (l->call && l->call->ended) {
        /* The answer is here already, paused: on_done comes once it is taken. */
        l->call->link = NULL;
        l->call = NULL;
    } else if (l->call) {
        link_broken(l, err ? err->text : "closed", err ? err->code : ERROR_CANCELLED);
    }
    link_free(l);
}

static const struct stream_handlers link_handlers = {
    .on_read = on_read,
    .on_eof = on_eof,
    .on_close = on_close,
    .on_open = on_open,
};

static struct link *find_idle(struct http_client *client, const struct target *t)
{
    struct link *l;
    LIST_FOREACH(l, &client->idle, entry)
        if (!strcmp(l->target.text, t->text) && !stream_closing(l->stream))
            return l;
    return NULL;
}

static struct link *link_new(struct http_client *client, const struct target *t)
{
    struct link *l = NEW(struct link);
    l->client = client;
    l->target = *t;
    l->target.text = mem_strdup(t->text);
    const char *name = client->server_name ? client->server_name : t->address.host;
    l->stream = stream_connect(client->loop, &t->address, client->shared, t->tls ? client->o.tls : NULL, name,
                               &link_handlers, l);
    l->parse = http_parse_new(HTTP_PARSE_RESPONSES, &(struct http_parse_limits){.head = HEAD_LIMIT}, on_body, l);
    LIST_INSERT_HEAD(&client->busy, l, entry);
    return l;
}

/* Gives the call a connection and sends its request. */
static void link_start(struct http_call *call)
{
    struct http_client *client = call->client;
    struct link *l = call->retried ? NULL : find_idle(client, &call->target);
    if (l) {
        deadline_unset(&l->keep);
        LIST_REMOVE(l, entry);
        LIST_INSERT_HEAD(&client->busy, l, entry);
    } else {
        l = link_new(client, &call->target);
    }
    l->call = call;
    l->answered = false;
    call->link = l;
    http_parse_expect_no_body(l->parse, call->o.method == HTTP_METHOD_HEAD);
    call_wait(call, l->open ? CALL_WAITS_HEAD : CALL_WAITS_CONNECT);
    stream_write(l->stream, call->request.data, call->request.len);
    if (!http_method_idempotent(call->o.method) || call->retried)
        buf_free(&call->request);
}

/* ---- Calls ---- */

static void add_clean(struct buf *out, const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s >= 0x20 || *s == '\t')
            buf_add_char(out, *s);
}

static void build_request(struct http_call *call, const struct http_call_options *o)
{
    struct buf *out = &call->request;
    char host[ADDRESS_TEXT_SIZE];
    address_format(host, &call->target.address);
    buf_reserve(out, 256 + o->body_len);
    buf_printf(out, "%s ", http_method_name(o->method));
    for (const char *p = o->path && *o->path ? o->path : "/"; *p; p++)
        if ((unsigned char)*p > 0x20)
            buf_add_char(out, *p);
    buf_printf(out, " HTTP/1.1\r\nHost: %s\r\n", call->target.address.is_unix ? "localhost" : host);
    for (size_t i = 0; i < o->header_count; i++) {
        call->wants_upgrade = call->wants_upgrade || !strcasecmp(o->headers[i].name, "Upgrade");
        add_clean(out, o->headers[i].name);
        buf_add_string(out, ": ");
        add_clean(out, o->headers[i].value);
        buf_add_string(out, "\r\n");
    }
    if (call->wants_upgrade)
        buf_add_string(out, "Connection: upgrade\r\n");
    bool sends = o->method == HTTP_METHOD_POST || o->method == HTTP_METHOD_PUT || o->method == HTTP_METHOD_PATCH;
    if (o->body_len || sends)
        buf_printf(out, "Content-Length: %zu\r\n", o->body_len);
    buf_add_string(out, "\r\n");
    buf_add(out, o->body, o->body_len);
}

struct http_call *http_call_start(struct http_client *client, const struct http_call_options *options)
{
    struct http_call *call = NEW(struct http_call);
    call->client = client;
    call->o = *options;
    DEFAULT(call->o.response_limit, 64 * 1024 * 1024);
    LIST_INSERT_HEAD(&client->calls, call, entry);
    INVARIANT(!client->closed);
    if (!target_parse(options->target, client, &call->target, &call->why))
        build_request(call, options);
    /* The caller's strings end with this call. */
    call->o.target = NULL;
    call->o.path = NULL;
    call->o.headers = NULL;
    call->o.body = NULL;
    if (call->request.len)
        link_start(call);
    else
        call_due(call);
    return call;
}

void http_call_cancel(struct http_call *call)
{
    struct link *l = call->link;
    if (call->leaving)
        return;
    call_leave(call);
    if (l)
        link_close(l);
    call_free(call);
}

void http_call_pause(struct http_call *call)
{
    call->paused = true;
    if (call->link)
        stream_read_stop(call->link->stream);
}

void http_call_resume(struct http_call *call)
{
    if (!call->paused)
        return;
    call->paused = false;
    if (call->held.len || call->ended) {
        call_due(call);
        return;
    }
    call_wait(call, call->wait);
    if (call->link)
        stream_read_start(call->link->stream);
}

static struct http_call *next_due(struct http_client *client)
{
    struct http_call *call;
    LIST_FOREACH(call, &client->calls, entry)
        if (call->due)
            return call;
    return NULL;
}

/* Gives a resumed call what was held back, or a call that could not start its error. */
static void call_continue(struct http_call *call)
{
    call->due = false;
    if (call->why.code) {
        call_done(call, &call->why);
        return;
    }
    if (call->paused)
        return;
    if (call->held.len) {
        CLEANUP_BUF struct buf b = call->held;
        call->held = (struct buf){0};
        bool gone = false;
        call->gone = &gone;
        call->o.on_data(call, b.data, b.len, call->o.arg);
        if (gone)
            return;
        call->gone = NULL;
        if (call->paused || call->due)
            return;
    }
    if (call->ended && call->link)
        call_complete(call);
    else if (call->ended)
        call_done(call, NULL);
    else if (call->link)
        stream_read_start(call->link->stream);
}

static void on_soon(uv_idle_t *idle)
{
    struct http_client *client = container_of(idle, struct http_client, soon);
    struct http_call *call;
    uv_idle_stop(idle);
    while ((call = next_due(client)))
        call_continue(call);
}

/* ---- The client ---- */

struct http_client *http_client_new(uv_loop_t *loop, const struct http_client_options *options)
{
    signal(SIGPIPE, SIG_IGN);
    struct http_client *client = NEW(struct http_client);
    client->loop = loop;
    client->o = options ? *options : (struct http_client_options){0};
    DEFAULT(client->o.connect_timeout_ms, 5000);
    DEFAULT(client->o.keep_ms, 30000);
    DEFAULT(client->o.keep_per_target, 8);
    client->server_name = mem_strdup(client->o.server_name);
    if (client->o.tls)
        tls_context_hold(client->o.tls);
    client->shared = stream_shared_new();
    deadlines_init(&client->deadlines, loop);
    uv_idle_init(loop, &client->soon);
    client->open_handles = 2;
    return client;
}

static void client_handle_closed(struct http_client *client)
{
    if (--client->open_handles)
        return;
    if (client->on_closed)
        client->on_closed(client->closed_arg);
    tls_context_free(client->o.tls);
    stream_shared_release(client->shared);
    free(client->server_name);
    free(client);
}

static void on_timer_closed(uv_handle_t *handle)
{
    client_handle_closed(container_of((uv_timer_t *)handle, struct http_client, deadlines.timer));
}

static void on_soon_closed(uv_handle_t *handle)
{
    client_handle_closed(container_of((uv_idle_t *)handle, struct http_client, soon));
}

static void client_maybe_closed(struct http_client *client)
{
    if (!client->closed || !LIST_EMPTY(&client->idle) || !LIST_EMPTY(&client->busy) || !LIST_EMPTY(&client->closing))
        return;
    if (uv_is_closing((uv_handle_t *)&client->soon))
        return;
    deadlines_close(&client->deadlines, on_timer_closed);
    uv_close((uv_handle_t *)&client->soon, on_soon_closed);
}

void http_client_close(struct http_client *client, void (*on_closed)(void *arg), void *arg)
{
    client->on_closed = on_closed;
    client->closed_arg = arg;
    client->closed = true;
    struct http_call *call;
    struct link *l;
    while ((call = LIST_FIRST(&client->calls)))
        http_call_cancel(call);
    while ((l = LIST_FIRST(&client->idle)) || (l = LIST_FIRST(&client->busy)))
        link_close(l);
    client_maybe_closed(client);
}
