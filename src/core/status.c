/* Status: how a service stands, derived from its slots, and why. */
#include <string.h>

#include "core/slots.h"
#include "core/status.h"

struct tally {
    struct service_status *out;
    uint32_t serving, done, live, old, waiting;   /* waiting: for a replacement that does not serve yet */
};

static void count_slot(struct tally *t, const struct slot *slot)
{
    struct service_status *out = t->out;
    const struct alloc_entry *a = slot->fresh ? slot->fresh : slot->old ? slot->old : slot->draining;
    bool serves = (slot->fresh && alloc_serves(slot->fresh)) || (slot->old && alloc_serves(slot->old))
                  || (slot->draining && alloc_serves(slot->draining));
    t->live += slot->live;
    if (!slot->desired)
        return;
    out->desired++;
    t->done += slot->done;
    t->serving += serves;
    if (!a) {
        out->failed += slot->last && !slot->done && slot->last->a.desired == DESIRED_RUN;
        return;
    }
    out->placed++;
    t->old += slot->old != NULL;
    t->waiting += serves && slot->fresh && !alloc_serves(slot->fresh);
    out->running += serves || (a->a.state >= ALLOC_RUNNING && a->a.state <= ALLOC_UNHEALTHY);
    out->healthy += serves;
}

static enum service_state judge(const struct service_entry *s, const struct tally *t)
{
    const struct service_status *out = t->out;
    if (s->stopped)
        return t->live ? SERVICE_STOPPING : SERVICE_STOPPED;
    if (out->desired && t->done == out->desired)
        return SERVICE_COMPLETE;
    if (t->serving + t->done == out->desired)
        return out->desired || !s->current->v.spec.schedule ? SERVICE_RUNNING : SERVICE_PENDING;
    if (t->serving)
        return SERVICE_DEGRADED;
    return out->failed && out->placed == 0 ? SERVICE_FAILED : SERVICE_PENDING;
}

static const char *reason_of(const struct service_entry *s, const struct tally *t, enum service_state state)
{
    const struct deployment_entry *d = TAILQ_LAST(&s->deployments, deployment_list_head);
    if (s->stopped)
        return t->live ? "its replicas are being stopped" : "stopped";
    if (s->reason)
        return s->reason;
    if (state == SERVICE_COMPLETE)
        return s->current->v.spec.schedule ? "the last run completed" : "all its tasks completed";
    if (s->current->v.spec.schedule && t->out->desired == 0)
        return "it waits for its next run";
    if (t->out->placed + t->done < t->out->desired)
        return "replicas are being placed";
    if (d && d->d.state == DEPLOYMENT_FAILED && t->old)
        return "its last deployment failed: some replicas stay at an older version";
    if (t->waiting)
        return "replacements do not serve yet";
    return state == SERVICE_RUNNING ? NULL : "replicas do not serve yet";
}

void service_status_fill(struct core *c, struct service_entry *s, struct service_status *out)
{
    struct slots_want want = slots_want_of(s);
    CLEANUP_SLOTS struct slots slots;
    struct eligible eligible = {0};
    const struct service *spec = want.spec;
    const struct deployment_entry *d = TAILQ_LAST(&s->deployments, deployment_list_head);
    struct tally t = {.out = out};
    slots_build(c, s, &want, &slots);
    for (uint32_t i = 0; i < slots.n; i++) {
        struct slot *slot = &slots.v[i];
        /* nodes that could not run it, or may not now, are not asked to */
        if (slot->node && !slot->wanted
            && (slot->node->n.state != NODE_READY || !eligible_node(&eligible, spec, &slot->node->n)))
            slot->desired = false;
        count_slot(&t, slot);
    }
    eligible_clear(&eligible);
    out->name = mem_strdup(s->name);
    out->job = mem_strdup(s->job->name);
    out->driver = spec->driver;
    out->mode = spec->mode;
    out->version = s->current->v.version;
    out->state = judge(s, &t);
    out->reason = mem_strdup(reason_of(s, &t, out->state));
    out->deployment = d ? mem_strdup(d->d.id) : NULL;
    out->next_run_at = s->next_run_at == NEVER ? 0 : s->next_run_at;
    out->create_index = s->create_index;
    out->modify_index = s->modify_index;
}

int core_service_status(const struct core *c, const char *service, struct service_status *out)
{
    struct service_entry *s = state_service(c, service);
    *out = (struct service_status){0};
    if (!s)
        return -1;
    /* Counting costs as much as the service has allocations: it is done again only after something changed. */
    if (!s->status) {
        s->status = NEW(struct service_status);
        service_status_fill((struct core *)c, s, s->status);   /* the slots point into the state, nothing writes there */
    }
    type_copy(&service_status_type, out, s->status);
    return 0;
}

bool core_service_status_holds(const struct core *c, const char *service)
{
    const struct service_entry *s = state_service(c, service);
    if (!s || !s->status)
        return true;
    struct service_status counted = {0};
    service_status_fill((struct core *)c, (struct service_entry *)s, &counted);
    bool equal = type_equal(&service_status_type, &counted, s->status);
    type_clear(&service_status_type, &counted);
    return equal;
}
