/* The inside of the HTTP server: connections and requests, shared by http_server.c (listening, stopping),
 * http_conn.c (reading, timeouts) and http_respond.c (answers). */
#pragma once
#include <sys/queue.h>
#include <time.h>
#include <uthash.h>
#include <uv.h>

#include "base/log.h"
#include "net/deadline.h"
#include "net/http_parse.h"
#include "net/http_server.h"
#include "net/stream_open.h"

enum conn_phase {
    CONN_IDLE,      /* nothing of a next request has come */
    CONN_HEAD,
    CONN_BODY,
    CONN_ANSWER,    /* the handler has it; what else arrives waits in backlog */
    CONN_LINGER,    /* our last bytes are on their way; what arrives is thrown away until the peer ends */
};

struct request {
    struct http_request pub;
    struct conn *conn;          /* NULL once the connection died */
    struct http_head head;
    size_t limit;               /* of the body */
    bool handed;                /* the handler owns it */
    bool too_large;
    bool begun;                 /* streaming */
    bool chunked;
    bool endless;
};

/* How many connections an address has. */
struct holder {
    char address[ADDRESS_HOLDER_SIZE];
    size_t count;
    UT_hash_handle hh;
};

struct conn {
    TAILQ_ENTRY(conn) entry;
    struct holder *holder;      /* NULL: beyond the limit of connections; not counted */
    struct http_server *server;
    struct stream *stream;
    struct http_parse *parse;   /* NULL while idle */
    struct request *req;        /* being received or answered */
    struct buf backlog;
    enum conn_phase phase;
    bool keep_alive;
    bool peer_ended;
    bool shaking;               /* TLS: hands */
    bool feeding;               /* conn_feed is on the stack, and writes are gathered */
    bool told_pending;          /* a handler heard of pending bytes, and waits for on_drain */
    bool *gone;                 /* set when the connection is handed over while the handler is on the stack */
    struct deadline reading, writing;
    uint64_t write_mark;        /* stream_written when the write deadline was set */
    size_t body_mark;           /* body bytes when the body deadline was set */
    size_t lingered;
};
TAILQ_HEAD(conn_list, conn);

struct listener {
    LIST_ENTRY(listener) entry;
    struct http_server *server;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    struct tls_context *tls;
    int port;
};
LIST_HEAD(listener_list, listener);

struct http_server {
    uv_loop_t *loop;
    struct http_server_options options;
    struct stream_shared *shared;
    struct deadlines deadlines;
    struct conn_list conns;
    struct holder *holders;
    size_t conn_count, refused_count;
    struct log_limit refusals;
    struct listener_list listeners;
    unsigned open_listeners;    /* until their close callbacks */
    int port;
    bool stopping;
    struct deadline grace;
    void (*on_stopped)(void *arg);
    void *stopped_arg;
    time_t date_second;
    char date[40];
};

/* http_server.c */
void http_server_maybe_stopped(struct http_server *server);
/* http_conn.c */
void conn_accept(struct listener *listener);
void conn_free(struct conn *c);
/* Bytes were written: watches a peer that does not take them. */
void conn_wrote(struct conn *c);
/* The answer is complete: the next request, or the end. */
void conn_next(struct conn *c);
/* Ends our direction, then waits a little for the peer, so that it gets our last bytes before the reset. */
void conn_finish(struct conn *c);
/* http_respond.c */
void http_request_free(struct request *r);
/* An answer from the server itself, after which the connection ends. */
void conn_refuse(struct conn *c, int status, const char *why);
