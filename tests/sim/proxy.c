/* Virtual proxies of the ingress nodes: each fetches the table from one of the servers, which may lag, sends requests by it,
 * finishes with what leaves in its own time, and reports over the same bad network as the agents. Some fall silent. */
#include <string.h>

#include "world.h"

#define RESEND_MS 5000
#define FINISH_MS_MOST 15000             /* more than the services' kill timeout */

void proxy_clear(struct proxy *p)
{
    free(p->v);
    *p = (struct proxy){0};
}

static struct proxy_target *find(const struct proxy *p, const char *alloc)
{
    for (uint32_t i = 0; i < p->n; i++)
        if (strcmp(p->v[i].alloc, alloc) == 0)
            return &p->v[i];
    return NULL;
}

/* Two ways of a service lead to the same replicas: one of them is looked at. */
static void take_table(struct world *w, struct proxy *p, const struct agent_ingress *table)
{
    struct proxy fresh = {.v = mem_array(1, sizeof(*p->v))};
    for (uint32_t i = 0; i < table->routes.n; i++)
        for (uint32_t k = 0; k < table->routes.v[i].targets.n; k++) {
            const struct ingress_target *t = &table->routes.v[i].targets.v[k];
            const struct proxy_target *known = find(p, t->alloc);
            fresh.v = mem_realloc_array(fresh.v, fresh.n + 1, sizeof(*fresh.v));
            struct proxy_target *to = &fresh.v[fresh.n++];
            *to = known ? *known : (struct proxy_target){0};
            strcpy(to->alloc, t->alloc);
            to->sends = t->weight > 0 && !t->leaving;
            if (t->leaving && !to->idle_at)
                to->idle_at = w->now + (int64_t)random_below(&w->r, chance(w, 80) ? 2000 : FINISH_MS_MOST);
            if (!t->leaving)
                to->idle_at = 0;
        }
    free(p->v);
    p->v = fresh.v;
    p->n = fresh.n;
    p->applied = table->index;
    p->version++;
    count(w, COUNT_TABLES);
}

static void fetch_table(struct world *w, struct virtual_node *n)
{
    struct agent_ingress table;
    struct proxy *p = &n->proxy;
    const struct core *c = w->s.v[n->server].core;
    if (core_changed(c, CORE_INGRESS, NULL) <= p->applied || (!w->k.calm && chance(w, 30)))
        return;
    core_agent_ingress(c, &table);
    take_table(w, p, &table);
    type_clear(&agent_ingress_type, &table);
}

static void send(struct world *w, uint32_t node)
{
    struct virtual_node *n = &w->nodes[node];
    uint32_t copies = w->k.calm ? 1 : chance(w, 10) ? 0 : chance(w, 10) ? 2 : 1;
    n->proxy.sent_at = w->now;
    for (uint32_t i = 0; i < copies; i++) {
        struct ingress_report *r = type_new(&ingress_report_type);
        r->node_id = mem_strdup(n->facts.id);
        r->applied = n->proxy.applied;
        for (uint32_t k = 0; k < n->proxy.n; k++)
            if (n->proxy.v[k].idle_at && n->proxy.v[k].idle_at <= w->now)
                str_list_add(&r->idle, n->proxy.v[k].alloc);
        int64_t delay = !w->k.calm && chance(w, 15) ? (int64_t)random_below(&w->r, 15000) : (int64_t)random_below(&w->r, 50);
        world_post(w, (struct message){.at = w->now + delay, .node = node, .ingress = r, .version = n->proxy.version});
    }
}

void proxy_run(struct world *w, uint32_t node)
{
    struct virtual_node *n = &w->nodes[node];
    struct proxy *p = &n->proxy;
    if (!n->facts.ingress || !n->registered)
        return;
    fetch_table(w, n);
    for (uint32_t i = 0; i < p->n; i++)
        if (p->v[i].idle_at && p->v[i].idle_at <= w->now && !p->v[i].told) {
            p->v[i].told = true;
            p->version++;
        }
    if (!w->k.calm && p->silent)
        return;
    if (p->version > p->acked && (p->version > p->sent || p->sent_at + RESEND_MS <= w->now)) {
        p->sent = p->version;
        send(w, node);
    }
}

int64_t proxy_next(const struct world *w, const struct virtual_node *n)
{
    const struct proxy *p = &n->proxy;
    int64_t next = INT64_MAX;
    if (!n->up || !n->facts.ingress || !n->registered)
        return next;
    if (core_changed(w->s.v[n->server].core, CORE_INGRESS, NULL) > p->applied || (p->version > p->sent && p->version > p->acked))
        return w->now;
    if (p->version > p->acked)
        next = p->sent_at + RESEND_MS;
    for (uint32_t i = 0; i < p->n; i++)
        if (p->v[i].idle_at && !p->v[i].told && p->v[i].idle_at < next)
            next = p->v[i].idle_at;
    return next;
}

void proxy_ack(struct world *w, uint32_t node, uint64_t version)
{
    struct proxy *p = &w->nodes[node].proxy;
    p->acked = version > p->acked ? version : p->acked;
}

bool proxy_uses(const struct virtual_node *n, const char *alloc, int64_t now)
{
    const struct proxy_target *t = find(&n->proxy, alloc);
    return t && (t->sends || (t->idle_at && t->idle_at > now));
}
