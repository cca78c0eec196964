/* Consensus on a libuv loop and a real directory: a timer gives the ticks; a check handle, kept from sleeping by an idle
 * handle, gives the turn after all events of the loop's round. */
#include "consensus/consensus.h"

#include "base/random.h"
#include "base/timefmt.h"
#include "consensus/consensus_internal.h"

struct uv_host {
    struct consensus_host host;
    struct consensus *consensus;
    struct disk *disk;
    struct executor *executor;
    uv_timer_t timer;
    uv_check_t check;
    uv_idle_t idle;
    int open_handles;
    void (*done)(void *ctx);
    void *ctx;
};


static uint64_t host_now_ms(struct storage_host *storage)
{
    return (uint64_t)time_monotonic_ms();
}

static int host_random(struct storage_host *storage, int min, int max)
{
    uint64_t v;
    random_system(&v, sizeof v);
    return max > min ? min + (int)(v % (uint64_t)(max - min)) : min;
}

static void on_check(uv_check_t *check)
{
    struct uv_host *h = check->data;
    uv_check_stop(&h->check);
    uv_idle_stop(&h->idle);
    consensus_turn(h->consensus);
}

static void on_idle(uv_idle_t *idle)
{
}

static void on_timer(uv_timer_t *timer)
{
    struct uv_host *h = timer->data;
    consensus_tick(h->consensus);
}

static void host_wake(struct consensus_host *host)
{
    struct uv_host *h = container_of(host, struct uv_host, host);
    uv_check_start(&h->check, on_check);
    uv_idle_start(&h->idle, on_idle);
}

static void host_tick_every(struct consensus_host *host, unsigned ms)
{
    struct uv_host *h = container_of(host, struct uv_host, host);
    uv_timer_start(&h->timer, on_timer, ms, ms);
}

static void handle_closed(uv_handle_t *handle)
{
    struct uv_host *h = handle->data;
    if (--h->open_handles)
        return;
    void (*done)(void *ctx) = h->done;
    void *ctx = h->ctx;
    if (h->consensus)
        consensus_free(h->consensus);
    if (h->disk)
        disk_free(h->disk);
    free(h);
    if (done)
        done(ctx);
}

static void executor_closed(void *ctx)
{
    struct uv_host *h = ctx;
    uv_close((uv_handle_t *)&h->timer, handle_closed);
    uv_close((uv_handle_t *)&h->check, handle_closed);
    uv_close((uv_handle_t *)&h->idle, handle_closed);
}

static void host_failed(struct consensus_host *host)
{
    abort();
}

static void host_closed(struct consensus_host *host)
{
    struct uv_host *h = container_of(host, struct uv_host, host);
    executor_threads_close(h->executor, executor_closed, h);
}

int consensus_start(struct consensus **out, const struct consensus_options *options, struct error *err)
{
    if (options->listen)
        return error_set(err, ERROR_UNSUPPORTED, "several servers are not supported by this release");
    struct disk *disk;
    if (disk_open_directory(&disk, options->directory, err) < 0)
        return -1;
    struct uv_host *h = NEW(struct uv_host);
    h->disk = disk;
    h->executor = executor_threads_new(options->loop);
    h->host = (struct consensus_host){
        .storage = {.disk = disk, .executor = h->executor, .now_ms = host_now_ms, .random = host_random},
        .wake = host_wake,
        .tick_every = host_tick_every,
        .failed = host_failed,
        .closed = host_closed,
    };
    uv_timer_init(options->loop, &h->timer);
    uv_check_init(options->loop, &h->check);
    uv_idle_init(options->loop, &h->idle);
    h->timer.data = h->check.data = h->idle.data = h;
    h->open_handles = 3;
    if (consensus_open(&h->consensus, options, &h->host, err) == 0) {
        *out = h->consensus;
        return 0;
    }
    h->consensus = NULL;
    disk_free(steal(&h->disk));   /* and its lock, before the loop runs again: nothing works on it */
    host_closed(&h->host);
    return -1;
}

void consensus_stop(struct consensus *c, void (*done)(void *ctx), void *ctx)
{
    struct uv_host *h = container_of(consensus_host(c), struct uv_host, host);
    h->done = done;
    h->ctx = ctx;
    consensus_close(c);
}
