#include "core/sched.h"

#include <stdlib.h>

#include "base/random.h"
#include "core/sched_ask.h"

void sched_choice_clear(struct sched_choice *c)
{
    free(c->node_id);
    list_clear((struct list *)&c->ports, &alloc_port_type);
    *c = (struct sched_choice){0};
}

/* --- searching the trees ---
 * A group's nodes differ from each other only in what their tree is ordered by, so the group's best one is the first
 * in order that fits, and the best one of all is among those. What makes single nodes different from how the trees
 * have them (the node of the ignored allocation, the one to avoid) is left out here and looked at by itself. */

struct search {
    const struct ask *ask;
    struct tree_query query;
    bool skips;                      /* some nodes are left out: what is remembered of the groups is not for this */
};

static bool accept_node(void *ctx, uint32_t slot)
{
    const struct search *search = ctx;
    const struct ask *a = search->ask;
    const struct sched_node *n = a->s->nodes[slot];
    return n != a->avoid && !(a->ignored && a->ignored->node == n) && ask_has_ports(a, n);
}

/* The score, within the group, of its best node that fits. */
static bool best_score(struct search *search, struct view_group *g, int64_t *score)
{
    if (!search->skips && g->best_known) {
        *score = g->best_score;
        return g->best_found;
    }
    const struct tree_item *best = tree_best(g->root, &search->query);
    if (best)
        *score = best->score;
    if (!search->skips) {
        g->best_known = true;
        g->best_found = best != NULL;
        g->best_score = best ? best->score : 0;
    }
    return best != NULL;
}

static const struct sched_node *pick(const struct search *search, const struct view_group *g, int64_t score)
{
    uint64_t turn = search->ask->request->seed;
    const struct tree_item *item = tree_best_from(g->root, &search->query, score, turn);
    if (!item)
        item = tree_best_from(g->root, &search->query, score, 0);
    INVARIANT(item);
    return search->ask->s->nodes[item->slot];
}

static void search_trees(const struct ask *a, struct candidate *best)
{
    struct search search = {.ask = a, .skips = a->avoid || a->ignored};
    search.query = (struct tree_query){a->need.room, accept_node, &search};
    struct view *v = a->view;
    if (!need_equal(&v->need, &a->need)) {
        for (uint32_t i = 0; i < v->n_groups; i++)
            v->groups[i].best_known = false;
        v->need = a->need;
    }
    for (uint32_t i = 0; i < v->n_groups; i++) {
        struct view_group *g = &v->groups[i];
        struct score common = {0};
        uint32_t which;
        int64_t within;
        if (!g->root || !ask_group(a, i, &common, &which) || !best_score(&search, g, &within))
            continue;
        int64_t total = within + common.affinity + common.spread;
        uint64_t tie = ask_group_tie(a, i);
        if (best->node && (total < best->score.total || (total == best->score.total && tie > best->group_tie)))
            continue;
        struct candidate c = {.node = pick(&search, g, within), .score.total = total, .group_tie = tie};
        c.node_tie = ask_node_tie(a, c.node);
        if (candidate_is_better(&c, best))
            *best = c;
    }
}

static void try_node(const struct ask *a, const struct sched_node *n, struct candidate *best)
{
    struct candidate c;
    if (n && ask_node(a, n, &c) == 0 && candidate_is_better(&c, best))
        *best = c;
}

/* --- one request --- */

/* Where a failure of this request is remembered. Without `distinct` no service's replicas can be in its way more than
 * another's, so that all services of the signature fail alike. */
static struct failure *failure_of(const struct ask *a)
{
    struct signature *sig = a->view->signature;
    if (a->request->only_node || a->ignored)
        return NULL;
    return sig->distinct_node || sig->distinct.n ? &a->view->failure : &sig->failure;
}

static bool failed_before(const struct ask *a, const struct failure *f)
{
    return f && f->known && f->journal_at == a->s->journal_at && need_equal(&f->need, &a->need);
}

static int fail(const struct ask *a, struct failure *f, struct sched_reason_list *why)
{
    if (!why)
        return -1;
    if (!f) {
        ask_reasons(a, why);
        return -1;
    }
    if (!failed_before(a, f)) {
        sched_reason_list_clear(&f->why);
        ask_reasons(a, &f->why);
        f->known = true;
        f->journal_at = a->s->journal_at;
        f->need = a->need;
    }
    reason_list_copy(why, &f->why);
    return -1;
}

static void fill_choice(const struct ask *a, const struct candidate *best, struct sched_choice *choice)
{
    const struct sched_node *n = best->node;
    const struct service *spec = a->request->spec;
    *choice = (struct sched_choice){.node_id = mem_strdup(n->facts.id),
                                    .score = (double)best->score.total / (double)SCORE_ONE};
    sched_demand(spec, &choice->cpus, &choice->memory_mb, &choice->disk_mb);
    const struct alloc_port_list *back = a->ignored && a->ignored->node == n ? &a->ignored->ports : NULL;
    port_choose(&n->ports, &spec->ports, back, hash_mix(a->request->seed ^ n->tie), &choice->ports);
}

int sched_place(struct sched *s, const struct sched_request *request, struct sched_choice *choice,
                struct sched_reason_list *why)
{
    struct ask a;
    ask_init(&a, s, request);
    if (why)
        *why = (struct sched_reason_list){0};
    *choice = (struct sched_choice){0};
    struct failure *f = failure_of(&a);
    if (failed_before(&a, f))
        return fail(&a, f, why);
    struct candidate best = {0};
    if (request->only_node) {
        try_node(&a, sched_node_find(s, request->only_node), &best);
    } else {
        if (a.ignored && a.ignored->node != a.avoid)
            try_node(&a, a.ignored->node, &best);
        try_node(&a, a.prefer, &best);
        search_trees(&a, &best);
        if (!best.node)
            try_node(&a, a.avoid, &best);
    }
    if (!best.node)
        return fail(&a, f, why);
    fill_choice(&a, &best, choice);
    return 0;
}

/* --- explaining --- */

static void add_part(struct buf *b, const char *name, int64_t value, bool always)
{
    if (value || always)
        buf_printf(b, "%s %s %.2f", b->len && b->data[b->len - 1] == ':' ? "" : ",", name,
                   (double)value / (double)SCORE_ONE);
}

void sched_explain_node(struct sched *s, const struct sched_request *request, const char *node_id, bool *fits,
                        struct buf *text)
{
    struct ask a;
    ask_init(&a, s, request);
    const struct sched_node *n = sched_node_find(s, node_id);
    struct candidate c;
    int32_t code = n ? ask_node(&a, n, &c) : REASON_CODE(REASON_GONE, 0);
    bool elsewhere = request->only_for_volume && strcmp(node_id, request->only_node) != 0;
    *fits = code == 0 && !elsewhere;
    if (elsewhere) {
        buf_add_string(text, "the replica's volume is on another node");
        return;
    }
    if (code) {
        struct tree_room room = n ? ask_free_room(&a, n) : (struct tree_room){0};
        reason_format(&a, code, &room, n, text);
        return;
    }
    CLEANUP_BUF struct buf parts = {0};
    buf_printf(&parts, "score %.2f:", (double)c.score.total / (double)SCORE_ONE);
    add_part(&parts, "bin packing", c.score.packing, true);
    add_part(&parts, "affinity", c.score.affinity, false);
    add_part(&parts, "spread", c.score.spread, false);
    add_part(&parts, "replicas of the same service", c.score.company, false);
    add_part(&parts, "was here before", c.score.previous, false);
    if (n == a.avoid)
        buf_add_string(&parts, "; the last choice, because it just failed here");
    buf_add(text, parts.data, parts.len);
}
