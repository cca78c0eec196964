/* What the net tests share: a loop with a server of many habits, raw sockets beside it, and a client. */
#pragma once
#include <stdbool.h>
#include <uv.h>

#include "net/http_client.h"
#include "net/http_server.h"

struct harness {
    uv_loop_t loop;
    struct http_server *server;
    struct http_client *client;
    struct tls_context *server_tls, *client_tls;
    uv_timer_t patience;
    bool late;                  /* the patience of wait_for is over */
    char dir[64];
    char target[128];
    bool stopped;
    unsigned requests;          /* that reached the handler */
    unsigned closed;            /* on_close calls */
    unsigned drained;
    size_t streamed;
    struct http_request *held[16];  /* of /hold */
    unsigned held_count;
    struct stream *upgraded;    /* of /upgrade */
    bool upgraded_closed, upgraded_eof;
    struct buf upgraded_in;
    struct http_request *streaming;     /* of /flood and /events */
};

/* The result of a call, or of the raw reads. */
struct answer {
    struct harness *h;
    struct http_call *call;
    bool done;
    int status;
    bool failed;
    struct error err;
    struct buf body;
    unsigned heads, pieces;
    struct stream *stream;
    struct buf early;
    bool stream_closed;
};

/* `options` may be NULL; the handler is the harness's own. tls options NULL: plain. */
void harness_start(struct harness *h, const struct http_server_options *options);
void harness_start_with(struct harness *h, const struct http_server_options *options, const struct address *address,
                        const struct tls_options *server_tls, const struct tls_options *client_tls);
void harness_end(struct harness *h);

/* Runs the loop until *flag, at most 10 s. False when it took too long. */
bool harness_wait(struct harness *h, const bool *flag);
/* Runs the loop until the counter reaches n. */
bool harness_wait_count(struct harness *h, const unsigned *count, unsigned n);
void harness_run_ms(struct harness *h, int64_t ms);

/* Raw, non-blocking sockets. */
int raw_connect(struct harness *h);
void raw_send(int fd, const char *text);
/* Reads with the loop running until `until` is in what came, or the peer closed. Returns what came; free it. */
char *raw_read(struct harness *h, int fd, const char *until);
/* Runs the loop until the peer has closed; false when it does not. */
bool raw_closed(struct harness *h, int fd);
/* All of it at once: connect, send, read until close. */
char *raw_ask(struct harness *h, const char *text);

/* Fills in the callbacks; start it with answer_start. */
struct http_call_options answer_options(struct harness *h, struct answer *a, enum http_method method, const char *path);
void answer_start(struct answer *a, const struct http_call_options *o);
/* One whole GET. */
void answer_get(struct harness *h, struct answer *a, const char *path);
void answer_free(struct answer *a);
