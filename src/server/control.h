/* Control: the core thread. It owns consensus, the core and its timers; requests come and go by queues.
 *
 * A read's way: queue → [barrier] → [wait until the watched thing is newer] → route's read → answer to the HTTP thread.
 * A write's way: queue → route's write → propose → durable, applied → answer.
 * The leader's loop: something was applied, or core_next_wake has come → core_decide → propose; one at a time. */
#pragma once
#include <uv.h>

#include "consensus/consensus.h"
#include "core/core.h"
#include "server/liveness.h"
#include "server/metrics.h"
#include "server/queue.h"
#include "server/request.h"
#include "server/server_config.h"

RB_HEAD(wait_tree, request);

struct control {
    const struct server_config *config;
    uv_loop_t *loop;
    struct consensus *consensus;
    struct core *core;
    struct queue inbox;
    uv_prepare_t turn;               /* end of a turn: wakes waiting reads, decides */
    uv_timer_t decide_timer, wait_timer, liveness_timer;
    struct wait_tree waits;          /* by deadline */
    size_t wait_count;
    struct liveness liveness;
    uint64_t seed;                   /* of the next decision */
    enum consensus_role role;
    int64_t started_ms;
    bool applied;                    /* something was applied in this turn */
    bool look;                       /* core_decide may have something to do */
    bool decide_in_flight;
    bool stopping;
    struct control_metrics metrics;
};

/* Opens the data directory and starts; requests may be sent to control->inbox from then on. 0, or -1 with err, after
 * which nothing is left to close. */
int control_start(struct control *c, uv_loop_t *loop, const struct server_config *config,
                  struct error *err);
/* Answers what waits at once, as if its time had passed, and lets nothing wait any more. */
void control_stop_waiting(struct control *c);
/* Ends consensus and closes all handles; when no HTTP thread sends any more. The loop runs out of handles then. */
void control_stop(struct control *c);
/* After the loop ended. */
void control_free(struct control *c);

/* For handlers on the core thread. Ids may be given by a unique beginning, nodes by name too. NULL with err. */
const struct alloc *control_find_alloc(struct control *c, const char *text, struct error *err);
const struct node *control_find_node(struct control *c, const char *text, struct error *err);
