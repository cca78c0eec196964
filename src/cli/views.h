/* Views: how the API's objects look as tables. */
#pragma once
#include "cli/table.h"

extern const struct column view_services[], view_allocs[], view_nodes[], view_versions[], view_events[], view_rollout[], view_volumes[],
    view_ingress_problems[];
/* Facts of one object. */
extern const struct column view_service[], view_alloc[], view_node[], view_deployment[];

/* True while an allocation is of interest without --all: it is wanted, or still there. */
bool view_alloc_current(const json_t *alloc);
