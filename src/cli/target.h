/* Target: what a word of the user names: a service, a replica of it, or an allocation. */
#pragma once
#include <jansson.h>
#include <stdbool.h>

#include "cli/cli.h"

enum target_kind { TARGET_SERVICE, TARGET_ALLOC };

struct target {
    enum target_kind kind;
    char *name;              /* the service's name, or the allocation's whole id */
    json_t *json;            /* the service with its status, or the allocation, as the API gave it */
};

/* SERVICE, SERVICE/N (the present allocation of this replica), SERVICE@NODE (the one there), or an allocation's id or
 * unique beginning of it. */
int target_find(struct cli *cli, const char *word, struct target *out, struct error *err);
void target_clear(struct target *t);
/* In mode every-node replicas have no number of their own: they are told apart by their nodes. service: as of the API. */
bool target_by_node(const json_t *service);
/* How people name the replica of an allocation: web/0, or node-agent@n1. The caller's. */
char *target_replica_name(const json_t *alloc, bool by_node);
/* The allocations of a service (NULL: of all, by service), by replica, newest first within one; those that ended and are not wanted only with
 * all. The caller's. */
json_t *target_allocs(struct cli *cli, const char *service, bool all, struct error *err);
