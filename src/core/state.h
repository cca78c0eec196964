/* State: the tables of the core and the bookkeeping that keeps every question about them cheap. Private to src/core.
 *
 * What is replicated (and in snapshots) is written only by core_apply. What is derived for the leader (dirty services,
 * wake times, the scheduler's index) can be thrown away and built again at any time. */
#pragma once
#include <bsd/sys/tree.h>
#include <sys/queue.h>
#include <uthash.h>

#include "core/command.h"
#include "core/core.h"

#define EVENTS_KEPT 8192u
#define VERSIONS_KEPT 10
#define DEPLOYMENTS_KEPT 10             /* per service */
#define GONE_KEPT 1000u                 /* per node */
#define ENDED_KEPT 5                    /* ended allocations per replica */
#define ENDED_KEPT_MS (3600 * 1000LL)
#define DOWN_NODE_KEPT_MS (72 * 3600 * 1000LL)
#define NEVER INT64_MAX

struct version_entry {
    TAILQ_ENTRY(version_entry) link;
    struct service_version v;
    uint64_t epoch;                     /* the first version that a running replica need not be replaced for */
    bool names_peers;                   /* derived: its texts speak of the other replicas */
};

struct alloc_entry {
    struct alloc a;
    /* replicated */
    uint64_t report_seq;
    uint64_t epoch;                     /* of its version */
    uint64_t work_index;                /* when something changed that its agent must know */
    int64_t run_at;                     /* of a scheduled run */
    int64_t running_since;              /* command time of the first running in this generation; 0: not yet */
    int64_t ok_since;                   /* command time since which it serves; 0: it does not */
    int64_t ended_at;                   /* command time */
    int64_t restarted_at;               /* command time of the last restart asked for */
    int64_t restart_from;               /* its started_at when that was asked; see alloc_report */
    bool restarting;                    /* asked to restart and not seen to have done so */
    bool every_node;                    /* its replica stands for its node */
    bool task;                          /* runs to its end: it leaves a draining node last */
    uint64_t entered_index;             /* of the ingress table that it came into; 0: it is not in there */
    int64_t entered_at;                 /* command time */
    uint64_t left_index;                /* of the table that tells of its leaving; 0: it does not leave */
    int64_t left_at;                    /* command time */
    struct str_list idle_at;            /* ingress nodes that have no connection to it any more, since it leaves */
    /* links */
    struct service_entry *service;
    struct node_entry *node;            /* NULL once the node is removed */
    RB_ENTRY(alloc_entry) by_id, by_replica, by_node, by_work;
};

/* Each says whose it is. */
static inline bool node_volumes_sound(const struct node *n)
{
    for (uint32_t i = 0; i < n->volumes.n; i++)
        if (!n->volumes.v[i].name || !n->volumes.v[i].service || n->volumes.v[i].replica < 0)
            return false;
    return true;
}

struct gone_entry { STAILQ_ENTRY(gone_entry) link; uint64_t index; char *id; };
struct port_use { int64_t key; uint32_t n; UT_hash_handle hh; };

RB_HEAD(alloc_id_tree, alloc_entry);
RB_HEAD(alloc_replica_tree, alloc_entry);
RB_HEAD(alloc_node_tree, alloc_entry);
RB_HEAD(alloc_work_tree, alloc_entry);
TAILQ_HEAD(version_list_head, version_entry);
TAILQ_HEAD(deployment_list_head, deployment_entry);
TAILQ_HEAD(down_list_head, node_entry);

struct node_entry {
    struct node n;
    /* replicated */
    int64_t wanted_state;               /* what the operator asked for: ready, draining, ineligible */
    uint64_t work_index, gone_floor;    /* deltas since before gone_floor are answered in full */
    uint32_t gone_count;
    STAILQ_HEAD(, gone_entry) gone;
    uint64_t ingress_applied;           /* the newest ingress table that its proxy has followed */
    char *ingress_problem;              /* why it does not follow a newer one; NULL: it does */
    struct acme_report acme;            /* what it said of its certificates last */
    uint64_t challenges_index;          /* of the ingress table with its challenges */
    bool ingress_refused;               /* it asks to be an ingress node, and has not the right */
    /* derived */
    uint64_t network_index;             /* when what its agent must know of replicas for its machines changed */
    double used_cpus; int64_t used_memory_mb, used_disk_mb;
    uint32_t live;                      /* allocations that take room */
    uint32_t live_movable;              /* of these, replicas in mode service: they leave a draining node first */
    struct port_use *ports;
    struct alloc_node_tree allocs;
    struct alloc_work_tree work;
    RB_ENTRY(node_entry) by_id, by_name;
    TAILQ_ENTRY(node_entry) down;       /* among the down nodes, longest first */
    bool listed_down;
    TAILQ_ENTRY(node_entry) ingress_link;
    bool in_ingress;                    /* among the ingress nodes */
};

struct service_entry {
    char *name;
    struct job_entry *job;
    /* replicated */
    struct version_list_head versions;  /* ascending */
    struct version_entry *current;      /* the last of them */
    uint64_t stable_version;            /* the last one whose deployment succeeded; 0: none */
    uint64_t last_version;              /* numbers are not used twice */
    int64_t generation;                 /* raised by a restart; replicas follow */
    int64_t next_run_at, run_at;        /* scheduled tasks: the next run, and the one that is due or was the last */
    int64_t unplaced;
    char *reason;                       /* what the reconciler found; NULL: nothing */
    bool stopped, purge;
    bool tells_peers;                   /* agents are told of all its replicas; see peers.h */
    int64_t position;                   /* within its job */
    uint64_t create_index, modify_index;
    struct deployment_list_head deployments;   /* oldest first */
    /* derived */
    struct alloc_replica_tree allocs;
    uint32_t alloc_count;
    uint32_t machines;                  /* versions that are microVMs */
    uint32_t live[2];                   /* live allocations: those that stand for a number, those that stand for a node */
    bool dirty, blocked;                /* blocked: waits for room */
    int64_t wake_at;
    RB_ENTRY(service_entry) by_name, by_wake;
    TAILQ_ENTRY(service_entry) in_job, dirty_link, blocked_link, every_link;
    bool in_every;
    struct service_status *status;      /* how it stands; NULL: to be counted again, see status.c */
    bool peers_changed;                 /* within this command */
    STAILQ_ENTRY(service_entry) peers_link;
    bool ingress_changed;               /* within this command */
    STAILQ_ENTRY(service_entry) ingress_link;
    bool ingress_waits;                 /* for ingress nodes to follow */
    uint64_t ingress_hash;              /* of its part of the ingress table; 0: it has none */
    bool network_changed;               /* within this command */
    STAILQ_ENTRY(service_entry) network_link;
    uint64_t network_hash;              /* of its replicas, as agents are told of them for machines */
};

struct job_entry {
    char *name;
    uint64_t create_index, modify_index;
    TAILQ_HEAD(, service_entry) services;
    RB_ENTRY(job_entry) by_name;
    bool ordered;                       /* derived: some service of it came after another once */
    uint32_t machines;                  /* derived: versions of its services that are microVMs */
};

/* What an ingress node measured of the two sides of a deployment that is judged: since its agent began, and before. */
struct side_measure { int64_t requests, errors; struct latency_list latencies; };
struct node_measure {
    char *node;
    int64_t since;
    struct side_measure canary, stable, canary_before, stable_before;
};
struct node_measure_list { struct node_measure *v; uint32_t n; };

struct deployment_entry {
    struct deployment d;
    /* replicated */
    bool revert;                        /* it takes back a failed one: it is not taken back itself */
    int64_t progress_at;
    uint64_t epoch;
    bool beside;                        /* its replicas stand beside the older ones; see beside.h */
    bool promoted;                      /* the older ones need not stand by any more */
    uint64_t from_version, from_epoch;  /* of the older ones; of a rollout that is measured from_epoch alone */
    uint64_t share_index;               /* of the ingress table with its traffic_percent, or by which a rollout is measured */
    int64_t share_at;                   /* command time */
    bool held;                          /* another service comes first, or its analysis holds it: its time does not run */
    struct node_measure_list measures;  /* since share_index; see analysis.h */
    /* links */
    struct service_entry *service;
    TAILQ_ENTRY(deployment_entry) link;
    RB_ENTRY(deployment_entry) by_id;
};

struct key_entry {
    char *key;
    uint64_t payload_hash;
    int64_t time;
    int64_t code;                       /* enum error_code */
    char *text, *body;
    UT_hash_handle hh;
    TAILQ_ENTRY(key_entry) link;        /* oldest first */
};

struct member_entry {
    struct member m;
    RB_ENTRY(member_entry) by_id;
};

struct token_entry {
    struct join_token t;
    TAILQ_ENTRY(token_entry) link;      /* oldest first */
};

/* A snapshot that is being sent: see apply_restore.c. */
struct staging {
    char *upload;                       /* NULL: none */
    struct buf bytes;
    int64_t at;                         /* command time of the last piece */
};

RB_HEAD(member_tree, member_entry);
RB_HEAD(node_id_tree, node_entry);
RB_HEAD(node_name_tree, node_entry);
RB_HEAD(service_tree, service_entry);
RB_HEAD(wake_tree, service_entry);
RB_HEAD(job_tree, job_entry);
RB_HEAD(deployment_tree, deployment_entry);

struct core {
    uint64_t index, hash;
    uint64_t ahead;                     /* of the log's indexes, since a restore */
    struct str_list clusters;           /* whose state this is: the first names it, the others were restored over */
    int64_t now;                        /* time of the command that is being applied */
    int64_t event_seq;                  /* within it */
    const char *actor;                  /* of it */
    uint64_t changed[CORE_KIND_COUNT];
    struct policy policy;
    struct access access;
    struct secrets secrets;
    struct member_tree members;
    TAILQ_HEAD(, token_entry) tokens;
    struct staging staging;
    struct node_id_tree nodes;
    struct node_name_tree node_names;
    struct alloc_id_tree allocs;
    struct service_tree services;
    struct job_tree jobs;
    struct deployment_tree deployments;
    struct event *events;               /* ring of EVENTS_KEPT, which grows until it is as long as that */
    uint32_t event_cap;
    uint64_t event_count;               /* ever; the ring's write position */
    struct key_entry *keys;
    TAILQ_HEAD(, key_entry) key_order;
    uint64_t key_bytes;                 /* see keys.h */
    /* derived */
    struct core_counts counts;
    struct sched *sched;
    TAILQ_HEAD(, service_entry) dirty, blocked, every_node;
    struct wake_tree wakes;
    STAILQ_HEAD(, service_entry) peers_changed;
    STAILQ_HEAD(, service_entry) ingress_changed, network_changed;
    uint64_t network_index;             /* when nodes' parts of the network of microVMs changed */
    TAILQ_HEAD(, node_entry) ingress_nodes;
    struct down_list_head down_nodes;
    bool room;                          /* since the last decision capacity came free, or nodes changed */
};

RB_PROTOTYPE(alloc_id_tree, alloc_entry, by_id, alloc_id_compare)
RB_PROTOTYPE(alloc_replica_tree, alloc_entry, by_replica, alloc_replica_compare)
RB_PROTOTYPE(alloc_node_tree, alloc_entry, by_node, alloc_node_compare)
RB_PROTOTYPE(alloc_work_tree, alloc_entry, by_work, alloc_work_compare)
RB_PROTOTYPE(node_id_tree, node_entry, by_id, node_id_compare)
RB_PROTOTYPE(node_name_tree, node_entry, by_name, node_name_compare)
RB_PROTOTYPE(service_tree, service_entry, by_name, service_compare)
RB_PROTOTYPE(wake_tree, service_entry, by_wake, wake_compare)
RB_PROTOTYPE(job_tree, job_entry, by_name, job_compare)
RB_PROTOTYPE(deployment_tree, deployment_entry, by_id, deployment_compare)
RB_PROTOTYPE(member_tree, member_entry, by_id, member_compare)

extern const struct type alloc_entry_type, node_entry_type, version_entry_type, deployment_entry_type, side_measure_type, node_measure_type,
    key_entry_type,
    service_entry_type, job_entry_type, member_entry_type, token_entry_type;

/* --- finding; NULL when there is none (also for a NULL name) --- */
struct node_entry *state_node(const struct core *c, const char *id);
struct node_entry *state_node_by_name(const struct core *c, const char *name);      /* one that is not down comes first */
struct alloc_entry *state_alloc(const struct core *c, const char *id);
struct service_entry *state_service(const struct core *c, const char *name);
struct job_entry *state_job(const struct core *c, const char *name);
struct deployment_entry *state_deployment(const struct core *c, const char *id);
struct member_entry *state_member(const struct core *c, const char *id);
bool state_is_cluster(const struct core *c, const char *name);          /* this state goes on from that cluster's */
struct version_entry *state_version(const struct service_entry *s, uint64_t version);
struct deployment_entry *state_running_deployment(const struct service_entry *s);

/* --- the tables; the entries belong to the core --- */
void state_init(struct core *c);
void state_clear(struct core *c);
/* Makes `to`, which is cleared, what `from` is, and frees `from`. */
void state_move(struct core *to, struct core *from);
void state_add_node(struct core *c, struct node_entry *n);
void state_remove_node(struct core *c, struct node_entry *n);           /* it has no allocations */
void state_set_node_state(struct core *c, struct node_entry *n, enum node_state state, const char *reason);
struct service_entry *state_add_service(struct core *c, const char *name);
void state_remove_service(struct core *c, struct service_entry *s);     /* it has no allocations */
void state_move_service(struct core *c, struct service_entry *s, struct job_entry *job, int64_t position);
struct job_entry *state_add_job(struct core *c, const char *name);
void state_set_current(struct core *c, struct service_entry *s, struct version_entry *v);  /* appended and made current */
void state_trim_versions(struct service_entry *s);
void state_add_deployment(struct core *c, struct service_entry *s, struct deployment_entry *d);
void state_remove_deployment(struct core *c, struct deployment_entry *d);
/* Links a filled entry by its service and node; counts it when live. */
void state_add_alloc(struct core *c, struct alloc_entry *a);
void state_remove_alloc(struct core *c, struct alloc_entry *a, bool tell_agent);
/* Moves an allocation's state: time, event, room on its node. reason may be NULL. */
void state_set_alloc_state(struct core *c, struct alloc_entry *a, enum alloc_state state, const char *reason);
/* The same state for another reason, with its event. */
void state_set_alloc_reason(struct core *c, struct alloc_entry *a, const char *reason);
void state_stop_alloc(struct core *c, struct alloc_entry *a, const char *reason);   /* desired stop, with its event */
/* Out of traffic, for now or on the way to its stop, with its event. */
void state_leave_alloc(struct core *c, struct alloc_entry *a, enum alloc_leaving to, const char *reason);
void state_stay_alloc(struct core *c, struct alloc_entry *a);           /* it may come back into traffic */
void state_remove_member(struct core *c, struct member_entry *m);
void state_remove_token(struct core *c, struct token_entry *t);
/* A join token in somebody's hand: by is the server's id or the node's name. */
struct token_use { const char *id, *hash, *by; bool agent; };
int state_check_token(const struct core *c, const struct token_use *u, int64_t now, struct error *err);
const struct join_token *state_use_token(struct core *c, const struct token_use *u);       /* one that was checked */
/* A node was removed: join tokens that several agents may use, and one did, are over; it may have joined by any of them, and
 * could join by it under another name. */
void state_end_shared_tokens(struct core *c);
bool state_node_has_room(const struct node_entry *n, double cpus, int64_t memory_mb, int64_t disk_mb,
                         const struct alloc_port_list *ports);

/* --- marks --- */
void state_touch_alloc(struct core *c, struct alloc_entry *a);          /* modify_index of it and its service; dirty */
void state_touch_work(struct core *c, struct alloc_entry *a);           /* also: its agent must know */
void state_send_again(struct core *c, struct alloc_entry *a);           /* its agent must know; it did not change itself */
void state_touch_node(struct core *c, struct node_entry *n);
void state_touch_service(struct core *c, struct service_entry *s);
void state_touch_deployment(struct core *c, struct deployment_entry *d);
void state_touch_members(struct core *c);
void state_touch_ingress(struct core *c);
void state_set_dirty(struct core *c, struct service_entry *s);         /* something that its status or its replicas rest on changed */
void state_clear_dirty(struct core *c, struct service_entry *s);
void state_set_blocked(struct core *c, struct service_entry *s, bool blocked);
void state_set_wake(struct core *c, struct service_entry *s, int64_t at);
void state_set_dirty_node(struct core *c, struct node_entry *n);        /* services with live allocations there */
void state_set_dirty_every_node(struct core *c);

/* --- events --- */
struct event *state_event_slot(struct core *c, uint64_t number);       /* in the ring, made when it is not yet there */
struct event_text { const char *kind, *subject, *service, *alloc, *node, *from, *to; };
static inline struct event_text event_of_node(const struct node_entry *n)
{
    return (struct event_text){.kind = "node", .subject = n->n.name, .node = n->n.id};
}
void state_event(struct core *c, struct event_text e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void state_event_by_actor(struct core *c, struct event_text e, const char *what);       /* "WHAT by ACTOR" */

/* True while the allocation serves: healthy, or running where no health check is asked for. */
bool alloc_serves(const struct alloc_entry *a);
static inline bool entry_live(const struct alloc_entry *a) { return alloc_live(&a->a); }
static inline bool entry_wanted(const struct alloc_entry *a)
{
    return alloc_wanted(&a->a) && a->a.leaving != LEAVING_TO_STOP;
}
