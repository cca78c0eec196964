#include "server/dispatch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "server/cluster.h"
#include "server/http_thread.h"
#include "server/knock.h"
#include "server/scope.h"

#define LOOK_AGAIN_MS 25        /* what waits for a leader tries again after so long */
#define SAME_LEADER_MS 100      /* and a leader that failed it is asked again after so long */
#define SOON_MS 1000            /* how long a server may take to learn of something */

static int wait_compare(const struct request *a, const struct request *b)
{
    if (a->deadline_ms != b->deadline_ms)
        return a->deadline_ms < b->deadline_ms ? -1 : 1;
    return a < b ? -1 : a > b;
}
RB_GENERATE_INTERNAL(wait_tree, request, wait_link, wait_compare, __attribute__((unused)) static)

static bool is_write(const struct request *r)
{
    return !r->route->read;
}

static bool leads(const struct control *c)
{
    return c->role == CONSENSUS_LEADER;
}

/* --- what waits for a leader, or for its own server to learn --- */

static void place(struct control *c, struct request *r);

static void give_up(struct control *c, struct request *r)
{
    char time[TIME_TEXT_SIZE];
    duration_format(time, r->limit_ms);
    if (r->unknown)
        error_set(&r->answer.error, ERROR_UNKNOWN_OUTCOME, "the leader was lost meanwhile and no other one answered within %s: "
                  "the change may or may not be made; repeat the request with the same Idempotency-Key", time);
    else if (c->stopping)
        error_set(&r->answer.error, ERROR_UNAVAILABLE, "this server is stopping; nothing was done");
    else if (c->forming)
        error_set(&r->answer.error, ERROR_UNAVAILABLE, "server %s is not in a cluster yet: %s", c->config->name, c->forming);
    else if (knock_removed(c))
        error_set(&r->answer.error, ERROR_UNAVAILABLE, "ask another server; %s", knock_removed(c));
    else
        error_set(&r->answer.error, ERROR_UNAVAILABLE, "server %s found no leader within %s; nothing was done, try again, "
                  "or, when a majority of the servers is gone for good, see `mentat-server recover`", c->config->name, time);
    control_answer(r);
}

static void on_held_timer(uv_timer_t *timer);

static void hold(struct control *c, struct request *r)
{
    r->deadline_ms = r->answer_by_ms;
    if (c->stopping || knock_removed(c) || time_monotonic_ms() >= r->answer_by_ms) {
        give_up(c, r);
        return;
    }
    if (c->held_count >= (size_t)c->config->max_waiting) {
        control_refuse(r, ERROR_TOO_MANY, "too many requests wait for a leader already; nothing was done, try again later");
        return;
    }
    RB_INSERT(wait_tree, &c->held, r);
    c->held_count++;
    if (!uv_is_active((uv_handle_t *)&c->held_timer))
        uv_timer_start(&c->held_timer, on_held_timer, LOOK_AGAIN_MS, LOOK_AGAIN_MS);
}

static void look_at_held(struct control *c)
{
    struct wait_tree held = c->held;
    struct request *r;
    RB_INIT(&c->held);
    c->held_count = 0;
    while ((r = RB_MIN(wait_tree, &held))) {
        RB_REMOVE(wait_tree, &held, r);
        if (atomic_load(&r->gone) && !r->unknown)
            control_answer(r);
        else if (c->stopping || time_monotonic_ms() >= r->answer_by_ms)
            give_up(c, r);
        else
            place(c, r);
    }
    if (RB_EMPTY(&c->held))
        uv_timer_stop(&c->held_timer);
}

static void on_held_timer(uv_timer_t *timer)
{
    look_at_held(timer->data);
}

void dispatch_leader(struct control *c)
{
    look_at_held(c);
}

/* --- to the leader --- */

/* May be sent again although its outcome is not known. */
static bool repeatable(const struct request *r)
{
    return !is_write(r) || r->has_key || r->who.kind == IDENTITY_AGENT;
}

static void to_leader(struct control *c, struct request *r)
{
    if (r->forwarded) {
        control_refuse(r, ERROR_UNAVAILABLE, "this server does not lead the cluster; nothing was done");
        return;
    }
    const struct member *m = control_leader(c);
    int64_t now = time_monotonic_ms();
    bool again = m && r->tried_leader && !strcmp(r->tried_leader, m->id) && now - r->tried_ms < SAME_LEADER_MS;
    if (!m || again || !strcmp(m->address, c->addresses->api)) {
        hold(c, r);
        return;
    }
    mem_set_string(&r->tried_leader, m->id);
    r->tried_ms = now;
    r->repeatable = repeatable(r);
    r->forward = mem_printf("%s://%s", http_thread_has_tls(r->thread) ? "https" : "http", m->address);
    c->metrics.forwarded++;
    control_answer(r);
}

/* --- reads --- */

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

/* How old the state may be: nothing at the leader. */
static void say_lag(struct control *c, struct request *r)
{
    struct consensus_stats stats;
    if (leads(c) || r->route->place == PLACE_HERE)
        return;
    control_stats(c, &stats);
    r->answer.lagging = true;
    r->answer.lag_ms = stats.leader_contact_ms;
}

static int64_t soon_ms(const struct request *r)
{
    int64_t soon = time_monotonic_ms() + SOON_MS;
    return soon < r->answer_by_ms ? soon : r->answer_by_ms;
}

/* A follower that does not know what is asked for may be about to learn of it. True: the request was put to wait. */
static bool missed(struct control *c, struct request *r)
{
    if (leads(c) || r->consistency == CONSISTENCY_STALE || r->route->place == PLACE_HERE || c->stopping ||
        r->answer.error.code != ERROR_NOT_FOUND)
        return false;
    if (!r->miss_by_ms)
        r->miss_by_ms = soon_ms(r);
    if (time_monotonic_ms() >= r->miss_by_ms)
        return false;
    r->answer.error = (struct error){0};
    buf_clear(&r->answer.body);
    hold(c, r);
    return true;
}

/* Answers the read, or puts it to wait. */
static void read_or_wait(struct control *c, struct request *r)
{
    if (c->stopping || time_monotonic_ms() >= r->deadline_ms)
        r->expired = true;
    bool wait = r->has_index && !r->expired && !newer(c, r);
    /* Whoever waited at a server that lost its leader must not take the old state for news. */
    if (r->expired && r->waited && !c->stopping && r->consistency != CONSISTENCY_STALE && !control_in_contact(c)) {
        control_refuse(r, ERROR_UNAVAILABLE, "this server lost contact with the leader; ask another one");
        return;
    }
    int rc = scope_check(c, r, &r->answer.error);
    if (!rc)
        rc = wait ? READ_NOT_YET : r->route->read(c, r, &r->answer.error);
    r->answer.index = core_index(c->core);
    if (rc == READ_NOT_YET) {
        r->waited = true;
        if (!wait_add(c, r))
            control_refuse(r, ERROR_TOO_MANY, "too many requests wait for changes already; ask without index, or later");
    } else if (rc == READ_LATER) {
        say_lag(c, r);
    } else if (!missed(c, r)) {
        say_lag(c, r);
        control_answer(r);
    }
}

enum why { WHY_TIME, WHY_CHANGE, WHY_LOST };    /* time passed, something was applied, the leader is lost */

static void wake(struct control *c, enum why why)
{
    int64_t now = time_monotonic_ms();
    struct queue_list ready = STAILQ_HEAD_INITIALIZER(ready);
    struct request *r, *next;
    RB_FOREACH_SAFE(r, wait_tree, &c->waits, next) {
        bool due = c->stopping || r->deadline_ms <= now;
        if (why == WHY_TIME && !due)
            break;
        if (why == WHY_LOST && r->consistency != CONSISTENCY_STALE)
            r->expired = due = true;
        if (due || atomic_load(&r->gone) || access_holder_revoked(r->who.holder) || newer(c, r)) {
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
    wake(timer->data, WHY_TIME);
}

void dispatch_wake(struct control *c)
{
    wake(c, WHY_CHANGE);
}

void dispatch_lost(struct control *c)
{
    wake(c, WHY_LOST);
}

static void on_barrier(void *ctx, void *request, enum consensus_outcome outcome, uint64_t index)
{
    struct request *r = request;
    if (outcome == CONSENSUS_COMMITTED)
        read_or_wait(ctx, r);
    else
        to_leader(ctx, r);
}

static void read_start(struct control *c, struct request *r)
{
    r->deadline_ms = time_monotonic_ms() + r->wait_ms;
    r->expired = r->waited = false;
    bool own = r->route->place == PLACE_HERE || r->consistency == CONSISTENCY_STALE || !leads(c);
    if (!own && (r->consistency == CONSISTENCY_STRONG || !consensus_lease_ms(c->consensus)))
        consensus_barrier(c->consensus, on_barrier, r);
    else
        read_or_wait(c, r);
}

/* --- changes that all servers have when they are answered --- */

/* Only who leads knows what the others have: the next leader does. */
static void spread_unknown(struct control *c, struct request *r, const char *lacks)
{
    r->answer.error = (struct error){0};
    buf_clear(&r->answer.body);
    if (!leads(c) && !r->forwarded && !c->stopping && repeatable(r)) {
        r->unknown = true;
        to_leader(c, r);
        return;
    }
    error_set(&r->answer.error, ERROR_UNKNOWN_OUTCOME, "server %s may not have this change yet: what was allowed before may still be, "
              "there; ask again to hear when it is not", lacks ? lacks : c->config->name);
    control_answer(r);
}

/* Servers say how far they are by the log, which the state's indexes are ahead of since a restore; one that came while a change was
 * on its way has put another state in the place of both. */
static uint64_t log_index_of(const struct control *c, uint64_t index)
{
    uint64_t ahead = core_ahead(c->core);
    return index > ahead ? index - ahead : 0;
}

/* True: it was answered, or goes on elsewhere. */
static bool spread_ends(struct control *c, struct request *r)
{
    const char *lacks = leads(c) ? cluster_lacks(c, log_index_of(c, r->answer.index)) : NULL;
    bool over = c->stopping || !leads(c) || time_monotonic_ms() >= r->deadline_ms;
    bool everywhere = leads(c) && !lacks;
    if (!everywhere && !over && !atomic_load(&r->gone))
        return false;
    if (everywhere || atomic_load(&r->gone) || r->route->spread == SPREAD_SOON)
        control_answer(r);
    else
        spread_unknown(c, r, lacks);
    return true;
}

void dispatch_spread(struct control *c)
{
    struct queue_list all = STAILQ_HEAD_INITIALIZER(all);
    struct queue_item *item;
    STAILQ_CONCAT(&all, &c->spreading);
    while ((item = STAILQ_FIRST(&all))) {
        STAILQ_REMOVE_HEAD(&all, link);
        if (!spread_ends(c, container_of(item, struct request, item)))
            STAILQ_INSERT_TAIL(&c->spreading, item, link);
    }
}

static void spread(struct control *c, struct request *r)
{
    r->deadline_ms = r->route->spread == SPREAD_SOON ? soon_ms(r) : r->answer_by_ms;
    STAILQ_INSERT_TAIL(&c->spreading, &r->item, link);     /* this server's own HTTP threads know it when the turn ends */
}

static void answer_change(struct control *c, struct request *r)
{
    if (r->route->spread != SPREAD_NOT)
        spread(c, r);
    else
        control_answer(r);
}

/* --- writes --- */

/* What an applied change is answered. */
static void fill_answer(struct control *c, struct request *r)
{
    r->answer.body = r->proposal.result.body;
    r->proposal.result.body = (struct buf){0};
    if (r->route->applied)
        r->route->applied(c, r);
    else if (!r->answer.body.len && r->route->response)
        buf_printf(&r->answer.body, "{\"index\":%" PRIu64 "}", r->answer.index);
}

static void on_write_done(struct control *c, struct proposal *p, enum consensus_outcome outcome)
{
    struct request *r = container_of(p, struct request, proposal);
    bool committed = outcome == CONSENSUS_COMMITTED;
    histogram_add(&c->metrics.propose, (int64_t)uv_hrtime() - r->proposed_ns);
    if (outcome == CONSENSUS_NOT_LEADER ||
        (outcome == CONSENSUS_UNKNOWN && !r->forwarded && !c->stopping && repeatable(r))) {
        r->unknown |= outcome == CONSENSUS_UNKNOWN;
        to_leader(c, r);
        return;
    }
    if (committed)
        r->answer.index = core_index(c->core);         /* it was applied just before */
    if (proposal_error(c, p, outcome, &r->answer.error))
        c->metrics.refused += committed;
    else
        fill_answer(c, r);
    if (committed)
        answer_change(c, r);
    else
        control_answer(r);
}

/* What is made out of the state would be another command the second time: a key that was seen is answered from memory. */
static bool answered_before(struct control *c, struct request *r)
{
    CLEANUP_FREE char *key = request_key(r);
    struct core_result *result = &r->proposal.result;
    core_result_clear(result);
    if (!key || !core_answer_of_key(c->core, key, result))
        return false;
    r->answer.index = core_index(c->core);
    r->answer.error = result->error;
    r->answer.body = result->body;
    result->body = (struct buf){0};
    answer_change(c, r);
    return true;
}

static void write_start(struct control *c, struct request *r)
{
    if (r->route->write && answered_before(c, r))
        return;
    if (r->route->write && r->route->write(c, r, &r->answer.error)) {
        r->answer.index = core_index(c->core);
        control_answer(r);
        return;
    }
    int64_t level = command_kind_level(r->command_kind);
    level = r->command_level > level ? r->command_level : level;
    if (level > core_level(c->core)) {
        control_refuse(r, ERROR_UNSUPPORTED, "some server runs a release that does not know this yet; upgrade it first");
        return;
    }
    r->proposed_ns = (int64_t)uv_hrtime();
    control_propose(c, &r->proposal, r->command.data, r->command.len, on_write_done);
}

/* --- the way --- */

static void serve(struct control *c, struct request *r)
{
    if (r->route->read)
        read_start(c, r);
    else if (c->stopping)
        control_refuse(r, ERROR_UNAVAILABLE, "this server is stopping; nothing was done");
    else if (r->route->place != PLACE_HERE && !core_member_next(c->core, NULL))
        hold(c, r);                       /* just founded: no server has said yet what it knows */
    else if (scope_check(c, r, &r->answer.error))
        control_answer(r);
    else if (r->route->run)
        r->route->run(c, r);
    else
        write_start(c, r);
}

/* What another server than the leader may answer. */
static bool served_by_member(const struct control *c, const struct request *r)
{
    if (!c->consensus || !r->route->read || r->consistency == CONSISTENCY_STRONG)
        return false;
    if (r->consistency == CONSISTENCY_STALE)
        return true;
    return (r->route->place == PLACE_MEMBER || r->has_index) && control_in_contact(c);
}

static void place(struct control *c, struct request *r)
{
    if (r->stranger && leads(c)) {
        control_refuse(r, ERROR_UNAVAILABLE, "this server has just become the leader; nothing was done, try again");
        return;
    }
    if (r->stranger) {
        to_leader(c, r);
        return;
    }
    bool waits = r->route->read && r->has_index && r->consistency != CONSISTENCY_STRONG;
    if (r->route->place == PLACE_HERE || leads(c) || served_by_member(c, r))
        serve(c, r);
    else if (r->route->place == PLACE_MEMBER || waits)
        hold(c, r);                       /* until this server is in contact again */
    else
        to_leader(c, r);
}

void dispatch(struct control *c, struct request *r)
{
    if (!r->answer_by_ms || r->streaming)
        r->answer_by_ms = time_monotonic_ms() + r->limit_ms;
    if (atomic_load(&r->gone) && !r->command.len)
        control_answer(r);
    else if (r->tried_ms)                 /* back from a leader that did not take it */
        hold(c, r);
    else
        place(c, r);
}

void dispatch_stop(struct control *c)
{
    dispatch_spread(c);
    wake(c, WHY_CHANGE);
    look_at_held(c);
}

void dispatch_init(struct control *c)
{
    RB_INIT(&c->waits);
    RB_INIT(&c->held);
    STAILQ_INIT(&c->spreading);
    uv_timer_init(c->loop, &c->wait_timer);
    uv_timer_init(c->loop, &c->held_timer);
    c->wait_timer.data = c->held_timer.data = c;
}

void dispatch_close(struct control *c)
{
    uv_close((uv_handle_t *)&c->wait_timer, NULL);
    uv_close((uv_handle_t *)&c->held_timer, NULL);
}
