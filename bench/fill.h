/* Fill: a state with many allocations, put there through the API, by nodes that exist only in their registrations and
 * reports. */
#pragma once
#include "cluster.h"

/* For the servers' configuration: nobody beats for these nodes. */
#define FILL_SERVER_CONFIG "heartbeat: 1h\nnode_grace: 24h\nlog_level: warn\n"

struct fill {
    size_t nodes, services, wanted;      /* wanted: allocations, in equal parts */
    char **allocs;                       /* ids of those that run */
    size_t alloc_count, alloc_capacity;
};

/* Returns when as many run. */
int fill_state(struct cluster *c, struct fill *f, struct error *err);
void fill_clear(struct fill *f);
