#include <stdio.h>
#include <string.h>

#include "world.h"

/* --- things of which there may be one only --- */

struct mark { uint64_t key; const struct alloc *a; };
struct marks { struct mark small[64], *v; uint32_t n, cap; };

static void marks_add(struct marks *m, uint64_t key, const struct alloc *a)
{
    if (!m->v) {
        m->v = m->small;
        m->cap = ARRAY_LEN(m->small);
    }
    if (m->n == m->cap) {
        bool first = m->v == m->small;
        m->v = mem_realloc_array(first ? NULL : m->v, m->cap * 2, sizeof(*m->v));
        if (first)
            memcpy(m->v, m->small, sizeof(m->small));
        m->cap *= 2;
    }
    m->v[m->n++] = (struct mark){key, a};
}

static int compare_marks(const void *a, const void *b)
{
    const struct mark *x = a, *y = b;
    return (x->key > y->key) - (x->key < y->key);
}

/* One that is there twice, or NULL; empties the marks. */
static const struct alloc *marks_twice(struct marks *m)
{
    const struct alloc *twice = NULL;
    if (m->n > 1)
        qsort(m->v, m->n, sizeof(*m->v), compare_marks);
    for (uint32_t i = 1; i < m->n && !twice; i++)
        if (m->v[i].key == m->v[i - 1].key)
            twice = m->v[i].a;
    if (m->v != m->small)
        free(m->v);
    m->v = NULL;
    m->n = 0;
    return twice;
}

/* --- nodes --- */

struct node_walk {
    double cpus;
    int64_t memory_mb, disk_mb;
    uint32_t live;
    struct marks ports;
};

static bool add_to_node(void *ctx, const struct alloc *a)
{
    struct node_walk *walk = ctx;
    if (!alloc_live(a))
        return true;
    walk->cpus += a->cpus;
    walk->memory_mb += a->memory_mb;
    walk->disk_mb += a->disk_mb;
    walk->live++;
    for (uint32_t i = 0; i < a->ports.n; i++)
        marks_add(&walk->ports, (uint64_t)a->ports.v[i].host * 2 + (a->ports.v[i].protocol == PROTOCOL_UDP), a);
    return true;
}

/* Room is what the machine has; the state is what the log says that it should be: operators' wishes, registrations and
 * silence, in their order. */
static void check_node(struct world *w, const struct node *n, const struct node_walk *walk)
{
    const struct known_node *known;
    HASH_FIND_STR(w->known.nodes, n->id, known);
    if (!known || known->state != (int64_t)n->state) {
        world_fail(w, "node %s is %s and should be %s", n->name, enum_name(node_state_names, (int)n->state),
                   known ? enum_name(node_state_names, (int)known->state) : "unknown");
        return;
    }
    const struct node *has = known->facts;
    if (walk->cpus > has->cpus + 1e-6 || walk->memory_mb > has->memory_mb || walk->disk_mb > has->disk_mb)
        world_fail(w, "node %s is over its capacity: %g of %g cpus, %lld of %lld MiB", n->name, walk->cpus, has->cpus,
                   (long long)walk->memory_mb, (long long)has->memory_mb);
    if (n->state == NODE_DOWN && walk->live)
        world_fail(w, "node %s is down and has live allocations", n->name);
}

static uint32_t check_nodes(struct world *w, const struct core *c)
{
    uint32_t live = 0, nodes = 0;
    for (const struct node *n = core_node_next(c, NULL); n; n = core_node_next(c, n->id)) {
        struct node_walk walk;
        walk.cpus = 0;
        walk.memory_mb = walk.disk_mb = walk.live = walk.ports.n = 0;
        walk.ports.v = NULL;
        core_node_allocs(c, n->id, add_to_node, &walk);
        const struct alloc *twice = walk.ports.v ? marks_twice(&walk.ports) : NULL;
        if (twice)
            world_fail(w, "a host port of allocation %s is twice on node %s", twice->id, n->name);
        check_node(w, n, &walk);
        live += walk.live;
        nodes++;
    }
    if (nodes != HASH_COUNT(w->known.nodes))
        world_fail(w, "there are %u nodes and should be %u", nodes, HASH_COUNT(w->known.nodes));
    return live;
}

/* --- services --- */

struct service_walk {
    struct world *w;
    const struct core *c;
    const struct service_version *v;
    uint32_t live;
    struct marks turns;
};

static bool add_to_service(void *ctx, const struct alloc *a)
{
    struct service_walk *walk = ctx;
    const struct service_version *v = walk->v;
    if (!alloc_live(a))
        return true;
    walk->live++;
    if (!core_node(walk->c, a->node_id))
        world_fail(walk->w, "allocation %s lives on a node that is not known", a->id);
    bool alone = v->spec.mode == MODE_TASK && !v->spec.schedule;
    if (alone && a->version == v->version)
        marks_add(&walk->turns, (uint64_t)a->replica, a);
    return true;
}

static uint32_t check_services(struct world *w, const struct core *c)
{
    uint32_t live = 0;
    struct service_walk walk;
    walk.w = w;
    walk.c = c;
    walk.turns.v = NULL;
    walk.turns.n = 0;
    for (walk.v = core_service_next(c, NULL); walk.v; walk.v = core_service_next(c, walk.v->service)) {
        walk.live = 0;
        core_service_allocs(c, walk.v->service, add_to_service, &walk);
        const struct alloc *twice = walk.turns.v ? marks_twice(&walk.turns) : NULL;
        if (twice)
            world_fail(w, "task %lld of service %s runs twice", (long long)twice->replica, twice->service);
        live += walk.live;
    }
    return live;
}

void check_invariants(struct world *w, const struct core *c)
{
    if (world_failed(w))
        return;
    uint32_t on_nodes = check_nodes(w, c), of_services = check_services(w, c);
    if (on_nodes != of_services)
        world_fail(w, "%u allocations live on nodes, and %u of services", on_nodes, of_services);
}

static void check_counts(struct world *w, const struct core *c)
{
    struct core_counts counted = {0};
    for (const struct node *n = core_node_next(c, NULL); n; n = core_node_next(c, n->id))
        counted.nodes[n->state]++;
    for (const struct alloc *a = core_alloc_next(c, NULL); a; a = core_alloc_next(c, a->id))
        counted.allocs[a->state]++;
    for (const struct service_version *v = core_service_next(c, NULL); v; v = core_service_next(c, v->service))
        counted.services++;
    if (memcmp(&counted, core_counts(c), sizeof counted) != 0)
        world_fail(w, "the counts of nodes, allocations and services are not what there is");
}

void check_kept(struct world *w, const struct core *c)
{
    check_counts(w, c);
    for (const struct service_version *v = core_service_next(c, NULL); v && !world_failed(w);
         v = core_service_next(c, v->service)) {
        struct service_status s;
        if (!core_service_status_holds(c, v->service))
            world_fail(w, "the status of service %s is an old one", v->service);
        core_service_status(c, v->service, &s);
        type_clear(&service_status_type, &s);
    }
}

void check_ended(struct world *w, const struct core *c)
{
    for (const struct alloc *a = core_alloc_next(c, NULL); a && !world_failed(w); a = core_alloc_next(c, a->id)) {
        struct known_alloc *known;
        HASH_FIND_STR(w->known.allocs, a->id, known);
        if (!known)
            world_fail(w, "allocation %s was never placed", a->id);
        else if (!known->ended)
            known->ended = alloc_live(a) ? 0 : a->state;
        else if (known->ended != a->state)
            world_fail(w, "allocation %s had ended as %s and is %s now", a->id,
                       enum_name(alloc_state_names, (int)known->ended), enum_name(alloc_state_names, (int)a->state));
    }
}
