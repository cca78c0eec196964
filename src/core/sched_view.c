#include "core/sched_view.h"

#include <stdlib.h>
#include <string.h>

/* How many of each are kept. Views of large clusters are large: then fewer. */
#define KEPT_VIEWS 64
#define KEPT_SIGNATURES 256
#define KEPT_POSITIONS (1u << 17)

/* --- positions, shared in chunks --- */

static const struct position *position_get(const struct view *v, uint32_t slot)
{
    static const struct position nowhere = {.group = -REASON_CODE(REASON_GONE, 0)};
    uint32_t chunk = slot / POSITIONS_PER_CHUNK;
    return chunk < v->n_chunks ? &v->chunks[chunk]->v[slot % POSITIONS_PER_CHUNK] : &nowhere;
}

static struct position *position_edit(struct view *v, uint32_t slot)
{
    uint32_t chunk = slot / POSITIONS_PER_CHUNK;
    if (chunk >= v->n_chunks)
        v->chunks = mem_realloc_array(v->chunks, chunk + 1, sizeof(struct position_chunk *));
    for (; v->n_chunks <= chunk; v->n_chunks++) {
        struct position_chunk *c = v->chunks[v->n_chunks] = NEW(struct position_chunk);
        c->refs = 1;
        for (int i = 0; i < POSITIONS_PER_CHUNK; i++)
            c->v[i].group = -REASON_CODE(REASON_GONE, 0);
    }
    struct position_chunk **c = &v->chunks[chunk];
    if ((*c)->refs > 1) {
        (*c)->refs--;
        *c = mem_dup(*c, sizeof(**c));
        (*c)->refs = 1;
    }
    return &(*c)->v[slot % POSITIONS_PER_CHUNK];
}

/* --- keeping up --- */

void view_grow(struct sched *s, struct view *v)
{
    const struct signature *sig = v->signature;
    if (v->n_groups == sig->n_groups)
        return;
    v->groups = mem_realloc_array(v->groups, sig->n_groups, sizeof(*v->groups));
    for (; v->n_groups < sig->n_groups; v->n_groups++) {
        struct view_group *g = &v->groups[v->n_groups];
        const struct group *of = sig->groups[v->n_groups];
        *g = (struct view_group){0};
        if (!v->service)
            continue;
        if (sig->spread)
            g->spread = service_tally(s, v->service, sig->spread, of->spread);
        if (sig->distinct.n)
            g->distinct = mem_array(sig->distinct.n, sizeof(*g->distinct));
        for (uint32_t i = 0; i < sig->distinct.n; i++)
            g->distinct[i] = service_tally(s, v->service, sig->distinct.v[i], of->distinct[i]);
    }
}

static int32_t view_verdict(struct sched *s, const struct view *v, const struct sched_node *n, int64_t count)
{
    int32_t verdict = signature_verdict(s, v->signature, n);
    if (verdict < 0)
        return verdict;
    int32_t port = signature_port_taken(v->signature, n, NULL);
    if (port)
        return -port;
    return v->signature->distinct_node && count ? -REASON_CODE(REASON_DISTINCT, 0) : verdict;
}

/* Moves the node to where it belongs now. */
static void place_node(struct sched *s, struct view *v, uint32_t slot)
{
    const struct sched_node *n = s->nodes[slot];
    const struct position old = *position_get(v, slot);
    struct position now = {.stamp = s->stamps[slot], .group = -REASON_CODE(REASON_GONE, 0)};
    if (n) {
        int64_t count = v->service ? service_count_on(v->service, slot) : 0;
        now.group = view_verdict(s, v, n, count);
        now.score = n->packing + signature_company_score(v->signature, count);
        now.tie = n->tie;
    }
    view_grow(s, v);
    if (old.group >= 0) {
        struct view_group *g = &v->groups[old.group];
        tree_remove(&s->pool, &g->root, &(struct tree_item){old.score, old.tie, slot, {0}});
        g->best_known = false;
    }
    if (now.group >= 0) {
        struct view_group *g = &v->groups[now.group];
        tree_insert(&s->pool, &g->root, &(struct tree_item){now.score, now.tie, slot, node_free_room(n)});
        g->best_known = false;
    }
    *position_edit(v, slot) = now;
}

static void place_node_if_changed(struct sched *s, struct view *v, uint32_t slot)
{
    if (position_get(v, slot)->stamp != s->stamps[slot])
        place_node(s, v, slot);
}

static void follow_journal(struct sched *s, struct view *v)
{
    uint64_t behind = s->journal_at - v->journal_at;
    if (behind > JOURNAL_SIZE || behind > s->n_slots)
        for (uint32_t slot = 0; slot < s->n_slots; slot++)
            place_node_if_changed(s, v, slot);
    else
        for (uint64_t at = v->journal_at; at != s->journal_at; at++)
            place_node_if_changed(s, v, s->journal[at % JOURNAL_SIZE]);
    v->journal_at = s->journal_at;
    view_grow(s, v);
}

/* --- views --- */

static void view_clear(struct sched *s, struct view *v)
{
    for (uint32_t i = 0; i < v->n_groups; i++) {
        tree_release(&s->pool, &v->groups[i].root);
        free(v->groups[i].distinct);
    }
    for (uint32_t i = 0; i < v->n_chunks; i++)
        if (--v->chunks[i]->refs == 0)
            free(v->chunks[i]);
    free(v->groups);
    free(v->chunks);
    v->groups = NULL;
    v->chunks = NULL;
    v->n_groups = v->n_chunks = 0;
}

static void view_drop(struct sched *s, struct view *v)
{
    TAILQ_REMOVE(&s->views_by_use, v, link);
    s->n_views--;
    view_clear(s, v);
    sched_reason_list_clear(&v->failure.why);
    v->service->view = NULL;
    sched_service_drop_unused(s, v->service);
    free(v);
}

/* Takes over the common view, then puts the service's own nodes right. */
static void copy_common(struct sched *s, struct view *v)
{
    struct view *common = &v->signature->common;
    follow_journal(s, common);
    view_clear(s, v);
    view_grow(s, v);
    for (uint32_t i = 0; i < common->n_groups; i++)
        v->groups[i].root = tree_share(common->groups[i].root);
    v->chunks = mem_array(common->n_chunks, sizeof(struct position_chunk *));
    for (; v->n_chunks < common->n_chunks; v->n_chunks++) {
        v->chunks[v->n_chunks] = common->chunks[v->n_chunks];
        v->chunks[v->n_chunks]->refs++;
    }
    for (struct presence *p = v->service->presence; p; p = p->hh.next)
        place_node(s, v, p->slot);
    v->journal_at = s->journal_at;
}

static struct view *view_new(struct sched *s, struct signature *sig, struct sched_service *service)
{
    struct view *v = NEW(struct view);
    v->signature = sig;
    v->service = service;
    service->view = v;
    s->n_views++;
    TAILQ_INSERT_HEAD(&s->views_by_use, v, link);
    copy_common(s, v);
    return v;
}

static void forget_signature(struct sched *s, struct signature *sig)
{
    struct view *v, *next;
    for (v = TAILQ_FIRST(&s->views_by_use); v; v = next) {
        next = TAILQ_NEXT(v, link);
        if (v->signature == sig)
            view_drop(s, v);
    }
    view_clear(s, &sig->common);
    TAILQ_REMOVE(&s->signatures_by_use, sig, link);
    HASH_DEL(s->signatures, sig);
    signature_free(sig);
}

static void forget_old(struct sched *s)
{
    uint32_t most = KEPT_POSITIONS / (s->n_slots + 1) + 4;
    uint32_t views = most < KEPT_VIEWS ? most : KEPT_VIEWS;
    uint32_t signatures = most < KEPT_SIGNATURES ? most : KEPT_SIGNATURES;
    while (s->n_views > views)
        view_drop(s, TAILQ_LAST(&s->views_by_use, view_list));
    while (HASH_COUNT(s->signatures) > signatures)
        forget_signature(s, TAILQ_LAST(&s->signatures_by_use, signature_list));
}

void view_forget(struct sched *s, struct sched_service *service)
{
    view_drop(s, service->view);
}

void view_forget_all(struct sched *s)
{
    while (!TAILQ_EMPTY(&s->signatures_by_use))
        forget_signature(s, TAILQ_FIRST(&s->signatures_by_use));
}

struct view *view_get(struct sched *s, const struct service *spec, struct sched_service *service)
{
    struct signature *sig = signature_get(s, spec);
    struct view *v = service->view;
    if (v && v->signature == sig) {
        TAILQ_REMOVE(&s->views_by_use, v, link);
        TAILQ_INSERT_HEAD(&s->views_by_use, v, link);
        /* A copy costs about as much as moving each of the service's nodes; following may cost less. */
        if (s->journal_at - v->journal_at <= 2 * (uint64_t)HASH_COUNT(service->presence) + 32)
            follow_journal(s, v);
        else
            copy_common(s, v);
    } else {
        service->allocs++;           /* holds the record while its old view goes */
        if (v)
            view_drop(s, v);
        service->allocs--;
        v = view_new(s, sig, service);
    }
    forget_old(s);
    return v;
}
