/* The leader's part: the services whose inputs changed, by priority, until the batch is full. */
#include <stdlib.h>

#include "core/reconcile.h"

static void wake_due(struct core *c, int64_t now_ms)
{
    struct service_entry *s;
    while ((s = RB_MIN(wake_tree, &c->wakes)) && s->wake_at <= now_ms) {
        state_set_wake(c, s, NEVER);
        state_set_dirty(c, s);
    }
    if (!c->room)
        return;
    c->room = false;
    TAILQ_FOREACH(s, &c->blocked, blocked_link)
        state_set_dirty(c, s);
}

static int compare_priority(const void *a, const void *b)
{
    const struct service_entry *x = *(struct service_entry *const *)a, *y = *(struct service_entry *const *)b;
    return spec_compare(&x->current->v.spec, &y->current->v.spec);
}

static struct service_entry **sorted_dirty(struct core *c, size_t *n)
{
    struct service_entry *s, **list;
    *n = 0;
    TAILQ_FOREACH(s, &c->dirty, dirty_link)
        ++*n;
    list = mem_array(*n + 1, sizeof(struct service_entry *));
    *n = 0;
    TAILQ_FOREACH(s, &c->dirty, dirty_link)
        list[(*n)++] = s;
    qsort(list, *n, sizeof(struct service_entry *), compare_priority);
    return list;
}

static void forget_down_nodes(struct decider *d)
{
    struct node_entry *n;
    TAILQ_FOREACH(n, &d->c->down_nodes, down) {
        if (d->now - n->n.state_since < DOWN_NODE_KEPT_MS)
            return;
        str_list_add(&d->out.forget_nodes, n->n.id);
    }
}

bool core_decide(struct core *c, int64_t now_ms, uint64_t seed, struct buf *command)
{
    struct decider d;
    size_t n;
    wake_due(c, now_ms);
    decider_begin(&d, c, now_ms, seed);
    struct service_entry **dirty = sorted_dirty(c, &n);
    for (size_t i = 0; i < n && !decider_is_full(&d); i++)
        reconcile_service(&d, dirty[i]);
    free(dirty);
    forget_down_nodes(&d);
    decider_end(&d);
    c->room |= d.out.places.n > 0;          /* what was decided may never take the room that others found taken */
    bool some = d.out.places.n || d.out.stops.n || d.out.restarts.n || d.out.deployments.n || d.out.services.n
                || d.out.forget.n || d.out.forget_nodes.n;
    if (some)
        command_encode_payload(COMMAND_DECIDE, now_ms, NULL, NULL, &d.out, command);
    type_clear(&command_decide_type, &d.out);
    return some;
}

int64_t core_next_wake(const struct core *c)
{
    const struct service_entry *s = RB_MIN(wake_tree, (struct wake_tree *)&c->wakes);
    const struct node_entry *down = TAILQ_FIRST(&c->down_nodes);
    int64_t at = s ? s->wake_at : NEVER;
    if (down && down->n.state_since + DOWN_NODE_KEPT_MS < at)
        at = down->n.state_since + DOWN_NODE_KEPT_MS;
    return at;
}
