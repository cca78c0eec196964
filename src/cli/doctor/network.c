/* Checks of ports and of the way to the other hosts. */
#include <ctype.h>
#include <dirent.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "base/net4.h"
#include "base/text.h"
#include "base/timefmt.h"
#include "cli/doctor/checks.h"
#include "cli/doctor/handshake.h"
#include "net/address.h"

#define LISTENING "0A"           /* TCP_LISTEN, as /proc/net/tcp has it */
#define API_PORT 4646
#define AGENT_PORT 4647
#define CONNECT_MS 3000
#define PROXY "haproxy"          /* the program of the ingress */

static int64_t api_port(const struct host *h) { return host_setting_number(&h->server, "port", API_PORT); }
static int64_t agent_port(const struct host *h) { return host_setting_number(&h->agent, "port", AGENT_PORT); }
static int64_t raft_port(const struct host *h)
{
    int64_t own = host_setting_number(&h->server, "raft_port", 0);
    return own ? own : api_port(h) + 2;
}

/* --- ports of this host --- */

struct port {
    int64_t number;              /* 0: it is not used */
    const char *program;         /* who should have it */
    bool taken;
    char owner[32];              /* "": not found */
};

/* inode: of the listening socket. */
static void note_owner(const struct host *h, struct port *p, unsigned long inode)
{
    CLEANUP_FREE char *proc = host_path(h, "/proc");
    char wanted[48];
    snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
    DIR *all = opendir(proc);
    for (struct dirent *e; all && !*p->owner && (e = readdir(all));) {
        CLEANUP_FREE char *path = mem_printf("%s/%s/fd", proc, e->d_name);
        DIR *fds = isdigit((unsigned char)e->d_name[0]) ? opendir(path) : NULL;
        char target[64];
        for (struct dirent *d; fds && (d = readdir(fds));) {
            ssize_t n = readlinkat(dirfd(fds), d->d_name, target, sizeof target - 1);
            target[n > 0 ? n : 0] = '\0';
            if (strcmp(target, wanted))
                continue;
            CLEANUP_BUF struct buf name = {0};
            CLEANUP_FREE char *comm = mem_printf("/proc/%s/comm", e->d_name);
            host_read(h, comm, &name);
            snprintf(p->owner, sizeof p->owner, "%.*s", (int)strcspn(name.data, "\n"), name.data);
        }
        if (fds)
            closedir(fds);
    }
    if (all)
        closedir(all);
}

static void read_listeners(const struct host *h, const char *file, struct port *ports, size_t n)
{
    CLEANUP_BUF struct buf text = {0};
    char *rest = NULL;
    host_read(h, file, &text);
    for (char *line = strtok_r(text.data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        unsigned local;
        char state[3];
        unsigned long inode;
        if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*s %2s %*s %*s %*s %*u %*u %lu", &local, state, &inode) != 3 ||
            strcmp(state, LISTENING))
            continue;
        for (size_t i = 0; i < n; i++)
            if (ports[i].number == local && !*ports[i].owner) {
                ports[i].taken = true;
                note_owner(h, &ports[i], inode);
            }
    }
}

static void judge_port(const struct port *p, bool ingress, struct finding *f)
{
    bool unneeded = !ingress && !strcmp(p->program, PROXY);
    if (!strcmp(p->owner, p->program)) {
        find(f, VERDICT_OK, "%lld is %s's", (long long)p->number, p->owner);
    } else if (*p->owner) {
        find(f, unneeded ? VERDICT_OK : VERDICT_FAILED, "%lld is taken by %s%s", (long long)p->number, p->owner,
             unneeded ? ", and this node has no ingress" : "");
    } else {
        find(f, unneeded ? VERDICT_OK : VERDICT_WARNING, "%lld is taken, by whom only root sees", (long long)p->number);
        if (!unneeded)
            find_mend(f, "run mt doctor as root");
    }
}

void doctor_ports(const struct host *h, struct finding *f)
{
    struct port ports[] = {
        {api_port(h), "mentat-server", false, ""}, {agent_port(h), "mentat-agent", false, ""},
        {raft_port(h), "mentat-server", false, ""},
        {host_setting_number(&h->agent, "proxy/http_port", 80), PROXY, false, ""},
        {host_setting_number(&h->agent, "proxy/https_port", 443), PROXY, false, ""},
    };
    const struct port *agent = &ports[1];
    bool ingress = value_true(&h->agent, "ingress");
    if (!host_exists(h, "/proc/net/tcp")) {
        find(f, VERDICT_SKIPPED, "there is no /proc/net/tcp");
        return;
    }
    read_listeners(h, "/proc/net/tcp", ports, ARRAY_LEN(ports));
    read_listeners(h, "/proc/net/tcp6", ports, ARRAY_LEN(ports));
    for (size_t i = 0; i < ARRAY_LEN(ports); i++) {
        const struct port *p = &ports[i];
        if (p->taken) {
            judge_port(p, ingress, f);
        } else if (p->number && ingress && !strcmp(p->program, PROXY) && !strcmp(agent->owner, agent->program)) {
            find(f, VERDICT_FAILED, "%lld is nobody's, though the agent runs, which is to have " PROXY " there", (long long)p->number);
            find_mend(f, "`mt nodes NODE` says what keeps the proxy from it (Not served), and so does journalctl -u mentat-agent");
        }
    }
    if (!f->found.len)
        find(f, VERDICT_OK, "all free");
}

/* --- ports of the other hosts --- */

enum way { WAY_OPEN, WAY_REFUSED, WAY_NONE };

struct attempt {
    int fd;                      /* -1: over */
    enum way way;
    int64_t port;
    size_t peer;
    char *problem;               /* of the handshake; NULL: none, or it was not tried */
};

static void attempt_end(struct attempt *a, int error)
{
    a->way = !error ? WAY_OPEN : error == ECONNREFUSED ? WAY_REFUSED : WAY_NONE;
    if (a->fd >= 0)
        close(a->fd);
    a->fd = -1;
}

static void attempt_begin(struct attempt *a, const struct sockaddr *to)
{
    struct sockaddr_storage address = {0};
    size_t len = to->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    memcpy(&address, to, len);
    if (to->sa_family == AF_INET)
        ((struct sockaddr_in *)&address)->sin_port = htons((uint16_t)a->port);
    else
        ((struct sockaddr_in6 *)&address)->sin6_port = htons((uint16_t)a->port);
    a->fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (a->fd < 0 || (connect(a->fd, (struct sockaddr *)&address, (socklen_t)len) && errno != EINPROGRESS))
        attempt_end(a, errno);
}

/* Waits for all of them together. */
static void attempts_wait(struct attempt *attempts, size_t n)
{
    int64_t end = time_monotonic_ms() + CONNECT_MS;
    struct pollfd *polls = mem_array(n, sizeof *polls);
    for (size_t open = 1; open;) {
        open = 0;
        for (size_t i = 0; i < n; i++) {
            polls[i] = (struct pollfd){.fd = attempts[i].fd, .events = POLLOUT};
            open += attempts[i].fd >= 0;
        }
        int64_t left = end - time_monotonic_ms();
        if (!open || left <= 0 || poll(polls, n, (int)left) < 0)
            break;
        for (size_t i = 0; i < n; i++) {
            int error = 0;
            if (attempts[i].fd < 0 || !polls[i].revents)
                continue;
            getsockopt(attempts[i].fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error});
            attempt_end(&attempts[i], error);
        }
    }
    for (size_t i = 0; i < n; i++)
        if (attempts[i].fd >= 0)
            attempt_end(&attempts[i], ETIMEDOUT);
    free(polls);
}

/* One text for one peer, however it was written; what is no address stays as it is, to be told. */
static void add_peer(const struct host *h, const char *text, struct str_list *peers)
{
    struct address a;
    char plain[ADDRESS_TEXT_SIZE];
    const char *scheme = strstr(text, "://");
    if (!address_parse(scheme ? scheme + 3 : text, (int)api_port(h), &a, NULL)) {
        address_format(plain, &a);
        text = plain;
    }
    for (uint32_t i = 0; i < peers->n; i++)
        if (!strcmp(peers->v[i], text))
            return;
    str_list_add(peers, text);
}

static void add_configured(const struct host *h, const struct value *config, struct str_list *peers)
{
    const struct value *servers = value_path(config, "servers");
    if (servers && servers->kind == VALUE_TEXT)
        add_peer(h, servers->text, peers);
    for (uint32_t i = 0; servers && servers->kind == VALUE_LIST && i < servers->n; i++)
        if (servers->entries[i].value.text)
            add_peer(h, servers->entries[i].value.text, peers);
}

/* What is ours needs no way: its own address is the one that we would send from. */
static bool is_own(const struct address *a)
{
    CLEANUP_FREE char *from = address_local(a->host, a->port);
    return from && !strcmp(from, a->host) && !text_has_prefix(from, "127.");
}

/* Begins three attempts at a peer; how many were begun. */
static size_t begin_peer(const struct host *h, const char *text, size_t peer, struct attempt *attempts, struct finding *f)
{
    struct address a;
    struct error err = {0};
    uv_getaddrinfo_t lookup;
    if (address_parse(text, (int)api_port(h), &a, &err) || a.is_unix) {
        find(f, VERDICT_FAILED, "%s is not host:port", text);
        return 0;
    }
    if (is_own(&a))
        return 0;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int status = uv_getaddrinfo(uv_default_loop(), &lookup, NULL, a.host, NULL, &hints);
    if (status) {
        find(f, VERDICT_FAILED, "%s: %s", a.host, uv_strerror(status));
        return 0;
    }
    /* Other ports than the usual ones lie as far apart there as here. */
    int64_t ports[] = {a.port, a.port + agent_port(h) - api_port(h), a.port + raft_port(h) - api_port(h)};
    for (size_t i = 0; i < ARRAY_LEN(ports); i++) {
        attempts[i] = (struct attempt){.fd = -1, .port = ports[i], .peer = peer};
        attempt_begin(&attempts[i], lookup.addrinfo->ai_addr);
    }
    uv_freeaddrinfo(lookup.addrinfo);
    return ARRAY_LEN(ports);
}

/* Where this host has what it needs for that. An agent has nothing to say at raft_port, which is every third. */
static void shake_hands(const struct host *h, const struct str_list *peers, struct attempt *attempts, size_t n)
{
    bool server;
    CLEANUP(tls_context_free) struct tls_context *tls = n ? doctor_tls(h, &server) : NULL;
    struct handshake *list = mem_array(n + 1, sizeof *list);
    struct attempt **whose = mem_array(n + 1, sizeof *whose);
    size_t count = 0;
    for (size_t i = 0; tls && i < n; i++) {
        struct attempt *a = &attempts[i];
        if (a->way != WAY_OPEN || (i % 3 == 2 && !server) || address_parse(peers->v[a->peer], 0, &list[count].to, NULL))
            continue;
        list[count].to.port = (int)a->port;
        whose[count++] = a;
    }
    if (count)
        doctor_handshakes(tls, list, count);
    for (size_t i = 0; i < count; i++)
        whose[i]->problem = list[i].problem;
    free(list);
    free(whose);
}

static void say_peer(const char *peer, const struct attempt *attempts, size_t n, struct finding *f)
{
    static const char *const ways[] = {"open", "nothing listens", "no way"};
    static const enum verdict verdicts[] = {VERDICT_OK, VERDICT_WARNING, VERDICT_FAILED};
    CLEANUP_BUF struct buf text = {0};
    enum verdict worst = VERDICT_OK;
    for (size_t i = 0; i < n; i++) {
        const char *problem = attempts[i].problem;
        enum verdict v = problem ? VERDICT_FAILED : verdicts[attempts[i].way];
        buf_printf(&text, "%s %lld %s", i ? "," : "", (long long)attempts[i].port, ways[attempts[i].way]);
        if (problem)
            buf_printf(&text, ", but %s", problem);
        worst = v > worst ? v : worst;
    }
    const char *colon = strrchr(peer, ':');
    find(f, worst, "%.*s:%s", colon ? (int)(colon - peer) : (int)strlen(peer), peer, text.data);
}

/* A port without a way is the row's to mend, and comes first. */
static void mend_peers(const struct attempt *attempts, size_t n, struct finding *f)
{
    bool shut = false, strange = false;
    for (size_t i = 0; i < n; i++) {
        shut |= attempts[i].way == WAY_NONE;
        strange |= attempts[i].problem != NULL;
    }
    if (strange && !shut)
        find_mend(f, "run mt doctor certificates on both hosts: expired, it has to be renewed, or a clock set; of another authority, "
                  "one of them is in another cluster, or has no certificate of it yet: give it a join token (mt node token, mt cluster token)");
    else if (f->verdict == VERDICT_WARNING)
        find_mend(f, "start Mentat there; where it runs, see that it does not listen on 127.0.0.1 alone (bind)");
}

void doctor_peers(const struct host *h, struct finding *f)
{
    struct str_list peers = {0};
    for (uint32_t i = 0; i < h->peers.n; i++)
        add_peer(h, h->peers.v[i], &peers);
    add_configured(h, &h->server, &peers);
    add_configured(h, &h->agent, &peers);
    struct attempt *attempts = mem_array(peers.n + 1, 3 * sizeof *attempts);
    size_t n = 0;
    for (uint32_t i = 0; host_is_this(h) && i < peers.n; i++)
        n += begin_peer(h, peers.v[i], i, attempts + n, f);
    attempts_wait(attempts, n);
    shake_hands(h, &peers, attempts, n);
    for (size_t i = 0; i < n; i += 3)
        say_peer(peers.v[attempts[i].peer], attempts + i, 3, f);
    if (!f->found.len)
        find(f, VERDICT_SKIPPED, host_is_this(h) ? "no other servers are configured" : "files do not show it");
    else
        mend_peers(attempts, n, f);
    for (size_t i = 0; i < n; i++)
        free(attempts[i].problem);
    free(attempts);
    str_list_clear(&peers);
}

/* --- addresses of microVMs --- */

#define RANGE_DEFAULT "10.64.0.0/12"     /* network.range of server.yaml */

static uint32_t order_of_host(unsigned long hex)
{
    return ntohl((uint32_t)hex);
}

/* What is reached without a gateway is the host's own network. Behind one there may be machines of other nodes, as part of the
 * range; what holds all of it is somebody else's. */
static bool is_foreign(const struct net4 *route, uint32_t gateway, const struct net4 *range)
{
    return route->bits > 0 && net4_overlap(route, range) && (!gateway || route->bits <= range->bits);
}

void doctor_vm_network(const struct host *h, struct finding *f)
{
    const char *own = host_setting(&h->agent, "firecracker/network", "auto");
    const char *text = strcmp(own, "auto") ? own : host_setting(&h->server, "network/range", RANGE_DEFAULT);
    const char *bridge = host_setting(&h->agent, "firecracker/bridge", "mentat0");
    struct net4 range;
    if (!host_offers_driver(h, "firecracker") || !net4_parse(text, &range) || !host_exists(h, "/proc/net/route")) {
        find(f, VERDICT_SKIPPED, host_exists(h, "/proc/net/route") ? "microVMs have no network here" : "there is no /proc/net/route");
        return;
    }
    CLEANUP_BUF struct buf routes = {0};
    char *rest = NULL, device[32], name[NET4_TEXT_SIZE];
    unsigned long destination, gateway, mask;
    host_read(h, "/proc/net/route", &routes);
    for (char *line = strtok_r(routes.data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (sscanf(line, "%31s %lx %lx %*x %*d %*d %*d %lx", device, &destination, &gateway, &mask) != 4
            || text_has_prefix(device, bridge))
            continue;
        struct net4 route = {order_of_host(destination), __builtin_popcountl(mask)};
        if (!is_foreign(&route, order_of_host(gateway), &range))
            continue;
        net4_format(name, &route);
        find(f, VERDICT_WARNING, "%s (%s) overlaps with %s", name, device, text);
    }
    if (!f->found.len)
        find(f, VERDICT_OK, "%s", text);
    else if (text == own)
        find_mend(f, "set firecracker.network in agent.yaml to another network");
}
