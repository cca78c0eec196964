/* The inside of a stream, shared by stream.c (bytes) and stream_open.c (accepting and connecting). */
#pragma once
#include <sys/queue.h>
#include <uv.h>

#include "base/buf.h"
#include "base/error.h"
#include "net/stream_open.h"

struct chunk {
    TAILQ_ENTRY(chunk) entry;
    struct buf bytes;
    size_t from;
};
TAILQ_HEAD(chunk_list, chunk);

enum stream_state {
    STREAM_CONNECTING,
    STREAM_HANDSHAKE,
    STREAM_OPEN,
};

struct stream {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    enum stream_state state;
    bool secure;            /* TLS from the first byte, even before there is a session */
    bool closing;
    bool reading;           /* wanted by the user */
    bool uv_reading;        /* libuv reads */
    bool tls_paused;        /* reading stopped: the session may hold plain bytes */
    bool eof;
    bool ending;            /* stream_end was called */
    bool ended;             /* and carried out */
    bool corked;
    int write_failed;       /* uv status */
    unsigned open_handles;
    const struct stream_handlers *handlers;
    void *arg;
    struct stream_shared *shared;
    struct chunk_list queue;
    size_t queued;          /* bytes in queue */
    uint64_t written;
    uv_write_t *in_flight;
    struct buf unread;
    struct buf raw_left;
    struct buf early_out;
    uv_idle_t *kick;
    struct tls_session *tls;
    struct tls_peer *tls_peer;
    struct connecting *connecting;
    struct error *why;
    char *peer;
};

struct stream *stream_new(struct stream_shared *shared, const struct stream_handlers *handlers, void *arg);
/* The socket is connected: TLS, or open. */
void stream_start(struct stream *s, struct tls_context *tls, bool listening, const char *verify_name);
void stream_flush(struct stream *s);
/* The last handle is closed (only for who closed it with a callback of his own). */
void stream_close_finish(struct stream *s);
/* Lets go of a lookup or connect that is under way; its callbacks then find no stream. */
void stream_connect_forget(struct stream *s);
