/* Virtual proxies of the ingress nodes: each fetches the table from one of the servers, which may lag, sends requests by it,
 * finishes with what leaves in its own time, and reports over the same bad network as the agents. Some fall silent. What it
 * measures of a version follows from the version's environment, so that a check knows how an analysis has to end. */
#include <stdio.h>
#include <string.h>

#include "model/latency.h"
#include "world.h"

#define RESEND_MS 5000
#define FINISH_MS_MOST 15000             /* more than the services' kill timeout */
#define MEASURE_MS 5000
#define REQUEST_MS 100                   /* between two of a version, on one node */

void proxy_clear(struct proxy *p)
{
    free(p->v);
    free(p->measures);
    *p = (struct proxy){0};
}

/* --- what it measures --- */

enum quality quality_of(const struct core *c, const char *service, uint64_t version)
{
    enum quality found = QUALITY_UNKNOWN;
    struct service_version_list l;
    core_service_versions(c, service, &l);
    for (uint32_t i = 0; i < l.n; i++)
        if (l.v[i].version == version) {
            const char *x = kv_get(&l.v[i].spec.env, "X");
            found = !x ? QUALITY_GOOD : strcmp(x, "1") == 0 ? QUALITY_SLOW : QUALITY_FAILS;
        }
    list_clear((struct list *)&l, &service_version_type);
    return found;
}

static const struct proxy_measure *find_measure(const struct proxy *p, const struct ingress_route *r)
{
    for (uint32_t i = 0; i < p->n_measures; i++)
        if (p->measures[i].index == r->measured && strcmp(p->measures[i].service, r->service) == 0)
            return &p->measures[i];
    return NULL;
}

static void take_measures(struct world *w, struct proxy *p, const struct agent_ingress *table)
{
    struct proxy fresh = {.measures = mem_array(table->routes.n + 1, sizeof(*p->measures))};
    for (uint32_t i = 0; i < table->routes.n; i++) {
        const struct ingress_route *r = &table->routes.v[i];
        const struct proxy_measure *known = find_measure(p, r);
        if (!r->measured || find_measure(&fresh, r))
            continue;
        struct proxy_measure *m = &fresh.measures[fresh.n_measures++];
        *m = known ? *known : (struct proxy_measure){.index = r->measured, .since = w->now};
        snprintf(m->service, sizeof(m->service), "%s", r->service);
    }
    free(p->measures);
    p->measures = fresh.measures;
    p->n_measures = fresh.n_measures;
}

static void measure_version(struct world *w, const struct proxy_measure *m, uint64_t version, struct ingress_measure *to)
{
    for (uint32_t i = 0; i < to->versions.n; i++)
        if (to->versions.v[i].version == version)
            return;
    enum quality q = quality_of(w->s.front, m->service, version);
    struct version_measure *v = list_add((struct list *)&to->versions, &version_measure_type);
    v->version = version;
    v->requests = (w->now - m->since) / REQUEST_MS;
    v->errors = q == QUALITY_FAILS ? v->requests / 2 : 0;
    struct latency *l = list_add((struct list *)&v->latencies, &latency_type);
    *l = (struct latency){latency_step_ms(latency_step(q == QUALITY_SLOW ? 1000 : 30)), v->requests};
}

static void add_measures(struct world *w, struct virtual_node *n, struct ingress_report *r)
{
    struct proxy *p = &n->proxy;
    for (uint32_t i = 0; i < p->n_measures; i++) {
        struct proxy_measure *m = &p->measures[i];
        struct ingress_measure *to = list_add((struct list *)&r->measures, &ingress_measure_type);
        if (chance(w, 3))
            m->since = w->now;           /* the agent began anew */
        to->service = mem_strdup(m->service);
        to->measured = m->index;
        to->since = m->since;
        for (uint32_t k = 0; k < p->n; k++)
            if (p->v[k].sends && strcmp(p->v[k].service, m->service) == 0)
                measure_version(w, m, p->v[k].version, to);
    }
    p->measured_at = w->now;
}

/* --- whom it sends requests to --- */

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
            snprintf(to->service, sizeof(to->service), "%s", table->routes.v[i].service);
            to->version = t->version;
            to->sends = t->weight > 0 && !t->leaving;
            if (t->leaving && !to->idle_at)      /* to one that left before it was known here nothing was ever sent */
                to->idle_at = w->now + (known ? (int64_t)random_below(&w->r, chance(w, 80) ? 2000 : FINISH_MS_MOST) : 0);
            if (!t->leaving)
                to->idle_at = 0;
        }
    free(p->v);
    p->v = fresh.v;
    p->n = fresh.n;
    take_measures(w, p, table);
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
        add_measures(w, n, r);
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
    if (p->n_measures && p->measured_at + MEASURE_MS <= w->now)
        p->version++;
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
    if (p->n_measures && p->measured_at + MEASURE_MS < next)
        next = p->measured_at + MEASURE_MS;
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
