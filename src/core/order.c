#include "core/order.h"

#include <string.h>

#include "model/namespace.h"

static bool is_ready(struct core *c, const struct service_entry *s)
{
    const struct deployment_entry *d = TAILQ_LAST(&s->deployments, deployment_list_head);
    struct service_status status;
    if (d && d->d.state == DEPLOYMENT_RUNNING)
        return false;
    core_service_status(c, s->name, &status);
    bool ready = status.state == SERVICE_COMPLETE || (status.state == SERVICE_RUNNING && s->current->v.spec.mode != MODE_TASK);
    type_clear(&service_status_type, &status);
    return ready;
}

/* `after` speaks of services of the same job, by the names of its file. */
static const struct service_entry *find_sibling(const struct service_entry *s, const char *name)
{
    const struct service_entry *other;
    TAILQ_FOREACH(other, &s->job->services, in_job)
        if (!strcmp(namespace_bare(other->name), name))
            return other;
    return NULL;
}

static bool may_be_held(const struct service_entry *s)
{
    const struct service *spec = &s->current->v.spec;
    const struct deployment_entry *d = state_running_deployment(s);
    if (s->stopped || !spec->after.n || spec->schedule)
        return false;
    if (spec->mode != MODE_TASK)
        return d && d->d.state == DEPLOYMENT_RUNNING;
    struct alloc_entry *a;
    RB_FOREACH(a, alloc_replica_tree, (struct alloc_replica_tree *)&s->allocs)
        if (a->epoch == s->current->epoch)
            return false;
    return true;
}

const struct service_entry *order_waits_for(struct core *c, const struct service_entry *s)
{
    const struct str_list *after = &s->current->v.spec.after;
    if (!may_be_held(s))
        return NULL;
    for (uint32_t i = 0; i < after->n; i++) {
        const struct service_entry *other = find_sibling(s, after->v[i]);
        if (other && !other->stopped && !is_ready(c, other))
            return other;
    }
    return NULL;
}

void order_wake(struct core *c, const struct service_entry *s)
{
    struct service_entry *other;
    if (!s->job || !s->job->ordered)
        return;
    TAILQ_FOREACH(other, &s->job->services, in_job)
        if (other->current && str_list_has(&other->current->v.spec.after, namespace_bare(s->name)))
            state_set_dirty(c, other);
}
