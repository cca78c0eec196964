#include "consensus/transport.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "base/timefmt.h"
#include "consensus/transport_internal.h"

#define TICK_MS 100
#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 1000
#define STRANGERS_MAX 64        /* accepted connections that have not greeted */
#define BACKLOG 64

uint64_t transport_now_ms(const struct transport *t)
{
    return (uint64_t)time_monotonic_ms();
}

/* --- whom we know --- */

static struct remote *find(const struct transport *t, uint64_t id)
{
    struct remote *r;
    LIST_FOREACH(r, &t->remotes, next)
        if (r->id == id)
            return r;
    return NULL;
}

struct remote *transport_remote(struct transport *t, uint64_t id)
{
    struct remote *r = find(t, id);
    if (r)
        return r;
    r = NEW(struct remote);
    r->id = id;
    LIST_INSERT_HEAD(&t->remotes, r, next);
    transport_look_after(t);
    return r;
}

static void free_remote(struct remote *r)
{
    LIST_REMOVE(r, next);
    free(r->address);
    free(r->said_address);
    free(r->release);
    free(r);
}

/* Where to dial it: what it said itself is newer than what the membership says, or was, when it moved since. */
static const char *address_of(const struct remote *r)
{
    bool by_membership = r->address && (!r->said_address || r->attempts % 2);
    return by_membership ? r->address : r->said_address;
}

static bool is_wanted(const struct remote *r)
{
    return r->member || (r->in && r->in->open);
}

void transport_trouble(struct remote *r, const char *why)
{
    if (!strncmp(r->trouble, why, sizeof r->trouble - 1))
        return;
    snprintf(r->trouble, sizeof r->trouble, "%s", why);
    LOG_W("no connection to a server", "id", LOG_U64(r->id), "address", address_of(r) ? address_of(r) : "?", "why", why);
}

void transport_refused(struct transport *t, const char *peer, const char *why)
{
    uint64_t unsaid;
    t->network.refused++;
    if (log_limit_allows(&t->refusals, time_monotonic_ms(), &unsaid))
        LOG_W("a server is refused", "peer", peer, "why", why, "not_told", LOG_U64(unsaid));
}

void transport_met(struct transport *t, struct remote *r, const struct wire_greeting *g)
{
    mem_set_string(&r->release, g->release);
    r->command_version = g->command_version;
    if (*g->address && (!r->said_address || strcmp(r->said_address, g->address) != 0))
        mem_set_string(&r->said_address, g->address);
    r->attempts = 0;
    if (!r->out)
        r->dial_ms = r->backoff_ms = 0;     /* it is up: try at once */
}

struct wire_greeting transport_greeting(const struct transport *t, uint64_t to)
{
    struct wire_greeting g = {.cluster_id = t->cluster_id, .from = t->server_id, .to = to,
                              .command_version = t->options.command_version};
    snprintf(g.address, sizeof g.address, "%s", t->address);
    snprintf(g.release, sizeof g.release, "%s", t->release);
    return g;
}

static void dial(struct transport *t, struct remote *r, uint64_t now)
{
    struct address address;
    struct error err;
    r->backoff_ms = r->backoff_ms ? r->backoff_ms * 2 : BACKOFF_MIN_MS;
    if (r->backoff_ms > BACKOFF_MAX_MS)
        r->backoff_ms = BACKOFF_MAX_MS;
    uint64_t jitter;
    random_system(&jitter, sizeof jitter);
    r->dial_ms = now + r->backoff_ms / 2 + jitter % r->backoff_ms;
    if (address_parse(address_of(r), -1, &address, &err) < 0)
        transport_trouble(r, err.text);
    else
        connection_dial(t, r, &address);
    r->attempts++;
}

void transport_lost(struct connection *c)
{
    struct transport *t = c->transport;
    struct remote *r = c->remote;
    bool was_up = c->open && c->dialled;
    LIST_REMOVE(c, next);
    if (!c->dialled && !c->open)
        t->strangers--;
    if (r && r->out == c)
        r->out = NULL;
    if (r && r->in == c)
        r->in = NULL;
    buf_free(&c->in);
    free(c);
    if (was_up && !t->closing) {
        LOG_I("lost the connection to a server", "id", LOG_U64(r->id));
        t->options.callbacks->down(t->options.ctx, r->id);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct transport *t = timer->data;
    uint64_t now = transport_now_ms(t);
    struct connection *c;
    LIST_FOREACH(c, &t->connections, next)
        connection_tick(c, now);
    struct remote *r, *next;
    for (r = LIST_FIRST(&t->remotes); r; r = next) {
        next = LIST_NEXT(r, next);
        if (is_wanted(r) && !r->out && address_of(r) && now >= r->dial_ms)
            dial(t, r, now);
        else if (!is_wanted(r) && r->out)
            connection_close(r->out);
        else if (!is_wanted(r) && !r->in)
            free_remote(r);
    }
    if (LIST_EMPTY(&t->connections) && LIST_EMPTY(&t->remotes))
        uv_timer_stop(timer);
}

/* A server that is alone has nothing to look after, and sleeps. */
void transport_look_after(struct transport *t)
{
    if (t->address && !t->closing && !uv_is_active((uv_handle_t *)&t->timer))
        uv_timer_start(&t->timer, on_timer, 0, TICK_MS);
}

/* --- the network --- */

static struct transport *of_network(struct network *network)
{
    return container_of(network, struct transport, network);
}

static struct connection *way_to(const struct transport *t, uint64_t id)
{
    const struct remote *r = find(t, id);
    return r && r->out && r->out->open && !stream_closing(r->out->stream) ? r->out : NULL;
}

static void net_send(struct network *network, uint64_t to, struct buf *message)
{
    struct connection *c = way_to(of_network(network), to);
    if (c)
        connection_send(c, WIRE_MESSAGE, message);
    else
        buf_free(message);
}

static size_t net_room(struct network *network, uint64_t to)
{
    struct connection *c = way_to(of_network(network), to);
    size_t waits = c ? stream_pending(c->stream) : ROOM_BYTES;
    if (waits < ROOM_BYTES)
        return ROOM_BYTES - waits;
    if (c)
        c->was_full = true;
    return 0;
}

static struct network_peer net_peer(struct network *network, uint64_t id)
{
    const struct transport *t = of_network(network);
    const struct remote *r = find(t, id);
    if (!r)
        return (struct network_peer){0};
    return (struct network_peer){.connected = way_to(t, id), .release = r->release, .address = r->said_address,
                                 .command_version = r->command_version};
}

static void net_want(struct network *network, const struct membership *membership)
{
    struct transport *t = of_network(network);
    struct remote *r;
    LIST_FOREACH(r, &t->remotes, next)
        r->member = false;
    for (size_t i = 0; i < membership->n; i++) {
        if (membership->members[i].id == t->server_id)
            continue;
        r = transport_remote(t, membership->members[i].id);
        r->member = true;
        mem_set_string(&r->address, membership->members[i].address);
    }
}

struct network *transport_network(struct transport *t) { return &t->network; }
int transport_port(const struct transport *t) { return t->port; }

/* --- life --- */

static void on_connection(uv_stream_t *listener, int status)
{
    struct transport *t = listener->data;
    if (status < 0 || t->closing)
        return;
    if (t->strangers < STRANGERS_MAX) {
        connection_accept(t);
        return;
    }
    /* Too many that say nothing: the newest goes. */
    struct stream *s = stream_accept(listener, t->shared, NULL, NULL, NULL);
    if (s)
        stream_close(s);
}

static int listen_on(struct transport *t, struct error *err)
{
    struct address a;
    struct sockaddr_storage sa;
    const char *text = t->options.listen;
    if (address_parse(text, -1, &a, err) < 0)
        return -1;
    if (address_sockaddr(&a, &sa, err) < 0)
        return -1;
    int status = uv_tcp_bind(&t->listener, (const struct sockaddr *)&sa, 0);
    if (status == 0)
        status = uv_listen((uv_stream_t *)&t->listener, BACKLOG, on_connection);
    int len = sizeof sa;
    if (status == 0)
        status = uv_tcp_getsockname(&t->listener, (struct sockaddr *)&sa, &len);
    if (status < 0)
        return error_set_errno(err, status, "listening for other servers on %s", text);
    t->port = ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port
                                             : ((struct sockaddr_in *)&sa)->sin_port);
    return 0;
}

int transport_open(struct transport **out, const struct transport_options *options, struct error *err)
{
    if (!options->tls && !options->insecure)
        return error_set(err, ERROR_INVALID, "servers need certificates to speak to each other on %s; without, that must be "
                         "allowed explicitly", options->listen);
    signal(SIGPIPE, SIG_IGN);   /* a write to a closed connection shall be an error, not the end */
    struct transport *t = NEW(struct transport);
    t->options = *options;
    if (options->tls)
        tls_context_hold(options->tls);
    t->release = mem_strdup(options->release ? options->release : "");
    t->network = (struct network){.send = net_send, .room = net_room, .peer = net_peer, .want = net_want};
    t->shared = stream_shared_new();
    LIST_INIT(&t->remotes);
    LIST_INIT(&t->connections);
    uv_tcp_init(options->loop, &t->listener);
    uv_timer_init(options->loop, &t->timer);
    t->listener.data = t->timer.data = t;
    t->open_handles = 2;
    if (listen_on(t, err) < 0) {
        transport_close(t, NULL, NULL);
        return -1;
    }
    *out = t;
    return 0;
}

void transport_begin(struct transport *t, uint64_t cluster_id, uint64_t server_id, const char *address)
{
    t->cluster_id = cluster_id;
    t->server_id = server_id;
    t->address = mem_strdup(address);
    transport_look_after(t);
}

static void finish_closing(struct transport *t)
{
    void (*closed)(void *ctx) = t->closed;
    void *ctx = t->ctx;
    while (!LIST_EMPTY(&t->remotes))
        free_remote(LIST_FIRST(&t->remotes));
    stream_shared_release(t->shared);
    tls_context_free(t->options.tls);
    free(t->release);
    free(t->address);
    free(t);
    if (closed)
        closed(ctx);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct transport *t = handle->data;
    if (--t->open_handles == 0)
        finish_closing(t);
}

/* The timer goes last: when its callback comes, no connection is left. */
static void close_timer_when_alone(uv_timer_t *timer)
{
    struct transport *t = timer->data;
    if (LIST_EMPTY(&t->connections))
        uv_close((uv_handle_t *)timer, on_handle_closed);
}

void transport_close(struct transport *t, void (*closed)(void *ctx), void *ctx)
{
    t->closing = true;
    t->closed = closed;
    t->ctx = ctx;
    struct connection *c;
    LIST_FOREACH(c, &t->connections, next)
        connection_close(c);
    uv_close((uv_handle_t *)&t->listener, on_handle_closed);
    uv_timer_start(&t->timer, close_timer_when_alone, 0, 1);
}
