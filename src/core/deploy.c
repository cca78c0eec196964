/* Rollouts: how old replicas are replaced by new ones in batches of max_unavailable, and when a deployment has succeeded or
 * failed. In those of beside.h all new ones stand beside the old ones first. */
#include <stdio.h>
#include <string.h>

#include "core/analysis.h"
#include "core/reconcile.h"

/* After a deployment failed (and was not taken back) the replicas that it did not reach stay as they are. */
static bool may_replace(const struct pass *p)
{
    const struct deployment_entry *d;
    TAILQ_FOREACH_REVERSE(d, &p->s->deployments, deployment_list_head, link)
        if (d->epoch == p->want.epoch)
            return d->d.state == DEPLOYMENT_RUNNING || d->d.state == DEPLOYMENT_SUCCESSFUL;
    return true;
}

static void replace_slot(struct pass *p, const struct slot *slot)
{
    char reason[64];
    struct alloc_entry *old = slot->old;
    snprintf(reason, sizeof(reason), "version %llu replaces it", (unsigned long long)p->s->current->v.version);
    struct place_ask first = {.slot = slot, .previous = old, .commit = true, .reason = "a new version is rolled out"};
    struct place_ask instead = {.slot = slot, .previous = old, .ignored = old};
    if (spec_stops_first(p->want.spec)) {
        if (pass_place(p, &instead) == PLACE_DONE) {
            pass_stop(p, old, NULL, false, reason);
        } else {
            instead.commit = true;
            pass_place(p, &instead);             /* notes why there is no room */
        }
        return;
    }
    first.commit = false;
    enum place_result r = pass_place(p, &first);
    first.commit = true;
    if (r == PLACE_NO_ROOM && pass_place(p, &instead) == PLACE_DONE)
        pass_stop(p, old, NULL, false, "it makes room for its replacement of the new version");
    else
        pass_place(p, &first);
}

/* Replicas that do not serve, whatever the reason: on their way, or to be stopped, or not to be tried again yet. Nodes
 * that have none of an every-node service may be unable to have one. */
static int64_t not_serving(const struct pass *p)
{
    int64_t n = 0;
    for (uint32_t i = 0; i < p->slots.n; i++) {
        const struct slot *slot = &p->slots.v[i];
        bool serves = !slot->desired || slot->done || (slot->node && !slot->wanted);
        for (uint32_t k = 0; k < slot->n && !serves; k++) {
            const struct alloc_entry *a = p->slots.allocs[slot->first + k];
            serves = entry_wanted(a) && alloc_serves(a);
        }
        n += !serves;
    }
    return n;
}

static int64_t new_replicas(const struct pass *p)
{
    int64_t n = 0;
    for (uint32_t i = 0; i < p->slots.n; i++)
        n += p->slots.v[i].fresh != NULL;
    return n;
}

/* Replicas that do not serve anyway go first and cost nothing. While the analysis holds there is one batch. */
static void replace_rolling(struct pass *p)
{
    int64_t batch = spec_has_volume(p->want.spec) ? 1 : p->want.spec->deploy.max_unavailable;
    int64_t out = -1;                /* not looked at yet */
    for (int serving = 0; serving < 2; serving++)
        for (uint32_t i = 0; i < p->slots.n; i++) {
            const struct slot *slot = &p->slots.v[i];
            if (!slot->desired || slot->fresh || !slot->old || slot_serves_leaving(slot)
                || alloc_serves(slot->old) != (serving == 1))
                continue;
            if (p->want.spec->schedule || (slot->live > slot->wanted && slot_must_wait(slot, p->want.spec)))
                continue;
            if (serving && out < 0)
                out = not_serving(p) + (p->holds ? new_replicas(p) : 0);
            if (serving && (out >= batch || (int64_t)p->busy >= batch))
                return;
            if (!pass_may_retry(p, slot))
                continue;
            replace_slot(p, slot);
            p->busy++;
            if (serving)
                out++;
        }
}

void deploy_replace(struct pass *p)
{
    if (may_replace(p) && !p->waits_for)
        replace_rolling(p);
}

/* --- judging --- */

void verdict_fresh(struct pass *p, const struct slot *slot, struct verdict *v)
{
    const struct alloc_entry *a = slot->fresh;
    const struct service *spec = p->want.spec;
    v->counts.placed++;
    if (alloc_serves(a)) {
        v->counts.healthy++;
        v->settled &= pass_counts(p, a);
        return;
    }
    v->settled = false;
    v->counts.unhealthy += a->a.state == ALLOC_UNHEALTHY;
    if (!a->running_since || a->restarting || a->a.leaving)
        return;
    /* in a pause it was healthy before: it has the time anew */
    bool anew = p->deployment->d.state == DEPLOYMENT_PAUSED && a->a.state_since > a->running_since;
    int64_t since = anew ? a->a.state_since : a->running_since;
    int64_t until = since + spec->deploy.health_timeout_secs * 1000 + spec->health.grace_ms;
    if (p->d->now < until)
        pass_wake(p, until);
    else if (!*v->failure)
        snprintf(v->failure, sizeof(v->failure), "replica %lld is not healthy %llds after %s%s%.200s",
                 (long long)slot->replica, (long long)((until - since) / 1000), anew ? "it was" : "its start",
                 a->a.reason && *a->a.reason ? ": " : "", a->a.reason ? a->a.reason : "");
}

void verdict_ended(struct pass *p, const struct slot *slot, struct verdict *v)
{
    for (uint32_t i = 0; i < slot->n && !*v->failure; i++) {
        const struct alloc_entry *a = p->slots.allocs[slot->first + i];
        if (a->a.state != ALLOC_FAILED && a->a.state != ALLOC_COMPLETE)
            continue;
        if (a->a.desired != DESIRED_RUN || !a->a.deployment || strcmp(a->a.deployment, p->deployment->d.id) != 0)
            continue;
        snprintf(v->failure, sizeof(v->failure), "replica %lld %s on %.64s: %.200s", (long long)slot->replica,
                 a->a.state == ALLOC_FAILED ? "failed" : "ended", a->a.node_name ? a->a.node_name : "",
                 a->a.reason ? a->a.reason : "");
    }
}

static struct verdict judge_slots(struct pass *p)
{
    struct verdict v = {.settled = true};
    for (uint32_t i = 0; i < p->slots.n; i++) {
        const struct slot *slot = &p->slots.v[i];
        if (!slot->desired) {
            v.settled &= slot->wanted == 0;
            continue;
        }
        if (slot->node && slot->node->n.state != NODE_READY && !slot->wanted)
            continue;
        v.counts.desired++;
        verdict_ended(p, slot, &v);
        v.settled &= !slot->fresh || !slot->old;
        if (slot->fresh)
            verdict_fresh(p, slot, &v);
        else if (slot_serves_leaving(slot))
            v.counts.placed++, v.counts.healthy++;
        else
            v.settled &= slot->node && slot->node->n.state != NODE_READY;
    }
    v.counts.desired -= p->unfit;
    return v;
}

void verdict_progress(struct pass *p, struct verdict *v)
{
    int64_t until = p->deployment->progress_at + PROGRESS_DEADLINE_MS;
    if (p->waits_for || p->deployment->held)
        return;
    if (p->d->now < until)
        pass_wake(p, until);
    else
        snprintf(v->failure, sizeof(v->failure), "no progress for 10 minutes%s%.300s", p->why_unplaced.len ? ": " : "",
                 p->why_unplaced.len ? p->why_unplaced.data : "");
}

char *verdict_waits(const struct pass *p)
{
    if (p->waits_for)
        return mem_printf("waits for service %s, which is not healthy yet", p->waits_for->name);
    if (p->unplaced)
        return mem_printf("waits for room: %s", p->why_unplaced.len ? p->why_unplaced.data : "no node has any");
    return mem_strdup("not all replicas serve yet");
}

static bool is_news(const struct deployment *d, const struct verdict *v)
{
    const struct decide_deployment *c = &v->counts;
    return v->state != d->state || c->set_share || c->promote || c->analysis || d->desired != c->desired || d->placed != c->placed
           || d->healthy != c->healthy || d->unhealthy != c->unhealthy || !d->reason || strcmp(d->reason, v->reason) != 0;
}

void verdict_give(struct pass *p, struct verdict *v)
{
    const struct deployment *d = &p->deployment->d;
    CLEANUP_FREE char *reason = NULL;
    if (*v->failure) {
        bool back = p->want.spec->deploy.auto_revert && d->previous_version && !p->deployment->revert
                    && state_version(p->s, d->previous_version);
        v->state = back ? DEPLOYMENT_REVERTED : DEPLOYMENT_FAILED;
        free(v->reason);
        v->reason = mem_strdup(v->failure);
        if (v->counts.analysis == OUTCOME_OPEN)
            v->counts.analysis = OUTCOME_NONE;      /* what ends begins none */
    }
    reason = steal(&v->reason);
    v->reason = reason;
    v->counts.held = p->waits_for != NULL || (p->holds && d->analysis.outcome == OUTCOME_OPEN);
    if (!is_news(d, v) && v->counts.held == p->deployment->held)
        return;
    struct decide_deployment *to = list_add((struct list *)&p->d->out.deployments, command_decide_type.fields[3].type);
    *to = v->counts;
    to->id = mem_strdup(d->id);
    to->state = (int64_t)v->state;
    to->reason = steal(&reason);
    p->acted = true;
}

void deploy_judge(struct pass *p)
{
    struct verdict v = judge_slots(p);
    v.settled &= v.counts.healthy == v.counts.desired;
    if (!*v.failure)
        analysis_judge_rollout(p, &v);
    if (!v.settled && !*v.failure)
        verdict_progress(p, &v);
    if (v.settled && !*v.failure) {
        v.state = DEPLOYMENT_SUCCESSFUL;
        if (!v.reason)
            v.reason = mem_strdup("all replicas serve");
    } else if (!*v.failure && !v.reason) {
        v.reason = verdict_waits(p);
    }
    verdict_give(p, &v);
}
