#include "agent/ingress/render.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/random.h"

#define FILES_RESERVED 500
#define CONNECTIONS_MIN 100

/* Nothing but names, addresses and numbers may stand where users have a say; plan.h sees to that. */
static const char *word(const char *s)
{
    INVARIANT(*s && s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/-._:%~!$&*+,=@")] == '\0');
    return s;
}

bool render_own_user(const struct render_options *o)
{
    return o->root && strcmp(o->config->user, "root");
}

/* A connection takes two files, each slot one for its check. The proxy refuses to start with less than it may need. */
static int64_t connections(const struct layout *l, const struct render_options *o)
{
    int64_t left = (int64_t)o->open_files - FILES_RESERVED;
    for (uint32_t i = 0; i < l->n; i++)
        left -= l->backends[i]->n_slots + 2;
    int64_t most = left / 2 > CONNECTIONS_MIN ? left / 2 : CONNECTIONS_MIN;
    return o->config->max_connections < most ? o->config->max_connections : most;
}

static void add_global(const struct layout *l, const struct render_options *o, const char *structure, struct buf *out)
{
    const struct ingress_config *c = o->config;
    buf_printf(out, "global\n    description %s\n    stats socket unix@" RENDER_ADMIN " mode 600 level admin expose-fd listeners\n",
               structure);
    buf_printf(out, "    hard-stop-after %" PRId64 "ms\n    maxconn %" PRId64 "\n", c->hard_stop_ms, connections(l, o));
    if (c->threads)
        buf_printf(out, "    nbthread %" PRId64 "\n", c->threads);
    if (render_own_user(o))
        buf_printf(out, "    user %s\n    chroot %s/" RENDER_JAIL "\n", word(c->user), o->directory);
    if (render_own_user(o) && o->gid >= 0)
        buf_printf(out, "    gid %" PRId64 "\n", o->gid);
    if (c->access_log)
        buf_add_string(out, "    log stdout format raw local0\n");
    /* Its own HTTP client is not used: without this line it reads the system's certificates at each start. */
    buf_add_string(out, "    httpclient.ssl.verify none\n");
    buf_add_string(out, "    mworker-max-reloads 100\n    tune.ssl.default-dh-param 2048\n    ssl-default-bind-options ssl-min-ver "
                        "TLSv1.2 no-tls-tickets\n");
}

static void add_defaults(const struct ingress_config *c, struct buf *out)
{
    buf_add_string(out,
        "defaults\n    mode http\n    log global\n    option dontlognull\n    option idle-close-on-response\n"
        "    option redispatch 1\n    retries 3\n    retry-on conn-failure empty-response\n"
        "    errorfile 503 " RENDER_PAGE_NO_REPLICA "\n    timeout connect 2s\n    timeout queue 5s\n");
    buf_printf(out, "    timeout http-request %" PRId64 "ms\n    timeout http-keep-alive %" PRId64 "ms\n    timeout client %" PRId64
               "ms\n    timeout server %" PRId64 "ms\n    timeout tunnel %" PRId64 "ms\n", c->request_timeout_ms, c->idle_timeout_ms,
               c->idle_timeout_ms, c->response_timeout_ms, c->tunnel_timeout_ms);
    /* What the agent knows comes from the servers; this is for a host that is cut off, until they know. */
    buf_add_string(out, "    default-server check inter 1s fastinter 200ms fall 2 rise 1\n");
}

static void add_binds(const struct ingress_config *c, int port, const char *more, struct buf *out)
{
    if (!c->bind.n)
        buf_printf(out, "    bind :::%d v4v6%s\n", port, more);
    for (uint32_t i = 0; i < c->bind.n; i++)
        buf_printf(out, "    bind %s:%d%s\n", word(c->bind.v[i]), port, more);
}

/* One line a request. What the client sent stands between quotes, with quotes in it escaped. */
#define LOG_FORMAT(proto) \
    "    log-format 'time=%Tl client=%ci:%cp proto=" proto " host=%{+Q,+E}[var(txn.host)] request=%{+Q,+E}r status=%ST " \
    "bytes=%B service=%b replica=%si:%sp queue_ms=%Tw connect_ms=%Tc response_ms=%Tr total_ms=%Ta end=%ts retries=%rc " \
    "connections=%ac'\n"

/* Takes the longest path of the exact host, else of the host with `*` for its first label. Most requests name the host as it
 * is in the map, and are found at once. */
static void add_routing(enum map_kind map, struct buf *out)
{
    static const char unfound[] = "unless { var(txn.to) -m found }";
    const char *file = map_files[map];
    buf_printf(out,
        "    http-request set-var(txn.host) req.hdr(host),field(1,:),rtrim(.),lower\n"
        "    http-request set-var(txn.to) base,concat(/),map_beg(%s)\n"
        "    http-request set-var(txn.path) path %s\n"
        "    http-request set-var(txn.to) var(txn.host),concat(,txn.path,/),map_beg(%s) %s\n"
        "    http-request set-var(txn.to) var(txn.host),regsub(^[^.]*,*),concat(,txn.path,/),map_beg(%s) %s\n",
        file, unfound, file, unfound, file, unfound);
}

/* tracker: what counts a client's requests, 0 in a frontend, 1 in a backend. */
static void add_limits(int64_t max_body_mb, int64_t requests_per_second, int tracker, const char *table, struct buf *out)
{
    if (max_body_mb > 0)
        buf_printf(out, "    http-request deny deny_status 413 if { req.body_size gt %" PRId64 " }\n", max_body_mb << 20);
    if (requests_per_second > 0)
        buf_printf(out, "    http-request track-sc%d src table %s\n    http-request deny deny_status 429 if { sc_http_req_rate(%d) gt %" PRId64
                   " }\n", tracker, table, tracker, requests_per_second);
}

#define CLIENTS_TABLE "    stick-table type ipv6 size 100k expire 10s store http_req_rate(1s)\n"

static void add_web(const struct render_options *o, enum map_kind map, struct buf *out)
{
    const struct ingress_config *c = o->config;
    bool tls = map == MAP_HTTPS;
    buf_printf(out, "frontend %s\n", tls ? "https" : "http");
    buf_printf(out, "    bind unix@" RENDER_JAIL "/%s.sock accept-proxy mode 600%s%s\n", tls ? "https" : "http", render_own_user(o) ? " user " : "",
               render_own_user(o) ? word(c->user) : "");
    add_binds(c, (int)(tls ? c->https_port : c->http_port), tls ? " ssl crt-list " RENDER_CRT_LIST " alpn h2,http/1.1" : "", out);
    buf_add_string(out, tls ? LOG_FORMAT("https") : LOG_FORMAT("http"));
    if (!tls)
        buf_printf(out, "    http-request return status 200 content-type text/plain lf-string \"%%[path,map(%s)]\" "
                   "if { path,map(%s) -m found }\n", map_files[MAP_ACME], map_files[MAP_ACME]);
    add_routing(map, out);
    add_limits(c->max_body_mb, c->requests_per_second, 0, "clients", out);
    /* A request that may not be sent twice is not: only a connection that could not be made is tried elsewhere. */
    buf_add_string(out, "    http-request disable-l7-retry unless { method GET HEAD OPTIONS }\n");
    if (!tls && c->https_port == 443)
        buf_add_string(out, "    http-request redirect scheme https code 308 if { var(txn.to) -m str " MAP_REDIRECT " }\n");
    else if (!tls && c->https_port)
        buf_printf(out, "    http-request redirect prefix https://%%[var(txn.host)]:%" PRId64 " code 308 if { var(txn.to) -m str "
                   MAP_REDIRECT " }\n", c->https_port);
    buf_printf(out, "    http-request set-header X-Forwarded-Proto %s\n", tls ? "https" : "http");
    buf_printf(out, "    use_backend handover-%s if { str(" RENDER_HANDOVER_KEY "),map(" RENDER_HANDOVER_MAP ") -m found }\n",
               tls ? "https" : "http");
    /* A name that is none (nothing was found) leads to the default. */
    buf_add_string(out, "    use_backend %[var(txn.to)]\n    default_backend unknown\n");
    /* The socket is in the jail, which is the root directory of who connects to it. */
    buf_printf(out, "backend handover-%s\n    server next unix@%s/%s.sock send-proxy-v2 no-check\n", tls ? "https" : "http",
               render_own_user(o) ? "" : RENDER_JAIL, tls ? "https" : "http");
}

static void add_slot(const struct slot *s, uint32_t number, bool neutral, struct buf *out)
{
    if (neutral)
        buf_printf(out, "    server s%u\n", number);
    else if (s->mode == SLOT_OUT)
        buf_printf(out, "    server s%u 127.0.0.1:1 disabled\n", number);
    else
        buf_printf(out, "    server s%u %s%s%s:%d weight %d\n", number, strchr(s->ip, ':') ? "[" : "", word(s->ip),
                   strchr(s->ip, ':') ? "]" : "", s->port, s->mode == SLOT_DRAIN ? 0 : s->weight);
}

static void add_cookie(const struct backend *b, const struct render_options *o, struct buf *out)
{
    buf_printf(out, "    cookie MENTAT insert indirect nocache httponly attr SameSite=Lax dynamic\n    dynamic-cookie-key %s%s\n",
               word(o->cookie_key), b->name);
    buf_add_string(out, "    http-after-response replace-header Set-Cookie ^(MENTAT=.*)$ \"\\1; Secure\" if { fe_name https }\n");
}

/* What has no such header, or a number that leads to no server that runs, goes where the weights say. The service's name is in
 * the hash: who is among the first of one service need not be so of all. */
static void add_header(const struct backend *b, struct buf *out)
{
    buf_printf(out, "    http-request set-var(txn.number) req.fhdr(%s),xxh32(%u),mod(%u)\n", word(b->header),
               (unsigned)hash_bytes(b->name, strcspn(b->name, "."), 0) & INT32_MAX, backend_numbers(b));
    buf_printf(out, "    use-server %%[str(%s/),concat(,txn.number),map(%s)] if { var(txn.number) -m found }\n", b->name,
               map_files[MAP_STICKY]);
}

static void add_backend(const struct backend *b, const struct render_options *o, bool neutral, struct buf *out)
{
    if (b->tcp) {
        buf_printf(out, "frontend %s-in\n    mode tcp\n    option tcplog\n", word(b->name));
        add_binds(o->config, b->listen, "", out);
        buf_printf(out, "    default_backend %s\n", b->name);
    }
    buf_printf(out, "backend %s\n", word(b->name));
    buf_add_string(out, b->tcp ? "    mode tcp\n" : "    option forwardfor\n");
    if (b->requests_per_second > 0)
        buf_add_string(out, CLIENTS_TABLE);
    add_limits(b->max_body_mb, b->requests_per_second, 1, b->name, out);
    if (b->sticky)
        add_cookie(b, o, out);
    if (b->header)
        add_header(b, out);
    for (uint32_t i = 0; i < b->n_slots; i++)
        add_slot(&b->slots[i], i + 1, neutral, out);
}

static void render(const struct layout *l, const struct render_options *o, const char *structure, bool neutral, struct buf *out)
{
    buf_add_string(out, "# Made by mentat-agent; what is written here is lost with the next change.\n");
    add_global(l, o, structure, out);
    add_defaults(o->config, out);
    if (o->config->http_port)
        add_web(o, MAP_HTTP, out);
    if (o->config->https_port)
        add_web(o, MAP_HTTPS, out);
    if (o->config->requests_per_second)
        buf_add_string(out, "backend clients\n" CLIENTS_TABLE);
    buf_add_string(out, "backend unknown\n    http-request return status 404 content-type text/html file " RENDER_PAGE_NOT_FOUND "\n");
    for (uint32_t i = 0; i < l->n; i++)
        add_backend(l->backends[i], o, neutral, out);
}

void render_structure(const struct layout *l, const struct render_options *o, char out[static STRUCTURE_SIZE])
{
    CLEANUP_BUF struct buf text = {0};
    render(l, o, "-", true, &text);
    snprintf(out, STRUCTURE_SIZE, "%016llx", (unsigned long long)hash_bytes(text.data, text.len, 0));
}

void render_config(const struct layout *l, const struct render_options *o, struct buf *out)
{
    char structure[STRUCTURE_SIZE];
    render_structure(l, o, structure);
    render(l, o, structure, false, out);
}

void render_map(const struct kv_list *map, struct buf *out)
{
    for (uint32_t i = 0; i < map->n; i++)
        buf_printf(out, "%s %s\n", word(map->v[i].key), word(map->v[i].value));
}

#define PAGE(title, text) \
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" title "</title></head>\n" \
    "<body><h1>" title "</h1><p>" text "</p></body></html>\n"

const char *render_page_not_found(void)
{
    return PAGE("404 Not here", "No service of this cluster answers for this address.");
}

void render_page_no_replica(struct buf *out)
{
    static const char page[] = PAGE("503 No replica", "The service behind this address has no healthy replica at the moment.");
    buf_printf(out, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nContent-Length: %zu\r\nCache-Control: no-cache\r\n"
               "Connection: close\r\nRetry-After: 1\r\n\r\n%s", sizeof page - 1, page);
}
