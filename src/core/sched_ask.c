#include "core/sched_ask.h"

#include <string.h>

#include "base/random.h"

#define DYNAMIC_COUNT (PORT_DYNAMIC_LAST - PORT_DYNAMIC_FIRST + 1)

void ask_init(struct ask *a, struct sched *s, const struct sched_request *r)
{
    *a = (struct ask){.s = s, .request = r};
    struct sched_service *service = sched_service_get(s, r->service);
    a->view = view_get(s, r->spec, service);
    double cpus;
    sched_demand(r->spec, &cpus, &a->need.room.memory_mb, &a->need.room.disk_mb);
    a->need.room.cpu_nano = cpus_to_nano(cpus);
    port_demand(&r->spec->ports, a->need.ports);
    a->avoid = r->avoid_node ? sched_node_find(s, r->avoid_node) : NULL;
    a->prefer = r->prefer_node ? sched_node_find(s, r->prefer_node) : NULL;
    if (a->prefer == a->avoid)
        a->prefer = NULL;
    a->ignored = r->ignore_alloc ? sched_alloc_find(s, r->ignore_alloc) : NULL;
    if (!a->ignored)
        return;
    a->ignored_counts = a->ignored->service == service;
    for (uint32_t i = 0; i < a->ignored->ports.n; i++) {
        const struct alloc_port *p = &a->ignored->ports.v[i];
        if (p->host >= PORT_DYNAMIC_FIRST && p->host <= PORT_DYNAMIC_LAST
            && port_set_count(&a->ignored->node->ports, p->host, p->protocol) == 1)
            a->ignored_ports[p->protocol == PROTOCOL_UDP ? PORT_UDP : PORT_TCP]++;
    }
}

/* --- room --- */

struct tree_room ask_free_room(const struct ask *a, const struct sched_node *n)
{
    struct tree_room r = node_free_room(n);
    if (a->ignored && a->ignored->node == n) {
        r.cpu_nano += a->ignored->room.cpu_nano;
        r.memory_mb += a->ignored->room.memory_mb;
        r.disk_mb += a->ignored->room.disk_mb;
    }
    return r;
}

bool ask_has_ports(const struct ask *a, const struct sched_node *n)
{
    for (int f = 0; f < PORT_FAMILIES; f++) {
        int32_t back = a->ignored && a->ignored->node == n ? a->ignored_ports[f] : 0;
        if (DYNAMIC_COUNT - n->ports.dynamic_used[f] + back < a->need.ports[f])
            return false;
    }
    return true;
}

static int32_t room_verdict(const struct ask *a, const struct sched_node *n)
{
    struct tree_room room = ask_free_room(a, n);
    const struct tree_room *need = &a->need.room;
    if (room.cpu_nano < need->cpu_nano)
        return REASON_CODE(REASON_CPU, 0);
    if (room.memory_mb < need->memory_mb)
        return REASON_CODE(REASON_MEMORY, 0);
    if (need->disk_mb > 0 && room.disk_mb < need->disk_mb)
        return REASON_CODE(REASON_DISK, 0);
    return ask_has_ports(a, n) ? 0 : REASON_CODE(REASON_DYNAMIC_PORTS, 0);
}

/* --- where the other replicas are --- */

/* The tally's count without the ignored replica. */
static int64_t tally_count(const struct ask *a, const struct tally_value *value, const char *attribute)
{
    char number[ATTRIBUTE_NUMBER_SIZE];
    if (!a->ignored_counts)
        return value->count;
    const char *of_ignored = attribute_value(&a->ignored->node->facts, attribute, number);
    return value->count - (strcmp(of_ignored ? of_ignored : "", value->value) == 0);
}

bool ask_group(const struct ask *a, uint32_t group, struct score *score, uint32_t *which)
{
    const struct signature *sig = a->view->signature;
    const struct view_group *g = &a->view->groups[group];
    score->affinity = sig->groups[group]->affinity;
    if (g->spread)
        score->spread = -SCORE_SPREAD * tally_count(a, g->spread, sig->spread);
    for (uint32_t i = 0; i < sig->distinct.n; i++)
        if (tally_count(a, g->distinct[i], sig->distinct.v[i]) > 0) {
            *which = i;
            return false;
        }
    return true;
}

static int64_t count_on(const struct ask *a, const struct sched_node *n)
{
    return service_count_on(a->view->service, n->slot) - (a->ignored_counts && a->ignored->node == n);
}

/* --- one node --- */

uint64_t ask_group_tie(const struct ask *a, uint32_t group)
{
    return hash_mix(a->request->seed ^ a->view->signature->groups[group]->tie);
}

uint64_t ask_node_tie(const struct ask *a, const struct sched_node *n)
{
    return n->tie - a->request->seed;
}

static int64_t packing_for(const struct ask *a, const struct sched_node *n)
{
    if (!a->ignored || a->ignored->node != n)
        return n->packing;
    struct tree_room room = ask_free_room(a, n);
    struct tree_room used = {n->total.cpu_nano - room.cpu_nano, n->total.memory_mb - room.memory_mb, 0};
    return packing_score(&n->total, &used);
}

int32_t ask_node(const struct ask *a, const struct sched_node *n, struct candidate *out)
{
    struct signature *sig = a->view->signature;
    int32_t verdict = signature_verdict(a->s, sig, n);
    if (verdict < 0)
        return -verdict;
    view_grow(a->s, a->view);
    int32_t port = signature_port_taken(sig, n, a->ignored && a->ignored->node == n ? &a->ignored->ports : NULL);
    if (port)
        return port;
    int64_t count = count_on(a, n);
    if (sig->distinct_node && count)
        return REASON_CODE(REASON_DISTINCT, 0);
    uint32_t which;
    *out = (struct candidate){.node = n};
    if (!ask_group(a, (uint32_t)verdict, &out->score, &which))
        return REASON_CODE(REASON_DISTINCT, which + 1);
    int32_t room = room_verdict(a, n);
    if (room)
        return room;
    struct score *s = &out->score;
    s->packing = packing_for(a, n);
    *(sig->spread_node ? &s->spread : &s->company) = signature_company_score(sig, count);
    s->previous = n == a->prefer ? SCORE_PREVIOUS : 0;
    s->total = s->packing + s->company + s->affinity + s->spread + s->previous;
    out->group_tie = ask_group_tie(a, (uint32_t)verdict);
    out->node_tie = ask_node_tie(a, n);
    return 0;
}

bool candidate_is_better(const struct candidate *a, const struct candidate *b)
{
    if (!a->node || !b->node)
        return a->node != NULL;
    if (a->score.total != b->score.total)
        return a->score.total > b->score.total;
    if (a->group_tie != b->group_tie)
        return a->group_tie < b->group_tie;
    return a->node_tie < b->node_tie;
}
