/* Transport: the real network: TCP, with mutually authenticated TLS 1.3 or, where that is allowed, without. Each server
 * dials each one it wants; who was dialled by a server it does not know yet dials back.
 *
 * A certificate binds a server to its id: it carries the alternative name "DNS:ID.server.mentat". */
#pragma once
#include <uv.h>

#include "consensus/network.h"
#include "net/tls.h"

struct transport;

struct transport_callbacks {
    /* A message of a server that proved who it is. -1 with err: it is refused, the connection is closed. */
    int (*message)(void *ctx, uint64_t from, const void *bytes, size_t len, struct error *err);
    void (*up)(void *ctx, uint64_t id);
    void (*down)(void *ctx, uint64_t id);
    void (*room)(void *ctx, uint64_t id);
    bool (*is_member)(void *ctx, uint64_t id);
};

struct transport_options {
    uv_loop_t *loop;
    const char *listen;         /* "host:port" */
    struct tls_context *tls;    /* NULL: plain, if insecure says that this is meant */
    bool insecure;
    const char *release;
    unsigned command_version;
    const struct transport_callbacks *callbacks;
    void *ctx;
};

/* Listens, but accepts nobody yet. */
int transport_open(struct transport **out, const struct transport_options *options, struct error *err);
int transport_port(const struct transport *t);
/* From now on callbacks are called. address: where others are to dial this server. */
void transport_begin(struct transport *t, uint64_t cluster_id, uint64_t server_id, const char *address);
/* Closes everything and frees it, then calls closed on the loop. No callbacks any more. */
void transport_close(struct transport *t, void (*closed)(void *ctx), void *ctx);

struct network *transport_network(struct transport *t);
