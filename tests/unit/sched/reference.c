#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "core/sched_constraint.h"

void reference_clear(struct reference *r)
{
    list_clear((struct list *)&r->nodes, &node_type);
    list_clear((struct list *)&r->allocs, &alloc_type);
}

struct node *reference_node(struct reference *r, const char *id)
{
    for (uint32_t i = 0; i < r->nodes.n; i++)
        if (strcmp(r->nodes.v[i].id, id) == 0)
            return &r->nodes.v[i];
    return NULL;
}

void reference_node_set(struct reference *r, const struct node *n)
{
    struct node *to = reference_node(r, n->id);
    if (!to)
        to = list_add((struct list *)&r->nodes, &node_type);
    type_clear(&node_type, to);
    type_copy(&node_type, to, n);
}

void reference_node_remove(struct reference *r, const char *id)
{
    list_remove((struct list *)&r->nodes, &node_type, (uint32_t)(reference_node(r, id) - r->nodes.v));
}

void reference_alloc_add(struct reference *r, const struct alloc *a)
{
    struct alloc *to = list_add((struct list *)&r->allocs, &alloc_type);
    type_clear(&alloc_type, to);
    type_copy(&alloc_type, to, a);
}

void reference_alloc_remove(struct reference *r, const char *id)
{
    for (uint32_t i = 0; i < r->allocs.n; i++)
        if (strcmp(r->allocs.v[i].id, id) == 0) {
            list_remove((struct list *)&r->allocs, &alloc_type, i);
            return;
        }
}

/* --- questions about what is there, the ignored allocation left out --- */

static bool counts(const struct sched_request *q, const struct alloc *a)
{
    return !q->ignore_alloc || strcmp(q->ignore_alloc, a->id) != 0;
}

static bool same_value(struct reference *r, const struct node *n, const struct alloc *a, const char *attribute)
{
    char x[ATTRIBUTE_NUMBER_SIZE], y[ATTRIBUTE_NUMBER_SIZE];
    const char *here = attribute_value(n, attribute, x);
    const char *there = attribute_value(reference_node(r, a->node_id), attribute, y);
    return strcmp(here ? here : "", there ? there : "") == 0;
}

static int64_t replicas_with(struct reference *r, const struct sched_request *q, const struct node *n,
                             const char *attribute)
{
    int64_t count = 0;
    for (uint32_t i = 0; i < r->allocs.n; i++) {
        const struct alloc *a = &r->allocs.v[i];
        count += counts(q, a) && strcmp(a->service, q->service) == 0 && same_value(r, n, a, attribute);
    }
    return count;
}

static bool port_taken(struct reference *r, const struct sched_request *q, const struct node *n, int64_t host,
                       enum protocol protocol)
{
    for (uint32_t i = 0; i < r->allocs.n; i++) {
        const struct alloc *a = &r->allocs.v[i];
        if (!counts(q, a) || strcmp(a->node_id, n->id) != 0)
            continue;
        for (uint32_t k = 0; k < a->ports.n; k++)
            if (a->ports.v[k].host == host && (a->ports.v[k].protocol == PROTOCOL_UDP) == (protocol == PROTOCOL_UDP))
                return true;
    }
    return false;
}

static int free_ports(struct reference *r, const struct sched_request *q, const struct node *n, enum protocol protocol)
{
    bool used[32000 - 20000 + 1] = {false};
    int count = ARRAY_LEN(used);
    for (uint32_t i = 0; i < r->allocs.n; i++) {
        const struct alloc *a = &r->allocs.v[i];
        if (!counts(q, a) || strcmp(a->node_id, n->id) != 0)
            continue;
        for (uint32_t k = 0; k < a->ports.n; k++) {
            int64_t at = a->ports.v[k].host - 20000;
            if ((a->ports.v[k].protocol == PROTOCOL_UDP) != (protocol == PROTOCOL_UDP) || at < 0
                || at >= (int64_t)ARRAY_LEN(used) || used[at])
                continue;
            used[at] = true;
            count--;
        }
    }
    return count;
}

static int verdict(struct reference *r, const struct sched_request *q, const struct node *n)
{
    const struct service *spec = q->spec;
    if (n->state != NODE_READY)
        return REFERENCE_STATE;
    bool driver = spec->driver == DRIVER_NONE;
    for (uint32_t i = 0; i < n->drivers.n; i++)
        driver |= n->drivers.v[i].healthy && strcmp(n->drivers.v[i].name, driver_kind_names[spec->driver]) == 0;
    if (!driver)
        return REFERENCE_DRIVER;
    for (uint32_t i = 0; i < spec->constraints.n; i++) {
        const struct constraint *c = &spec->constraints.v[i];
        struct matcher m;
        char number[ATTRIBUTE_NUMBER_SIZE];
        matcher_init(&m, c->attribute, c->op, &c->value);
        bool ok = matcher_matches(&m, n) && (c->op != OP_DISTINCT || attribute_value(n, c->attribute, number));
        matcher_clear(&m);
        if (!ok)
            return REFERENCE_CONSTRAINT;
    }
    for (uint32_t i = 0; i < spec->ports.n; i++)
        if (spec->ports.v[i].host && port_taken(r, q, n, spec->ports.v[i].host, spec->ports.v[i].protocol))
            return REFERENCE_PORT;
    for (uint32_t i = 0; i < spec->constraints.n; i++)
        if (spec->constraints.v[i].op == OP_DISTINCT && replicas_with(r, q, n, spec->constraints.v[i].attribute))
            return REFERENCE_DISTINCT;
    return REFERENCE_FITS;
}

/* --- room and score --- */

struct room { double cpus; int64_t memory_mb, disk_mb; };

static struct room used_on(struct reference *r, const struct node *n, const char *but)
{
    struct room used = {0};
    for (uint32_t i = 0; i < r->allocs.n; i++) {
        const struct alloc *a = &r->allocs.v[i];
        if (strcmp(a->node_id, n->id) != 0 || (but && strcmp(but, a->id) == 0))
            continue;
        used.cpus += a->cpus;
        used.memory_mb += a->memory_mb;
        used.disk_mb += a->disk_mb;
    }
    return used;
}

static int room_verdict(struct reference *r, const struct sched_request *q, const struct node *n)
{
    struct room used = used_on(r, n, q->ignore_alloc), need;
    sched_demand(q->spec, &need.cpus, &need.memory_mb, &need.disk_mb);
    if (used.cpus + need.cpus > n->cpus + 1e-7)
        return REFERENCE_CPU;
    if (used.memory_mb + need.memory_mb > n->memory_mb)
        return REFERENCE_MEMORY;
    if (need.disk_mb && used.disk_mb + need.disk_mb > n->disk_mb)
        return REFERENCE_DISK;
    int tcp = 0, udp = 0;
    for (uint32_t i = 0; i < q->spec->ports.n; i++)
        if (!q->spec->ports.v[i].host)
            *(q->spec->ports.v[i].protocol == PROTOCOL_UDP ? &udp : &tcp) += 1;
    if (tcp + udp > 0 && (free_ports(r, q, n, PROTOCOL_TCP) < tcp || free_ports(r, q, n, PROTOCOL_UDP) < udp))
        return REFERENCE_DYNAMIC;
    return REFERENCE_FITS;
}

static double free_share(double total, double used)
{
    if (total <= 0 || used >= total - 1e-9)
        return 0;
    return used <= 1e-9 ? 1 : (total - used) / total;
}

static int64_t score_of(struct reference *r, const struct sched_request *q, const struct node *n)
{
    const struct service *spec = q->spec;
    struct room used = used_on(r, n, q->ignore_alloc);
    double packing = (20 - exp10(free_share(n->cpus, used.cpus))
                      - exp10(free_share((double)n->memory_mb, (double)used.memory_mb))) / 18;
    int64_t score = llround(packing * 1e6), sum = 0, weights = 0;
    for (uint32_t i = 0; i < spec->affinities.n; i++) {
        const struct affinity *a = &spec->affinities.v[i];
        struct matcher m;
        matcher_init(&m, a->attribute, a->op, &a->value);
        sum += matcher_matches(&m, n) ? a->weight : 0;
        weights += llabs(a->weight);
        matcher_clear(&m);
    }
    score += weights ? sum * 1000000 / weights : 0;
    int64_t here = replicas_with(r, q, n, "node.id");
    if (spec->spread)
        score -= 10000000 * replicas_with(r, q, n, spec->spread);
    if (!spec->spread || !attribute_is_unique(spec->spread))
        score -= 200000 * (here < 5 ? here : 5);
    if (q->prefer_node && strcmp(q->prefer_node, n->id) == 0)
        score += 4500000;
    return score;
}

static uint64_t group_tie(const struct sched_request *q, const struct node *n)
{
    char number[ATTRIBUTE_NUMBER_SIZE];
    const char *spread = q->spec->spread, *v = NULL;
    if (spread && !attribute_is_unique(spread))
        v = attribute_value(n, spread, number);
    return hash_mix(q->seed ^ hash_string(v ? v : "", 0));
}

static bool is_better(const struct sched_request *q, const struct node *a, int64_t score_a, const struct node *b,
                      int64_t score_b)
{
    bool avoid_a = q->avoid_node && strcmp(q->avoid_node, a->id) == 0;
    bool avoid_b = q->avoid_node && strcmp(q->avoid_node, b->id) == 0;
    if (avoid_a != avoid_b)
        return avoid_b;
    if (score_a != score_b)
        return score_a > score_b;
    if (group_tie(q, a) != group_tie(q, b))
        return group_tie(q, a) < group_tie(q, b);
    return hash_string(a->id, 0) - q->seed < hash_string(b->id, 0) - q->seed;
}

const struct node *reference_place(struct reference *r, const struct sched_request *q, double *score,
                                   int64_t rejected[static REFERENCE_REASONS])
{
    const struct node *best = NULL;
    int64_t best_score = 0;
    memset(rejected, 0, REFERENCE_REASONS * sizeof(*rejected));
    for (uint32_t i = 0; i < r->nodes.n; i++) {
        const struct node *n = &r->nodes.v[i];
        if (q->only_node && strcmp(q->only_node, n->id) != 0)
            continue;
        int v = verdict(r, q, n);
        if (v == REFERENCE_FITS)
            v = room_verdict(r, q, n);
        if (v != REFERENCE_FITS) {
            rejected[v]++;
            continue;
        }
        int64_t s = score_of(r, q, n);
        if (!best || is_better(q, n, s, best, best_score)) {
            best = n;
            best_score = s;
        }
    }
    *score = (double)best_score / 1e6;
    return best;
}
