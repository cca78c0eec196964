/* Opening streams. Connecting: name → addresses → one attempt after the other, each with a fresh socket in the same
 * handle → stream_start. The lookup and the attempt outlive a stream that is closed meanwhile: they hold only
 * `struct connecting`, whose stream pointer is cleared then. */
#include "net/stream_open.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "net/stream_impl.h"

#define MAX_ATTEMPTS 8

struct connecting {
    struct stream *stream;          /* NULL when it was closed */
    uv_getaddrinfo_t lookup;
    uv_connect_t connect;
    struct sockaddr_storage addresses[MAX_ATTEMPTS];
    size_t count, next;
    bool busy;                      /* a lookup or an attempt will call back */
    int last_status;
    struct address address;
    struct tls_context *tls;
    char *verify_name;
};

static void connecting_free(struct connecting *c)
{
    tls_context_free(c->tls);
    free(c->verify_name);
    free(c);
}

void stream_connect_forget(struct stream *s)
{
    struct connecting *c = s->connecting;
    s->connecting = NULL;
    if (!c)
        return;
    c->stream = NULL;
    if (!c->busy)
        connecting_free(c);
}

/* ---- Accepting ---- */

static char *peer_text(struct stream *s)
{
    if (s->uv.handle.type != UV_TCP)
        return mem_strdup("unix");
    struct sockaddr_storage a;
    int len = sizeof a;
    char host[INET6_ADDRSTRLEN] = "?";
    if (uv_tcp_getpeername(&s->uv.tcp, (struct sockaddr *)&a, &len))
        return mem_strdup("?");
    if (a.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&a;
        uv_ip6_name(v6, host, sizeof host);
        return mem_printf("[%s]:%d", host, ntohs(v6->sin6_port));
    }
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&a;
    uv_ip4_name(v4, host, sizeof host);
    return mem_printf("%s:%d", host, ntohs(v4->sin_port));
}

struct stream *stream_accept(uv_stream_t *listener, struct stream_shared *shared, struct tls_context *tls,
                             const struct stream_handlers *handlers, void *arg)
{
    struct stream *s = stream_new(shared, handlers, arg);
    if (listener->type == UV_TCP)
        uv_tcp_init(listener->loop, &s->uv.tcp);
    else
        uv_pipe_init(listener->loop, &s->uv.pipe, 0);
    s->uv.handle.data = s;
    if (uv_accept(listener, &s->uv.stream)) {
        s->peer = mem_strdup("nobody");
        stream_set_handlers(s, NULL, NULL);
        stream_close(s);
        return NULL;
    }
    s->peer = peer_text(s);
    s->secure = tls;
    stream_start(s, tls, true, NULL);
    return s;
}

/* ---- Connecting ---- */

static void try_next(struct stream *s);

static void fail(struct stream *s, int status)
{
    struct error err;
    /* Each of these leaves the peer untouched, whatever the code of the number alone would be. */
    error_set(&err, status == UV_ECANCELED ? ERROR_CANCELLED : status == UV_ETIMEDOUT ? ERROR_TIMEOUT
              : ERROR_UNAVAILABLE, "connecting to %s: %s", s->peer, uv_strerror(status));
    stream_fail(s, &err);
}

static void on_attempt_closed(uv_handle_t *handle)
{
    struct stream *s = handle->data;
    if (s->closing) {
        stream_close_finish(s);
        return;
    }
    uv_tcp_init(handle->loop, &s->uv.tcp);
    s->uv.handle.data = s;
    try_next(s);
}

static void on_connected(uv_connect_t *req, int status)
{
    struct connecting *c = container_of(req, struct connecting, connect);
    struct stream *s = c->stream;
    c->busy = false;
    if (!s) {
        connecting_free(c);
        return;
    }
    if (status && c->next < c->count) {
        c->last_status = status;
        uv_close(&s->uv.handle, on_attempt_closed);
    } else if (status) {
        fail(s, status);
    } else {
        s->connecting = NULL;
        stream_start(s, c->tls, false, c->verify_name);
        bool plain = !c->tls;
        connecting_free(c);
        if (plain && !s->closing && s->handlers && s->handlers->on_open)
            s->handlers->on_open(s, s->arg);
    }
}

static void try_next(struct stream *s)
{
    struct connecting *c = s->connecting;
    while (c->next < c->count) {
        const struct sockaddr *a = (const struct sockaddr *)&c->addresses[c->next++];
        int status = uv_tcp_connect(&c->connect, &s->uv.tcp, a, on_connected);
        if (!status) {
            c->busy = true;
            return;
        }
        c->last_status = status;
    }
    fail(s, c->last_status ? c->last_status : UV_EAI_NONAME);
}

static void add_address(struct connecting *c, const void *a, size_t len)
{
    if (c->count < MAX_ATTEMPTS && len <= sizeof c->addresses[0])
        memcpy(&c->addresses[c->count++], a, len);
}

static void on_found(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct connecting *c = container_of(req, struct connecting, lookup);
    struct stream *s = c->stream;
    c->busy = false;
    for (struct addrinfo *a = found; a && !status; a = a->ai_next) {
        if (a->ai_family == AF_INET)
            ((struct sockaddr_in *)(void *)a->ai_addr)->sin_port = htons((uint16_t)c->address.port);
        else if (a->ai_family == AF_INET6)
            ((struct sockaddr_in6 *)(void *)a->ai_addr)->sin6_port = htons((uint16_t)c->address.port);
        else
            continue;
        add_address(c, a->ai_addr, a->ai_addrlen);
    }
    uv_freeaddrinfo(found);
    if (!s)
        connecting_free(c);
    else if (status)
        fail(s, status);
    else
        try_next(s);
}

static bool add_literal(struct connecting *c, const char *host)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (!uv_ip4_addr(host, c->address.port, &v4))
        return add_address(c, &v4, sizeof v4), true;
    if (!uv_ip6_addr(host, c->address.port, &v6))
        return add_address(c, &v6, sizeof v6), true;
    return false;
}

static void begin(struct stream *s)
{
    struct connecting *c = s->connecting;
    const char *host = c->address.host;
    if (c->address.is_unix) {
        c->busy = true;
        uv_pipe_connect(&c->connect, &s->uv.pipe, host, on_connected);
        return;
    }
    if (!strcasecmp(host, "localhost")) {
        /* RFC 6761: always this host; needs no lookup, which a chroot may not have. */
        add_literal(c, "127.0.0.1");
        add_literal(c, "::1");
    } else if (!add_literal(c, host)) {
        struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
        int status = uv_getaddrinfo(s->uv.handle.loop, &c->lookup, on_found, host, NULL, &hints);
        c->busy = !status;
        if (status)
            fail(s, status);
        return;
    }
    try_next(s);
}

struct stream *stream_connect(uv_loop_t *loop, const struct address *address, struct stream_shared *shared,
                              struct tls_context *tls, const char *verify_name,
                              const struct stream_handlers *handlers, void *arg)
{
    struct stream *s = stream_new(shared, handlers, arg);
    char text[ADDRESS_TEXT_SIZE];
    address_format(text, address);
    s->peer = mem_strdup(text);
    s->secure = tls;
    if (address->is_unix)
        uv_pipe_init(loop, &s->uv.pipe, 0);
    else
        uv_tcp_init(loop, &s->uv.tcp);
    s->uv.handle.data = s;
    struct connecting *c = NEW(struct connecting);
    c->stream = s;
    c->address = *address;
    c->tls = tls ? tls_context_hold(tls) : NULL;
    c->verify_name = mem_strdup(verify_name);
    s->connecting = c;
    begin(s);
    return s;
}
