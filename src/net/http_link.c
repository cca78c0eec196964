/* Calls and connections. A call takes an unused connection of its target or opens one, sends its request, and gives the
 * connection back when the answer is complete and both sides keep it. Callbacks may cancel any call, so after each one
 * the connection looks whether the call is still its own.
 *
 * Fails: before the connection is open nothing reached the peer (unavailable). A kept connection that breaks before
 * the first byte of an answer was most likely closed by the peer meanwhile: what may be repeated is sent again, once,
 * on a fresh one. Everything else that breaks after sending has an unknown outcome. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "net/http_client_impl.h"

#define HEAD_LIMIT (64 * 1024)

void target_free(struct target *t)
{
    free(t->text);
    free(t->name);
    *t = (struct target){0};
}

/* ---- The end of calls ---- */

void call_leave(struct http_call *call)
{
    call->leaving = true;
    LIST_REMOVE(call, entry);
    deadline_remove(&call->client->deadlines, &call->late);
    if (call->link)
        call->link->call = NULL;
    call->link = NULL;
}

void call_free(struct http_call *call)
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

void call_done(struct http_call *call, const struct error *err)
{
    call_leave(call);
    call->o.on_done(call, call->has_head ? &call->res : NULL, err, call->o.arg);
    call_free(call);
}

void link_close(struct link *l)
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

static bool same_target(const struct target *a, const struct target *b)
{
    return !strcmp(a->text, b->text) && !strcmp(a->name, b->name);
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
        kept += same_target(&other->target, &l->target);
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

void call_complete(struct http_call *call)
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

void call_wait_for(struct http_call *call, enum call_wait wait)
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
    call_wait_for(call, CALL_WAITS_BODY);
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
        call_wait_for(call, CALL_WAITS_BODY);
}

/* ---- Connections ---- */

static void on_open(struct stream *s, void *arg)
{
    struct link *l = arg;
    l->open = true;
    if (!l->call || !l->call->paused)
        stream_read_start(s);
    if (l->call)
        call_wait_for(l->call, CALL_WAITS_HEAD);
}

static void on_read(struct stream *s, void *arg, const char *data, size_t len)
{
    struct link *l = arg;
    if (!l->call || l->call->ended)
        link_close(l);      /* nothing was asked */
    else
        link_read(l, data, len);
}

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
    bool silent = !l->answered && !l->reused && !l->target.tls && !l->target.address.is_unix;
    link_broken(l, silent ? "the peer closed the connection without an answer; perhaps it speaks TLS, and https:// is meant"
                          : "the peer closed the connection before the answer was complete", ERROR_UNKNOWN_OUTCOME);
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
        if (same_target(&l->target, t) && !stream_closing(l->stream))
            return l;
    return NULL;
}

static struct link *link_new(struct http_client *client, const struct target *t)
{
    struct link *l = NEW(struct link);
    l->client = client;
    l->target = *t;
    l->target.text = mem_strdup(t->text);
    l->target.name = mem_strdup(t->name);
    l->stream = stream_connect(client->loop, &t->address, client->shared, t->tls ? client->o.tls : NULL, l->target.name,
                               &link_handlers, l);
    l->parse = http_parse_new(HTTP_PARSE_RESPONSES, &(struct http_parse_limits){.head = HEAD_LIMIT}, on_body, l);
    LIST_INSERT_HEAD(&client->busy, l, entry);
    return l;
}

void link_start(struct http_call *call)
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
    call_wait_for(call, l->open ? CALL_WAITS_HEAD : CALL_WAITS_CONNECT);
    stream_write(l->stream, call->request.data, call->request.len);
    if (!http_method_idempotent(call->o.method) || call->retried)
        buf_free(&call->request);
}
