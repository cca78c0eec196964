/* Ingress: the agent's half of it: runs the node's proxy and makes it follow the servers' table of routes.
 *
 * Everything is one loop of steps (ingress.c): whatever is missing next is done, and when nothing is missing the table is in
 * force and said to be. So a proxy that crashed, an agent that was killed and a new table are the same case. */
#pragma once
#include <uv.h>

#include "agent/cgroup.h"
#include "agent/ingress/ingress_config.h"
#include "base/buf.h"
#include "model/model.h"

struct ingress_node;

struct ingress_options {
    uv_loop_t *loop;
    const struct ingress_config *config;
    const char *directory;           /* of the proxy; copied */
    const char *node;
    struct cgroup_root *cgroups;
    void (*report)(void *ctx);       /* there is news for ingress_report */
    void (*needs_certificate)(void *ctx);        /* ingress_certificate_wanted has one */
    void *ctx;
};

/* Adopts a proxy that runs already. Borrows the options' pointers. */
int ingress_open(const struct ingress_options *o, struct ingress_node **out, struct error *err);
/* Takes over the table; what is in it is gone afterwards. */
void ingress_follow(struct ingress_node *in, struct agent_ingress *table);
/* How it stands; `report` is initialised. */
void ingress_report(struct ingress_node *in, struct ingress_report *report);
/* The name of a secret that it needs as a certificate; the caller's. NULL: none. */
char *ingress_certificate_wanted(const struct ingress_node *in);
void ingress_certificate(struct ingress_node *in, const struct secret_value *value);
/* In the format of Prometheus. */
void ingress_metrics(const struct ingress_node *in, struct buf *out);
/* Lets go of the proxy, which goes on serving. Its handles end as the loop runs on. */
void ingress_close(struct ingress_node *in);
/* Ends the proxy and takes its directory away, then calls done; ingress_close remains to be called. */
void ingress_stop(struct ingress_node *in, void (*done)(void *ctx), void *ctx);
