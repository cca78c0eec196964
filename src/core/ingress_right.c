#include "core/ingress_right.h"

#include <string.h>

#include "core/ingress.h"

#define YES "yes"
#define NO "no"

/* The authority by which founders know each other never signs: it leaves from its first day to its last, and has no key. */
static bool is_being_founded(const struct core *c)
{
    for (uint32_t i = 0; i < c->access.authorities.n; i++) {
        const struct authority *a = &c->access.authorities.v[i];
        if (a->state == AUTHORITY_LEAVING && !a->sealed_key && a->until > c->now)
            return true;
    }
    return false;
}

/* Who has the founding secret could be a server: it is believed what it is, when it comes. Who came by a token has none. */
static bool is_founder(const struct core *c, const char *name)
{
    return is_being_founded(c) && !state_node_by_name(c, name);
}

static void note(struct core *c, const char *name, bool has)
{
    if (has || is_being_founded(c))
        kv_set(&c->access.ingress_nodes, name, has ? YES : NO);
    else
        kv_remove(&c->access.ingress_nodes, name);
}

/* unsaid: where nothing was said of the name. */
static bool may(const struct core *c, const char *name, bool unsaid)
{
    const char *said = kv_get(&c->access.ingress_nodes, name);
    return said ? !strcmp(said, YES) : unsaid;
}

static void take_away(struct core *c, struct node_entry *n)
{
    n->n.ingress = false;
    ingress_node_changed(c, n);
    state_touch_node(c, n);
}

/* A node that has been an ingress node since before there was this right keeps being one. */
bool ingress_right_claim(struct core *c, const char *name, const struct node_entry *e, bool asks)
{
    bool has = asks && may(c, name, (e && e->n.ingress) || is_founder(c, name));
    note(c, name, has);
    return has;
}

/* Nobody has said anything where agents do not prove who they are. */
static bool is_in_force(const struct core *c)
{
    return core_level(c) >= INGRESS_RIGHT_LEVEL && (c->access.authorities.n || c->access.ingress_nodes.n);
}

void ingress_right_before_restore(struct core *c)
{
    struct node_entry *n;
    if (!is_in_force(c))
        return;
    RB_FOREACH(n, node_id_tree, &c->nodes)
        if (n->n.ingress)
            kv_set(&c->access.ingress_nodes, n->n.name, YES);
}

void ingress_right_restored(struct core *c)
{
    struct node_entry *n;
    if (!is_in_force(c))
        return;
    RB_FOREACH(n, node_id_tree, &c->nodes) {
        if (!n->n.ingress || may(c, n->n.name, is_being_founded(c)))
            continue;
        n->ingress_refused = true;
        take_away(c, n);
    }
}

void ingress_right_set(struct core *c, const char *name, bool has)
{
    struct node_entry *n;
    note(c, name, has);
    if (has)
        return;
    RB_FOREACH(n, node_id_tree, &c->nodes)
        if (n->n.ingress && !strcmp(n->n.name, name))
            take_away(c, n);
}
