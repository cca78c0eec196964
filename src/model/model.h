/* The plain model: what users write, what the servers keep, what agents report. Shared by parser, wire, store,
 * scheduler and printer. Every type has a table in src/model; the memory rules are those of field.h. */
#pragma once
#include "model/field.h"

/* --- what users write: services.yaml --- */
enum driver_kind { DRIVER_NONE, DRIVER_FIRECRACKER, DRIVER_DOCKER, DRIVER_EXEC };
enum service_mode { MODE_SERVICE, MODE_EVERY_NODE, MODE_TASK };
enum protocol { PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_HTTP };
enum constraint_op { OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_IN, OP_MATCHES, OP_EXISTS, OP_DISTINCT };
enum health_type { HEALTH_NONE, HEALTH_HTTP, HEALTH_TCP, HEALTH_EXEC };
enum restart_then { THEN_RESCHEDULE, THEN_FAIL };
enum analysis_then { ANALYSIS_PROMOTE, ANALYSIS_PAUSE };
enum deploy_strategy { STRATEGY_ROLLING, STRATEGY_BLUE_GREEN, STRATEGY_CANARY };
enum pull_policy { PULL_MISSING, PULL_ALWAYS, PULL_NEVER };
enum security_profile { PROFILE_DEFAULT, PROFILE_FIRECRACKER, PROFILE_DOCKER_HARDENED, PROFILE_DOCKER_LEGACY, PROFILE_EXEC_INTERNAL };
enum secret_change { ON_CHANGE_RESTART, ON_CHANGE_SIGNAL, ON_CHANGE_NONE };

struct port { char *name; int64_t port; int64_t host; enum protocol protocol; };         /* host 0: dynamic */
struct port_list { struct port *v; uint32_t n; };
struct volume { char *source; char *name; char *target; int64_t size_mb; bool read_only; };
struct volume_list { struct volume *v; uint32_t n; };
struct rate_limits { int64_t disk_bytes_per_second, disk_ops_per_second, net_bytes_per_second; };

/* The driver's own block; one struct for all drivers, each key's `only` says whose it is. */
struct config {
    char *image, *kernel, *kernel_args;
    int64_t vcpus, memory_mb, balloon_mb;
    struct rate_limits rate_limits;
    enum pull_policy pull;
    struct str_list entrypoint;
    char *network, *registry_auth;
    struct str_list command;         /* exec: one word, the program; docker: the image's CMD replaced */
    struct str_list args;
    struct kv_list env;
    struct volume_list volumes;
    char *user, *workdir;
    bool snapshot;                   /* firecracker: later replicas begin with the first one's memory */
    char *snapshot_signal;
    struct kv_list ulimits;          /* docker: "nofile": "1024:2048" */
};
struct resources { double cpus, cpu_max; int64_t memory_mb, disk_mb, pids; };             /* cpu_max, disk_mb, pids 0: none */
struct constraint { char *attribute; enum constraint_op op; struct str_list value; };
struct constraint_list { struct constraint *v; uint32_t n; };
struct affinity { char *attribute; enum constraint_op op; struct str_list value; int64_t weight; };  /* -100..100, default 50 */
struct affinity_list { struct affinity *v; uint32_t n; };
struct health {
    enum health_type type; char *port, *path; struct str_list command;
    int64_t interval_ms, timeout_ms, healthy, unhealthy, grace_ms, min_running_ms;
};
struct restart { int64_t attempts, window_ms, delay_ms; enum restart_then then; };
struct kill { char *signal; int64_t timeout_ms; };
/* How a canary is judged by its requests. window_secs 0: it is not. max_error_rate_increase in percentage points;
 * max_p99_ratio 0: its latency is no matter. */
struct analysis {
    int64_t window_secs, min_requests; double max_error_rate_increase, max_p99_ratio; int64_t timeout_secs;
    enum analysis_then then;
};
struct deploy {
    enum deploy_strategy strategy; int64_t max_unavailable, health_timeout_secs; bool auto_revert;
    int64_t canary_percent, standby_secs, min_healthy_secs; struct analysis analysis;
};
struct ingress { char *host, *path, *port; bool tls; char *redirect_https /* "true", "false", NULL: as tls */;
                 bool sticky; enum protocol protocol; int64_t listen; bool acme;
                 char *certificate /* name of a secret; NULL: none */;
                 char *sticky_header /* of a request; NULL: none */;
                 int64_t max_body_mb, requests_per_second /* of a client's address; 0: no limit of its own */; };
struct ingress_list { struct ingress *v; uint32_t n; };
/* Next to the profile, what the service changes of it; "true", "false", NULL: as the profile. */
struct security {
    enum security_profile profile;
    char *root, *writable_root, *new_privileges, *any_network, *any_volume, *engine_seccomp;
    struct str_list capabilities;    /* empty: as the profile; "none": none */
    int64_t tmpfs_mb;                /* 0: as the profile */
};
struct secret_ref { char *name, *env, *file; enum secret_change on_change; };
struct secret_ref_list { struct secret_ref *v; uint32_t n; };
/* A signed token that says which task this is, for other systems; no audience: none. */
struct identity_spec { struct str_list audience; char *file; int64_t ttl_ms; };
struct logs { int64_t max_files, max_mb; };

struct service {
    char *name;
    enum driver_kind driver;
    enum service_mode mode;
    char *schedule;                  /* cron, five fields; only with mode task */
    char *time_zone;                 /* IANA name or POSIX TZ rule; default UTC */
    char *time_zone_rule;            /* internal: the POSIX rule that the first server found for time_zone */
    int64_t count;
    struct config config;
    struct kv_list env;
    struct port_list ports;
    struct resources resources;
    struct volume_list volumes;
    struct constraint_list constraints;
    struct affinity_list affinities;
    char *spread;                    /* "node" or an attribute such as "meta.zone" */
    int64_t priority;                /* 1..100, default 50 */
    struct health health;
    struct restart restart;
    struct kill kill;
    struct deploy deploy;
    struct ingress_list ingress;
    struct security security;
    struct secret_ref_list secrets;
    struct identity_spec identity;
    struct logs logs;
    struct kv_list meta;
    struct str_list after;           /* services of the job that are healthy first */
    char *adopt;                     /* internal: id of a container that replica 0 takes over, once, instead of making one */
};
struct service_list { struct service *v; uint32_t n; };
/* A file: `job:` and `services:`, or one service alone (then the job has the service's name). In JSON the job's name
 * is `name`. namespace NULL: default; see namespace.h. */
struct job { char *name, *namespace; struct service_list services; };

/* --- policy.yaml: what services may, over the whole cluster; empty: no exceptions, every profile for everybody. A new
 * cluster begins with policy_restricted of model/profile.h --- */
struct policy_profile { char *name; struct str_list services; };         /* only these services may use it */
struct policy_profile_list { struct policy_profile *v; uint32_t n; };
struct policy_exception { struct str_list services, allow; char *why; }; /* allow: privileges beyond the profile */
struct policy_exception_list { struct policy_exception *v; uint32_t n; };
struct policy { struct policy_profile_list profiles; struct policy_exception_list exceptions; };

/* --- what the servers keep --- */
enum alloc_state { ALLOC_PENDING, ALLOC_STARTING, ALLOC_RUNNING, ALLOC_HEALTHY, ALLOC_UNHEALTHY, ALLOC_STOPPING,
                   ALLOC_COMPLETE, ALLOC_FAILED, ALLOC_LOST };
enum alloc_desired { DESIRED_RUN, DESIRED_STOP };
/* On the way out of traffic, which ends with a stop, or with a restart in place: no new requests meanwhile. */
enum alloc_leaving { LEAVING_NOT, LEAVING_TO_STOP, LEAVING_TO_RESTART };
enum node_state { NODE_READY, NODE_DRAINING, NODE_INELIGIBLE, NODE_DOWN };
enum deployment_state { DEPLOYMENT_RUNNING, DEPLOYMENT_PAUSED, DEPLOYMENT_SUCCESSFUL, DEPLOYMENT_FAILED,
                        DEPLOYMENT_REVERTED, DEPLOYMENT_CANCELLED };
enum service_state { SERVICE_PENDING, SERVICE_RUNNING, SERVICE_DEGRADED, SERVICE_COMPLETE, SERVICE_FAILED, SERVICE_STOPPED,
    SERVICE_STOPPING };

struct driver_info { char *name; bool healthy; char *version; char *detail; };           /* detail: why not healthy */
struct driver_info_list { struct driver_info *v; uint32_t n; };

/* What a server or an agent has of the cluster's certificates. */
struct certificate_state {
    char *mark;                      /* of the authorities when it got its certificate (core_certificate_mark); NULL: it has none of theirs */
    int64_t until;                   /* it expires */
};
/* How machines of different nodes reach each other. */
enum network_link { LINK_NONE, LINK_VXLAN, LINK_ROUTES };
/* The network of all microVMs, as server.yaml has it. range NULL: each node's agent.yaml has its own, without links. */
struct cluster_network { char *range; int64_t node_bits; enum network_link link; int64_t vni, port; };
#define NETWORK_AUTO "auto"
/* A node's part of it. wanted: what its agent asks for, NETWORK_AUTO or a network of its own; NULL: nothing. subnet: what
 * it has, as the servers say, or none with the reason in `problem`; from an agent: what it had. */
struct node_network { char *wanted, *subnet, *problem; enum network_link link; int64_t vni, port; };

/* A block image, or (size_mb 0) a directory, that a node holds. name: its directory below the node's volume root; service and replica: whose it is. */
struct node_volume { char *name, *service; int64_t replica, size_mb, used_mb; };
#define VOLUME_LEFTOVER ".deleted"   /* ends the name of a directory that is being deleted */
struct node_volume_list { struct node_volume *v; uint32_t n; };

struct node {
    char *id, *name, *address;       /* address: host:port of the agent API */
    char *node_class;                /* "class" outside */
    char *ip;                        /* what replicas are reached at */
    char *version;                   /* of the agent */
    enum node_state state; char *state_reason;
    char *arch, *kernel; bool kvm;
    bool ingress;                    /* it takes requests from outside, by a proxy of its own */
    struct str_list ingress_problems;    /* what of them it cannot take: in answers alone */
    double cpus; int64_t memory_mb, disk_mb;              /* what Mentat may use */
    struct driver_info_list drivers;
    struct node_network network;     /* of its microVMs */
    struct kv_list meta;
    struct certificate_state certificate;
    struct node_volume_list volumes;
    int64_t volume_lease_ms;         /* other nodes have its volumes too: how long it may use them unheard of; 0: they do not */
    int64_t registered_at, state_since;
    uint64_t create_index, modify_index;
};

struct alloc_port { char *name; int64_t port, host; enum protocol protocol; };
struct alloc_port_list { struct alloc_port *v; uint32_t n; };

struct alloc {
    char *id, *service, *job;
    uint64_t version;                /* of the service */
    int64_t replica;                 /* stable index 0, 1, 2 …; every-node: 0 */
    char *node_id, *node_name;
    enum alloc_desired desired; char *desired_reason;
    enum alloc_leaving leaving;
    enum alloc_state state; char *reason;
    double cpus; int64_t memory_mb, disk_mb;              /* what it holds of the node */
    struct alloc_port_list ports;
    char *ip;
    char *address;                   /* of its own, on the network of microVMs; NULL: it has none */
    int64_t exit_code, exit_signal; bool exited, oom;     /* of the last run, when exited */
    int64_t restarts;                /* by the agent, in this allocation */
    int64_t generation;              /* raised by `mt restart`: the agent restarts the task when it grows */
    bool paused;                     /* its task is to stand still */
    char *previous;                  /* the allocation that it replaces */
    char *deployment;
    int64_t attempt;                 /* reschedules in a row of this replica */
    int64_t created_at, started_at, finished_at, state_since;
    uint64_t create_index, modify_index;
};
struct alloc_list { struct alloc *v; uint32_t n; };

struct service_version {
    char *service, *job; uint64_t version; struct service spec;
    int64_t submitted_at; char *submitted_by; char *why; uint64_t create_index;          /* why: "submitted", "rollback to 2" */
};
struct service_version_list { struct service_version *v; uint32_t n; };

/* How a service stands, derived from its version and allocations. */
struct service_status {
    char *name, *job; enum driver_kind driver; enum service_mode mode; uint64_t version;
    enum service_state state; char *reason;               /* reason: why not as desired, in plain words */
    int64_t desired, placed, running, healthy, failed;
    char *deployment; int64_t next_run_at;                /* next_run_at: scheduled tasks */
    uint64_t create_index, modify_index;
};

/* What was seen of the requests of one side; p99_ms 0: not known. */
struct analysis_side { int64_t requests, errors, p99_ms; };
enum analysis_outcome { OUTCOME_NONE, OUTCOME_OPEN, OUTCOME_PASSED, OUTCOME_FAILED, OUTCOME_INCONCLUSIVE };
/* since: when the window began; 0: it has not. */
struct deployment_analysis { enum analysis_outcome outcome; int64_t since; struct analysis_side canary, stable; };

struct deployment {
    char *id, *service, *job; uint64_t version, previous_version; enum deploy_strategy strategy;
    enum deployment_state state; char *reason;
    int64_t desired, placed, healthy, unhealthy;
    int64_t created_at, finished_at; uint64_t create_index, modify_index;
    /* blue-green and canary: the new version's part of the requests, as it is and as it is to become */
    int64_t traffic_percent, target_percent;
    int64_t standby_until;           /* blue-green: until when the version before stands by */
    struct deployment_analysis analysis;
};

struct event {
    uint64_t index; int64_t seq;     /* index of the command and number within it: the order everywhere */
    int64_t time; char *kind;        /* "job", "service", "alloc", "node", "deployment" */
    char *subject;                   /* id or name of what it speaks of */
    char *service, *alloc, *node;    /* when it concerns one */
    char *from, *to;                 /* states, when it is a transition */
    char *reason;                    /* plain words */
    char *namespace;                 /* for users alone: event_show */
};

/* A server of the cluster, as it said of itself; who votes is the log's own business (consensus.h). */
struct member {
    char *id, *name;                 /* id: its number in the log's membership, as text */
    char *address;                   /* host:port of its API */
    char *raft_address;              /* host:port at which other servers reach it */
    char *version;                   /* of the program */
    int64_t level;                   /* the newest kinds of commands that it knows (COMMAND_LEVEL) */
    struct certificate_state certificate;
    int64_t joined_at;
    uint64_t create_index, modify_index;
};
struct member_list { struct member *v; uint32_t n; };
/* Lets one server join, once, or some agents. */
struct join_token {
    char *id, *secret_hash;          /* SHA-256 of the secret, hexadecimal */
    char *created_by, *used_by;      /* used_by: who joined with it last, a server's id or an agent's node; NULL: not used */
    int64_t created_at, expires_at, used_at;
    bool agents;                     /* it is for agents */
    bool ingress;                    /* whose nodes may take requests from outside */
    int64_t uses;                    /* by so many; 0: one */
    int64_t used;                    /* by so many already */
};

/* --- who may do what: model/access.h --- */
/* services empty: on all; namespaces empty: in default. */
struct role_rule { struct str_list allow, services, namespaces; };
struct role_rule_list { struct role_rule *v; uint32_t n; };
struct role { char *name; struct role_rule_list rules; uint64_t modify_index; };
struct role_list { struct role *v; uint32_t n; };
/* As text: ID.SECRET. */
struct access_token {
    char *id, *name, *secret_hash;   /* SHA-256 of the secret, hexadecimal */
    struct str_list roles;
    char *created_by;
    int64_t created_at, expires_at;  /* expires_at 0: never */
    uint64_t create_index;
};
struct access_token_list { struct access_token *v; uint32_t n; };
/* An authority that signs, or signed, certificates of servers and agents. */
enum authority_state { AUTHORITY_COMING, AUTHORITY_SIGNING, AUTHORITY_LEAVING };      /* all are believed, one signs */
struct authority {
    char *id;                        /* SHA-256 of its public key, hexadecimal */
    char *certificate;               /* PEM */
    char *cross;                     /* PEM: the same key signed by the one before, for who believes that one; NULL: none */
    char *sealed_key;                /* its private key, sealed with the cluster's key (seal.h), base64; NULL: it cannot sign */
    enum authority_state state;
    int64_t created_at, since;       /* since: it is in this state */
    int64_t until;                   /* leaving: taken out then at the latest */
};
struct authority_list { struct authority *v; uint32_t n; };
/* namespace.h. What is 0 in a quota has no limit. */
struct quota { double cpus; int64_t memory_mb, replicas; };
struct namespace { char *name; struct quota quota; uint64_t create_index, modify_index; };
struct namespace_list { struct namespace *v; uint32_t n; };
/* Certificates that are believed no more although they did not expire: of this server or node, from before that time. */
struct revocation { char *name; int64_t before, until; };                    /* "7.server", "n1.agent"; until: forgotten then */
struct revocation_list { struct revocation *v; uint32_t n; };
/* All of it, as the servers keep it. */
struct access {
    struct role_list roles; struct access_token_list tokens; uint64_t modify_index;
    struct authority_list authorities;
    struct revocation_list revoked;
    struct namespace_list namespaces;      /* beside default, and default when it has a quota */
    struct kv_list ingress_nodes;          /* by name, whether they may take requests from outside: "yes", "no" */
};

/* --- secrets: model/secret.h --- */
/* sealed: the value under the cluster's key (server/seal.h), good for this name and version alone. */
struct secret_version { uint64_t version; char *sealed; int64_t bytes, created_at; char *created_by; uint64_t create_index; };
struct secret_version_list { struct secret_version *v; uint32_t n; };
struct secret { char *name; struct str_list services; struct secret_version_list versions; uint64_t create_index, modify_index; };
struct secret_list { struct secret *v; uint32_t n; };                        /* in order of name */
/* What tokens of tasks are signed with. public_key: JWK members x and y, "X.Y"; sealed: the private key, as DER. */
struct identity_key { char *id, *public_key, *sealed; int64_t created_at; };
struct identity_key_list { struct identity_key *v; uint32_t n; };            /* oldest first */
/* All of it, as the servers keep it. cluster_key: id of the key that leaders seal with, which most servers have; floor:
 * versions up to this one were those of secrets that were deleted. */
struct secrets { struct secret_list secrets; struct identity_key_list keys; char *cluster_key; uint64_t floor, modify_index; };

/* --- between agents and servers --- */
/* What a container that somebody else made is as a service. notes: what later versions have differently; losses: data
 * that they will not find; obstacles: why it cannot be one. */
struct found_container { char *id, *name; struct job job; struct str_list notes, losses, obstacles; };
/* Header of a log's answer: "NUMBER-OFFSET" of its first byte. The offset and a count of bytes make the place to go on. */
#define LOG_POSITION_HEADER "X-Mentat-Log-Position"
/* What an agent says of one allocation. Reports are idempotent: a repeated or older one (smaller seq) changes nothing. */
struct alloc_report {
    char *id; uint64_t seq;          /* counts up per allocation on the agent, kept in its store */
    enum alloc_state state; char *reason; int64_t time;
    int64_t exit_code, exit_signal; bool exited, oom; int64_t restarts, started_at, finished_at;
    char *ip, *address;
};
struct alloc_report_list { struct alloc_report *v; uint32_t n; };
struct agent_report { char *node_id; struct alloc_report_list allocs; };                 /* POST /v1/agent/report */
/* POST /v1/agent/register. cluster: whose word the agent last took (NULL: nobody's); tasks: how many run by that. */
struct agent_hello { struct node node; char *cluster; int64_t tasks; };
/* Its answer, and that to a heartbeat. servers: addresses of the APIs of all servers; empty when they are not known. */
struct agent_welcome {
    int64_t heartbeat_ms; uint64_t index; struct str_list servers; char *cluster;
    char *network;                   /* of microVMs, as the leader is configured, in words: another one than at its registration:
                                      * it registers again; NULL: some server does not know of it */
    struct revocation_list revoked;  /* of servers: they are not believed any more */
    char *certificate_mark;          /* whose certificate has another one asks for a new one; NULL: the cluster has no authority */
};
struct agent_heartbeat { char *node_id; };                                               /* POST /v1/agent/heartbeat */
/* Where a replica of a service is reached, for the others of the service. */
struct peer { char *alloc, *node_id; int64_t replica; char *ip; struct alloc_port_list ports; };
struct peer_list { struct peer *v; uint32_t n; };
struct service_peers { char *service; struct peer_list peers; };                         /* in order of replica */
struct service_peers_list { struct service_peers *v; uint32_t n; };
/* Which version of each of its secrets a version of a service gets now. */
struct service_secrets { char *service; uint64_t version; struct kv_list secrets; };
struct service_secrets_list { struct service_secrets *v; uint32_t n; };
/* GET /v1/agent/secrets?node=ID&alloc=ID: the values for one allocation. value: base64. */
struct secret_value { char *name; uint64_t version; char *value; };
struct secret_value_list { struct secret_value *v; uint32_t n; };
struct agent_secrets { struct secret_value_list secrets; char *identity; int64_t identity_expires_at; };
/* GET /v1/agent/allocs?node=ID&index=N&wait=60s: what changed for the node since index N; everything when full. An
 * allocation that the servers have forgotten is in `gone`. services holds each (service, version) that allocs name,
 * peers each service of live allocs whose replicas are told of each other (core/peers.h says which are), secrets each
 * version of a service among them that names some. */
struct agent_work {
    uint64_t index; bool full;
    struct service_version_list services; struct alloc_list allocs; struct str_list gone;
    struct service_peers_list peers;
    struct service_secrets_list secrets;
};

/* --- network of microVMs: GET /v1/agent/network?node=ID&index=N&wait=60s --- */
struct network_node { char *name, *ip, *subnet; };
struct network_node_list { struct network_node *v; uint32_t n; };
/* A replica that lives. serves: it is healthy, or runs without a check, and is to stay. */
struct network_replica { char *alloc; int64_t replica; char *ip, *address; struct alloc_port_list ports; bool serves; };
struct network_replica_list { struct network_replica *v; uint32_t n; };
struct network_service { char *name, *job; struct network_replica_list replicas; };
struct network_service_list { struct network_service *v; uint32_t n; };
/* All of it as of `index`: this node's part, the others', and the services of each job that has a machine here. */
struct agent_network { uint64_t index; struct node_network own; struct network_node_list nodes;
                       struct network_service_list services; };

/* --- ingress: GET /v1/agent/ingress?node=ID&index=N&wait=60s, by agents with `ingress: true` --- */
/* A replica that takes requests. weight: 0..256, its part of the service's new requests; 0: prepared, but gets none (the
 * new ones of a blue-green deployment before the switch, the old ones after it). leaving: no new requests, those under way
 * finish, then the agent names it in `idle`, and the replica may stop. canary: with canary_percent, of the new version. */
struct ingress_target { char *alloc; uint64_t version; char *ip; int64_t port, weight; bool leaving, canary; };
struct ingress_target_list { struct ingress_target *v; uint32_t n; };
/* One entry of a service's `ingress`; no targets: a page that says so is served. */
struct ingress_route {
    char *service, *job; struct ingress ingress; struct ingress_target_list targets;
    uint64_t certificate_version;    /* of the secret that ingress.certificate names; 0: none */
    uint64_t measured;               /* a canary is judged: its versions are measured since the table of this index; 0: none */
    int64_t canary_percent;          /* with sticky_header, while two versions share the requests: the canary's part; 0: they do not */
};
struct ingress_route_list { struct ingress_route *v; uint32_t n; };
/* What keeps a way in from working, as the ingress node of this name says; node "": there is none. */
struct ingress_problem { char *node, *problem, *service; };      /* service NULL: of all of the node's */
struct ingress_problem_list { struct ingress_problem *v; uint32_t n; };
/* Whoever asks any ingress node for /.well-known/acme-challenge/TOKEN at this host gets the answer. ready: every one has it. */
struct acme_challenge { char *host, *token, *answer; bool ready; };
struct acme_challenge_list { struct acme_challenge *v; uint32_t n; };
/* The whole table as of `index`, in order of service and entry. */
struct agent_ingress { uint64_t index; struct ingress_route_list routes; struct acme_challenge_list challenges; };
/* So many requests took at most so long; ms as latency.h has it. */
struct latency { int64_t ms, requests; };
struct latency_list { struct latency *v; uint32_t n; };
/* errors: answered with 5xx, or not to the end. latencies: of those that the node saw one by one, in order. */
struct version_measure { uint64_t version; int64_t requests, errors; struct latency_list latencies; };
struct version_measure_list { struct version_measure *v; uint32_t n; };
/* What a node measured of a service's versions, as the table of index `measured` asked. since: when its agent began; what it
 * tells grows until it begins anew. */
struct ingress_measure { char *service; uint64_t measured; int64_t since; struct version_measure_list versions; };
struct ingress_measure_list { struct ingress_measure *v; uint32_t n; };
/* POST /v1/agent/ingress: the table that is in force in this node's proxy, read back from it, and the leaving targets that
 * no process of the proxy has a connection to. problem: why a newer table is not in force; NULL: it is. */
/* problem: why there is no (newer) certificate; NULL: there is none. */
struct acme_certificate { char *host; int64_t expires_at; char *problem; };
struct acme_certificate_list { struct acme_certificate *v; uint32_t n; };
/* What a node says of the certificates that it gets for itself; of two, that with the higher seq (a time) is the newer. */
struct acme_report { int64_t seq; struct acme_challenge_list challenges; struct acme_certificate_list certificates; };
struct ingress_report {
    char *node_id; uint64_t applied; struct str_list idle; char *problem; struct ingress_measure_list measures;
    struct acme_report acme;
};

extern const struct type port_type, volume_type, rate_limits_type, config_type, resources_type, constraint_type, affinity_type, health_type_table,
    restart_type, kill_type, analysis_type, deploy_type, ingress_type, security_type, policy_type, secret_ref_type, identity_spec_type, logs_type, service_type, job_type;
extern const struct type cluster_network_type, node_network_type, network_node_type, network_replica_type, network_service_type,
    agent_network_type;
extern const struct type driver_info_type, node_volume_type, node_type, alloc_port_type, alloc_type, service_version_type,
    service_status_type, deployment_type, event_type, certificate_state_type, member_type, join_token_type, authority_type, revocation_type,
    role_type, access_token_type, access_type, quota_type, namespace_type, secret_version_type, secret_type, identity_key_type, secrets_type;
extern const struct type alloc_report_type, agent_report_type, agent_hello_type, agent_welcome_type,
    agent_heartbeat_type, agent_work_type, peer_type, service_peers_type, found_container_type, ingress_target_type, latency_type, version_measure_type, ingress_measure_type,
    acme_challenge_type, acme_certificate_type, acme_report_type, ingress_route_type, ingress_problem_type, agent_ingress_type, ingress_report_type,
    service_secrets_type, secret_value_type, agent_secrets_type;

extern const char *const driver_kind_names[], *const service_mode_names[], *const protocol_names[],
    *const constraint_op_names[], *const health_type_names[], *const deploy_strategy_names[], *const analysis_then_names[], *const analysis_outcome_names[],
    *const alloc_state_names[], *const authority_state_names[], *const alloc_desired_names[], *const alloc_leaving_names[], *const node_state_names[],
    *const deployment_state_names[], *const service_state_names[], *const restart_then_names[],
    *const network_link_names[], *const pull_policy_names[], *const security_profile_names[], *const secret_change_names[];

/* True when both are the same way in: host and path, or port. */
bool ingress_same_way(const struct ingress *a, const struct ingress *b);
bool spec_takes_web(const struct service *spec);         /* it has a way in for HTTP */

/* services.yaml: a job, or a single service. ${VAR} from --var is replaced first when vars is not NULL; other ${…}
 * stay for the agent. Fills defaults and validates everything. */
int job_from_yaml(const char *text, size_t len, const struct kv_list *vars, struct job *job, struct problem_list *problems);
/* JSON Schema of a services.yaml file. */
void job_schema(struct buf *out);

static inline bool spec_has_volume(const struct service *spec) { return spec->volumes.n || spec->config.volumes.n; }
/* True while the allocation takes room on its node: everything but complete, failed and lost. */
static inline bool alloc_live(const struct alloc *a) { return a->state < ALLOC_COMPLETE; }
static inline bool alloc_wanted(const struct alloc *a) { return a->desired == DESIRED_RUN && alloc_live(a); }
