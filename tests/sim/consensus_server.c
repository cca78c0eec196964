/* A server: its disk's and executor's time, its clock, its lives, and the state machine, which is the list of what was
 * applied. */
#include <string.h>

#include "base/log.h"
#include "consensus_world.h"

static struct server *of_host(struct consensus_host *host)
{
    return container_of(host, struct server, host);
}

static struct server *of_storage(struct storage_host *storage)
{
    return container_of(storage, struct server, host.storage);
}

static struct event event_of(struct server *s, enum event_type type)
{
    return (struct event){.type = type, .server = s, .life = s->life};
}

/* --- the host --- */

uint64_t server_now_ms(const struct server *s)
{
    int64_t ms = (int64_t)(world->now_us / 1000);
    return s->clock_offset_ms + (uint64_t)(ms + ms * s->clock_ppm / 1000000);
}

static uint64_t host_now(struct storage_host *storage) { return server_now_ms(of_storage(storage)); }
static uint64_t host_random(struct storage_host *storage, uint64_t limit) { return pick(limit); }
static void host_wake(struct consensus_host *host) { schedule(0, event_of(of_host(host), EVENT_TURN)); }
static void host_failed(struct consensus_host *host) { of_host(host)->fatal = true; }
static void host_closed(struct consensus_host *host) { of_host(host)->closed = true; }

static void schedule_tick(struct server *s)
{
    struct event e = event_of(s, EVENT_TICK);
    e.epoch = s->tick_epoch;
    int64_t us = (int64_t)s->tick_ms * 1000;
    schedule((uint64_t)(us - us * s->clock_ppm / 1000000), e);
}

static void host_tick_every(struct consensus_host *host, unsigned ms)
{
    struct server *s = of_host(host);
    s->tick_ms = ms;
    s->tick_epoch++;
    schedule_tick(s);
}

static void start_work(struct server *s, unsigned lane)
{
    struct event e = event_of(s, EVENT_WORK);
    e.lane = lane;
    s->lanes[lane].busy = true;
    schedule(some_time(s->disk_us), e);
}

static void submit(struct executor *executor, enum executor_lane lane, struct executor_job *job)
{
    struct server *s = container_of(executor, struct server, executor);
    STAILQ_INSERT_TAIL(&s->lanes[lane].jobs, job, next);
    if (!s->lanes[lane].busy)
        start_work(s, lane);
}

static void work(struct server *s, unsigned lane)
{
    struct lane *l = &s->lanes[lane];
    struct executor_job *job = STAILQ_FIRST(&l->jobs);
    STAILQ_REMOVE_HEAD(&l->jobs, next);
    job->work(job);
    STAILQ_INSERT_TAIL(&s->finished, job, next);
    schedule(some_time(50), event_of(s, EVENT_DONE));
    l->busy = false;
    if (!STAILQ_EMPTY(&l->jobs))
        start_work(s, lane);
}

static void finish(struct server *s)
{
    struct executor_job *job = STAILQ_FIRST(&s->finished);
    STAILQ_REMOVE_HEAD(&s->finished, next);
    job->done(job);
}

static void forget_jobs(struct server *s)
{
    for (unsigned i = 0; i < EXECUTOR_LANE_COUNT; i++) {
        STAILQ_INIT(&s->lanes[i].jobs);
        s->lanes[i].busy = false;
    }
    STAILQ_INIT(&s->finished);
}

/* --- the state machine --- */

static uint8_t payload_byte(uint64_t id, size_t i)
{
    return (uint8_t)(hash_mix(id * 8191 + i / 64 + 1) >> (i % 8));
}

static void fill(struct buf *out, uint64_t id, size_t len)
{
    buf_add_u64(out, id);
    buf_add_u64(out, len);
    for (size_t i = 0; i < len; i++)
        buf_add_u8(out, payload_byte(id, i));
}

static void add_to_state(struct server *s, uint64_t index, uint64_t id)
{
    if (s->n_state == s->cap_state) {
        s->cap_state = s->cap_state ? s->cap_state * 2 : 256;
        s->state = mem_realloc_array(s->state, s->cap_state, sizeof s->state[0]);
    }
    s->state[s->n_state++] = (struct applied){index, id};
    s->state_hash = hash_mix(s->state_hash ^ hash_mix(index * 1000003 + id));
}

static void on_apply(void *ctx, uint64_t index, const void *bytes, size_t len, void *request)
{
    struct server *s = ctx;
    struct cursor c = cursor_of(bytes, len);
    uint64_t id, payload;
    CHECK(cursor_u64(&c, &id) && cursor_u64(&c, &payload) && cursor_left(&c) == payload, "half a command at %llu",
          (unsigned long long)index);
    CHECK(id < world->n_commands, "a command that nobody proposed: %llu", (unsigned long long)id);
    struct command *command = &world->commands[id];
    CHECK(payload == command->len, "command %llu has another length", (unsigned long long)id);
    for (size_t i = 0; i < payload; i++)
        CHECK(c.p[i] == payload_byte(id, i), "command %llu is damaged at byte %zu", (unsigned long long)id, i);
    CHECK(!request || (request == command && command->server == s && command->life == s->life),
          "the wrong request came with command %llu", (unsigned long long)id);
    CHECK(!s->n_state || index > s->state[s->n_state - 1].index, "index %llu goes back", (unsigned long long)index);
    add_to_state(s, index, id);
    if (break_mode == BREAK_STATE && one_in(200))
        s->state_hash++;
    oracle_applied(s, index, id);
}

static void on_snapshot(void *ctx, struct buf *out)
{
    struct server *s = ctx;
    totals.snapshots++;
    buf_add_u64(out, s->n_state);
    buf_add(out, s->state, s->n_state * sizeof s->state[0]);
    size_t fat = world->profile.fat ? 700000 : 0;
    buf_reserve(out, fat);
    memset(out->data + out->len, (int)(s->n_state & 0x7f) + 1, fat);
    out->len += fat;
}

struct state {
    uint64_t n;
    struct applied v[];
};

static void *on_read_state(void *ctx, const void *bytes, size_t len, struct error *err)
{
    struct cursor c = cursor_of(bytes, len);
    uint64_t n;
    const uint8_t *list;
    totals.restores++;
    CHECK(cursor_u64(&c, &n) && cursor_bytes(&c, n * sizeof(struct applied), &list), "half a snapshot");
    while (cursor_left(&c))
        CHECK(*c.p++ == (n & 0x7f) + 1, "a damaged snapshot");
    struct state *state = mem_alloc(sizeof *state + n * sizeof(struct applied));
    state->n = n;
    memcpy(state->v, list, n * sizeof(struct applied));
    return state;
}

static void *on_use_state(void *ctx, uint64_t index, void *state)
{
    struct server *s = ctx;
    const struct state *from = state;
    s->n_state = 0;
    s->state_hash = 0;
    for (uint64_t i = 0; i < from->n; i++)
        add_to_state(s, from->v[i].index, from->v[i].id);
    oracle_restored(s, index);
    return state;       /* copied */
}

static void on_free_state(void *ctx, void *state)
{
    free(state);
}

static uint64_t on_state_hash(void *ctx)
{
    struct server *s = ctx;
    return s->state_hash + s->corrupt;
}

static void on_role(void *ctx, enum consensus_role role)
{
    struct server *s = ctx;
    say("server %u: %s in term %llu", s->slot, consensus_role_name(role),
        (unsigned long long)consensus_raft(s->consensus)->term);
}

static void on_fatal(void *ctx, const struct error *err)
{
    struct server *s = ctx;
    s->fatal = true;
    if (virtual_disk_failed(s->disk))
        return;
    CHECK(s->corrupt && strstr(err->text, "differs from that of the majority"), "server %u: fatal without a fault: %s",
          s->slot, err->text);
    say("server %u stops: %s", s->slot, err->text);
    s->corrupt = false;
    s->paused_until_us = UINT64_MAX;    /* for good */
}

static const struct consensus_callbacks callbacks = {
    .apply = on_apply, .snapshot = on_snapshot, .read_state = on_read_state, .use_state = on_use_state,
    .free_state = on_free_state, .role_changed = on_role, .fatal = on_fatal, .state_hash = on_state_hash,
};

/* --- requests --- */

static void on_done(void *ctx, void *request, enum consensus_outcome outcome, uint64_t index)
{
    oracle_answered(request, outcome, index);
}

static struct command *new_command(struct server *s)
{
    if (world->n_commands == COMMANDS_MAX)
        return NULL;
    struct command *c = &world->commands[world->n_commands];
    *c = (struct command){.id = world->n_commands++, .server = s, .life = s->life};
    return c;
}

struct command *server_propose(struct server *s, size_t len)
{
    struct command *c = new_command(s);
    if (!c)
        return NULL;
    c->len = len;
    CLEANUP_BUF struct buf bytes = {0};
    fill(&bytes, c->id, len);
    totals.proposals++;
    consensus_propose(s->consensus, bytes.data, bytes.len, on_done, c);
    return c;
}

void server_barrier(struct server *s)
{
    struct command *c = new_command(s);
    if (!c)
        return;
    c->barrier = true;
    c->floor = world->acknowledged_max;
    consensus_barrier(s->consensus, on_done, c);
}

/* --- lives --- */

static void end_life(struct server *s)
{
    oracle_life_ends(s);
    consensus_free(s->consensus);
    s->consensus = NULL;
    s->life++;
    forget_jobs(s);
    network_down(s);
    for (size_t i = 0; i < world->n_commands; i++)
        if (world->commands[i].fate == FATE_OPEN && world->commands[i].server == s)
            world->commands[i].fate = FATE_UNKNOWN;
}

static void start_later(struct server *s)
{
    if (s->gone || world->over)
        return;
    uint64_t in = world->calm ? 10000 : some_time(one_in(4) ? 2000000 : 100000);
    schedule(in, event_of(s, EVENT_START));
}

void server_crash(struct server *s)
{
    totals.crashes++;
    say("server %u: crash", s->slot);
    if (s->consensus)
        end_life(s);
    virtual_disk_crash(s->disk);
    if (break_mode == BREAK_WIPE && one_in(3)) {
        disk_free(virtual_disk_disk(s->disk));
        s->disk = virtual_disk_new(world->seed + s->life);
        s->host.storage.disk = virtual_disk_disk(s->disk);
        s->first_start = false;
    }
    start_later(s);
}

void server_stop(struct server *s)
{
    if (!s->consensus || s->closing)
        return;
    totals.stops++;
    s->closing = true;
    consensus_close(s->consensus);
}

void server_start(struct server *s)
{
    if (s->consensus || s->gone)
        return;
    struct consensus_options options = {
        .server_id = s->id, .cluster_id = 99, .address = "?", .bootstrap = s->first_start, .listen = "?",
        .callbacks = &callbacks, .ctx = s, .election_timeout_ms = ELECTION_MS, .heartbeat_ms = HEARTBEAT_MS,
        .segment_bytes = SEGMENT_BYTES, .snapshot_after_bytes = 40 * 1024, .trailing_entries = 8,
        .reserve_bytes = RESERVE_BYTES, .command_version = 3,
    };
    char address[32];
    snprintf(address, sizeof address, "server-%llu", (unsigned long long)s->id);
    options.address = address;
    s->n_state = 0;
    s->state_hash = 0;
    s->closing = s->closed = s->fatal = false;
    s->tick_ms = 0;
    s->leads_term = s->commit_seen = 0;
    forget_jobs(s);
    /* Room for the start itself: without it a server says so and does not start. */
    if (s->full)
        virtual_disk_set_capacity(s->disk, virtual_disk_used(s->disk) + 4 * RESERVE_BYTES);
    s->full = false;
    if (world->profile.disk_faults && !world->calm && one_in(4))
        virtual_disk_fail_after(s->disk, 1 + (unsigned)pick(40));
    struct error err = {0};
    if (consensus_open(&s->consensus, &options, &s->host, &err) < 0) {
        CHECK(virtual_disk_failed(s->disk), "server %u does not start: %s", s->slot, err.text);
        s->consensus = NULL;
        s->life++;
        virtual_disk_crash(s->disk);
        start_later(s);
        return;
    }
    totals.lives++;
    oracle_life_begins(s);
    say("server %u: starts with %zu commands, log to %llu", s->slot, s->n_state,
        (unsigned long long)raft_log_last(&consensus_raft(s->consensus)->log));
}

static void run(struct server *s, const struct event *e)
{
    switch (e->type) {
    case EVENT_TICK:
        if (e->epoch != s->tick_epoch)
            break;
        consensus_tick(s->consensus);
        if (e->epoch == s->tick_epoch)
            schedule_tick(s);
        break;
    case EVENT_TURN:
        consensus_turn(s->consensus);
        break;
    case EVENT_WORK:
        work(s, e->lane);
        break;
    case EVENT_DONE:
        finish(s);
        break;
    default:
        network_event(s, e);
    }
}

void server_event(struct server *s, const struct event *e)
{
    if (e->type == EVENT_START) {
        server_start(s);
        return;
    }
    run(s, e);
    if (s->fatal || virtual_disk_failed(s->disk)) {
        server_crash(s);
    } else if (s->closed) {
        say("server %u: stopped", s->slot);
        for (size_t i = 0; i < world->n_commands; i++)
            CHECK(world->commands[i].fate != FATE_OPEN || world->commands[i].server != s,
                  "command %zu has no answer when its server has stopped", i);
        end_life(s);
        virtual_disk_crash(s->disk);
        start_later(s);
    } else {
        oracle_after_event(s);
    }
}

struct server *server_new(bool first)
{
    INVARIANT(world->n_servers < SERVERS_MAX);
    struct server *s = NEW(struct server);
    s->slot = world->n_servers;
    s->id = ++world->next_id * 11;
    s->first_start = first;
    s->disk = virtual_disk_new(hash_mix(world->seed * 64 + s->slot));
    virtual_disk_break_sync(s->disk, break_mode == BREAK_SYNC, break_mode == BREAK_NAMES);
    if (break_mode == BREAK_VOTE)
        virtual_disk_break_files(s->disk, "meta");
    s->disk_us = 300 + pick(3000);
    s->clock_offset_ms = 1000 + pick(1000000);
    s->clock_ppm = (int64_t)pick(40001) - 20000;   /* 2 % */
    if (break_mode == BREAK_CLOCK)
        s->clock_ppm = one_in(2) ? -600000 : 600000;
    s->executor.submit = submit;
    forget_jobs(s);
    s->host = (struct consensus_host){
        .storage = {.disk = virtual_disk_disk(s->disk), .executor = &s->executor, .now_ms = host_now,
                    .random = host_random},
        .wake = host_wake, .tick_every = host_tick_every, .failed = host_failed, .closed = host_closed,
    };
    network_init(s);
    s->host.message_bytes = world->profile.message_bytes;
    s->host.window_bytes = 8 * world->profile.message_bytes;
    world->servers[world->n_servers++] = s;
    schedule(0, event_of(s, EVENT_START));
    return s;
}

void server_free(struct server *s)
{
    if (s->consensus)
        consensus_free(s->consensus);
    membership_clear(&s->wanted);
    disk_free(virtual_disk_disk(s->disk));
    free(s->state);
    free(s->durable_terms);
    free(s);
}

struct server *server_by_id(uint64_t id)
{
    for (unsigned i = 0; i < world->n_servers; i++)
        if (world->servers[i]->id == id)
            return world->servers[i];
    return NULL;
}
