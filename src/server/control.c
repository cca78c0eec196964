#include "server/control.h"

#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "base/text.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "server/http_thread.h"
#include "server/page.h"

#define RETRY_MS 1000           /* after a decision that could not be written */

static int wait_compare(const struct request *a, const struct request *b)
{
    if (a->deadline_ms != b->deadline_ms)
        return a->deadline_ms < b->deadline_ms ? -1 : 1;
    return a < b ? -1 : a > b;
}
RB_GENERATE_INTERNAL(wait_tree, request, wait_link, wait_compare, __attribute__((unused)) static)

static void answer(struct request *r)
{
    queue_push_answer(http_thread_answers(r->thread), &r->item);
}

static void refuse(struct request *r, enum error_code code, const char *text)
{
    error_set(&r->answer.error, code, "%s", text);
    answer(r);
}

/* --- waiting reads --- */

static void on_wait_timer(uv_timer_t *timer);

static void wait_arm(struct control *c)
{
    struct request *first = RB_MIN(wait_tree, &c->waits);
    if (!first) {
        uv_timer_stop(&c->wait_timer);
        return;
    }
    int64_t left = first->deadline_ms - time_monotonic_ms();
    uint64_t due = left > 0 ? (uint64_t)left : 0;
    if (!uv_is_active((uv_handle_t *)&c->wait_timer) || uv_timer_get_due_in(&c->wait_timer) != due)
        uv_timer_start(&c->wait_timer, on_wait_timer, due, 0);
}

static void wait_remove(struct control *c, struct request *r)
{
    RB_REMOVE(wait_tree, &c->waits, r);
    c->wait_count--;
}

/* Those whose clients left are found when room is needed, and when something is applied. */
static void wait_sweep(struct control *c)
{
    struct request *r, *next;
    RB_FOREACH_SAFE(r, wait_tree, &c->waits, next)
        if (atomic_load(&r->gone)) {
            wait_remove(c, r);
            answer(r);
        }
}

static bool wait_add(struct control *c, struct request *r)
{
    if (c->wait_count >= (size_t)c->config->max_waiting)
        wait_sweep(c);
    if (c->wait_count >= (size_t)c->config->max_waiting)
        return false;
    RB_INSERT(wait_tree, &c->waits, r);
    c->wait_count++;
    if (RB_MIN(wait_tree, &c->waits) == r)
        wait_arm(c);
    return true;
}

static bool newer(struct control *c, const struct request *r)
{
    const struct route *route = r->route;
    const char *name = route->watch_name ? route->watch_name(c, r) : NULL;
    if (route->watch_name && !name)
        return true;
    return core_changed(c->core, route->watch, name) > r->index;
}

/* Answers the read, or puts it to wait. */
static void read_or_wait(struct control *c, struct request *r)
{
    if (c->stopping || time_monotonic_ms() >= r->deadline_ms)
        r->expired = true;
    bool wait = r->has_index && !r->expired && !newer(c, r);
    int rc = wait ? READ_NOT_YET : r->route->read(c, r, &r->answer.error);
    r->answer.index = core_index(c->core);
    if (rc != READ_NOT_YET)
        answer(r);
    else if (!wait_add(c, r))
        refuse(r, ERROR_TOO_MANY, "too many requests wait for changes already; ask without index, or later");
}

static void wake(struct control *c, bool expired_only)
{
    int64_t now = time_monotonic_ms();
    struct queue_list ready = STAILQ_HEAD_INITIALIZER(ready);
    struct request *r, *next;
    RB_FOREACH_SAFE(r, wait_tree, &c->waits, next) {
        bool due = c->stopping || r->deadline_ms <= now;
        if (expired_only && !due)
            break;
        if (due || atomic_load(&r->gone) || newer(c, r)) {
            wait_remove(c, r);
            STAILQ_INSERT_TAIL(&ready, &r->item, link);
        }
    }
    struct queue_item *item;
    while ((item = STAILQ_FIRST(&ready))) {
        STAILQ_REMOVE_HEAD(&ready, link);
        r = container_of(item, struct request, item);
        if (atomic_load(&r->gone))
            answer(r);
        else
            read_or_wait(c, r);
    }
    wait_arm(c);
}

static void on_wait_timer(uv_timer_t *timer)
{
    wake(timer->data, true);
}

void control_stop_waiting(struct control *c)
{
    c->stopping = true;
    wake(c, false);
}

/* --- requests --- */

static void on_barrier(void *ctx, void *request, enum consensus_outcome outcome, uint64_t index)
{
    struct request *r = request;
    if (consensus_outcome_error(outcome, &r->answer.error))
        answer(r);
    else
        read_or_wait(ctx, r);
}

static void read_start(struct control *c, struct request *r)
{
    r->deadline_ms = time_monotonic_ms() + r->wait_ms;
    r->expired = false;
    if (r->consistency == CONSISTENCY_STRONG)
        consensus_barrier(c->consensus, on_barrier, r);
    else
        read_or_wait(c, r);
}

/* Where to make room, and how much. */
static void say_space(const struct control *c, struct error *err)
{
    struct consensus_stats stats;
    consensus_stats(c->consensus, &stats);
    error_set(err, ERROR_NO_SPACE, "the disk of server %s is full; nothing was changed. Free some space for %s: %llu MiB are "
              "free, changes are refused below %lld MiB", c->config->name, c->config->data_dir,
              (unsigned long long)stats.disk_free_bytes >> 20, (long long)c->config->reserve_mb);
}

static void on_write_done(void *ctx, void *request, enum consensus_outcome outcome, uint64_t index)
{
    struct control *c = ctx;
    struct request *r = request;
    histogram_add(&c->metrics.propose, (int64_t)uv_hrtime() - r->proposed_ns);
    if (consensus_outcome_error(outcome, &r->answer.error)) {
        if (outcome == CONSENSUS_NO_SPACE)
            say_space(c, &r->answer.error);
        answer(r);
        return;
    }
    r->answer.index = index;
    if (r->result.error.code != ERROR_NONE) {
        r->answer.error = r->result.error;
        c->metrics.refused++;
    } else {
        r->answer.body = r->result.body;
        r->result.body = (struct buf){0};
        if (r->route->applied)
            r->route->applied(c, r);
        else if (!r->answer.body.len && r->route->response)
            buf_printf(&r->answer.body, "{\"index\":%llu}", (unsigned long long)index);
    }
    answer(r);
}

static void write_start(struct control *c, struct request *r)
{
    if (r->route->write && r->route->write(c, r, &r->answer.error)) {
        r->answer.index = core_index(c->core);
        answer(r);
        return;
    }
    r->proposed_ns = (int64_t)uv_hrtime();
    consensus_propose(c->consensus, r->command.data, r->command.len, on_write_done, r);
}

static void on_request(void *ctx, struct queue_item *item)
{
    struct control *c = ctx;
    struct request *r = container_of(item, struct request, item);
    if (atomic_load(&r->gone) && !r->command.len)
        answer(r);
    else if (r->route->read)
        read_start(c, r);
    else if (c->stopping)
        refuse(r, ERROR_UNAVAILABLE, "this server is stopping; nothing was done");
    else
        write_start(c, r);
}

/* --- the leader's loop --- */

static void on_decide_timer(uv_timer_t *timer)
{
    struct control *c = timer->data;
    c->look = true;
}

static void decide_later(struct control *c, int64_t delay_ms)
{
    uv_timer_start(&c->decide_timer, on_decide_timer, delay_ms > 0 ? (uint64_t)delay_ms : 0, 0);
}

static void on_decide_done(void *ctx, void *request, enum consensus_outcome outcome, uint64_t index)
{
    struct control *c = ctx;
    c->decide_in_flight = false;
    if (outcome == CONSENSUS_COMMITTED)
        c->look = true;
    else
        decide_later(c, RETRY_MS);
}

static void decide(struct control *c)
{
    CLEANUP_BUF struct buf command = {0};
    int64_t now = time_now_ms();
    uint64_t start = uv_hrtime();
    c->look = false;
    bool found = core_decide(c->core, now, c->seed, &command);
    histogram_add(&c->metrics.decide, (int64_t)(uv_hrtime() - start));
    if (found) {
        c->seed = hash_mix(c->seed + 1);
        c->decide_in_flight = true;
        c->metrics.decisions++;
        uv_timer_stop(&c->decide_timer);
        consensus_propose(c->consensus, command.data, command.len, on_decide_done, NULL);
        return;
    }
    int64_t due = core_next_wake(c->core);
    if (due == INT64_MAX)
        uv_timer_stop(&c->decide_timer);
    else
        /* The wall clock may be set meanwhile: look again at the latest in an hour. At least 1 ms, whatever the core
         * says, so that a due time in the past cannot make the loop spin. */
        decide_later(c, due - now > 3600000 ? 3600000 : due > now ? due - now : 1);
}

static void on_turn(uv_prepare_t *prepare)
{
    struct control *c = prepare->data;
    if (c->applied) {
        c->applied = false;
        c->look = true;
        wake(c, false);
    }
    if (c->look && !c->decide_in_flight && c->role == CONSENSUS_LEADER && !c->stopping)
        decide(c);
}

/* --- liveness of nodes --- */

static void on_liveness_timer(uv_timer_t *timer);

static void liveness_arm(struct control *c, int64_t due_ms)
{
    if (due_ms == INT64_MAX)
        due_ms = time_monotonic_ms() + c->config->node_grace_ms;
    int64_t left = due_ms - time_monotonic_ms();
    uv_timer_start(&c->liveness_timer, on_liveness_timer, left > 1 ? (uint64_t)left : 1, 0);
}

/* Each node gets a fresh grace: this server did not listen before. */
static void liveness_fresh(struct control *c)
{
    liveness_clear(&c->liveness);
    const char *after = NULL;
    for (const struct node *n; (n = core_node_next(c->core, after)); after = n->id)
        if (n->state != NODE_DOWN)
            liveness_touch(&c->liveness, n->id, time_monotonic_ms());
    liveness_arm(c, INT64_MAX);
}

static void on_down_done(void *ctx, void *request, enum consensus_outcome outcome, uint64_t index)
{
    struct control *c = ctx;
    if (outcome != CONSENSUS_COMMITTED && c->role == CONSENSUS_LEADER)
        liveness_fresh(c);
}

static void on_silent(void *ctx, const char *node_id)
{
    struct control *c = ctx;
    const struct node *n = core_node(c->core, node_id);
    if (!n || n->state == NODE_DOWN)
        return;
    char grace[TIME_TEXT_SIZE];
    duration_format(grace, c->config->node_grace_ms);
    CLEANUP_FREE char *reason = mem_printf("no heartbeat for %s", grace);
    LOG_W("node is down", "node", node_id, "name", n->name, "reason", reason);
    struct command_node_state down = {.node_id = n->id, .state = NODE_DOWN, .reason = reason};
    CLEANUP_BUF struct buf command = {0};
    command_encode_payload(COMMAND_NODE_STATE, time_now_ms(), NULL, NULL, &down, &command);
    c->metrics.nodes_down++;
    consensus_propose(c->consensus, command.data, command.len, on_down_done, NULL);
}

static void on_liveness_timer(uv_timer_t *timer)
{
    struct control *c = timer->data;
    if (c->role == CONSENSUS_LEADER && !c->stopping)
        liveness_arm(c, liveness_expire(&c->liveness, time_monotonic_ms(), c->config->node_grace_ms, on_silent, c));
}

/* --- consensus --- */

static void on_apply(void *ctx, uint64_t index, const void *bytes, size_t len, void *request)
{
    struct control *c = ctx;
    struct core_result ignored = {0};
    struct request *r = request;
    uint64_t start = uv_hrtime();
    core_apply(c->core, index, bytes, len, r ? &r->result : &ignored);
    histogram_add(&c->metrics.apply, (int64_t)(uv_hrtime() - start));
    core_result_clear(&ignored);
    c->metrics.applied++;
    c->applied = true;
}

static void on_snapshot(void *ctx, struct buf *out)
{
    core_snapshot(((struct control *)ctx)->core, out);
}

static int on_restore(void *ctx, uint64_t index, const void *bytes, size_t len, struct error *err)
{
    struct control *c = ctx;
    c->applied = true;
    return core_restore(c->core, bytes, len, err);
}

static void on_role(void *ctx, enum consensus_role role)
{
    struct control *c = ctx;
    c->role = role;
    c->look = true;
    if (role == CONSENSUS_LEADER) {
        liveness_fresh(c);
    } else {
        liveness_clear(&c->liveness);
        uv_timer_stop(&c->liveness_timer);
        uv_timer_stop(&c->decide_timer);
    }
}

static void on_fatal(void *ctx, const struct error *err)
{
    LOG_E("the server cannot go on", "error", err->text);
    _Exit(1);
}

static const struct consensus_callbacks consensus_callbacks = {
    .apply = on_apply, .snapshot = on_snapshot, .restore = on_restore, .role_changed = on_role, .fatal = on_fatal,
};

/* --- start and stop --- */

static void close_handles(struct control *c)
{
    queue_close(&c->inbox, NULL);
    uv_close((uv_handle_t *)&c->turn, NULL);
    uv_close((uv_handle_t *)&c->decide_timer, NULL);
    uv_close((uv_handle_t *)&c->wait_timer, NULL);
    uv_close((uv_handle_t *)&c->liveness_timer, NULL);
}

int control_start(struct control *c, uv_loop_t *loop, const struct server_config *config, struct error *err)
{
    *c = (struct control){.config = config, .loop = loop, .core = core_new(), .started_ms = time_now_ms()};
    random_system(&c->seed, sizeof c->seed);
    RB_INIT(&c->waits);
    queue_open(&c->inbox, loop, (size_t)config->max_queue, on_request, c);
    uv_prepare_init(loop, &c->turn);
    uv_prepare_start(&c->turn, on_turn);
    uv_timer_init(loop, &c->decide_timer);
    uv_timer_init(loop, &c->wait_timer);
    uv_timer_init(loop, &c->liveness_timer);
    c->turn.data = c->decide_timer.data = c->wait_timer.data = c->liveness_timer.data = c;
    CLEANUP_FREE char *address = mem_printf("%s:4648", config->bind);
    struct consensus_options options = {
        .loop = loop,
        .directory = config->data_dir,
        .address = address,
        .bootstrap = true,
        .callbacks = &consensus_callbacks,
        .ctx = c,
        .segment_bytes = (uint64_t)config->segment_mb << 20,
        .snapshot_after_bytes = (uint64_t)config->snapshot_mb << 20,
        .reserve_bytes = (uint64_t)config->reserve_mb << 20,
    };
    if (consensus_start(&c->consensus, &options, err) == 0)
        return 0;
    close_handles(c);
    uv_run(loop, UV_RUN_DEFAULT);
    control_free(c);
    return -1;
}

static void on_consensus_stopped(void *ctx)
{
    close_handles(ctx);
}

void control_stop(struct control *c)
{
    c->stopping = true;
    consensus_stop(c->consensus, on_consensus_stopped, c);
}

void control_free(struct control *c)
{
    liveness_clear(&c->liveness);
    core_free(c->core);
    c->core = NULL;
}

/* --- finding by what people type --- */

const struct alloc *control_find_alloc(struct control *c, const char *text, struct error *err)
{
    const struct alloc *a = core_alloc(c->core, text);
    if (a)
        return a;
    CLEANUP_FREE char *floor = page_floor(text);
    a = core_alloc_next(c->core, floor);
    if (!*text || !a || !text_has_prefix(a->id, text)) {
        error_set(err, ERROR_NOT_FOUND, "no allocation %.64s", text);
        return NULL;
    }
    const struct alloc *other = core_alloc_next(c->core, a->id);
    if (other && text_has_prefix(other->id, text)) {
        error_set(err, ERROR_CONFLICT, "%.64s is the beginning of several allocations (%s, %s); write more of it", text,
                  a->id, other->id);
        return NULL;
    }
    return a;
}

const struct node *control_find_node(struct control *c, const char *text, struct error *err)
{
    const struct node *n = core_node(c->core, text);
    if (!n)
        n = core_node_by_name(c->core, text);
    if (n)
        return n;
    CLEANUP_FREE char *floor = page_floor(text);
    n = core_node_next(c->core, floor);
    if (!*text || !n || !text_has_prefix(n->id, text)) {
        error_set(err, ERROR_NOT_FOUND, "no node %.64s", text);
        return NULL;
    }
    const struct node *other = core_node_next(c->core, n->id);
    if (other && text_has_prefix(other->id, text)) {
        error_set(err, ERROR_CONFLICT, "%.64s is the beginning of several nodes (%s, %s); write more of it", text,
                  n->id, other->id);
        return NULL;
    }
    return n;
}
