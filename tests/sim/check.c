/* Invariants, computed anew from what the core shows, with none of its own sums. */
#include <stdio.h>
#include <string.h>

#include "world.h"

struct node_sum { const struct node *n; double cpus; int64_t memory_mb, disk_mb; uint32_t live; };
struct place_seen { char key[160]; UT_hash_handle hh; };

static void seen_free(struct place_seen **set)
{
    struct place_seen *p, *next;
    HASH_ITER(hh, *set, p, next) {
        HASH_DEL(*set, p);
        free(p);
    }
}

/* False when it was there already. */
static bool seen_add(struct place_seen **set, const char *key)
{
    struct place_seen *p;
    HASH_FIND_STR(*set, key, p);
    if (p)
        return false;
    p = NEW(struct place_seen);
    strncpy(p->key, key, sizeof(p->key) - 1);
    HASH_ADD_STR(*set, key, p);
    return true;
}

struct node_walk { struct world *w; struct node_sum sum; struct place_seen *ports; };

static bool add_to_node(void *ctx, const struct alloc *a)
{
    struct node_walk *walk = ctx;
    if (!alloc_live(a))
        return true;
    walk->sum.cpus += a->cpus;
    walk->sum.memory_mb += a->memory_mb;
    walk->sum.disk_mb += a->disk_mb;
    walk->sum.live++;
    for (uint32_t i = 0; i < a->ports.n; i++) {
        char key[32];
        snprintf(key, sizeof(key), "%lld/%d", (long long)a->ports.v[i].host, a->ports.v[i].protocol == PROTOCOL_UDP);
        if (!seen_add(&walk->ports, key))
            world_fail(walk->w, "host port %s is twice on node %s", key, walk->sum.n->name);
    }
    return true;
}

static void check_nodes(struct world *w)
{
    for (const struct node *n = core_node_next(w->core, NULL); n; n = core_node_next(w->core, n->id)) {
        struct node_walk walk = {.w = w, .sum.n = n};
        core_node_allocs(w->core, n->id, add_to_node, &walk);
        seen_free(&walk.ports);
        if (walk.sum.cpus > n->cpus + 1e-6 || walk.sum.memory_mb > n->memory_mb || walk.sum.disk_mb > n->disk_mb)
            world_fail(w, "node %s is over its capacity: %g of %g cpus, %lld of %lld MiB", n->name, walk.sum.cpus, n->cpus,
                       (long long)walk.sum.memory_mb, (long long)n->memory_mb);
        if (n->state == NODE_DOWN && walk.sum.live)
            world_fail(w, "node %s is down and has live allocations", n->name);
    }
}

struct service_walk { struct world *w; bool settled; const struct service_version *v; struct place_seen *wanted, *live; };

static bool check_replica(void *ctx, const struct alloc *a)
{
    struct service_walk *walk = ctx;
    const struct service *spec = &walk->v->spec;
    const struct node *n = core_node(walk->w->core, a->node_id);
    char key[160];
    if (!alloc_live(a))
        return true;
    snprintf(key, sizeof(key), "%lld %s", (long long)a->replica, spec->mode == MODE_EVERY_NODE ? a->node_id : "");
    if (!n)
        world_fail(walk->w, "allocation %s lives on a node that is not known", a->id);
    else if (walk->settled && a->desired == DESIRED_RUN && a->version == walk->v->version && n->state != NODE_DRAINING && !spec->schedule
             && !seen_add(&walk->wanted, key))
        world_fail(walk->w, "replica %s of service %s is wanted twice", key, a->service);
    if (spec->mode == MODE_TASK && !spec->schedule && a->version == walk->v->version && !seen_add(&walk->live, key))
        world_fail(walk->w, "task %s of service %s runs twice", key, a->service);
    return true;
}

static void check_services(struct world *w, bool settled)
{
    for (const struct service_version *v = core_service_next(w->core, NULL); v;
         v = core_service_next(w->core, v->service)) {
        struct service_walk walk = {.w = w, .v = v, .settled = settled};
        core_service_allocs(w->core, v->service, check_replica, &walk);
        seen_free(&walk.wanted);
        seen_free(&walk.live);
    }
}

static void check_ended(struct world *w)
{
    for (const struct alloc *a = core_alloc_next(w->core, NULL); a; a = core_alloc_next(w->core, a->id)) {
        struct seen *s;
        HASH_FIND_STR(w->seen, a->id, s);
        if (s && s->ended != a->state)
            world_fail(w, "allocation %s had ended as %s and is %s now", a->id,
                       enum_name(alloc_state_names, (int)s->ended), enum_name(alloc_state_names, (int)a->state));
        if (s || alloc_live(a))
            continue;
        s = NEW(struct seen);
        strcpy(s->id, a->id);
        s->ended = a->state;
        HASH_ADD_STR(w->seen, id, s);
    }
}

void check_invariants(struct world *w)
{
    if (world_failed(w))
        return;
    check_nodes(w);
    check_services(w, false);
    check_ended(w);
}

void check_decided(struct world *w)
{
    check_services(w, true);
}

void check_placed(struct world *w)
{
    for (const struct alloc *a = core_alloc_next(w->core, NULL); a; a = core_alloc_next(w->core, a->id)) {
        if (a->create_index != w->index)
            continue;
        const struct node *n = core_node(w->core, a->node_id);
        count(w, COUNT_PLACEMENTS);
        if (!n || n->state != NODE_READY)
            world_fail(w, "allocation %s was placed on node %s, which is %s", a->id, a->node_name,
                       n ? enum_name(node_state_names, (int)n->state) : "gone");
    }
}

/* --- when all is quiet --- */

struct tally { int64_t wanted, live; };

static bool count_alloc(void *ctx, const struct alloc *a)
{
    struct tally *c = ctx;
    c->live += alloc_live(a);
    c->wanted += alloc_wanted(a);
    return true;
}

/* A node's agent knows of every replica of the services that it runs, each once, at its newest place; big services that
 * do not ask are not told of. */
struct peers_walk { struct buf text; const struct alloc *last; uint32_t wanted; bool every_node; };

static void add_peer(struct peers_walk *walk)
{
    if (walk->last)
        buf_printf(&walk->text, "%s:%lld,", walk->last->id,
                   (long long)(walk->last->ports.n ? walk->last->ports.v[0].host : 0));
}

static bool walk_peer(void *ctx, const struct alloc *a)
{
    struct peers_walk *walk = ctx;
    if (!alloc_wanted(a))
        return true;
    walk->wanted++;
    if (walk->last && (walk->last->replica != a->replica || (walk->every_node && strcmp(walk->last->node_id, a->node_id))))
        add_peer(walk);
    walk->last = a;
    return true;
}

struct told_walk { struct world *w; const struct virtual_node *node; };

static bool check_told(void *ctx, const struct alloc *a)
{
    struct told_walk *walk = ctx;
    const struct service_version *v = core_service(walk->w->core, a->service);
    struct peers_walk peers = {.every_node = v->spec.mode == MODE_EVERY_NODE};
    struct told *t;
    if (!alloc_wanted(a) || !v->spec.ports.n || a->version != v->version)
        return true;
    core_service_allocs(walk->w->core, a->service, walk_peer, &peers);
    add_peer(&peers);
    bool few = peers.wanted <= 32 && (v->spec.mode != MODE_SERVICE || v->spec.count <= 32);
    HASH_FIND_STR(walk->node->told, a->service, t);
    if ((few || v->spec.config.args.n) && (!t || strcmp(t->peers, peers.text.data) != 0))
        world_fail(walk->w, "node %s knows of the peers %s of service %s, which are %s", walk->node->facts.name,
                   t ? t->peers : "(none)", a->service, peers.text.data);
    buf_free(&peers.text);
    return true;
}

static void check_peers(struct world *w)
{
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        struct told_walk walk = {.w = w, .node = &w->nodes[i]};
        if (walk.node->up && walk.node->registered)
            core_node_allocs(w->core, walk.node->facts.id, check_told, &walk);
    }
}

/* A service without conditions of its own that says it has no room must be right about every ready node. */
static void check_no_room(struct world *w, const struct service *s)
{
    if (s->constraints.n || s->ports.n || s->mode != MODE_SERVICE)
        return;
    for (const struct node *n = core_node_next(w->core, NULL); n; n = core_node_next(w->core, n->id)) {
        struct node_walk walk = {.w = w, .sum.n = n};
        core_node_allocs(w->core, n->id, add_to_node, &walk);
        seen_free(&walk.ports);
        if (n->state == NODE_READY && walk.sum.cpus + s->resources.cpus <= n->cpus - 1e-6
            && walk.sum.memory_mb + s->resources.memory_mb <= n->memory_mb)
            world_fail(w, "service %s says there is no room, but node %s has it", s->name, n->name);
    }
}

static void check_service_quiet(struct world *w, const struct service_version *v)
{
    struct service_status status;
    struct tally count = {0};
    core_service_status(w->core, v->service, &status);
    core_service_allocs(w->core, v->service, count_alloc, &count);
    bool short_of = status.state != SERVICE_RUNNING && status.state != SERVICE_COMPLETE
                    && status.state != SERVICE_STOPPED;
    if (status.state == SERVICE_STOPPED ? count.live != 0 : false)
        world_fail(w, "service %s is stopped and has %lld live allocations", v->service, (long long)count.live);
    if (short_of && !(status.reason && *status.reason))
        world_fail(w, "service %s is not as desired and does not say why", v->service);
    if (status.state != SERVICE_STOPPED && !v->spec.schedule && v->spec.mode == MODE_SERVICE
        && status.desired != v->spec.count)
        world_fail(w, "service %s desires %lld replicas instead of %lld", v->service, (long long)status.desired,
                   (long long)v->spec.count);
    bool missing = v->spec.mode == MODE_SERVICE && status.placed < status.desired;
    if (missing && status.reason && strstr(status.reason, "not placed"))
        check_no_room(w, &v->spec);
    else if (missing && !(status.reason && (strstr(status.reason, "failed") || strstr(status.reason, "ended"))))
        world_fail(w, "service %s has %lld of %lld replicas: %s", v->service, (long long)status.placed,
                   (long long)status.desired, status.reason ? status.reason : "no reason");
    if (v->spec.mode == MODE_SERVICE && count.wanted > status.desired && status.state == SERVICE_RUNNING && !status.reason)
        world_fail(w, "service %s keeps %lld allocations for %lld replicas", v->service, (long long)count.wanted,
                   (long long)status.desired);
    type_clear(&service_status_type, &status);
}

void check_quiet(struct world *w)
{
    if (world_failed(w))
        return;
    for (const struct service_version *v = core_service_next(w->core, NULL); v;
         v = core_service_next(w->core, v->service))
        check_service_quiet(w, v);
    for (const struct deployment *d = core_deployment_next(w->core, NULL); d; d = core_deployment_next(w->core, d->id))
        if (d->state == DEPLOYMENT_RUNNING)
            world_fail(w, "deployment %s of service %s still runs: %s", d->id, d->service, d->reason);
    check_peers(w);
    check_invariants(w);
}
