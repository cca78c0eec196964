/* Happy path of a proposal: consensus_propose copies it into `waiting` and wakes the host; at the end of the turn all
 * waiting ones go into the log together (one write, one sync, one message to each follower) and into `flight` with their
 * indexes; when a majority has them, they are applied, the head of `flight` is recognised by index and term, and its
 * owner is told.
 *
 * Who waits in `flight` when leadership or term changes is answered UNKNOWN: the entry may yet be committed by the next
 * leader, or be dropped. */
#include "consensus/consensus.h"

#include <limits.h>
#include <string.h>

#include "base/log.h"
#include "consensus/consensus_internal.h"

#define SLOW_TICK_MS 1000
#define BATCH_MAX 4096          /* entries applied in one turn */

uint64_t consensus_now_ms(const struct consensus *c)
{
    return c->host->storage.now_ms(&c->host->storage);
}

void consensus_wake(struct consensus *c)
{
    if (c->awake || c->closed)
        return;
    c->awake = true;
    c->host->wake(c->host);
}

void consensus_fatal(struct consensus *c, const struct error *err)
{
    if (c->dead)
        return;
    c->dead = true;
    c->options.callbacks->fatal(c->options.ctx, err);
    c->host->failed(c->host);
}

/* --- answers --- */

static void answer_later(struct consensus *c, consensus_done done, void *request, enum consensus_outcome outcome)
{
    struct answer *a = NEW(struct answer);
    *a = (struct answer){.done = done, .request = request, .outcome = outcome};
    STAILQ_INSERT_TAIL(&c->answers, a, next);
    consensus_wake(c);
}

void consensus_answer_changed(struct consensus *c, consensus_changed done, void *request, const struct error *err)
{
    if (!done)
        return;
    struct answer *a = NEW(struct answer);
    *a = (struct answer){.changed = done, .request = request};
    if (err)
        a->error = *err;
    STAILQ_INSERT_TAIL(&c->answers, a, next);
    consensus_wake(c);
}

static void give_one(struct consensus *c, const struct answer *a, enum consensus_outcome outcome)
{
    if (a->changed)
        a->changed(c->options.ctx, a->request, a->error.code ? &a->error : NULL);
    else
        a->done(c->options.ctx, a->request, outcome, outcome == CONSENSUS_COMMITTED ? c->raft.applied : 0);
}

static void give(struct consensus *c, struct answers *answers, enum consensus_outcome outcome, bool own_outcome)
{
    struct answers now = STAILQ_HEAD_INITIALIZER(now);
    STAILQ_CONCAT(&now, answers);
    struct answer *a;
    while ((a = STAILQ_FIRST(&now))) {
        STAILQ_REMOVE_HEAD(&now, next);
        struct answer copy = *a;
        free(a);
        give_one(c, &copy, own_outcome ? copy.outcome : outcome);
    }
}

static void finish_proposal(struct consensus *c, struct proposal *p, enum consensus_outcome outcome)
{
    c->pending--;
    struct proposal copy = *p;
    free(p);
    copy.done(c->options.ctx, copy.request, outcome, outcome == CONSENSUS_COMMITTED ? copy.index : 0);
}

static void fail_all(struct consensus *c, struct proposals *proposals, enum consensus_outcome outcome)
{
    struct proposals failed = STAILQ_HEAD_INITIALIZER(failed);
    STAILQ_CONCAT(&failed, proposals);
    struct proposal *p;
    while ((p = STAILQ_FIRST(&failed))) {
        STAILQ_REMOVE_HEAD(&failed, next);
        free(p->bytes);
        finish_proposal(c, p, outcome);
    }
}

static void fail_waiting(struct consensus *c, enum consensus_outcome outcome)
{
    c->waiting_bytes = 0;
    fail_all(c, &c->waiting, outcome);
}

/* --- applying --- */

/* The proposal that it came from, which is to be answered; NULL: none of ours. */
static struct proposal *apply_command(struct consensus *c, uint64_t index, const struct entry *e)
{
    struct proposal *p = STAILQ_FIRST(&c->flight);
    if (p && (p->index != index || p->term != e->term))
        p = NULL;
    if (p)
        STAILQ_REMOVE_HEAD(&c->flight, next);
    c->options.callbacks->apply(c->options.ctx, index, e->len ? e->bytes : (const uint8_t *)"", e->len,
                                p ? p->request : NULL);
    return p;
}

void consensus_apply_committed(struct consensus *c, uint64_t max)
{
    for (; c->raft.applied < c->raft.commit && !c->dead && !c->raft.installing && !c->holds; max--) {
        if (!max) {
            consensus_wake(c);
            return;
        }
        uint64_t index = c->raft.applied + 1;
        const struct entry *e = raft_log_entry(&c->raft.log, index);
        struct proposal *p = e->type == ENTRY_COMMAND ? apply_command(c, index, e) : NULL;
        raft_applied(&c->raft, index);
        state_hash_record(c, index);
        if (p)
            finish_proposal(c, p, CONSENSUS_COMMITTED);
    }
}

void *consensus_read_state(const struct consensus *c, const struct snapshot *snapshot, struct error *err)
{
    void *state = c->options.callbacks->read_state(c->options.ctx, snapshot->data, snapshot->len, err);
    if (!state)
        error_context(err, "cannot read the snapshot of index %llu", (unsigned long long)snapshot->id.index);
    return state;
}

void *consensus_use_state(struct consensus *c, uint64_t index, void *state)
{
    void *before = c->options.callbacks->use_state(c->options.ctx, index, state);
    state_hash_record(c, index);
    return before;
}

bool consensus_hold_state(struct consensus *c)
{
    if (c->raft.installing)
        return false;
    c->holds++;
    return true;
}

void consensus_release_state(struct consensus *c)
{
    INVARIANT(c->holds);
    c->holds--;
    consensus_wake(c);
}

/* --- what changed --- */

static enum consensus_role role_now(const struct consensus *c)
{
    switch (c->raft.role) {
    case RAFT_LEADER:
        return raft_leads(&c->raft) ? CONSENSUS_LEADER : CONSENSUS_CANDIDATE;
    case RAFT_FOLLOWER:
        return CONSENSUS_FOLLOWER;
    default:
        return CONSENSUS_CANDIDATE;
    }
}

static void set_tick(struct consensus *c)
{
    /* Alone there is nobody to send heartbeats to. */
    unsigned ms = c->raft.n_peers ? c->options.heartbeat_ms / 2 : SLOW_TICK_MS;
    ms = ms ? ms : 1;
    if (ms != c->tick_ms) {
        c->tick_ms = ms;
        c->host->tick_every(c->host, ms);
    }
}

static void look_at_members(struct consensus *c)
{
    const struct membership *now = raft_membership(&c->raft);
    if (membership_equal(now, &c->members))
        return;
    membership_clear(&c->members);
    c->members = membership_copy(now);
    if (c->host->network)
        c->host->network->want(c->host->network, now);
    if (c->options.callbacks->members_changed)
        c->options.callbacks->members_changed(c->options.ctx);
}

static void look_at_role(struct consensus *c)
{
    bool leads = c->raft.role == RAFT_LEADER;
    if (!leads || c->raft.term != c->role_term)
        fail_all(c, &c->flight, CONSENSUS_UNKNOWN);
    enum consensus_role role = role_now(c);
    if (role == c->role && c->raft.term == c->role_term && c->raft.leader == c->leader_id)
        return;
    c->role = role;
    c->role_term = c->raft.term;
    c->leader_id = c->raft.leader;
    LOG_I("role", "role", consensus_role_name(role), "term", LOG_U64(c->role_term), "leader", LOG_U64(c->leader_id));
    c->options.callbacks->role_changed(c->options.ctx, role);
}

/* --- proposals --- */

void consensus_propose(struct consensus *c, const void *bytes, size_t len, consensus_done done, void *request)
{
    enum consensus_outcome refused = CONSENSUS_COMMITTED;
    if (c->role != CONSENSUS_LEADER || c->stopping || c->dead)
        refused = CONSENSUS_NOT_LEADER;
    else if (len > c->options.max_command_bytes)
        refused = CONSENSUS_TOO_LARGE;
    else if (c->pending >= c->options.max_pending)
        refused = CONSENSUS_BUSY;
    else if (!storage_has_space(c->storage, c->waiting_bytes + len))
        refused = CONSENSUS_NO_SPACE;
    if (refused == CONSENSUS_NO_SPACE)
        snapshot_take_for_room(c);
    if (refused != CONSENSUS_COMMITTED) {
        answer_later(c, done, request, refused);
        return;
    }
    struct proposal *p = NEW(struct proposal);
    *p = (struct proposal){.done = done, .request = request, .bytes = len ? mem_dup(bytes, len) : NULL,
                           .len = (uint32_t)len};
    STAILQ_INSERT_TAIL(&c->waiting, p, next);
    c->waiting_bytes += len;
    c->pending++;
    c->proposals++;
    consensus_wake(c);
}

static void append_waiting(struct consensus *c)
{
    struct proposal *p;
    while ((p = STAILQ_FIRST(&c->waiting))) {
        STAILQ_REMOVE_HEAD(&c->waiting, next);
        p->index = raft_propose(&c->raft, ENTRY_COMMAND, p->bytes, p->len);
        p->term = c->raft.term;
        p->bytes = NULL;
        STAILQ_INSERT_TAIL(&c->flight, p, next);
    }
    c->waiting_bytes = 0;
}

/* --- barriers --- */

void consensus_barrier(struct consensus *c, consensus_done done, void *request)
{
    if (c->role != CONSENSUS_LEADER || c->stopping || c->dead) {
        answer_later(c, done, request, CONSENSUS_NOT_LEADER);
        return;
    }
    struct answer *a = NEW(struct answer);
    *a = (struct answer){.done = done, .request = request};
    STAILQ_INSERT_TAIL(&c->barriers, a, next);
    consensus_wake(c);
}

static void barriers_turn(struct consensus *c)
{
    bool leads = c->raft.role == RAFT_LEADER;
    if (c->barrier_round && (!leads || c->raft.term != c->barrier_term)) {
        c->barrier_round = 0;
        give(c, &c->in_barrier, CONSENSUS_NOT_LEADER, false);
    }
    if (c->role != CONSENSUS_LEADER || c->stopping || c->dead) {
        give(c, &c->barriers, CONSENSUS_NOT_LEADER, false);
        return;
    }
    if (!c->barrier_round && !STAILQ_EMPTY(&c->barriers)) {
        c->barrier_round = raft_begin_round(&c->raft);
        c->barrier_term = c->raft.term;
        c->barrier_index = c->raft.commit;
        STAILQ_CONCAT(&c->in_barrier, &c->barriers);
    }
    if (c->barrier_round && raft_round_answered(&c->raft) >= c->barrier_round && c->raft.applied >= c->barrier_index) {
        c->barrier_round = 0;
        give(c, &c->in_barrier, CONSENSUS_COMMITTED, false);
        if (!STAILQ_EMPTY(&c->barriers))
            consensus_wake(c);
    }
}

/* --- the turn --- */

/* A leader that stops lets another one take over first: nobody has to wait for an election. */
static bool hand_over(struct consensus *c)
{
    if (c->raft.role != RAFT_LEADER)
        return false;
    if (raft_transferring(&c->raft))
        return true;
    if (c->handed_over)
        return false;
    c->handed_over = true;
    const struct raft_peer *best = NULL;
    for (size_t i = 0; i < c->raft.n_peers; i++) {
        const struct raft_peer *p = &c->raft.peers[i];
        if (p->voter && p->progress == RAFT_REPLICATE && (!best || p->match > best->match))
            best = p;
    }
    if (!best || !c->driver.room(&c->driver, best->id))
        return false;
    raft_transfer(&c->raft, best->id);
    return true;
}

static void finish_stopping(struct consensus *c)
{
    bool waits = c->holds || (storage_busy(c->storage) && !storage_waits_for_space(c->storage));
    if ((waits || hand_over(c)) && !c->dead)
        return;
    fail_all(c, &c->flight, CONSENSUS_UNKNOWN);
    give(c, &c->in_barrier, CONSENSUS_NOT_LEADER, false);
    give(c, &c->barriers, CONSENSUS_NOT_LEADER, false);
    changes_forget(c);
    give(c, &c->answers, CONSENSUS_COMMITTED, true);
    c->closed = true;
    c->role = CONSENSUS_STARTING;
    c->host->closed(c->host);
}

static void work(struct consensus *c)
{
    bool takes = c->role == CONSENSUS_LEADER && c->raft.role == RAFT_LEADER && c->raft.term == c->role_term &&
                 !c->stopping && !raft_transferring(&c->raft);
    if (takes)
        append_waiting(c);
    else
        fail_waiting(c, c->stopping ? CONSENSUS_UNKNOWN : CONSENSUS_NOT_LEADER);
    barriers_turn(c);
    storage_log_grew(c->storage);
    if (c->raft.wants_flush)
        raft_flush(&c->raft, consensus_now_ms(c));
    consensus_apply_committed(c, BATCH_MAX);
    if (c->dead)
        return;
    look_at_role(c);
    look_at_members(c);
    barriers_turn(c);
    changes_turn(c);
    snapshot_receive_turn(c);
    snapshot_send_turn(c);
    snapshot_take_turn(c);
    set_tick(c);
    if (c->raft.wants_flush)
        consensus_wake(c);
}

void consensus_turn(struct consensus *c)
{
    c->awake = false;
    if (c->closed)
        return;
    give(c, &c->answers, CONSENSUS_COMMITTED, true);
    if (!c->dead)
        work(c);
    if (c->dead)
        fail_waiting(c, CONSENSUS_UNKNOWN);
    if (c->stopping)
        finish_stopping(c);
}

void consensus_tick(struct consensus *c)
{
    if (c->closed)
        return;
    if (!c->dead) {
        storage_tick(c->storage);
        raft_tick(&c->raft, consensus_now_ms(c));
    }
    consensus_wake(c);
}

/* --- the network --- */

int consensus_message(struct consensus *c, uint64_t from, const void *bytes, size_t len, struct error *err)
{
    struct message m;
    if (c->dead || c->closed)
        return 0;
    if (message_decode(bytes, len, &m, err) < 0)
        return -1;
    int rv = raft_receive(&c->raft, from, &m, consensus_now_ms(c), err);
    if (rv == 0 && !c->dead && m.term == c->raft.term) {
        if (m.type == MESSAGE_CHUNK && c->raft.leader == from)
            snapshot_receive_chunk(c, from, &m.chunk);
        else if (m.type == MESSAGE_CHUNK_ANSWER && c->raft.role == RAFT_LEADER)
            snapshot_send_answer(c, from, &m.chunk_answer);
        else if (m.type == MESSAGE_APPEND || m.type == MESSAGE_APPEND_ANSWER)
            state_hash_compare(c, from, &m);
    }
    if (m.type == MESSAGE_APPEND)
        free((void *)(uintptr_t)m.append.entries);
    consensus_wake(c);
    return rv;
}

void consensus_peer_up(struct consensus *c, uint64_t id)
{
    raft_wake_peer(&c->raft, id);
    consensus_wake(c);
}

void consensus_peer_room(struct consensus *c, uint64_t id)
{
    raft_wake_peer(&c->raft, id);
    consensus_wake(c);
}

void consensus_peer_down(struct consensus *c, uint64_t id)
{
    raft_lose_peer(&c->raft, id);
    snapshot_send_lost(c, id);
    consensus_wake(c);
}

/* --- the end --- */

void consensus_close(struct consensus *c)
{
    c->stopping = true;
    consensus_wake(c);
}

static void free_answers(struct answers *answers)
{
    struct answer *a;
    while ((a = STAILQ_FIRST(answers))) {
        STAILQ_REMOVE_HEAD(answers, next);
        free(a);
    }
}

static void free_proposals(struct proposals *proposals)
{
    struct proposal *p;
    while ((p = STAILQ_FIRST(proposals))) {
        STAILQ_REMOVE_HEAD(proposals, next);
        free(p->bytes);
        free(p);
    }
}

void consensus_free(struct consensus *c)
{
    c->dead = c->closed = true;
    free_proposals(&c->flight);
    free_proposals(&c->waiting);
    free_answers(&c->barriers);
    free_answers(&c->in_barrier);
    free_answers(&c->answers);
    changes_free(c);
    snapshot_take_free(c);
    snapshot_send_free(c);
    snapshot_receive_free(c);
    if (c->storage)
        storage_free(c->storage);
    if (c->initialised)
        raft_free(&c->raft);
    membership_clear(&c->members);
    free(c->address);
    free(c->release);
    free(c);
}

struct consensus_host *consensus_host(struct consensus *c) { return c->host; }
uint64_t consensus_server_id(const struct consensus *c) { return storage_server_id(c->storage); }
uint64_t consensus_cluster_id(const struct consensus *c) { return storage_cluster_id(c->storage); }
const struct raft *consensus_raft(const struct consensus *c) { return &c->raft; }

enum consensus_role consensus_role(const struct consensus *c) { return c->role; }
