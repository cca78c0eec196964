#include "core/network.h"

#include <string.h>

#include "base/net4.h"
#include "base/random.h"

/* --- parts of the range --- */

#define PART_BITS_MOST 29            /* gateway, one machine, and what a network takes itself */

/* The node whose part overlaps with this one; NULL: none. */
static const struct node_entry *holder(const struct core *c, const struct node_entry *self, const struct net4 *part)
{
    struct node_entry *n;
    struct net4 other;
    RB_FOREACH(n, node_id_tree, (struct node_id_tree *)&c->nodes)
        if (n != self && net4_parse(n->n.network.subnet, &other) && net4_overlap(&other, part))
            return n;
    return NULL;
}

static bool is_part_of(const char *text, const struct net4 *range, int bits, struct net4 *out)
{
    return net4_parse(text, out) && out->bits == bits && (out->base & net4_mask(range->bits)) == range->base;
}

/* One look over all nodes, however many parts are taken. */
static bool first_free(const struct core *c, const struct node_entry *self, const struct net4 *range, int bits,
                       struct net4 *out)
{
    uint32_t count = 1u << (bits - range->bits), at = 0;
    CLEANUP_FREE uint8_t *taken = mem_array(count, 1);
    struct node_entry *n;
    struct net4 other;
    RB_FOREACH(n, node_id_tree, (struct node_id_tree *)&c->nodes) {
        if (n == self || !net4_parse(n->n.network.subnet, &other) || !net4_overlap(&other, range))
            continue;
        uint32_t first = other.bits <= range->bits ? 0 : (other.base - range->base) >> (32 - bits);
        uint32_t many = other.bits <= range->bits ? count : other.bits < bits ? 1u << (bits - other.bits) : 1;
        memset(taken + first, 1, many);
    }
    while (at < count && taken[at])
        at++;
    *out = (struct net4){range->base + (at << (32 - bits)), bits};
    return at < count;
}

static void take_part(const struct core *c, const struct node_entry *e, const struct node_network *asked,
                      const struct cluster_network *net, struct node_network *out)
{
    struct net4 range, part;
    int bits = (int)net->node_bits;
    char text[NET4_TEXT_SIZE];
    const char *had = e ? e->n.network.subnet : NULL;
    if (had && e->n.network.wanted && !strcmp(e->n.network.wanted, NETWORK_AUTO) && net4_parse(had, &part)) {
        out->subnet = mem_strdup(had);
        return;
    }
    if (!net4_parse(net->range, &range) || bits <= range.bits || bits > PART_BITS_MOST || bits - range.bits > 16) {
        out->problem = mem_strdup("the servers' network makes no sense");
        return;
    }
    if (!is_part_of(asked->subnet, &range, bits, &part) || holder(c, e, &part)) {
        if (!first_free(c, e, &range, bits, &part)) {
            out->problem = mem_printf("no /%d of %s is left for this node: give `network.range` of server.yaml a larger one, or "
                                      "remove nodes that are gone", bits, net->range);
            return;
        }
    }
    net4_format(text, &part);
    out->subnet = mem_strdup(text);
}

static void keep_own(const struct core *c, const struct node_entry *e, const struct node_network *asked,
                     struct node_network *out)
{
    struct net4 part;
    if (!net4_parse(asked->wanted, &part)) {
        out->problem = mem_printf("`%.64s` is no network", asked->wanted);
        return;
    }
    const struct node_entry *other = holder(c, e, &part);
    if (other)
        out->problem = mem_printf("%s overlaps with %s of node %s: machines of other nodes do not reach those here; set "
                                  "firecracker.network of agent.yaml to another one, or to %s", asked->wanted,
                                  other->n.network.subnet, other->n.name, NETWORK_AUTO);
    else
        out->subnet = mem_strdup(asked->wanted);
}

void network_resolve(const struct core *c, const struct node_entry *e, const struct node_network *asked,
                     const struct cluster_network *net, struct node_network *out)
{
    *out = (struct node_network){.wanted = mem_strdup(asked->wanted)};
    if (!asked->wanted || !net->range)
        return;
    out->link = net->link;
    out->vni = net->vni;
    out->port = net->port;
    if (!strcmp(asked->wanted, NETWORK_AUTO))
        take_part(c, e, asked, net, out);
    else
        keep_own(c, e, asked, out);
}

/* --- what agents are told --- */

void network_nodes_changed(struct core *c)
{
    c->network_index = c->changed[CORE_NETWORK] = c->index;
}

void network_set_changed(struct core *c, struct service_entry *s)
{
    if (s->network_changed || !s->current)
        return;
    s->network_changed = true;
    STAILQ_INSERT_TAIL(&c->network_changed, s, network_link);
}

void network_forget(struct core *c, struct service_entry *s)
{
    if (!s->network_changed)
        return;
    s->network_changed = false;
    STAILQ_REMOVE(&c->network_changed, s, service_entry, network_link);
}

static bool is_machine(const struct alloc_entry *a)
{
    const struct version_entry *v = entry_live(a) ? state_version(a->service, a->a.version) : NULL;
    return v && v->v.spec.driver == DRIVER_FIRECRACKER;
}

/* In the traffic, and to stay there. */
static bool is_named(const struct alloc_entry *a)
{
    return entry_wanted(a) && !a->a.leaving && alloc_serves(a);
}

static void add_service(struct service_entry *s, struct agent_network *out)
{
    struct alloc_entry *a;
    struct network_service *to = list_add_zero((struct list *)&out->services, &network_service_type);
    to->name = mem_strdup(s->name);
    to->job = mem_strdup(s->job->name);
    RB_FOREACH(a, alloc_replica_tree, &s->allocs) {
        if (!entry_live(a))
            continue;
        struct network_replica *r = list_add_zero((struct list *)&to->replicas, &network_replica_type);
        *r = (struct network_replica){.alloc = mem_strdup(a->a.id), .replica = a->a.replica, .ip = mem_strdup(a->a.ip),
                                      .address = mem_strdup(a->a.address), .serves = is_named(a)};
        for (uint32_t i = 0; i < a->a.ports.n; i++)
            type_copy(&alloc_port_type, list_add_zero((struct list *)&r->ports, &alloc_port_type), &a->a.ports.v[i]);
    }
}

static uint64_t part_hash(struct service_entry *s)
{
    CLEANUP_BUF struct buf bytes = {0};
    struct agent_network part = {0};
    add_service(s, &part);
    type_encode(&agent_network_type, &part, &bytes);
    type_clear(&agent_network_type, &part);
    return hash_bytes(bytes.data, bytes.len, 0);
}

static void touch_nodes_of(struct core *c, struct job_entry *j)
{
    struct service_entry *s;
    struct alloc_entry *a;
    TAILQ_FOREACH(s, &j->services, in_job)
        RB_FOREACH(a, alloc_replica_tree, &s->allocs)
            if (a->node && is_machine(a))
                a->node->network_index = c->index;
    c->changed[CORE_NETWORK] = c->index;
}

void network_tell(struct core *c)
{
    struct service_entry *s;
    while ((s = STAILQ_FIRST(&c->network_changed))) {
        STAILQ_REMOVE_HEAD(&c->network_changed, network_link);
        s->network_changed = false;
        if (!s->job->machines)
            continue;
        uint64_t hash = part_hash(s);
        if (hash != s->network_hash)
            touch_nodes_of(c, s->job);
        s->network_hash = hash;
    }
}

/* What agents know may be of this state or not: everything counts as changed now. */
void network_rebuild(struct core *c)
{
    struct service_entry *s;
    RB_FOREACH(s, service_tree, &c->services)
        s->network_hash = s->job->machines ? part_hash(s) : 0;
    network_nodes_changed(c);
}

static bool has_job(const struct agent_network *n, const char *job)
{
    for (uint32_t i = n->services.n; i-- > 0;)
        if (!strcmp(n->services.v[i].job, job))
            return true;
    return false;
}

int core_agent_network(const struct core *c, const char *node_id, struct agent_network *out)
{
    struct node_entry *self = state_node(c, node_id), *n;
    struct alloc_entry *a;
    struct service_entry *s;
    *out = (struct agent_network){.index = core_changed(c, CORE_NETWORK, node_id)};
    if (!self)
        return -1;
    type_copy(&node_network_type, &out->own, &self->n.network);
    RB_FOREACH(n, node_id_tree, (struct node_id_tree *)&c->nodes) {
        if (n == self || !n->n.network.subnet)
            continue;
        struct network_node *to = list_add_zero((struct list *)&out->nodes, &network_node_type);
        *to = (struct network_node){.name = mem_strdup(n->n.name), .ip = mem_strdup(n->n.ip),
                                    .subnet = mem_strdup(n->n.network.subnet)};
    }
    RB_FOREACH(a, alloc_node_tree, &self->allocs)
        if (is_machine(a) && !has_job(out, a->service->job->name))
            TAILQ_FOREACH(s, &a->service->job->services, in_job)
                add_service(s, out);
    return 0;
}
