/* HTTP client: HTTP/1.1 on one libuv loop, over TCP, unix sockets and TLS, with kept-alive connections.
 * Each call uses a connection of its own for its time; finished ones return to a pool. All on the loop's thread.
 *
 * A call: start → [on_head] → on_data… → on_done; or → on_upgrade; or, any time, → on_done with an error.
 * on_done or on_upgrade is the last callback; the call is gone when it returns. No callback comes from inside
 * http_call_start, and none after http_call_cancel. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/error.h"
#include "net/http.h"
#include "net/stream.h"
#include "net/tls.h"

struct http_client;
struct http_call;

/* Zero means the default in brackets. */
struct http_client_options {
    struct tls_context *tls;        /* for https targets; the client keeps a reference */
    const char *server_name;        /* the name that a server's certificate must carry; NULL: the target's host */
    int64_t connect_timeout_ms;     /* [5000] DNS, TCP and TLS together */
    int64_t keep_ms;                /* [30000] how long an unused connection is kept */
    size_t keep_per_target;         /* [8] unused connections kept */
};

struct http_client *http_client_new(uv_loop_t *loop, const struct http_client_options *options);
/* Cancels all calls (without callbacks) and closes everything; handles end when the loop runs on. on_closed (may be
 * NULL) is called from the loop when nothing of the client is left. Upgraded streams live on. No calls may be
 * started after this. */
void http_client_close(struct http_client *client, void (*on_closed)(void *arg), void *arg);

struct http_response {
    int status;
    struct http_headers headers;
    struct buf body;                /* only when the call has no on_data; may be taken with buf_steal */
};

struct http_call_options {
    enum http_method method;
    const char *target;             /* "http://host:port", "https://host:port", "unix:/path/to.sock" */
    const char *server_name;        /* the name that its certificate must carry; NULL: the client's, or the target's host */
    const char *path;               /* "/v1/jobs?x=y", encoded already */
    const struct http_header *headers;  /* Host, Content-Length and Connection are added; Upgrade makes an upgrade */
    size_t header_count;
    const void *body;               /* copied */
    size_t body_len;
    bool secret;                    /* the bodies hold a secret: see buf.h */
    size_t response_limit;          /* [64 MiB] of a collected body; beyond: ERROR_TOO_LARGE */
    int64_t response_timeout_ms;    /* [none] from the request sent to the head of the answer */
    int64_t idle_timeout_ms;        /* [none] between pieces of the answer's body */
    /* Callbacks; only on_done is mandatory (and on_upgrade with an Upgrade header). */
    void (*on_head)(struct http_call *call, const struct http_response *res, void *arg);
    void (*on_data)(struct http_call *call, const char *data, size_t len, void *arg);
    /* err NULL: the answer is complete, whatever its status. With err, res may be NULL (no head had come). Error codes:
     * UNAVAILABLE nothing reached the peer (refused, unreachable, no such name), TIMEOUT, UNKNOWN_OUTCOME the
     * connection broke after the request was sent, TOO_LARGE, CORRUPT not HTTP, DENIED the peer's certificate. */
    void (*on_done)(struct http_call *call, struct http_response *res, const struct error *err, void *arg);
    /* 101 came: the stream is the callback's, paused, and delivers bytes that followed the head first. */
    void (*on_upgrade)(struct http_call *call, struct http_response *res, struct stream *stream, void *arg);
    void *arg;
};

/* Never NULL: whatever is wrong comes through on_done. */
struct http_call *http_call_start(struct http_client *client, const struct http_call_options *options);
/* Ends the call now; its connection is closed unless it was not used yet. */
void http_call_cancel(struct http_call *call);
/* Backpressure: no on_data until resumed; not from inside resume. idle_timeout_ms rests while paused. */
void http_call_pause(struct http_call *call);
void http_call_resume(struct http_call *call);
/* What an answer that is no success says, for body {"error":{"code","message"}}; else its status. Sets err. */
void http_refusal(int status, const struct buf *body, struct error *err);
