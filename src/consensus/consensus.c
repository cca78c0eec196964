/* Happy path of a proposal: consensus_propose copies it into `waiting` and wakes the host; at the end of the turn all
 * waiting ones go to raft_apply in one call (one write, one sync) and into `flight` with their indexes; when the library
 * applies an entry, the head of `flight` is recognised by index and memory, and its owner is told.
 *
 * The library answers a batch only as a whole and with its first entry; so its answer is not used but for memory. Who
 * waits in `flight` is failed when leadership or term changed, which is looked at after each event: the library has no
 * callback for that. CONSENSUS_LEADER is announced only after a barrier of the new term was applied. */
#include "consensus/consensus.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "consensus/consensus_internal.h"

#define SNAPSHOT_RETRY_MS 10000
#define SLOW_TICK_MS 1000
#define BATCH_MAX 4096          /* entries in one raft_apply */

struct proposal {
    STAILQ_ENTRY(proposal) next;
    consensus_done done;
    void *request;
    uint64_t index;             /* in flight */
    struct raft_buffer bytes;   /* raft_malloc'ed; the library's once in flight, then only an identity */
};
STAILQ_HEAD(proposals, proposal);

struct answer {
    STAILQ_ENTRY(answer) next;
    consensus_done done;
    consensus_changed changed;  /* instead of done */
    void *request;
    enum consensus_outcome outcome;
};
STAILQ_HEAD(answers, answer);

struct consensus {
    struct consensus_options options;
    char *address, *release;
    struct consensus_host *host;
    struct storage *storage;
    struct raft raft;
    struct raft_fsm fsm;
    bool initialised;           /* raft_init was done */
    bool restored_badly;        /* at start: then start fails with restore_error */
    struct error restore_error;

    struct proposals waiting, flight;
    uint64_t waiting_bytes;
    unsigned pending;           /* in both */
    struct answers barriers;    /* callers that wait for the next barrier */
    struct answers in_barrier;  /* callers that wait for the one under way */
    struct answers answers;     /* to be given at the turn */
    bool barrier_under_way;
    uint64_t barrier_term;      /* of the one under way */
    bool awake;                 /* a turn is coming */

    /* What the owner knows. */
    enum consensus_role role;
    uint64_t role_term, leader_id;
    uint64_t ready_term;        /* as leader of it, everything before it is applied */

    struct buf snapshot;        /* being written */
    struct raft_buffer snapshot_buffer;
    bool snapshot_wanted;
    bool snapshot_under_way;
    uint64_t snapshot_after_ms; /* none before: the last one failed */
    uint64_t position_at_snapshot, position_of_snapshot;   /* log position of the last one, and of the one under way */
    int64_t snapshot_time_ms;

    bool dead, stopping, closed;
    unsigned tick_ms;
    uint64_t proposals;
};

static uint64_t now_ms(struct consensus *c)
{
    return c->host->storage.now_ms(&c->host->storage);
}

static bool sole_voter(const struct consensus *c)
{
    unsigned voters = 0;
    bool self = false;
    for (unsigned i = 0; i < c->raft.configuration.n; i++) {
        const struct raft_server *server = &c->raft.configuration.servers[i];
        voters += server->role == RAFT_VOTER;
        self |= server->role == RAFT_VOTER && server->id == c->raft.id;
    }
    return self && voters == 1;
}

static void wake(struct consensus *c)
{
    if (c->awake || c->closed)
        return;
    c->awake = true;
    c->host->wake(c->host);
}

static void fatal(void *ctx, const struct error *err)
{
    struct consensus *c = ctx;
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
    wake(c);
}

static void give(struct consensus *c, struct answers *answers, enum consensus_outcome outcome, bool own_outcome)
{
    struct answers now = STAILQ_HEAD_INITIALIZER(now);
    STAILQ_CONCAT(&now, answers);
    uint64_t applied = raft_last_applied(&c->raft);
    struct answer *a;
    while ((a = STAILQ_FIRST(&now))) {
        STAILQ_REMOVE_HEAD(&now, next);
        struct answer copy = *a;
        free(a);
        if (copy.changed) {
            struct error err;
            error_set(&err, ERROR_UNSUPPORTED, "this server listens for no other servers: give it an address to listen on");
            copy.changed(c->options.ctx, copy.request, &err);
            continue;
        }
        enum consensus_outcome o = own_outcome ? copy.outcome : outcome;
        copy.done(c->options.ctx, copy.request, o, o == CONSENSUS_COMMITTED ? applied : 0);
    }
}

static void finish_proposal(struct consensus *c, struct proposal *p, enum consensus_outcome outcome)
{
    c->pending--;
    struct proposal copy = *p;
    free(p);
    copy.done(c->options.ctx, copy.request, outcome, outcome == CONSENSUS_COMMITTED ? copy.index : 0);
}

static void fail_flight(struct consensus *c)
{
    struct proposals failed = STAILQ_HEAD_INITIALIZER(failed);
    STAILQ_CONCAT(&failed, &c->flight);
    struct proposal *p;
    while ((p = STAILQ_FIRST(&failed))) {
        STAILQ_REMOVE_HEAD(&failed, next);
        finish_proposal(c, p, CONSENSUS_UNKNOWN);
    }
}

static void fail_waiting(struct consensus *c, enum consensus_outcome outcome)
{
    struct proposals failed = STAILQ_HEAD_INITIALIZER(failed);
    STAILQ_CONCAT(&failed, &c->waiting);
    c->waiting_bytes = 0;
    struct proposal *p;
    while ((p = STAILQ_FIRST(&failed))) {
        STAILQ_REMOVE_HEAD(&failed, next);
        raft_free(p->bytes.base);
        finish_proposal(c, p, outcome);
    }
}

/* --- the state machine that the library sees --- */

static void want_snapshot(struct consensus *c)
{
    struct storage_stats s;
    storage_stats(c->storage, &s);
    bool due = c->snapshot_wanted || s.log_position - c->position_at_snapshot >= c->options.snapshot_after_bytes;
    if (due && !c->snapshot_under_way && now_ms(c) >= c->snapshot_after_ms)
        raft_set_snapshot_threshold(&c->raft, 1);   /* the library looks after this entry */
}

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *bytes, void **result)
{
    struct consensus *c = fsm->data;
    *result = NULL;
    if (c->dead || c->restored_badly)
        return 0;
    uint64_t index = raft_last_applied(&c->raft) + 1;
    struct proposal *p = STAILQ_FIRST(&c->flight);
    if (p && (p->index != index || p->bytes.base != bytes->base))
        p = NULL;
    if (p)
        STAILQ_REMOVE_HEAD(&c->flight, next);
    c->options.callbacks->apply(c->options.ctx, index, bytes->base, bytes->len, p ? p->request : NULL);
    if (p)
        finish_proposal(c, p, CONSENSUS_COMMITTED);
    want_snapshot(c);
    return 0;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer **bufs, unsigned *n)
{
    struct consensus *c = fsm->data;
    raft_set_snapshot_threshold(&c->raft, UINT_MAX);
    if (c->dead || c->stopping)
        return RAFT_BUSY;
    struct storage_stats s;
    storage_stats(c->storage, &s);
    c->position_of_snapshot = s.log_position;
    c->snapshot_wanted = false;
    c->snapshot_under_way = true;
    buf_clear(&c->snapshot);
    c->options.callbacks->snapshot(c->options.ctx, &c->snapshot);
    c->snapshot_buffer = (struct raft_buffer){c->snapshot.data, c->snapshot.len};
    *bufs = &c->snapshot_buffer;
    *n = 1;
    return 0;
}

/* With this function the buffers stay ours. */
static int fsm_snapshot_finalize(struct raft_fsm *fsm, struct raft_buffer **bufs, unsigned *n)
{
    struct consensus *c = fsm->data;
    buf_free(&c->snapshot);
    c->snapshot_under_way = false;
    *bufs = NULL;
    *n = 0;
    return 0;
}

static void snapshot_written(void *ctx, uint64_t index, uint64_t bytes, int error)
{
    struct consensus *c = ctx;
    if (error < 0) {
        c->snapshot_after_ms = now_ms(c) + SNAPSHOT_RETRY_MS;
        return;
    }
    c->position_at_snapshot = c->position_of_snapshot;
    c->snapshot_time_ms = time_now_ms();
    LOG_I("snapshot written", "index", LOG_U64(index), "bytes", LOG_U64(bytes));
}

/* Never fails towards the library, which could not go on either. */
static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *bytes)
{
    struct consensus *c = fsm->data;
    uint64_t index = storage_snapshot_index(c->storage);
    if (c->options.callbacks->restore(c->options.ctx, index, bytes->base, bytes->len, &c->restore_error) < 0) {
        c->restored_badly = true;
        error_context(&c->restore_error, "cannot read the snapshot of index %llu", (unsigned long long)index);
        if (c->role != CONSENSUS_STARTING)
            fatal(c, &c->restore_error);
    }
    raft_free(bytes->base);
    return 0;
}

/* --- what changed --- */

static void barrier_done(struct raft_barrier *req, int status);

static void start_barrier(struct consensus *c)
{
    struct raft_barrier *req = raft_malloc(sizeof *req);
    INVARIANT(req);
    req->data = c;
    c->barrier_term = c->raft.current_term;
    if (raft_barrier(&c->raft, req, barrier_done) != 0) {
        raft_free(req);   /* a transfer of leadership goes on; asked again after the next event */
        return;
    }
    c->barrier_under_way = true;
    STAILQ_CONCAT(&c->in_barrier, &c->barriers);
}

static enum consensus_role role_now(struct consensus *c)
{
    switch (raft_state(&c->raft)) {
    case RAFT_LEADER:
        return c->ready_term == c->raft.current_term ? CONSENSUS_LEADER : CONSENSUS_CANDIDATE;
    case RAFT_CANDIDATE:
        return CONSENSUS_CANDIDATE;
    case RAFT_FOLLOWER:
        return CONSENSUS_FOLLOWER;
    default:
        return CONSENSUS_STARTING;
    }
}

static void set_tick(struct consensus *c)
{
    /* Alone there is nobody to send heartbeats to. */
    unsigned ms = c->role == CONSENSUS_LEADER && sole_voter(c) ? SLOW_TICK_MS : c->options.heartbeat_ms;
    if (ms != c->tick_ms) {
        c->tick_ms = ms;
        c->host->tick_every(c->host, ms);
    }
}

/* The library may have changed its role, term or leader. */
static void look(struct consensus *c)
{
    if (c->dead || c->closed)
        return;
    bool leads = raft_state(&c->raft) == RAFT_LEADER;
    if (!leads || c->raft.current_term != c->role_term)
        fail_flight(c);
    if (leads && c->ready_term != c->raft.current_term) {
        if (sole_voter(c))
            c->ready_term = c->raft.current_term;   /* becoming leader applied everything */
        else if (!c->barrier_under_way)
            start_barrier(c);
    }
    if (!leads)
        c->ready_term = 0;
    const char *address;
    raft_id leader;
    raft_leader(&c->raft, &leader, &address);
    enum consensus_role role = role_now(c);
    if (role == CONSENSUS_STARTING) {
        struct error err;
        error_set(&err, ERROR_INTERNAL, "the consensus library gave up: %s", raft_errmsg(&c->raft));
        fatal(c, &err);
        return;
    }
    bool changed = role != c->role || c->raft.current_term != c->role_term || leader != c->leader_id;
    c->role = role;
    c->role_term = c->raft.current_term;
    c->leader_id = leader;
    set_tick(c);
    if (changed) {
        LOG_I("role", "role", consensus_role_name(role), "term", LOG_U64(c->role_term), "leader", LOG_U64(leader));
        c->options.callbacks->role_changed(c->options.ctx, role);
    }
}

static void on_event(void *ctx)
{
    struct consensus *c = ctx;
    look(c);
    if (c->stopping || (!STAILQ_EMPTY(&c->barriers) && !c->barrier_under_way))
        wake(c);
}

static void barrier_done(struct raft_barrier *req, int status)
{
    struct consensus *c = req->data;
    raft_free(req);
    c->barrier_under_way = false;
    if (c->closed)
        return;
    if (status == 0 && raft_state(&c->raft) == RAFT_LEADER && c->barrier_term == c->raft.current_term)
        c->ready_term = c->barrier_term;
    want_snapshot(c);
    give(c, &c->in_barrier, status == 0 ? CONSENSUS_COMMITTED : CONSENSUS_NOT_LEADER, false);
}

/* --- proposals --- */

/* A long log may be what fills the disk: a snapshot, written into the reserve, lets go of it. */
static void make_room(struct consensus *c)
{
    struct storage_stats s;
    storage_stats(c->storage, &s);
    if (s.log_position - c->position_at_snapshot >= 2 * c->options.segment_bytes)
        c->snapshot_wanted = true;
}

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
        make_room(c);
    if (refused != CONSENSUS_COMMITTED) {
        answer_later(c, done, request, refused);
        return;
    }
    struct proposal *p = NEW(struct proposal);
    *p = (struct proposal){.done = done, .request = request, .bytes = {raft_malloc(len ? len : 1), len}};
    INVARIANT(p->bytes.base);
    memcpy(p->bytes.base, bytes, len);
    STAILQ_INSERT_TAIL(&c->waiting, p, next);
    c->waiting_bytes += len;
    c->pending++;
    c->proposals++;
    wake(c);
}

static void batch_done(struct raft_apply *req, int status, void *result)
{
    raft_free(req);
}

/* One raft_apply for up to BATCH_MAX proposals. False when the library refused them: nothing was done. */
static bool flush_batch(struct consensus *c)
{
    struct raft_buffer buffers[BATCH_MAX];
    unsigned n = 0;
    struct proposal *p;
    STAILQ_FOREACH(p, &c->waiting, next) {
        if (n == BATCH_MAX)
            break;
        buffers[n++] = p->bytes;
    }
    struct raft_apply *req = raft_malloc(sizeof *req);
    INVARIANT(req);
    if (raft_apply(&c->raft, req, buffers, n, batch_done) != 0) {
        raft_free(req);
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        p = STAILQ_FIRST(&c->waiting);
        STAILQ_REMOVE_HEAD(&c->waiting, next);
        p->index = req->index + i;
        c->waiting_bytes -= p->bytes.len;
        STAILQ_INSERT_TAIL(&c->flight, p, next);
    }
    return true;
}

void consensus_barrier(struct consensus *c, consensus_done done, void *request)
{
    if (c->role != CONSENSUS_LEADER || c->stopping || c->dead) {
        answer_later(c, done, request, CONSENSUS_NOT_LEADER);
        return;
    }
    /* Alone, what was acknowledged was applied here before. */
    if (sole_voter(c)) {
        answer_later(c, done, request, CONSENSUS_COMMITTED);
        return;
    }
    struct answer *a = NEW(struct answer);
    *a = (struct answer){.done = done, .request = request};
    STAILQ_INSERT_TAIL(&c->barriers, a, next);
    wake(c);
}

void consensus_snapshot_soon(struct consensus *c)
{
    c->snapshot_wanted = true;
    wake(c);
}

static void finish_stopping(struct consensus *c)
{
    bool waits = storage_busy(c->storage) && !storage_waits_for_space(c->storage);
    if (waits && !c->dead)
        return;
    fail_flight(c);
    c->closed = true;
    c->role = CONSENSUS_STARTING;
    c->host->closed(c->host);
}

void consensus_turn(struct consensus *c)
{
    c->awake = false;
    if (c->closed)
        return;
    give(c, &c->answers, CONSENSUS_COMMITTED, true);
    if (!c->dead && c->role == CONSENSUS_LEADER && !c->stopping) {
        while (!STAILQ_EMPTY(&c->waiting) && flush_batch(c))
            ;
        fail_waiting(c, CONSENSUS_NOT_LEADER);
        bool idle_snapshot = c->snapshot_wanted && !c->snapshot_under_way && STAILQ_EMPTY(&c->flight) &&
                             now_ms(c) >= c->snapshot_after_ms;
        if (!c->barrier_under_way && (!STAILQ_EMPTY(&c->barriers) || idle_snapshot))
            start_barrier(c);
    } else {
        fail_waiting(c, c->stopping ? CONSENSUS_UNKNOWN : CONSENSUS_NOT_LEADER);
        give(c, &c->barriers, CONSENSUS_NOT_LEADER, false);
    }
    look(c);
    if (c->stopping)
        finish_stopping(c);
}

void consensus_tick(struct consensus *c)
{
    if (c->closed)
        return;
    if (!c->dead)
        storage_tick(c->storage);
    if (c->snapshot_wanted && !c->snapshot_under_way)
        wake(c);
    if (c->stopping)
        finish_stopping(c);
}

/* --- start and end --- */

static const struct storage_callbacks storage_callbacks = {
    .event = on_event,
    .fatal = fatal,
    .snapshot_written = snapshot_written,
};

static void set_defaults(struct consensus_options *o)
{
#define DEFAULT(field, value) \
    if (!o->field) \
        o->field = value
    DEFAULT(election_timeout_ms, 1000);
    DEFAULT(heartbeat_ms, 100);
    DEFAULT(segment_bytes, 8u << 20);
    DEFAULT(snapshot_after_bytes, 32u << 20);
    DEFAULT(trailing_entries, 1024);
    DEFAULT(reserve_bytes, 32u << 20);
    DEFAULT(max_command_bytes, 4u << 20);
    DEFAULT(max_pending, 65536);
#undef DEFAULT
    if (o->max_command_bytes > o->segment_bytes / 2)
        o->max_command_bytes = o->segment_bytes / 2;
}

static int library_error(struct consensus *c, int rv, const char *what, struct error *err)
{
    return error_set(err, ERROR_INTERNAL, "%s: %s: %s", what, raft_strerror(rv), raft_errmsg(&c->raft));
}

static int bootstrap(struct consensus *c, struct error *err)
{
    struct raft_configuration configuration;
    raft_configuration_init(&configuration);
    int rv = raft_configuration_add(&configuration, storage_server_id(c->storage), c->address, RAFT_VOTER);
    if (rv == 0)
        rv = raft_bootstrap(&c->raft, &configuration);
    raft_configuration_close(&configuration);
    return rv == 0 ? 0 : library_error(c, rv, "cannot bootstrap", err);
}

static int start_library(struct consensus *c, struct error *err)
{
    c->fsm = (struct raft_fsm){.version = 2, .data = c, .apply = fsm_apply, .snapshot = fsm_snapshot,
                               .restore = fsm_restore, .snapshot_finalize = fsm_snapshot_finalize};
    int rv = raft_init(&c->raft, storage_io(c->storage), &c->fsm, storage_server_id(c->storage), c->address);
    if (rv != 0)
        return library_error(c, rv, "cannot start", err);
    c->initialised = true;
    raft_set_election_timeout(&c->raft, c->options.election_timeout_ms);
    raft_set_heartbeat_timeout(&c->raft, c->options.heartbeat_ms);
    raft_set_pre_vote(&c->raft, true);
    raft_set_snapshot_threshold(&c->raft, UINT_MAX);
    raft_set_snapshot_trailing(&c->raft, c->options.trailing_entries);
    if (c->options.bootstrap && storage_is_pristine(c->storage) && bootstrap(c, err) < 0)
        return -1;
    rv = raft_start(&c->raft);
    if (rv != 0)
        return library_error(c, rv, "cannot start", err);
    if (c->restored_badly) {
        *err = c->restore_error;
        return -1;
    }
    return 0;
}

int consensus_open(struct consensus **out, const struct consensus_options *options, struct consensus_host *host,
                   struct error *err)
{
    struct consensus *c = NEW(struct consensus);
    c->options = *options;
    set_defaults(&c->options);
    c->address = mem_strdup(options->address);
    c->release = mem_strdup(options->release);
    c->host = host;
    STAILQ_INIT(&c->waiting);
    STAILQ_INIT(&c->flight);
    STAILQ_INIT(&c->barriers);
    STAILQ_INIT(&c->in_barrier);
    STAILQ_INIT(&c->answers);
    struct storage_options storage = {.host = &host->storage, .callbacks = &storage_callbacks, .ctx = c,
                                      .server_id = options->server_id, .cluster_id = options->cluster_id,
                                      .segment_bytes = c->options.segment_bytes,
                                      .reserve_bytes = c->options.reserve_bytes,
                                      .trailing = c->options.trailing_entries};
    if (storage_open(&c->storage, &storage, err) < 0 || start_library(c, err) < 0) {
        consensus_free(c);
        return -1;
    }
    *out = c;
    storage_begin(c->storage);
    wake(c);   /* the first turn announces the role */
    return 0;
}

void consensus_close(struct consensus *c)
{
    c->stopping = true;
    wake(c);
}

static void free_answers(struct answers *answers)
{
    struct answer *a;
    while ((a = STAILQ_FIRST(answers))) {
        STAILQ_REMOVE_HEAD(answers, next);
        free(a);
    }
}

void consensus_free(struct consensus *c)
{
    c->dead = c->closed = true;
    if (c->initialised)
        raft_close(&c->raft, NULL);
    struct proposal *p;
    while ((p = STAILQ_FIRST(&c->flight))) {
        STAILQ_REMOVE_HEAD(&c->flight, next);
        free(p);
    }
    while ((p = STAILQ_FIRST(&c->waiting))) {
        STAILQ_REMOVE_HEAD(&c->waiting, next);
        raft_free(p->bytes.base);
        free(p);
    }
    free_answers(&c->barriers);
    free_answers(&c->in_barrier);
    free_answers(&c->answers);
    if (c->storage)
        storage_free(c->storage);
    buf_free(&c->snapshot);
    free(c->address);
    free(c->release);
    free(c);
}

struct consensus_host *consensus_host(struct consensus *c) { return c->host; }
struct storage *consensus_storage(struct consensus *c) { return c->storage; }

/* --- queries --- */

enum consensus_role consensus_role(const struct consensus *c) { return c->role; }

uint64_t consensus_leader(const struct consensus *c, const char **address)
{
    raft_id id = 0;
    const char *a = NULL;
    if (!c->closed)
        raft_leader((struct raft *)(uintptr_t)&c->raft, &id, &a);
    if (address)
        *address = a;
    return id;
}

void consensus_stats(const struct consensus *c, struct consensus_stats *out)
{
    struct raft *raft = (struct raft *)(uintptr_t)&c->raft;   /* its getters take no const */
    struct storage_stats s;
    storage_stats(c->storage, &s);
    *out = (struct consensus_stats){
        .server_id = storage_server_id(c->storage),
        .cluster_id = storage_cluster_id(c->storage),
        .term = c->raft.current_term,
        .last_index = raft_last_index(raft),
        .commit_index = c->raft.commit_index,
        .applied_index = raft_last_applied(raft),
        .snapshot_index = s.snapshot_index,
        .snapshot_time_ms = c->snapshot_time_ms,
        .snapshot_bytes = s.snapshot_bytes,
        .log_bytes = s.log_bytes,
        .log_bytes_since_snapshot = s.log_position - c->position_at_snapshot,
        .disk_free_bytes = s.disk_free_bytes,
        .no_space = s.no_space,
        .pending = c->pending,
        .proposals = c->proposals,
        .appends = s.appends,
        .syncs = s.syncs,
        .leader_contact_ms = c->role == CONSENSUS_LEADER ? 0 : -1,
    };
}

size_t consensus_members(const struct consensus *c, struct consensus_member *out, size_t max)
{
    const struct raft_configuration *configuration = &c->raft.configuration;
    uint64_t leader = consensus_leader(c, NULL);
    for (unsigned i = 0; i < configuration->n && i < max; i++) {
        const struct raft_server *server = &configuration->servers[i];
        bool self = server->id == c->raft.id;
        out[i] = (struct consensus_member){
            .id = server->id,
            .address = server->address,
            .membership = server->role == RAFT_VOTER ? CONSENSUS_VOTER : CONSENSUS_STANDBY,
            .leader = server->id == leader,
            .self = self,
            .connected = self,
            .release = self ? c->release : NULL,
            .command_version = self ? c->options.command_version : 0,
            .contact_ms = self ? 0 : -1,
        };
    }
    return configuration->n;
}

enum consensus_membership consensus_self(const struct consensus *c)
{
    for (unsigned i = 0; i < c->raft.configuration.n; i++)
        if (c->raft.configuration.servers[i].id == c->raft.id)
            return c->raft.configuration.servers[i].role == RAFT_VOTER ? CONSENSUS_VOTER : CONSENSUS_STANDBY;
    return CONSENSUS_NO_MEMBER;
}

unsigned consensus_lease_ms(const struct consensus *c)
{
    return c->role == CONSENSUS_LEADER && sole_voter(c) ? UINT_MAX : 0;
}

unsigned consensus_command_version(const struct consensus *c)
{
    return sole_voter(c) ? c->options.command_version : 0;
}

int consensus_port(const struct consensus *c) { return 0; }

static void change_alone(struct consensus *c, consensus_changed done, void *request)
{
    struct answer *a = NEW(struct answer);
    *a = (struct answer){.changed = done, .request = request};
    STAILQ_INSERT_TAIL(&c->answers, a, next);
    wake(c);
}

void consensus_add(struct consensus *c, uint64_t id, const char *address, consensus_changed done, void *request)
{
    change_alone(c, done, request);
}

void consensus_promote(struct consensus *c, uint64_t id, consensus_changed done, void *request)
{
    change_alone(c, done, request);
}

void consensus_remove(struct consensus *c, uint64_t id, consensus_changed done, void *request)
{
    change_alone(c, done, request);
}

void consensus_transfer(struct consensus *c, uint64_t id, consensus_changed done, void *request)
{
    change_alone(c, done, request);
}
