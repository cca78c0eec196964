/* Sched: chooses a node for a replica, out of an index of nodes by free capacity. Pure: no clock, no I/O; the same
 * calls give the same choices. The core keeps one, fed with every change of nodes and allocations; plans and what-if
 * answers add allocations tentatively and take them out again. */
#pragma once
#include "base/error.h"
#include "model/model.h"

struct sched;

struct sched *sched_new(void);
void sched_free(struct sched *s);

/* Adds the node or takes over its changed facts. Only nodes in state ready get placements; what is already there
 * stays counted. The node is copied as far as it is needed. */
void sched_node_set(struct sched *s, const struct node *node);
void sched_node_remove(struct sched *s, const char *node_id);      /* it must hold no allocation */

/* Counts the allocation's cpu, memory, disk, host ports, and its service (for spread and distinct) against its node;
 * remove undoes exactly that. An unknown node is an INVARIANT failure. */
void sched_alloc_add(struct sched *s, const struct alloc *alloc);
void sched_alloc_remove(struct sched *s, const struct alloc *alloc);

struct sched_request {
    const struct service *spec;       /* constraints, affinities, spread, resources, ports, driver, volumes */
    const char *service;              /* name under which spread and distinct count */
    int64_t replica;
    const char *prefer_node;          /* where this replica was before (its volume, its cache); may be NULL */
    const char *avoid_node;           /* where it just failed: the last choice; may be NULL */
    const char *only_node;            /* this one or none: every-node, or where its volume is; may be NULL */
    bool only_for_volume;
    const char *ignore_alloc;         /* an allocation that will be gone first (stop before start); may be NULL */
    uint64_t seed;                    /* breaks ties */
};

struct sched_choice {
    char *node_id;
    double score;
    struct alloc_port_list ports;     /* static ones as asked, dynamic ones out of 20000..32000 */
    double cpus; int64_t memory_mb, disk_mb;
};
void sched_choice_clear(struct sched_choice *c);

/* Why nodes were turned down: "not enough memory: needs 512 MiB, most free is 300 MiB", 12 nodes, e.g. "n1". */
struct sched_reason { char *text; int64_t nodes; char *example; };
struct sched_reason_list { struct sched_reason *v; uint32_t n; };
void sched_reason_list_clear(struct sched_reason_list *l);

/* Chooses. Returns 0 with *choice filled (the caller clears it), or -1 with *why filled: every node counted under its
 * first reason, most frequent first. Does not count the choice: the caller adds the allocation. why may be NULL. */
int sched_place(struct sched *s, const struct sched_request *request, struct sched_choice *choice,
                struct sched_reason_list *why);

/* One node's verdict, for `mt explain`: text says why not, or how it scored ("score 0.62: bin packing 0.71, …"). */
void sched_explain_node(struct sched *s, const struct sched_request *request, const char *node_id, bool *fits,
                        struct buf *text);

/* What a service asks of a node, from resources and, for firecracker, config.vcpus and config.memory_mb. */
void sched_demand(const struct service *spec, double *cpus, int64_t *memory_mb, int64_t *disk_mb);
/* Of a node, an allocation or a demand: numbers that the scheduler can add up. */
bool sched_room_makes_sense(double cpus, int64_t memory_mb, int64_t disk_mb);
