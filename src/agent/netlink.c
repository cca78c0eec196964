#include "agent/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

#define MESSAGE_MAX 512
#define ANSWER_MAX 65536

/* --- messages --- */

struct message {
    union { struct nlmsghdr h; uint8_t bytes[MESSAGE_MAX]; };
};

static void *put(struct message *m, size_t n)
{
    void *at = m->bytes + NLMSG_ALIGN(m->h.nlmsg_len);
    INVARIANT(NLMSG_ALIGN(m->h.nlmsg_len) + n <= sizeof m->bytes);
    m->h.nlmsg_len = NLMSG_ALIGN(m->h.nlmsg_len) + (uint32_t)n;
    return at;
}

/* Returns the family's own header, of n bytes. */
static void *begin(struct message *m, int type, int flags, size_t n)
{
    *m = (struct message){.h = {.nlmsg_len = NLMSG_HDRLEN, .nlmsg_type = (uint16_t)type,
                                .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags)}};
    return put(m, n);
}

static struct nlattr *attribute(struct message *m, int type, const void *data, size_t n)
{
    struct nlattr *a = put(m, NLA_HDRLEN + n);
    *a = (struct nlattr){.nla_len = (uint16_t)(NLA_HDRLEN + n), .nla_type = (uint16_t)type};
    if (n)
        memcpy((uint8_t *)a + NLA_HDRLEN, data, n);
    return a;
}

static void attribute_u32(struct message *m, int type, uint32_t v)
{
    attribute(m, type, &v, sizeof v);
}

static void attribute_address(struct message *m, int type, uint32_t address)
{
    attribute_u32(m, type, htonl(address));
}

static void attribute_text(struct message *m, int type, const char *text)
{
    attribute(m, type, text, strlen(text) + 1);
}

static void attribute_end(struct message *m, struct nlattr *nest)
{
    nest->nla_type |= NLA_F_NESTED;
    nest->nla_len = (uint16_t)(m->bytes + m->h.nlmsg_len - (uint8_t *)nest);
}

/* --- asking --- */

static int open_send(const struct message *m)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0 || send(fd, m, m->h.nlmsg_len, 0) >= 0)
        return fd;
    int failed = errno;
    close(fd);
    errno = failed;
    return -1;
}

static int status_of(const struct nlmsghdr *h)
{
    const struct nlmsgerr *e = NLMSG_DATA(h);
    errno = -e->error;
    return e->error ? -1 : 0;
}

typedef void each_fn(void *ctx, const struct nlmsghdr *h);

/* Calls fn for each message of the answer, up to its end; they come in parts of at most `size` bytes. */
static int answer_each(const struct message *m, uint8_t *bytes, size_t size, each_fn *fn, void *ctx)
{
    int fd = open_send(m), result = fd < 0 ? -1 : 1;
    while (result > 0) {
        ssize_t n = recv(fd, bytes, size, 0);
        if (n <= 0)
            result = -1;
        for (struct nlmsghdr *h = (struct nlmsghdr *)bytes; result > 0 && NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
            if (h->nlmsg_type == NLMSG_DONE)
                result = 0;
            else if (h->nlmsg_type == NLMSG_ERROR)
                result = status_of(h);       /* 0: an acknowledgement, which ends it too */
            else
                fn(ctx, h);
        }
    }
    int failed = errno;
    if (fd >= 0)
        close(fd);
    errno = failed;
    return result;
}

static int ask_each(const struct message *m, each_fn *fn, void *ctx)
{
    CLEANUP_FREE uint8_t *bytes = mem_alloc(ANSWER_MAX);
    return answer_each(m, bytes, ANSWER_MAX, fn, ctx);
}

static void on_nothing(void *ctx, const struct nlmsghdr *h)
{
}

static int ask(const struct message *m)
{
    /* An acknowledgement: on the stack, so that a shim, which asks as well, keeps no memory of it. */
    union { struct nlmsghdr h; uint8_t bytes[2 * MESSAGE_MAX]; } answer;
    return answer_each(m, answer.bytes, sizeof answer.bytes, on_nothing, NULL);
}

static int ask_all(struct message *m, each_fn *fn, void *ctx)
{
    m->h.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    return ask_each(m, fn, ctx);
}

/* The attributes behind a header of n bytes, by type, those below `max`. */
static void attributes(const struct nlmsghdr *h, size_t n, const struct rtattr **out, size_t max)
{
    int left = (int)(h->nlmsg_len - NLMSG_SPACE(n));
    memset(out, 0, max * sizeof *out);
    for (const struct rtattr *a = (const struct rtattr *)((const uint8_t *)h + NLMSG_SPACE(n)); RTA_OK(a, left);
         a = RTA_NEXT(a, left))
        if (a->rta_type < max)
            out[a->rta_type] = a;
}

static uint32_t u32_of(const struct rtattr *a)
{
    uint32_t v = 0;
    if (a && RTA_PAYLOAD(a) >= sizeof v)
        memcpy(&v, RTA_DATA(a), sizeof v);
    return v;
}

/* --- links --- */

static void on_link(void *ctx, const struct nlmsghdr *h)
{
    struct netlink_link *out = ctx;
    const struct rtattr *a[IFLA_IFALIAS + 1];
    if (h->nlmsg_type != RTM_NEWLINK)
        return;
    attributes(h, sizeof(struct ifinfomsg), a, ARRAY_LEN(a));
    out->mtu = (int)u32_of(a[IFLA_MTU]);
    if (a[IFLA_IFALIAS])
        snprintf(out->alias, sizeof out->alias, "%.*s", (int)RTA_PAYLOAD(a[IFLA_IFALIAS]), (const char *)RTA_DATA(a[IFLA_IFALIAS]));
}

int netlink_link_get(int index, struct netlink_link *out)
{
    struct message m;
    struct ifinfomsg *i = begin(&m, RTM_GETLINK, 0, sizeof *i);
    i->ifi_index = index;
    *out = (struct netlink_link){0};
    return ask_each(&m, on_link, out);
}

int netlink_link_up(int index, int mtu)
{
    struct message m;
    struct ifinfomsg *i = begin(&m, RTM_NEWLINK, 0, sizeof *i);
    *i = (struct ifinfomsg){.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    attribute_u32(&m, IFLA_MTU, (uint32_t)mtu);
    return ask(&m);
}

int netlink_link_delete(int index)
{
    struct message m;
    struct ifinfomsg *i = begin(&m, RTM_DELLINK, 0, sizeof *i);
    i->ifi_index = index;
    return ask(&m);
}

int netlink_bridge_add(const char *name)
{
    struct message m;
    struct ifinfomsg *i = begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof *i);
    *i = (struct ifinfomsg){.ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    attribute_text(&m, IFLA_IFNAME, name);
    struct nlattr *info = attribute(&m, IFLA_LINKINFO, NULL, 0);
    attribute_text(&m, IFLA_INFO_KIND, "bridge");
    attribute_end(&m, info);
    return ask(&m);
}

int netlink_veth_add(const char *name, int master, int mtu, const char *peer, int peer_namespace)
{
    struct message m;
    struct ifinfomsg *i = begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof *i);
    *i = (struct ifinfomsg){.ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    attribute_text(&m, IFLA_IFNAME, name);
    attribute_u32(&m, IFLA_MTU, (uint32_t)mtu);
    attribute_u32(&m, IFLA_MASTER, (uint32_t)master);
    struct nlattr *info = attribute(&m, IFLA_LINKINFO, NULL, 0);
    attribute_text(&m, IFLA_INFO_KIND, "veth");
    struct nlattr *data = attribute(&m, IFLA_INFO_DATA, NULL, 0);
    struct nlattr *other = attribute(&m, VETH_INFO_PEER, NULL, 0);
    *(struct ifinfomsg *)put(&m, sizeof *i) = (struct ifinfomsg){0};
    attribute_text(&m, IFLA_IFNAME, peer);
    attribute_u32(&m, IFLA_MTU, (uint32_t)mtu);
    attribute_u32(&m, IFLA_NET_NS_FD, (uint32_t)peer_namespace);
    attribute_end(&m, other);
    attribute_end(&m, data);
    attribute_end(&m, info);
    return ask(&m);
}

int netlink_port_add(int index, int master)
{
    struct message m;
    struct ifinfomsg *i = begin(&m, RTM_SETLINK, 0, sizeof *i);
    i->ifi_index = index;
    attribute_u32(&m, IFLA_MASTER, (uint32_t)master);
    return ask(&m);
}

int netlink_port_isolate(int index)
{
    struct message m;
    uint8_t yes = 1;
    struct ifinfomsg *i = begin(&m, RTM_SETLINK, 0, sizeof *i);
    *i = (struct ifinfomsg){.ifi_family = AF_BRIDGE, .ifi_index = index};
    struct nlattr *port = attribute(&m, IFLA_PROTINFO, NULL, 0);
    attribute(&m, IFLA_BRPORT_ISOLATED, &yes, sizeof yes);
    attribute_end(&m, port);
    return ask(&m);
}

int netlink_vxlan_add(const struct netlink_vxlan *v)
{
    struct message m;
    uint16_t port = htons(v->port);
    uint8_t no = 0;
    begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
    attribute_text(&m, IFLA_IFNAME, v->name);
    attribute(&m, IFLA_ADDRESS, v->mac, sizeof v->mac);
    struct nlattr *info = attribute(&m, IFLA_LINKINFO, NULL, 0);
    attribute_text(&m, IFLA_INFO_KIND, "vxlan");
    struct nlattr *data = attribute(&m, IFLA_INFO_DATA, NULL, 0);
    attribute_u32(&m, IFLA_VXLAN_ID, v->vni);
    attribute_address(&m, IFLA_VXLAN_LOCAL, v->local);
    attribute(&m, IFLA_VXLAN_PORT, &port, sizeof port);
    attribute(&m, IFLA_VXLAN_LEARNING, &no, sizeof no);
    attribute_end(&m, data);
    attribute_end(&m, info);
    if (ask(&m) < 0)
        return -1;
    /* The kernel passes over an alias of a link that is made. */
    struct ifinfomsg *i = begin(&m, RTM_SETLINK, 0, sizeof *i);
    i->ifi_index = (int)if_nametoindex(v->name);
    attribute_text(&m, IFLA_IFALIAS, v->alias);
    return ask(&m);
}

/* --- addresses --- */

struct address_walk { void (*fn)(void *ctx, const struct netlink_address *a); void *ctx; };

static void on_address(void *ctx, const struct nlmsghdr *h)
{
    const struct address_walk *w = ctx;
    const struct rtattr *a[IFA_MAX + 1];
    const struct ifaddrmsg *m = NLMSG_DATA(h);
    if (h->nlmsg_type != RTM_NEWADDR || m->ifa_family != AF_INET)
        return;
    attributes(h, sizeof *m, a, ARRAY_LEN(a));
    w->fn(w->ctx, &(struct netlink_address){.address = ntohl(u32_of(a[IFA_LOCAL] ? a[IFA_LOCAL] : a[IFA_ADDRESS])),
                                            .index = (int)m->ifa_index});
}

int netlink_addresses(void (*fn)(void *ctx, const struct netlink_address *a), void *ctx)
{
    struct message m;
    struct ifaddrmsg *i = begin(&m, RTM_GETADDR, 0, sizeof *i);
    i->ifa_family = AF_INET;
    return ask_all(&m, on_address, &(struct address_walk){fn, ctx});
}

/* --- routes --- */

struct route_walk { void (*fn)(void *ctx, const struct netlink_route *r); void *ctx; };

static void on_route(void *ctx, const struct nlmsghdr *h)
{
    const struct route_walk *w = ctx;
    const struct rtattr *a[RTA_MAX + 1];
    const struct rtmsg *m = NLMSG_DATA(h);
    if (h->nlmsg_type != RTM_NEWROUTE || m->rtm_family != AF_INET || m->rtm_table != RT_TABLE_MAIN)
        return;
    attributes(h, sizeof *m, a, ARRAY_LEN(a));
    w->fn(w->ctx, &(struct netlink_route){
        .to = {ntohl(u32_of(a[RTA_DST])), m->rtm_dst_len}, .gateway = ntohl(u32_of(a[RTA_GATEWAY])),
        .source = ntohl(u32_of(a[RTA_PREFSRC])), .index = (int)u32_of(a[RTA_OIF]), .protocol = m->rtm_protocol,
        .on_link = m->rtm_flags & RTNH_F_ONLINK, .connected = m->rtm_scope == RT_SCOPE_LINK,
    });
}

int netlink_routes(void (*fn)(void *ctx, const struct netlink_route *r), void *ctx)
{
    struct message m;
    struct rtmsg *r = begin(&m, RTM_GETROUTE, 0, sizeof *r);
    r->rtm_family = AF_INET;
    return ask_all(&m, on_route, &(struct route_walk){fn, ctx});
}

static int route_ask(const struct netlink_route *r, int type, int flags)
{
    struct message m;
    struct rtmsg *head = begin(&m, type, flags, sizeof *head);
    *head = (struct rtmsg){.rtm_family = AF_INET, .rtm_dst_len = (uint8_t)r->to.bits, .rtm_table = RT_TABLE_MAIN,
                           .rtm_protocol = NETLINK_PROTOCOL, .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST,
                           .rtm_flags = r->on_link ? RTNH_F_ONLINK : 0};
    attribute_address(&m, RTA_DST, r->to.base);
    if (r->gateway)
        attribute_address(&m, RTA_GATEWAY, r->gateway);
    if (r->source)
        attribute_address(&m, RTA_PREFSRC, r->source);
    if (r->index)
        attribute_u32(&m, RTA_OIF, (uint32_t)r->index);
    return ask(&m);
}

int netlink_route_set(const struct netlink_route *r)
{
    return route_ask(r, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
}

int netlink_route_delete(const struct netlink_route *r)
{
    return route_ask(r, RTM_DELROUTE, 0);
}

/* --- neighbours --- */

int netlink_neighbour_set(int index, uint32_t ip, const uint8_t mac[static NETLINK_MAC_LEN])
{
    struct message m;
    struct ndmsg *n = begin(&m, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, sizeof *n);
    *n = (struct ndmsg){.ndm_family = AF_INET, .ndm_ifindex = index, .ndm_state = NUD_PERMANENT};
    attribute_address(&m, NDA_DST, ip);
    attribute(&m, NDA_LLADDR, mac, NETLINK_MAC_LEN);
    return ask(&m);
}

int netlink_neighbour_delete(int index, uint32_t ip)
{
    struct message m;
    struct ndmsg *n = begin(&m, RTM_DELNEIGH, 0, sizeof *n);
    *n = (struct ndmsg){.ndm_family = AF_INET, .ndm_ifindex = index};
    attribute_address(&m, NDA_DST, ip);
    return ask(&m);
}

int netlink_fdb_set(int index, const uint8_t mac[static NETLINK_MAC_LEN], uint32_t to)
{
    struct message m;
    struct ndmsg *n = begin(&m, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, sizeof *n);
    *n = (struct ndmsg){.ndm_family = AF_BRIDGE, .ndm_ifindex = index, .ndm_state = NUD_PERMANENT | NUD_NOARP,
                        .ndm_flags = NTF_SELF};
    attribute(&m, NDA_LLADDR, mac, NETLINK_MAC_LEN);
    attribute_address(&m, NDA_DST, to);
    return ask(&m);
}

int netlink_fdb_delete(int index, const uint8_t mac[static NETLINK_MAC_LEN])
{
    struct message m;
    struct ndmsg *n = begin(&m, RTM_DELNEIGH, 0, sizeof *n);
    *n = (struct ndmsg){.ndm_family = AF_BRIDGE, .ndm_ifindex = index, .ndm_state = NUD_PERMANENT, .ndm_flags = NTF_SELF};
    attribute(&m, NDA_LLADDR, mac, NETLINK_MAC_LEN);
    return ask(&m);
}
