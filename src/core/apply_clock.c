/* The clock was set. Times at which something began, of which the core measures how long ago that is, are moved by as much:
 * what waits goes on waiting for what was left. Times that people gave or see (schedules, expiry, when something happened)
 * stay what they are. */
#include "core/apply.h"

#define BY_MOST_MS (200 * 366 * 86400000LL)
/* A schedule's next run is looked for anew when the clock went back by more: what runs each night does not run twice in
 * one, but does not wait for a wrong year's night either. */
#define SCHEDULE_BACK_MS (3 * 3600000LL)

/* 0 is no time. */
static void move(int64_t *time, int64_t by)
{
    if (*time)
        *time += by;
}

static void move_alloc(struct alloc_entry *a, int64_t by)
{
    move(&a->running_since, by);
    move(&a->ok_since, by);
    move(&a->ended_at, by);
    move(&a->restarted_at, by);
    move(&a->entered_at, by);
    move(&a->left_at, by);
}

int apply_clock(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    int64_t by = ((const struct command_clock *)payload)->by;
    struct alloc_entry *a;
    struct deployment_entry *d;
    struct service_entry *s;
    struct key_entry *k;
    if (by < -BY_MOST_MS || by > BY_MOST_MS)
        return error_set(err, ERROR_INVALID, "no clock is set by %lld ms", (long long)by);
    RB_FOREACH(a, alloc_id_tree, &c->allocs)
        move_alloc(a, by);
    RB_FOREACH(d, deployment_tree, &c->deployments) {
        move(&d->progress_at, by);
        move(&d->share_at, by);
        move(&d->d.analysis.since, by);
    }
    RB_FOREACH(s, service_tree, &c->services) {
        if (by < -SCHEDULE_BACK_MS)
            s->next_run_at = 0;
        state_set_dirty(c, s);
    }
    TAILQ_FOREACH(k, &c->key_order, link)
        move(&k->time, by);
    move(&c->staging.at, by);
    return 0;
}
