/* Control: the core thread. It owns consensus, the core and its timers; requests come and go by queues.
 *
 * A read's way: queue → [barrier] → [wait until the watched thing is newer] → route's read → answer to the HTTP thread.
 * A write's way: queue → route's write → propose → durable, applied → answer.
 * Either's way at a server that does not lead: queue → [wait for a leader] → HTTP thread → the leader (dispatch.c).
 * A way of its own: queue → route's run, which answers some time later.
 * The leader's loop (leader.c): something was applied, or core_next_wake has come → core_decide → propose; one at a time. */
#pragma once
#include <uv.h>

#include "consensus/consensus.h"
#include "core/core.h"
#include "server/addresses.h"
#include "server/command_time.h"
#include "server/liveness.h"
#include "server/metrics.h"
#include "server/queue.h"
#include "server/request.h"
#include "server/server_config.h"

struct authorities;
struct cluster;
struct credentials;
struct formation;
struct http_client;
struct knock;
struct launcher;
struct vault_keys;
struct peer_ask;
struct vault;
struct workload_identity;

#define CONTACT_MS 5000              /* a server that did not hear of its leader for so long has none */

RB_HEAD(wait_tree, request);

struct control {
    const struct server_config *config;
    const struct server_addresses *addresses;
    uv_loop_t *loop;
    struct consensus *consensus;
    struct core *core;
    struct queue inbox;
    uv_prepare_t turn;               /* end of a turn: wakes waiting reads, decides */
    uv_timer_t decide_timer, wait_timer, liveness_timer, held_timer;
    struct wait_tree waits, held;    /* by deadline: for a change, for a leader; see dispatch.c */
    size_t wait_count, held_count;
    struct queue_list spreading;     /* done, and answered when all servers have it; see dispatch.c */
    char *forming;                   /* why this server is in no cluster yet; NULL: it is */
    bool members_changed;
    struct liveness liveness;
    struct liveness leases;          /* nodes that are down, since when; see leader.c */
    int64_t liveness_due_ms;         /* when its timer is to fire */
    char *hold; int64_t hold_since_ms;   /* see leader.h */
    uint64_t seed;                   /* of the next decision */
    enum consensus_role role;
    int64_t started_ms;
    bool applied;                    /* something was applied in this turn */
    bool look;                       /* core_decide may have something to do */
    bool decide_in_flight;
    struct command_time time;
    bool stopping;
    struct control_metrics metrics;
    struct backups *backups;
    struct tls_context *tls;         /* NULL: plain */
    struct access_table *access;     /* NULL: no tokens are asked for; see access.c for what follows */
    bool access_seen, admin_seen, making_admin;
    uint64_t access_index, revoked_index;    /* of the access that the table, and the connections, have */
    int64_t admin_after_ms;
    char *admin_file;                /* where the leader writes an administrator's token */
    struct proposal admin;
    struct vault *vault;
    struct workload_identity *identities;    /* see workload_identity.c */
    struct http_client *peers; LIST_HEAD(, peer_ask) peer_asks;   /* see peers.c */
    struct cluster *cluster;         /* see cluster.c */
    struct formation *formation;     /* see formation.c */
    struct knock *knock;             /* see knock.c */
    struct authorities *authorities; /* see authority.h */
    struct credentials *credentials; /* NULL: the cluster does not make certificates itself */
    struct launcher *launcher;       /* NULL: no command is configured */
    void (*restart)(void *ctx);      /* ends the server, to be started again on its directory */
    void *restart_ctx;
};

/* What a control is started with; borrowed. */
struct control_options {
    const struct server_config *config;
    const struct server_addresses *addresses;
    struct tls_context *tls;         /* NULL: plain */
    struct access_table *access;     /* NULL: no tokens are asked for */
    struct own_tls *own_tls;         /* NULL: the cluster does not make certificates itself */
    struct vault_keys *keys;         /* taken over */
    struct launcher *launcher;       /* NULL: no command is configured */
};
/* Opens the data directory and starts; requests may be sent to control->inbox from then on. 0, or -1 with err, after
 * which nothing is left to close. */
int control_start(struct control *c, uv_loop_t *loop, const struct control_options *options, struct error *err);
/* Starts consensus: at once where the directory has a state, or as formation.c finds its way. 0, or -1 with err. */
int control_begin(struct control *c, bool bootstrap, uint64_t server_id, uint64_t cluster_id, struct error *err);
/* Answers what waits at once, as if its time had passed, and lets nothing wait any more. */
void control_stop_waiting(struct control *c);
/* Ends consensus and closes all handles; when no HTTP thread sends any more. The loop runs out of handles then. */
void control_stop(struct control *c);
/* After the loop ended. */
void control_free(struct control *c);

/* Writes down the whole state, which is held meanwhile. Any thread. */
void control_write_down(struct control *c, struct buf *out);
/* How many there are, ended allocations too. */
void control_count(const struct control *c, int64_t *nodes, int64_t *services, int64_t *allocs);
/* As consensus_stats; zero while there is no consensus yet. */
void control_stats(const struct control *c, struct consensus_stats *out);
/* The leader as it said of itself; NULL while none is known, or it did not say yet. */
const struct member *control_leader(const struct control *c);
/* This server leads, or heard of its leader within the last few seconds. */
bool control_in_contact(const struct control *c);

/* Ends a request that is on the core thread; it belongs to its HTTP thread again. */
void control_answer(struct request *r);
void control_refuse(struct request *r, enum error_code code, const char *text);

/* For handlers on the core thread. Ids may be given by a beginning, which is to be unique among what the request may see, nodes by
 * name too. NULL with err. An allocation is the one that the request's first parameter names. */
const struct alloc *control_find_alloc(struct control *c, const struct request *r, struct error *err);
const struct node *control_find_node(struct control *c, const char *text, struct error *err);
