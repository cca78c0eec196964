/* Agent configuration: /etc/mentat/agent.yaml and the flags of the same names, from one table. */
#pragma once
#include "agent/drivers/docker_config.h"
#include "agent/drivers/firecracker_config.h"
#include "agent/ingress/ingress_config.h"
#include "base/error.h"
#include "base/log.h"
#include "model/field.h"

#define AGENT_CONFIG_FILE "/etc/mentat/agent.yaml"

/* What this node allows, whatever the servers say. */
struct agent_security {
    struct str_list profiles;        /* empty: all */
    struct str_list privileges;      /* beyond profiles; empty: all that the policy allows; "none" */
};

enum agent_tls { AGENT_TLS_DEFAULT, AGENT_TLS_AUTO, AGENT_TLS_FILES, AGENT_TLS_OFF };

struct agent_config {
    char *name;                      /* default: the host's name */
    char *data_dir;
    char *volume_root;
    bool shared_volumes; int64_t volume_lease_ms;
    char *secrets_dir;               /* NULL: found by itself */
    struct str_list servers;         /* host:port, tried in turn */
    char *bind;
    int64_t port;                    /* 0: any free one (tests) */
    char *advertise;                 /* host[:port] under which servers reach the agent API; default: ip and port */
    char *ip;                        /* what replicas are reached at; default: the address of the route to the servers */
    char *node_class;
    struct kv_list meta;
    double cpus, reserved_cpus;      /* cpus 0: as many as the host has */
    int64_t memory_mb, reserved_memory_mb, disk_mb;
    char *cgroup_root;
    struct str_list drivers;         /* empty: every driver that is built in */
    int log_level;                   /* enum log_level */
    int tls;                         /* enum agent_tls; the default becomes one of the others */
    char *join_token_file;
    char *tls_cert, *tls_key, *tls_ca;
    bool allow_insecure;
    bool stop_tasks_on_exit;
    bool new_cluster;
    int64_t gc_age_ms, gc_max_allocs, gc_max_mb;
    struct docker_config docker;
    struct firecracker_config firecracker;
    struct agent_security security;
    bool ingress;                    /* it takes requests from outside, by `proxy` */
    struct ingress_config proxy;
};

extern const struct type agent_config_type;

/* Reads file and flags as config_load does (and returns what it returns), then fills what depends on the host and
 * checks that the values fit together. The caller clears `config` with type_clear in every case. */
int agent_config_load(int argc, char **argv, struct agent_config *config, struct error *err);

struct service;
/* Whether this node runs such a service: what its own configuration forbids no server can make it start. */
int agent_config_admits(const struct agent_config *c, const struct service *s, struct error *err);
