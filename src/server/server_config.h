/* Server configuration: /etc/mentat/server.yaml and the flags of the same names, from one table. */
#pragma once
#include "base/error.h"
#include "base/log.h"
#include "model/model.h"

#define SERVER_CONFIG_FILE "/etc/mentat/server.yaml"

enum new_cluster_policy { POLICY_RESTRICTED, POLICY_OPEN };

enum server_access { ACCESS_AUTO, ACCESS_OPEN, ACCESS_TOKENS };
enum server_tls { TLS_DEFAULT, TLS_AUTO, TLS_FILES, TLS_OFF };
enum server_audit { AUDIT_AUTO, AUDIT_OFF, AUDIT_ON, AUDIT_REQUIRED };

enum audit_sink_kind { AUDIT_SINK_NONE, AUDIT_SINK_SYSLOG, AUDIT_SINK_COMMAND };

struct server_config {
    char *name;                      /* default: the host's name */
    char *data_dir;
    char *bind;
    int64_t port;                    /* 0: any free one (tests) */
    char *advertise;                 /* host[:port] at which agents, clients and other servers reach the API */
    char *raft_bind;
    int64_t raft_port;               /* 0: port + 2 */
    char *raft_advertise;
    struct str_list servers;         /* APIs of all servers, for founding */
    int64_t expect;                  /* how many of them found the cluster; -1 becomes their number, or 1 */
    int64_t server_id;               /* 0: a random one */
    int64_t election_timeout_ms, raft_heartbeat_ms, dead_server_after_ms;
    int64_t http_threads;
    int tls;                         /* enum server_tls; the default becomes one of the others */
    char *tls_cert, *tls_key, *tls_ca;
    struct str_list tls_names;
    int64_t certificate_lifetime_ms, certificate_renewal_ms;
    char *join_token_file;
    char *cluster_key_file, *cluster_key_command;
    bool allow_insecure;
    int access;                      /* enum server_access */
    int audit;                       /* enum server_audit */
    char *audit_dir, *audit_command;
    int audit_sink;                  /* enum audit_sink_kind */
    int64_t audit_mb, audit_keep_ms;
    int new_cluster_policy;          /* enum new_cluster_policy */
    int64_t heartbeat_ms, node_grace_ms, mass_loss_hold_ms;
    char *backup_dir, *backup_command;
    int64_t backup_every_ms, backup_keep_ms;
    int64_t segment_mb, snapshot_mb, reserve_mb;
    int64_t max_connections, max_queue, max_waiting, body_limit_mb;
    int64_t max_per_address, token_rate, address_rate, failure_rate;
    int64_t stop_grace_ms;
    struct cluster_network network;  /* of microVMs; range NULL: none */
    bool sandbox;
    int log_level;                   /* enum log_level */
};

extern const struct type server_config_type;

/* Reads file and flags as config_load does (and returns what it returns), then fills what depends on the host and
 * checks that the values fit together. The caller clears `config` with type_clear in every case. */
int server_config_load(int argc, char **argv, struct server_config *config, struct error *err);
