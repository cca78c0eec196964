/* Nodes: they register, drain, come and go. */
#include <string.h>

#include "base/id.h"
#include "base/text.h"
#include "core/apply.h"
#include "core/ingress.h"
#include "core/ingress_right.h"
#include "core/network.h"
#include "core/slots.h"

static int check_register(struct core *c, const struct node *n, struct error *err)
{
    if (!n->id || !id_valid(n->id))
        return error_set(err, ERROR_INVALID, "node.id must be %d hexadecimal digits", ID_LEN);
    if (!n->name || !*n->name || strlen(n->name) > 255)
        return error_set(err, ERROR_INVALID, "node.name is missing or too long");
    if (!sched_room_makes_sense(n->cpus, n->memory_mb, n->disk_mb))
        return error_set(err, ERROR_INVALID, "node %s: its cpus, memory or disk make no sense", n->name);
    if (!node_volumes_sound(n))
        return error_set(err, ERROR_INVALID, "node %s: a volume of it does not say whose it is", n->name);
    const struct node_entry *other = state_node_by_name(c, n->name);
    if (other && other->n.state != NODE_DOWN && strcmp(other->n.id, n->id) != 0)
        return error_set(err, ERROR_CONFLICT, "node %s is known already as %s; give this one another name, or wait "
                         "until that one is down", n->name, other->n.id);
    return 0;
}

static void set_facts(struct core *c, struct node_entry *e, const struct node *facts)
{
    struct node n;
    type_copy(&node_type, &n, facts);
    str_list_clear(&n.ingress_problems);
    free(n.state_reason);
    n.state = e->n.state;
    n.state_reason = steal(&e->n.state_reason);
    n.state_since = e->n.state_since;
    n.registered_at = e->n.registered_at ? e->n.registered_at : c->now;
    n.create_index = e->n.create_index ? e->n.create_index : c->index;
    n.modify_index = c->index;
    type_clear(&node_type, &e->n);
    e->n = n;
}

static void add_new(struct core *c, const struct node *facts)
{
    struct node_entry *e = NEW(struct node_entry);
    STAILQ_INIT(&e->gone);
    e->wanted_state = NODE_READY;
    e->n.state = NODE_READY;
    e->n.state_since = c->now;
    e->gone_floor = c->index;              /* what an earlier life of it ran is not known here, */
    e->work_index = c->index;              /* which its agent is told at once */
    set_facts(c, e, facts);
    state_add_node(c, e);
    if (e->n.network.subnet)
        network_nodes_changed(c);
    state_touch_node(c, e);
    state_set_dirty_every_node(c);
    state_event(c, (struct event_text){.kind = "node", .subject = e->n.name, .node = e->n.id, .to = "ready"},
                "registered");
}

static bool same_facts(const struct node_entry *e, const struct node *facts)
{
    struct node n = *facts;
    n.state = e->n.state;
    n.state_reason = e->n.state_reason;
    n.state_since = e->n.state_since;
    n.registered_at = e->n.registered_at;
    n.create_index = e->n.create_index;
    n.modify_index = e->n.modify_index;
    return type_equal(&node_type, &n, &e->n);
}

/* What the agents of other nodes know of it. */
static bool same_place(const struct node *a, const struct node *b)
{
    return text_same(a->ip, b->ip) && !strcmp(a->name, b->name)
           && type_equal(&node_network_type, &a->network, &b->network);
}

static void take_facts(struct core *c, struct node_entry *e, const struct node *facts)
{
    if (!e) {
        add_new(c, facts);
        return;
    }
    if (!same_facts(e, facts)) {
        if (!same_place(&e->n, facts))
            network_nodes_changed(c);
        RB_REMOVE(node_name_tree, &c->node_names, e);
        set_facts(c, e, facts);
        RB_INSERT(node_name_tree, &c->node_names, e);
        sched_node_set(c->sched, &e->n);
        ingress_node_changed(c, e);
        state_touch_node(c, e);
        state_set_dirty_every_node(c);
        c->room = true;
    }
    if (e->n.state != NODE_DOWN)
        return;
    state_set_node_state(c, e, (enum node_state)e->wanted_state, "it registered again");
    if (e->live) {                          /* held by its lease: it says anew how they are */
        e->gone_floor = c->index;
        e->work_index = c->index;
    }
}

static void set_refused(struct core *c, struct node_entry *e, bool refused)
{
    if (e->ingress_refused == refused)
        return;
    e->ingress_refused = refused;
    state_touch_node(c, e);
    if (refused)
        state_event(c, event_of_node(e), "ingress: " INGRESS_REFUSED, e->n.name);
}

int apply_node_register(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_node_register *p = payload;
    if (check_register(c, &p->node, err))
        return -1;
    if (p->tasks > 0 && p->cluster && c->clusters.n && !state_is_cluster(c, p->cluster))
        return error_set(err, ERROR_CONFLICT, "node %s runs %lld tasks of cluster %s, and this is cluster %s, which does "
                         "not know them: they go on. Restore a snapshot of that cluster here (mt snapshot restore), or, "
                         "when it is lost for good, start the agent once with --new-cluster, which ends them",
                         p->node.name, (long long)p->tasks, p->cluster, c->clusters.v[0]);
    struct node_entry *e = state_node(c, p->node.id);
    struct node facts = p->node;             /* borrowed, but for its network */
    if (p->by_right)
        facts.ingress = ingress_right_claim(c, facts.name, e, facts.ingress);
    network_resolve(c, e, &p->node.network, &p->network, &facts.network);
    take_facts(c, e, &facts);
    type_clear(&node_network_type, &facts.network);
    set_refused(c, state_node(c, p->node.id), p->node.ingress && !facts.ingress);
    return 0;
}

static struct node_entry *find_node(struct core *c, const char *id, struct error *err)
{
    struct node_entry *n = state_node(c, id);
    if (!n)
        error_set(err, ERROR_NOT_FOUND, "there is no node %s", id ? id : "");
    return n;
}

int apply_node_ingress(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_node *p = payload;
    struct node_entry *n = find_node(c, p->node_id, err);
    if (!n)
        return -1;
    if (!n->ingress_refused && !n->n.ingress)
        return error_set(err, ERROR_CONFLICT, "node %s does not ask for requests from outside: set `ingress: true` in its agent.yaml "
                         "first", n->n.name);
    ingress_right_set(c, n->n.name, true);
    if (!n->ingress_refused)
        return 0;
    n->ingress_refused = false;
    n->n.ingress = true;
    ingress_node_changed(c, n);
    state_touch_node(c, n);
    state_event_by_actor(c, event_of_node(n), "it may take requests from outside");
    return 0;
}

/* A volume that other nodes have too may still be in use there, however dead the node looks: its replica is neither lost nor
 * replaced before the node's lease is over. Until then it only serves nobody. */
static bool held_by_lease(const struct node_entry *n, const struct alloc_entry *a)
{
    const struct version_entry *v = state_version(a->service, a->a.version);
    return n->n.volume_lease_ms > 0 && v && spec_has_volume(&v->v.spec);
}

static void hold(struct core *c, struct alloc_entry *a)
{
    static const char reason[] = "its node is down; it is replaced once the node's lease on volumes that others have too is over";
    if (a->a.state >= ALLOC_RUNNING && a->a.state < ALLOC_UNHEALTHY)
        state_set_alloc_state(c, a, ALLOC_UNHEALTHY, reason);
    else
        state_set_alloc_reason(c, a, reason);
    state_touch_work(c, a);
}

/* fenced: whatever it ran with such volumes has ended. */
static void lose_allocs(struct core *c, struct node_entry *n, bool fenced)
{
    struct alloc_entry *a;
    RB_FOREACH(a, alloc_node_tree, &n->allocs) {
        if (!entry_live(a))
            continue;
        if (!fenced && held_by_lease(n, a)) {
            hold(c, a);
            continue;
        }
        if (a->a.desired == DESIRED_RUN) {
            a->a.desired = DESIRED_STOP;
            mem_set_string(&a->a.desired_reason, "its node was lost");
        }
        state_set_alloc_state(c, a, ALLOC_LOST, "its node is down");
        state_touch_work(c, a);
    }
}

int apply_node_state(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_node_state *p = payload;
    struct node_entry *n = find_node(c, p->node_id, err);
    if (!n)
        return -1;
    if (p->state < NODE_READY || p->state > NODE_DOWN)
        return error_set(err, ERROR_INVALID, "state must be ready, draining, ineligible or down");
    enum node_state state = (enum node_state)p->state;
    if (state == n->n.state)
        return 0;
    if (state == NODE_DOWN) {
        state_set_node_state(c, n, state, p->reason ? p->reason : "it sent no heartbeat");
        lose_allocs(c, n, false);
        return 0;
    }
    n->wanted_state = state;
    if (n->n.state == NODE_DOWN)            /* takes effect when it registers again */
        return 0;
    const char *reason = p->reason;
    if (state == NODE_DRAINING && n->live == 0)
        reason = "drained";
    state_set_node_state(c, n, state, reason);
    return 0;
}

int apply_node_fenced(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_node_fenced *p = payload;
    struct node_entry *n = state_node(c, p->node_id);
    if (!n || n->n.state != NODE_DOWN || n->n.state_since != p->since)
        return error_set(err, ERROR_CONFLICT, "node %s is not down since then", p->node_id ? p->node_id : "");
    state_event(c, event_of_node(n), "its lease on volumes that other nodes have too is over");
    lose_allocs(c, n, true);
    state_set_dirty_node(c, n);
    return 0;
}

int apply_node_remove(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_node *p = payload;
    struct node_entry *n = find_node(c, p->node_id, err);
    if (!n)
        return -1;
    if (n->n.state != NODE_DOWN)
        return error_set(err, ERROR_CONFLICT, "node %s is %s; only a node that is down can be removed (its host is lost for good? "
                         "mt node remove --lost)", n->n.name,
                         enum_name(node_state_names, (int)n->n.state));
    if (n->live)
        return error_set(err, ERROR_CONFLICT, "node %s may still use volumes that other nodes have too; it can be removed when its "
                         "lease (%llds, and some more) is over", n->n.name, (long long)(n->n.volume_lease_ms / 1000));
    state_event(c, event_of_node(n), "removed%s", p->revoked_until ? "; its certificate is not believed any more" : "");
    authority_revoke_name(c, n->n.name, "agent", p->revoked_until);
    if (p->revoked_until) {
        state_end_shared_tokens(c);
        ingress_right_set(c, n->n.name, false);
    }
    node_forget(c, n);
    return 0;
}

void node_forget(struct core *c, struct node_entry *n)
{
    struct alloc_entry *a;
    while ((a = RB_MIN(alloc_node_tree, &n->allocs))) {
        struct service_entry *s = a->service;
        state_remove_alloc(c, a, false);
        service_purge_when_empty(c, s);
    }
    state_remove_node(c, n);
}
