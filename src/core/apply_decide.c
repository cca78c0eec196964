/* Decisions of a leader, each checked again: between deciding and applying, nodes went, versions came, and the leader
 * may have been replaced. What no longer holds is skipped, and its service looked at again. */
#include <string.h>

#include "base/id.h"
#include "core/apply.h"
#include "core/beside.h"
#include "core/peers.h"
#include "core/slots.h"

static void look_again(struct core *c, const char *service)
{
    struct service_entry *s = state_service(c, service);
    if (s)
        state_set_dirty(c, s);
}

static bool demand_makes_sense(const struct decide_place *p)
{
    for (uint32_t i = 0; i < p->ports.n; i++)
        if (!p->ports.v[i].name || p->ports.v[i].host < 1 || p->ports.v[i].host > 65535)
            return false;
    return sched_room_makes_sense(p->cpus, p->memory_mb, p->disk_mb);
}

/* The version that it is of: the current one, or the one that stands beside it. */
static struct version_entry *version_of(const struct service_entry *s, const struct decide_place *p)
{
    const struct deployment_entry *d = beside_deployment(s);
    if (s->current->v.version == p->version)
        return s->current;
    return d && d->from_version == p->version && d->d.traffic_percent < 100 ? state_version(s, p->version) : NULL;
}

static bool place_holds(struct core *c, struct service_entry *s, const struct node_entry *n,
                        const struct decide_place *p)
{
    if (!s || s->stopped || !version_of(s, p) || !n || n->n.state != NODE_READY)
        return false;
    if (!p->alloc_id || !id_valid(p->alloc_id) || state_alloc(c, p->alloc_id) || p->replica < 0
        || !demand_makes_sense(p))
        return false;
    const struct service *spec = &s->current->v.spec;
    if (spec->mode == MODE_EVERY_NODE ? p->replica != 0 : p->replica >= spec->count)
        return false;
    if (spec->schedule && p->run_at != s->run_at)
        return false;
    bool is_free = version_of(s, p) == s->current ? slot_is_free(s, p->replica, n) : beside_is_free(s, p->replica);
    return is_free && state_node_has_room(n, p->cpus, p->memory_mb, p->disk_mb, &p->ports);
}

static void place(struct core *c, const struct decide_place *p)
{
    struct service_entry *s = state_service(c, p->service);
    struct node_entry *n = state_node(c, p->node_id);
    if (!place_holds(c, s, n, p)) {
        look_again(c, p->service);
        c->room = true;
        return;
    }
    struct alloc_entry *a = NEW(struct alloc_entry);
    const struct version_entry *v = version_of(s, p);
    struct deployment_entry *d = v == s->current ? state_running_deployment(s) : NULL;
    struct alloc *to = &a->a;
    const struct service *spec = &s->current->v.spec;
    *to = (struct alloc){
        .id = mem_strdup(p->alloc_id), .service = mem_strdup(s->name), .job = mem_strdup(s->job->name),
        .version = p->version, .replica = p->replica, .node_id = mem_strdup(n->n.id),
        .node_name = mem_strdup(n->n.name), .desired = DESIRED_RUN, .state = ALLOC_PENDING, .cpus = p->cpus,
        .memory_mb = p->memory_mb, .disk_mb = p->disk_mb, .ip = mem_strdup(n->n.ip), .generation = s->generation,
        .previous = mem_strdup(p->previous), .deployment = d ? mem_strdup(d->d.id) : NULL, .attempt = p->attempt,
        .created_at = c->now, .state_since = c->now, .create_index = c->index, .reason = mem_strdup(p->reason)};
    for (uint32_t i = 0; i < p->ports.n; i++)
        type_copy(&alloc_port_type, memset(list_add((struct list *)&to->ports, &alloc_port_type), 0,
                                           alloc_port_type.size), &p->ports.v[i]);
    a->epoch = v->epoch;
    a->run_at = p->run_at;
    a->every_node = spec->mode == MODE_EVERY_NODE;
    a->task = spec->mode == MODE_TASK;
    a->service = s;
    a->node = n;
    a->work_index = c->index;
    state_add_alloc(c, a);
    peers_set_changed(c, s);
    state_touch_work(c, a);
    if (d)
        d->progress_at = c->now;
    state_event(c, (struct event_text){.kind = "alloc", .subject = to->id, .service = s->name, .alloc = to->id,
                                       .node = n->n.id, .to = "pending"}, "%s", p->reason ? p->reason : "placed");
}

static bool stop_holds(struct core *c, const struct alloc_entry *a, const struct decide_stop *p)
{
    if (a && alloc_wanted(&a->a) && a->a.leaving == LEAVING_TO_STOP)
        return true;                         /* it was decided before */
    if (!a || !entry_wanted(a))
        return false;
    const struct service_entry *s = a->service;
    if ((s->stopped ? 0 : s->current->v.version) != p->version)
        return false;
    if (p->draining && (!a->node || a->node->n.state != NODE_DRAINING))
        return false;
    const struct alloc_entry *r = state_alloc(c, p->replacement);
    return !p->replacement || (r && entry_wanted(r) && alloc_serves(r));
}

static void stop(struct core *c, const struct decide_stop *p)
{
    struct alloc_entry *a = state_alloc(c, p->alloc_id);
    if (stop_holds(c, a, p))
        alloc_stop(c, a, p->reason ? p->reason : "");
    else if (a)
        state_set_dirty(c, a->service);
}

static void change_service(struct core *c, const struct decide_service *p)
{
    struct service_entry *s = state_service(c, p->service);
    if (!s)
        return;
    if (s->stopped || s->current->v.version != p->version) {
        state_set_dirty(c, s);
        return;
    }
    mem_set_string(&s->reason, p->reason);
    s->unplaced = p->unplaced;
    if (p->set_next_run) {
        s->next_run_at = p->next_run_at;
        s->run_at = p->run_at;
    }
    if (p->skipped)
        state_event(c, (struct event_text){.kind = "service", .subject = s->name, .service = s->name}, "%s", p->skipped);
    state_touch_service(c, s);
}

static void forget(struct core *c, const char *id)
{
    struct alloc_entry *a = state_alloc(c, id);
    if (!a || entry_live(a))
        return;
    struct service_entry *s = a->service;
    state_remove_alloc(c, a, true);
    service_purge_when_empty(c, s);
}

static void forget_node(struct core *c, const char *id)
{
    struct node_entry *n = state_node(c, id);
    if (!n || n->n.state != NODE_DOWN || c->now - n->n.state_since < DOWN_NODE_KEPT_MS)
        return;
    state_event(c, event_of_node(n), "forgotten: it was down for three days");
    node_forget(c, n);
}

static void restart(struct core *c, const char *id)
{
    struct alloc_entry *a = state_alloc(c, id);
    if (!a || !entry_wanted(a))
        return;
    int64_t generation = a->service->generation;
    if (a->a.generation < generation)
        alloc_restart(c, a, generation, "restarted with its service");
    else if (a->a.leaving == LEAVING_TO_RESTART)
        alloc_restart(c, a, a->a.generation + 1, "restart was asked for");
}

/* Stops come before placements, deployments last: a revert makes a version that the rest was not decided for. */
int apply_decide(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_decide *p = payload;
    for (uint32_t i = 0; i < p->services.n; i++)
        change_service(c, &p->services.v[i]);
    for (uint32_t i = 0; i < p->stops.n; i++)
        stop(c, &p->stops.v[i]);
    for (uint32_t i = 0; i < p->places.n; i++)
        place(c, &p->places.v[i]);
    for (uint32_t i = 0; i < p->restarts.n; i++)
        restart(c, p->restarts.v[i]);
    for (uint32_t i = 0; i < p->deployments.n; i++)
        deployment_change(c, &p->deployments.v[i]);
    for (uint32_t i = 0; i < p->forget.n; i++)
        forget(c, p->forget.v[i]);
    for (uint32_t i = 0; i < p->forget_nodes.n; i++)
        forget_node(c, p->forget_nodes.v[i]);
    return 0;
}
