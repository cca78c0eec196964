#include "server/control.h"

#include "base/log.h"
#include "base/random.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "server/cluster.h"
#include "server/http_thread.h"
#include "server/leader.h"
#include "server/snapshots.h"

#define CONTACT_MS 5000

static int wait_compare(const struct request *a, const struct request *b)
{
    if (a->deadline_ms != b->deadline_ms)
        return a->deadline_ms < b->deadline_ms ? -1 : 1;
    return a < b ? -1 : a > b;
}
RB_GENERATE_INTERNAL(wait_tree, request, wait_link, wait_compare, __attribute__((unused)) static)

void control_answer(struct request *r)
{
    queue_push_answer(http_thread_answers(r->thread), &r->item);
}

void control_refuse(struct request *r, enum error_code code, const char *text)
{
    error_set(&r->answer.error, code, "%s", text);
    control_answer(r);
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
            control_answer(r);
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
        control_answer(r);
    else if (!wait_add(c, r))
        control_refuse(r, ERROR_TOO_MANY, "too many requests wait for changes already; ask without index, or later");
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
            control_answer(r);
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

/* --- proposals --- */

static void on_proposed(void *ctx, void *request, enum consensus_outcome outcome, uint64_t index)
{
    struct proposal *p = request;
    p->done(ctx, p, outcome);
}

void control_propose(struct control *c, struct proposal *p, const void *bytes, size_t len,
                     void (*done)(struct control *c, struct proposal *p, enum consensus_outcome outcome))
{
    p->done = done;
    consensus_propose(c->consensus, bytes, len, on_proposed, p);
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

int proposal_error(const struct control *c, const struct proposal *p, enum consensus_outcome outcome, struct error *err)
{
    if (outcome == CONSENSUS_NO_SPACE)
        say_space(c, err);
    if (outcome == CONSENSUS_NO_SPACE || consensus_outcome_error(outcome, err))
        return -1;
    if (p->result.error.code == ERROR_NONE)
        return 0;
    *err = p->result.error;
    return -1;
}

/* --- requests --- */

static void on_barrier(void *ctx, void *request, enum consensus_outcome outcome, uint64_t index)
{
    struct request *r = request;
    if (consensus_outcome_error(outcome, &r->answer.error))
        control_answer(r);
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

static void on_write_done(struct control *c, struct proposal *p, enum consensus_outcome outcome)
{
    struct request *r = container_of(p, struct request, proposal);
    histogram_add(&c->metrics.propose, (int64_t)uv_hrtime() - r->proposed_ns);
    if (outcome == CONSENSUS_COMMITTED)
        r->answer.index = core_index(c->core);         /* it was applied just before */
    if (proposal_error(c, p, outcome, &r->answer.error)) {
        c->metrics.refused += outcome == CONSENSUS_COMMITTED;
        control_answer(r);
        return;
    }
    r->answer.body = p->result.body;
    p->result.body = (struct buf){0};
    if (r->route->applied)
        r->route->applied(c, r);
    else if (!r->answer.body.len && r->route->response)
        buf_printf(&r->answer.body, "{\"index\":%llu}", (unsigned long long)r->answer.index);
    control_answer(r);
}

static void write_start(struct control *c, struct request *r)
{
    if (r->route->write && r->route->write(c, r, &r->answer.error)) {
        r->answer.index = core_index(c->core);
        control_answer(r);
        return;
    }
    r->proposed_ns = (int64_t)uv_hrtime();
    control_propose(c, &r->proposal, r->command.data, r->command.len, on_write_done);
}

static void on_request(void *ctx, struct queue_item *item)
{
    struct control *c = ctx;
    struct request *r = container_of(item, struct request, item);
    if (atomic_load(&r->gone) && !r->command.len)
        control_answer(r);
    else if (r->route->read)
        read_start(c, r);
    else if (c->stopping)
        control_refuse(r, ERROR_UNAVAILABLE, "this server is stopping; nothing was done");
    else if (r->route->run)
        r->route->run(c, r);
    else
        write_start(c, r);
}

static void on_turn(uv_prepare_t *prepare)
{
    struct control *c = prepare->data;
    if (c->applied) {
        c->applied = false;
        c->look = true;
        wake(c, false);
    }
    cluster_look(c);
    leader_turn(c);
}

/* --- consensus --- */

static void on_apply(void *ctx, uint64_t index, const void *bytes, size_t len, void *request)
{
    struct control *c = ctx;
    struct core_result ignored = {0};
    struct proposal *p = request;
    uint64_t start = uv_hrtime(), ahead = core_ahead(c->core);
    if (p)
        core_result_clear(&p->result);
    core_apply(c->core, index, bytes, len, p ? &p->result : &ignored);
    histogram_add(&c->metrics.apply, (int64_t)(uv_hrtime() - start));
    core_result_clear(&ignored);
    c->metrics.applied++;
    c->applied = true;
    if (core_ahead(c->core) != ahead)
        leader_begin(c);               /* of another state */
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
    leader_begin(c);
}

static void on_fatal(void *ctx, const struct error *err)
{
    LOG_E("the server cannot go on", "error", err->text);
    _Exit(1);
}

static const struct consensus_callbacks consensus_callbacks = {
    .apply = on_apply, .snapshot = on_snapshot, .restore = on_restore, .role_changed = on_role, .fatal = on_fatal,
};

/* --- questions --- */

void control_count(const struct control *c, int64_t *nodes, int64_t *services, int64_t *allocs)
{
    const char *after = NULL;
    *nodes = *services = *allocs = 0;
    for (const struct node *n; (n = core_node_next(c->core, after)); after = n->id)
        ++*nodes;
    after = NULL;
    for (const struct service_version *v; (v = core_service_next(c->core, after)); after = v->service)
        ++*services;
    after = NULL;
    for (const struct alloc *a; (a = core_alloc_next(c->core, after)); after = a->id)
        ++*allocs;
}

bool control_in_contact(const struct control *c)
{
    struct consensus_stats stats;
    if (c->role == CONSENSUS_LEADER)
        return true;
    consensus_stats(c->consensus, &stats);
    return stats.leader_contact_ms >= 0 && stats.leader_contact_ms < CONTACT_MS;
}

/* --- start and stop --- */

static void close_handles(struct control *c)
{
    queue_close(&c->inbox, NULL);
    uv_close((uv_handle_t *)&c->turn, NULL);
    uv_close((uv_handle_t *)&c->decide_timer, NULL);
    uv_close((uv_handle_t *)&c->wait_timer, NULL);
    uv_close((uv_handle_t *)&c->liveness_timer, NULL);
}

int control_start(struct control *c, uv_loop_t *loop, const struct server_config *config,
                  const struct server_addresses *addresses, struct tls_context *tls, struct error *err)
{
    *c = (struct control){.config = config, .addresses = addresses, .loop = loop, .core = core_new(), .started_ms = time_now_ms()};
    random_system(&c->seed, sizeof c->seed);
    RB_INIT(&c->waits);
    queue_open(&c->inbox, loop, (size_t)config->max_queue, on_request, c);
    uv_prepare_init(loop, &c->turn);
    uv_prepare_start(&c->turn, on_turn);
    uv_timer_init(loop, &c->decide_timer);
    uv_timer_init(loop, &c->wait_timer);
    uv_timer_init(loop, &c->liveness_timer);
    c->turn.data = c->decide_timer.data = c->wait_timer.data = c->liveness_timer.data = c;
    struct consensus_options options = {
        .loop = loop,
        .directory = config->data_dir,
        .address = addresses->raft,
        .release = MENTAT_VERSION,
        .command_version = COMMAND_LEVEL,
        .bootstrap = true,
        .callbacks = &consensus_callbacks,
        .ctx = c,
        .segment_bytes = (uint64_t)config->segment_mb << 20,
        .snapshot_after_bytes = (uint64_t)config->snapshot_mb << 20,
        .reserve_bytes = (uint64_t)config->reserve_mb << 20,
    };
    if (consensus_start(&c->consensus, &options, err) == 0) {
        c->backups = backups_start(c);
        return 0;
    }
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
    backups_stop(steal(&c->backups));
    consensus_stop(c->consensus, on_consensus_stopped, c);
}

void control_free(struct control *c)
{
    liveness_clear(&c->liveness);
    free(c->hold);
    core_free(c->core);
    c->core = NULL;
}
