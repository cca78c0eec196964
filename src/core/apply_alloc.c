/* Allocations: what agents report of them, and what users ask of single ones. */
#include <string.h>

#include "base/text.h"
#include "core/apply.h"
#include "core/ingress.h"
#include "core/peers.h"

/* With no word of a restart that was asked for, it counts as done after this long. */
#define RESTART_SEEN_MS 60000

static bool transition_allowed(const struct alloc_entry *a, enum alloc_state to)
{
    if (to <= ALLOC_PENDING || to > ALLOC_LOST)
        return false;
    if (a->a.state == ALLOC_STOPPING && a->a.desired == DESIRED_STOP)
        return to >= ALLOC_STOPPING;
    return true;
}

/* A report of the run before the restart may still be on its way when the restart is asked for: the new run shows by
 * a new start time, or by going through starting. */
static void see_restart(struct core *c, struct alloc_entry *a, const struct alloc_report *r)
{
    if (a->restarting && (r->started_at != a->restart_from || r->state == ALLOC_STARTING || r->state >= ALLOC_STOPPING
                          || c->now >= a->restarted_at + RESTART_SEEN_MS))
        a->restarting = false;
}

static bool reports_change(const struct alloc_entry *a, const struct alloc_report *r)
{
    return a->a.exited != r->exited || a->a.exit_code != r->exit_code || a->a.exit_signal != r->exit_signal
           || a->a.oom != r->oom || a->a.restarts != r->restarts || a->a.started_at != r->started_at
           || a->a.finished_at != r->finished_at;
}

static void apply_one(struct core *c, struct alloc_entry *a, const struct alloc_report *r)
{
    bool changed = reports_change(a, r), was_restarting = a->restarting;
    bool served = alloc_serves(a);
    a->report_seq = r->seq;
    see_restart(c, a, r);
    a->a.exited = r->exited;
    a->a.exit_code = r->exit_code;
    a->a.exit_signal = r->exit_signal;
    a->a.oom = r->oom;
    a->a.restarts = r->restarts;
    a->a.started_at = r->started_at;
    a->a.finished_at = r->finished_at;
    if (r->ip && !text_same(r->ip, a->a.ip)) {
        mem_set_string(&a->a.ip, r->ip);
        peers_set_changed(c, a->service);
        ingress_set_changed(c, a->service);
    }
    if (!text_same(r->address, a->a.address)) {
        mem_set_string(&a->a.address, r->address);
        state_touch_alloc(c, a);
    }
    if (r->state != a->a.state)
        state_set_alloc_state(c, a, r->state, r->reason);
    else if (r->reason && !text_same(r->reason, a->a.reason))
        state_set_alloc_reason(c, a, r->reason);
    else if (changed || was_restarting != a->restarting || served != alloc_serves(a))
        state_touch_alloc(c, a);
}

int apply_alloc_report(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct agent_report *p = payload;
    struct node_entry *n = state_node(c, p->node_id);
    bool first = true;
    if (!n)
        return error_set(err, ERROR_NOT_FOUND, "there is no node %s; register first", p->node_id ? p->node_id : "");
    buf_add_string(body, "{\"gone\":[");
    for (uint32_t i = 0; i < p->allocs.n; i++) {
        const struct alloc_report *r = &p->allocs.v[i];
        struct alloc_entry *a = state_alloc(c, r->id);
        if (!a || a->node != n) {
            buf_add_string(body, first ? "" : ",");
            json_add_string(body, r->id ? r->id : "");
            first = false;
        } else if (entry_live(a) && r->seq > a->report_seq && transition_allowed(a, r->state)) {
            apply_one(c, a, r);
        }
    }
    buf_add_string(body, "]}");
    return 0;
}

static struct alloc_entry *find_wanted(struct core *c, const struct command_alloc *p, struct error *err)
{
    struct alloc_entry *a = state_alloc(c, p->alloc_id);
    if (!a)
        error_set(err, ERROR_NOT_FOUND, "there is no allocation %s", p->alloc_id ? p->alloc_id : "");
    else if (!entry_live(a))
        error_set(err, ERROR_CONFLICT, "allocation %s has ended already", p->alloc_id);
    else
        return a;
    return NULL;
}

int apply_alloc_stop(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_alloc *p = payload;
    struct alloc_entry *a = find_wanted(c, p, err);
    if (!a)
        return -1;
    if (entry_wanted(a))
        alloc_stop(c, a, p->reason ? p->reason : "stop was asked for");
    buf_printf(body, "{\"index\":%llu}", (unsigned long long)c->index);
    return 0;
}

int apply_alloc_restart(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_alloc *p = payload;
    struct alloc_entry *a = find_wanted(c, p, err);
    if (!a)
        return -1;
    if (!entry_wanted(a))
        return error_set(err, ERROR_CONFLICT, "allocation %s is being stopped", p->alloc_id);
    if (a->a.paused)
        return error_set(err, ERROR_CONFLICT, "allocation %s is paused: resume it first", p->alloc_id);
    if (!a->a.leaving)
        alloc_restart(c, a, a->a.generation + 1, p->reason ? p->reason : "restart was asked for");
    buf_printf(body, "{\"index\":%llu}", (unsigned long long)c->index);
    return 0;
}

/* The agent follows; until it has, and until it says that a resumed task is well, no request goes there. */
static int set_paused(struct core *c, const struct command_alloc *p, bool paused, struct buf *body, struct error *err)
{
    struct alloc_entry *a = find_wanted(c, p, err);
    if (!a)
        return -1;
    const struct version_entry *v = state_version(a->service, a->a.version);
    if (!v || v->v.spec.driver != DRIVER_FIRECRACKER)
        return error_set(err, ERROR_UNSUPPORTED, "allocation %s cannot be paused: that is for driver firecracker alone", p->alloc_id);
    if (!entry_wanted(a))
        return error_set(err, ERROR_CONFLICT, "allocation %s is being stopped", p->alloc_id);
    if (a->a.paused != paused) {
        a->a.paused = paused;
        state_touch_work(c, a);
        const char *state = enum_name(alloc_state_names, (int)a->a.state);
        state_event(c, (struct event_text){.kind = "alloc", .subject = a->a.id, .service = a->a.service, .alloc = a->a.id,
                                           .node = a->a.node_id, .from = state, .to = state}, "to be %s%s%s",
                    paused ? "paused" : "resumed", p->reason ? ": " : "", p->reason ? p->reason : "");
    }
    buf_printf(body, "{\"index\":%llu}", (unsigned long long)c->index);
    return 0;
}

int apply_alloc_pause(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    return set_paused(c, payload, true, body, err);
}

int apply_alloc_resume(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    return set_paused(c, payload, false, body, err);
}

void alloc_stop(struct core *c, struct alloc_entry *a, const char *reason)
{
    int64_t until;
    if (ingress_must_leave(c, a) || a->a.leaving == LEAVING_TO_RESTART)
        state_leave_alloc(c, a, LEAVING_TO_STOP, reason);
    else if (!a->left_index || ingress_has_left(c, a, c->now, &until))
        state_stop_alloc(c, a, reason);
}

/* The agent restarts the task when the generation grows. */
void alloc_restart(struct core *c, struct alloc_entry *a, int64_t generation, const char *reason)
{
    int64_t until;
    if (ingress_must_leave(c, a)) {
        state_leave_alloc(c, a, LEAVING_TO_RESTART, reason);
        return;
    }
    if (a->left_index && !ingress_has_left(c, a, c->now, &until))
        return;
    state_stay_alloc(c, a);
    a->a.generation = generation;
    a->restarting = true;
    a->restarted_at = c->now;
    a->restart_from = a->a.started_at;
    a->running_since = 0;
    state_touch_work(c, a);
    const char *state = enum_name(alloc_state_names, (int)a->a.state);
    state_event(c, (struct event_text){.kind = "alloc", .subject = a->a.id, .service = a->a.service, .alloc = a->a.id,
                                       .node = a->a.node_id, .from = state, .to = state}, "%s", reason);
}
