#include "net/deadline.h"

#include <stddef.h>

#include "base/mem.h"

static int deadline_compare(const struct deadline *a, const struct deadline *b)
{
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return a < b ? -1 : a > b;
}

RB_GENERATE_INTERNAL(deadline_tree, deadline, entry, deadline_compare, __attribute__((unused)) static)

static void on_timer(uv_timer_t *timer);

static void arm(struct deadlines *all)
{
    struct deadline *first = RB_MIN(deadline_tree, &all->tree);
    if (!first || uv_is_closing((uv_handle_t *)&all->timer))
        return;
    uint64_t at = (first->key / DEADLINE_GRAIN_MS + 1) * DEADLINE_GRAIN_MS;
    if (all->armed && all->armed <= at)
        return;
    all->armed = at;
    uint64_t now = uv_now(all->timer.loop);
    uv_timer_start(&all->timer, on_timer, at > now ? at - now : 0, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct deadlines *all = container_of(timer, struct deadlines, timer);
    all->armed = 0;
    uint64_t now = uv_now(timer->loop);
    struct deadline *d;
    while ((d = RB_MIN(deadline_tree, &all->tree)) && d->key <= now) {
        RB_REMOVE(deadline_tree, &all->tree, d);
        d->key = 0;
        if (d->due > now) {
            d->key = d->due;
            RB_INSERT(deadline_tree, &all->tree, d);
        } else if (d->due) {
            d->due = 0;
            d->fire(d);
        }
    }
    arm(all);
}

void deadlines_init(struct deadlines *all, uv_loop_t *loop)
{
    uv_timer_init(loop, &all->timer);
    RB_INIT(&all->tree);
    all->armed = 0;
}

void deadlines_close(struct deadlines *all, uv_close_cb on_closed)
{
    uv_close((uv_handle_t *)&all->timer, on_closed);
}

void deadline_set(struct deadlines *all, struct deadline *d, int64_t in_ms, void (*fire)(struct deadline *d))
{
    d->due = uv_now(all->timer.loop) + (uint64_t)(in_ms > 0 ? in_ms : 1);
    d->fire = fire;
    if (d->key && d->key <= d->due)
        return;
    if (d->key)
        RB_REMOVE(deadline_tree, &all->tree, d);
    d->key = d->due;
    RB_INSERT(deadline_tree, &all->tree, d);
    arm(all);
}

void deadline_remove(struct deadlines *all, struct deadline *d)
{
    if (d->key)
        RB_REMOVE(deadline_tree, &all->tree, d);
    d->key = d->due = 0;
}
