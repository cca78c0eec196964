/* The real consensus library on our own log, on a virtual disk, in virtual time, from a seed. One server so far; each is
 * a struct server with its own disk and executor, so that several and a network between them can follow.
 *
 *   consensus-sim [--seeds N] [--first S] [--seed S] [--break sync|names] [--verbose]
 *
 * Checked: an acknowledged command is there after every restart, at its index, once, whole; a refused one never is; what
 * was applied in one life is a prefix of what the next one applies; the server starts again after every crash, and takes
 * commands again once its disk has room. */
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#include "base/log.h"
#include "base/random.h"
#include "consensus/consensus_internal.h"
#include "consensus_disk.h"

#define COMMANDS_MAX 4096
#define SEGMENT_BYTES (24 * 1024)
#define RESERVE_BYTES (64 * 1024)
#define STEPS 400

enum fate { FATE_OPEN, FATE_ACKNOWLEDGED, FATE_REFUSED, FATE_UNKNOWN };

struct command {
    uint64_t id;
    struct server *server;
    enum fate fate;
    uint64_t index;      /* where it was acknowledged */
    size_t len;
};

struct applied {
    uint64_t index, id;
};

struct job_list {
    STAILQ_HEAD(, executor_job) jobs;
};

struct server {
    struct consensus_host host;
    struct executor executor;
    struct job_list lanes[EXECUTOR_LANE_COUNT], finished;
    struct virtual_disk *disk;
    struct consensus *consensus;
    struct random random;
    uint64_t now_ms, next_tick_ms;
    unsigned tick_ms;
    bool awake, closed, fatal, full;

    struct command commands[COMMANDS_MAX];
    size_t n_commands;
    struct applied state[COMMANDS_MAX];      /* of this life */
    size_t n_state;
    struct applied before[COMMANDS_MAX];     /* of the life before */
    size_t n_before;
};

struct totals {
    uint64_t seeds, lives, crashes, stops, proposals, acknowledged, refused, no_space, unknown, snapshots, restores;
};

static uint64_t current_seed;
static bool verbose;
static struct totals totals;

#define CHECK(cond, ...) ((cond) ? (void)0 : violated(#cond, __LINE__, __VA_ARGS__))

__attribute__((format(printf, 3, 4))) _Noreturn static void violated(const char *cond, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "seed %llu: violated at line %d: %s: ", (unsigned long long)current_seed, line, cond);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\nreplay: consensus-sim --seed %llu --verbose\n", (unsigned long long)current_seed);
    va_end(ap);
    exit(1);
}

static uint64_t pick(struct server *s, uint64_t limit)
{
    return random_below(&s->random, limit);
}

/* --- the host --- */

static struct server *of_host(struct consensus_host *host)
{
    return container_of(host, struct server, host);
}

static uint64_t host_now(struct storage_host *storage)
{
    return container_of(storage, struct server, host.storage)->now_ms;
}

static int host_random(struct storage_host *storage, int min, int max)
{
    struct server *s = container_of(storage, struct server, host.storage);
    return max > min ? min + (int)pick(s, (uint64_t)(max - min)) : min;
}

static void host_wake(struct consensus_host *host)
{
    of_host(host)->awake = true;
}

static void host_tick_every(struct consensus_host *host, unsigned ms)
{
    struct server *s = of_host(host);
    s->tick_ms = ms;
    s->next_tick_ms = s->now_ms + ms;
}

static void host_failed(struct consensus_host *host)
{
}

static void host_closed(struct consensus_host *host)
{
    of_host(host)->closed = true;
}

static void submit(struct executor *executor, enum executor_lane lane, struct executor_job *job)
{
    struct server *s = container_of(executor, struct server, executor);
    STAILQ_INSERT_TAIL(&s->lanes[lane].jobs, job, next);
}

static void forget_jobs(struct server *s)
{
    for (int i = 0; i < EXECUTOR_LANE_COUNT; i++)
        STAILQ_INIT(&s->lanes[i].jobs);
    STAILQ_INIT(&s->finished.jobs);
}

static bool work(struct server *s, enum executor_lane lane)
{
    struct executor_job *job = STAILQ_FIRST(&s->lanes[lane].jobs);
    if (!job)
        return false;
    STAILQ_REMOVE_HEAD(&s->lanes[lane].jobs, next);
    job->work(job);
    STAILQ_INSERT_TAIL(&s->finished.jobs, job, next);
    return true;
}

static bool finish(struct server *s)
{
    struct executor_job *job = STAILQ_FIRST(&s->finished.jobs);
    if (!job)
        return false;
    STAILQ_REMOVE_HEAD(&s->finished.jobs, next);
    job->done(job);
    return true;
}

/* --- the state machine: the list of what was applied --- */

static uint8_t payload_byte(uint64_t id, size_t i)
{
    return (uint8_t)hash_mix(id * 8191 + i / 8 + 1);
}

static void fill(struct buf *out, uint64_t id, size_t len)
{
    buf_add_u64(out, id);
    buf_add_u64(out, len);
    for (size_t i = 0; i < len; i++)
        buf_add_u8(out, payload_byte(id, i));
}

static void on_apply(void *ctx, uint64_t index, const void *bytes, size_t len, void *request)
{
    struct server *s = ctx;
    struct cursor c = cursor_of(bytes, len);
    uint64_t id, payload;
    CHECK(cursor_u64(&c, &id) && cursor_u64(&c, &payload) && cursor_left(&c) == payload, "half a command at %llu",
          (unsigned long long)index);
    CHECK(id < s->n_commands, "a command that nobody proposed: %llu", (unsigned long long)id);
    CHECK(payload == s->commands[id].len, "command %llu has another length", (unsigned long long)id);
    for (size_t i = 0; i < payload; i++)
        CHECK(c.p[i] == payload_byte(id, i), "command %llu is damaged at byte %zu", (unsigned long long)id, i);
    CHECK(s->commands[id].fate != FATE_REFUSED, "command %llu had been refused", (unsigned long long)id);
    CHECK(!request || request == &s->commands[id], "the wrong request came with command %llu", (unsigned long long)id);
    for (size_t i = 0; i < s->n_state; i++)
        CHECK(s->state[i].id != id, "command %llu is applied twice", (unsigned long long)id);
    CHECK(!s->n_state || index > s->state[s->n_state - 1].index, "index %llu goes back", (unsigned long long)index);
    s->state[s->n_state++] = (struct applied){index, id};
}

static void on_snapshot(void *ctx, struct buf *out)
{
    struct server *s = ctx;
    totals.snapshots++;
    buf_add(out, s->state, s->n_state * sizeof s->state[0]);
}

static int on_restore(void *ctx, uint64_t index, const void *bytes, size_t len, struct error *err)
{
    struct server *s = ctx;
    totals.restores++;
    CHECK(len % sizeof s->state[0] == 0 && len <= sizeof s->state, "a snapshot of %zu bytes", len);
    s->n_state = len / sizeof s->state[0];
    if (len)
        memcpy(s->state, bytes, len);
    CHECK(!s->n_state || s->state[s->n_state - 1].index <= index, "the snapshot holds more than its index");
    return 0;
}

static void on_role(void *ctx, enum consensus_role role)
{
}

static void on_fatal(void *ctx, const struct error *err)
{
    struct server *s = ctx;
    CHECK(virtual_disk_failed(s->disk), "fatal without a fault: %s", err->text);
    s->fatal = true;
}

static const struct consensus_callbacks callbacks = {on_apply, on_snapshot, on_restore, on_role, on_fatal};

static void on_done(void *ctx, void *request, enum consensus_outcome outcome, uint64_t index)
{
    struct server *s = ctx;
    struct command *c = request;
    CHECK(c->fate == FATE_OPEN, "command %llu is answered twice", (unsigned long long)c->id);
    switch (outcome) {
    case CONSENSUS_COMMITTED:
        CHECK(s->n_state && s->state[s->n_state - 1].id == c->id && s->state[s->n_state - 1].index == index,
              "command %llu is acknowledged but was not just applied", (unsigned long long)c->id);
        c->fate = FATE_ACKNOWLEDGED;
        c->index = index;
        totals.acknowledged++;
        break;
    case CONSENSUS_UNKNOWN:
        c->fate = FATE_UNKNOWN;
        totals.unknown++;
        break;
    default:
        c->fate = FATE_REFUSED;
        totals.refused++;
        totals.no_space += outcome == CONSENSUS_NO_SPACE;
    }
}

/* --- lives --- */

static void run_turn(struct server *s)
{
    for (int i = 0; s->awake && i < 10; i++) {
        s->awake = false;
        consensus_turn(s->consensus);
    }
    CHECK(!s->awake || s->fatal, "the loop never sleeps");
}

static void check_restart(struct server *s)
{
    CHECK(s->n_state >= s->n_before, "%zu of %zu commands are left", s->n_state, s->n_before);
    for (size_t i = 0; i < s->n_before; i++)
        CHECK(s->state[i].id == s->before[i].id && s->state[i].index == s->before[i].index,
              "entry %zu was command %llu, is %llu", i, (unsigned long long)s->before[i].id,
              (unsigned long long)s->state[i].id);
    for (size_t i = 0; i < s->n_commands; i++) {
        const struct command *c = &s->commands[i];
        if (c->fate != FATE_ACKNOWLEDGED)
            continue;
        size_t at = 0;
        while (at < s->n_state && s->state[at].id != c->id)
            at++;
        CHECK(at < s->n_state, "acknowledged command %llu is lost", (unsigned long long)c->id);
        CHECK(s->state[at].index == c->index, "acknowledged command %llu moved", (unsigned long long)c->id);
    }
}

/* True when it runs; false when the power failed again meanwhile. */
static bool start(struct server *s)
{
    struct consensus_options options = {
        .server_id = 1, .cluster_id = 2, .address = "1", .bootstrap = true, .callbacks = &callbacks, .ctx = s,
        .segment_bytes = SEGMENT_BYTES, .snapshot_after_bytes = 40 * 1024, .trailing_entries = 8,
        .reserve_bytes = RESERVE_BYTES,
    };
    s->n_state = 0;
    s->awake = s->closed = s->fatal = false;
    s->tick_ms = 0;
    forget_jobs(s);
    struct error err = {0};
    if (consensus_open(&s->consensus, &options, &s->host, &err) < 0) {
        CHECK(virtual_disk_failed(s->disk), "it does not start: %s", err.text);
        s->consensus = NULL;
        return false;
    }
    totals.lives++;
    run_turn(s);
    if (s->fatal)
        return false;
    CHECK(consensus_role(s->consensus) == CONSENSUS_LEADER, "it does not lead");
    check_restart(s);
    if (verbose)
        printf("  life with %zu commands\n", s->n_state);
    return true;
}

static void end_life(struct server *s)
{
    if (s->consensus) {
        memcpy(s->before, s->state, s->n_state * sizeof s->state[0]);
        s->n_before = s->n_state;
        consensus_free(s->consensus);
        s->consensus = NULL;
    }
    for (size_t i = 0; i < s->n_commands; i++)
        if (s->commands[i].fate == FATE_OPEN)
            s->commands[i].fate = FATE_UNKNOWN;
}

static void restart(struct server *s)
{
    for (int attempts = 0;; attempts++) {
        totals.crashes++;
        /* A life that fell while it began proves nothing about what had been applied before it. */
        if (s->consensus && s->n_state >= s->n_before)
            end_life(s);
        else if (s->consensus) {
            consensus_free(s->consensus);
            s->consensus = NULL;
        }
        virtual_disk_crash(s->disk);
        /* Room for the start itself: without it a server says so and does not start. */
        virtual_disk_set_capacity(s->disk, virtual_disk_used(s->disk) + 4 * RESERVE_BYTES);
        s->full = false;
        if (attempts < 3 && pick(s, 3) == 0)
            virtual_disk_fail_after(s->disk, 1 + (unsigned)pick(s, 40));
        if (start(s))
            return;
    }
}

static void advance(struct server *s, uint64_t ms)
{
    s->now_ms += ms;
    if (s->tick_ms && s->now_ms >= s->next_tick_ms) {
        s->next_tick_ms = s->now_ms + s->tick_ms;
        consensus_tick(s->consensus);
    }
}

static struct command *propose(struct server *s, size_t len)
{
    if (s->n_commands == COMMANDS_MAX)
        return NULL;
    struct command *c = &s->commands[s->n_commands];
    *c = (struct command){.id = s->n_commands++, .server = s, .len = len};
    CLEANUP_BUF struct buf bytes = {0};
    fill(&bytes, c->id, len);
    totals.proposals++;
    consensus_propose(s->consensus, bytes.data, bytes.len, on_done, c);
    return c;
}

/* Everything that can happen without a new fault happens. */
static void settle(struct server *s)
{
    for (int i = 0; i < 200 && !s->fatal; i++) {
        run_turn(s);
        bool any = false;
        for (int lane = 0; lane < EXECUTOR_LANE_COUNT; lane++)
            any |= work(s, (enum executor_lane)lane);
        while (finish(s))
            any = true;
        if (!any && !s->awake)
            return;
    }
    CHECK(s->fatal, "it never comes to rest");
}

static void stop(struct server *s)
{
    totals.stops++;
    consensus_close(s->consensus);
    for (int i = 0; i < 20 && !s->closed && !s->fatal; i++) {
        settle(s);
        advance(s, 1000);
    }
    CHECK(s->closed || s->fatal, "it does not stop");
    if (s->closed)
        for (size_t i = 0; i < s->n_commands; i++)
            CHECK(s->commands[i].fate != FATE_OPEN, "command %zu has no answer", i);
}

static void step(struct server *s)
{
    switch (pick(s, 24)) {
    case 0 ... 6:
        for (uint64_t n = 1 + pick(s, 6); n > 0; n--)
            propose(s, pick(s, 8) ? pick(s, 300) : pick(s, 6000));
        break;
    case 7 ... 11:
        work(s, EXECUTOR_LOG);
        break;
    case 12 ... 14:
        work(s, EXECUTOR_BACKGROUND);
        break;
    case 15 ... 18:
        finish(s);
        break;
    case 19:
        advance(s, 1 + pick(s, 1500));
        break;
    case 20:
        settle(s);
        break;
    case 21:
        if (pick(s, 6) == 0)
            consensus_snapshot_soon(s->consensus);
        break;
    case 22:
        if (pick(s, 8) == 0) {
            s->full = !s->full;
            virtual_disk_set_capacity(s->disk, virtual_disk_used(s->disk) +
                                      (s->full ? pick(s, 2 * RESERVE_BYTES) : 8 * RESERVE_BYTES));
        }
        break;
    case 23:
        if (pick(s, 4) == 0)
            virtual_disk_fail_after(s->disk, 1 + (unsigned)pick(s, 30));
        else if (pick(s, 8) == 0)
            s->fatal = true;   /* kill -9 without a power cut in mid-operation; the unsynced may be lost all the same */
        else if (pick(s, 8) == 0) {
            stop(s);
            s->fatal = true;
        }
        break;
    }
    if (!s->fatal)
        run_turn(s);
    if (s->fatal || virtual_disk_failed(s->disk))
        restart(s);
}

static void run_seed(uint64_t seed, bool break_sync, bool break_names)
{
    current_seed = seed;
    totals.seeds++;
    struct server *s = NEW(struct server);
    s->random.state = hash_mix(seed);
    s->now_ms = 1000;
    s->disk = virtual_disk_new(hash_mix(seed ^ 0x5eed));
    virtual_disk_break_sync(s->disk, break_sync, break_names);
    s->executor.submit = submit;
    s->host = (struct consensus_host){
        .storage = {.disk = virtual_disk_disk(s->disk), .executor = &s->executor, .now_ms = host_now,
                    .random = host_random},
        .wake = host_wake, .tick_every = host_tick_every, .failed = host_failed, .closed = host_closed,
    };
    if (pick(s, 2))
        virtual_disk_fail_after(s->disk, 1 + (unsigned)pick(s, 40));
    if (!start(s))
        restart(s);
    for (int i = 0; i < STEPS; i++)
        step(s);
    /* With room and no more faults it serves again. */
    virtual_disk_fail_after(s->disk, 0);
    virtual_disk_set_capacity(s->disk, UINT64_MAX / 2);
    settle(s);
    for (int i = 0; i < 12; i++) {
        advance(s, 1000);
        settle(s);
    }
    struct command *last = propose(s, 100);
    settle(s);
    for (size_t i = 0; i < s->n_commands; i++)
        CHECK(s->commands[i].fate != FATE_OPEN, "command %zu has no answer", i);
    CHECK(!last || last->fate == FATE_ACKNOWLEDGED, "no command is taken any more");
    restart(s);
    consensus_free(s->consensus);
    disk_free(virtual_disk_disk(s->disk));
    free(s);
}

int main(int argc, char **argv)
{
    uint64_t first = 1, seeds = 1000;
    bool break_sync = false, break_names = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--verbose"))
            verbose = true;
        else if (!strcmp(argv[i], "--seeds"))
            seeds = strtoull(value, NULL, 10), i++;
        else if (!strcmp(argv[i], "--first"))
            first = strtoull(value, NULL, 10), i++;
        else if (!strcmp(argv[i], "--seed"))
            first = strtoull(value, NULL, 10), seeds = 1, i++;
        else if (!strcmp(argv[i], "--break"))
            break_sync = !strcmp(value, "sync"), break_names = !strcmp(value, "names"), i++;
        else {
            fprintf(stderr, "usage: consensus-sim [--seeds N] [--first S] [--seed S] [--break sync|names] [--verbose]\n");
            return 2;
        }
    }
    log_init("sim", verbose ? LOG_DEBUG : LOG_FATAL);
    for (uint64_t seed = first; seed < first + seeds; seed++)
        run_seed(seed, break_sync, break_names);
    printf("seeds=%llu lives=%llu crashes=%llu stops=%llu proposals=%llu acknowledged=%llu refused=%llu no_space=%llu "
           "unknown=%llu snapshots=%llu restores=%llu\n",
           (unsigned long long)totals.seeds, (unsigned long long)totals.lives, (unsigned long long)totals.crashes,
           (unsigned long long)totals.stops, (unsigned long long)totals.proposals,
           (unsigned long long)totals.acknowledged, (unsigned long long)totals.refused,
           (unsigned long long)totals.no_space, (unsigned long long)totals.unknown,
           (unsigned long long)totals.snapshots, (unsigned long long)totals.restores);
    return 0;
}
