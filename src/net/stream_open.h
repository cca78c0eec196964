/* Making streams: for the HTTP server and client, which own the shared buffer of their loop. */
#pragma once
#include <stdint.h>
#include <uv.h>

#include "net/address.h"
#include "net/stream.h"
#include "net/tls.h"

/* The memory that arriving bytes are read into: one for all streams of an owner, because each read is passed on
 * before the next one begins. An idle connection then needs none of its own. */
struct stream_shared {
    unsigned refs;
    char raw[64 * 1024];
    char plain[16 * 1024 + 256];    /* one TLS record */
};
struct stream_shared *stream_shared_new(void);
struct stream_shared *stream_shared_hold(struct stream_shared *shared);
void stream_shared_release(struct stream_shared *shared);

/* Accepts one connection of a listener; NULL when there is none (any more). Reading is paused; with TLS the handshake
 * begins at once, and on_open tells when it is done. Without TLS the stream is open when this returns. */
struct stream *stream_accept(uv_stream_t *listener, struct stream_shared *shared, struct tls_context *tls,
                             const struct stream_handlers *handlers, void *arg);

/* Connects: names are looked up, their addresses tried in turn. on_open, or on_close with the reason. verify_name is
 * what the server's certificate must carry (host name or IP address); only with tls. */
struct stream *stream_connect(uv_loop_t *loop, const struct address *address, struct stream_shared *shared,
                              struct tls_context *tls, const char *verify_name,
                              const struct stream_handlers *handlers, void *arg);
bool stream_is_open(const struct stream *s);

/* Bytes that the next reader gets first; takes over the buffer. */
void stream_unread(struct stream *s, struct buf *b);
/* Between these, writes are gathered into one. */
void stream_cork(struct stream *s);
void stream_uncork(struct stream *s);
/* All bytes ever passed to the kernel: whether a slow peer makes progress. */
uint64_t stream_written(const struct stream *s);
/* Closes with this reason: on_close gets it. The first reason wins. */
void stream_fail(struct stream *s, const struct error *err);

struct tls_peer *tls_peer_hold(const struct tls_peer *peer);
void tls_peer_release(struct tls_peer *peer);
