/* Reconcile: one pass over a service's slots that turns the difference between desired and actual into decisions.
 * Private to src/core; reads the state, never changes what is replicated. */
#pragma once
#include "core/beside.h"
#include "core/eligible.h"
#include "core/ingress.h"
#include "core/order.h"
#include "core/slots.h"

#define PLACES_PER_DECISION 2000u
#define STEPS_PER_DECISION 4000u        /* stops, restarts and forgotten allocations together */
#define PROGRESS_DEADLINE_MS (10 * 60 * 1000LL)

/* One batch in the making. Placements are counted in the scheduler until decider_end takes them out again. */
struct decider {
    struct core *c;
    int64_t now;
    uint64_t seed, ids;
    struct command_decide out;
    uint32_t steps;
};

/* One service's pass. */
struct pass {
    struct decider *d;
    struct service_entry *s;
    struct slots_want want;
    struct slots slots;
    struct deployment_entry *deployment;   /* the running or paused one; NULL: none */
    const struct service_entry *waits_for; /* see order.h: no replica of the new version starts; NULL: none */
    struct deployment_entry *beside;       /* see beside.h; NULL: none */
    int64_t wake;
    bool acted, full, left_over;           /* full: no room for another plain replica; left_over: the batch was full */
    bool waits;                            /* for ingress nodes */
    bool holds;                            /* replicas of the version before stay; see analysis.h */
    uint32_t busy;                         /* replicas on their way: they count against max_unavailable */
    uint32_t unplaced, unfit;              /* without room; on nodes that can never run it */
    uint32_t failed;                       /* left failed, as the restart policy says */
    struct eligible eligible;
    struct buf why_unplaced, why_failed;
};

void decider_begin(struct decider *d, struct core *c, int64_t now_ms, uint64_t seed);
void decider_end(struct decider *d);       /* the scheduler is as before; d->out stays the caller's */
static inline bool decider_is_full(const struct decider *d)
{
    return d->out.places.n >= PLACES_PER_DECISION || d->steps >= STEPS_PER_DECISION;
}

/* Decides for one service, then updates its dirty mark, blocked mark and wake time. */
void reconcile_service(struct decider *d, struct service_entry *s);

/* --- what a pass and the rollout have in common --- */
void pass_wake(struct pass *p, int64_t at);
void pass_stop(struct pass *p, struct alloc_entry *a, const char *replacement, bool draining, const char *reason);
/* Places the slot's replica. previous may be NULL; ignored: it will have ended first. commit false only asks. */
enum place_result { PLACE_DONE, PLACE_NO_ROOM, PLACE_BATCH_FULL };
struct place_ask {
    const struct slot *slot; struct alloc_entry *previous, *ignored; bool commit; const char *reason;
    const struct version_entry *version;   /* NULL: the current one */
};
enum place_result pass_place(struct pass *p, const struct place_ask *ask);
void pass_restart(struct pass *p, const struct alloc_entry *a);
/* True when the replica serves, takes its part of the requests, and has stood its first moments; else notes until when. */
bool pass_counts(struct pass *p, const struct alloc_entry *a);
/* True when the replica may be tried again now; else notes why not and when. */
bool pass_may_retry(struct pass *p, const struct slot *slot);

/* deploy.c: replaces old replicas by new ones, and judges the running deployment. */
void deploy_replace(struct pass *p);
void deploy_judge(struct pass *p);

/* --- what is found of a deployment --- */
struct verdict {
    struct decide_deployment counts;
    bool settled;                          /* every replica is new, serves and counts */
    enum deployment_state state;
    char *reason;
    char failure[400];                     /* empty: none */
};
void verdict_fresh(struct pass *p, const struct slot *slot, struct verdict *v);      /* the slot has a fresh one */
void verdict_ended(struct pass *p, const struct slot *slot, struct verdict *v);      /* those of the deployment that failed */
void verdict_progress(struct pass *p, struct verdict *v);                            /* fails it after long without any */
char *verdict_waits(const struct pass *p);                                           /* why it is not settled; owned */
void verdict_give(struct pass *p, struct verdict *v);      /* decides it, when it is news; the failure is its own reason */
