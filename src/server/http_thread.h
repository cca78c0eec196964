/* HTTP thread: a loop of its own with connections, TLS, parsing, and calls to agents. Several serve one port. */
#pragma once
#include <sys/queue.h>
#include <uv.h>

#include "net/http_client.h"
#include "net/http_server.h"
#include "net/tls.h"
#include "server/control.h"
#include "server/metrics.h"
#include "server/rate_limit.h"
#include "server/request.h"
#include "server/splice.h"

struct http_thread;

struct http_thread_options {
    const struct server_config *config;
    struct address address;
    struct tls_context *tls;             /* NULL: plain */
    struct control *control;
    struct access_table *access;         /* NULL: no tokens are asked for */
    struct audit *audit;                 /* NULL: nothing is written down */
    struct rate_limits *rates;           /* with access */
    struct http_thread **all;            /* for metrics over all threads; `count` of them, filled before any runs */
    size_t count;
    size_t max_connections;              /* of this thread */
};

/* Opens the listening socket; the thread runs after http_thread_run. 0, or -1 with err. */
int http_thread_new(struct http_thread **out, const struct http_thread_options *options, struct error *err);
void http_thread_run(struct http_thread *t);
int http_thread_port(const struct http_thread *t);
/* Any thread: refuses new connections, lets requests finish, at most grace_ms; then stopped is called, on the HTTP
 * thread. */
void http_thread_stop(struct http_thread *t, int64_t grace_ms, void (*stopped)(void *ctx), void *ctx);
/* Waits for the thread's end (or closes one that never ran) and frees it. */
void http_thread_join(struct http_thread *t);

/* Where the core thread sends answers. */
struct queue *http_thread_answers(struct http_thread *t);
struct http_client *http_thread_agents(struct http_thread *t);
struct http_client *http_thread_servers(struct http_thread *t);
struct splice_list *http_thread_splices(struct http_thread *t);
const struct server_config *http_thread_config(const struct http_thread *t);
bool http_thread_has_tls(const struct http_thread *t);
/* The metrics of all HTTP threads; any thread. */
void http_thread_metrics(struct http_thread *t, struct buf *out);

/* --- for routes' prepare and respond, on the HTTP thread --- */

/* The answer is known, or a stream begins: it is counted, and written down who asked for what, before the client knows.
 * Nothing the second time. */
void request_answered(struct request *r, int status);
/* Sends the answer and frees the request. */
void request_finish(struct request *r);
/* The request gave its http_request away, or ended it: frees it. */
void request_done(struct request *r);
/* To the core thread once more (event streams). When there is no room, answers so and ends it. */
void request_send(struct request *r);
