/* The inside of the HTTP client, shared by http_client.c (calls as the user sees them) and http_link.c (connections and
 * answers). */
#pragma once
#include <sys/queue.h>

#include "net/address.h"
#include "net/deadline.h"
#include "net/http_client.h"
#include "net/http_parse.h"
#include "net/stream_open.h"

/* Where a connection leads; two calls with the same text and name may share it. */
struct target {
    char *text;
    char *name;                     /* that the server's certificate must carry */
    struct address address;
    bool tls;
};

struct link {
    LIST_ENTRY(link) entry;         /* client->idle or client->busy */
    struct http_client *client;
    struct stream *stream;
    struct target target;
    struct http_call *call;         /* NULL while unused */
    struct http_parse *parse;
    bool open;
    bool reused;                    /* an answer came on it before */
    bool answered;                  /* the first byte of the present answer came */
    struct deadline keep;
};
LIST_HEAD(link_list, link);

enum call_wait {
    CALL_WAITS_CONNECT,
    CALL_WAITS_HEAD,
    CALL_WAITS_BODY,
};

struct http_call {
    LIST_ENTRY(http_call) entry;
    struct http_client *client;
    struct link *link;              /* NULL: failed at the start, on_done is due */
    struct http_call_options o;     /* its strings are not kept */
    struct target target;
    struct buf request;
    bool retried;
    bool wants_upgrade;
    enum call_wait wait;
    bool has_head;
    bool keep_alive;
    struct http_response res;
    bool paused;
    bool leaving;                   /* its last callback runs */
    bool *gone;                     /* set when it is freed while a callback runs */
    bool due;                       /* held bytes, or the end, wait for the loop */
    bool ended;                     /* the answer is complete; only held bytes are before on_done */
    bool too_large;
    struct buf held;
    struct deadline late;
    struct error why;               /* with link NULL */
};
LIST_HEAD(call_list, http_call);

struct http_client {
    uv_loop_t *loop;
    struct http_client_options o;
    char *server_name;
    struct stream_shared *shared;
    struct deadlines deadlines;
    uv_idle_t soon;                 /* runs while a call is due */
    struct link_list idle, busy, closing;
    struct call_list calls;
    unsigned open_handles;
    bool closed;
    void (*on_closed)(void *arg);
    void *closed_arg;
};

/* http_client.c */
void client_maybe_closed(struct http_client *client);
/* http_link.c */
void target_free(struct target *t);
/* Gives the call a connection and sends its request. */
void link_start(struct http_call *call);
void link_close(struct link *l);
/* From then on nobody finds the call any more, not even who closes the client in its last callback. */
void call_leave(struct http_call *call);
void call_free(struct http_call *call);
/* The last callback, and the end of the call. */
void call_done(struct http_call *call, const struct error *err);
/* The answer is complete and delivered. */
void call_complete(struct http_call *call);
void call_wait_for(struct http_call *call, enum call_wait wait);
