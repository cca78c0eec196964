#include "guest/init.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define INTERFACE "eth0"

static void put_address(struct sockaddr *to, struct in_addr address)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = address};
    memcpy(to, &in, sizeof in);
}

static int interface_up(int fd, const char *name)
{
    struct ifreq r = {0};
    strcpy(r.ifr_name, name);
    if (ioctl(fd, SIOCGIFFLAGS, &r) < 0)
        return -1;
    r.ifr_flags |= IFF_UP;
    return ioctl(fd, SIOCSIFFLAGS, &r);
}

static int interface_address(int fd, const char *text, char *why)
{
    char host[INET_ADDRSTRLEN] = "";
    const char *slash = strchr(text, '/');
    int bits = slash ? atoi(slash + 1) : -1;
    struct in_addr address, mask = {.s_addr = htonl(bits > 0 ? ~0u << (32 - bits) : 0)};
    if (slash && (size_t)(slash - text) < sizeof host)
        memcpy(host, text, (size_t)(slash - text));
    if (bits < 1 || bits > 32 || inet_pton(AF_INET, host, &address) != 1)
        return why_set(why, "`%s` is no address", text);
    struct ifreq r = {.ifr_name = INTERFACE};
    put_address(&r.ifr_addr, address);
    if (ioctl(fd, SIOCSIFADDR, &r) < 0)
        return why_errno(why, "cannot set the address of " INTERFACE);
    put_address(&r.ifr_netmask, mask);
    if (ioctl(fd, SIOCSIFNETMASK, &r) < 0)
        return why_errno(why, "cannot set the network of " INTERFACE);
    return interface_up(fd, INTERFACE) < 0 ? why_errno(why, "cannot switch on " INTERFACE) : 0;
}

static int route_default(int fd, const char *gateway, char *why)
{
    struct rtentry r = {.rt_flags = RTF_UP | RTF_GATEWAY};
    struct in_addr address, any = {0};
    if (inet_pton(AF_INET, gateway, &address) != 1)
        return why_set(why, "`%s` is no gateway", gateway);
    put_address(&r.rt_gateway, address);
    put_address(&r.rt_dst, any);
    put_address(&r.rt_genmask, any);
    return ioctl(fd, SIOCADDRT, &r) < 0 ? why_errno(why, "cannot set the route by %s", gateway) : 0;
}

/* An image may bring such a file as a link that leads nowhere; it is replaced, never written through. */
static void lines_write(const char *path, const struct drive_text_list *lines)
{
    if (!lines->n)
        return;
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    for (size_t i = 0; fd >= 0 && i < lines->n; i++)
        if (write(fd, lines->v[i], strlen(lines->v[i])) < 0 || write(fd, "\n", 1) < 0)
            break;
    if (fd >= 0)
        close(fd);
}

static int interface_mtu(int fd, uint32_t mtu, char *why)
{
    struct ifreq r = {.ifr_name = INTERFACE, .ifr_mtu = (int)mtu};
    return mtu && ioctl(fd, SIOCSIFMTU, &r) < 0 ? why_errno(why, "cannot set the MTU of " INTERFACE) : 0;
}

static int interface_hardware(int fd, const char *mac, char *why)
{
    struct ifreq r = {.ifr_name = INTERFACE};
    unsigned char *a = (unsigned char *)r.ifr_hwaddr.sa_data;
    if (sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", a, a + 1, a + 2, a + 3, a + 4, a + 5) != 6)
        return why_set(why, "`%s` is no MAC", mac);
    r.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    return ioctl(fd, SIOCSIFHWADDR, &r) < 0 ? why_errno(why, "cannot set the MAC of " INTERFACE) : 0;
}

/* Down, it loses its routes and neighbours. */
int address_change(const struct drive *d, char *why)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), result = 0;
    struct ifreq r = {.ifr_name = INTERFACE};
    if (fd >= 0 && d->mac) {
        if (ioctl(fd, SIOCGIFFLAGS, &r) == 0) {
            r.ifr_flags &= ~IFF_UP;
            ioctl(fd, SIOCSIFFLAGS, &r);
        }
        result = interface_hardware(fd, d->mac, why);
    }
    if (fd >= 0)
        close(fd);
    return result < 0 ? -1 : address_set(d, why);
}

int address_set(const struct drive *d, char *why)
{
    if (d->hostname && sethostname(d->hostname, strlen(d->hostname)) < 0)
        return why_errno(why, "cannot set the name `%s`", d->hostname);
    lines_write("/etc/hosts", &d->hosts);
    lines_write("/etc/resolv.conf", &d->resolv);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return d->address ? why_errno(why, "this kernel has no IPv4") : 0;
    interface_up(fd, "lo");
    int result = 0;
    if (d->address && (result = interface_mtu(fd, d->mtu, why)) == 0)
        result = interface_address(fd, d->address, why);
    if (result == 0 && d->gateway)
        result = route_default(fd, d->gateway, why);
    close(fd);
    return result;
}
