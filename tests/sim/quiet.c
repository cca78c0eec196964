/* Quiet: what must hold when the leader has nothing left to decide, and when nothing has happened for long. */
#include <stdio.h>
#include <string.h>

#include "world.h"

#define NODE_KEPT_MS (72 * 3600 * 1000LL)

/* --- the leader has nothing left to decide --- */

struct wanted_walk {
    struct world *w;
    const struct core *c;
    const struct service_version *v;
    const struct alloc *last;            /* allocations come in order of replica */
    bool stopping;
};

static bool same_replica(const struct service_version *v, const struct alloc *a, const struct alloc *b)
{
    return a->replica == b->replica && (v->spec.mode != MODE_EVERY_NODE || strcmp(a->node_id, b->node_id) == 0);
}

static bool check_wanted(void *ctx, const struct alloc *a)
{
    struct wanted_walk *walk = ctx;
    const struct node *n = core_node(walk->c, a->node_id);
    walk->stopping |= alloc_live(a) && !wanted(a);
    if (!wanted(a) || a->version != walk->v->version || n->state == NODE_DRAINING || walk->v->spec.schedule)
        return true;
    if (walk->last && same_replica(walk->v, walk->last, a))
        world_fail(walk->w, "replica %lld of service %s is wanted twice: %s and %s", (long long)a->replica, a->service,
                   walk->last->id, a->id);
    walk->last = a;
    return true;
}

/* What is missing has a reason, or waits for an allocation that is being stopped. */
static void check_explained(struct world *w, const struct core *c, const struct service_version *v, bool stopping)
{
    struct service_status s;
    core_service_status(c, v->service, &s);
    if (s.reason && strcmp(s.reason, "replicas are being placed") == 0 && !stopping)
        world_fail(w, "service %s has %lld of %lld replicas, nothing is left to decide, and there is no reason", v->service,
                   (long long)s.placed, (long long)s.desired);
    type_clear(&service_status_type, &s);
}

/* The reason why there is no room names what is free as it was when that was looked for last; it may be out of date. */
static bool only_words(const struct core *c, const struct command_decide *d)
{
    bool words = !d->places.n && !d->stops.n && !d->restarts.n && !d->forget.n && !d->forget_nodes.n;
    for (uint32_t i = 0; i < d->services.n && words; i++) {
        const struct decide_service *to = &d->services.v[i];
        struct service_status s;
        core_service_status(c, to->service, &s);
        words = !to->set_next_run && to->unplaced && s.reason && strstr(s.reason, "not placed");
        type_clear(&service_status_type, &s);
    }
    for (uint32_t i = 0; i < d->deployments.n && words; i++) {
        const struct decide_deployment *to = &d->deployments.v[i];
        const struct deployment *is = core_deployment(c, to->id);
        words = to->state == (int64_t)is->state && to->desired == is->desired && to->placed == is->placed
                && to->healthy == is->healthy && to->unhealthy == is->unhealthy;
    }
    return words;
}

/* A leader that comes from a snapshot knows nothing of what is marked to be looked at; it looks at everything. If it
 * finds something to do, the old one has overlooked it. */
static void check_fresh_leader(struct world *w, const struct core *c)
{
    CLEANUP_BUF struct buf snapshot = {0}, command = {0}, json = {0};
    CLEANUP_COMMAND struct command cmd = {0};
    struct error err;
    struct core *fresh = core_new();
    core_snapshot(c, &snapshot);
    if (core_restore(fresh, snapshot.data, snapshot.len, &err))
        world_fail(w, "restore: %s", err.text);
    else if (core_decide(fresh, servers_now(w), 1, &command)) {
        INVARIANT(command_decode(command.data, command.len, &cmd, &err) == 0);
        type_to_json(&command_decide_type, cmd.payload, &json);
        if (!only_words(c, cmd.payload))
            world_fail(w, "the leader finds nothing to decide, but a fresh one does: %.800s", json.data);
    }
    count(w, COUNT_FRESH_LEADERS);
    core_free(fresh);
}

static void check_down_nodes(struct world *w, const struct core *c)
{
    for (const struct node *n = core_node_next(c, NULL); n; n = core_node_next(c, n->id))
        if (n->state == NODE_DOWN && servers_now(w) - n->state_since >= NODE_KEPT_MS)
            world_fail(w, "node %s is down for three days and is still known", n->name);
}

void check_decided(struct world *w, struct core *c)
{
    struct wanted_walk walk = {.w = w, .c = c};
    for (walk.v = core_service_next(c, NULL); walk.v; walk.v = core_service_next(c, walk.v->service)) {
        walk.last = NULL;
        walk.stopping = false;
        core_service_allocs(c, walk.v->service, check_wanted, &walk);
        check_explained(w, c, walk.v, walk.stopping);
    }
    check_down_nodes(w, c);
    if (chance(w, 2))
        check_fresh_leader(w, c);
}

/* --- when all is quiet: services --- */

struct room_walk { double cpus; int64_t memory_mb; };

static bool add_room(void *ctx, const struct alloc *a)
{
    struct room_walk *walk = ctx;
    if (alloc_live(a)) {
        walk->cpus += a->cpus;
        walk->memory_mb += a->memory_mb;
    }
    return true;
}

/* A service without conditions of its own that says it has no room must be right about every ready node. */
static void check_no_room(struct world *w, const struct core *c, const struct service *s)
{
    if (s->constraints.n || s->ports.n || s->mode != MODE_SERVICE)
        return;
    for (const struct node *n = core_node_next(c, NULL); n; n = core_node_next(c, n->id)) {
        struct room_walk used = {0};
        core_node_allocs(c, n->id, add_room, &used);
        if (n->state == NODE_READY && used.cpus + s->resources.cpus <= n->cpus - 1e-6
            && used.memory_mb + s->resources.memory_mb <= n->memory_mb)
            world_fail(w, "service %s says there is no room, but node %s has it", s->name, n->name);
    }
}

static bool serves(const struct service_version *v, const struct alloc *a)
{
    return a->state == ALLOC_HEALTHY || (a->state == ALLOC_RUNNING && v->spec.health.type == HEALTH_NONE);
}

struct quiet_walk {
    struct world *w;
    const struct core *c;
    const struct service_version *v;
    int64_t live;
    const struct alloc *one, *serving;   /* of the present replica: a wanted one; the one that is to stay, if it serves */
};

static bool waits_for_another(const struct deployment *d)
{
    return d->state == DEPLOYMENT_RUNNING && strstr(d->reason, "waits for service");
}

/* Two versions stand beside each other until somebody says what is to become of it, or another service is healthy. So does what a
 * rollout that did not pass its analysis has left of the one before. */
static bool is_beside(const struct core *c, const struct service_version *v)
{
    struct service_status s;
    core_service_status(c, v->service, &s);
    const struct deployment *d = core_deployment(c, s.deployment);
    type_clear(&service_status_type, &s);
    if (d && d->strategy == STRATEGY_ROLLING)
        return d->state == DEPLOYMENT_FAILED && d->analysis.outcome == OUTCOME_FAILED;
    return d && (d->state == DEPLOYMENT_PAUSED || d->state == DEPLOYMENT_FAILED || waits_for_another(d));
}

/* Two wanted ones of a replica: only while the newer does not serve. */
static bool check_alone(void *ctx, const struct alloc *a)
{
    struct quiet_walk *walk = ctx;
    walk->live += alloc_live(a);
    if (!wanted(a) || walk->v->spec.schedule)
        return true;
    bool same = walk->one && same_replica(walk->v, walk->one, a);
    if (!same)
        walk->serving = NULL;
    const struct alloc *other = same ? walk->one : NULL;
    walk->one = a;
    if (a->version == walk->v->version && serves(walk->v, a) && core_node(walk->c, a->node_id)->state != NODE_DRAINING)
        walk->serving = a;
    if (other && walk->serving)
        world_fail(walk->w, "replica %lld of service %s runs as %s and as %s, though the new one serves",
                   (long long)a->replica, a->service, other->id, a->id);
    return true;
}

static void check_missing(struct world *w, const struct core *c, const struct service_version *v,
                          const struct service_status *s)
{
    bool finished = s->state == SERVICE_COMPLETE || s->state == SERVICE_STOPPED;
    bool left = s->reason && strstr(s->reason, "left so");
    if (!finished && s->state != SERVICE_RUNNING && !(s->reason && *s->reason))
        world_fail(w, "service %s is not as desired and does not say why", v->service);
    if (s->reason && strstr(s->reason, "tried again"))
        world_fail(w, "service %s was to be tried again and was not: %s", v->service, s->reason);
    if (v->spec.mode != MODE_SERVICE || finished)
        return;
    if (s->desired != v->spec.count)
        world_fail(w, "service %s desires %lld replicas instead of %lld", v->service, (long long)s->desired,
                   (long long)v->spec.count);
    if (s->placed == s->desired)
        return;
    if ((s->reason && strstr(s->reason, "waits for service")) || is_beside(c, v))
        return;
    if (s->reason && strstr(s->reason, "not placed") && s->placed < s->desired)
        check_no_room(w, c, &v->spec);
    else if (!left || s->placed > s->desired)
        world_fail(w, "service %s has %lld of %lld replicas: %s", v->service, (long long)s->placed, (long long)s->desired,
                   s->reason ? s->reason : "no reason");
}

struct on_node { const char *service; bool found; };

static bool find_wanted(void *ctx, const struct alloc *a)
{
    struct on_node *on = ctx;
    on->found |= wanted(a) && strcmp(a->service, on->service) == 0;
    return !on->found;
}

static void check_every_node(struct world *w, const struct core *c, const struct service_version *v,
                             const struct service_status *s)
{
    if (v->spec.mode != MODE_EVERY_NODE || v->spec.constraints.n || s->reason)
        return;
    for (const struct node *n = core_node_next(c, NULL); n; n = core_node_next(c, n->id)) {
        struct on_node on = {.service = v->service};
        core_node_allocs(c, n->id, find_wanted, &on);
        if (n->state == NODE_READY && n->drivers.v[0].healthy && !on.found)
            world_fail(w, "service %s does not run on node %s, and does not say why", v->service, n->name);
    }
}

static void check_service(struct world *w, const struct core *c, const struct service_version *v)
{
    struct service_status s;
    struct quiet_walk walk = {.w = w, .c = c, .v = v};
    core_service_status(c, v->service, &s);
    if (!is_beside(c, v))
        core_service_allocs(c, v->service, check_alone, &walk);
    if (s.state == SERVICE_STOPPED && walk.live)
        world_fail(w, "service %s is stopped and has %lld live allocations", v->service, (long long)walk.live);
    check_missing(w, c, v, &s);
    if (s.state != SERVICE_STOPPED)
        check_every_node(w, c, v, &s);
    type_clear(&service_status_type, &s);
}

/* --- agents: what the servers believe is so, and nothing else runs --- */

struct agent_walk { struct world *w; struct virtual_node *n; uint32_t live; };

static bool check_task(void *ctx, const struct alloc *a)
{
    struct agent_walk *walk = ctx;
    struct task *t;
    if (!alloc_live(a))
        return true;
    walk->live++;
    HASH_FIND_STR(walk->n->tasks, a->id, t);
    if (!t || t->state != a->state)
        world_fail(walk->w, "allocation %s is %s on node %s, not %s, as the servers believe", a->id,
                   t ? enum_name(alloc_state_names, (int)t->state) : "unknown", a->node_name,
                   enum_name(alloc_state_names, (int)a->state));
    return true;
}

static void check_agent(struct world *w, const struct core *c, struct virtual_node *n)
{
    struct agent_walk walk = {.w = w, .n = n};
    const struct node *known = core_node(c, n->facts.id);
    uint32_t runs = 0;
    if (!n->up) {
        if (known && known->state != NODE_DOWN)
            world_fail(w, "node %s is not there, and still %s", n->facts.name, enum_name(node_state_names, (int)known->state));
        return;
    }
    if (!known || known->state == NODE_DOWN) {
        world_fail(w, "node %s is there and was not taken back", n->facts.name);
        return;
    }
    core_node_allocs(c, n->facts.id, check_task, &walk);
    for (const struct task *t = n->tasks; t; t = t->hh.next)
        runs += t->state < ALLOC_COMPLETE;
    if (runs != walk.live)
        world_fail(w, "node %s runs %u tasks, and the servers know of %u", n->facts.name, runs, walk.live);
}

/* Each run of that one holds the deployment, and what follows has its time anew. */
static bool is_after_a_schedule(const struct core *c, const struct deployment *d)
{
    const struct service_version *v = core_service(c, d->service);
    for (uint32_t i = 0; v && i < v->spec.after.n; i++) {
        const struct service_version *before = core_service(c, v->spec.after.v[i]);
        if (before && before->spec.schedule)
            return true;
    }
    return false;
}

void check_quiet(struct world *w, struct core *c)
{
    for (const struct service_version *v = core_service_next(c, NULL); v; v = core_service_next(c, v->service))
        check_service(w, c, v);
    for (const struct deployment *d = core_deployment_next(c, NULL); d; d = core_deployment_next(c, d->id))
        if (d->state == DEPLOYMENT_RUNNING && !waits_for_another(d) && !is_after_a_schedule(c, d))
            world_fail(w, "deployment %s of service %s still runs: %s", d->id, d->service, d->reason);
    for (uint32_t i = 0; i < w->k.nodes; i++)
        check_agent(w, c, &w->nodes[i]);
    check_invariants(w, c);
    check_fresh_leader(w, c);
}
