/* A tap device could be moved to the host's namespace once the monitor has attached to it, but that waits 20 ms for the kernel's
 * readers while all changes of interfaces wait for it; a pair of Ethernet interfaces is made in both namespaces at once. */
#include "agent/vm_port.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/netlink.h"

#define NAMESPACE "/proc/thread-self/ns/net"
#define INNER_BRIDGE "bridge"
#define INNER_END "host"

static int namespace_open(void)
{
    return open(NAMESPACE, O_RDONLY | O_CLOEXEC);
}

/* The kernel's own words on new interfaces would go to the guest and the host. Without IPv6 there are none. */
static void silence(void)
{
    int fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (write(fd, "1", 1) < 0)
        errno = 0;                   /* what they say is dropped on the host's bridge */
    close(fd);
}

/* It stays without a process that holds it, until its namespace goes. */
static int tap_make(int64_t uid)
{
    struct ifreq r = {.ifr_name = SHIM_VM_TAP, .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    int result = fd < 0 || ioctl(fd, TUNSETIFF, &r) < 0 || ioctl(fd, TUNSETOWNER, (unsigned long)uid) < 0
        || ioctl(fd, TUNSETPERSIST, 1UL) < 0 ? -1 : 0;
    int failed = errno;
    if (fd >= 0)
        close(fd);
    errno = failed;
    return result;
}

static int inside_make(const struct shim_port *p, int host, struct error *err)
{
    silence();
    if (tap_make(p->uid) < 0)
        return error_set_errno(err, errno, "cannot make the machine's tap device");
    int bridge = netlink_bridge_add(INNER_BRIDGE) < 0 ? 0 : (int)if_nametoindex(INNER_BRIDGE);
    int tap = (int)if_nametoindex(SHIM_VM_TAP);
    if (!bridge || netlink_veth_add(INNER_END, bridge, (int)p->mtu, p->name, host) < 0 || netlink_port_add(tap, bridge) < 0
        || netlink_link_up(tap, (int)p->mtu) < 0)
        return error_set_errno(err, errno, "cannot make the machine's network interface %s", p->name);
    return 0;
}

static int outside_make(const struct shim_port *p, struct error *err)
{
    int port = (int)if_nametoindex(p->name);
    if (netlink_port_add(port, (int)if_nametoindex(p->bridge)) < 0 || netlink_port_isolate(port) < 0
        || netlink_link_up(port, (int)p->mtu) < 0)
        return error_set_errno(err, errno, "cannot put the machine's interface %s on the bridge %s", p->name, p->bridge);
    return 0;
}

static int port_make(const struct shim_port *p, int host, int own, struct error *err)
{
    if (inside_make(p, host, err) < 0)
        return -1;
    if (setns(host, CLONE_NEWNET) < 0)
        return error_set_errno(err, errno, "cannot enter the host's network");
    int result = outside_make(p, err);
    if (setns(own, CLONE_NEWNET) < 0 && result == 0)
        result = error_set_errno(err, errno, "cannot enter the machine's network");
    return result;
}

/* The caller is in the new one, or, when it fails, may be: *own is a descriptor of it, or -1. */
static int namespace_make(const struct shim_port *p, int host, int *own, struct error *err)
{
    *own = host >= 0 && unshare(CLONE_NEWNET) == 0 ? namespace_open() : -1;
    if (*own < 0)
        return error_set_errno(err, errno, "cannot make a network namespace for the machine");
    return p->name ? port_make(p, host, *own, err) : 0;
}

static void close_both(int host, int own)
{
    if (host >= 0)
        close(host);
    if (own >= 0)
        close(own);
}

int vm_port_prepare(const struct shim_port *p, struct error *err)
{
    int host = namespace_open(), own, result = namespace_make(p, host, &own, err);
    /* This thread does other things next. */
    INVARIANT(host < 0 || setns(host, CLONE_NEWNET) == 0);
    close_both(host, result < 0 ? own : -1);
    return result < 0 ? -1 : own;
}

int vm_port_enter(const struct shim_port *p, struct error *err)
{
    if (p->ready) {
        int entered = setns(p->ready, CLONE_NEWNET);
        close(p->ready);
        return entered < 0 ? error_set_errno(err, errno, "cannot enter the machine's network") : 0;
    }
    if (geteuid() != 0)
        return 0;
    int host = namespace_open(), own, result = namespace_make(p, host, &own, err);
    close_both(host, own);
    return result;
}
