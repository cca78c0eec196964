#include "core/slots.h"

#include <string.h>

#include "base/random.h"

#define RETRY_RESET_MS (10 * 60 * 1000)

struct slots_want slots_want_of(const struct service_entry *s)
{
    return (struct slots_want){.spec = &s->current->v.spec, .epoch = s->current->epoch, .generation = s->generation,
                               .run_at = s->run_at, .stopped = s->stopped};
}

int spec_compare(const struct service *a, const struct service *b)
{
    if (a->priority != b->priority)
        return a->priority > b->priority ? -1 : 1;
    return strcmp(a->name, b->name);
}

int64_t alloc_attempts(const struct alloc_entry *a)
{
    return a->ok_since && a->ended_at - a->ok_since >= RETRY_RESET_MS ? 0 : a->a.attempt;
}

bool alloc_ended_by_itself(const struct alloc_entry *a)
{
    return a && a->a.desired == DESIRED_RUN && (a->a.state == ALLOC_FAILED || a->a.state == ALLOC_COMPLETE);
}

int64_t slot_attempt(const struct slot *slot)
{
    if (!slot->last)
        return 0;
    return alloc_ended_by_itself(slot->last) ? alloc_attempts(slot->last) + 1 : slot->last->a.attempt;
}

/* The node that says that it has a volume of this replica. Of several (one was given up, and came back), one that is not
 * down. */
static const char *volume_known(struct core *c, const char *service, int64_t replica)
{
    const char *found = NULL;
    struct node_entry *n;
    RB_FOREACH(n, node_id_tree, &c->nodes)
        for (uint32_t i = 0; i < n->n.volumes.n; i++) {
            const struct node_volume *v = &n->n.volumes.v[i];
            if (!v->size_mb || v->replica != replica || strcmp(v->service, service))      /* no size: a directory, which any node can have */
                continue;
            if (n->n.state != NODE_DOWN)
                return n->n.id;
            found = n->n.id;
        }
    return found;
}

/* Where the replica's volume is: a block image that is on the node's own disk, and nowhere else. Only a run that began has
 * made one; where no run is remembered, nodes have told what they hold. NULL: nowhere, or its node was removed, which is
 * how one says that the data is lost. */
static const char *volume_node(struct core *c, const struct slot *slot, const struct service *spec,
                               const struct alloc_entry *before)
{
    if (spec->driver != DRIVER_FIRECRACKER || !spec_has_volume(spec))
        return NULL;
    return before && before->node && before->a.started_at ? before->a.node_id : volume_known(c, spec->name, slot->replica);
}

struct sched_request slot_request(struct core *c, const struct slot *slot, const struct service *spec, uint64_t version,
                                  const struct alloc_entry *previous)
{
    const struct alloc_entry *before = previous ? previous : slot->before;
    bool failed = alloc_ended_by_itself(slot->last);
    const char *holder = volume_node(c, slot, spec, before);
    uint64_t turn = hash_mix(version) + (uint64_t)slot_attempt(slot);
    return (struct sched_request){
        .spec = spec, .service = spec->name, .replica = slot->replica,
        .prefer_node = before && !failed ? before->a.node_id : NULL,
        .avoid_node = failed && !holder ? slot->last->a.node_id : NULL,
        .only_node = slot->node ? slot->node->n.id : holder, .only_for_volume = !slot->node && holder,
        .seed = hash_mix(hash_string(spec->name, turn) ^ (uint64_t)slot->replica)};
}

bool spec_stops_first(const struct service *spec)
{
    for (uint32_t i = 0; i < spec->ports.n; i++)
        if (spec->ports.v[i].host)
            return true;
    return spec_has_volume(spec) || spec->mode == MODE_TASK;
}

static bool is_current(const struct slots_want *want, const struct alloc_entry *a)
{
    if (want->spec->schedule)
        return want->run_at != 0 && a->run_at == want->run_at;
    return a->epoch == want->epoch && a->every_node == (want->spec->mode == MODE_EVERY_NODE);
}

static bool on_draining_node(const struct alloc_entry *a)
{
    return a->node && a->node->n.state == NODE_DRAINING;
}

static struct alloc_entry *better(struct alloc_entry *a, struct alloc_entry *b)
{
    if (!a || !b)
        return a ? a : b;
    return alloc_serves(b) && !alloc_serves(a) ? b : a;
}

static struct slot *add_slot(struct slots *out, int64_t replica, struct node_entry *node)
{
    if (out->n == out->cap) {
        out->cap = out->cap ? out->cap * 2 : 16;
        out->v = mem_realloc_array(out->v, out->cap, sizeof(*out->v));
    }
    struct slot *slot = &out->v[out->n++];
    *slot = (struct slot){.replica = replica, .node = node, .first = out->alloc_count};
    return slot;
}

/* A task that was stopped on the way, by a drain or by hand, is not done, whatever it exited with. */
static bool is_done(const struct slots_want *want, const struct alloc_entry *a)
{
    return want->spec->mode == MODE_TASK && a->a.state == ALLOC_COMPLETE && a->a.desired == DESIRED_RUN;
}

static void add_alloc(struct slots *out, struct slot *slot, const struct slots_want *want, struct alloc_entry *a)
{
    if (out->alloc_count == out->alloc_cap) {
        out->alloc_cap = out->alloc_cap ? out->alloc_cap * 2 : 16;
        out->allocs = mem_realloc_array(out->allocs, out->alloc_cap, sizeof(struct alloc_entry *));
    }
    out->allocs[out->alloc_count++] = a;
    slot->n++;
    slot->live += entry_live(a);
    slot->wanted += entry_wanted(a);
    slot->leaving += entry_wanted(a) && on_draining_node(a);
    bool current = is_current(want, a);
    if (!entry_live(a)) {
        slot->before = a;
        if (current && (a->a.generation >= want->generation || want->spec->schedule)) {
            slot->last = a;
            slot->done = is_done(want, a);
        }
    } else if (!entry_wanted(a)) {
        return;
    } else if (on_draining_node(a)) {
        if (!slot->draining || current >= slot->draining_current)
            slot->draining = current > slot->draining_current ? a : better(slot->draining, a);
        slot->draining_current |= current;
    } else if (current) {
        slot->fresh = better(slot->fresh, a);
    } else {
        slot->old = better(slot->old, a);
    }
}

/* Desired replicas in order: numbers below count, or the nodes that are not down. */
struct desired_walk {
    const struct slots_want *want;
    struct core *c;
    int64_t replica;
    struct node_entry *node;
    bool every, end;
};

static void desired_settle(struct desired_walk *w)
{
    if (w->every) {
        while (w->node && w->node->n.state == NODE_DOWN)
            w->node = RB_NEXT(node_id_tree, &w->c->nodes, w->node);
        w->end = !w->node;
    } else {
        w->end = w->replica >= w->want->spec->count;
    }
}

static void desired_next(struct desired_walk *w)
{
    if (w->every)
        w->node = RB_NEXT(node_id_tree, &w->c->nodes, w->node);
    else
        w->replica++;
    desired_settle(w);
}

static const char *group_node(const struct alloc_entry *a)
{
    return a->every_node ? a->a.node_id : "";
}

static int compare_group(const struct desired_walk *w, const struct alloc_entry *a)
{
    int64_t replica = w->every ? 0 : w->replica;
    if (replica != a->a.replica)
        return replica < a->a.replica ? -1 : 1;
    return strcmp(w->every ? w->node->n.id : "", group_node(a));
}

static struct alloc_entry *take_group(struct slots *out, struct slot *slot, const struct slots_want *want,
                                      struct alloc_entry *a)
{
    int64_t replica = a->a.replica;
    const char *node = group_node(a);
    while (a && a->a.replica == replica && strcmp(group_node(a), node) == 0) {
        add_alloc(out, slot, want, a);
        a = RB_NEXT(alloc_replica_tree, &a->service->allocs, a);
    }
    return a;
}

void slots_build(struct core *c, struct service_entry *s, const struct slots_want *want, struct slots *out)
{
    struct alloc_entry *a = s ? RB_MIN(alloc_replica_tree, &s->allocs) : NULL;
    struct desired_walk w = {.want = want, .c = c, .every = want->spec->mode == MODE_EVERY_NODE};
    *out = (struct slots){0};
    bool nothing = want->stopped || (want->spec->schedule && !want->run_at);
    if (w.every)
        w.node = RB_MIN(node_id_tree, &c->nodes);
    desired_settle(&w);
    w.end |= nothing;
    while (a || !w.end) {
        int r = w.end ? 1 : !a ? -1 : compare_group(&w, a);
        struct slot *slot = r > 0 ? add_slot(out, a->a.replica, NULL)
                                  : add_slot(out, w.every ? 0 : w.replica, w.node);
        slot->desired = r <= 0;
        if (r >= 0)
            a = take_group(out, slot, want, a);
        if (r <= 0)
            desired_next(&w);
    }
}

void slots_clear(struct slots *s)
{
    free(s->v);
    free(s->allocs);
    *s = (struct slots){0};
}

/* A host port is free on another node than the one that drains; a volume is not, and a task has its one turn. */
bool slot_must_wait(const struct slot *slot, const struct service *spec)
{
    bool apart = spec->mode == MODE_SERVICE && !spec_has_volume(spec);
    return spec_stops_first(spec) && slot->live > (apart ? slot->leaving : 0);
}

bool service_must_wait(const struct service_entry *s)
{
    const struct service *spec = &s->current->v.spec;
    return spec_has_volume(spec) && s->live[spec->mode != MODE_EVERY_NODE] > 0;
}

bool slot_is_free(struct service_entry *s, int64_t replica, const struct node_entry *node)
{
    struct slots_want want = slots_want_of(s);
    bool every = want.spec->mode == MODE_EVERY_NODE;
    struct alloc_entry key = {.a = {.replica = replica, .node_id = node->n.id, .id = (char *)""}, .every_node = every};
    struct alloc_entry *a = RB_NFIND(alloc_replica_tree, &s->allocs, &key);
    struct slots found = {0};
    struct slot *slot = add_slot(&found, replica, NULL);
    if (a && a->a.replica == replica && strcmp(group_node(a), every ? node->n.id : "") == 0)
        take_group(&found, slot, &want, a);
    bool free_slot = !slot->fresh && !slot->done && !slot_must_wait(slot, want.spec) && !service_must_wait(s);
    slots_clear(&found);
    return free_slot;
}
