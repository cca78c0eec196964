/* Ways between the machines of different nodes: a VXLAN without multicast and learning, or plain routes. For each other node
 * there is a route to its part of the network, marked as Mentat's and as this bridge's by its source, by which it is found
 * again. In the VXLAN a node's end has an address in hardware that follows from its part, so nothing else must be told. */
#include "agent/drivers/firecracker_network.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "agent/netlink.h"
#include "base/log.h"
#include "base/mem.h"

#define MTU_DEFAULT 1500
#define MTU_LEAST 1280
#define VXLAN_BYTES 50               /* that it adds to a packet */
#define VXLAN_SUFFIX ".vx"

static uint32_t gateway_of(const struct net4 *part)
{
    return part->base + 1;
}

static void mac_of(const struct net4 *part, uint8_t mac[static NETLINK_MAC_LEN])
{
    uint32_t a = gateway_of(part);
    const uint8_t bytes[NETLINK_MAC_LEN] = {0x06, 0x01, (uint8_t)(a >> 24), (uint8_t)(a >> 16), (uint8_t)(a >> 8), (uint8_t)a};
    memcpy(mac, bytes, sizeof bytes);
}

static char *vxlan_name(const struct network *n)
{
    return mem_printf("%s" VXLAN_SUFFIX, n->bridge);
}

static bool uses_vxlan(const struct network *n)
{
    return n->table.own.link == LINK_VXLAN;
}

bool network_other(const struct network *n, const struct network_node *entry, struct network_other *out)
{
    return net4_parse(entry->subnet, &out->part) && ip4_parse(entry->ip, &out->ip) && !net4_overlap(&out->part, &n->own);
}

/* The first thing that does not work is told, once. */
static void link_failed(struct network *n, char **trouble, const char *what, const char *node)
{
    if (!*trouble)
        *trouble = mem_printf("%s%s%s: %s", what, node ? " to node " : "", node ? node : "", strerror(errno));
}

/* --- this host --- */

struct own_addresses { struct netlink_address *v; uint32_t n; };

static void on_address(void *ctx, const struct netlink_address *a)
{
    struct own_addresses *o = ctx;
    o->v = mem_realloc_array(o->v, o->n + 1, sizeof *o->v);
    o->v[o->n++] = *a;
}

/* The link that has the address; 0: none. */
static int index_of(const struct own_addresses *o, uint32_t address)
{
    for (uint32_t i = 0; i < o->n; i++)
        if (o->v[i].address == address)
            return o->v[i].index;
    return 0;
}

static int mtu_of(int index)
{
    struct netlink_link l;
    return index && netlink_link_get(index, &l) == 0 && l.mtu >= MTU_LEAST ? l.mtu : MTU_DEFAULT;
}

int link_mtu(const struct network *n)
{
    uint32_t ip;
    struct own_addresses own = {0};
    if (n->table.own.link == LINK_NONE || !ip4_parse(n->f->env->ip, &ip))
        return MTU_DEFAULT;
    netlink_addresses(on_address, &own);
    int mtu = mtu_of(index_of(&own, ip));
    free(own.v);
    /* An address for tests or for one host alone: its link takes packets that no other would. */
    mtu = mtu > 9000 ? MTU_DEFAULT : mtu;
    return uses_vxlan(n) ? mtu - VXLAN_BYTES : mtu;
}

struct route_list { const struct network *n; int bridge; struct netlink_route *v; uint32_t count; };

static void route_add(struct route_list *l, const struct netlink_route *r)
{
    l->v = mem_realloc_array(l->v, l->count + 1, sizeof *l->v);
    l->v[l->count++] = *r;
}

static void on_foreign_route(void *ctx, const struct netlink_route *r)
{
    struct route_list *l = ctx;
    if (r->to.bits && r->protocol != NETLINK_PROTOCOL && r->index != l->bridge)
        route_add(l, r);
}

/* The caller frees v. */
static struct route_list foreign_routes(const struct network *n)
{
    struct route_list l = {.n = n, .bridge = (int)if_nametoindex(n->bridge)};
    netlink_routes(on_foreign_route, &l);
    return l;
}

static int check_free(const struct route_list *foreign, const struct net4 *part, struct error *err)
{
    const struct netlink_route *found = NULL;
    char ours[NET4_TEXT_SIZE], theirs[NET4_TEXT_SIZE], name[IF_NAMESIZE] = "?";
    for (uint32_t i = 0; i < foreign->count; i++) {
        const struct netlink_route *r = &foreign->v[i];
        if (net4_overlap(&r->to, part) && (r->connected || r->to.bits >= part->bits))
            found = r;
    }
    if (!found)
        return 0;
    net4_format(ours, part);
    net4_format(theirs, &found->to);
    if_indextoname((unsigned)found->index, name);
    return error_set(err, ERROR_CONFLICT, "%s overlaps with %s, which this host reaches by %s: set network.range of server.yaml, "
                     "or firecracker.network of this node's agent.yaml, to what is free", ours, theirs, name);
}

int link_check_free(const struct network *n, const struct net4 *part, struct error *err)
{
    struct route_list foreign = foreign_routes(n);
    int rc = check_free(&foreign, part, err);
    free(foreign.v);
    return rc;
}

/* --- the VXLAN --- */

static int vxlan_make(const struct network *n, struct error *err)
{
    const struct node_network *own = &n->table.own;
    CLEANUP_FREE char *name = vxlan_name(n);
    char part[NET4_TEXT_SIZE];
    net4_format(part, &n->own);
    CLEANUP_FREE char *alias = mem_printf("mentat %lld %lld %s %s", (long long)own->vni, (long long)own->port, n->f->env->ip, part);
    struct netlink_link was;
    int index = (int)if_nametoindex(name);
    if (index && netlink_link_get(index, &was) == 0 && !strcmp(was.alias, alias))
        return index;
    if (index && netlink_link_delete(index) < 0)
        return error_set_errno(err, errno, "cannot take away the old link %s", name);
    struct netlink_vxlan v = {.name = name, .alias = alias, .vni = (uint32_t)own->vni, .port = (uint16_t)own->port};
    mac_of(&n->own, v.mac);
    if (!ip4_parse(n->f->env->ip, &v.local))
        return error_set(err, ERROR_UNSUPPORTED, "this node's ip is no IPv4 address, and links need one");
    if (netlink_vxlan_add(&v) < 0)
        return error_set_errno(err, errno, "cannot make the VXLAN %s with VNI %lld", name, (long long)own->vni);
    index = (int)if_nametoindex(name);
    if (netlink_link_up(index, link_mtu(n)) < 0)
        return error_set_errno(err, errno, "cannot switch on %s", name);
    return index;
}

static void route_fill(const struct network *n, const struct network_other *o, int vxlan, struct netlink_route *r)
{
    *r = (struct netlink_route){.to = o->part, .source = gateway_of(&n->own), .index = vxlan, .on_link = vxlan != 0,
                                .gateway = vxlan ? gateway_of(&o->part) : o->ip};
}

static void other_join(struct network *n, const struct network_node *entry, const struct network_other *o, int vxlan,
                       char **trouble)
{
    struct netlink_route r;
    uint8_t mac[NETLINK_MAC_LEN];
    route_fill(n, o, vxlan, &r);
    mac_of(&o->part, mac);
    if (vxlan && (netlink_neighbour_set(vxlan, r.gateway, mac) < 0 || netlink_fdb_set(vxlan, mac, o->ip) < 0))
        link_failed(n, trouble, "no entry of the VXLAN", entry->name);
    if (netlink_route_set(&r) < 0)
        link_failed(n, trouble, vxlan ? "no route" : "no route (with network.link: routes all nodes must be neighbours)",
                    entry->name);
}

/* --- what was there before --- */

static void on_own_route(void *ctx, const struct netlink_route *r)
{
    struct route_list *l = ctx;
    if (r->protocol == NETLINK_PROTOCOL && r->source == gateway_of(&l->n->own))
        route_add(l, r);
}

static bool is_wanted(const struct network *n, const struct netlink_route *r, int vxlan)
{
    struct network_other o;
    for (uint32_t i = 0; i < n->table.nodes.n; i++)
        if (network_other(n, &n->table.nodes.v[i], &o) && o.part.base == r->to.base && o.part.bits == r->to.bits)
            return vxlan ? r->index == vxlan : r->gateway == o.ip;
    return false;
}

static void routes_sweep(const struct network *n, int vxlan, bool all)
{
    struct route_list l = {.n = n};
    netlink_routes(on_own_route, &l);
    for (uint32_t i = 0; i < l.count; i++) {
        const struct netlink_route *r = &l.v[i];
        uint8_t mac[NETLINK_MAC_LEN];
        if (!all && is_wanted(n, r, vxlan))
            continue;
        netlink_route_delete(r);
        mac_of(&r->to, mac);
        if (vxlan && r->index == vxlan) {
            netlink_fdb_delete(vxlan, mac);
            netlink_neighbour_delete(vxlan, r->gateway);
        }
    }
    free(l.v);
}

/* --- all of it --- */

static void vxlan_remove(const struct network *n)
{
    CLEANUP_FREE char *name = vxlan_name(n);
    int index = (int)if_nametoindex(name);
    if (index)
        netlink_link_delete(index);
}

void link_remove(const struct network *n)
{
    if (n->own.bits)
        routes_sweep(n, 0, true);
    vxlan_remove(n);
}

/* Nodes of this same host (tests, `mt dev`) need no link: the kernel has their bridges' routes. */
static bool is_elsewhere(const struct network *n, const struct own_addresses *own, const struct network_node *entry,
                         struct network_other *o)
{
    return network_other(n, entry, o) && !index_of(own, o->ip);
}

static void others_join(struct network *n, const struct own_addresses *own, char **trouble)
{
    struct error err = {0};
    struct network_other o;
    int vxlan = uses_vxlan(n) ? vxlan_make(n, &err) : 0;
    if (vxlan < 0) {
        *trouble = mem_strdup(err.text);
        return;
    }
    routes_sweep(n, vxlan, false);
    if (!vxlan)
        vxlan_remove(n);             /* of what the servers said before */
    struct route_list foreign = foreign_routes(n);
    for (uint32_t i = 0; i < n->table.nodes.n; i++) {
        const struct network_node *entry = &n->table.nodes.v[i];
        if (!is_elsewhere(n, own, entry, &o))
            continue;
        if (check_free(&foreign, &o.part, &err) == 0)
            other_join(n, entry, &o, vxlan, trouble);
        else if (!*trouble)
            *trouble = mem_printf("node %s: %s", entry->name, err.text);
    }
    free(foreign.v);
}

void link_update(struct network *n)
{
    CLEANUP_FREE char *trouble = NULL;
    struct own_addresses own = {0};
    struct network_other o;
    bool any = false;
    netlink_addresses(on_address, &own);
    for (uint32_t i = 0; i < n->table.nodes.n && !any; i++)
        any = is_elsewhere(n, &own, &n->table.nodes.v[i], &o);
    if (any && n->table.own.link != LINK_NONE && n->table.own.subnet)
        others_join(n, &own, &trouble);
    else
        link_remove(n);
    free(own.v);
    if (trouble && strcmp(trouble, n->link_trouble ? n->link_trouble : "") != 0)
        LOG_W("machines of other nodes are not reached as they should be", "reason", trouble);
    mem_set_string(&n->link_trouble, trouble);
}
