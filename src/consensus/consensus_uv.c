/* Consensus on a libuv loop and a real directory: a timer gives the ticks; a check handle, kept from sleeping by an idle
 * handle, gives the turn after all events of the loop's round. */
#include "consensus/consensus.h"

#include "base/random.h"
#include "base/timefmt.h"
#include "consensus/consensus_internal.h"
#include "consensus/transport.h"
#include "net/address.h"

struct uv_host {
    struct consensus_host host;
    struct consensus *consensus;
    struct disk *disk;
    struct executor *executor;
    struct transport *transport;    /* NULL: alone */
    char *address;
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

static uint64_t host_random(struct storage_host *storage, uint64_t limit)
{
    uint64_t v;
    random_system(&v, sizeof v);
    return v % limit;
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
    free(h->address);
    free(h);
    if (done)
        done(ctx);
}

static void close_handles(void *ctx)
{
    struct uv_host *h = ctx;
    uv_close((uv_handle_t *)&h->timer, handle_closed);
    uv_close((uv_handle_t *)&h->check, handle_closed);
    uv_close((uv_handle_t *)&h->idle, handle_closed);
}

static void executor_closed(void *ctx)
{
    struct uv_host *h = ctx;
    h->host.network = NULL;
    if (h->transport)
        transport_close(h->transport, close_handles, h);
    else
        close_handles(h);
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

/* --- the other servers --- */

static int net_message(void *ctx, uint64_t from, const void *bytes, size_t len, struct error *err)
{
    return consensus_message(((struct uv_host *)ctx)->consensus, from, bytes, len, err);
}

static void net_up(void *ctx, uint64_t id) { consensus_peer_up(((struct uv_host *)ctx)->consensus, id); }
static void net_down(void *ctx, uint64_t id) { consensus_peer_down(((struct uv_host *)ctx)->consensus, id); }
static void net_room(void *ctx, uint64_t id) { consensus_peer_room(((struct uv_host *)ctx)->consensus, id); }

static bool net_is_member(void *ctx, uint64_t id)
{
    return consensus_is_member(((struct uv_host *)ctx)->consensus, id);
}

static const struct transport_callbacks transport_callbacks = {net_message, net_up, net_down, net_room, net_is_member};

static int open_transport(struct uv_host *h, const struct consensus_options *options, struct error *err)
{
    struct address a;
    struct transport_options o = {
        .loop = options->loop, .listen = options->listen, .tls = options->tls, .insecure = options->insecure,
        .release = options->release, .command_version = options->command_version, .callbacks = &transport_callbacks,
        .ctx = h,
    };
    if (address_parse(options->listen, -1, &a, err) < 0 || transport_open(&h->transport, &o, err) < 0)
        return -1;
    h->host.network = transport_network(h->transport);
    if (options->address)
        return 0;
    char text[ADDRESS_TEXT_SIZE];
    a.port = transport_port(h->transport);
    address_format(text, &a);
    mem_set_string(&h->address, text);
    return 0;
}

/* --- start and stop --- */

static int open_all(struct uv_host *h, const struct consensus_options *options, struct error *err)
{
    h->address = mem_strdup(options->address);
    if (options->listen && open_transport(h, options, err) < 0)
        return -1;
    struct consensus_options o = *options;
    o.address = h->address ? h->address : "";
    if (consensus_open(&h->consensus, &o, &h->host, err) < 0) {
        h->consensus = NULL;
        return -1;
    }
    if (h->transport)
        transport_begin(h->transport, consensus_cluster_id(h->consensus), consensus_server_id(h->consensus), o.address);
    return 0;
}

int consensus_start(struct consensus **out, const struct consensus_options *options, struct error *err)
{
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
    if (open_all(h, options, err) == 0) {
        *out = h->consensus;
        return 0;
    }
    disk_free(steal(&h->disk));   /* and its lock, before the loop runs again: nothing works on it */
    host_closed(&h->host);
    return -1;
}

int consensus_port(const struct consensus *c)
{
    const struct uv_host *h = container_of(consensus_host((struct consensus *)(uintptr_t)c), struct uv_host, host);
    return h->transport ? transport_port(h->transport) : 0;
}

int consensus_inspect(const char *directory, struct consensus_directory *out, struct error *err)
{
    CLEANUP(disk_free) struct disk *disk = NULL;
    if (disk_open_directory(&disk, directory, err) < 0)
        return -1;
    return consensus_inspect_disk(disk, out, err);
}

int consensus_recover(const char *directory, const char *address, struct error *err)
{
    CLEANUP(disk_free) struct disk *disk = NULL;
    if (disk_open_directory(&disk, directory, err) < 0)
        return -1;
    return consensus_recover_disk(disk, address, err);
}

void consensus_stop(struct consensus *c, void (*done)(void *ctx), void *ctx)
{
    struct uv_host *h = container_of(consensus_host(c), struct uv_host, host);
    h->done = done;
    h->ctx = ctx;
    consensus_close(c);
}
