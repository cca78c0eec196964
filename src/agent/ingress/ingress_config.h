/* How the proxy of an ingress node runs: the `proxy` block of agent.yaml. */
#pragma once
#include "base/error.h"
#include "model/field.h"

struct ingress_config {
    char *haproxy;                   /* the program */
    struct str_list bind;            /* addresses */
    int64_t http_port, https_port;   /* 0: not opened */
    char *certificates;              /* directory of *.pem */
    char *user;                      /* of its worker processes, when the agent is root; "root": as the agent */
    int64_t threads, max_connections;
    int64_t request_timeout_ms, idle_timeout_ms, response_timeout_ms, tunnel_timeout_ms, hard_stop_ms;
    int64_t max_body_mb, requests_per_second;            /* 0: no limit */
    bool access_log;
    int64_t log_max_files, log_max_mb;
    char *acme_directory, *acme_email;                   /* NULL: none */
    char *acme_program;
    int64_t acme_retry_ms;
};

extern const struct type ingress_config_type;

/* What no single key can tell. 0, or -1 with err. */
int ingress_config_check(const struct ingress_config *c, struct error *err);
