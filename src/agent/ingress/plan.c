#include "agent/ingress/plan.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "model/ingress_rules.h"
#include "model/namespace.h"

#define SLOTS_MIN 4
#define SLOTS_MAX 1024
#define WEIGHT_MAX 256
#define LEFT_OUT_TOLD 20
#define HEADER_MARK ".by-"            /* in the name of a backend, before the header's */

struct plan {
    struct layout *layout;
    const struct agent_ingress *table;
    const struct plan_limits *limits;
    char *problem;
    uint32_t left_out;
};

static void leave_out(struct plan *p, const struct ingress_route *r, const char *why)
{
    const char *service = r->service && namespace_is_qualified_name(r->service) ? r->service : "a service";
    if (p->left_out++ >= LEFT_OUT_TOLD)
        return;
    char *before = steal(&p->problem);
    p->problem = mem_printf("%s%s" INGRESS_OF "%s: %s", before ? before : "", before ? "; " : "", service, why);
    free(before);
}

/* --- slots --- */

static bool same_address(const struct slot *s, const struct ingress_target *t)
{
    return s->port == (int)t->port && !strcmp(s->ip, t->ip);
}

/* The slot that it has; else, of a proxy that was found running, the one with its address; else the one free for longest. */
static struct slot *slot_for(struct backend *b, const struct ingress_target *t)
{
    struct slot *adopted = NULL, *spare = NULL;
    for (uint32_t i = 0; i < b->n_slots; i++) {
        struct slot *s = &b->slots[i];
        if (!strcmp(s->alloc, t->alloc))
            return s;
        if (*s->alloc)
            continue;
        if (s->mode != SLOT_OUT && !adopted && same_address(s, t))
            adopted = s;
        if (s->mode == SLOT_OUT && (!spare || s->freed_at < spare->freed_at))
            spare = s;
    }
    return adopted ? adopted : spare;
}

/* A switch from one set of replicas to another needs twice as many slots as there are replicas. */
static uint32_t slots_wanted(uint32_t targets)
{
    uint32_t n = SLOTS_MIN;
    while (n < targets * 2 && n < SLOTS_MAX)
        n *= 2;
    return n;
}

static bool target_ok(const struct ingress_target *t)
{
    struct in6_addr address;
    return t->alloc && id_valid(t->alloc) && t->ip && strlen(t->ip) < INET6_ADDRSTRLEN &&
           (inet_pton(AF_INET, t->ip, &address) == 1 || inet_pton(AF_INET6, t->ip, &address) == 1) &&
           t->port > 0 && t->port < 65536;
}

static void slot_fill(struct slot *s, const struct ingress_target *t, bool sticky)
{
    snprintf(s->alloc, sizeof s->alloc, "%s", t->alloc);
    snprintf(s->ip, sizeof s->ip, "%s", t->ip);
    s->port = (int)t->port;
    s->version = t->version;
    s->weight = t->weight < 0 ? 0 : t->weight > WEIGHT_MAX ? WEIGHT_MAX : (int)t->weight;
    s->leaving = t->leaving;
    s->canary = t->canary;
    s->mode = t->leaving ? SLOT_DRAIN : SLOT_READY;
    /* A draining server, or one of weight 0, still gets the requests that carry its cookie. */
    if (sticky && (t->leaving || !s->weight))
        s->mode = SLOT_OUT;
}

static bool targets_have(const struct ingress_target_list *targets, const char *alloc)
{
    for (uint32_t i = 0; i < targets->n; i++)
        if (targets->v[i].alloc && !strcmp(targets->v[i].alloc, alloc))
            return true;
    return false;
}

static void slot_release(struct backend *b, struct slot *s)
{
    uint64_t last = 0;
    for (uint32_t i = 0; i < b->n_slots; i++)
        if (b->slots[i].freed_at > last)
            last = b->slots[i].freed_at;
    *s = (struct slot){.freed_at = last + 1};
}

static void backend_follow(struct plan *p, struct backend *b, const struct ingress_route *r)
{
    const struct ingress_target_list *targets = &r->targets;
    backend_grow(b, slots_wanted(targets->n));
    for (uint32_t i = 0; i < b->n_slots; i++)
        if (*b->slots[i].alloc && !targets_have(targets, b->slots[i].alloc))
            slot_release(b, &b->slots[i]);
    for (uint32_t i = 0; i < targets->n; i++) {
        const struct ingress_target *t = &targets->v[i];
        if (!target_ok(t)) {
            leave_out(p, r, "a replica has no address that a proxy can reach");
            continue;
        }
        struct slot *s = slot_for(b, t);
        if (!s) {
            uint32_t n = b->n_slots;
            backend_grow(b, n * 2);
            s = &b->slots[n];
        }
        slot_fill(s, t, b->sticky);
    }
    /* What a proxy that was found running served and the servers do not know. */
    for (uint32_t i = 0; i < b->n_slots; i++)
        if (!*b->slots[i].alloc && b->slots[i].mode != SLOT_OUT)
            slot_release(b, &b->slots[i]);
}

/* --- routes --- */

/* Dots stand between the parts of the name: that of a namespace becomes what no name has either. */
static char *backend_name(const struct ingress_route *r)
{
    const struct ingress *i = &r->ingress;
    CLEANUP_FREE char *service = mem_strdup(r->service);
    char *dot = strchr(service, '.');
    if (dot)
        *dot = '_';
    if (i->protocol == PROTOCOL_TCP)
        return mem_printf("%s.%s.tcp%" PRId64, service, i->port, i->listen);
    char *name = mem_printf("%s.%s%s%s", service, i->port, i->sticky ? ".sticky" : i->sticky_header ? HEADER_MARK : "",
                            i->sticky_header ? i->sticky_header : "");
    for (char *c = name; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return name;
}

static bool others_port(const struct layout *l, const struct ingress_route *r)
{
    CLEANUP_FREE char *own = backend_name(r);
    for (uint32_t i = 0; i < l->n; i++)
        if (l->backends[i]->tcp && !l->backends[i]->unused && l->backends[i]->listen == r->ingress.listen &&
            strcmp(l->backends[i]->name, own))
            return true;
    return false;
}

static const char *route_problem(const struct plan *p, const struct ingress_route *r)
{
    const struct ingress *i = &r->ingress;
    if (!r->service || !namespace_is_qualified_name(r->service) || !i->port || !text_is_name(i->port))
        return "its service or port has no proper name";
    if (i->protocol == PROTOCOL_TCP) {
        if (i->listen < 1 || i->listen > 65535)
            return "`listen` is not a port";
        if (others_port(p->layout, r))
            return "its `listen` port is another service's too";
        return p->limits->port_problem ? p->limits->port_problem(p->limits->ctx, (int)i->listen) : NULL;
    }
    if (i->protocol != PROTOCOL_HTTP || !i->host || ingress_host_problem(i->host) || ingress_path_problem(i->path ? i->path : "/"))
        return "its host or path cannot be served";
    if (i->sticky_header && ingress_header_problem(i->sticky_header))
        return "its `sticky_header` is not the name of a header";
    if (i->tls && !p->limits->https)
        return "this node has no https_port";
    return NULL;
}

static void map_add(struct plan *p, enum map_kind map, const struct ingress_route *r, const char *key, const char *value)
{
    if (kv_get(&p->layout->maps[map], key))
        leave_out(p, r, "its host and path are another service's too");
    else
        kv_set(&p->layout->maps[map], key, value);
}

static void header_take(struct backend *b)
{
    const char *mark = strstr(b->name, HEADER_MARK);
    mem_set_string(&b->header, mark ? mark + strlen(HEADER_MARK) : NULL);
}

/* The next slot of this side that takes requests, after `at`, in turn; n_slots: there is none. */
static uint32_t next_of_side(const struct backend *b, bool canary, uint32_t at)
{
    for (uint32_t i = 1; i <= b->n_slots; i++) {
        uint32_t k = (at + i) % b->n_slots;
        if (*b->slots[k].alloc && b->slots[k].canary == canary && b->slots[k].mode == SLOT_READY && b->slots[k].weight)
            return k;
    }
    return b->n_slots;
}

/* Of each hundred numbers the first are the canary's, so that a larger part takes in those of a smaller one, and all nodes
 * agree. */
static void numbers_follow(struct plan *p, const struct backend *b, const struct ingress_route *r)
{
    uint32_t at[2] = {b->n_slots - 1, b->n_slots - 1};
    for (uint32_t i = 0; b->header && r->canary_percent && i < backend_numbers(b); i++) {
        bool canary = i % 100 < r->canary_percent;
        if ((at[canary] = next_of_side(b, canary, at[canary])) == b->n_slots)
            return;                  /* whoever is there takes all */
        CLEANUP_FREE char *key = mem_printf("%s/%u", b->name, i);
        CLEANUP_FREE char *server = mem_printf("s%u", at[canary] + 1);
        kv_set(&p->layout->maps[MAP_STICKY], key, server);
    }
}

static void route_follow(struct plan *p, const struct ingress_route *r)
{
    const char *why = route_problem(p, r);
    if (why) {
        leave_out(p, r, why);
        return;
    }
    CLEANUP_FREE char *name = backend_name(r);
    struct backend *b = layout_add(p->layout, name);
    /* Entries of the same port share it: their replicas are the same. */
    if (b->unused || !b->n_slots) {
        b->unused = false;
        b->tcp = r->ingress.protocol == PROTOCOL_TCP;
        b->sticky = !b->tcp && r->ingress.sticky;
        b->listen = (int)r->ingress.listen;
        b->max_body_mb = b->tcp ? 0 : r->ingress.max_body_mb;
        b->requests_per_second = b->tcp ? 0 : r->ingress.requests_per_second;
        mem_set_string(&b->service, r->service);
        header_take(b);
        backend_follow(p, b, r);
        numbers_follow(p, b, r);
    }
    if (b->tcp)
        return;
    CLEANUP_FREE char *key = ingress_claim(&r->ingress);
    const char *redirect = r->ingress.redirect_https;
    if (r->ingress.tls)
        map_add(p, MAP_HTTPS, r, key, name);
    if (p->limits->http && r->ingress.tls && (!redirect || !strcmp(redirect, "true")))
        map_add(p, MAP_HTTP, r, key, MAP_REDIRECT);
    else if (p->limits->http)
        map_add(p, MAP_HTTP, r, key, name);
}

static void challenge_follow(struct layout *layout, const struct acme_challenge *a)
{
    if (!ingress_challenge_ok(a))
        return;
    CLEANUP_FREE char *path = mem_printf("/.well-known/acme-challenge/%s", a->token);
    kv_set(&layout->maps[MAP_ACME], path, a->answer);
}

void plan_follow(struct layout *layout, const struct agent_ingress *table, const struct plan_limits *limits, char **problem)
{
    struct plan p = {.layout = layout, .table = table, .limits = limits};
    for (uint32_t i = 0; i < layout->n; i++)
        layout->backends[i]->unused = true;
    for (int i = 0; i < MAP_COUNT; i++)
        kv_clear(&layout->maps[i]);
    for (uint32_t i = 0; i < table->routes.n; i++)
        route_follow(&p, &table->routes.v[i]);
    for (uint32_t i = 0; i < table->challenges.n && limits->http; i++)
        challenge_follow(layout, &table->challenges.v[i]);
    for (uint32_t i = 0; i < layout->n; i++)
        for (uint32_t k = 0; layout->backends[i]->unused && k < layout->backends[i]->n_slots; k++)
            if (layout->backends[i]->slots[k].mode != SLOT_OUT || *layout->backends[i]->slots[k].alloc)
                slot_release(layout->backends[i], &layout->backends[i]->slots[k]);
    if (p.left_out > LEFT_OUT_TOLD)
        *problem = mem_printf("%s (and %u more)", p.problem, p.left_out - LEFT_OUT_TOLD);
    else
        *problem = steal(&p.problem);
    free(p.problem);
}

void plan_adopt(struct layout *layout, const struct layout *running)
{
    for (uint32_t i = 0; i < running->n; i++) {
        const struct backend *from = running->backends[i];
        struct backend *b = layout_add(layout, from->name);
        backend_grow(b, from->n_slots);
        for (uint32_t k = 0; k < from->n_slots; k++) {
            b->slots[k] = from->slots[k];
            b->slots[k].alloc[0] = '\0';
        }
        b->unused = true;
        b->sticky = strstr(b->name, ".sticky") != NULL;
        header_take(b);
    }
}
