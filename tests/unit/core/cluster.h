/* Cluster: one core with nodes, a leader that decides at once, and agents that report what the test says. */
#pragma once
#include "core/command.h"
#include "core/core.h"

struct cluster {
    struct core *core;
    uint64_t index, seed;
    int64_t now;
    struct error error;              /* of the last command */
    char body[4096];                 /* its answer */
    uint64_t report_seq;
    int64_t lease_ms;                /* on volumes, of nodes that register from now on */
};

void cluster_init(struct cluster *c, unsigned nodes);            /* nodes n0, n1 … with 4 cpus and 4 GiB */
void cluster_clear(struct cluster *c);
const char *cluster_node_id(unsigned node);
void cluster_add_node(struct cluster *c, unsigned node);
void cluster_add_ingress_node(struct cluster *c, unsigned node);
void cluster_node_holds(struct cluster *c, unsigned node, const char *service);  /* it tells of the volume of replica 0 */
void cluster_level(struct cluster *c, int64_t level);            /* what its server knows (COMMAND_LEVEL) */
bool cluster_apply(struct cluster *c, struct command *cmd);      /* encodes, applies, clears; true: done */
void cluster_decide(struct cluster *c);                          /* until nothing is left */
void cluster_pass(struct cluster *c, int64_t ms);                /* time passes, then the leader decides */

/* A job j of one service as services.yaml would give it; extra is more YAML of the service, or NULL. */
bool cluster_submit(struct cluster *c, const char *service, const char *extra);
bool cluster_submit_yaml(struct cluster *c, const char *yaml, const char *key);
bool cluster_node_state(struct cluster *c, unsigned node, enum node_state state);
/* One that is down. revoked_until: as in struct command_node. */
bool cluster_remove_node(struct cluster *c, unsigned node, int64_t revoked_until);
bool cluster_scale(struct cluster *c, const char *service, int64_t count);
bool cluster_service(struct cluster *c, enum command_kind kind, const char *service);
/* The proxy of an ingress node follows the newest table, or that of an index, and has no connection to `idle` (NULL: none). */
void cluster_proxy(struct cluster *c, unsigned node, const char *idle);
void cluster_proxy_at(struct cluster *c, unsigned node, uint64_t applied, const char *idle);
bool cluster_delete(struct cluster *c, const char *service, bool purge);
bool cluster_rollback(struct cluster *c, const char *service, uint64_t version);
bool cluster_promote(struct cluster *c, const char *service, int64_t percent);             /* by "tester" */
/* An agent, with a join token whose hash is "hash". */
bool cluster_enrol(struct cluster *c, const char *name, const char *token);
/* A snapshot, or a part of it, and that it takes the place of the state. */
bool cluster_send_chunk(struct cluster *c, const char *upload, const struct buf *bytes, size_t from, size_t to);
bool cluster_restore(struct cluster *c, const char *upload, const struct buf *bytes);

/* The n-th allocation of a service that is wanted (in order of replica), NULL: there are fewer. */
const struct alloc *cluster_wanted(struct cluster *c, const char *service, unsigned n);
unsigned cluster_count(struct cluster *c, const char *service, enum alloc_desired desired, bool live);
bool cluster_report(struct cluster *c, const char *alloc, enum alloc_state state);
/* Those wanted and live; what runs counts only a second later, which passes. */
void cluster_report_all(struct cluster *c, const char *service, enum alloc_state state);
void cluster_stop_all(struct cluster *c, const char *service);   /* those to be stopped are complete */
struct service_status cluster_status(struct cluster *c, const char *service);              /* the caller clears */
bool cluster_event(struct cluster *c, const char *reason_part);  /* was there such an event? */
