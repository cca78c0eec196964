/* Netlink: links, routes and neighbours of IPv4 in the caller's network namespace. Blocking, each call by a socket of its own.
 * Functions return 0, or -1 with errno. Addresses are numbers in the host's byte order. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/net4.h"

#define NETLINK_PROTOCOL 77          /* marks the routes that Mentat made */
#define NETLINK_MAC_LEN 6

/* --- links, by their index --- */
#define NETLINK_ALIAS_SIZE 256
struct netlink_link { int mtu; char alias[NETLINK_ALIAS_SIZE]; };      /* alias "": it has none */
int netlink_link_get(int index, struct netlink_link *out);
int netlink_link_up(int index, int mtu);
int netlink_link_delete(int index);
int netlink_bridge_add(const char *name);
/* A pair of Ethernet interfaces: `name` as a port of the bridge `master`, both in this namespace, and `peer` in that of the
 * descriptor `peer_namespace`, down. */
int netlink_veth_add(const char *name, int master, int mtu, const char *peer, int peer_namespace);
/* Makes it a port of a bridge. */
int netlink_port_add(int index, int master);
/* No frame goes from one isolated port of a bridge to another. */
int netlink_port_isolate(int index);

struct netlink_vxlan {
    const char *name, *alias;        /* alias: text that is kept with it */
    uint32_t vni, local;
    uint16_t port;
    uint8_t mac[NETLINK_MAC_LEN];
};
/* One that learns nothing by itself. */
int netlink_vxlan_add(const struct netlink_vxlan *v);

/* --- addresses --- */
struct netlink_address { uint32_t address; int index; };
int netlink_addresses(void (*fn)(void *ctx, const struct netlink_address *a), void *ctx);

/* --- routes of the main table --- */
struct netlink_route {
    struct net4 to;
    uint32_t gateway, source;        /* 0: none; source: what this host's own packets carry */
    int index;                       /* of the link; 0: as the gateway is reached */
    int protocol;                    /* when listed */
    bool on_link;                    /* the gateway is a neighbour, whatever other routes say */
    bool connected;                  /* when listed: a network that this host is in itself */
};
int netlink_routes(void (*fn)(void *ctx, const struct netlink_route *r), void *ctx);
int netlink_route_set(const struct netlink_route *r);
int netlink_route_delete(const struct netlink_route *r);

/* --- neighbours, for ever --- */
int netlink_neighbour_set(int index, uint32_t ip, const uint8_t mac[static NETLINK_MAC_LEN]);
int netlink_neighbour_delete(int index, uint32_t ip);
/* Where a VXLAN sends frames for a MAC to. */
int netlink_fdb_set(int index, const uint8_t mac[static NETLINK_MAC_LEN], uint32_t to);
int netlink_fdb_delete(int index, const uint8_t mac[static NETLINK_MAC_LEN]);
