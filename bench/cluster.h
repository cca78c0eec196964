/* Cluster: real servers, and a real agent where one is wanted, for one measurement: the programs beside this one, on a
 * temporary directory and free loopback ports. Whatever happens, cluster_stop ends them with their tasks and removes
 * everything. Ctrl-C makes every wait end with ERROR_CANCELLED. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "signer.h"
#include "base/error.h"
#include "cli/child.h"
#include "net/http_client.h"

#define CLUSTER_CHILDREN 8
#define CLUSTER_SERVERS 3        /* at most */

struct cluster {
    uv_loop_t loop;
    uv_signal_t signals[2];
    uv_timer_t timer;
    bool cancelled;              /* SIGINT or SIGTERM came */
    struct http_client *client;
    struct child children[CLUSTER_CHILDREN];     /* in the order of their start: servers first */
    size_t child_count;
    const struct child *agent_child;     /* NULL: none */
    int port;                    /* the next one to try */
    char dir[256];
    const char *filesystem;      /* what dir is on: "ext4" */
    bool tls;
    char *target;                /* of the leader: "http://127.0.0.1:PORT", or https */
    char *targets[CLUSTER_SERVERS];
    /* With TLS: */
    struct signer signer;
    struct tls_context *context; /* that of a server, which may speak for agents */
    char *authorization;         /* header of an administrator */
    const char *agent;           /* name of the node that calls of agents' routes are for */
};

struct cluster_options {
    const char *parent;          /* where the temporary directory is made; NULL: $TMPDIR or /var/tmp */
    const char *server_config;   /* more lines of server.yaml; NULL: none */
    size_t servers;              /* 0: one */
    bool tls;                    /* and tokens; not with an agent */
    bool agent;
    size_t connections;          /* that are kept; 0: a few */
};

/* Starts it and waits until it is ready. cluster_stop must follow in every case. */
int cluster_start(struct cluster *c, const struct cluster_options *options, struct error *err);
void cluster_stop(struct cluster *c);

/* With TLS: of the certificate that the authority issued under this name. The caller's; NULL with err. */
struct tls_context *cluster_context(const struct cluster *c, const char *name, struct error *err);

/* Starts another program, which belongs to the cluster from then on. NULL with err. */
const struct child *cluster_run(struct cluster *c, const char *name, const char *path, char *const *argv, struct error *err);
/* Ends a server, and starts it again on its directory, without waiting for it to be ready. */
void cluster_stop_server(struct cluster *c, size_t server);
int cluster_start_server(struct cluster *c, size_t server, struct error *err);
/* The one that led when all were ready. */
size_t cluster_leader(const struct cluster *c);
/* Kills a server (SIGKILL), which must not be the only one; `target` is another one then. */
void cluster_kill_server(struct cluster *c, size_t server);
/* "http://127.0.0.1:PORT" with a port that is free. The caller's; NULL with err. */
char *cluster_free_target(struct cluster *c, struct error *err);

/* Runs the loop until done() holds. Fails after limit_ms, when a program ended, or when cancelled. */
int cluster_wait(struct cluster *c, bool (*done)(void *arg), void *arg, int64_t limit_ms, struct error *err);
int cluster_sleep(struct cluster *c, int64_t ms, struct error *err);

/* One request, to its end; an answer that is not 2xx is an error. body NULL: none. json may be NULL; it is the caller's,
 * and NULL when the answer has no body. */
int cluster_call(struct cluster *c, enum http_method method, const char *path, const char *body, json_t **json,
                 struct error *err);
/* The same, to another target. */
int cluster_call_to(struct cluster *c, const char *target, enum http_method method, const char *path, const char *body,
                    json_t **json, struct error *err);
/* One that may as well be done twice: repeated while there is no leader. */
int cluster_write(struct cluster *c, enum http_method method, const char *path, const char *body, struct error *err);
/* The value of a metric without labels. */
int cluster_metric(struct cluster *c, const char *target, const char *name, double *value, struct error *err);
/* Asks again and again until ready() takes the answer. */
int cluster_wait_answer(struct cluster *c, const char *target, enum http_method method, const char *path, const char *body,
                        bool (*ready)(const json_t *answer, void *arg), void *arg, struct error *err);
