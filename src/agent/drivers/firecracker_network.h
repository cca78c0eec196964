/* Network of a node's machines: what its files share.
 *
 *   firecracker_network.c  addresses, bridge, and what the servers say
 *   firecracker_ports.c    the machines' ports of the bridge
 *   firecracker_rules.c    the rules of nftables
 *   firecracker_link.c     the ways to the machines of other nodes
 *
 * All of it is for workers, which hold the driver's lock; who loads rules into the kernel, which takes long, holds rules_lock
 * instead, which is taken first. The loop never waits for that: what it reads and writes is under
 * `loop_lock`, which is held for moments. */
#pragma once
#include "agent/drivers/firecracker.h"
#include "base/net4.h"

#define BRIDGE_NAME_MAX 9            /* a port is BRIDGE.SLOT, of at most 15 characters */
#define FIRST_SLOT 2                 /* behind the bridge */
#define PORTS_READY_MAX 20           /* each takes about 300 KiB of the kernel's memory */

/* Of a machine that has a number: its text is lines of "job NAME", "tcp HOST PORT", "udp HOST PORT". */
struct network_facts { int slot; char *job, *text; };

struct network {
    struct firecracker *f;
    uv_mutex_t rules_lock;           /* one at a time loads rules, in the order in which they were made */
    char bridge[BRIDGE_NAME_MAX + 1];
    struct agent_network table;      /* what the servers said last, maybe to an earlier process */
    bool ready;                      /* bridge and rules were made by this process */
    bool dirty;                      /* machines came or went since the rules were made */
    bool relink;                     /* the servers said something since links and rules were made */
    int64_t docker_at;               /* when Docker's rules were looked at last; 0: never; under rules_lock */
    char *trouble;                   /* why machines cannot have addresses; NULL: they can */
    char *link_trouble;              /* why machines of other nodes are not reached, as it was logged last */
    struct ready_port { int slot, namespace; int64_t mtu; } ports[PORTS_READY_MAX];
    unsigned n_ports;
    int making;                      /* the slot whose port is made ready now; 0: none */
    uv_cond_t made;                  /* it is none any more */
    /* changed under both locks */
    uv_mutex_t loop_lock;
    struct net4 own;                 /* bits 0: the servers did not give this node a part yet */
    struct network_facts *facts;     /* in order of slot */
    uint32_t n_facts;
    /* under loop_lock */
    bool news;                       /* the servers have said something that is not in `table` yet: */
    struct agent_network next;
};

/* Another node of the table that machines may be reached on. */
struct network_other { struct net4 part; uint32_t ip; };
/* False: this entry is none. */
bool network_other(const struct network *n, const struct network_node *entry, struct network_other *out);

/* Whether machines have numbers. */
bool network_used(const struct network *n);
int network_last_slot(const struct network *n);

/* The name of a machine's port; the caller's. */
char *port_name(const struct network *n, int slot);
/* The port goes with the monitor's namespace, but not at once: here it does, so that its name may be the next one's. */
void port_remove(const struct network *n, int slot);
void port_forget(struct network *n, int slot);       /* as one that is ready */
/* The lowest number whose port is ready; 0: none is. */
int ports_first(const struct network *n);
/* Those that are ready go. Waits for the one that is being made. */
void ports_drop(struct network *n);

/* All rules anew, in one transaction; to be loaded without the driver's lock. */
void rules_make(const struct network *n, struct buf *out);
int rules_load(const struct buf *rules, struct error *err);
int rules_remove(const struct network *n, struct error *err);

/* Makes links and routes as the table says, and takes away what it says no more. What fails is told in the log, and by
 * `link_trouble`. */
void link_update(struct network *n);
void link_remove(const struct network *n);
/* Largest packet of a machine, in bytes, so that it fits through the link. */
int link_mtu(const struct network *n);
/* ERROR_CONFLICT: this host itself is in that network, or has routes into it. */
int link_check_free(const struct network *n, const struct net4 *part, struct error *err);
