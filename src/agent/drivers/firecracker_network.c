/* The network of a node's machines: a bridge with the first address of the node's part, a port of it for each machine
 * (firecracker_ports.c), and rules, all of which are made from what DIR/net/SLOT says of each machine that has a number, and
 * from what the servers said last (DIR/network.json), so that machines go on as they were while no server is reached.
 *
 * Ports of the bridge are isolated: no frame goes from one machine to another. The bridge answers for all of them
 * (proxy_arp_pvlan) and routes, so that the rules see every packet: machines of one job reach each other, others do not;
 * what is published is reached by the host's address from everywhere; a machine sends only from its own address.
 *
 * The node's part is what agent.yaml says, or what the servers gave it. Another one than before is taken when no machine has
 * a number any more. */
#include "agent/drivers/firecracker_network.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/netlink.h"
#include "agent/tool.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/timefmt.h"

#define SLOTS_MAX 60000
#define IPTABLES_TIMEOUT_MS 30000
#define FACTS_MAX 65536
#define TABLE_MAX (64u << 20)
#define PART_ALONE "10.88.0.0/24"    /* of a node whose servers have no network for all */

static char *net_path(const struct network *n, const char *name)
{
    return mem_printf("%s/net/%s", n->f->dir, name);
}

static char *table_path(const struct network *n)
{
    return mem_printf("%s/network.json", n->f->dir);
}

static bool is_auto(const struct network *n)
{
    return !strcmp(n->f->config->network, NETWORK_AUTO);
}

/* --- addresses --- */

static int part_parse(const char *text, struct net4 *out)
{
    return net4_parse(text, out) && out->bits >= 16 && out->bits <= 29 ? 0 : -1;
}

int network_last_slot(const struct network *n)
{
    int last = (int)~net4_mask(n->own.bits) - 1;
    return last < SLOTS_MAX ? last : SLOTS_MAX;
}

char *network_address(const struct network *n, int slot)
{
    char text[NET4_TEXT_SIZE];
    ip4_format(text, n->own.base + (uint32_t)slot);
    return mem_strdup(text);
}

char *network_address_bits(const struct network *n, int slot)
{
    CLEANUP_FREE char *address = network_address(n, slot);
    return mem_printf("%s/%d", address, n->own.bits);
}

char *network_gateway(const struct network *n)
{
    return network_address(n, 1);
}

/* Locally administered, and the address in it. */
char *network_mac(const struct network *n, int slot)
{
    uint32_t a = n->own.base + (uint32_t)slot;
    return mem_printf("06:00:%02x:%02x:%02x:%02x", a >> 24, a >> 16 & 0xff, a >> 8 & 0xff, a & 0xff);
}

int network_mtu(const struct network *n)
{
    return link_mtu(n);
}

/* --- interfaces --- */

static int interface_address(int fd, const char *name, uint32_t address, int bits)
{
    struct ifreq r = {0};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    memcpy(&r.ifr_addr, &in, sizeof in);
    if (ioctl(fd, SIOCSIFADDR, &r) < 0)
        return -1;
    in.sin_addr.s_addr = htonl(net4_mask(bits));
    memcpy(&r.ifr_netmask, &in, sizeof in);
    return ioctl(fd, SIOCSIFNETMASK, &r);
}

/* A bridge takes the lowest of its ports' addresses in hardware, unless one was set: machines would know another one than it has
 * whenever a port comes or goes. What it has stays: machines may know that. */
static int hardware_address_keep(int fd, const char *name)
{
    struct ifreq r = {0};
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    return ioctl(fd, SIOCGIFHWADDR, &r) < 0 ? -1 : ioctl(fd, SIOCSIFHWADDR, &r);
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
        hardware_address_keep(fd, n->bridge) < 0 || interface_address(fd, n->bridge, n->own.base + 1, n->own.bits) < 0
        || netlink_link_up((int)if_nametoindex(n->bridge), link_mtu(n)) < 0)
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

static void bridge_remove(const struct network *n)
{
    int index = (int)if_nametoindex(n->bridge);
    if (index && netlink_link_delete(index) < 0)
        LOG_W("the bridge stays", "bridge", n->bridge, "error", strerror(errno));
}

/* --- what the rules are made from --- */

static char *facts_path(const struct network *n, int slot)
{
    CLEANUP_FREE char *name = mem_printf("%d", slot);
    return net_path(n, name);
}

static struct network_facts *facts_find(const struct network *n, int slot)
{
    for (uint32_t i = 0; i < n->n_facts; i++)
        if (n->facts[i].slot == slot)
            return &n->facts[i];
    return NULL;
}

static void facts_drop(struct network *n, int slot)
{
    struct network_facts *f = facts_find(n, slot);
    if (!f)
        return;
    uv_mutex_lock(&n->loop_lock);
    free(f->job);
    free(f->text);
    memmove(f, f + 1, (size_t)(n->facts + --n->n_facts - f) * sizeof *f);
    uv_mutex_unlock(&n->loop_lock);
}

/* Takes the text when it is one of facts. */
static void facts_add(struct network *n, int slot, struct buf *text)
{
    if (!text->data || strncmp(text->data, "job ", 4) != 0)
        return;
    facts_drop(n, slot);
    uv_mutex_lock(&n->loop_lock);
    uint32_t at = n->n_facts;
    n->facts = mem_realloc_array(n->facts, n->n_facts + 1, sizeof *n->facts);
    while (at && n->facts[at - 1].slot > slot)
        at--;
    memmove(n->facts + at + 1, n->facts + at, (n->n_facts++ - at) * sizeof *n->facts);
    n->facts[at] = (struct network_facts){.slot = slot, .job = mem_strndup(text->data + 4, strcspn(text->data + 4, "\n")),
                                          .text = buf_steal(text)};
    uv_mutex_unlock(&n->loop_lock);
}

static int facts_write(struct network *n, int slot, const struct machine *m, struct error *err)
{
    CLEANUP_FREE char *folder = net_path(n, ""), *path = facts_path(n, slot);
    CLEANUP_BUF struct buf b = {0};
    buf_printf(&b, "job %s\n", m->job);
    for (uint32_t i = 0; i < m->ports.n; i++)
        buf_printf(&b, "%s %lld %lld\n", m->ports.v[i].protocol == PROTOCOL_UDP ? "udp" : "tcp",
                   (long long)m->ports.v[i].host, (long long)m->ports.v[i].port);
    /* No machine outlives what a sync is for. One that is cut off is none of facts. */
    if (dir_make(folder, 0700, err) < 0 || file_put(path, b.data, b.len, 0600, err) < 0)
        return -1;
    facts_add(n, slot, &b);
    return 0;
}

static void facts_read_all(struct network *n)
{
    struct str_list ids = {0};
    slots_list(n->f->dir, &ids);
    for (uint32_t i = 0; i < ids.n; i++) {
        CLEANUP_BUF struct buf text = {0};
        int slot = slot_find(n->f->dir, ids.v[i]);
        CLEANUP_FREE char *path = facts_path(n, slot);
        if (slot >= 0 && file_read(path, FACTS_MAX, &text, NULL) == 0)
            facts_add(n, slot, &text);
    }
    str_list_clear(&ids);
}

char *network_job_of(struct network *n, uint32_t address)
{
    uv_mutex_lock(&n->loop_lock);
    const struct network_facts *f = n->own.bits && (address & net4_mask(n->own.bits)) == n->own.base
        ? facts_find(n, (int)(address - n->own.base)) : NULL;
    char *job = f ? mem_strdup(f->job) : NULL;
    uv_mutex_unlock(&n->loop_lock);
    return job;
}

uint32_t network_bridge_address(struct network *n)
{
    uv_mutex_lock(&n->loop_lock);
    uint32_t address = n->own.bits ? n->own.base + 1 : 0;
    uv_mutex_unlock(&n->loop_lock);
    return address;
}

/* --- beside Docker: its engine drops what is forwarded and not its own, but for what this chain of users' rules accepts.
 * Ours still hold: they are in tables of their own, and a packet must pass both. --- */

#define DOCKER_CHAIN "DOCKER-USER"
#define DOCKER_LOOK_MS 10000

static bool iptables(const char *const *argv)
{
    return tool_run(&(struct tool){.argv = argv, .timeout_ms = IPTABLES_TIMEOUT_MS}, NULL, NULL) == 0;
}

/* Its chain comes and goes with the engine. */
static void docker_rules(struct network *n, bool there)
{
    static const char *const sides[] = {"-i", "-o"};
    int64_t now = time_monotonic_ms();
    if (there && n->docker_at && now - n->docker_at < DOCKER_LOOK_MS)
        return;
    n->docker_at = there ? now : 0;
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

/* --- what the servers say --- */

static void table_read(struct network *n)
{
    CLEANUP_FREE char *path = table_path(n);
    CLEANUP_BUF struct buf text = {0};
    struct problem_list problems = {0};
    if (file_read(path, TABLE_MAX, &text, NULL) == 0
        && type_from_json(&agent_network_type, text.data, text.len, true, &n->table, &problems) < 0)
        LOG_W("what the servers said of the network cannot be read", "path", path);
    problem_list_clear(&problems);
}

static void table_write(const struct network *n)
{
    struct error err = {0};
    CLEANUP_FREE char *path = table_path(n);
    CLEANUP_BUF struct buf text = {0};
    type_to_json(&agent_network_type, &n->table, &text);
    if (file_write(path, text.data, text.len, 0600, &err) < 0)
        LOG_W("what the servers said of the network cannot be stored", "error", err.text);
}

/* The part that this node should have; bits 0: none. */
static struct net4 part_wanted(const struct network *n)
{
    const struct node_network *own = &n->table.own;
    struct net4 part = {0};
    const char *text = !is_auto(n) ? n->f->config->network : own->subnet ? own->subnet : own->problem ? NULL : PART_ALONE;
    if (text && part_parse(text, &part) < 0)
        part = (struct net4){0};
    return part;
}

static void network_down(struct network *n)
{
    struct error err = {0};
    ports_drop(n);
    if (!if_nametoindex(n->bridge))
        return;
    link_remove(n);
    if (rules_remove(n, &err) < 0)
        LOG_W("rules stay", "error", err.text);
    bridge_remove(n);
    n->ready = false;
}

bool network_used(const struct network *n)
{
    struct str_list ids = {0};
    slots_list(n->f->dir, &ids);
    bool some = ids.n > 0;
    str_list_clear(&ids);
    return some;
}

/* With no machine that has a number, a new part takes the old one's place. */
static int part_settle(struct network *n, struct error *err)
{
    struct net4 wanted = part_wanted(n);
    bool used = network_used(n), same = wanted.base == n->own.base && wanted.bits == n->own.bits;
    if (!same && !used) {
        if (n->own.bits)
            network_down(n);
        uv_mutex_lock(&n->loop_lock);
        n->own = wanted;
        uv_mutex_unlock(&n->loop_lock);
    }
    if (!n->own.bits)
        return error_set(err, ERROR_UNAVAILABLE, "this node has no network for microVMs: %s",
                         n->table.own.problem ? n->table.own.problem : "the servers gave it none");
    return used && n->ready ? 0 : link_check_free(n, &n->own, err);
}

const char *network_wanted(const struct network *n)
{
    return n->f->config->network;
}

void network_tell(struct network *n, const struct agent_network *table)
{
    uv_mutex_lock(&n->loop_lock);
    type_clear(&agent_network_type, &n->next);
    if (table)
        type_copy(&agent_network_type, &n->next, table);
    n->news = true;
    uv_mutex_unlock(&n->loop_lock);
}

static void table_take(struct network *n)
{
    uv_mutex_lock(&n->loop_lock);
    bool news = n->news;
    if (news) {
        type_clear(&agent_network_type, &n->table);
        n->table = n->next;
        n->next = (struct agent_network){0};
        n->news = false;
    }
    uv_mutex_unlock(&n->loop_lock);
    if (news)
        table_write(n);
    n->relink |= news;
}

/* What must be done, up to rules that are to be loaded then, appended to `rules`. */
static int follow_prepare(struct network *n, struct buf *rules, struct error *err)
{
    table_take(n);
    if (!n->relink && !n->dirty)
        return 0;
    if (part_settle(n, err) < 0)
        return -1;
    if (!n->n_facts && !n->ready)
        return 0;
    if (n->relink || !n->ready) {
        if (bridge_make(n, err) < 0)
            return -1;
        link_update(n);
    }
    rules_make(n, rules);
    n->dirty = n->relink = false;
    return 0;
}

static int follow(struct network *n, struct error *err)
{
    CLEANUP_BUF struct buf rules = {0};
    uv_mutex_lock(&n->rules_lock);
    uv_mutex_lock(&n->f->lock);
    int result = follow_prepare(n, &rules, err);
    uv_mutex_unlock(&n->f->lock);
    if (rules.len) {
        result = rules_load(&rules, err);
        docker_rules(n, true);
    }
    uv_mutex_lock(&n->f->lock);
    n->ready = result == 0 && (n->ready || rules.len);
    n->dirty |= result < 0;
    uv_mutex_unlock(&n->f->lock);
    uv_mutex_unlock(&n->rules_lock);
    return result;
}

void network_follow(struct network *n)
{
    struct error err = {0};
    bool failed = follow(n, &err) < 0;
    uv_mutex_lock(&n->f->lock);
    if (failed && strcmp(err.text, n->trouble ? n->trouble : "") != 0)
        LOG_W("the network of microVMs is not as it should be", "reason", err.text);
    mem_set_string(&n->trouble, failed ? err.text : NULL);
    uv_mutex_unlock(&n->f->lock);
}

/* --- beginning --- */

int network_open(struct firecracker *f, struct network **out, struct error *err)
{
    const struct firecracker_config *c = f->config;
    struct net4 part;
    if (strlen(c->bridge) > BRIDGE_NAME_MAX || !*c->bridge || strpbrk(c->bridge, "/\" ."))
        return error_set(err, ERROR_INVALID, "firecracker.bridge: `%s` is no name of at most %d characters", c->bridge,
                         BRIDGE_NAME_MAX);
    if (strcmp(c->network, NETWORK_AUTO) != 0 && part_parse(c->network, &part) < 0)
        return error_set(err, ERROR_INVALID, "firecracker.network: `%s` is no network such as 10.88.0.0/24 (from /16 to /29), and "
                         "not `" NETWORK_AUTO "`", c->network);
    struct network *n = NEW(struct network);
    n->f = f;
    uv_mutex_init(&n->loop_lock);
    uv_mutex_init(&n->rules_lock);
    uv_cond_init(&n->made);
    strcpy(n->bridge, c->bridge);
    facts_read_all(n);
    table_read(n);
    n->own = part_wanted(n);
    *out = n;
    return 0;
}

void network_close(struct network *n)
{
    if (!n)
        return;
    while (n->n_facts)
        facts_drop(n, n->facts[0].slot);
    free(n->facts);
    type_clear(&agent_network_type, &n->table);
    type_clear(&agent_network_type, &n->next);
    uv_mutex_destroy(&n->loop_lock);
    uv_mutex_destroy(&n->rules_lock);
    uv_cond_destroy(&n->made);
    free(n->trouble);
    free(n->link_trouble);
    free(n);
}

/* --- machines --- */

int network_slot(struct network *n, const char *id, int *slot, struct error *err)
{
    uv_mutex_lock(&n->f->lock);
    table_take(n);
    int result = part_settle(n, err), ready = ports_first(n);
    if (result == 0 && (!ready || slot_take(n->f->dir, id, ready, ready, slot, NULL) < 0))
        result = slot_take(n->f->dir, id, FIRST_SLOT, network_last_slot(n), slot, err);
    uv_mutex_unlock(&n->f->lock);
    return result;
}

/* Rules take longer than all the rest, as the kernel waits for what uses the old ones. So they are loaded behind the start,
 * once for all machines that came meanwhile (network_follow): until then nothing that a machine sends is let pass, and it
 * has not booted yet. */
int network_attach(struct network *n, int slot, const struct machine *m, struct error *err)
{
    uv_mutex_lock(&n->f->lock);
    int result = facts_write(n, slot, m, err);
    n->dirty |= result == 0;
    bool ready = n->ready;
    uv_mutex_unlock(&n->f->lock);
    return result == 0 && !ready ? follow(n, err) : result;
}

void network_detach(struct network *n, int slot)
{
    CLEANUP_FREE char *path = facts_path(n, slot);
    uv_mutex_lock(&n->f->lock);
    n->dirty |= unlink(path) == 0;
    facts_drop(n, slot);
    port_forget(n, slot);
    uv_mutex_unlock(&n->f->lock);
    port_remove(n, slot);
}

void network_remove(struct network *n)
{
    uv_mutex_lock(&n->f->lock);
    ports_drop(n);
    uv_mutex_unlock(&n->f->lock);
    bool used = network_used(n);
    if (used)
        network_follow(n);
    if (used || !if_nametoindex(n->bridge))
        return;
    docker_rules(n, false);
    network_down(n);
}
