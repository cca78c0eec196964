/* Durable proposals per second through the seam alone, on a real directory: consensus-bench DIRECTORY [SECONDS]. One JSON
 * line for each number of proposals in flight. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "consensus/consensus.h"

#define COMMAND_BYTES 200
#define SAMPLES_MAX 4000000

struct bench {
    struct consensus *consensus;
    uint64_t end_ns;
    unsigned open;
    uint64_t *samples;
    size_t n;
    bool leader, stopped;
};

struct request {
    struct bench *bench;
    uint64_t start_ns;
};

static void propose(struct request *r);

static void on_done(void *ctx, void *request, enum consensus_outcome outcome, uint64_t index)
{
    struct request *r = request;
    struct bench *b = r->bench;
    uint64_t now = uv_hrtime();
    if (outcome != CONSENSUS_COMMITTED) {
        fprintf(stderr, "outcome %d\n", (int)outcome);
        exit(1);
    }
    if (b->n < SAMPLES_MAX)
        b->samples[b->n++] = now - r->start_ns;
    b->open--;
    if (now < b->end_ns)
        propose(r);
}

static void propose(struct request *r)
{
    char command[COMMAND_BYTES];
    memset(command, 'c', sizeof command);
    r->start_ns = uv_hrtime();
    r->bench->open++;
    consensus_propose(r->bench->consensus, command, sizeof command, on_done, r);
}

static void on_apply(void *ctx, uint64_t index, const void *bytes, size_t len, void *request)
{
}

static void on_snapshot(void *ctx, struct buf *out)
{
    buf_add_string(out, "state");
}

static void *on_read_state(void *ctx, const void *bytes, size_t len, struct error *err)
{
    return mem_strdup("state");
}

static void *on_use_state(void *ctx, uint64_t index, void *state)
{
    return state;
}

static void on_free_state(void *ctx, void *state)
{
    free(state);
}

static void on_role(void *ctx, enum consensus_role role)
{
    ((struct bench *)ctx)->leader = role == CONSENSUS_LEADER;
}

static void on_fatal(void *ctx, const struct error *err)
{
    fprintf(stderr, "%s\n", err->text);
}

static void on_stopped(void *ctx)
{
    ((struct bench *)ctx)->stopped = true;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void measure(struct bench *b, uv_loop_t *loop, unsigned in_flight, double seconds)
{
    CLEANUP_FREE struct request *requests = mem_array(in_flight, sizeof requests[0]);
    struct consensus_stats before, after;
    consensus_stats(b->consensus, &before);
    uint64_t start = uv_hrtime();
    b->n = 0;
    b->end_ns = start + (uint64_t)(seconds * 1e9);
    for (unsigned i = 0; i < in_flight; i++) {
        requests[i].bench = b;
        propose(&requests[i]);
    }
    while (b->open)
        uv_run(loop, UV_RUN_ONCE);
    double took = (double)(uv_hrtime() - start) / 1e9;
    consensus_stats(b->consensus, &after);
    qsort(b->samples, b->n, sizeof b->samples[0], by_value);
    printf("{\"name\":\"consensus_proposals_per_second\",\"value\":%.0f,\"unit\":\"1/s\",\"inflight\":%u,\"bytes\":%d,"
           "\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f,\"syncs_per_second\":%.0f}\n",
           (double)b->n / took, in_flight, COMMAND_BYTES, (double)b->samples[b->n / 2] / 1e6,
           (double)b->samples[b->n * 99 / 100] / 1e6, (double)b->samples[b->n - 1] / 1e6,
           (double)(after.syncs - before.syncs) / took);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: consensus-bench DIRECTORY [SECONDS]\n");
        return 2;
    }
    log_init("bench", LOG_WARN);
    static const struct consensus_callbacks callbacks = {
        .apply = on_apply, .snapshot = on_snapshot, .read_state = on_read_state, .use_state = on_use_state,
        .free_state = on_free_state, .role_changed = on_role, .fatal = on_fatal,
    };
    uv_loop_t loop;
    uv_loop_init(&loop);
    struct bench b = {.samples = mem_array(SAMPLES_MAX, sizeof b.samples[0])};
    struct consensus_options options = {.loop = &loop, .directory = argv[1], .address = "127.0.0.1:1", .bootstrap = true,
                                        .callbacks = &callbacks, .ctx = &b};
    struct error err = {0};
    if (consensus_start(&b.consensus, &options, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    while (!b.leader)
        uv_run(&loop, UV_RUN_ONCE);
    const unsigned in_flight[] = {1, 16, 256};
    for (size_t i = 0; i < ARRAY_LEN(in_flight); i++)
        measure(&b, &loop, in_flight[i], argc > 2 ? strtod(argv[2], NULL) : 5);
    consensus_stop(b.consensus, on_stopped, &b);
    while (!b.stopped)
        uv_run(&loop, UV_RUN_ONCE);
    uv_loop_close(&loop);
    free(b.samples);
    return 0;
}
