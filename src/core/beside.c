#include "core/beside.h"

#include <stdio.h>
#include <string.h>

#include "core/analysis.h"
#include "core/reconcile.h"

struct deployment_entry *beside_deployment(const struct service_entry *s)
{
    struct deployment_entry *d = TAILQ_LAST(&s->deployments, deployment_list_head);
    bool stands = d && d->beside && d->epoch == s->current->epoch && d->d.state <= DEPLOYMENT_FAILED
                  && d->d.state != DEPLOYMENT_SUCCESSFUL;
    return stands && !s->stopped ? d : NULL;
}

int64_t beside_count(const struct service_entry *s, const struct deployment_entry *d)
{
    int64_t count = s->current->v.spec.count;
    return d->d.strategy == STRATEGY_CANARY ? (count * d->d.target_percent + 99) / 100 : count;
}

const struct deployment_entry *beside_shares(const struct service_entry *s)
{
    const struct deployment_entry *d = TAILQ_LAST(&s->deployments, deployment_list_head);
    if (!s->stopped)
        return beside_deployment(s);
    bool holds = d && d->beside && d->epoch == s->current->epoch
                 && (d->d.state == DEPLOYMENT_CANCELLED || d->d.state == DEPLOYMENT_FAILED);
    return holds ? d : NULL;
}

/* Of the new replicas (true) or the old ones. */
static bool is_of(const struct service_entry *s, const struct alloc_entry *a, bool new)
{
    return (a->epoch == s->current->epoch) == new;
}

bool beside_is_free(const struct service_entry *s, int64_t replica)
{
    struct alloc_entry *a;
    RB_FOREACH(a, alloc_replica_tree, (struct alloc_replica_tree *)&s->allocs)
        if (a->a.replica == replica && entry_wanted(a) && is_of(s, a, false) && a->node->n.state != NODE_DRAINING)
            return false;
    return true;
}

bool beside_serves(const struct service_entry *s, const struct deployment_entry *d)
{
    struct alloc_entry *a;
    int64_t last = -1, n = 0, count = beside_count(s, d);
    RB_FOREACH(a, alloc_replica_tree, (struct alloc_replica_tree *)&s->allocs) {
        if (a->a.replica == last || a->a.replica >= count || !is_of(s, a, true) || !entry_wanted(a) || !alloc_serves(a))
            continue;
        last = a->a.replica;
        n++;
    }
    return n == count;
}

/* --- settling: the two sides of a slot, each as if it were alone --- */

struct side {
    struct alloc_entry *keep;            /* wanted, on a node that does not drain */
    struct alloc_entry *draining;        /* wanted, on one that does */
    struct alloc_entry *last, *before;   /* ended: the newest one of the version that would be placed; of any */
};

static struct alloc_entry *better(struct alloc_entry *a, struct alloc_entry *b)
{
    return a && (alloc_serves(a) || !alloc_serves(b)) ? a : b;
}

static struct side look(const struct pass *p, const struct slot *slot, bool new)
{
    struct side side = {0};
    uint64_t epoch = new ? p->want.epoch : p->beside->from_epoch;
    for (uint32_t i = 0; i < slot->n; i++) {
        struct alloc_entry *a = p->slots.allocs[slot->first + i];
        if (!is_of(p->s, a, new))
            continue;
        if (!entry_live(a)) {
            side.before = a;
            side.last = a->epoch == epoch ? a : side.last;
        } else if (entry_wanted(a) && a->node->n.state == NODE_DRAINING) {
            side.draining = better(side.draining, a);
        } else if (entry_wanted(a)) {
            side.keep = better(side.keep, a);
        }
    }
    return side;
}

static void stop_side(struct pass *p, const struct slot *slot, bool new, const struct alloc_entry *except,
                      const struct alloc_entry *except_too, const char *reason)
{
    for (uint32_t i = 0; i < slot->n; i++) {
        struct alloc_entry *a = p->slots.allocs[slot->first + i];
        if (entry_wanted(a) && is_of(p->s, a, new) && a != except && a != except_too)
            pass_stop(p, a, NULL, false, reason);
    }
}

/* A replica whose replacement has no room yet stays where it is, although its node drains. */
static void place_side(struct pass *p, const struct slot *slot, bool new, const struct side *side)
{
    const struct version_entry *from = state_version(p->s, p->beside->from_version);
    struct slot one = *slot;
    one.last = side->last;
    one.before = side->before;
    one.old = one.fresh = NULL;
    struct alloc_entry *previous = side->draining ? side->draining : side->before;
    struct place_ask ask = {.slot = &one, .previous = previous, .commit = true,
                            .version = new ? p->s->current : from};
    ask.reason = side->draining ? "its node drains" : new ? "a new version is rolled out"
                                                          : "the version before is kept complete";
    if (ask.version && pass_may_retry(p, &one))
        pass_place(p, &ask);
    p->busy++;
}

static void settle_side(struct pass *p, const struct slot *slot, bool new, bool place)
{
    struct side side = look(p, slot, new);
    stop_side(p, slot, new, side.keep, side.draining, "another allocation runs this replica");
    if (!side.keep && place && new && p->waits_for)
        p->busy++;
    else if (!side.keep && place)
        place_side(p, slot, new, &side);
    else if (!side.keep && side.draining)
        pass_stop(p, side.draining, NULL, true, "its node drains");
    else if (side.keep && side.draining && pass_counts(p, side.keep))
        pass_stop(p, side.draining, side.keep->a.id, false, "its replacement serves, and its node drains");
    else if (side.keep && !pass_counts(p, side.keep))
        p->busy++;
}

static bool is_finishing(const struct deployment_entry *d)
{
    return d->d.state == DEPLOYMENT_RUNNING && d->d.traffic_percent == 100
           && (d->d.strategy == STRATEGY_CANARY || d->promoted);
}

void beside_settle(struct pass *p, const struct slot *slot)
{
    const struct deployment_entry *d = p->beside;
    char reason[80];
    if (slot->replica >= beside_count(p->s, d))
        stop_side(p, slot, true, NULL, NULL, "the canary has as many replicas as its part needs");
    else
        settle_side(p, slot, true, d->d.state != DEPLOYMENT_FAILED || d->d.traffic_percent == 100);
    if (is_finishing(d)) {
        snprintf(reason, sizeof(reason), "version %llu has taken its place", (unsigned long long)p->s->current->v.version);
        stop_side(p, slot, false, NULL, NULL, reason);
    } else {
        settle_side(p, slot, false, d->d.traffic_percent < 100);
    }
}

/* --- judging --- */

static bool share_followed(struct pass *p, const struct deployment_entry *d)
{
    int64_t until = d->share_at + p->want.spec->deploy.health_timeout_secs * 1000;
    if (ingress_followed(p->d->c, d->share_index) || p->d->now >= until)
        return true;
    p->waits = true;
    pass_wake(p, until);
    return false;
}

static struct verdict judge_new(struct pass *p)
{
    struct verdict v = {.settled = true};
    int64_t count = beside_count(p->s, p->beside);
    for (uint32_t i = 0; i < p->slots.n; i++) {
        const struct slot *slot = &p->slots.v[i];
        if (!slot->desired || slot->replica >= count)
            continue;
        v.counts.desired++;
        verdict_ended(p, slot, &v);
        if (slot->fresh)
            verdict_fresh(p, slot, &v);
        else
            v.settled = false;
    }
    return v;
}

static bool old_are_gone(const struct pass *p)
{
    for (uint32_t i = 0; i < p->slots.alloc_count; i++)
        if (entry_wanted(p->slots.allocs[i]) && is_of(p->s, p->slots.allocs[i], false))
            return false;
    return true;
}

/* Requests from outside are only what the ingress divides. */
static char *pause_reason(const struct pass *p)
{
    const struct deployment *d = &p->beside->d;
    const char *name = p->s->name;
    bool parts = p->want.spec->ingress.n > 0;
    if (d->strategy == STRATEGY_CANARY)
        return mem_printf("the canary %s%lld %%%s: `mt promote %s` goes on, `mt abort %s` goes back", parts ? "gets " : "is at ",
                          (long long)d->traffic_percent, parts ? " of the requests" : "", name, name);
    return mem_printf("version %llu %s, the one before stands by: `mt rollback %s` goes back at once, `mt promote %s` ends the "
                      "standby", (unsigned long long)d->version, parts ? "gets all requests" : "serves", name, name);
}

/* All new replicas serve: what comes next. */
static void step_on(struct pass *p, struct verdict *v)
{
    const struct deployment *d = &p->beside->d;
    bool canary = d->strategy == STRATEGY_CANARY;
    bool stands_by = !canary && !p->beside->promoted && p->want.spec->deploy.standby_secs > 0;
    if (d->traffic_percent < d->target_percent) {
        v->counts.set_share = true;
        v->counts.share = d->target_percent;
        v->reason = mem_strdup("its replicas serve and get their part of the requests");
    } else if (!share_followed(p, p->beside)) {
        v->reason = mem_strdup("the ingress nodes are to follow");
    } else if (d->target_percent < 100 || stands_by) {
        v->state = DEPLOYMENT_PAUSED;
        v->reason = pause_reason(p);
    } else if (is_finishing(p->beside) && old_are_gone(p)) {
        v->state = DEPLOYMENT_SUCCESSFUL;
        v->reason = mem_strdup("all replicas serve");
    } else {
        v->counts.promote = !is_finishing(p->beside);
        v->reason = mem_strdup("the version before leaves");
    }
}

static void judge_running(struct pass *p, struct verdict *v)
{
    if (v->settled && v->counts.healthy == v->counts.desired) {
        step_on(p, v);
        return;
    }
    verdict_progress(p, v);
    v->reason = *v->failure ? NULL : verdict_waits(p);
}

static void judge_paused(struct pass *p, struct verdict *v)
{
    const struct deployment *d = &p->beside->d;
    v->state = DEPLOYMENT_PAUSED;
    v->reason = mem_strdup(d->reason);
    if (d->strategy == STRATEGY_CANARY) {
        analysis_judge(p, v);
        return;
    }
    if (p->d->now < d->standby_until) {
        pass_wake(p, d->standby_until);
        return;
    }
    v->state = DEPLOYMENT_RUNNING;
    v->counts.promote = true;
    free(v->reason);
    v->reason = mem_strdup("its standby is over: the version before leaves");
}

void beside_judge(struct pass *p)
{
    struct verdict v = judge_new(p);
    if (!*v.failure && p->beside->d.state == DEPLOYMENT_PAUSED)
        judge_paused(p, &v);
    else if (!*v.failure)
        judge_running(p, &v);
    verdict_give(p, &v);
}
