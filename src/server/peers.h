/* Peers: small calls of the core thread to the APIs of other servers. */
#pragma once
#include "net/http.h"
#include "server/control.h"

/* status 0: nothing usable came, err says why. body: the answer's, valid during the call. */
typedef void peer_done(void *ctx, int status, const struct buf *body, const struct error *err);

/* address: host:port, or a whole target. body NULL: none. Exactly one done(), from the loop; none after peers_close. */
void peer_call(struct control *c, enum http_method method, const char *address, const char *path, const struct buf *body,
               int64_t timeout_ms, peer_done *done, void *ctx);

void peers_open(struct control *c, struct tls_context *tls);
void peers_close(struct control *c);
