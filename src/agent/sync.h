/* Sync: the agent's conversation with the servers: registration, heartbeats, the waiting request for work, reports.
 * Any server will do, and each agent has its favourite; when that fails the next is tried, after all failed with growing,
 * jittered pauses. Once the favourite answers again the agent goes back to it. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "model/model.h"
#include "net/tls.h"

struct sync;

struct sync_handlers {
    /* Fills the facts of this node (hello is initialised). */
    void (*hello)(void *ctx, struct agent_hello *hello);
    /* Takes over what it wants out of work. Repeated and full work must do no harm. */
    void (*work)(void *ctx, struct agent_work *work);
    /* Adds at most `limit` reports that the servers do not have yet. */
    void (*collect)(void *ctx, struct agent_report *report, uint32_t limit);
    /* The servers have these. */
    void (*acknowledged)(void *ctx, const struct agent_report *report);
    /* The addresses of all servers, as they told; to be stored. May be NULL. */
    void (*servers)(void *ctx, const struct str_list *addresses);
    /* The servers are of this cluster, another one than before; to be stored. May be NULL. */
    void (*cluster)(void *ctx, const char *cluster);
    /* A server has answered the heartbeat or the registration that was sent then (monotonic): until after that the servers knew
     * this node as alive. May be NULL. */
    void (*heard)(void *ctx, int64_t sent_at_ms);
    /* Of the cluster's authorities (agent_welcome), with each answer to a heartbeat; NULL: they have none. May be NULL. */
    void (*certificate_mark)(void *ctx, const char *mark);
    /* A server says that this agent's certificate was revoked. May be NULL, as the next. */
    void (*certificate_revoked)(void *ctx);
    /* With each welcome: servers that were removed, whom nobody believes any more. */
    void (*revoked)(void *ctx, const struct revocation_list *servers);
    /* What the servers say of the network of microVMs. NULL as table: they are of a release that says nothing. NULL: this node
     * does not ask. */
    void (*network)(void *ctx, const struct agent_network *table);
    /* The table of routes of an ingress node, to be taken over out of `table`. NULL: this node is none, and does not ask. */
    void (*ingress)(void *ctx, struct agent_ingress *table);
    /* How its proxy stands (report is initialised). NULL as `ingress`. */
    void (*ingress_report)(void *ctx, struct ingress_report *report);
    /* The name of a secret that it needs as a certificate, the caller's; NULL: none. And its value. NULL as `ingress`. */
    char *(*certificate_wanted)(void *ctx);
    void (*certificate)(void *ctx, const struct secret_value *value);
};

struct sync_options {
    const char *node_id;
    const struct str_list *servers;      /* host:port, or http://, https://, unix: targets; copied */
    const struct str_list *known;        /* addresses that the servers told of earlier; copied; may be NULL */
    const char *cluster;                 /* whose word the node took before; NULL: nobody's, or it does not matter */
    struct tls_context *tls;             /* NULL: plain */
    uint64_t index;                      /* of the work that the store knows; 0: none */
    uint64_t seed;                       /* of the jitter */
    int64_t first_delay_ms;              /* of a pause between tries; 0: 250 */
    int64_t answer_ms;                   /* how long a heartbeat may take while there is another server; 0: 2000 */
    int64_t home_after_ms;               /* how long the favourite is left alone after it failed; 0: 30000 */
    const struct sync_handlers *handlers;
    void *ctx;
};

struct sync *sync_new(uv_loop_t *loop, const struct sync_options *options);
/* Ends everything without callbacks; its handles end as the loop runs on. */
void sync_close(struct sync *s);

/* The facts changed: registers anew. */
void sync_register(struct sync *s);
/* Asks for full work, not older than the answer to the last registration; what was asked before is not heard. */
void sync_ask_everything(struct sync *s);
/* There is something to collect. Sent at the end of this turn of the loop, when no report is on its way. */
void sync_report(struct sync *s);
/* There is news for ingress_report; sent at the end of this turn of the loop, when none is on its way. */
void sync_ingress_report(struct sync *s);
/* certificate_wanted has one; asked at the end of this turn of the loop. */
void sync_certificate(struct sync *s);
/* Of the last work that was taken over; to be stored. */
uint64_t sync_index(const struct sync *s);
bool sync_registered(const struct sync *s);
/* The servers know of the network of microVMs. */
bool sync_knows_network(const struct sync *s);
/* The server that is talked to, for log lines. */
const char *sync_server(const struct sync *s);
