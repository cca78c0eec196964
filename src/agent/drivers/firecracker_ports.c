/* Machines' ports of the bridge, each with the network namespace that is behind it (vm_port.h). To make one takes the kernel
 * two milliseconds of a processor, and longer on a busy host, since all that changes interfaces waits for each other and for
 * readers. So once a node has machines, a few are made ready for those to come, when no machine waits to be made ready itself:
 * a start then only enters what is there.
 *
 * They are those of the next free numbers, as a port's name and its tap's user follow from the number. The agent holds their
 * descriptors and nothing else: when it is killed, the kernel takes them away. */
#include "agent/drivers/firecracker_network.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <unistd.h>

#include "agent/netlink.h"
#include "agent/vm_port.h"
#include "base/log.h"
#include "base/mem.h"

char *port_name(const struct network *n, int slot)
{
    return mem_printf("%s.%d", n->bridge, slot);
}

void port_remove(const struct network *n, int slot)
{
    CLEANUP_FREE char *name = port_name(n, slot);
    int index = (int)if_nametoindex(name);
    if (index && netlink_link_delete(index) < 0 && errno != ENODEV)
        LOG_W("a machine's network interface stays", "interface", name, "error", strerror(errno));
}

static struct shim_port port_plan(const struct network *n, int slot)
{
    return (struct shim_port){.name = port_name(n, slot), .bridge = mem_strdup(n->bridge), .uid = machine_uid(n->f, slot),
                              .mtu = network_mtu(n)};
}

static struct ready_port *ready_find(struct network *n, int slot)
{
    for (unsigned i = 0; i < n->n_ports; i++)
        if (n->ports[i].slot == slot)
            return &n->ports[i];
    return NULL;
}

int ports_first(const struct network *n)
{
    int first = 0;
    for (unsigned i = 0; i < n->n_ports; i++)
        if (!first || n->ports[i].slot < first)
            first = n->ports[i].slot;
    return first;
}

/* Takes it out of the list. Its namespace is the caller's; 0: there is none. */
static struct ready_port ready_take(struct network *n, int slot)
{
    while (n->making == slot)
        uv_cond_wait(&n->made, &n->f->lock);
    struct ready_port *found = ready_find(n, slot), port = {0};
    if (found) {
        port = *found;
        *found = n->ports[--n->n_ports];
    }
    return port;
}

void port_forget(struct network *n, int slot)
{
    struct ready_port port = ready_take(n, slot);
    if (port.namespace)
        close(port.namespace);
}

struct shim_port network_port(struct network *n, int slot)
{
    uv_mutex_lock(&n->f->lock);
    struct shim_port port = port_plan(n, slot);
    struct ready_port ready = ready_take(n, slot);
    uv_mutex_unlock(&n->f->lock);
    if (ready.namespace && ready.mtu == port.mtu) {
        port.ready = ready.namespace;
        return port;
    }
    if (ready.namespace)
        close(ready.namespace);
    port_remove(n, slot);            /* this one's, or one that the end of its machine or agent did not wait for */
    return port;
}

/* The lowest free number without one; 0: none is wanted. */
static int slot_wanted(struct network *n)
{
    if (!n->ready || n->making || n->n_ports == PORTS_READY_MAX || !network_used(n))
        return 0;
    for (int slot = FIRST_SLOT; slot <= network_last_slot(n); slot++)
        if (!ready_find(n, slot) && !slot_taken(n->f->dir, slot))
            return slot;
    return 0;
}

bool network_port_prepare(struct network *n)
{
    struct error err = {0};
    struct shim_port plan = {0};
    uv_mutex_lock(&n->f->lock);
    int slot = slot_wanted(n);
    if (slot) {
        n->making = slot;
        plan = port_plan(n, slot);
    }
    uv_mutex_unlock(&n->f->lock);
    if (!slot)
        return false;
    port_remove(n, slot);
    int namespace = vm_port_prepare(&plan, &err);
    uv_mutex_lock(&n->f->lock);
    if (namespace >= 0)
        n->ports[n->n_ports++] = (struct ready_port){.slot = slot, .namespace = namespace, .mtu = plan.mtu};
    n->making = 0;
    uv_cond_broadcast(&n->made);
    uv_mutex_unlock(&n->f->lock);
    if (namespace < 0)
        LOG_D("no port is made ready", "interface", plan.name, "reason", err.text);
    free(plan.name);
    free(plan.bridge);
    return namespace >= 0;
}

void ports_drop(struct network *n)
{
    while (n->making)
        uv_cond_wait(&n->made, &n->f->lock);
    for (unsigned i = 0; i < n->n_ports; i++)
        close(n->ports[i].namespace);
    while (n->n_ports)
        port_remove(n, n->ports[--n->n_ports].slot);
}

void network_ports_rest(struct network *n)
{
    uv_mutex_lock(&n->f->lock);
    if (!network_used(n))
        ports_drop(n);
    uv_mutex_unlock(&n->f->lock);
}
