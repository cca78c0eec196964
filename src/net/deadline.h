/* Deadlines: any number of timeouts on one libuv timer, which only runs while one is set. Coarse: a deadline fires
 * up to DEADLINE_GRAIN_MS late, so that many fall into one wakeup. */
#pragma once
#include <bsd/sys/tree.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define DEADLINE_GRAIN_MS 250

/* Embedded in what it belongs to; zeroed means not set. Moving it later or unsetting it costs nothing: the entry
 * stays where it is in the tree until its old time comes. */
struct deadline {
    RB_ENTRY(deadline) entry;
    uint64_t key;       /* position in the tree; 0: not in it */
    uint64_t due;       /* when it really fires; 0: not set */
    void (*fire)(struct deadline *d);
};
RB_HEAD(deadline_tree, deadline);

struct deadlines {
    uv_timer_t timer;
    struct deadline_tree tree;
    uint64_t armed;     /* when the timer fires; 0: it does not run */
};

void deadlines_init(struct deadlines *all, uv_loop_t *loop);
/* Closes the timer; on_closed gets the uv handle, whose data is what timer.data held. */
void deadlines_close(struct deadlines *all, uv_close_cb on_closed);

void deadline_set(struct deadlines *all, struct deadline *d, int64_t in_ms, void (*fire)(struct deadline *d));
static inline void deadline_unset(struct deadline *d) { d->due = 0; }
static inline bool deadline_is_set(const struct deadline *d) { return d->due; }
/* Takes it out of the tree; before the memory that holds it goes away. */
void deadline_remove(struct deadlines *all, struct deadline *d);
