/* Stream: a duplex byte stream on a libuv loop: TCP or unix socket, with or without TLS. Upgraded HTTP connections
 * are handed out as one. All calls belong on the loop's thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/error.h"

struct stream;
struct tls_peer;

/* Callbacks; any may be NULL. Each may call any stream function, stream_close included.
 *   on_read   bytes arrived; they are borrowed for the time of the call
 *   on_eof    the peer ended its direction; ours stays open until stream_end or stream_close
 *   on_drain  pending bytes fell to zero after a write could not be passed on at once
 *   on_close  the last call ever for this stream, never from inside stream_close itself. err is NULL after
 *             stream_close, else why it broke. The stream is freed when it returns.
 *   on_open   connected, and TLS shaken hands; only for who opens streams: one that is handed out is open */
struct stream_handlers {
    void (*on_read)(struct stream *s, void *arg, const char *data, size_t len);
    void (*on_eof)(struct stream *s, void *arg);
    void (*on_drain)(struct stream *s, void *arg);
    void (*on_close)(struct stream *s, void *arg, const struct error *err);
    void (*on_open)(struct stream *s, void *arg);
};

/* Replaces the callbacks. `handlers` must stay valid (a static const table). A stream that is handed out is paused. */
void stream_set_handlers(struct stream *s, const struct stream_handlers *handlers, void *arg);

/* Reading starts and stops here; on_read and on_eof are never called from inside these. Stopping gives backpressure:
 * the peer's window fills. A paused stream does not notice that its peer is gone until it writes. */
void stream_read_start(struct stream *s);
void stream_read_stop(struct stream *s);

/* Copies what the kernel does not take at once. Dropped when the stream is closing. */
void stream_write(struct stream *s, const void *data, size_t len);
/* As stream_write, but takes over the buffer's memory, without a copy of it where it is secret; *b is empty afterwards. */
void stream_write_buf(struct stream *s, struct buf *b);
/* Bytes accepted and not yet in the kernel. Stop producing beyond some limit, go on in on_drain. */
size_t stream_pending(const struct stream *s);

/* Ends our direction after what is pending (TLS close_notify and TCP FIN). Reading goes on. */
void stream_end(struct stream *s);
/* Closes both directions now, drops what is pending, then calls on_close (later, from the loop). May be repeated. */
void stream_close(struct stream *s);
bool stream_closing(const struct stream *s);

/* "127.0.0.1:51234", "[::1]:51234" or "unix"; lives as long as the stream. */
const char *stream_peer(const struct stream *s);
/* Who the peer proved to be; NULL without TLS or without a certificate. Lives as long as the stream. */
const struct tls_peer *stream_tls_peer(const struct stream *s);
