/* Reading: objects in order, events, what changed, and what an agent has to know. */
#include <string.h>

#include "core/apply.h"
#include "core/peers.h"
#include "model/namespace.h"

const struct node *core_node(const struct core *c, const char *id)
{
    const struct node_entry *n = state_node(c, id);
    return n ? &n->n : NULL;
}

const struct node *core_node_by_name(const struct core *c, const char *name)
{
    const struct node_entry *n = state_node_by_name(c, name);
    return n ? &n->n : NULL;
}

const struct alloc *core_alloc(const struct core *c, const char *id)
{
    const struct alloc_entry *a = state_alloc(c, id);
    return a ? &a->a : NULL;
}

const struct service_version *core_service(const struct core *c, const char *name)
{
    const struct service_entry *s = state_service(c, name);
    return s ? &s->current->v : NULL;
}

const struct deployment *core_deployment(const struct core *c, const char *id)
{
    const struct deployment_entry *d = state_deployment(c, id);
    return d ? &d->d : NULL;
}

const struct core_counts *core_counts(const struct core *c)
{
    return &c->counts;
}

/* The first entry behind `after`, which need not exist itself. The search borrows the text. */
#define NEXT_ENTRY(tree, head, entry, key_member, after)                                                 \
    ({                                                                                                   \
        struct entry next_key = {.key_member = (char *)((after) ? (after) : "")};                        \
        struct entry *next_found = RB_NFIND(tree, (struct tree *)&(head), &next_key);                    \
        if (next_found && (after) && strcmp(next_found->key_member, after) == 0)                         \
            next_found = RB_NEXT(tree, &(head), next_found);                                             \
        next_found;                                                                                      \
    })

const struct policy *core_policy(const struct core *c)
{
    return &c->policy;
}

const struct secrets *core_secrets(const struct core *c)
{
    return &c->secrets;
}

const struct access *core_access(const struct core *c)
{
    return &c->access;
}

const struct member *core_member(const struct core *c, const char *id)
{
    const struct member_entry *m = state_member(c, id);
    return m ? &m->m : NULL;
}

const struct member *core_member_next(const struct core *c, const char *after)
{
    const struct member_entry *m = NEXT_ENTRY(member_tree, c->members, member_entry, m.id, after);
    return m ? &m->m : NULL;
}

int64_t core_level(const struct core *c)
{
    struct member_entry *m;
    int64_t level = RB_EMPTY(&c->members) ? 1 : INT64_MAX;
    RB_FOREACH(m, member_tree, (struct member_tree *)&c->members)
        level = m->m.level < level ? m->m.level : level;
    return level;
}

const struct node *core_node_next(const struct core *c, const char *after)
{
    const struct node_entry *n = NEXT_ENTRY(node_id_tree, c->nodes, node_entry, n.id, after);
    return n ? &n->n : NULL;
}

const struct alloc *core_alloc_next(const struct core *c, const char *after)
{
    const struct alloc_entry *a = NEXT_ENTRY(alloc_id_tree, c->allocs, alloc_entry, a.id, after);
    return a ? &a->a : NULL;
}

const struct service_version *core_service_next(const struct core *c, const char *after)
{
    const struct service_entry *s = NEXT_ENTRY(service_tree, c->services, service_entry, name, after);
    return s ? &s->current->v : NULL;
}

const struct deployment *core_deployment_next(const struct core *c, const char *after)
{
    const struct deployment_entry *d = NEXT_ENTRY(deployment_tree, c->deployments, deployment_entry, d.id, after);
    return d ? &d->d : NULL;
}

const char *core_job_next(const struct core *c, const char *after)
{
    const struct job_entry *j = NEXT_ENTRY(job_tree, c->jobs, job_entry, name, after);
    return j ? j->name : NULL;
}

void core_service_allocs(const struct core *c, const char *service, bool (*fn)(void *ctx, const struct alloc *a), void *ctx)
{
    struct service_entry *s = state_service(c, service);
    struct alloc_entry *a;
    if (!s)
        return;
    RB_FOREACH(a, alloc_replica_tree, &s->allocs)
        if (!fn(ctx, &a->a))
            return;
}

void core_node_allocs(const struct core *c, const char *node_id, bool (*fn)(void *ctx, const struct alloc *a), void *ctx)
{
    struct node_entry *n = state_node(c, node_id);
    struct alloc_entry *a;
    if (!n)
        return;
    RB_FOREACH(a, alloc_node_tree, &n->allocs)
        if (!fn(ctx, &a->a))
            return;
}

static void add_version(struct service_version_list *out, const struct version_entry *v)
{
    struct service_version *to = list_add_zero((struct list *)out, &service_version_type);
    type_copy(&service_version_type, to, &v->v);
}

void core_service_versions(const struct core *c, const char *service, struct service_version_list *out)
{
    const struct service_entry *s = state_service(c, service);
    const struct version_entry *v;
    *out = (struct service_version_list){0};
    if (!s)
        return;
    TAILQ_FOREACH(v, &s->versions, link)
        add_version(out, v);
}

const struct service_version *core_version(const struct core *c, const char *name, uint64_t version)
{
    const struct service_entry *s = state_service(c, name);
    const struct version_entry *v = s ? state_version(s, version) : NULL;
    return v ? &v->v : NULL;
}

int core_job(const struct core *c, const char *job, struct job *out)
{
    const struct job_entry *j = state_job(c, job);
    const struct service_entry *s;
    *out = (struct job){0};
    if (!j)
        return -1;
    char namespace[NAMESPACE_SIZE];
    out->name = mem_strdup(namespace_bare(j->name));
    if (!namespace_has(NULL, j->name))
        out->namespace = mem_strdup(namespace_of(j->name, namespace));
    TAILQ_FOREACH(s, &j->services, in_job)
        if (!s->stopped) {
            struct service *spec = list_add_zero((struct list *)&out->services, &service_type);
            type_copy(&service_type, spec, &s->current->v.spec);
            mem_set_string(&spec->name, namespace_bare(s->name));
        }
    return 0;
}

/* --- events: the ring is in order, so the place to start is found by halving --- */

uint32_t core_events(const struct core *c, uint64_t after_index, int64_t after_seq, uint32_t limit, struct event_list *out)
{
    uint64_t low = c->event_count > EVENTS_KEPT ? c->event_count - EVENTS_KEPT : 0, high = c->event_count;
    uint32_t n = 0;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        const struct event *e = &c->events[middle % EVENTS_KEPT];
        if (e->index < after_index || (e->index == after_index && e->seq <= after_seq))
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < c->event_count && n < limit; low++, n++)
        type_copy(&event_type, list_add_zero((struct list *)out, &event_type), &c->events[low % EVENTS_KEPT]);
    return n;
}

const struct event *core_last_event(const struct core *c, const char *kind, const char *subject, const char *to)
{
    uint64_t oldest = c->event_count > EVENTS_KEPT ? c->event_count - EVENTS_KEPT : 0;
    for (uint64_t i = c->event_count; i > oldest; i--) {
        const struct event *e = &c->events[(i - 1) % EVENTS_KEPT];
        if (!strcmp(e->kind, kind) && !strcmp(e->subject, subject) && e->to && !strcmp(e->to, to))
            return e;
    }
    return NULL;
}

/* --- what changed --- */

uint64_t core_changed(const struct core *c, enum core_kind kind, const char *name)
{
    uint64_t all = (unsigned)kind < CORE_KIND_COUNT ? c->changed[kind] : c->index;
    if (!name)
        return all;
    switch (kind) {
    case CORE_JOB: {
        const struct job_entry *j = state_job(c, name);
        return j ? j->modify_index : UINT64_MAX;
    }
    case CORE_SERVICE: {
        const struct service_entry *s = state_service(c, name);
        return s ? s->modify_index : UINT64_MAX;
    }
    case CORE_ALLOC: {
        const struct alloc_entry *a = state_alloc(c, name);
        return a ? a->a.modify_index : UINT64_MAX;
    }
    case CORE_NODE: {
        const struct node_entry *n = state_node(c, name);
        return n ? n->n.modify_index : UINT64_MAX;
    }
    case CORE_DEPLOYMENT: {
        const struct deployment_entry *d = state_deployment(c, name);
        return d ? d->d.modify_index : UINT64_MAX;
    }
    case CORE_NODE_WORK: {
        const struct node_entry *n = state_node(c, name);
        return n ? n->work_index : UINT64_MAX;
    }
    case CORE_NETWORK: {
        const struct node_entry *n = state_node(c, name);
        return !n ? UINT64_MAX : n->network_index > c->network_index ? n->network_index : c->network_index;
    }
    case CORE_MEMBER: {
        const struct member_entry *m = state_member(c, name);
        return m ? m->m.modify_index : UINT64_MAX;
    }
    case CORE_ANY:
    case CORE_INGRESS:
    case CORE_KIND_COUNT:
        break;
    }
    return all;
}

/* --- an agent's work --- */

/* Each version once; allocations of a node rarely name more than a few. */
static void add_work_version(const struct core *c, struct agent_work *out, const struct alloc_entry *a)
{
    for (uint32_t i = out->services.n; i-- > 0;)
        if (out->services.v[i].version == a->a.version && strcmp(out->services.v[i].service, a->a.service) == 0)
            return;
    const struct version_entry *v = state_version(a->service, a->a.version);
    if (!v)
        return;
    add_version(&out->services, v);
    secrets_add_to_work(c, v, out);
}

int core_agent_work(const struct core *c, const char *node_id, uint64_t since, struct agent_work *out)
{
    struct node_entry *n = state_node(c, node_id);
    struct alloc_entry key = {.work_index = since + 1, .a.id = (char *)""};
    struct gone_entry *g;
    *out = (struct agent_work){.index = c->index};
    if (!n)
        return -1;
    /* an index from the future was given by servers that lost their state */
    out->full = since == 0 || since < n->gone_floor || since > c->index;
    struct alloc_entry *a = out->full ? RB_MIN(alloc_work_tree, &n->work) : RB_NFIND(alloc_work_tree, &n->work, &key);
    for (; a; a = RB_NEXT(alloc_work_tree, &n->work, a)) {
        type_copy(&alloc_type, list_add_zero((struct list *)&out->allocs, &alloc_type), &a->a);
        if (entry_live(a)) {
            add_work_version(c, out, a);
            peers_add_to_work(a->service, out);
        }
    }
    STAILQ_FOREACH(g, &n->gone, link)
        if (!out->full && g->index > since)
            str_list_add(&out->gone, g->id);
    return 0;
}
