#include "server/control.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "base/random.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "server/access.h"
#include "server/authority.h"
#include "server/cluster.h"
#include "server/dispatch.h"
#include "server/formation.h"
#include "server/http_thread.h"
#include "server/knock.h"
#include "server/leader.h"
#include "server/peers.h"
#include "server/snapshots.h"
#include "server/vault.h"
#include "server/workload_identity.h"

void control_answer(struct request *r)
{
    queue_push_answer(http_thread_answers(r->thread), &r->item);
}

void control_refuse(struct request *r, enum error_code code, const char *text)
{
    error_set(&r->answer.error, code, "%s", text);
    control_answer(r);
}

/* --- proposals --- */

static void on_proposed(void *ctx, void *request, enum consensus_outcome outcome, uint64_t index)
{
    struct proposal *p = request;
    p->done(ctx, p, outcome);
}

void control_propose(struct control *c, struct proposal *p, void *bytes, size_t len,
                     void (*done)(struct control *c, struct proposal *p, enum consensus_outcome outcome))
{
    p->done = done;
    command_time_propose(c, bytes, len, on_proposed, p);
}

/* Where to make room, and how much. */
static void say_space(const struct control *c, struct error *err)
{
    struct consensus_stats stats;
    control_stats(c, &stats);
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

static void on_request(void *ctx, struct queue_item *item)
{
    dispatch(ctx, container_of(item, struct request, item));
}

void control_stop_waiting(struct control *c)
{
    c->stopping = true;
    dispatch_stop(c);
}

static void on_turn(uv_prepare_t *prepare)
{
    struct control *c = prepare->data;
    access_look(c);                    /* who was revoked does not see the news */
    if (c->applied) {
        c->applied = false;
        c->look = true;
        dispatch_wake(c);
    }
    dispatch_spread(c);
    if (c->members_changed) {
        c->members_changed = false;
        dispatch_leader(c);            /* its address may be known now */
    }
    cluster_look(c);
    vault_look(c);
    workload_identity_look(c);
    leader_turn(c);
}

/* --- consensus --- */

/* The others know what this server does not: it may not go on without. */
static void refuse_newer(const struct error *why)
{
    LOG_E("the log holds what this release does not know", "error", why->text, "release", command_release, "todo",
          "start the newer release again");
    _Exit(1);
}

static void on_apply(void *ctx, uint64_t index, const void *bytes, size_t len, void *request)
{
    struct control *c = ctx;
    struct core_result ignored = {0};
    struct proposal *p = request;
    uint64_t start = uv_hrtime(), ahead = core_ahead(c->core), members = core_changed(c->core, CORE_MEMBER, NULL);
    if (p)
        core_result_clear(&p->result);
    struct core_result *result = p ? &p->result : &ignored;
    core_apply(c->core, index, bytes, len, result);
    if (result->unknown)
        refuse_newer(&result->error);
    command_time_applied(c);
    histogram_add(&c->metrics.apply, (int64_t)(uv_hrtime() - start));
    core_result_clear(&ignored);
    c->metrics.applied++;
    c->applied = true;
    if (core_ahead(c->core) != ahead) {
        leader_begin(c);               /* of another state */
        access_begin(c);
        vault_begin(c);
    }
    if (core_changed(c->core, CORE_MEMBER, NULL) != members)
        c->members_changed = true;
}

void control_write_down(struct control *c, struct buf *out)
{
    uint64_t start = uv_hrtime();
    core_snapshot(c->core, out);
    histogram_add(&c->metrics.snapshot, (int64_t)(uv_hrtime() - start));
}

static void on_snapshot(void *ctx, struct buf *out)
{
    control_write_down(ctx, out);
}

static void *on_read_state(void *ctx, const void *bytes, size_t len, struct error *err)
{
    return core_read(bytes, len, err);
}

static void *on_use_state(void *ctx, uint64_t index, void *state)
{
    struct control *c = ctx;
    struct core *before = c->core;
    c->core = state;
    c->applied = true;
    access_begin(c);
    access_look(c);                    /* the leader is told of this state before the turn ends */
    vault_begin(c);
    return before;
}

static void on_free_state(void *ctx, void *state)
{
    core_free(state);
}

static void on_role(void *ctx, enum consensus_role role)
{
    struct control *c = ctx;
    c->role = role;
    leader_begin(c);
    access_begin(c);
    vault_begin(c);
    dispatch_leader(c);
}

static void on_fatal(void *ctx, const struct error *err)
{
    LOG_E("the server cannot go on", "error", err->text);
    _Exit(1);
}

static uint64_t on_state_hash(void *ctx)
{
    return core_hash(((struct control *)ctx)->core);
}

static void on_members_changed(void *ctx)
{
    ((struct control *)ctx)->members_changed = true;
}

static const struct consensus_callbacks consensus_callbacks = {
    .apply = on_apply, .snapshot = on_snapshot, .read_state = on_read_state, .use_state = on_use_state,
    .free_state = on_free_state, .role_changed = on_role, .fatal = on_fatal, .state_hash = on_state_hash,
    .members_changed = on_members_changed,
};

/* --- questions --- */

void control_count(const struct control *c, int64_t *nodes, int64_t *services, int64_t *allocs)
{
    const struct core_counts *counts = core_counts(c->core);
    *nodes = *allocs = 0;
    *services = (int64_t)counts->services;
    for (size_t i = 0; i < ARRAY_LEN(counts->nodes); i++)
        *nodes += (int64_t)counts->nodes[i];
    for (size_t i = 0; i < ARRAY_LEN(counts->allocs); i++)
        *allocs += (int64_t)counts->allocs[i];
}

void control_stats(const struct control *c, struct consensus_stats *out)
{
    *out = (struct consensus_stats){.leader_contact_ms = -1};
    if (c->consensus)
        consensus_stats(c->consensus, out);
}

const struct member *control_leader(const struct control *c)
{
    char id[24];
    const char *address;
    uint64_t leader = c->consensus ? consensus_leader(c->consensus, &address) : 0;
    snprintf(id, sizeof id, "%" PRIu64, leader);
    return leader ? core_member(c->core, id) : NULL;
}

bool control_in_contact(const struct control *c)
{
    struct consensus_stats stats;
    if (c->role == CONSENSUS_LEADER)
        return true;
    control_stats(c, &stats);
    return stats.leader_contact_ms >= 0 && stats.leader_contact_ms < CONTACT_MS;
}

/* --- start and stop --- */

static void close_handles(struct control *c)
{
    queue_close(&c->inbox, NULL);
    uv_close((uv_handle_t *)&c->turn, NULL);
    uv_close((uv_handle_t *)&c->decide_timer, NULL);
    dispatch_close(c);
    uv_close((uv_handle_t *)&c->liveness_timer, NULL);
}

int control_begin(struct control *c, bool bootstrap, uint64_t server_id, uint64_t cluster_id, struct error *err)
{
    const struct server_config *config = c->config;
    struct consensus_options options = {
        .loop = c->loop,
        .directory = config->data_dir,
        .server_id = server_id,
        .cluster_id = cluster_id,
        .address = c->addresses->raft,
        .listen = c->addresses->raft_listen,
        .tls = c->tls,
        .insecure = !c->tls,
        .bootstrap = bootstrap,
        .callbacks = &consensus_callbacks,
        .ctx = c,
        .release = command_release,
        .command_version = (unsigned)command_level,
        .election_timeout_ms = (unsigned)config->election_timeout_ms,
        .heartbeat_ms = (unsigned)config->raft_heartbeat_ms,
        .segment_bytes = (uint64_t)config->segment_mb << 20,
        .snapshot_after_bytes = (uint64_t)config->snapshot_mb << 20,
        .reserve_bytes = (uint64_t)config->reserve_mb << 20,
    };
    return consensus_start(&c->consensus, &options, err);
}

int control_start(struct control *c, uv_loop_t *loop, const struct control_options *o, struct error *err)
{
    const struct server_config *config = o->config;
    *c = (struct control){.config = config, .addresses = o->addresses, .loop = loop, .core = core_new(),
                          .launcher = o->launcher, .started_ms = time_now_ms()};
    access_start(c, o->access);
    workload_identity_start(c);
    random_system(&c->seed, sizeof c->seed);
    queue_open(&c->inbox, loop, (size_t)config->max_queue, on_request, c);
    uv_prepare_init(loop, &c->turn);
    uv_prepare_start(&c->turn, on_turn);
    uv_timer_init(loop, &c->decide_timer);
    uv_timer_init(loop, &c->liveness_timer);
    c->turn.data = c->decide_timer.data = c->liveness_timer.data = c;
    dispatch_init(c);
    peers_open(c, o->tls);
    authority_start(c, o->own_tls);
    cluster_start(c);
    knock_start(c);
    vault_start(c, o->keys);
    if (formation_start(c, err) == 0) {
        c->backups = backups_start(c);
        return 0;
    }
    cluster_stop(c);
    knock_stop(c);
    formation_stop(c);
    authority_stop(c);
    peers_close(c);
    close_handles(c);
    uv_run(loop, UV_RUN_DEFAULT);
    control_free(c);
    return -1;
}

static void on_consensus_stopped(void *ctx)
{
    struct control *c = ctx;
    c->consensus = NULL;
    cluster_stop(c);
    knock_stop(c);
    formation_stop(c);
    authority_stop(c);
    close_handles(c);
}

void control_stop(struct control *c)
{
    c->stopping = true;
    peers_close(c);
    backups_stop(steal(&c->backups));
    if (c->consensus)
        consensus_stop(c->consensus, on_consensus_stopped, c);
    else
        on_consensus_stopped(c);
}

void control_free(struct control *c)
{
    liveness_clear(&c->liveness);
    liveness_clear(&c->leases);
    free(c->hold);
    free(c->forming);
    access_end(c);
    vault_end(c);
    workload_identity_end(c);
    core_free(c->core);
    c->core = NULL;
}
