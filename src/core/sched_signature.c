#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "core/sched_view.h"

bool need_equal(const struct need *a, const struct need *b)
{
    return a->room.cpu_nano == b->room.cpu_nano && a->room.memory_mb == b->room.memory_mb
           && a->room.disk_mb == b->room.disk_mb && memcmp(a->ports, b->ports, sizeof(a->ports)) == 0;
}

int64_t signature_company_score(const struct signature *sig, int64_t count)
{
    if (sig->spread_node)
        return -SCORE_SPREAD * count;
    return -SCORE_COMPANY * (count < COMPANY_MOST ? count : COMPANY_MOST);
}

/* --- what is asked of a node by itself --- */

static int32_t driver_verdict(const struct signature *sig, const struct node *n)
{
    for (uint32_t i = 0; sig->driver && i < n->drivers.n; i++)
        if (n->drivers.v[i].name && strcmp(n->drivers.v[i].name, sig->driver) == 0)
            return n->drivers.v[i].healthy ? 0 : -REASON_CODE(REASON_SICK_DRIVER, 0);
    return sig->driver ? -REASON_CODE(REASON_NO_DRIVER, 0) : 0;
}

static int64_t affinity_score(const struct signature *sig, const struct node *n)
{
    int64_t sum = 0;
    for (uint32_t i = 0; i < sig->n_affinities; i++)
        if (matcher_matches(&sig->affinities[i], n))
            sum += sig->weights[i];
    return sig->weight_sum ? sum * SCORE_ONE / sig->weight_sum : 0;
}

static const char *value_or_none(const struct node *n, const char *attribute, char number[static ATTRIBUTE_NUMBER_SIZE])
{
    const char *v = attribute ? attribute_value(n, attribute, number) : NULL;
    return v ? v : "";
}

static int32_t group_of(struct signature *sig, const struct node *n)
{
    char number[ATTRIBUTE_NUMBER_SIZE];
    CLEANUP_BUF struct buf key = {0};
    int64_t affinity = affinity_score(sig, n);
    buf_add_u64(&key, (uint64_t)affinity);
    const char *spread = value_or_none(n, sig->spread, number);
    buf_add(&key, spread, strlen(spread) + 1);
    for (uint32_t i = 0; i < sig->distinct.n; i++) {
        const char *v = value_or_none(n, sig->distinct.v[i], number);
        buf_add(&key, v, strlen(v) + 1);
    }
    struct group *g;
    HASH_FIND(hh, sig->groups_by_key, key.data, key.len, g);
    if (g)
        return (int32_t)g->number;
    g = NEW(struct group);
    g->affinity = affinity;
    g->spread = mem_strdup(value_or_none(n, sig->spread, number));
    g->tie = hash_string(g->spread, 0);
    g->distinct = mem_array(sig->distinct.n + 1, sizeof(*g->distinct));
    for (uint32_t i = 0; i < sig->distinct.n; i++)
        g->distinct[i] = mem_strdup(value_or_none(n, sig->distinct.v[i], number));
    g->key_len = key.len;
    g->key = buf_steal(&key);
    g->number = sig->n_groups++;
    sig->groups = mem_realloc_array(sig->groups, sig->n_groups, sizeof(*sig->groups));
    sig->groups[g->number] = g;
    HASH_ADD_KEYPTR(hh, sig->groups_by_key, g->key, g->key_len, g);
    return (int32_t)g->number;
}

static int32_t facts_verdict(struct signature *sig, const struct node *n)
{
    int32_t driver = driver_verdict(sig, n);
    if (driver)
        return driver;
    for (uint32_t i = 0; i < sig->n_constraints; i++) {
        char number[ATTRIBUTE_NUMBER_SIZE];
        const struct matcher *m = &sig->constraints[i];
        if (!matcher_matches(m, n) || (m->op == OP_DISTINCT && !attribute_value(n, m->attribute, number)))
            return -REASON_CODE(REASON_CONSTRAINT, i);
    }
    return group_of(sig, n);
}

int32_t signature_verdict(struct sched *s, struct signature *sig, const struct sched_node *n)
{
    static const enum reason_kind states[] = {[NODE_READY] = REASON_NONE, [NODE_DRAINING] = REASON_DRAINING,
                                              [NODE_INELIGIBLE] = REASON_INELIGIBLE, [NODE_DOWN] = REASON_DOWN};
    if (n->facts.state != NODE_READY)
        return -REASON_CODE(states[n->facts.state], 0);
    if (sig->by_node)
        return facts_verdict(sig, &n->facts);
    uint32_t id = n->class->id;
    if (id >= sig->n_verdicts) {
        uint32_t cap = s->n_classes + s->n_classes / 2 + 8;
        sig->verdicts = mem_realloc_array(sig->verdicts, cap, sizeof(*sig->verdicts));
        memset(sig->verdicts + sig->n_verdicts, 0, (cap - sig->n_verdicts) * sizeof(*sig->verdicts));
        sig->n_verdicts = cap;
    }
    struct class_verdict *known = &sig->verdicts[id];
    if (known->serial != n->class->serial)
        *known = (struct class_verdict){n->class->serial, facts_verdict(sig, &n->facts)};
    return known->verdict;
}

int32_t signature_port_taken(const struct signature *sig, const struct sched_node *n,
                             const struct alloc_port_list *free_anyway)
{
    for (uint32_t i = 0; i < sig->ports.n; i++) {
        const struct port *p = &sig->ports.v[i];
        uint32_t used = port_set_count(&n->ports, p->host, p->protocol);
        for (uint32_t k = 0; used && free_anyway && k < free_anyway->n; k++)
            used -= free_anyway->v[k].host == p->host
                    && (free_anyway->v[k].protocol == PROTOCOL_UDP) == (p->protocol == PROTOCOL_UDP);
        if (used)
            return REASON_CODE(REASON_PORT, i);
    }
    return 0;
}

/* --- making one out of a spec --- */

static void add_text(struct buf *b, const char *s)
{
    buf_add_u8(b, s != NULL);
    if (s)
        buf_add(b, s, strlen(s) + 1);
}

static void add_condition(struct buf *b, const char *attribute, enum constraint_op op, const struct str_list *value)
{
    add_text(b, attribute);
    buf_add_u8(b, (uint8_t)op);
    buf_add_varint(b, value->n);
    for (uint32_t i = 0; i < value->n; i++)
        add_text(b, value->v[i]);
}

static void signature_key(const struct service *spec, struct buf *key)
{
    buf_add_u8(key, (uint8_t)spec->driver);
    add_text(key, spec->spread);
    buf_add_varint(key, spec->constraints.n);
    for (uint32_t i = 0; i < spec->constraints.n; i++) {
        const struct constraint *c = &spec->constraints.v[i];
        add_condition(key, c->attribute, c->op, &c->value);
    }
    buf_add_varint(key, spec->affinities.n);
    for (uint32_t i = 0; i < spec->affinities.n; i++) {
        const struct affinity *a = &spec->affinities.v[i];
        add_condition(key, a->attribute, a->op, &a->value);
        buf_add_u64(key, (uint64_t)a->weight);
    }
    for (uint32_t i = 0; i < spec->ports.n; i++)
        if (spec->ports.v[i].host) {
            buf_add_varint(key, (uint64_t)spec->ports.v[i].host);
            buf_add_u8(key, spec->ports.v[i].protocol == PROTOCOL_UDP);
        }
}

static void take_constraints(struct signature *sig, const struct service *spec)
{
    sig->n_constraints = spec->constraints.n;
    sig->constraints = mem_array(spec->constraints.n, sizeof(*sig->constraints));
    for (uint32_t i = 0; i < spec->constraints.n; i++) {
        const struct constraint *c = &spec->constraints.v[i];
        struct matcher *m = &sig->constraints[i];
        matcher_init(m, c->attribute, c->op, &c->value);
        if (c->op == OP_DISTINCT && attribute_is_unique(m->attribute))
            sig->distinct_node = true;
        else if (c->op == OP_DISTINCT)
            str_list_add(&sig->distinct, m->attribute);
        else
            sig->by_node |= attribute_is_unique(m->attribute);
    }
}

static void take_affinities(struct signature *sig, const struct service *spec)
{
    sig->affinities = mem_array(spec->affinities.n, sizeof(*sig->affinities));
    sig->weights = mem_array(spec->affinities.n, sizeof(*sig->weights));
    for (uint32_t i = 0; i < spec->affinities.n; i++) {
        const struct affinity *a = &spec->affinities.v[i];
        if (a->weight == 0 || a->op == OP_DISTINCT)
            continue;
        struct matcher *m = &sig->affinities[sig->n_affinities];
        matcher_init(m, a->attribute, a->op, &a->value);
        sig->weights[sig->n_affinities++] = a->weight;
        sig->weight_sum += a->weight < 0 ? -a->weight : a->weight;
        sig->by_node |= attribute_is_unique(m->attribute);
    }
}

static struct signature *signature_new(const struct service *spec, struct buf *key)
{
    struct signature *sig = NEW(struct signature);
    sig->key_len = key->len;
    sig->key = buf_steal(key);
    sig->driver = spec->driver == DRIVER_NONE ? NULL : driver_kind_names[spec->driver];
    sig->spread_node = spec->spread && attribute_is_unique(spec->spread);
    sig->spread = sig->spread_node ? NULL : mem_strdup(spec->spread);
    take_constraints(sig, spec);
    take_affinities(sig, spec);
    sig->ports.v = mem_array(spec->ports.n, sizeof(*sig->ports.v));
    for (uint32_t i = 0; i < spec->ports.n; i++)
        if (spec->ports.v[i].host)
            sig->ports.v[sig->ports.n++] = (struct port){.host = spec->ports.v[i].host,
                                                         .protocol = spec->ports.v[i].protocol};
    sig->common.signature = sig;
    return sig;
}

static void group_free(struct signature *sig, struct group *g)
{
    for (uint32_t i = 0; i < sig->distinct.n; i++)
        free(g->distinct[i]);
    free(g->distinct);
    free(g->spread);
    free(g->key);
    free(g);
}

/* Its views must be gone already. */
void signature_free(struct signature *sig)
{
    HASH_CLEAR(hh, sig->groups_by_key);
    for (uint32_t i = 0; i < sig->n_groups; i++)
        group_free(sig, sig->groups[i]);
    for (uint32_t i = 0; i < sig->n_constraints; i++)
        matcher_clear(&sig->constraints[i]);
    for (uint32_t i = 0; i < sig->n_affinities; i++)
        matcher_clear(&sig->affinities[i]);
    sched_reason_list_clear(&sig->failure.why);
    str_list_clear(&sig->distinct);
    free(sig->constraints);
    free(sig->affinities);
    free(sig->weights);
    free(sig->groups);
    free(sig->verdicts);
    free(sig->ports.v);
    free(sig->spread);
    free(sig->key);
    free(sig);
}

struct signature *signature_get(struct sched *s, const struct service *spec)
{
    CLEANUP_BUF struct buf key = {0};
    signature_key(spec, &key);
    struct signature *sig;
    HASH_FIND(hh, s->signatures, key.data, key.len, sig);
    if (sig) {
        TAILQ_REMOVE(&s->signatures_by_use, sig, link);
    } else {
        sig = signature_new(spec, &key);
        HASH_ADD_KEYPTR(hh, s->signatures, sig->key, sig->key_len, sig);
    }
    TAILQ_INSERT_HEAD(&s->signatures_by_use, sig, link);
    return sig;
}
