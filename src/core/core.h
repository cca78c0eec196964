/* Core: the control plane as a pure state machine. Commands in, state and results out; no I/O, no clock, no
 * randomness of its own: time and seeds arrive inside commands and calls. The server and the simulator drive the
 * same core. Same commands, same state, bit for bit. */
#pragma once
#include "base/buf.h"
#include "base/error.h"
#include "core/sched.h"
#include "model/model.h"

struct core;
struct core *core_new(void);
void core_free(struct core *c);

/* --- commands: what goes through the log. core/command.h has their types and encoders. --- */
struct core_result {
    struct error error;        /* code ERROR_NONE when done */
    struct buf body;           /* JSON, what the API answers with; empty when there is nothing to say */
    bool unknown;              /* the command is of a newer release: the state is not that of the other servers any more */
};
void core_result_clear(struct core_result *r);

/* Applies one committed command at its log index. The core's own index is as far ahead of the log's as the last restore
 * made it jump. Every server calls it with the same bytes in the same order. A
 * refused or malformed command changes nothing but the applied index, and says why in the result. A command whose
 * idempotency key was seen gets the first one's result again. */
void core_apply(struct core *c, uint64_t index, const void *command, size_t len, struct core_result *result);

uint64_t core_index(const struct core *c);           /* of the last applied command */
int64_t core_time(const struct core *c);              /* of the last applied command; 0: there was none */
uint64_t core_ahead(const struct core *c);           /* of the log's indexes; another number after each restore */
/* Which cluster's state this is: given by its first server, kept over restores elsewhere. NULL: not given yet. */
const char *core_cluster(const struct core *c);
uint64_t core_hash(const struct core *c);            /* running hash of all that was applied; equal on equal servers */
void core_snapshot(const struct core *c, struct buf *out);                         /* versioned; equal states, equal bytes */
struct core *core_read(const void *bytes, size_t len, struct error *err);          /* of a snapshot; NULL: it is none, or damaged */
int core_restore(struct core *c, const void *bytes, size_t len, struct error *err);/* replaces the state, or leaves it */

/* --- the leader's part: desired against actual --- */
/* Looks for one batch of decisions (placements, stops, deployment steps, restarts after their delay, scheduled runs,
 * garbage) and writes them as one command to propose. At most one such command is in flight at a time; it is checked
 * again when applied. Returns false when nothing is to be done now. */
bool core_decide(struct core *c, int64_t now_ms, uint64_t seed, struct buf *command);
/* The earliest time at which core_decide could have something to do by the passing of time alone; INT64_MAX: never. */
int64_t core_next_wake(const struct core *c);

/* --- reading. Names are qualified (model/namespace.h). Pointers are valid until the next core_apply or core_restore. --- */
const struct node *core_node(const struct core *c, const char *id);
const struct node *core_node_by_name(const struct core *c, const char *name);
const struct alloc *core_alloc(const struct core *c, const char *id);
const struct service_version *core_service(const struct core *c, const char *name);      /* the current version */
const struct service_version *core_version(const struct core *c, const char *name, uint64_t version);      /* one that is kept */
const struct deployment *core_deployment(const struct core *c, const char *id);
const struct member *core_member(const struct core *c, const char *id);
const struct policy *core_policy(const struct core *c);                                  /* never NULL */
const struct access *core_access(const struct core *c);                                  /* never NULL */
const struct secrets *core_secrets(const struct core *c);                                /* never NULL */
/* Over the authorities: another one each time that certificates have to be given anew, or others believed. "": none signs. */
#define CERTIFICATE_MARK_SIZE 17
void core_certificate_mark(const struct core *c, char mark[static CERTIFICATE_MARK_SIZE]);
/* A new certificate of this server or node begins then at the earliest: those from before are revoked. 0: whenever. */
int64_t core_certificate_from(const struct access *access, const char *id, const char *role);
struct command_enrol;
/* Whether it would be let in at this time. */
int core_check_enrol(const struct core *c, const struct command_enrol *e, int64_t now_ms, struct error *err);
/* How many there are of each, kept as they come and go. */
struct core_counts { uint64_t nodes[NODE_DOWN + 1], allocs[ALLOC_LOST + 1], services; };     /* by state */
const struct core_counts *core_counts(const struct core *c);
/* In order of id or name; NULL as `after` starts, NULL as answer ends. */
const struct node *core_node_next(const struct core *c, const char *after);
const struct alloc *core_alloc_next(const struct core *c, const char *after);
const struct service_version *core_service_next(const struct core *c, const char *after);
const struct deployment *core_deployment_next(const struct core *c, const char *after);
/* Whether a server of this id may join with this token now; err says why not. */
int core_check_join_token(const struct core *c, const char *token_id, const char *hash, const char *member_id, int64_t now_ms,
                          struct error *err);
const struct member *core_member_next(const struct core *c, const char *after);
const char *core_job_next(const struct core *c, const char *after);
/* The level (COMMAND_LEVEL) of commands that every server knows; 1 while no server said what it knows. */
int64_t core_level(const struct core *c);
/* True when a command with this key was applied; then *result is what it was answered with. */
bool core_answer_of_key(const struct core *c, const char *key, struct core_result *result);
void core_namespace_wants(const struct core *c, const char *namespace, struct quota *out);     /* quota.h */
uint64_t core_secret_next_version(const struct core *c, const char *secret);     /* that a put must have */
uint64_t core_key_bytes(const struct core *c);       /* about what the keys and their answers take in memory */
/* Walks the allocations of one service or node; fn returns false to stop. */
void core_service_allocs(const struct core *c, const char *service, bool (*fn)(void *ctx, const struct alloc *a), void *ctx);
void core_node_allocs(const struct core *c, const char *node_id, bool (*fn)(void *ctx, const struct alloc *a), void *ctx);
void core_service_versions(const struct core *c, const char *service, struct service_version_list *out);  /* copies; list's owner clears */
int core_service_status(const struct core *c, const char *service, struct service_status *out);  /* 0, -1 unknown; owned */
/* For tests: what the core keeps of the service's status is what counting it again gives. */
bool core_service_status_holds(const struct core *c, const char *service);
int core_job(const struct core *c, const char *job, struct job *out);                            /* as submitted, current versions; owned */

/* Events, oldest first, the last 8,192 kept. Returns how many were appended (copies) to out, at most `limit`, those after
 * (index, seq). */
struct event_list { struct event *v; uint32_t n; };
uint32_t core_events(const struct core *c, uint64_t after_index, int64_t after_seq, uint32_t limit, struct event_list *out);
/* The newest event that is kept of this kind, with this subject and state reached; NULL: none. */
const struct event *core_last_event(const struct core *c, const char *kind, const char *subject, const char *to);

/* When something last changed: for waiting reads. `name` narrows to one object where the kind allows; NULL: any.
 * UINT64_MAX when there is no object of that name (any more), so that whoever waits for it looks again. */
enum core_kind { CORE_ANY, CORE_JOB, CORE_SERVICE, CORE_ALLOC, CORE_NODE, CORE_DEPLOYMENT, CORE_NODE_WORK, CORE_MEMBER,
                 CORE_INGRESS, CORE_NETWORK, CORE_KIND_COUNT };
uint64_t core_changed(const struct core *c, enum core_kind kind, const char *name);

/* What a node's agent has to know that changed after `since` (0: everything, full). */
int core_agent_work(const struct core *c, const char *node_id, uint64_t since, struct agent_work *out);

/* What the proxy of an ingress node has to know: the whole table, as of the last change of it. */
void core_agent_ingress(const struct core *c, struct agent_ingress *out);

/* What keeps ways in of this service from working (NULL: of any; then whose each is stands there, "" for one that is gone), as
 * the ingress nodes say, or the one of this id. Owned. */
void core_ingress_problems(const struct core *c, const char *service, const char *node_id, struct ingress_problem_list *out);

/* What a node's agent has to know of the network of microVMs: all of it, as of the last change for this node. */
int core_agent_network(const struct core *c, const char *node_id, struct agent_network *out);

/* --- what-if --- */
struct plan_step { char *service; int64_t replica; char *action; /* start, stop, replace, keep, none */
                   char *node_name; char *alloc; char *why; };
struct plan_step_list { struct plan_step *v; uint32_t n; };
struct plan_service { char *name; char *action; /* create, change, keep, delete */ struct change_list changes;
                      char *profile; struct str_list loosened; /* privileges beyond it */ };
struct plan_service_list { struct plan_service *v; uint32_t n; };
struct plan { struct plan_service_list services; struct plan_step_list steps; };
int core_plan(struct core *c, const struct job *job, int64_t now_ms, struct plan *out, struct error *err);
/* Why a service or an allocation is where it is, or is not placed: JSON with nodes' verdicts and the last events. limit:
 * how many nodes, and how many allocations; how many are left off is told. */
int core_explain(struct core *c, const char *service_or_alloc, uint32_t limit, struct buf *json, struct error *err);
extern const struct type plan_type, event_list_type;
