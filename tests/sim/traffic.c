/* Traffic: what must hold of the replicas that take requests, by what the proxies really do. */
#include <string.h>

#include "world.h"

static bool is_live_ingress(const struct core *c, const struct virtual_node *n)
{
    const struct node *known = core_node(c, n->facts.id);
    return known && known->ingress && known->state != NODE_DOWN;
}

static bool has_live_ingress(const struct world *w, const struct core *c)
{
    for (const struct node *n = core_node_next(c, NULL); n; n = core_node_next(c, n->id))
        if (n->ingress && n->state != NODE_DOWN)
            return true;
    return false;
}

/* That of its own version, which may have come out of a broken command. */
static int64_t kill_timeout_ms(const struct core *c, const struct alloc *a)
{
    struct service_version_list l;
    int64_t ms = 0;
    core_service_versions(c, a->service, &l);
    for (uint32_t i = 0; i < l.n; i++)
        if (l.v[i].version == a->version)
            ms = l.v[i].spec.kill.timeout_ms;
    list_clear((struct list *)&l, &service_version_type);
    return ms;
}

/* It took requests a moment ago, and is to end. */
static void check_end(struct world *w, const struct core *c, const struct known_alloc *k, const struct alloc *a, int64_t time)
{
    if (!has_live_ingress(w, c))
        return;
    if (!k->left_at) {
        world_fail(w, "allocation %s is to end while it takes requests", a->id);
        return;
    }
    if (time >= k->left_at + kill_timeout_ms(c, a)) {
        count(w, COUNT_LEFT_LATE);
        return;
    }
    for (uint32_t i = 0; i < w->k.nodes; i++)
        if (is_live_ingress(c, &w->nodes[i]) && proxy_uses(&w->nodes[i], a->id, w->now))
            world_fail(w, "allocation %s is to end while the proxy of node %s uses it", a->id, w->nodes[i].facts.name);
    count(w, COUNT_LEFT);
}

/* The servers' own choice: it served when they decided, and the new one cannot be beside it. */
static bool is_taken_out(const struct known_alloc *k, const struct alloc *a, int64_t decided_at)
{
    bool ends = (a->leaving && !k->left_at) || (a->desired == DESIRED_STOP && !k->stopped);
    return k->target && !k->left_at && ends && decided_at >= a->state_since && a->desired_reason
           && (strstr(a->desired_reason, " replaces it") || strstr(a->desired_reason, "it makes room for"));
}

static void observe_alloc(struct world *w, const struct core *c, const struct alloc *a, int64_t time)
{
    struct known_alloc *k;
    HASH_FIND_STR(w->known.allocs, a->id, k);
    if (!k)
        return;
    bool stops = a->desired == DESIRED_STOP && !k->stopped, restarts = a->generation > k->generation;
    if (alloc_live(a) && (stops || restarts) && (k->target || k->left_at))
        check_end(w, c, k, a, time);
    k->taken_out = is_taken_out(k, a, time);
    k->stopped = a->desired == DESIRED_STOP;
    k->generation = a->generation;
    k->left_at = !a->leaving ? 0 : k->left_at ? k->left_at : time;
    k->target = false;
}

/* Blue-green never mixes two versions, and a canary that pauses has exactly its part. */
static void check_shares(struct world *w, const struct core *c, const struct ingress_route *r)
{
    struct service_status s;
    core_service_status(c, r->service, &s);
    const struct deployment *d = core_deployment(c, s.deployment);
    int64_t n[2] = {0, 0}, weight[2] = {0, 0};
    for (uint32_t i = 0; i < r->targets.n && d; i++) {
        const struct ingress_target *t = &r->targets.v[i];
        bool new = t->version == d->version;
        n[new] += t->weight > 0 && !t->leaving;
        weight[new] += t->leaving ? 0 : t->weight;
    }
    if (d && d->strategy == STRATEGY_BLUE_GREEN && n[0] && n[1])
        world_fail(w, "two versions of service %s take requests, which is blue-green", r->service);
    if (d && d->strategy == STRATEGY_CANARY && d->state == DEPLOYMENT_PAUSED && n[0] && n[1]) {
        double percent = 100.0 * (double)weight[1] / (double)(weight[0] + weight[1]), off = percent - (double)d->traffic_percent;
        if (off > 0.6 || off < -0.6)
            world_fail(w, "the canary of service %s gets %.2f instead of %d %%", r->service, percent, (int)d->traffic_percent);
        count(w, COUNT_SHARES);
    }
    type_clear(&service_status_type, &s);
}

struct rolling_walk {
    struct world *w;
    const struct ingress_route *route;
    int64_t count, serving;
    bool taken_out;
    bool *serves;                        /* by replica */
};

static bool is_target(const struct ingress_route *r, const struct alloc *a)
{
    for (uint32_t i = 0; i < r->targets.n; i++)
        if (strcmp(r->targets.v[i].alloc, a->id) == 0)
            return r->targets.v[i].weight && !r->targets.v[i].leaving;
    return false;
}

/* What has no port serves in its own way. */
static bool look_at_rollout(void *ctx, const struct alloc *a)
{
    struct rolling_walk *walk = ctx;
    struct known_alloc *k;
    HASH_FIND_STR(walk->w->known.allocs, a->id, k);
    walk->taken_out |= k && k->taken_out;
    bool portless = !a->ports.n && wanted(a) && (a->state == ALLOC_RUNNING || a->state == ALLOC_HEALTHY);
    if (a->replica < walk->count && !walk->serves[a->replica] && (portless || is_target(walk->route, a))) {
        walk->serves[a->replica] = true;
        walk->serving++;
    }
    return true;
}

/* A rollout that takes a replica out of the traffic before its replacement is there leaves as many as its batches promise. */
static void check_rolling(struct world *w, const struct core *c, const struct ingress_route *r)
{
    const struct service_version *v = core_service(c, r->service);
    if (!v || v->spec.mode != MODE_SERVICE)
        return;
    int64_t batch = v->spec.volumes.n ? 1 : v->spec.deploy.max_unavailable;
    struct rolling_walk walk = {.w = w, .route = r, .count = v->spec.count};
    walk.serves = mem_array((size_t)walk.count + 1, sizeof *walk.serves);
    core_service_allocs(c, r->service, look_at_rollout, &walk);
    free(walk.serves);
    if (!walk.taken_out)
        return;
    count(w, COUNT_TAKEN_OUT);
    if (walk.serving < walk.count - batch)
        world_fail(w, "a rollout of service %s leaves %d of %d replicas in the traffic, and may take out %d", r->service,
                   (int)walk.serving, (int)walk.count, (int)batch);
}

void check_traffic(struct world *w, const struct core *c, int64_t time)
{
    struct agent_ingress table;
    for (const struct alloc *a = core_alloc_next(c, NULL); a && !world_failed(w); a = core_alloc_next(c, a->id))
        observe_alloc(w, c, a, time);
    core_agent_ingress(c, &table);
    for (uint32_t i = 0; i < table.routes.n && !world_failed(w); i++) {
        check_shares(w, c, &table.routes.v[i]);
        check_rolling(w, c, &table.routes.v[i]);
        for (uint32_t k = 0; k < table.routes.v[i].targets.n; k++) {
            struct known_alloc *known;
            HASH_FIND_STR(w->known.allocs, table.routes.v[i].targets.v[k].alloc, known);
            if (known)
                known->target = true;
        }
    }
    type_clear(&agent_ingress_type, &table);
}
