/* Plan: the table of routes from the servers as a layout of the proxy. A replica keeps its slot as long as it is in the
 * table; the slot of one that went is used again last. Pure. */
#pragma once
#include "agent/ingress/layout.h"
#include "model/model.h"

/* What nobody can have in this proxy. */
struct plan_limits {
    bool http, https;                /* there is such a port */
    /* NULL, or why this port of a TCP service cannot be opened here. */
    const char *(*port_problem)(void *ctx, int port);
    void *ctx;
};

/* Changes `layout` to what the table wants. Backends that nothing leads to any more are marked unused and keep their slots,
 * so that the proxy's configuration stays as it is. Entries that cannot be served are left out; `problem` tells of them as
 * ingress_problem_next reads it, NULL when there is none; the caller's. */
void plan_follow(struct layout *layout, const struct agent_ingress *table, const struct plan_limits *limits, char **problem);

/* The agent began anew: which replica has which slot is told by the addresses in a running proxy. Before plan_follow, on an
 * empty layout. */
void plan_adopt(struct layout *layout, const struct layout *running);
