/* One connection. Happy path of the one who dials: connect → TLS → HELLO → WELCOME → open: messages go out, PINGs too, and
 * PONGs come back. Of the one who accepts: TLS → HELLO, checked → WELCOME → open: messages come in.
 *
 * Anything that is not as it should be ends it; where there is still somebody to tell, with REFUSED and the reason.
 * Nothing that it said so far has then had any effect. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "consensus/transport_internal.h"

#define REFUSED_TEXT_MAX 400

static void on_open(struct stream *s, void *arg);
static void on_read(struct stream *s, void *arg, const char *data, size_t len);
static void on_eof(struct stream *s, void *arg);
static void on_drain(struct stream *s, void *arg);
static void on_close(struct stream *s, void *arg, const struct error *err);

static const struct stream_handlers handlers = {.on_read = on_read, .on_eof = on_eof, .on_drain = on_drain,
                                                .on_close = on_close, .on_open = on_open};

static struct connection *new_connection(struct transport *t, struct remote *r)
{
    struct connection *c = NEW(struct connection);
    c->transport = t;
    c->remote = r;
    c->since_ms = c->heard_ms = c->pinged_ms = transport_now_ms(t);
    LIST_INSERT_HEAD(&t->connections, c, next);
    transport_look_after(t);
    return c;
}

void connection_send(struct connection *c, enum wire_kind kind, struct buf *content)
{
    struct buf none = {0};
    struct buf *body = content ? content : &none;
    CLEANUP_BUF struct buf header = {0};
    wire_frame(&header, kind, body->data, body->len);
    stream_cork(c->stream);
    stream_write(c->stream, header.data, header.len);
    stream_write_buf(c->stream, body);
    stream_uncork(c->stream);
}

void connection_close(struct connection *c)
{
    stream_close(c->stream);
}

/* Says why, then closes. */
static void refuse(struct connection *c, const struct error *err)
{
    transport_refused(c->transport, stream_peer(c->stream), err->text);
    c->refused = true;
    struct buf text = {0};
    buf_printf(&text, "%.*s", REFUSED_TEXT_MAX, err->text);
    connection_send(c, WIRE_REFUSED, &text);
    stream_fail(c->stream, err);
}

/* --- greetings --- */

static void say_hello(struct connection *c)
{
    struct transport *t = c->transport;
    struct wire_greeting g = transport_greeting(t, c->remote->id);
    struct buf bytes = {0};
    wire_put_greeting(&bytes, &g);
    connection_send(c, WIRE_HELLO, &bytes);
}

static void opened(struct connection *c)
{
    stream_read_start(c->stream);
    if (c->dialled)
        say_hello(c);
}

static void on_open(struct stream *s, void *arg)
{
    opened(arg);
}

void connection_dial(struct transport *t, struct remote *r, const struct address *address)
{
    struct connection *c = new_connection(t, r);
    char name[64];
    snprintf(name, sizeof name, "%llu.server.mentat", (unsigned long long)r->id);
    c->dialled = true;
    r->out = c;
    c->stream = stream_connect(t->options.loop, address, t->shared, t->options.tls, name, &handlers, c);
}

void connection_accept(struct transport *t)
{
    struct connection *c = new_connection(t, NULL);
    t->strangers++;
    c->stream = stream_accept((uv_stream_t *)&t->listener, t->shared, t->options.tls, &handlers, c);
    if (!c->stream) {
        transport_lost(c);
        return;
    }
    if (stream_is_open(c->stream))
        opened(c);
}

/* Is it the server that it says to be, and does it mean this one? */
static int check_greeting(const struct connection *c, const struct wire_greeting *g, struct error *err)
{
    const struct transport *t = c->transport;
    char name[64];
    snprintf(name, sizeof name, "DNS:%llu.server.mentat", (unsigned long long)g->from);
    if (g->cluster_id != t->cluster_id)
        return error_set(err, ERROR_CONFLICT, "server %llu belongs to cluster %llu, server %llu to cluster %llu",
                         (unsigned long long)g->from, (unsigned long long)g->cluster_id,
                         (unsigned long long)t->server_id, (unsigned long long)t->cluster_id);
    if (g->from == t->server_id)
        return error_set(err, ERROR_CONFLICT, "%s: a server with the id of this one, %llu: is its directory a copy, or the "
                         "address this server's own?", g->address, (unsigned long long)g->from);
    if (g->to != t->server_id)
        return error_set(err, ERROR_CONFLICT, "this is server %llu, not %llu: is the address right?",
                         (unsigned long long)t->server_id, (unsigned long long)g->to);
    if (t->options.tls && !tls_peer_has_name(stream_tls_peer(c->stream), name))
        return error_set(err, ERROR_DENIED, "the certificate is not that of server %llu: it lacks the name %s",
                         (unsigned long long)g->from, name);
    return 0;
}

static void greeted(struct connection *c, const struct wire_greeting *g)
{
    struct transport *t = c->transport;
    c->open = true;
    t->strangers--;
    c->remote = transport_remote(t, g->from);
    if (c->remote->in)
        connection_close(c->remote->in);    /* it has lost that one */
    c->remote->in = c;
    struct wire_greeting welcome = transport_greeting(t, g->from);
    welcome.knows_you = t->options.callbacks->is_member(t->options.ctx, g->from);
    struct buf bytes = {0};
    wire_put_greeting(&bytes, &welcome);
    connection_send(c, WIRE_WELCOME, &bytes);
    transport_met(t, c->remote, g);
}

static void welcomed(struct connection *c, const struct wire_greeting *g)
{
    struct transport *t = c->transport;
    struct remote *r = c->remote;
    c->open = true;
    r->backoff_ms = 0;
    r->trouble[0] = '\0';
    transport_met(t, r, g);
    LOG_I("connected to a server", "id", LOG_U64(r->id), "peer", stream_peer(c->stream), "release", g->release);
    if (!g->knows_you)
        LOG_W("a server does not count this one among the members", "id", LOG_U64(r->id));
    t->options.callbacks->up(t->options.ctx, r->id);
}

static void on_greeting(struct connection *c, enum wire_kind kind, const uint8_t *content, size_t len)
{
    struct error err;
    struct wire_greeting g;
    enum wire_kind wanted = c->dialled ? WIRE_WELCOME : WIRE_HELLO;
    int rv = kind == wanted ? wire_get_greeting(content, len, &g, &err)
                            : error_set(&err, ERROR_INVALID, "a message before the greeting");
    if (rv == 0)
        rv = check_greeting(c, &g, &err);
    if (rv == 0 && c->dialled && g.from != c->remote->id)
        rv = error_set(&err, ERROR_CONFLICT, "server %llu answers there", (unsigned long long)g.from);
    if (rv < 0)
        refuse(c, &err);
    else if (c->dialled)
        welcomed(c, &g);
    else
        greeted(c, &g);
}

/* --- frames --- */

static void on_refused(struct connection *c, const uint8_t *content, size_t len)
{
    struct error err;
    char text[REFUSED_TEXT_MAX + 1];
    size_t n = len < REFUSED_TEXT_MAX ? len : REFUSED_TEXT_MAX;
    for (size_t i = 0; i < n; i++)
        text[i] = content[i] >= ' ' && content[i] <= '~' ? (char)content[i] : '?';
    text[n] = '\0';
    error_set(&err, ERROR_DENIED, "refused: %s", text);
    stream_fail(c->stream, &err);
}

static void on_frame(struct connection *c, enum wire_kind kind, const uint8_t *content, size_t len)
{
    struct transport *t = c->transport;
    struct error err;
    int rv = 0;
    if (kind == WIRE_REFUSED) {
        on_refused(c, content, len);
        return;
    }
    if (!c->open) {
        on_greeting(c, kind, content, len);
        return;
    }
    if (kind == WIRE_MESSAGE && !c->dialled)
        rv = t->options.callbacks->message(t->options.ctx, c->remote->id, content, len, &err);
    else if (kind == WIRE_PING && !c->dialled)
        connection_send(c, WIRE_PONG, NULL);
    else if (kind != WIRE_PONG || !c->dialled)
        rv = error_set(&err, ERROR_INVALID, "a frame of kind %d is out of place", (int)kind);
    if (rv < 0)
        refuse(c, &err);
}

/* Nothing that a stranger says is looked at. */
static int check_role(const struct connection *c, struct error *err)
{
    char name[TLS_NAME_SIZE];
    const struct tls_peer *peer = stream_tls_peer(c->stream);
    if (c->open || !c->transport->options.tls || tls_peer_role(peer, "server", name))
        return 0;
    return error_set(err, ERROR_DENIED, peer ? "the certificate is not a server's: it carries no name ID.server.mentat"
                                             : "the peer has no certificate, and one is required");
}

static void on_read(struct stream *s, void *arg, const char *data, size_t len)
{
    struct connection *c = arg;
    struct transport *t = c->transport;
    struct error refusal;
    if (check_role(c, &refusal)) {
        refuse(c, &refusal);
        return;
    }
    c->heard_ms = transport_now_ms(t);
    buf_add(&c->in, data, len);
    size_t used = 0;
    while (!stream_closing(s)) {
        enum wire_kind kind;
        const uint8_t *content;
        size_t content_len;
        struct error err;
        size_t limit = c->open ? MESSAGE_MAX : WIRE_GREETING_MAX;
        enum wire_result result = wire_next(c->in.data + used, c->in.len - used, limit, &kind, &content, &content_len, &err);
        if (result == WIRE_BROKEN)
            refuse(c, &err);
        if (result != WIRE_FRAME)
            break;
        used += WIRE_HEADER_SIZE + content_len;
        on_frame(c, kind, content, content_len);
    }
    if (used == c->in.len && c->in.cap > 1u << 20)
        buf_free(&c->in);       /* a large one was there once */
    else
        buf_consume(&c->in, used);
}

static void on_eof(struct stream *s, void *arg)
{
    stream_close(s);
}

static void on_drain(struct stream *s, void *arg)
{
    struct connection *c = arg;
    if (!c->was_full)
        return;
    c->was_full = false;
    c->transport->options.callbacks->room(c->transport->options.ctx, c->remote->id);
}

static void on_close(struct stream *s, void *arg, const struct error *err)
{
    struct connection *c = arg;
    if (c->dialled && err && !c->transport->closing)
        transport_trouble(c->remote, err->text);
    else if (err && !c->open && !c->refused && !c->transport->closing)
        transport_refused(c->transport, stream_peer(s), err->text);
    transport_lost(c);
}

void connection_tick(struct connection *c, uint64_t now_ms)
{
    struct error err;
    if (stream_closing(c->stream))
        return;
    if (c->open && tls_context_refuses(c->transport->options.tls, stream_tls_peer(c->stream))) {
        error_set(&err, ERROR_DENIED, "the certificate of %s was revoked: its server was removed", stream_peer(c->stream));
        refuse(c, &err);
        return;
    }
    if (!c->open && now_ms >= c->since_ms + GREETING_MS) {
        error_set(&err, ERROR_TIMEOUT, "no greeting from %s", stream_peer(c->stream));
        stream_fail(c->stream, &err);
    } else if (c->open && now_ms >= c->heard_ms + SILENCE_MS) {
        error_set(&err, ERROR_TIMEOUT, "%s is silent", stream_peer(c->stream));
        stream_fail(c->stream, &err);
    } else if (c->open && c->dialled && now_ms >= c->pinged_ms + PING_MS) {
        c->pinged_ms = now_ms;
        connection_send(c, WIRE_PING, NULL);
    }
}
