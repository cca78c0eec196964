/* Request: one call of the API on its way: HTTP thread → core thread → HTTP thread. It is the message itself, so that
 * an answer never needs room that is not there. Only one thread touches it at a time, but for `gone`. */
#pragma once
#include <stdatomic.h>
#include <bsd/sys/tree.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "core/core.h"
#include "model/field.h"
#include "net/http_server.h"
#include "server/identity.h"
#include "server/list_filter.h"
#include "server/proposal.h"
#include "server/queue.h"
#include "server/route.h"

struct http_thread;
struct http_call;

#define PAGE_LIMIT_DEFAULT 500
#define PAGE_LIMIT_MAX 1000
#define WAIT_MS_DEFAULT 60000
#define WAIT_MS_MAX 600000
#define LIMIT_MS_DEFAULT 10000
#define LIMIT_MS_MAX 600000
#define HEADER_TIMEOUT "X-Mentat-Timeout"        /* how long the request may take to be answered */
#define HEADER_FORWARDED "X-Mentat-Forwarded"    /* the server that hands it on */

#define REQUEST_ID_SIZE 17                       /* 64 bits, hexadecimal, and the end of the text */

enum consistency { CONSISTENCY_DEFAULT, CONSISTENCY_STALE, CONSISTENCY_STRONG };

struct answer {
    int status;                      /* 0: 200, or 204 without a body */
    struct buf body;
    const char *content_type;        /* static; NULL: application/json */
    uint64_t index;                  /* X-Mentat-Index; 0: none */
    bool lagging; int64_t lag_ms;    /* X-Mentat-Lag: of a server that does not lead; -1: it never heard of a leader */
    struct error error;              /* wins over the rest when its code is set */
    struct problem_list problems;    /* details of the error */
};

struct request {
    struct queue_item item;
    struct http_thread *thread;
    struct http_request *http;       /* immutable until it is answered, so that the core thread may read it too */
    const struct route *route;
    struct identity who;
    char id[REQUEST_ID_SIZE];
    bool answered;                   /* counted, and written down */
    atomic_bool gone;                /* the client left: nobody reads the answer */
    int64_t started_ns;

    /* Input, made on the HTTP thread. */
    const char *params[ROUTE_PARAM_MAX];
    void *body;                      /* of route->request; owned */
    struct buf command;              /* encoded */
    int command_kind;                /* of it */
    int64_t command_level;           /* that its content needs; 0: that of its kind */
    bool has_key;                    /* an Idempotency-Key came with it */
    bool forwarded;                  /* by another server: not to be handed on again */
    bool stranger;                   /* whose token only the leader can refuse: for it to judge, unparsed */
    int64_t limit_ms;
    char *namespace;                 /* that is asked for: NULL: default; NAMESPACE_ANY */
    char *qualified, *service;       /* params[0], and the query `service`, with the namespace; NULL: not asked for */
    struct list_filter filter;
    uint32_t limit;
    bool has_index;
    uint64_t index;                  /* waiting read: newer than this */
    int64_t seq;                     /* events: those after this number within index */
    bool positioned;                 /* events: index and seq are set */
    int64_t wait_ms;
    enum consistency consistency;
    bool sse;                        /* events as a stream, not as a list */

    /* Core thread. */
    struct proposal proposal;
    int64_t proposed_ns;
    int64_t answer_by_ms;            /* monotonic: when limit_ms is over */
    int64_t deadline_ms;             /* of a wait */
    char *forward;                   /* set: to be handed on to this server ("http://host:port") */
    bool repeatable;                 /* and again to another one, although the outcome is not known */
    char *tried_leader;              /* the last one that it was handed to, and when */
    int64_t tried_ms;
    bool unknown;                    /* it may have been done */
    int64_t miss_by_ms;              /* until when this server may learn of what it does not know */
    bool waited;                     /* for a change */
    bool expired;                    /* its wait is over: answer what there is */
    RB_ENTRY(request) wait_link;

    struct answer answer;

    /* Proxies: whom to ask, found on the core thread. */
    char *target, *node_name, *alloc_id;
    char *agent_path;                /* what it is asked for; NULL: as the path here says */
    char *secret;                    /* what only the answer shows */

    /* HTTP thread. */
    bool away;                       /* the core thread has it */
    bool streaming;                  /* the head of the answer is sent */
    bool endless;                    /* has no end of its own: cut at a stop */
    struct http_call *call;          /* to an agent */
    void (*cut)(struct request *r);  /* not away, and the client left or the server stops: must end it */
    TAILQ_ENTRY(request) active_link;
};

struct request *request_new(struct http_thread *thread, struct http_request *http, const struct route *route);
void request_delete(struct request *r);

/* The value of a query parameter, NULL when absent. */
const char *request_query(const struct request *r, const char *name);
/* Whether what is of this namespace (NULL: of the cluster) is asked for. */
bool request_in_namespace(const struct request *r, const char *namespace);
/* A whole number of at most `max`; absent: fallback. */
int request_query_number(const struct request *r, const char *name, uint64_t fallback, uint64_t max, uint64_t *out,
                         struct error *err);
int request_query_bool(const struct request *r, const char *name, bool *out, struct error *err);

/* An answer with this status is of this try alone, such as that a disk is full: what became of an earlier one stays open. */
bool request_left_open(const struct request *r, int status);

/* Query parameters, page, filter and body by the route's row, then its prepare. HTTP thread. On -1, err is set and
 * answer.problems may be. */
int request_parse(struct request *r, struct error *err);
/* Only what decides where it goes, and how long it may take. */
int request_parse_way(struct request *r, struct error *err);
/* The Idempotency-Key as it is remembered: each token has keys of its own. NULL: none came. The caller's. */
char *request_key(const struct request *r);
/* Encodes a command of this request (actor, idempotency key, time) into r->command. */
void request_command(struct request *r, int kind, const void *payload);
/* {"error":{…}} with details. */
void answer_error_body(const struct error *error, const struct problem_list *problems, struct buf *out);
