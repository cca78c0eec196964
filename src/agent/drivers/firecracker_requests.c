/* The requests that configure a machine, and its kernel's command line. Pure. */
#include <string.h>

#include "agent/drivers/firecracker.h"
#include "base/mem.h"

/* No console but the one serial line; a restart and a panic end the monitor; quiet, because each byte on the serial line
 * costs the guest an exit. */
#define KERNEL_ARGS "console=ttyS0 reboot=k panic=1 pci=off quiet loglevel=1 random.trust_cpu=on 8250.nr_uarts=1 " \
                    "i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd"

#define METADATA_ADDRESS "169.254.169.254"
#define BALLOON_STATISTICS_S 30      /* between two questions to the guest, which wake it */

char *machine_kernel_args(const char *extra)
{
    return extra && *extra ? mem_printf(KERNEL_ARGS " %s", extra) : mem_strdup(KERNEL_ARGS);
}

static void add_text(struct buf *b, const char *key, const char *text)
{
    buf_printf(b, "%s\"%s\": ", b->data[b->len - 1] == '{' ? "" : ", ", key);
    json_add_string(b, text);
}

static void add_raw(struct buf *b, const char *key, const char *raw)
{
    buf_printf(b, "%s\"%s\": %s", b->data[b->len - 1] == '{' ? "" : ", ", key, raw);
}

static void add_number(struct buf *b, const char *key, int64_t v)
{
    CLEANUP_FREE char *raw = mem_printf("%lld", (long long)v);
    add_raw(b, key, raw);
}

static void begin(struct buf *b, const char *path)
{
    buf_clear(b);
    buf_printf(b, "PUT %s\n{", path);
}

static void end(struct buf *b, struct str_list *out)
{
    buf_add_char(b, '}');
    str_list_add(out, b->data);
}

/* So much in each second. */
static void add_bucket(struct buf *b, const char *key, int64_t per_second)
{
    CLEANUP_FREE char *raw = mem_printf("{\"size\": %lld, \"refill_time\": 1000}", (long long)per_second);
    if (per_second)
        add_raw(b, key, raw);
}

static void add_limiter(struct buf *b, const char *key, int64_t bytes, int64_t ops)
{
    if (!bytes && !ops)
        return;
    CLEANUP_BUF struct buf limiter = {0};
    buf_add_char(&limiter, '{');
    add_bucket(&limiter, "bandwidth", bytes);
    add_bucket(&limiter, "ops", ops);
    buf_add_char(&limiter, '}');
    add_raw(b, key, limiter.data);
}

static void drive_request(const struct machine_drive *d, const struct rate_limits *limits, struct str_list *out)
{
    CLEANUP_BUF struct buf b = {0};
    CLEANUP_FREE char *path = mem_printf("/drives/%s", d->id);
    begin(&b, path);
    add_text(&b, "drive_id", d->id);
    add_text(&b, "path_on_host", d->path);
    add_raw(&b, "is_root_device", "false");
    add_raw(&b, "is_read_only", d->read_only ? "true" : "false");
    /* The default passes over the guest's flushes: what a database wrote could be lost with the host. */
    if (!d->read_only)
        add_text(&b, "cache_type", "Writeback");
    add_limiter(&b, "rate_limiter", limits->disk_bytes_per_second, limits->disk_ops_per_second);
    end(&b, out);
}

static void network_request(const struct machine_plan *p, struct str_list *out)
{
    CLEANUP_BUF struct buf b = {0};
    begin(&b, "/network-interfaces/eth0");
    add_text(&b, "iface_id", "eth0");
    add_text(&b, "host_dev_name", p->tap);
    add_text(&b, "guest_mac", p->mac);
    add_limiter(&b, "rx_rate_limiter", p->limits.net_bytes_per_second, 0);
    add_limiter(&b, "tx_rate_limiter", p->limits.net_bytes_per_second, 0);
    end(&b, out);
}

/* Version 2: who asks must have fetched a token first, which no program does that is talked into fetching an address. */
static void metadata_requests(const struct machine_plan *p, struct str_list *out)
{
    CLEANUP_BUF struct buf b = {0};
    begin(&b, "/mmds/config");
    add_text(&b, "version", "V2");
    add_raw(&b, "network_interfaces", "[\"eth0\"]");
    add_text(&b, "ipv4_address", METADATA_ADDRESS);
    end(&b, out);
    CLEANUP_FREE char *data = mem_printf("PUT /mmds\n%s", p->metadata);
    str_list_add(out, data);
}

/* What may be set before anything else, and is not kept in a snapshot. */
static void observe_requests(const struct machine_plan *p, struct str_list *out)
{
    CLEANUP_BUF struct buf b = {0};
    if (p->log) {
        begin(&b, "/logger");
        add_text(&b, "log_path", p->log);
        add_text(&b, "level", "Warning");
        end(&b, out);
    }
    if (p->metrics) {
        begin(&b, "/metrics");
        add_text(&b, "metrics_path", p->metrics);
        end(&b, out);
    }
}

void machine_resume_requests(const struct machine_plan *p, const char *state, const char *memory, struct str_list *out)
{
    CLEANUP_BUF struct buf b = {0};
    CLEANUP_BUF struct buf backend = {0};
    observe_requests(p, out);
    buf_add_string(&backend, "{");
    add_text(&backend, "backend_type", "File");
    add_text(&backend, "backend_path", memory);
    buf_add_char(&backend, '}');
    begin(&b, "/snapshot/load");
    add_text(&b, "snapshot_path", state);
    add_raw(&b, "mem_backend", backend.data);
    add_raw(&b, "enable_diff_snapshots", "false");
    add_raw(&b, "resume_vm", "false");
    end(&b, out);
    if (p->tap && p->metadata) {
        CLEANUP_FREE char *data = mem_printf("PUT /mmds\n%s", p->metadata);
        str_list_add(out, data);
    }
    str_list_add(out, "PATCH /vm\n{\"state\": \"Resumed\"}");
}

void machine_requests(const struct machine_plan *p, struct str_list *out)
{
    CLEANUP_BUF struct buf b = {0};
    observe_requests(p, out);
    begin(&b, "/machine-config");
    add_number(&b, "vcpu_count", p->vcpus);
    add_number(&b, "mem_size_mib", p->memory_mb);
    end(&b, out);
    begin(&b, "/boot-source");
    add_text(&b, "kernel_image_path", p->kernel);
    add_text(&b, "initrd_path", p->initrd);
    add_text(&b, "boot_args", p->kernel_args);
    end(&b, out);
    for (uint32_t i = 0; i < p->n_drives; i++)
        drive_request(&p->drives[i], &p->limits, out);
    if (p->tap)
        network_request(p, out);
    if (p->tap && p->metadata)
        metadata_requests(p, out);
    begin(&b, "/entropy");
    end(&b, out);
    if (p->balloon_mb) {
        begin(&b, "/balloon");
        add_number(&b, "amount_mib", p->balloon_mb);
        add_raw(&b, "deflate_on_oom", "true");       /* a guest in need takes it back by itself */
        add_number(&b, "stats_polling_interval_s", BALLOON_STATISTICS_S);
        end(&b, out);
    }
    if (p->vsock) {
        begin(&b, "/vsock");
        add_number(&b, "guest_cid", 3);
        add_text(&b, "uds_path", p->vsock);
        end(&b, out);
    }
    begin(&b, "/actions");
    add_text(&b, "action_type", "InstanceStart");
    end(&b, out);
}
