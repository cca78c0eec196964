/* Slots: desired against actual of one service. The sorted union of the replicas that should be and the allocations
 * that are, one slot each, in the order of the replica's number (mode every-node: of the node's id). Private to
 * src/core. */
#pragma once
#include "core/state.h"

/* What is desired: of a service as it stands, or of one that is only planned. */
struct slots_want {
    const struct service *spec;
    uint64_t epoch;
    int64_t generation, run_at;
    bool stopped;
};
struct slots_want slots_want_of(const struct service_entry *s);

struct slot {
    int64_t replica;
    struct node_entry *node;         /* mode every-node */
    bool desired;
    struct alloc_entry *fresh;       /* wanted, as the current version is, on a node that does not drain */
    struct alloc_entry *old;         /* wanted, of an older version, on a node that does not drain */
    struct alloc_entry *draining;    /* wanted, on a node that drains */
    bool draining_current;           /* that one is as the current version is */
    struct alloc_entry *last;        /* the newest ended one of the current version and generation */
    struct alloc_entry *before;      /* the newest one of all that ended */
    uint32_t wanted, live, leaving;  /* leaving: wanted, on draining nodes */
    bool done;                       /* a task that completed */
    uint32_t first, n;               /* its allocations in slots.allocs, oldest first */
};
struct slots {
    struct slot *v;
    uint32_t n, cap;
    struct alloc_entry **allocs;
    uint32_t alloc_count, alloc_cap;
};

/* The rollout has reached the slot already, only its node is on the way out. */
static inline bool slot_serves_leaving(const struct slot *slot)
{
    return !slot->fresh && slot->draining_current && alloc_serves(slot->draining);
}

/* s may be NULL: nothing is there yet. The caller clears *out. */
void slots_build(struct core *c, struct service_entry *s, const struct slots_want *want, struct slots *out);
void slots_clear(struct slots *s);
static inline void slots_clear_cleanup_value(struct slots *s) { slots_clear(s); }
#define CLEANUP_SLOTS __attribute__((cleanup(slots_clear_cleanup_value)))

/* The order in which services are placed: by priority, then by name. */
int spec_compare(const struct service *a, const struct service *b);

/* Failures in a row before this one; a long good run forgives the earlier ones. */
int64_t alloc_attempts(const struct alloc_entry *a);
bool alloc_ended_by_itself(const struct alloc_entry *a);        /* NULL: false */
int64_t slot_attempt(const struct slot *slot);                  /* the number of the next one */
/* What plan and decision ask of the scheduler alike. Ties are broken by service, version, replica and attempt, so that
 * what is decided is what was planned, and a retry may choose otherwise. Borrows; previous: what is replaced, or NULL. */
struct sched_request slot_request(struct core *c, const struct slot *slot, const struct service *spec, uint64_t version,
                                  const struct alloc_entry *previous);

/* The old replica has to end before the new one starts: both would need the same host port, volume or turn. */
bool spec_stops_first(const struct service *spec);
/* True while allocations of the slot live that must have ended before it is filled. */
bool slot_must_wait(const struct slot *slot, const struct service *spec);
/* True while replicas from before the mode changed (numbers became nodes, or the reverse) still hold the service's
 * volumes: they are in other slots, but a volume has one user. */
bool service_must_wait(const struct service_entry *s);
/* True when a placement of this replica would not be one too many. */
bool slot_is_free(struct service_entry *s, int64_t replica, const struct node_entry *node);
