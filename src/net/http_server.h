/* HTTP server: HTTP/1.1 on one libuv loop over TCP, unix sockets and TLS. One instance for each loop; several
 * loops may serve one port. A request reaches its handler whole (head and body); the answer may come any time later.
 *
 * The contract of a request: the handler owns it from on_request until it ends it, once, by http_respond*,
 * http_stream_end, http_stream_abort, http_request_drop or http_upgrade; then it is gone. If the connection dies
 * earlier, the request stays valid, on_close tells, and the answer goes nowhere. All calls on the loop's thread. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/error.h"
#include "net/address.h"
#include "net/http.h"
#include "net/stream.h"
#include "net/tls.h"

struct http_server;

/* Read-only for handlers, but for the last block. */
struct http_request {
    enum http_method method;
    const char *target;             /* as sent: "/v1/jobs/a%20b?index=3" */
    char **segments;                /* the decoded parts of the path: "v1", "jobs", "a b"; "/" has none */
    size_t segment_count;
    struct http_headers query;      /* decoded parameters in order; "?follow" has the value "" */
    struct http_headers headers;
    struct buf body;                /* may be taken out with buf_steal; one of known, small size is secret at first (buf.h) */
    const char *peer;               /* "127.0.0.1:51234" or "unix" */
    const struct tls_peer *tls;     /* NULL without a client certificate */
    bool wants_upgrade;             /* Connection: upgrade, with an Upgrade header */

    void *data;                     /* the handler's own */
    void (*on_close)(struct http_request *req);   /* the connection died before the answer was complete; once */
    void (*on_drain)(struct http_request *req);   /* streaming: pending bytes fell to zero */
};

/* Zero means the default in brackets. Times in milliseconds. */
struct http_server_options {
    void (*on_request)(struct http_request *req, void *arg);
    /* Called when the head is complete: how many body bytes this request may have; NULL: body_limit for all. */
    size_t (*body_limit_of)(const struct http_request *req, void *arg);
    /* Called when the head is complete. -1 refuses the request unread with that status and err, and closes; NULL: never. */
    int (*check)(const struct http_request *req, void *arg, int *status, struct error *err);
    void *arg;
    atomic_uint_fast64_t *refused;  /* NULL, or: counts connections whose handshake failed; any thread may read it */
    size_t max_connections;         /* [10000] beyond: 503 and close */
    size_t max_per_address;         /* [max_connections] of one address (address_holder): the same */
    size_t header_limit;            /* [16384] beyond: 431 */
    size_t target_limit;            /* [8192] beyond: 414 */
    size_t body_limit;              /* [4 MiB] beyond: 413 and close */
    int64_t header_timeout_ms;      /* [10000] from the first byte to the end of the head, TLS handshake too: 408 */
    int64_t body_timeout_ms;        /* [10000] in each such span at least body_rate bytes per second must arrive: 408 */
    size_t body_rate;               /* [1024] */
    int64_t idle_timeout_ms;        /* [75000] between requests */
    int64_t write_timeout_ms;       /* [30000] without progress while bytes are pending: closed */
};

struct http_server *http_server_new(uv_loop_t *loop, const struct http_server_options *options);

/* Listens on an address; may be called several times. tls may be NULL; the server keeps a reference. Port 0 takes a
 * free one. TCP sockets have SO_REUSEPORT when reuse_port is set, so that other loops can listen on the same port.
 * A stale unix socket file is replaced; a live one is an error. unix_mode 0 leaves the file's mode to the umask. */
struct http_listen_options {
    struct tls_context *tls;
    bool reuse_port;
    int unix_mode;
};
int http_server_listen(struct http_server *server, const struct address *address,
                       const struct http_listen_options *options, struct error *err);
/* The port of the first TCP listener, 0 when there is none. */
int http_server_port(const struct http_server *server);
size_t http_server_connections(const struct http_server *server);

/* Stops listening, closes idle connections, lets active requests finish until grace_ms have passed, then closes all
 * and calls on_stopped from the loop; the server is freed when that returns. Requests still held by handlers stay
 * valid (see the contract). Streaming responses and upgraded streams: on_close is the sign at the deadline; upgraded
 * streams are their owner's and are not closed by this. */
void http_server_stop(struct http_server *server, int64_t grace_ms, void (*on_stopped)(void *arg), void *arg);

/* ---- What a request carries ---- */

const char *http_request_header(const struct http_request *req, const char *name);   /* NULL when absent */
const char *http_request_query(const struct http_request *req, const char *name);    /* NULL when absent */
/* False once the connection died. */
bool http_request_alive(const struct http_request *req);

/* ---- Whole answers. headers: `count` rows, copied; Content-Length, Connection and Date are added. ---- */

/* Takes over body's memory (body may be NULL); *body is empty afterwards. */
void http_respond(struct http_request *req, int status, const struct http_header *headers, size_t count,
                  struct buf *body);
/* One Content-Type header and a copy of text; content_type NULL: no body (204). */
void http_respond_text(struct http_request *req, int status, const char *content_type, const char *text);
/* {"error":{"code","message"}} with the code's status. */
void http_respond_error(struct http_request *req, const struct error *err);
/* Closes the connection without an answer. */
void http_request_drop(struct http_request *req);

/* ---- Streaming answers: begin, write…, end. Chunked for HTTP/1.1, until close for 1.0. ---- */

enum http_stream_kind {
    HTTP_STREAM_FINITE,     /* a peer that half-closed still gets all of it */
    HTTP_STREAM_ENDLESS,    /* events, followed logs: a peer that half-closes is gone, on_close is called */
};
void http_stream_begin(struct http_request *req, int status, const struct http_header *headers, size_t count,
                       enum http_stream_kind kind);
/* Returns the bytes now pending; above some limit wait for on_drain. Nothing happens for len 0. */
size_t http_stream_write(struct http_request *req, const void *data, size_t len);
size_t http_stream_pending(const struct http_request *req);
void http_stream_end(struct http_request *req);
/* Cuts the connection, so that the peer sees that the answer is not complete. */
void http_stream_abort(struct http_request *req);

/* ---- Upgrade ---- */

/* Answers 101 with `Upgrade: protocol` and these headers, and hands over the connection as a paused stream, which
 * delivers the bytes that followed the request first: set handlers, then stream_read_start. NULL when the connection
 * is dead already. The request is gone either way. */
struct stream *http_upgrade(struct http_request *req, const char *protocol, const struct http_header *headers,
                            size_t count);
