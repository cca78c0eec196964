/* A service's pass: each slot that is as desired is left alone; what is too much is stopped, what is missing is
 * placed, what drains is replaced first. Replicas of older versions are deploy.c's. A pass that decided something
 * leaves the service dirty: the decision may never be applied, and when it is, one more pass finds nothing to do. */
#include "core/reconcile.h"

#include <stdio.h>
#include <string.h>

#include "base/cron.h"
#include "base/id.h"
#include "base/random.h"
#include "base/text.h"
#include "core/analysis.h"

#define RETRY_FIRST_MS 5000
#define RETRY_MOST_MS (5 * 60 * 1000)

void decider_begin(struct decider *d, struct core *c, int64_t now_ms, uint64_t seed)
{
    *d = (struct decider){.c = c, .now = now_ms, .seed = seed};
}

/* What the scheduler counts of a placement that is only decided yet; texts are borrowed. */
static struct alloc tentative(const struct decide_place *p)
{
    return (struct alloc){.id = p->alloc_id, .service = p->service, .version = p->version, .replica = p->replica,
                          .node_id = p->node_id, .ports = p->ports, .cpus = p->cpus, .memory_mb = p->memory_mb,
                          .disk_mb = p->disk_mb};
}

void decider_end(struct decider *d)
{
    for (uint32_t i = d->out.places.n; i-- > 0;) {
        struct alloc a = tentative(&d->out.places.v[i]);
        sched_alloc_remove(d->c->sched, &a);
    }
}

void pass_wake(struct pass *p, int64_t at)
{
    if (at < p->wake)
        p->wake = at;
}

void pass_stop(struct pass *p, struct alloc_entry *a, const char *replacement, bool draining, const char *reason)
{
    p->acted = true;
    if (decider_is_full(p->d)) {
        p->left_over = true;
        return;
    }
    struct decide_stop *stop = list_add((struct list *)&p->d->out.stops, command_decide_type.fields[1].type);
    p->d->steps++;
    stop->alloc_id = mem_strdup(a->a.id);
    stop->reason = mem_strdup(reason);
    stop->version = p->s->stopped ? 0 : p->s->current->v.version;
    stop->replacement = mem_strdup(replacement);
    stop->draining = draining;
}

void pass_restart(struct pass *p, const struct alloc_entry *a)
{
    p->acted = true;
    if (decider_is_full(p->d)) {
        p->left_over = true;
        return;
    }
    str_list_add(&p->d->out.restarts, a->a.id);
    p->d->steps++;
}

/* Without a check, that a task runs says little at first; with one, what crashes a moment later has passed it too. */
static int64_t settled_at(const struct pass *p, const struct alloc_entry *a)
{
    const struct service *spec = p->want.spec;
    int64_t running = spec->health.type == HEALTH_NONE ? spec->health.min_running_ms : 0;
    int64_t healthy = spec->deploy.min_healthy_secs * 1000;
    int64_t least = running > healthy ? running : healthy;
    return least ? a->ok_since + least : 0;
}

bool pass_counts(struct pass *p, const struct alloc_entry *a)
{
    int64_t until = NEVER;
    if (!alloc_serves(a))
        return false;
    if (p->d->now < settled_at(p, a)) {
        pass_wake(p, settled_at(p, a));
        return false;
    }
    if (ingress_in_force(p->d->c, a, p->d->now, &until))
        return true;
    p->waits = true;
    pass_wake(p, until);
    return false;
}

static void forget(struct pass *p, const struct alloc_entry *a)
{
    p->acted = true;
    if (decider_is_full(p->d)) {
        p->left_over = true;
        return;
    }
    str_list_add(&p->d->out.forget, a->a.id);
    p->d->steps++;
}

/* --- trying again --- */

static void note_failed(struct pass *p, const struct slot *slot, const char *then)
{
    const struct alloc_entry *a = slot->last;
    if (p->why_failed.len)
        return;
    if (slot->node)
        buf_printf(&p->why_failed, "the replica on %s", a->a.node_name ? a->a.node_name : a->a.node_id);
    else
        buf_printf(&p->why_failed, "replica %lld", (long long)slot->replica);
    buf_printf(&p->why_failed, " %s: %.200s (%s)", a->a.state == ALLOC_COMPLETE ? "ended" : a->a.state == ALLOC_LOST ?
               "was lost" : "failed", a->a.reason && *a->a.reason ? a->a.reason : "no reason was given", then);
}

bool pass_may_retry(struct pass *p, const struct slot *slot)
{
    const struct alloc_entry *a = slot->last;
    if (!a)
        return true;
    bool lost_task = a->a.state == ALLOC_LOST && p->want.spec->mode == MODE_TASK;
    if (p->want.spec->restart.then == THEN_FAIL && (alloc_ended_by_itself(a) || lost_task)) {
        note_failed(p, slot, "left so: restart.then is fail");
        p->failed++;
        return false;
    }
    if (!alloc_ended_by_itself(a))
        return true;
    int64_t n = alloc_attempts(a), delay = n > 10 ? RETRY_MOST_MS : RETRY_FIRST_MS << n;
    delay = delay > RETRY_MOST_MS ? RETRY_MOST_MS : delay;
    if (p->d->now >= a->ended_at + delay)
        return true;
    char then[64];
    snprintf(then, sizeof(then), "tried again %llds after that", (long long)(delay / 1000));
    note_failed(p, slot, then);
    pass_wake(p, a->ended_at + delay);
    return false;
}

/* --- placing --- */

static void note_unplaced(struct pass *p, const struct slot *slot, const struct sched_reason_list *why)
{
    if (p->why_unplaced.len)
        return;
    if (why->n == 0)
        buf_add_string(&p->why_unplaced, "there is no node");
    for (uint32_t i = 0; i < why->n && i < 3; i++)
        buf_printf(&p->why_unplaced, "%s%s (%lld node%s%s%s)", i ? "; " : "", why->v[i].text ? why->v[i].text : "",
                   (long long)why->v[i].nodes, why->v[i].nodes == 1 ? "" : "s", why->v[i].example ? ", e.g. " : "",
                   why->v[i].example ? why->v[i].example : "");
}

static void place_chosen(struct pass *p, const struct place_ask *ask, struct sched_choice *choice)
{
    struct decider *d = p->d;
    char id[ID_LEN + 1];
    p->acted = true;
    do
        id_format(id, hash_mix(d->seed + ++d->ids));
    while (state_alloc(d->c, id));
    struct decide_place *to = list_add((struct list *)&d->out.places, command_decide_type.fields[0].type);
    to->alloc_id = mem_strdup(id);
    to->service = mem_strdup(p->s->name);
    to->version = (ask->version ? ask->version : p->s->current)->v.version;
    to->replica = ask->slot->replica;
    to->node_id = mem_strdup(choice->node_id);
    to->ports = choice->ports;
    choice->ports = (struct alloc_port_list){0};
    to->cpus = choice->cpus;
    to->memory_mb = choice->memory_mb;
    to->disk_mb = choice->disk_mb;
    to->previous = ask->previous ? mem_strdup(ask->previous->a.id) : NULL;
    to->attempt = slot_attempt(ask->slot);
    to->run_at = p->want.spec->schedule ? p->s->run_at : 0;
    to->reason = mem_strdup(ask->reason);
    struct alloc a = tentative(to);
    sched_alloc_add(d->c->sched, &a);
}

enum place_result pass_place(struct pass *p, const struct place_ask *ask)
{
    const struct slot *slot = ask->slot;
    struct decider *d = p->d;
    if (decider_is_full(d)) {
        p->acted = p->left_over = true;
        return PLACE_BATCH_FULL;
    }
    bool plain = !slot->node && !ask->ignored;
    if (plain && p->full) {
        p->unplaced += ask->commit;
        return PLACE_NO_ROOM;
    }
    const struct version_entry *v = ask->version ? ask->version : p->s->current;
    struct sched_request request = slot_request(p->d->c, slot, &v->v.spec, v->v.version, ask->previous);
    request.ignore_alloc = ask->ignored ? ask->ignored->a.id : NULL;
    struct sched_choice choice = {0};
    struct sched_reason_list why = {0};
    int r = sched_place(d->c->sched, &request, &choice, &why);
    if (r == 0 && ask->commit)
        place_chosen(p, ask, &choice);
    if (r != 0 && ask->commit) {
        note_unplaced(p, slot, &why);
        p->full |= plain;
        p->unplaced++;
    }
    sched_choice_clear(&choice);
    sched_reason_list_clear(&why);
    return r ? PLACE_NO_ROOM : PLACE_DONE;
}

/* --- slots --- */

static void stop_all(struct pass *p, const struct slot *slot, const char *reason)
{
    for (uint32_t i = 0; i < slot->n; i++)
        if (entry_wanted(p->slots.allocs[slot->first + i]))
            pass_stop(p, p->slots.allocs[slot->first + i], NULL, false, reason);
}

/* One fresh replica is right; all others of the slot go, the older and draining ones once it serves. */
static void settle_fresh(struct pass *p, const struct slot *slot)
{
    struct alloc_entry *fresh = slot->fresh;
    bool serves = pass_counts(p, fresh);
    for (uint32_t i = 0; i < slot->n; i++) {
        struct alloc_entry *a = p->slots.allocs[slot->first + i];
        if (!entry_wanted(a) || a == fresh)
            continue;
        bool extra = a->epoch == fresh->epoch && a->node->n.state != NODE_DRAINING;
        if (extra)
            pass_stop(p, a, NULL, false, "another allocation runs this replica");
        else if (serves && !(p->holds && a == slot->old))
            pass_stop(p, a, fresh->a.id, false, a->epoch == fresh->epoch ? "its replacement serves, and its node drains"
                                                                        : "its replacement of the new version serves");
    }
    if (!serves)
        p->busy++;
}

/* Tasks and every-node replicas stay on a draining node until the others have left. */
static void settle_draining(struct pass *p, const struct slot *slot)
{
    struct alloc_entry *a = slot->draining;
    bool others = false;
    for (uint32_t i = 0; i < slot->n && slot_serves_leaving(slot); i++) {
        struct alloc_entry *other = p->slots.allocs[slot->first + i];
        if (!entry_wanted(other) || other == a)
            continue;
        pass_stop(p, other, a->a.id, false, other->epoch == a->epoch ? "another allocation runs this replica"
                                                                     : "its replacement of the new version serves");
        others = true;
    }
    if (p->want.spec->mode != MODE_SERVICE) {
        if (a->node->live_movable == 0)
            stop_all(p, slot, "its node drains");
        return;
    }
    bool volumes = spec_has_volume(p->want.spec);
    if (volumes ? slot->live > slot->wanted : slot_must_wait(slot, p->want.spec))
        return;
    if (others && spec_stops_first(p->want.spec))
        return;                          /* until they have ended */
    if (!pass_may_retry(p, slot))
        return;
    struct place_ask ask = {.slot = slot, .previous = a, .commit = true, .reason = "its node drains"};
    if (!volumes) {
        pass_place(p, &ask);
        return;
    }
    ask.commit = false;
    enum place_result r = pass_place(p, &ask);
    if (r == PLACE_DONE) {
        pass_stop(p, a, NULL, true, "its node drains, and its volume cannot be used twice");
        p->busy++;
    } else if (r == PLACE_NO_ROOM) {
        ask.commit = true;
        pass_place(p, &ask);             /* notes why */
    }
}

static const char *place_reason(const struct pass *p, const struct slot *slot, char *out, size_t size)
{
    const struct alloc_entry *last = slot->before;
    if (p->want.spec->schedule)
        snprintf(out, size, "a run is due");
    else if (!last)
        snprintf(out, size, "placed");
    else if (last->a.state == ALLOC_LOST)
        snprintf(out, size, "replaces %s, whose node was lost", last->a.id);
    else if (last->a.desired == DESIRED_STOP)
        snprintf(out, size, "replaces %s, which was stopped", last->a.id);
    else
        snprintf(out, size, "replaces %s, which %s", last->a.id, last->a.state == ALLOC_FAILED ? "failed" : "ended");
    return out;
}

static void settle_missing(struct pass *p, const struct slot *slot)
{
    char reason[96];
    if (slot->done || (slot->node && slot->node->n.state != NODE_READY))
        return;
    if (p->waits_for) {
        p->busy++;
        return;
    }
    if (slot_must_wait(slot, p->want.spec) || service_must_wait(p->s)) {
        p->busy++;
        return;
    }
    if (!pass_may_retry(p, slot)) {
        p->busy++;
        return;
    }
    struct place_ask ask = {.slot = slot, .previous = slot->before, .commit = true,
                            .reason = place_reason(p, slot, reason, sizeof(reason))};
    bool fits = !slot->node || eligible_node(&p->eligible, p->want.spec, &slot->node->n);
    if (!fits) {
        p->unfit++;
        return;
    }
    pass_place(p, &ask);
    p->busy++;
}

/* Of several older ones, left by rollouts that were superseded on the way, one stays until it is replaced. */
static void settle_old(struct pass *p, const struct slot *slot)
{
    for (uint32_t i = 0; i < slot->n; i++) {
        struct alloc_entry *a = p->slots.allocs[slot->first + i];
        if (entry_wanted(a) && a != slot->old && a->node->n.state != NODE_DRAINING)
            pass_stop(p, a, NULL, false, "its version was superseded before it was rolled out");
    }
}

/* Runs of a schedule end by themselves; what ran before there was a schedule does not. */
static void settle_unscheduled(struct pass *p, const struct slot *slot)
{
    for (uint32_t i = 0; i < slot->n; i++) {
        struct alloc_entry *a = p->slots.allocs[slot->first + i];
        if (entry_wanted(a) && a->run_at == 0)
            pass_stop(p, a, NULL, false, "its service runs by a schedule now");
    }
}

static void settle_slot(struct pass *p, const struct slot *slot)
{
    bool scheduled = p->want.spec->schedule && !p->s->stopped;
    if (scheduled)
        settle_unscheduled(p, slot);
    if (!slot->desired) {
        if (slot->wanted && !scheduled)
            stop_all(p, slot, p->s->stopped ? "its service was stopped" : slot->fresh ? "the service was scaled down"
                                            : "this replica is not wanted any more");
    } else if (slot->fresh) {
        settle_fresh(p, slot);
    } else if (slot->draining && (!slot->old || slot_serves_leaving(slot))) {
        settle_draining(p, slot);
    } else if (!slot->old) {
        settle_missing(p, slot);
    } else if (!scheduled) {
        settle_old(p, slot);
    }
}

/* Keeps what explains the present: the newest ended allocation of a slot that is not filled, and some more for a
 * while, for their logs and reasons. */
static void collect_garbage(struct pass *p, const struct slot *slot)
{
    bool scheduled = p->want.spec->schedule && !p->s->stopped;
    uint32_t rank = 0;
    for (uint32_t i = slot->n; i-- > 0;) {
        struct alloc_entry *a = p->slots.allocs[slot->first + i];
        if (entry_live(a))
            continue;
        bool keep = (slot->desired && !slot->fresh && (rank == 0 || a == slot->last)) || (scheduled && rank < ENDED_KEPT);
        rank++;
        if (p->s->purge || rank > ENDED_KEPT) {
            forget(p, a);
        } else if (!keep && a->ended_at + ENDED_KEPT_MS <= p->d->now) {
            forget(p, a);
        } else if (!keep) {
            pass_wake(p, a->ended_at + ENDED_KEPT_MS);
        }
    }
}

/* --- leaving, restarts, schedules --- */

/* What left the traffic is stopped, or restarted. */
static void settle_leaving(struct pass *p)
{
    for (uint32_t i = 0; i < p->slots.alloc_count; i++) {
        struct alloc_entry *a = p->slots.allocs[i];
        int64_t until = NEVER;
        if (!a->a.leaving || !alloc_wanted(&a->a))
            continue;
        if (!ingress_has_left(p->d->c, a, p->d->now, &until)) {
            p->waits = true;
            pass_wake(p, until);
        } else if (a->a.leaving == LEAVING_TO_STOP) {
            pass_stop(p, a, NULL, false, a->a.desired_reason);
        } else {
            pass_restart(p, a);
        }
    }
}

static void roll_restart(struct pass *p, const struct alloc_entry *a, int64_t *budget)
{
    if (!a || a->a.generation >= p->s->generation || a->a.leaving)
        return;
    bool serves = alloc_serves(a);
    if (serves && *budget <= 0)
        return;
    *budget -= serves;
    pass_restart(p, a);
}

/* Replicas of an older version are restarted where they stay; elsewhere new ones take their place. */
static void roll_restarts(struct pass *p)
{
    int64_t budget = p->want.spec->deploy.max_unavailable - (int64_t)p->busy;
    for (uint32_t i = 0; i < p->slots.n; i++) {
        const struct slot *slot = &p->slots.v[i];
        if (!slot->desired)
            continue;
        roll_restart(p, slot->fresh, &budget);
        if (p->beside)
            roll_restart(p, slot->old, &budget);
    }
}

static bool any_live(const struct service_entry *s)
{
    struct alloc_entry *a;
    RB_FOREACH(a, alloc_replica_tree, (struct alloc_replica_tree *)&s->allocs)
        if (entry_live(a))
            return true;
    return false;
}

/* Moves the schedule on. True when the state has to change before anything else is decided for the service. */
static bool step_schedule(struct pass *p, struct decide_service *to)
{
    const struct service *spec = p->want.spec;
    struct service_entry *s = p->s;
    if (!spec->schedule)
        return false;
    if (s->next_run_at > p->d->now) {
        pass_wake(p, s->next_run_at);
        return false;
    }
    int64_t next = cron_next(spec->schedule, spec->time_zone_rule ? spec->time_zone_rule : "UTC0", p->d->now);
    to->set_next_run = true;
    to->next_run_at = next > p->d->now ? next : NEVER;
    to->run_at = s->run_at;
    if (s->next_run_at && any_live(s))
        to->skipped = mem_strdup("a due run was skipped: the one before it still runs");
    else if (s->next_run_at)
        to->run_at = s->next_run_at;
    return true;
}

/* --- the pass --- */

static void say_reason(const struct pass *p, struct buf *reason)
{
    if (p->unplaced)
        buf_printf(reason, "%u replica%s placed: %s", p->unplaced, p->unplaced == 1 ? " is not" : "s are not",
                   p->why_unplaced.len ? p->why_unplaced.data : "there is no room");
    if (p->waits_for)
        buf_printf(reason, "%swaits for service %s, which is not healthy yet", reason->len ? "; " : "", p->waits_for->name);
    if (p->why_failed.len)
        buf_printf(reason, "%s%s", reason->len ? "; " : "", p->why_failed.data);
}

static void report_service(struct pass *p, struct decide_service *to)
{
    CLEANUP_BUF struct buf reason = {0};
    struct service_entry *s = p->s;
    say_reason(p, &reason);
    if (!s->stopped && !p->left_over)
        if (to->set_next_run || p->unplaced != s->unplaced || !text_same(reason.data, s->reason)) {
            struct decide_service *entry = list_add((struct list *)&p->d->out.services,
                                                    command_decide_type.fields[4].type);
            *entry = *to;
            *to = (struct decide_service){0};
            entry->service = mem_strdup(s->name);
            entry->version = s->current->v.version;
            entry->reason = reason.len ? buf_steal(&reason) : NULL;
            entry->unplaced = p->unplaced;
            p->acted = true;
        }
    free(to->skipped);
}

void reconcile_service(struct decider *d, struct service_entry *s)
{
    struct pass p = {.d = d, .s = s, .want = slots_want_of(s), .wake = NEVER};
    struct decide_service to = {0};
    p.deployment = state_running_deployment(s);
    p.beside = beside_deployment(s);
    p.waits_for = order_waits_for(d->c, s);
    bool moved = !s->stopped && step_schedule(&p, &to);
    slots_build(d->c, s, &p.want, &p.slots);
    p.holds = !s->stopped && analysis_holds(&p);
    settle_leaving(&p);
    for (uint32_t i = 0; i < p.slots.n; i++) {
        if (p.beside && p.slots.v[i].desired)
            beside_settle(&p, &p.slots.v[i]);
        else if (!moved)
            settle_slot(&p, &p.slots.v[i]);
        collect_garbage(&p, &p.slots.v[i]);
    }
    if (!s->stopped && !moved) {
        if (!p.beside)
            deploy_replace(&p);
        roll_restarts(&p);
        if (p.deployment && !p.left_over)
            (p.beside ? beside_judge : deploy_judge)(&p);
    }
    report_service(&p, &to);
    if (!p.acted)
        state_clear_dirty(d->c, s);
    state_set_blocked(d->c, s, p.unplaced > 0);
    state_set_wake(d->c, s, p.wake);
    s->ingress_waits = p.waits;
    slots_clear(&p.slots);
    eligible_clear(&p.eligible);
    buf_free(&p.why_unplaced);
    buf_free(&p.why_failed);
}
