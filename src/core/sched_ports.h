/* Sched_ports: the host ports in use on one node, and the choice of free ones. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "model/model.h"

#define PORT_DYNAMIC_FIRST 20000
#define PORT_DYNAMIC_LAST 32000
#define PORT_RECENT 32

enum { PORT_TCP, PORT_UDP, PORT_FAMILIES };      /* the two have numbers of their own */

/* All-zero is empty. A port may be in use more than once: a replica that is only now known to be lost, and its heir. */
struct port_set {
    uint32_t *v;                                 /* sorted keys */
    uint32_t n, cap;
    int32_t dynamic_used[PORT_FAMILIES];         /* different ports of the dynamic range */
    uint32_t recent[PORT_RECENT];                /* given back last; 0: none */
    uint32_t recent_at;
};
void port_set_clear(struct port_set *s);
void port_set_add(struct port_set *s, int64_t host, enum protocol protocol);
void port_set_remove(struct port_set *s, int64_t host, enum protocol protocol);
/* How often the port is in use. */
uint32_t port_set_count(const struct port_set *s, int64_t host, enum protocol protocol);

/* How many dynamic ports of each family the list asks for, static ones within the range counted too. */
void port_demand(const struct port_list *ports, int32_t out[static PORT_FAMILIES]);

/* Fills the ports of a placement: static ones as asked, dynamic ones free, in an order that the seed decides, those
 * given back recently only when there are no others. `free_anyway` are those of an allocation that ends first; may be
 * NULL. There must be enough. */
void port_choose(const struct port_set *s, const struct port_list *ports, const struct alloc_port_list *free_anyway,
                 uint64_t seed, struct alloc_port_list *out);
