/* The rules of nftables for machines, in tables of their own. They are written anew as a whole at each change, in one
 * transaction, so they are right whatever was killed before.
 *
 * What comes to a machine, or goes from one to another node's, must be of one job on both ends: the job's chain has the
 * addresses of its machines everywhere, as the servers know them. Both nodes look, the one that sends and the one that
 * gets it. */
#include "agent/drivers/firecracker_network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tool.h"
#include "base/mem.h"

#define NFT_TIMEOUT_MS 30000

static char *network_text(const struct network *n)
{
    char text[NET4_TEXT_SIZE];
    net4_format(text, &n->own);
    return mem_strdup(text);
}

/* --- chains --- */

static void add_translation(const struct network *n, const char *net, struct buf *b)
{
    static const char *const translating[] = {"prerouting", "output"};
    const char *br = n->bridge;
    for (size_t i = 0; i < ARRAY_LEN(translating); i++)
        buf_printf(b, "  chain %s {\n    type nat hook %s priority -100; policy accept;\n"
            "    meta l4proto tcp dnat ip to ip daddr . tcp dport map @ports_tcp\n"
            "    meta l4proto udp dnat ip to ip daddr . udp dport map @ports_udp\n  }\n", translating[i], translating[i]);
    buf_printf(b, "  chain postrouting {\n    type nat hook postrouting priority 100; policy accept;\n"
        "    ip saddr %s ip daddr != @remote oifname != \"%s\" masquerade\n"
        "    iifname \"%s\" oifname \"%s\" ct status dnat masquerade\n"
        "    ip saddr 127.0.0.0/8 oifname \"%s\" masquerade\n  }\n", net, br, br, br, br);
}

static void add_filter(const struct network *n, const char *net, struct buf *b)
{
    const struct node_network *own = &n->table.own;
    const char *br = n->bridge;
    /* Nor the host's own link: clouds answer there who the host is, with its credentials. A machine's own metadata service is not
     * on this way. */
    buf_printf(b, "  chain raw {\n    type filter hook prerouting priority -300; policy accept;\n"
        "    iifname \"%s\" ip daddr { 127.0.0.0/8, 169.254.0.0/16 } drop\n  }\n", br);
    /* Whoever is not a node of the cluster has no part in its VXLAN. */
    if (own->link == LINK_VXLAN)
        buf_printf(b, "  chain input {\n    type filter hook input priority 0; policy accept;\n"
            "    udp dport %lld @th,96,24 %lld ip saddr != @members drop\n  }\n", (long long)own->port, (long long)own->vni);
    buf_printf(b, "  chain among {\n    ip saddr vmap @jobs\n    drop\n  }\n"
        "  chain forward {\n    type filter hook forward priority 0; policy accept;\n"
        "    iifname != \"%s\" oifname != \"%s\" accept\n"
        "    iifname != \"%s\" ip saddr %s drop\n"
        "    iifname != \"%s\" ip saddr @remote fib saddr . iif oif missing drop\n"
        "    ct state established,related accept\n"
        "    ct status dnat accept\n"
        "    oifname \"%s\" goto among\n"
        "    ip daddr @remote goto among\n  }\n}\n", br, br, br, net, br, br);
}

static void add_tables(const struct network *n, struct buf *b)
{
    CLEANUP_FREE char *net = network_text(n);
    const char *br = n->bridge;
    buf_printf(b, "table inet mentat_%s {\n"
        "  map ports_tcp { type ipv4_addr . inet_service : ipv4_addr . inet_service; }\n"
        "  map ports_udp { type ipv4_addr . inet_service : ipv4_addr . inet_service; }\n"
        "  set remote { type ipv4_addr; flags interval; }\n"
        "  set members { type ipv4_addr; }\n"
        "  map jobs { type ipv4_addr : verdict; }\n", br);
    add_translation(n, net, b);
    add_filter(n, net, b);
    /* Only IPv4 and ARP, only from one's own address. */
    buf_printf(b, "table bridge mentat_%s {\n  set sources { type ifname . ether_addr . ipv4_addr; }\n"
        "  chain prerouting {\n    type filter hook prerouting priority -300; policy accept;\n"
        "    iifname != \"%s.*\" accept\n"
        "    ether type ip iifname . ether saddr . ip saddr @sources accept\n"
        "    ether type arp iifname . ether saddr . arp saddr ip @sources accept\n"
        "    drop\n  }\n}\n", br, br);
}

/* --- what is in the sets --- */

static void add_published(const struct network *n, const struct network_facts *f, const char *protocol, struct buf *b)
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

static void add_machine(const struct network *n, const struct network_facts *f, struct buf *b)
{
    CLEANUP_FREE char *ip = network_address(n, f->slot), *mac = network_mac(n, f->slot);
    CLEANUP_FREE char *port = port_name(n, f->slot);
    buf_printf(b, "add element bridge mentat_%s sources { %s . %s . %s }\n", n->bridge, port, mac, ip);
    add_published(n, f, "tcp", b);
    add_published(n, f, "udp", b);
}

static void add_others(const struct network *n, struct buf *b)
{
    for (uint32_t i = 0; i < n->table.nodes.n; i++) {
        const struct network_node *entry = &n->table.nodes.v[i];
        struct network_other o;
        if (network_other(n, entry, &o))
            buf_printf(b, "add element inet mentat_%s remote { %s }\nadd element inet mentat_%s members { %s }\n", n->bridge,
                       entry->subnet, n->bridge, entry->ip);
    }
}

/* --- jobs: each has a chain, by which what one of its machines sends may go to the others --- */

struct job_member { uint32_t ip, job; };
struct job_members { struct job_member *v; uint32_t n; };

static void members_add(struct job_members *l, uint32_t ip, uint32_t job)
{
    l->v = mem_realloc_array(l->v, l->n + 1, sizeof *l->v);
    l->v[l->n++] = (struct job_member){ip, job};
}

static int by_address(const void *a, const void *b)
{
    const struct job_member *x = a, *y = b;
    return x->ip != y->ip ? (x->ip > y->ip) - (x->ip < y->ip) : (x->job > y->job) - (x->job < y->job);
}

/* An address that two jobs would have, as words of two nodes crossed, is nobody's. */
static void members_settle(struct job_members *l)
{
    uint32_t n = 0;
    if (l->n)
        qsort(l->v, l->n, sizeof *l->v, by_address);
    for (uint32_t i = 0, next; i < l->n; i = next) {
        bool one = true;
        for (next = i + 1; next < l->n && l->v[next].ip == l->v[i].ip; next++)
            one &= l->v[next].job == l->v[i].job;
        if (one)
            l->v[n++] = l->v[i];
    }
    l->n = n;
}

static bool is_remote(const struct network *n, uint32_t ip)
{
    struct network_other o;
    for (uint32_t i = 0; i < n->table.nodes.n; i++)
        if (network_other(n, &n->table.nodes.v[i], &o) && (ip & net4_mask(o.part.bits)) == o.part.base)
            return true;
    return false;
}

static void add_remote_members(const struct network *n, const char *job, uint32_t number, struct job_members *l)
{
    uint32_t ip;
    for (uint32_t i = 0; i < n->table.services.n; i++) {
        const struct network_service *s = &n->table.services.v[i];
        if (strcmp(s->job, job) != 0)
            continue;
        for (uint32_t k = 0; k < s->replicas.n; k++)
            if (ip4_parse(s->replicas.v[k].address, &ip) && is_remote(n, ip))
                members_add(l, ip, number);
    }
}

/* The number of a job is that of its first machine here. */
static uint32_t job_number(const struct network *n, uint32_t i)
{
    uint32_t first = 0;
    while (strcmp(n->facts[first].job, n->facts[i].job) != 0)
        first++;
    return first;
}

static void add_jobs(const struct network *n, struct buf *b)
{
    struct job_members l = {0};
    for (uint32_t i = 0; i < n->n_facts; i++) {
        uint32_t number = job_number(n, i);
        members_add(&l, n->own.base + (uint32_t)n->facts[i].slot, number);
        if (number != i)
            continue;
        buf_printf(b, "add set inet mentat_%s job_%u { type ipv4_addr; }\nadd chain inet mentat_%s job_%u\n"
                   "add rule inet mentat_%s job_%u ip daddr @job_%u accept\n", n->bridge, i, n->bridge, i, n->bridge, i, i);
        add_remote_members(n, n->facts[i].job, i, &l);
    }
    members_settle(&l);
    for (uint32_t i = 0; i < l.n; i++) {
        char ip[NET4_TEXT_SIZE];
        ip4_format(ip, l.v[i].ip);
        buf_printf(b, "add element inet mentat_%s jobs { %s : jump job_%u }\nadd element inet mentat_%s job_%u { %s }\n",
                   n->bridge, ip, l.v[i].job, n->bridge, l.v[i].job, ip);
    }
    free(l.v);
}

/* --- all of them --- */

int rules_load(const struct buf *rules, struct error *err)
{
    const char *const argv[] = {"nft", "-f", "-", NULL};
    if (tool_run(&(struct tool){.argv = argv, .input = rules->data, .input_len = rules->len, .timeout_ms = NFT_TIMEOUT_MS},
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

void rules_make(const struct network *n, struct buf *out)
{
    add_removal(n, out);
    add_tables(n, out);
    for (uint32_t i = 0; i < n->n_facts; i++)
        add_machine(n, &n->facts[i], out);
    add_others(n, out);
    add_jobs(n, out);
}

int rules_remove(const struct network *n, struct error *err)
{
    CLEANUP_BUF struct buf b = {0};
    add_removal(n, &b);
    return rules_load(&b, err);
}
