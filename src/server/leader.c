#include "server/leader.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "model/profile.h"

#define RETRY_MS 1000           /* after a decision that could not be written */
#define LOOK_MS 1000            /* how often silence is looked at */
#define LOOK_AGAIN_MS 3600000   /* the wall clock may be set: how long a due time is trusted */

static bool leads(const struct control *c)
{
    return c->role == CONSENSUS_LEADER && !c->stopping;
}

/* Proposes a command of the leader's own. */
static void propose(struct control *c, enum command_kind kind, const void *payload, consensus_done done)
{
    CLEANUP_BUF struct buf command = {0};
    command_encode_payload(kind, time_now_ms(), NULL, NULL, payload, &command);
    command_time_propose(c, command.data, command.len, done, NULL);
}

/* --- decisions --- */

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
        command_time_propose(c, command.data, command.len, on_decide_done, NULL);
        return;
    }
    int64_t due = core_next_wake(c->core);
    if (due == INT64_MAX)
        uv_timer_stop(&c->decide_timer);
    else
        /* At least 1 ms, whatever the core says, so that a due time in the past cannot make the loop spin. */
        decide_later(c, due - now > LOOK_AGAIN_MS ? LOOK_AGAIN_MS : due > now ? due - now : 1);
}

void leader_turn(struct control *c)
{
    if (c->look && !c->decide_in_flight && leads(c) && command_time_settled(c))
        decide(c);
}

/* --- liveness of nodes --- */

static void on_liveness_timer(uv_timer_t *timer);

static void liveness_arm(struct control *c, int64_t due_ms)
{
    int64_t now = time_monotonic_ms(), left = due_ms - now;
    left = left > LOOK_MS ? LOOK_MS : left > 1 ? left : 1;
    c->liveness_due_ms = now + left;
    uv_timer_start(&c->liveness_timer, on_liveness_timer, (uint64_t)left, 0);
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
    if (outcome != CONSENSUS_COMMITTED && leads(c))
        liveness_fresh(c);
}

static void on_silent(void *ctx, const char *node_id)
{
    struct control *c = ctx;
    const struct node *n = core_node(c->core, node_id);
    char grace[TIME_TEXT_SIZE];
    duration_format(grace, c->config->node_grace_ms);
    CLEANUP_FREE char *reason = mem_printf("no heartbeat for %s", grace);
    LOG_W("node is down", "node", node_id, "name", n->name, "reason", reason);
    c->metrics.nodes_down++;
    struct command_node_state down = {.node_id = n->id, .state = NODE_DOWN, .reason = reason};
    propose(c, COMMAND_NODE_STATE, &down, on_down_done);
}

static void on_told(void *ctx, void *request, enum consensus_outcome outcome, uint64_t index)
{
}

static void tell_hold(struct control *c, const char *to, char *reason)
{
    static char kind[] = "cluster", subject[] = "nodes";
    LOG_W("nodes that are silent", "to", to, "reason", reason);
    struct command_event e = {.kind = kind, .subject = subject, .to = (char *)(uintptr_t)to, .reason = reason};
    propose(c, COMMAND_EVENT, &e, on_told);
}

static void hold_end(struct control *c, const char *why)
{
    if (!c->hold)
        return;
    free(steal(&c->hold));
    CLEANUP_FREE char *reason = mem_strdup(why);
    tell_hold(c, "released", reason);
}

int64_t leader_silence_ms(const struct control *c)
{
    /* Nodes that stopped together differ by one heartbeat; those that live may be late by half of one. */
    int64_t together = c->config->node_grace_ms - c->config->heartbeat_ms, late = c->config->heartbeat_ms * 3 / 2;
    return together > late ? together : late;
}

/* True while nodes that are due must not be taken for dead, since most fell silent together. */
static bool hold(struct control *c, int64_t now)
{
    const struct server_config *o = c->config;
    struct liveness_count n = liveness_count(&c->liveness, now, leader_silence_ms(c));
    if (!o->mass_loss_hold_ms || n.silent < 2 || n.silent * 2 <= n.all) {
        hold_end(c, "most nodes are heard of again");
        return false;
    }
    if (n.longest_ms < o->node_grace_ms)
        return c->hold != NULL;
    if (!c->hold) {
        char limit[TIME_TEXT_SIZE];
        duration_format(limit, o->mass_loss_hold_ms);
        c->hold_since_ms = now;
        c->hold = mem_printf("%zu of %zu nodes fell silent at the same time: that is taken for a fault of the network, and "
                             "what they run is not replaced for %s (mass_loss_hold)", n.silent, n.all, limit);
        tell_hold(c, "held", c->hold);
    }
    if (now - c->hold_since_ms < o->mass_loss_hold_ms)
        return true;
    hold_end(c, "they did not come back in time: they are taken for dead");
    return false;
}

/* --- leases on volumes: how long a node that is down has been so, by this leader's own clock ---
 *
 * A node counts its lease from when it sent the last heartbeat that was answered, which was before it was taken for down. So
 * waiting for the lease from there on, and for what clocks may differ and tasks take to end, is enough, whoever leads. */

#define FENCE_MARGIN_MS 6000     /* LEASE_STOP_MS of the agent's, a machine's last moment, and two seconds */
#define CLOCK_DRIFT 16           /* clocks differ by at most one part in that many */

static int64_t fence_wait_ms(const struct node *n)
{
    return n->volume_lease_ms + n->volume_lease_ms / CLOCK_DRIFT + FENCE_MARGIN_MS;
}

static bool is_alive(void *ctx, const struct alloc *a)
{
    *(bool *)ctx |= alloc_live(a);
    return !*(bool *)ctx;
}

/* Down, and with replicas that wait for its lease. */
static bool is_held(const struct control *c, const struct node *n)
{
    bool held = false;
    if (n->state == NODE_DOWN && n->volume_lease_ms)
        core_node_allocs(c->core, n->id, is_alive, &held);
    return held;
}

/* Of the list of leases: a node that was up in between begins anew. */
static char *lease_key(const struct node *n)
{
    return mem_printf("%s %lld", n->id, (long long)n->state_since);
}

static bool is_same_fall(void *ctx, const char *key)
{
    const struct control *c = ctx;
    CLEANUP_FREE char *id = mem_strndup(key, strcspn(key, " "));
    const struct node *n = core_node(c->core, id);
    CLEANUP_FREE char *now = n ? lease_key(n) : NULL;
    return now && !strcmp(now, key) && is_held(c, n);
}

static void on_fenced(void *ctx, void *request, enum consensus_outcome outcome, uint64_t index)
{
}

static void leases_look(struct control *c, int64_t now)
{
    const char *after = NULL;
    liveness_keep(&c->leases, is_same_fall, c);
    for (const struct node *n; (n = core_node_next(c->core, after)); after = n->id) {
        if (!is_held(c, n))
            continue;
        CLEANUP_FREE char *key = lease_key(n);
        int64_t down_ms = liveness_silence(&c->leases, key, now);
        if (down_ms >= fence_wait_ms(n)) {
            LOG_W("a node's lease is over: its volumes are placed elsewhere", "node", n->id, "name", n->name);
            struct command_node_fenced fenced = {.node_id = n->id, .since = n->state_since};
            propose(c, COMMAND_NODE_FENCED, &fenced, on_fenced);
        }
        if (!down_ms || down_ms >= fence_wait_ms(n))
            liveness_touch(&c->leases, key, now);
    }
}

static bool is_up(void *ctx, const char *node_id)
{
    const struct control *c = ctx;
    const struct node *n = core_node(c->core, node_id);
    return n && n->state != NODE_DOWN;
}

static void on_liveness_timer(uv_timer_t *timer)
{
    struct control *c = timer->data;
    if (!leads(c))
        return;
    /* Somebody may have given nodes up, which then hold nothing any more. */
    liveness_keep(&c->liveness, is_up, c);
    leases_look(c, time_monotonic_ms());
    c->look |= !command_time_settled(c);
    int64_t now = time_monotonic_ms(), late = now - c->liveness_due_ms;
    int64_t bearable = (c->config->node_grace_ms - c->config->heartbeat_ms) / 2;
    if (late > bearable && late > LOOK_MS / 2) {
        LOG_W("this server stood still; nodes get a fresh grace", "ms", LOG_I64(late));
        liveness_fresh(c);
    } else if (hold(c, now)) {
        liveness_arm(c, INT64_MAX);
    } else {
        liveness_arm(c, liveness_expire(&c->liveness, now, c->config->node_grace_ms, on_silent, c));
    }
}

static void on_policy(void *ctx, void *request, enum consensus_outcome outcome, uint64_t index)
{
}

/* A new cluster begins with a policy that everybody can read and change, not with rules that stand nowhere. It is the
 * first leader's first word, before anybody can submit. What this server knows may be old: the state decides whether the
 * cluster is new. */
static void begin_policy(struct control *c)
{
    struct command_policy_set payload = {.initial = true};
    if (c->config->new_cluster_policy == POLICY_OPEN || core_member_next(c->core, NULL))
        return;
    policy_restricted(&payload.policy);
    propose(c, COMMAND_POLICY_SET, &payload, on_policy);
    type_clear(&policy_type, &payload.policy);
}

const char *leader_hold(const struct control *c)
{
    return c->hold;
}

void leader_begin(struct control *c)
{
    liveness_clear(&c->leases);
    free(steal(&c->hold));
    c->look = true;
    if (c->role == CONSENSUS_LEADER) {
        command_time_begin(c);
        begin_policy(c);
        liveness_fresh(c);
    } else {
        liveness_clear(&c->liveness);
        uv_timer_stop(&c->liveness_timer);
        uv_timer_stop(&c->decide_timer);
    }
}
