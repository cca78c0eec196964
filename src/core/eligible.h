/* Eligible: whether a node could ever run a service, room aside. Mode every-node means the nodes that could.
 * Private to src/core. */
#pragma once
#include "core/sched_constraint.h"
#include "core/state.h"

struct eligible {
    const char *driver;
    struct matcher *matchers;
    uint32_t n;
    bool ready;
};

/* Compiles the constraints on first use; spec must outlive *e. */
bool eligible_node(struct eligible *e, const struct service *spec, const struct node *n);
void eligible_clear(struct eligible *e);
