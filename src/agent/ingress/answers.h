/* Answers: what the proxy tells of itself, as text for people, read into structs. Lines that are no part of what is looked
 * for are passed over: other releases say more. Pure. */
#pragma once
#include <stddef.h>

#include "agent/ingress/layout.h"
#include "agent/ingress/render.h"
#include "base/error.h"

/* --- `show proc` of the master --- */
#define ANSWER_WORKERS_MAX 64
struct answer_processes {
    int master, current;             /* pids; 0: there is none */
    int old[ANSWER_WORKERS_MAX];     /* processes that finish their connections */
    size_t n_old;
    long failed;                     /* reloads in a row that failed */
};
int answer_processes(const char *text, struct answer_processes *out, struct error *err);

/* --- `show servers state [BACKEND]`, several in a row --- */
/* Puts what is told into `into`, over what it held of the same slots. Servers are counted: those not named s<N> are not. */
int answer_servers(const char *text, struct layout *into, struct error *err);

/* --- `show map FILE` --- */
void answer_map(const char *text, struct kv_list *into);

/* --- `show info` --- */
void answer_structure(const char *text, char out[static STRUCTURE_SIZE]);    /* "" when it tells none */

/* --- `show ssl cert NAME`, several in a row: name to fingerprint --- */
void answer_certificates(const char *text, struct kv_list *into);

/* --- `show stat`, in CSV --- */
struct answer_stat {
    const char *proxy, *server;      /* valid within the call; server may be FRONTEND or BACKEND */
    long long sessions, queued;      /* at the moment */
    long long requests, status[6];   /* status[1..5]: by hundreds; [0] others */
    long long bytes_in, bytes_out, connections, connect_errors, response_errors, retries, redispatches;
    long long response_ms, total_ms; /* mean of the last 1024 requests */
};
int answer_stats(const char *text, void (*each)(void *ctx, const struct answer_stat *s), void *ctx, struct error *err);
