/* Command: what goes through the replicated log, one typed payload for each kind, and its versioned encoding. */
#pragma once
#include "base/buf.h"
#include "base/error.h"
#include "model/model.h"

/* The numbers stand in logs on disk: never used again for something else. */
enum command_kind {
    COMMAND_NONE = 0,              /* changes nothing; payload: none */
    COMMAND_JOB_SUBMIT = 1,        /* struct command_job_submit */
    COMMAND_JOB_DELETE = 2,        /* struct command_job_delete */
    COMMAND_SERVICE_SCALE = 3,     /* struct command_service_scale */
    COMMAND_SERVICE_RESTART = 4,   /* struct command_service */
    COMMAND_SERVICE_ROLLBACK = 5,  /* struct command_service_rollback */
    COMMAND_SERVICE_DELETE = 6,    /* struct command_service_delete */
    COMMAND_NODE_REGISTER = 7,     /* struct command_node_register */
    COMMAND_NODE_STATE = 8,        /* struct command_node_state */
    COMMAND_NODE_REMOVE = 9,       /* struct command_node */
    COMMAND_ALLOC_REPORT = 10,     /* struct agent_report (model.h) */
    COMMAND_ALLOC_STOP = 11,       /* struct command_alloc */
    COMMAND_ALLOC_RESTART = 12,    /* struct command_alloc */
    COMMAND_DECIDE = 13,           /* struct command_decide */
    COMMAND_MEMBER_SET = 14,       /* struct command_member_set */
    COMMAND_MEMBER_REMOVE = 15,    /* struct command_member_remove */
    COMMAND_JOIN_TOKEN = 16,       /* struct command_join_token */
    COMMAND_RESTORE_CHUNK = 17,    /* struct command_restore_chunk */
    COMMAND_RESTORE = 18,          /* struct command_restore */
    COMMAND_EVENT = 19,            /* struct command_event */
    COMMAND_POLICY_SET = 20,       /* struct command_policy_set */
    COMMAND_INGRESS_REPORT = 21,   /* struct ingress_report (model.h) */
    COMMAND_ROLE_SET = 22,         /* struct command_role_set */
    COMMAND_ROLE_DELETE = 23,      /* struct command_role_delete */
    COMMAND_TOKEN_CREATE = 24,     /* struct command_token_create */
    COMMAND_TOKEN_REVOKE = 25,     /* struct command_token_revoke */
    COMMAND_SERVICE_PROMOTE = 26,  /* struct command_service_promote */
    COMMAND_SERVICE_ABORT = 27,    /* struct command_service */
    COMMAND_CLOCK = 28,            /* struct command_clock */
    COMMAND_SECRET_PUT = 29,       /* struct command_secret_put */
    COMMAND_SECRET_DELETE = 30,    /* struct command_secret_delete */
    COMMAND_SECRET_RESEAL = 31,    /* struct command_secret_reseal */
    COMMAND_IDENTITY_KEY = 32,     /* struct command_identity_key */
    COMMAND_AUTHORITY_SET = 33,    /* struct command_authority_set */
    COMMAND_AUTHORITY_REMOVE = 34, /* struct command_authority_remove */
    COMMAND_ENROL = 35,            /* struct command_enrol */
    COMMAND_AGENT_TOKEN = 37,      /* struct command_join_token: for agents */
    COMMAND_NAMESPACE_PUT = 38,    /* struct command_namespace_put */
    COMMAND_NAMESPACE_DELETE = 39, /* struct command_namespace_delete */
    COMMAND_ALLOC_PAUSE = 54,      /* struct command_alloc */
    COMMAND_ALLOC_RESUME = 55,     /* struct command_alloc */
    COMMAND_NODE_FENCED = 56,      /* struct command_node_fenced */
    COMMAND_NODE_INGRESS = 57,     /* struct command_node: it may take requests from outside */
    COMMAND_KIND_COUNT
};

/* Raised by each release that has new kinds, or fields that older releases must not pass over; a kind is proposed only
 * once all servers know its level (core_level). */
#define COMMAND_LEVEL 6
#define NETWORK_LEVEL 4            /* of the network in node_register, and addresses in alloc_report */
#define CHECKS_IN_PLACE_LEVEL 4    /* below it replicas are replaced for other checks, and all servers must come to the same state */
#define BALLOON_LEVEL 5            /* of config.balloon_mb in job_submit */
#define LEASE_LEVEL 5              /* of volume_lease in node_register */
#define SNAPSHOT_LEVEL 5           /* of config.snapshot in a job */
#define REVOKE_LEVEL 5             /* of revoked_until in node_remove and member_remove */
#define NAMESPACES_LEVEL 5         /* of qualified names, and of namespaces in jobs and roles */
#define ROLLING_ANALYSIS_LEVEL 5   /* of an analysis that a decision begins */
#define SCALE_STAYS_LEVEL 5        /* below it a rollback goes back to the count of a version, too */
#define INGRESS_APART_LEVEL 6      /* below it events of ingress nodes do not say which service they are about */
#define QUOTA_LEAST_LEVEL 6        /* below it a service on every node is free where it finds none */
#define INGRESS_RIGHT_LEVEL 6      /* of ingress in join tokens and by_right in node_register; below it agents have their word */
/* What this program knows, and what it calls itself: COMMAND_LEVEL and MENTAT_VERSION, unless it stands for an earlier
 * release in a test (tests/e2e/older_release.c). */
extern const int64_t command_level;
extern const char *const command_release;

struct command {
    enum command_kind kind;
    int64_t time;                  /* the proposing leader's wall clock */
    char *key;                     /* idempotency key of the request; NULL: none */
    char *actor;                   /* who asked, for events and versions; NULL: the system itself */
    void *payload;                 /* of command_payload_type(kind), owned; NULL for kinds without */
};

/* Stores the job: a new version of each service whose spec changed; services that it leaves out are stopped. The spec
 * must be complete: defaults filled, validated, and time_zone_rule looked up for scheduled tasks. The core validates it
 * again. With check_index, refused unless the job's core_changed() index is expected_index (0: must not exist). */
struct command_job_submit { struct job job; bool check_index; uint64_t expected_index; };
/* The clock by which commands have their times was set, by so many milliseconds: what waits for time to pass waits as long
 * as it would have. Comes before any command with the new time. */
struct command_clock { int64_t by; };
struct command_job_delete { char *name; bool purge; };               /* purge: the versions are forgotten too */
struct command_service { char *service; };
struct command_service_scale { char *service; int64_t count; };
struct command_service_rollback { char *service; uint64_t to_version; };   /* 0: the newest other good one */
/* percent: of a canary, at which it pauses again; 0: all. A version on standby has only all. */
struct command_service_promote { char *service; int64_t percent; };
struct command_service_delete { char *service; bool purge; };
/* revoked_until: certificates of it that there are are believed no more, and the last one expires then; join tokens of several
 * agents are over, too. 0: they stay good. */
struct command_node { char *node_id; int64_t revoked_until; };
/* From agent_hello; state and indexes are ignored. Refused when the node runs tasks of another cluster. network: as the
 * leader's configuration has it. by_right: it is an ingress node only with the right to be one (ingress_right.h). */
struct command_node_register { struct node node; char *cluster; int64_t tasks; struct cluster_network network; bool by_right; };
struct command_node_state { char *node_id; int64_t state /* enum node_state */; char *reason; };
/* Whatever the node ran with volumes that other nodes have too has ended: its lease is over, since it was down from `since`
 * (state_since) on. Refused when it is not down any more, or again. */
struct command_node_fenced { char *node_id; int64_t since; };
struct command_alloc { char *alloc_id; char *reason; };

/* A server says what it is: when it joins, and when that changed. With a token: refused unless that can (still) be used,
 * which uses it up. cluster: what this cluster is called from now on, when it has no name yet. */
struct command_member_set { struct member member; char *token_id, *token_hash, *cluster; };
struct command_member_remove { char *id, *reason; int64_t revoked_until; };      /* as in command_node */
struct command_join_token { struct join_token token; };
/* A snapshot of another time or cluster comes in pieces, in order; the last command puts it in place of the state. Pieces
 * of another upload, or none for an hour, drop what there is. */
struct command_restore_chunk { char *upload; int64_t offset; char *data; };      /* data: base64 */
struct command_restore { char *upload; int64_t size; uint64_t hash; int64_t taken_at; };   /* hash: hash_bytes(…, 0) */

struct command_event { char *kind, *subject, *to, *reason; };    /* something that the leader saw, for the events alone */
/* In place of the one before. What runs goes on; it is for what is submitted from now on. */
struct command_policy_set { struct policy policy; bool initial; };     /* initial: nothing in a cluster that has members */

struct command_role_set { struct role role; };                   /* in place of the one of its name */
struct command_role_delete { char *name; };                      /* refused while a token carries it */
struct command_token_create { struct access_token token; };      /* id, name, secret_hash, roles, expires_at are taken */
struct command_token_revoke { char *id; };

/* In place of the one of its name. */
struct command_namespace_put { struct namespace namespace; };
struct command_namespace_delete { char *name; };                 /* refused while jobs or secrets are in it */

/* A new version, which must be the next one: it is sealed for that number. services: in place of those that there are, with
 * set_services. Services that name the secret are restarted or told. */
struct command_secret_put { char *name, *sealed; uint64_t version; int64_t bytes; struct str_list services; bool set_services; };
struct command_secret_delete { char *name; };                    /* refused while a service names it */
/* The same values under another key of the cluster; what is not there any more is passed over. secrets: "NAME/VERSION".
 * cluster_key: the id of the key that is in force from now on; NULL: as before. */
struct command_secret_reseal { struct kv_list secrets, keys; char *cluster_key; };
/* The key from which on tokens of tasks are signed; those in drop are not believed any more. */
struct command_identity_key { struct identity_key key; struct str_list drop; };
/* A new authority, or one of this id in another state. One that begins to sign makes the one that did leave, until then
 * at the latest. */
struct command_authority_set { struct authority authority; int64_t other_until; };
struct command_authority_remove { char *id, *reason; };          /* refused for the one that signs */
/* Who has a join token is to get a certificate, as this server or as the agent of this node. Refused unless the token can
 * be used, and while a node of this name lives. May be repeated by the same one. */
struct command_enrol { bool agent; char *name, *token_id, *token_hash; };

/* One batch of the leader's decisions. Only the core itself writes and reads these. */
struct decide_place {
    char *alloc_id, *service; uint64_t version; int64_t replica; char *node_id;
    struct alloc_port_list ports; double cpus; int64_t memory_mb, disk_mb;
    char *previous;                /* the allocation that it replaces, when there is one */
    char *reason;
    int64_t attempt;
    int64_t run_at;                /* of a scheduled run; 0: none */
};
struct decide_place_list { struct decide_place *v; uint32_t n; };
struct decide_stop {
    char *alloc_id; char *reason;
    uint64_t version;              /* of the service when this was decided; 0: it was stopped. Another one now: skipped */
    char *replacement;             /* skipped unless this one serves; NULL: no condition */
    bool draining;                 /* skipped unless its node still drains */
};
struct decide_stop_list { struct decide_stop *v; uint32_t n; };
struct decide_deployment {
    char *id; int64_t state /* enum deployment_state */; char *reason;
    int64_t desired, placed, healthy, unhealthy;
    bool set_share; int64_t share;                      /* its part of the requests, in percent */
    bool promote;                                       /* the version before need not stand by any more */
    bool held;                                          /* another service comes first, or the analysis takes its time */
    int64_t analysis;                                   /* enum analysis_outcome, when it came to one; of a rollout also when it begins */
};
struct decide_deployment_list { struct decide_deployment *v; uint32_t n; };
/* What the reconciler found of one service: shown by status and explain on every server. */
struct decide_service {
    char *service; uint64_t version; char *reason;      /* reason NULL: nothing is wrong */
    int64_t unplaced;                                   /* replicas for which there is no room */
    bool set_next_run; int64_t next_run_at, run_at;     /* scheduled tasks; run_at: the run that is due now */
    char *skipped;                                      /* why a due run does not start */
};
struct decide_service_list { struct decide_service *v; uint32_t n; };
struct command_decide {
    struct decide_place_list places;
    struct decide_stop_list stops;
    struct str_list restarts;      /* allocations whose generation is raised */
    struct decide_deployment_list deployments;
    struct decide_service_list services;
    struct str_list forget;        /* ended allocations that are forgotten */
    struct str_list forget_nodes;  /* down for so long that they will not come back */
};

extern const struct type command_job_submit_type, command_job_delete_type, command_service_type, command_service_scale_type,
    command_service_rollback_type, command_service_promote_type, command_clock_type, command_service_delete_type, command_node_type,
    command_node_register_type,
    command_node_state_type, command_node_fenced_type, command_alloc_type, command_decide_type, command_member_set_type, command_member_remove_type,
    command_join_token_type, command_restore_chunk_type, command_restore_type, command_event_type,
    command_policy_set_type, command_role_set_type, command_role_delete_type, command_token_create_type,
    command_token_revoke_type, command_secret_put_type, command_secret_delete_type, command_secret_reseal_type,
    command_identity_key_type, command_authority_set_type, command_authority_remove_type, command_enrol_type, command_namespace_put_type,
    command_namespace_delete_type;

/* NULL when the kind has no payload or is unknown. */
const struct type *command_payload_type(enum command_kind kind);
const char *command_kind_name(enum command_kind kind);
int64_t command_kind_level(enum command_kind kind);    /* see COMMAND_LEVEL */
int64_t command_job_level(const struct job *job);      /* that a submit of this job needs, for what its services use */
int64_t command_role_level(const struct role *role);
int64_t command_name_level(const char *qualified);     /* that a command about what has this name needs; 0: that of its kind */

/* A command with a fresh payload (defaults of its type). key and actor are copied; cleared by command_clear. */
void command_init(struct command *c, enum command_kind kind, int64_t time_ms, const char *key, const char *actor);
void command_clear(struct command *c);
static inline void command_clear_cleanup_value(struct command *c) { command_clear(c); }
#define CLEANUP_COMMAND __attribute__((cleanup(command_clear_cleanup_value)))   /* CLEANUP_COMMAND struct command c; */

/* Appends the bytes: version, kind, time, key, actor, payload. Equal commands give equal bytes. */
void command_encode(const struct command *c, struct buf *out);
/* Gives an encoded command another time. */
void command_stamp(void *bytes, size_t len, int64_t time_ms);
/* Encodes a payload that the caller keeps, without copying it into a command. */
void command_encode_payload(enum command_kind kind, int64_t time_ms, const char *key, const char *actor,
                            const void *payload, struct buf *out);
/* Fills *c, which the caller clears; on failure *c is zero. Unknown versions and kinds are ERROR_UNSUPPORTED. */
int command_decode(const void *bytes, size_t len, struct command *c, struct error *err);
