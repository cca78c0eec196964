/* The network of a node's machines: a bridge with the first address of firecracker.network, a tap for each machine, and
 * rules, all of which are made from what DIR/net/SLOT says of each machine that has a number. The rules are written anew
 * as a whole at each change, in one transaction, so they are right whatever was killed before.
 *
 * Ports of the bridge are isolated: no frame goes from one machine to another. The bridge answers for all of them
 * (proxy_arp_pvlan) and routes, so that the rules see every packet: machines of one job reach each other, others do not;
 * what is published is reached by the host's address from everywhere; a machine sends only from its own address. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/drivers/firecracker.h"
#include "agent/tool.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#define BRIDGE_NAME_MAX 9            /* a tap is BRIDGE.SLOT, of at most 15 characters */
#define SLOTS_MAX 60000
#define NFT_TIMEOUT_MS 30000
#define FACTS_MAX 65536

struct network {
    struct firecracker *f;
    char bridge[BRIDGE_NAME_MAX + 1];
    uint32_t base;                   /* host byte order */
    int bits;
    bool ready;                      /* bridge and rules were made by this process */
};

/* --- addresses --- */

static int network_parse(const char *text, uint32_t *base, int *bits)
{
    char host[INET_ADDRSTRLEN], rest;
    struct in_addr a;
    if (sscanf(text, "%15[0-9.]/%d%c", host, bits, &rest) != 2 || inet_pton(AF_INET, host, &a) != 1 || *bits < 16 || *bits > 29)
        return -1;
    *base = ntohl(a.s_addr);
    return *base & (~0u >> *bits) ? -1 : 0;
}

int network_open(struct firecracker *f, struct network **out, struct error *err)
{
    const struct firecracker_config *c = f->config;
    struct network n = {.f = f};
    if (strlen(c->bridge) > BRIDGE_NAME_MAX || !*c->bridge || strpbrk(c->bridge, "/\" ."))
        return error_set(err, ERROR_INVALID, "firecracker.bridge: `%s` is no name of at most %d characters", c->bridge,
                         BRIDGE_NAME_MAX);
    if (network_parse(c->network, &n.base, &n.bits) < 0)
        return error_set(err, ERROR_INVALID, "firecracker.network: `%s` is no network such as 10.88.0.0/24 (from /16 to /29)",
                         c->network);
    strcpy(n.bridge, c->bridge);
    *out = mem_dup(&n, sizeof n);
    return 0;
}

void network_close(struct network *n)
{
    free(n);
}

int network_first(const struct network *n)
{
    return 2;
}

int network_last(const struct network *n)
{
    int last = (int)(~0u >> n->bits) - 1;
    return last < SLOTS_MAX ? last : SLOTS_MAX;
}

char *network_address(const struct network *n, int slot)
{
    char text[INET_ADDRSTRLEN];
    struct in_addr a = {.s_addr = htonl(n->base + (uint32_t)slot)};
    return mem_strdup(inet_ntop(AF_INET, &a, text, sizeof text));
}

char *network_address_bits(const struct network *n, int slot)
{
    CLEANUP_FREE char *address = network_address(n, slot);
    return mem_printf("%s/%d", address, n->bits);
}

char *network_gateway(const struct network *n)
{
    return network_address(n, 1);
}

/* Locally administered, and the address in it. */
char *network_mac(const struct network *n, int slot)
{
    uint32_t a = n->base + (uint32_t)slot;
    return mem_printf("06:00:%02x:%02x:%02x:%02x", a >> 24, a >> 16 & 0xff, a >> 8 & 0xff, a & 0xff);
}

char *network_tap(const struct network *n, int slot)
{
    return mem_printf("%s.%d", n->bridge, slot);
}

/* --- interfaces --- */

static int interface_flags_up(int fd, const char *name)
{
    struct ifreq r = {0};
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    if (ioctl(fd, SIOCGIFFLAGS, &r) < 0)
        return -1;
    r.ifr_flags |= IFF_UP;
    return ioctl(fd, SIOCSIFFLAGS, &r);
}

static int interface_address(int fd, const char *name, uint32_t address, int bits)
{
    struct ifreq r = {0};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    memcpy(&r.ifr_addr, &in, sizeof in);
    if (ioctl(fd, SIOCSIFADDR, &r) < 0)
        return -1;
    in.sin_addr.s_addr = htonl(~0u << (32 - bits));
    memcpy(&r.ifr_netmask, &in, sizeof in);
    return ioctl(fd, SIOCSIFNETMASK, &r);
}

/* Below /proc/sys/net/ipv4; in the bridge's own part of a folder, when one is given. */
static int setting_write(const struct network *n, const char *folder, const char *name, char value, struct error *err)
{
    bool own = *folder;
    CLEANUP_FREE char *path = mem_printf("/proc/sys/net/ipv4/%s%s%s%s", folder, own ? n->bridge : "", own ? "/" : "", name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int result = fd < 0 || write(fd, &value, 1) != 1 ? error_set_errno(err, errno, "cannot set %s", path) : 0;
    if (fd >= 0)
        close(fd);
    return result;
}

static int bridge_make(const struct network *n, struct error *err)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int result = 0;
    if (fd < 0 || (ioctl(fd, SIOCBRADDBR, n->bridge) < 0 && errno != EEXIST) ||
        interface_address(fd, n->bridge, n->base + 1, n->bits) < 0 || interface_flags_up(fd, n->bridge) < 0)
        result = error_set_errno(err, errno, "cannot make the bridge %s", n->bridge);
    if (fd >= 0)
        close(fd);
    if (result < 0)
        return -1;
    return setting_write(n, "", "ip_forward", '1', err) < 0 || setting_write(n, "conf/", "route_localnet", '1', err) < 0
        || setting_write(n, "conf/", "proxy_arp_pvlan", '1', err) < 0
        /* It answers for others at once, not after up to 0.8 s. */
        || setting_write(n, "neigh/", "proxy_delay", '0', err) < 0 ? -1 : 0;
}

/* Sets IFLA_BRPORT_ISOLATED: no ioctl does. */
static int port_isolate(int index)
{
    struct {
        struct nlmsghdr h;
        struct ifinfomsg i;
        struct nlattr info, isolated;
        uint8_t value, pad[3];
    } m = {
        .h = {.nlmsg_len = sizeof m, .nlmsg_type = RTM_SETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
        .i = {.ifi_family = AF_BRIDGE, .ifi_index = index},
        .info = {.nla_len = sizeof m.info + sizeof m.isolated + 4, .nla_type = IFLA_PROTINFO | NLA_F_NESTED},
        .isolated = {.nla_len = sizeof m.isolated + 1, .nla_type = IFLA_BRPORT_ISOLATED}, .value = 1,
    };
    struct { struct nlmsghdr h; struct nlmsgerr e; char more[256]; } answer = {0};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return -1;
    ssize_t got = send(fd, &m, sizeof m, 0) < 0 ? -1 : recv(fd, &answer, sizeof answer, 0);
    close(fd);
    if (got < (ssize_t)(sizeof answer.h + sizeof answer.e.error))
        return -1;
    errno = -answer.e.error;
    return answer.e.error ? -1 : 0;
}

/* keep false: it goes. */
static int tap_set(const char *name, uid_t uid, bool keep)
{
    struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC), result = -1;
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    if (fd >= 0 && ioctl(fd, TUNSETIFF, &r) == 0 && (!keep || ioctl(fd, TUNSETOWNER, (unsigned long)uid) == 0)
        && ioctl(fd, TUNSETPERSIST, (unsigned long)keep) == 0)
        result = 0;
    int failed = errno;
    if (fd >= 0)
        close(fd);
    errno = failed;
    return result;
}

static int tap_make(const struct network *n, const char *name, uid_t uid, struct error *err)
{
    if (tap_set(name, uid, true) < 0)
        return error_set_errno(err, errno, "cannot make the tap device %s", name);
    struct ifreq r = {.ifr_ifindex = (int)if_nametoindex(name)};
    int index = r.ifr_ifindex, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), result = 0;
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", n->bridge);
    if (fd < 0 || (ioctl(fd, SIOCBRADDIF, &r) < 0 && errno != EBUSY) || port_isolate(index) < 0
        || interface_flags_up(fd, name) < 0)
        result = error_set_errno(err, errno, "cannot put the tap device %s on the bridge %s", name, n->bridge);
    if (fd >= 0)
        close(fd);
    return result;
}

/* --- what the rules are made from: "job NAME", "tcp HOST PORT", "udp HOST PORT" --- */

static char *facts_path(const struct network *n, int slot)
{
    return mem_printf("%s/net/%d", n->f->dir, slot);
}

static int facts_write(const struct network *n, int slot, const struct machine *m, struct error *err)
{
    CLEANUP_FREE char *folder = mem_printf("%s/net", n->f->dir), *path = facts_path(n, slot);
    CLEANUP_BUF struct buf b = {0};
    buf_printf(&b, "job %s\n", m->job);
    for (uint32_t i = 0; i < m->ports.n; i++)
        buf_printf(&b, "%s %lld %lld\n", m->ports.v[i].protocol == PROTOCOL_UDP ? "udp" : "tcp",
                   (long long)m->ports.v[i].host, (long long)m->ports.v[i].port);
    return dir_make(folder, 0700, err) < 0 ? -1 : file_write(path, b.data, b.len, 0600, err);
}

struct facts { int slot; char *job, *text; };

static int facts_read_all(const struct network *n, struct facts **out)
{
    struct str_list ids = {0};
    int count = 0;
    slots_list(n->f->dir, &ids);
    *out = mem_array(ids.n + 1, sizeof **out);
    for (uint32_t i = 0; i < ids.n; i++) {
        CLEANUP_BUF struct buf text = {0};
        int slot = slot_find(n->f->dir, ids.v[i]);
        CLEANUP_FREE char *path = facts_path(n, slot);
        if (slot < 0 || file_read(path, FACTS_MAX, &text, NULL) < 0 || strncmp(text.data, "job ", 4) != 0)
            continue;
        (*out)[count++] = (struct facts){.slot = slot, .job = mem_strndup(text.data + 4, strcspn(text.data + 4, "\n")),
                                         .text = buf_steal(&text)};
    }
    str_list_clear(&ids);
    return count;
}

static void facts_free(struct facts *f, int n)
{
    for (int i = 0; i < n; i++) {
        free(f[i].job);
        free(f[i].text);
    }
    free(f);
}

/* --- rules --- */

static void add_published(const struct network *n, const struct facts *f, const char *protocol, struct buf *b)
{
    CLEANUP_FREE char *ip = network_address(n, f->slot), *text = mem_strdup(f->text);
    char *rest = NULL;
    int host, port;
    char kind[8];
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        if (sscanf(line, "%7s %d %d", kind, &host, &port) == 3 && !strcmp(kind, protocol))
            buf_printf(b, "add element inet mentat_%s ports_%s { %s . %d : %s . %d }\n", n->bridge, protocol, n->f->env->ip, host, ip,
                       port);
}

static void add_elements(const struct network *n, const struct facts *f, int count, struct buf *b)
{
    for (int i = 0; i < count; i++) {
        CLEANUP_FREE char *ip = network_address(n, f[i].slot), *mac = network_mac(n, f[i].slot);
        CLEANUP_FREE char *tap = network_tap(n, f[i].slot);
        buf_printf(b, "add element bridge mentat_%s sources { %s . %s . %s }\n", n->bridge, tap, mac, ip);
        add_published(n, &f[i], "tcp", b);
        add_published(n, &f[i], "udp", b);
        for (int k = 0; k < count; k++) {
            CLEANUP_FREE char *other = network_address(n, f[k].slot);
            if (k != i && !strcmp(f[i].job, f[k].job))
                buf_printf(b, "add element inet mentat_%s pairs { %s . %s }\n", n->bridge, ip, other);
        }
    }
}

static void add_chains(const struct network *n, struct buf *b)
{
    CLEANUP_FREE char *net = network_address_bits(n, 0);
    const char *br = n->bridge;
    static const char *const translating[] = {"prerouting", "output"};
    buf_printf(b, "table inet mentat_%s {\n"
        "  map ports_tcp { type ipv4_addr . inet_service : ipv4_addr . inet_service; }\n"
        "  map ports_udp { type ipv4_addr . inet_service : ipv4_addr . inet_service; }\n"
        "  set pairs { type ipv4_addr . ipv4_addr; }\n", br);
    for (size_t i = 0; i < ARRAY_LEN(translating); i++)
        buf_printf(b, "  chain %s {\n    type nat hook %s priority -100; policy accept;\n"
            "    meta l4proto tcp dnat ip to ip daddr . tcp dport map @ports_tcp\n"
            "    meta l4proto udp dnat ip to ip daddr . udp dport map @ports_udp\n  }\n", translating[i], translating[i]);
    buf_printf(b, "  chain postrouting {\n    type nat hook postrouting priority 100; policy accept;\n"
        "    ip saddr %s oifname != \"%s\" masquerade\n"
        "    iifname \"%s\" oifname \"%s\" ct status dnat masquerade\n"
        "    ip saddr 127.0.0.0/8 oifname \"%s\" masquerade\n  }\n", net, br, br, br, br);
    buf_printf(b, "  chain raw {\n    type filter hook prerouting priority -300; policy accept;\n"
        "    iifname \"%s\" ip daddr 127.0.0.0/8 drop\n  }\n", br);
    buf_printf(b, "  chain forward {\n    type filter hook forward priority 0; policy accept;\n"
        "    oifname != \"%s\" accept\n"
        "    ct state established,related accept\n"
        "    ct status dnat accept\n"
        "    iifname \"%s\" ip saddr . ip daddr @pairs accept\n"
        "    drop\n  }\n}\n", br, br);
    /* Only IPv4 and ARP, only from one's own address. */
    buf_printf(b, "table bridge mentat_%s {\n  set sources { type ifname . ether_addr . ipv4_addr; }\n"
        "  chain prerouting {\n    type filter hook prerouting priority -300; policy accept;\n"
        "    iifname != \"%s.*\" accept\n"
        "    ether type ip iifname . ether saddr . ip saddr @sources accept\n"
        "    ether type arp iifname . ether saddr . arp saddr ip @sources accept\n"
        "    drop\n  }\n}\n", br, br);
}

static int nft(const struct buf *text, struct error *err)
{
    const char *const argv[] = {"nft", "-f", "-", NULL};
    if (tool_run(&(struct tool){.argv = argv, .input = text->data, .input_len = text->len, .timeout_ms = NFT_TIMEOUT_MS},
                 NULL, err) == 0)
        return 0;
    return error_context(err, "the rules of microVMs' network");
}

static void add_removal(const struct network *n, struct buf *b)
{
    static const char *const families[] = {"inet", "bridge"};
    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        buf_printf(b, "table %s mentat_%s { }\ndelete table %s mentat_%s\n", families[i], n->bridge, families[i], n->bridge);
}

static int rules_write(const struct network *n, struct error *err)
{
    CLEANUP_BUF struct buf b = {0};
    struct facts *facts;
    int count = facts_read_all(n, &facts);
    add_removal(n, &b);
    add_chains(n, &b);
    add_elements(n, facts, count, &b);
    facts_free(facts, count);
    return nft(&b, err);
}

/* --- beside Docker: its engine drops what is forwarded and not its own, but for what this chain of users' rules accepts.
 * Ours still hold: they are in tables of their own, and a packet must pass both. --- */

#define DOCKER_CHAIN "DOCKER-USER"

static bool iptables(const char *const *argv)
{
    return tool_run(&(struct tool){.argv = argv, .timeout_ms = NFT_TIMEOUT_MS}, NULL, NULL) == 0;
}

static void docker_rules(const struct network *n, bool there)
{
    static const char *const sides[] = {"-i", "-o"};
    const char *const look[] = {"iptables", "-w", "-n", "-L", DOCKER_CHAIN, NULL};
    if (!iptables(look))
        return;
    for (size_t i = 0; i < ARRAY_LEN(sides); i++) {
        const char *const rule[] = {"iptables", "-w", "-C", DOCKER_CHAIN, sides[i], n->bridge, "-j", "ACCEPT", NULL};
        const char *const change[] = {"iptables", "-w", there ? "-I" : "-D", DOCKER_CHAIN, sides[i], n->bridge, "-j", "ACCEPT",
                                      NULL};
        if (iptables(rule) != there && !iptables(change))
            LOG_W("the rules of Docker do not let the microVMs' packets pass", "chain", DOCKER_CHAIN, "bridge", n->bridge);
    }
}

/* --- machines --- */

int network_attach(struct network *n, int slot, uid_t uid, const struct machine *m, struct error *err)
{
    CLEANUP_FREE char *tap = network_tap(n, slot);
    uv_mutex_lock(&n->f->lock);
    int result = facts_write(n, slot, m, err);
    if (result == 0 && !n->ready)
        result = bridge_make(n, err);
    if (result == 0)
        result = tap_make(n, tap, uid, err);
    if (result == 0)
        result = rules_write(n, err);
    if (result == 0)
        docker_rules(n, true);
    n->ready = n->ready || result == 0;
    uv_mutex_unlock(&n->f->lock);
    return result;
}

void network_detach(struct network *n, int slot)
{
    struct error err = {0};
    CLEANUP_FREE char *tap = network_tap(n, slot), *path = facts_path(n, slot);
    uv_mutex_lock(&n->f->lock);
    bool attached = unlink(path) == 0;
    if (if_nametoindex(tap) && tap_set(tap, 0, false) < 0)
        LOG_W("a tap device stays", "tap", tap, "error", strerror(errno));
    if (attached && rules_write(n, &err) < 0)
        LOG_W("rules stay as they were", "error", err.text);
    uv_mutex_unlock(&n->f->lock);
}

void network_remove(struct network *n)
{
    struct error err = {0};
    struct str_list ids = {0};
    CLEANUP_BUF struct buf b = {0};
    slots_list(n->f->dir, &ids);
    bool used = ids.n > 0;
    str_list_clear(&ids);
    if (used || !if_nametoindex(n->bridge))
        return;
    docker_rules(n, false);
    add_removal(n, &b);
    if (nft(&b, &err) < 0)
        LOG_W("rules stay", "error", err.text);
    struct ifreq r = {0};
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", n->bridge);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &r) < 0 || ioctl(fd, SIOCBRDELBR, n->bridge) < 0)
        LOG_W("the bridge stays", "bridge", n->bridge, "error", strerror(errno));
    if (fd >= 0)
        close(fd);
    n->ready = false;
}
