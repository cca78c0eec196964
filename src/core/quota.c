#include "core/quota.h"

#include <string.h>

#include "core/command.h"
#include "core/eligible.h"
#include "model/namespace.h"

static int64_t nodes_of(const struct core *c, const struct service *spec)
{
    struct eligible eligible = {0};
    struct node_entry *n;
    int64_t count = 0;
    RB_FOREACH(n, node_id_tree, (struct node_id_tree *)&c->nodes)
        count += n->n.state == NODE_READY && eligible_node(&eligible, spec, &n->n);
    eligible_clear(&eligible);
    return count;
}

/* One on every node that finds none yet is wanted all the same: any number of them would be free otherwise, until such a node
 * comes, which is never refused. */
static int64_t replicas_of(const struct core *c, const struct service *spec)
{
    if (spec->mode != MODE_EVERY_NODE)
        return spec->count;
    int64_t nodes = nodes_of(c, spec), least = core_level(c) >= QUOTA_LEAST_LEVEL ? 1 : 0;
    return nodes > least ? nodes : least;
}

static void add(const struct core *c, const struct service *spec, struct quota *sum)
{
    double cpus;
    int64_t memory_mb, disk_mb, replicas = replicas_of(c, spec);
    sched_demand(spec, &cpus, &memory_mb, &disk_mb);
    sum->cpus += cpus * (double)replicas;
    sum->memory_mb += memory_mb * replicas;
    sum->replicas += replicas;
}

/* Also before the decision that it is to stop. */
static bool is_leaving(const struct service_entry *s, const struct alloc *a)
{
    const struct service *spec = &s->current->v.spec;
    return s->stopped || a->desired == DESIRED_STOP || (spec->mode == MODE_SERVICE && a->replica >= spec->count);
}

/* What is to stop is still there until it has, which `kill.timeout` can make a day. */
static void add_leaving(const struct service_entry *s, struct quota *sum)
{
    struct alloc_entry *a;
    RB_FOREACH(a, alloc_replica_tree, (struct alloc_replica_tree *)&s->allocs) {
        if (!entry_live(a) || !is_leaving(s, &a->a))
            continue;
        sum->cpus += a->a.cpus;
        sum->memory_mb += a->a.memory_mb;
        sum->replicas++;
    }
}

/* What comes into the place of some services. */
struct replacement {
    bool (*replaces)(const struct service_entry *s, const void *by);
    const void *by;
    const struct service *specs;
    uint32_t n;
};

/* Names of one namespace stand together; those of default are between all others. */
static struct service_entry *first_from(const struct core *c, const char *namespace)
{
    CLEANUP_FREE char *from = namespace_qualify(namespace, "");
    struct service_entry key = {.name = from};
    return RB_NFIND(service_tree, (struct service_tree *)&c->services, &key);
}

/* Of the namespace, with the change (NULL: none). */
static void sum_up(const struct core *c, const char *namespace, const struct replacement *change, struct quota *sum)
{
    bool together = !namespace_is_default(namespace);
    *sum = (struct quota){0};
    for (struct service_entry *s = first_from(c, namespace); s; s = RB_NEXT(service_tree, &c->services, s)) {
        bool of_it = namespace_has(namespace, s->name);
        if (!of_it && together)
            break;
        if (!of_it)
            continue;
        add_leaving(s, sum);
        if (!s->stopped && !(change && change->replaces(s, change->by)))
            add(c, &s->current->v.spec, sum);
    }
    for (uint32_t i = 0; change && i < change->n; i++)
        add(c, &change->specs[i], sum);
}

void core_namespace_wants(const struct core *c, const char *namespace, struct quota *out)
{
    sum_up(c, namespace, NULL, out);
}

/* --- what is allowed --- */

/* One line of the comparison, as it is told. Numbers of processors are rounded: they are sums of fractions. */
struct line { const char *what, *option; double wants, asks, allows; };

static bool is_over(const struct line *l)
{
    const double slack = 1e-6;
    return l->allows > 0 && l->asks > l->allows + slack && l->asks > l->wants + slack;
}

static int check(const char *namespace, const struct quota *allowed, const struct quota *now, const struct quota *then,
                 struct error *err)
{
    const struct line lines[] = {
        {"replicas", "replicas", (double)now->replicas, (double)then->replicas, (double)allowed->replicas},
        {"MiB of memory", "memory-mb", (double)now->memory_mb, (double)then->memory_mb, (double)allowed->memory_mb},
        {"cpus", "cpus", now->cpus, then->cpus, allowed->cpus},
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        if (is_over(&lines[i]))
            return error_set(err, ERROR_DENIED, "the quota of namespace %s allows %.10g %s, its services want %.10g, and with "
                             "this %.10g: lower `count` or `resources`, stop something else, or have the quota raised (`mt "
                             "namespace put %s --%s`)", namespace, lines[i].allows, lines[i].what, lines[i].wants,
                             lines[i].asks, namespace, lines[i].option);
    return 0;
}

static const struct quota *quota_of(const struct core *c, const char *namespace)
{
    const struct namespace *n = namespace_find(&c->access, namespace);
    return n && (n->quota.cpus > 0 || n->quota.memory_mb || n->quota.replicas) ? &n->quota : NULL;
}

static int admits(const struct core *c, const char *qualified, const struct replacement *change, struct error *err)
{
    char namespace[NAMESPACE_SIZE];
    struct quota now, then;
    const struct quota *allowed = quota_of(c, namespace_of(qualified, namespace));
    if (!allowed)
        return 0;
    sum_up(c, namespace, NULL, &now);
    sum_up(c, namespace, change, &then);
    return check(namespace, allowed, &now, &then, err);
}

/* The job's old services are stopped, or get new versions; one that was stopped may come from another job. */
static bool is_of_job(const struct service_entry *s, const void *by)
{
    const struct job *job = by;
    bool named = !strcmp(s->job->name, job->name);
    for (uint32_t i = 0; i < job->services.n && !named; i++)
        named = !strcmp(job->services.v[i].name, s->name);
    return named;
}

int quota_admits_job(const struct core *c, const struct job *job, struct error *err)
{
    const struct replacement change = {is_of_job, job, job->services.v, job->services.n};
    return admits(c, job->name, &change, err);
}

static bool is_named(const struct service_entry *s, const void *by)
{
    return !strcmp(s->name, by);
}

int quota_admits_service(const struct core *c, const struct service *spec, struct error *err)
{
    const struct replacement change = {is_named, spec->name, spec, 1};
    return admits(c, spec->name, &change, err);
}
