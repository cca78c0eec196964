/* Plan: what a submit would do, without doing it. Placements are counted in the scheduler only while planning. */
#include <stdlib.h>
#include <string.h>

#include "core/apply.h"
#include "core/ingress.h"
#include "core/slots.h"
#include "core/table.h"
#include "model/namespace.h"
#include "model/profile.h"

ROWS(change, STRING(change, path, 1), STRING(change, before, 2), STRING(change, after, 3), BOOL(change, restart, 4));
static TABLE(change, change_rows, "A field that changes.");
ROWS(plan_service, STRING(plan_service, name, 1, .flags = FIELD_QUALIFIED, .help = "Name of the service."),
     STRING(plan_service, action, 2, .help = "create, change, keep or delete."),
     LIST(plan_service, changes, 3, change, .help = "What changes in it."),
     STRING(plan_service, profile, 4, .help = "Its security profile."),
     STR_LIST(plan_service, loosened, 5, .help = "What it may do beyond that, by the cluster's policy."));
static TABLE(plan_service, plan_service_rows, "What happens to a service.");
ROWS(plan_step, STRING(plan_step, service, 1, .flags = FIELD_QUALIFIED, .help = "Name of the service."),
     INT(plan_step, replica, 2, .help = "Number of the replica."),
     STRING(plan_step, action, 3, .help = "start, stop, replace, keep or none."),
     STRING(plan_step, node_name, 4, .help = "Where it runs then."),
     STRING(plan_step, alloc, 5, .help = "The allocation that there is."), STRING(plan_step, why, 6, .help = "Why."));
static TABLE(plan_step, plan_step_rows, "What happens to a replica.");
ROWS(plan, LIST(plan, services, 1, plan_service, .help = "The job's services."),
     LIST(plan, steps, 2, plan_step, .help = "Their replicas."));
TABLE(plan, plan_rows, "What a submit would do.");
ROWS(event_list, {.name = "events", .tag = 1, .kind = FIELD_LIST, .offset = 0, .type = &event_type,
                  .help = "Events, oldest first."});
TABLE(event_list, event_list_rows, "Events.");

struct planner {
    struct core *c;
    struct plan *out;
    struct alloc_list placed;        /* counted in the scheduler until the end */
};

static void add_step(struct planner *p, const char *service, const struct slot *slot, const char *action,
                     const char *node_name, const char *alloc, const char *why)
{
    struct plan_step *step = list_add_zero((struct list *)&p->out->steps, &plan_step_type);
    step->service = mem_strdup(service);
    step->replica = slot->replica;
    step->action = mem_strdup(action);
    step->node_name = mem_strdup(node_name);
    step->alloc = mem_strdup(alloc);
    step->why = mem_strdup(why);
}

static char *say_why_not(const struct sched_reason_list *why)
{
    CLEANUP_BUF struct buf text = {0};
    buf_add_string(&text, why->n ? "not placed: " : "not placed: there is no node");
    for (uint32_t i = 0; i < why->n && i < 3; i++)
        buf_printf(&text, "%s%s (%lld nodes)", i ? "; " : "", why->v[i].text, (long long)why->v[i].nodes);
    return buf_steal(&text);
}

static const char *why_placed(const struct service *spec, const struct alloc_entry *old)
{
    if (!old)
        return "it is missing";
    if (spec_has_volume(spec))
        return "its version changes; the old one stops first, since their volume has one user, one replica after the other";
    if (spec_stops_first(spec))
        return "its version changes; the old one stops first, since both need the same host port";
    if (spec->deploy.strategy == STRATEGY_BLUE_GREEN)
        return "its version changes; the old one serves until all new ones do, and stands by";
    if (spec->deploy.strategy == STRATEGY_CANARY)
        return "its version changes; it is a canary beside the old one";
    return "its version changes";
}

/* Replicas that a canary leaves as they are until it is promoted. */
static bool waits_for_canary(const struct service *spec, const struct slot *slot)
{
    int64_t canaries = (spec->count * spec->deploy.canary_percent + 99) / 100;
    return spec->deploy.strategy == STRATEGY_CANARY && slot->old && slot->replica >= canaries;
}

static void plan_place(struct planner *p, const struct service *spec, uint64_t version, const struct slot *slot)
{
    struct sched_choice choice = {0};
    struct sched_reason_list why = {0};
    const struct alloc_entry *old = slot->old;
    struct sched_request request = slot_request(p->c, slot, spec, version, old);
    request.ignore_alloc = old && spec_stops_first(spec) ? old->a.id : NULL;
    const char *action = old ? "replace" : "start";
    if (sched_place(p->c->sched, &request, &choice, &why)) {
        CLEANUP_FREE char *text = say_why_not(&why);
        add_step(p, spec->name, slot, "none", NULL, old ? old->a.id : NULL, text);
    } else {
        const struct node *n = core_node(p->c, choice.node_id);
        struct alloc *a = list_add_zero((struct list *)&p->placed, &alloc_type);
        *a = (struct alloc){.id = mem_printf("plan-%u", p->placed.n), .service = mem_strdup(spec->name),
                            .replica = slot->replica, .node_id = steal(&choice.node_id), .ports = choice.ports,
                            .cpus = choice.cpus, .memory_mb = choice.memory_mb, .disk_mb = choice.disk_mb};
        choice.ports = (struct alloc_port_list){0};
        sched_alloc_add(p->c->sched, a);
        add_step(p, spec->name, slot, action, n ? n->name : NULL, old ? old->a.id : NULL,
                 why_placed(spec, old));
    }
    sched_choice_clear(&choice);
    sched_reason_list_clear(&why);
}

static void plan_slot(struct planner *p, const struct service *spec, uint64_t version, const struct slot *slot,
                      const struct slots *slots)
{
    const struct alloc_entry *keep = slot->fresh ? slot->fresh : slot->draining;
    if (!slot->desired) {
        for (uint32_t i = 0; i < slot->n; i++) {
            const struct alloc_entry *a = slots->allocs[slot->first + i];
            if (entry_wanted(a))
                add_step(p, a->a.service, slot, "stop", a->a.node_name, a->a.id, "it is not wanted any more");
        }
    } else if (slot->fresh || (slot->draining && !slot->old)) {
        add_step(p, spec->name, slot, "keep", keep->a.node_name, keep->a.id, "nothing changes for it");
    } else if (waits_for_canary(spec, slot)) {
        add_step(p, spec->name, slot, "keep", slot->old->a.node_name, slot->old->a.id,
                 "its version changes once the canary is promoted");
    } else if (slot->done) {
        add_step(p, spec->name, slot, "none", NULL, slot->last->a.id, "its task completed");
    } else if (!slot->node || slot->node->n.state == NODE_READY) {
        plan_place(p, spec, version, slot);
    }
}

static void plan_service(struct planner *p, const struct service *spec, struct plan_service *to)
{
    struct service_entry *s = state_service(p->c, spec->name);
    struct slots_want want = {.spec = spec, .epoch = UINT64_MAX};
    bool restart = true;
    to->name = mem_strdup(spec->name);
    to->profile = mem_strdup(profile_of(spec->driver, spec->security.profile)->name);
    privileges_loosened(spec, &to->loosened);
    if (s && !s->stopped) {
        restart = false;
        type_diff(&service_type, &s->current->v.spec, spec, &to->changes);
        for (uint32_t i = 0; i < to->changes.n; i++)
            restart |= to->changes.v[i].restart;
    }
    to->action = mem_strdup(!s || s->stopped ? "create" : to->changes.n ? "change" : "keep");
    if (!restart) {
        want.epoch = s->current->epoch;
        want.generation = s->generation;
        want.run_at = s->run_at;
    }
    bool kept = s && !s->stopped && !to->changes.n;
    uint64_t version = kept ? s->current->v.version : (s ? s->last_version : 0) + 1;
    CLEANUP_SLOTS struct slots slots;
    slots_build(p->c, s, &want, &slots);
    for (uint32_t i = 0; i < slots.n; i++)
        plan_slot(p, spec, version, &slots.v[i], &slots);
}

static int compare_specs(const void *a, const void *b)
{
    return spec_compare(*(const struct service *const *)a, *(const struct service *const *)b);
}

/* Told in the order of the file, placed in the order of the decision. */
static void plan_services(struct planner *p, const struct job *job)
{
    uint32_t n = job->services.n;
    CLEANUP_FREE const struct service **order = mem_array(n + 1, sizeof(*order));
    for (uint32_t i = 0; i < n; i++) {
        order[i] = &job->services.v[i];
        list_add_zero((struct list *)&p->out->services, &plan_service_type);
    }
    qsort(order, n, sizeof(*order), compare_specs);
    for (uint32_t i = 0; i < n; i++)
        plan_service(p, order[i], &p->out->services.v[order[i] - job->services.v]);
}

static void plan_leavers(struct planner *p, const struct job *job)
{
    const struct job_entry *j = state_job(p->c, job->name);
    struct service_entry *s;
    if (!j)
        return;
    TAILQ_FOREACH(s, &j->services, in_job) {
        bool named = s->stopped;
        for (uint32_t i = 0; i < job->services.n && !named; i++)
            named = strcmp(job->services.v[i].name, s->name) == 0;
        if (named)
            continue;
        struct plan_service *to = list_add_zero((struct list *)&p->out->services, &plan_service_type);
        struct slots_want want = slots_want_of(s);
        CLEANUP_SLOTS struct slots slots;
        to->name = mem_strdup(s->name);
        to->action = mem_strdup("delete");
        want.stopped = true;
        slots_build(p->c, s, &want, &slots);
        for (uint32_t i = 0; i < slots.n; i++)
            plan_slot(p, want.spec, s->current->v.version, &slots.v[i], &slots);
    }
}

int core_plan(struct core *c, const struct job *job, int64_t now_ms, struct plan *out, struct error *err)
{
    struct planner p = {.c = c, .out = out};
    *out = (struct plan){0};
    if (object_admits(&job_type, job, err))
        return -1;
    struct job named;
    type_copy(&job_type, &named, job);
    job_qualify(&named);
    int rc = job_admits(c, &named, err);
    if (!rc) {
        plan_services(&p, &named);
        plan_leavers(&p, &named);
    }
    for (uint32_t i = p.placed.n; i-- > 0;)
        sched_alloc_remove(c->sched, &p.placed.v[i]);
    list_clear((struct list *)&p.placed, &alloc_type);
    type_clear(&job_type, &named);
    return rc;
}
