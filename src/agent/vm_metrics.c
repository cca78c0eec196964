#include "agent/vm_metrics.h"

#include <string.h>

#define BYTES 1
#define COUNT 1
#define US 1e-6
#define MIB 1048576

const struct vm_metric_row vm_metric_rows[VM_METRIC_COUNT] = {
    [VM_BLOCK_READ_BYTES] = {"block", "read_bytes", "block_bytes_total", "op=\"read\"",
                             "Bytes that the guest read from and wrote to its drives.", VM_SUM, BYTES},
    [VM_BLOCK_WRITE_BYTES] = {"block", "write_bytes", "block_bytes_total", "op=\"write\"", NULL, VM_SUM, BYTES},
    [VM_BLOCK_READS] = {"block", "read_count", "block_operations_total", "op=\"read\"",
                        "Reads, writes and flushes of drives.", VM_SUM, COUNT},
    [VM_BLOCK_WRITES] = {"block", "write_count", "block_operations_total", "op=\"write\"", NULL, VM_SUM, COUNT},
    [VM_BLOCK_FLUSHES] = {"block", "flush_count", "block_operations_total", "op=\"flush\"", NULL, VM_SUM, COUNT},
    [VM_BLOCK_THROTTLED] = {"block", "rate_limiter_throttled_events", "block_throttled_total", NULL,
                            "Requests to drives that had to wait for the rate limit.", VM_SUM, COUNT},
    [VM_BLOCK_FAILS] = {"block", "execute_fails", "block_failures_total", NULL, "Requests to drives that failed.", VM_SUM, COUNT},
    [VM_NET_RX_BYTES] = {"net", "rx_bytes_count", "network_bytes_total", "direction=\"in\"",
                         "Bytes that came to the guest and that it sent.", VM_SUM, BYTES},
    [VM_NET_TX_BYTES] = {"net", "tx_bytes_count", "network_bytes_total", "direction=\"out\"", NULL, VM_SUM, BYTES},
    [VM_NET_RX_PACKETS] = {"net", "rx_packets_count", "network_packets_total", "direction=\"in\"",
                           "Packets that came to the guest and that it sent.", VM_SUM, COUNT},
    [VM_NET_TX_PACKETS] = {"net", "tx_packets_count", "network_packets_total", "direction=\"out\"", NULL, VM_SUM, COUNT},
    [VM_NET_RX_FAILS] = {"net", "rx_fails", "network_drops_total", "direction=\"in\",reason=\"failed\"",
                         "Packets that were lost or refused, by reason.", VM_SUM, COUNT},
    [VM_NET_TX_FAILS] = {"net", "tx_fails", "network_drops_total", "direction=\"out\",reason=\"failed\"", NULL, VM_SUM, COUNT},
    [VM_NET_RX_NO_BUFFER] = {"net", "no_rx_avail_buffer", "network_drops_total", "direction=\"in\",reason=\"no buffer\"", NULL, VM_SUM, COUNT},
    [VM_NET_TAP_WRITE_FAILS] = {"net", "tap_write_fails", "network_drops_total", "direction=\"out\",reason=\"tap\"", NULL, VM_SUM, COUNT},
    [VM_NET_SPOOFED] = {"net", "tx_spoofed_mac_count", "network_drops_total", "direction=\"out\",reason=\"spoofed\"", NULL, VM_SUM, COUNT},
    [VM_NET_MALFORMED] = {"net", "tx_malformed_frames", "network_drops_total", "direction=\"out\",reason=\"malformed\"", NULL, VM_SUM, COUNT},
    [VM_NET_RX_THROTTLED] = {"net", "rx_rate_limiter_throttled", "network_throttled_total", "direction=\"in\"",
                             "Packets that had to wait for the rate limit.", VM_SUM, COUNT},
    [VM_NET_TX_THROTTLED] = {"net", "tx_rate_limiter_throttled", "network_throttled_total", "direction=\"out\"", NULL, VM_SUM, COUNT},
    [VM_VCPU_IO_IN] = {"vcpu", "exit_io_in", "vcpu_exits_total", "reason=\"io_in\"",
                       "Times that a processor of the guest was left for the monitor, by reason.", VM_SUM, COUNT},
    [VM_VCPU_IO_OUT] = {"vcpu", "exit_io_out", "vcpu_exits_total", "reason=\"io_out\"", NULL, VM_SUM, COUNT},
    [VM_VCPU_MMIO_READ] = {"vcpu", "exit_mmio_read", "vcpu_exits_total", "reason=\"mmio_read\"", NULL, VM_SUM, COUNT},
    [VM_VCPU_MMIO_WRITE] = {"vcpu", "exit_mmio_write", "vcpu_exits_total", "reason=\"mmio_write\"", NULL, VM_SUM, COUNT},
    [VM_VCPU_FAILURES] = {"vcpu", "failures", "vcpu_failures_total", NULL, "Errors while a processor ran.", VM_SUM, COUNT},
    [VM_BALLOON_INFLATES] = {"balloon", "inflate_count", "balloon_changes_total", "kind=\"inflate\"",
                             "Times that the balloon took memory from the guest and gave it back.", VM_SUM, COUNT},
    [VM_BALLOON_DEFLATES] = {"balloon", "deflate_count", "balloon_changes_total", "kind=\"deflate\"", NULL, VM_SUM, COUNT},
    [VM_SECCOMP_FAULTS] = {"seccomp", "num_faults", "seccomp_faults_total", NULL,
                           "System calls of the monitor that its filter refused.", VM_SUM, COUNT},
    [VM_PANICS] = {"vmm", "panic_count", "monitor_panics_total", NULL, "Panics of the monitor.", VM_SUM, COUNT},
    [VM_API_FAILS] = {"api_server", "sync_response_fails", "api_failures_total", NULL,
                      "Requests of the monitor's API that got no answer.", VM_SUM, COUNT},
    [VM_METRICS_MISSED] = {"logger", "missed_metrics_count", "metrics_missed_total", NULL,
                           "Lines of metrics that the monitor could not write.", VM_SUM, COUNT},
    [VM_STARTUP_US] = {"api_server", "process_startup_time_us", "monitor_startup_seconds", NULL,
                       "How long the monitor took to start.", VM_LEVEL, US},
    [VM_PAUSE_US] = {"latencies_us", "pause_vm", "api_seconds", "request=\"pause\"",
                     "How long the last request of its kind took; 0: there was none.", VM_LEVEL, US},
    [VM_RESUME_US] = {"latencies_us", "resume_vm", "api_seconds", "request=\"resume\"", NULL, VM_LEVEL, US},
    [VM_LOAD_SNAPSHOT_US] = {"latencies_us", "load_snapshot", "api_seconds", "request=\"load snapshot\"", NULL, VM_LEVEL, US},
    [VM_GUEST_TOTAL] = {"balloon_statistics", "total_memory", "guest_memory_bytes", "kind=\"total\"",
                        "Memory as the kernel of a guest with a balloon tells it.", VM_LEVEL_IF_TOLD, BYTES},
    [VM_GUEST_FREE] = {"balloon_statistics", "free_memory", "guest_memory_bytes", "kind=\"free\"", NULL, VM_LEVEL_IF_TOLD, BYTES},
    [VM_GUEST_AVAILABLE] = {"balloon_statistics", "available_memory", "guest_memory_bytes", "kind=\"available\"", NULL, VM_LEVEL_IF_TOLD,
                            BYTES},
    [VM_GUEST_CACHES] = {"balloon_statistics", "disk_caches", "guest_memory_bytes", "kind=\"disk caches\"", NULL, VM_LEVEL_IF_TOLD, BYTES},
    [VM_BALLOON_TARGET] = {"balloon_statistics", "target_mib", "balloon_bytes", "kind=\"target\"",
                           "What a balloon is to take from its guest, and what it has.", VM_LEVEL_IF_TOLD, MIB},
    [VM_BALLOON_ACTUAL] = {"balloon_statistics", "actual_mib", "balloon_bytes", "kind=\"actual\"", NULL, VM_LEVEL_IF_TOLD, MIB},
};

static void line_begin(struct vm_metrics_reader *r)
{
    memset(r, 0, sizeof *r);
}

static void value_take(struct vm_metrics_reader *r)
{
    if (r->depth != 2 || !r->valued)
        return;
    for (int i = 0; i < VM_METRIC_COUNT; i++)
        if (!strcmp(vm_metric_rows[i].group, r->group) && !strcmp(vm_metric_rows[i].key, r->key)) {
            r->pending[i] = r->number;
            r->seen[i] = true;
            return;
        }
}

static void word_end(struct vm_metrics_reader *r)
{
    r->word[r->word_n] = 0;
    if (!r->valued)
        memcpy(r->depth == 1 ? r->group : r->key, r->word, sizeof r->word);
}

/* A longer name than any of ours is cut, and so is none of ours. */
static void word_add(struct vm_metrics_reader *r, char c)
{
    if (r->word_n < sizeof r->word - 1)
        r->word[r->word_n++] = c;
}

static void number_add(struct vm_metrics_reader *r, unsigned digit)
{
    r->number = r->number > (UINT64_MAX - digit) / 10 ? UINT64_MAX : r->number * 10 + digit;
}

/* Between values. Only as much of JSON's grammar is asked for as tells one value from another. */
static void between(struct vm_metrics_reader *r, char c)
{
    bool good = true;
    switch (c) {
    case '{':
        good = r->depth < VM_METRICS_DEPTH && !r->closed && (r->depth == 0 || r->valued);
        r->depth++;
        r->valued = false;
        break;
    case '}':
        good = r->depth > 0;
        r->depth -= good;
        r->closed = r->depth == 0;
        r->valued = false;
        break;
    case '"':
        good = r->depth > 0;
        r->word_n = 0;
        r->state = VM_METRICS_STRING;
        break;
    case ':':
        good = r->depth > 0 && !r->valued;
        r->valued = true;
        break;
    case ',':
        good = r->depth > 0;
        r->valued = false;
        break;
    case ' ': case '\t': case '\r':
        break;
    default:
        good = r->valued && c >= '0' && c <= '9';
        r->number = good ? (uint64_t)(c - '0') : 0;
        r->state = VM_METRICS_NUMBER;
    }
    if (!good)
        r->state = VM_METRICS_BAD;
}

static void take(struct vm_metrics_reader *r, char c)
{
    switch (r->state) {
    case VM_METRICS_STRING:
        if (c == '"') {
            word_end(r);
            r->state = VM_METRICS_BETWEEN;
        } else if (c == '\\') {
            r->state = VM_METRICS_ESCAPE;
        } else {
            word_add(r, c);
        }
        break;
    case VM_METRICS_ESCAPE:
        word_add(r, c);
        r->state = VM_METRICS_STRING;
        break;
    case VM_METRICS_NUMBER:
        if (c >= '0' && c <= '9') {
            number_add(r, (unsigned)(c - '0'));
            break;
        }
        value_take(r);
        r->state = VM_METRICS_BETWEEN;
        between(r, c);
        break;
    case VM_METRICS_BETWEEN:
        between(r, c);
        break;
    case VM_METRICS_BAD:
        break;
    }
}

static bool line_end(struct vm_metrics_reader *r, struct vm_metrics *to)
{
    bool good = r->state == VM_METRICS_BETWEEN && r->closed;
    for (int i = 0; good && i < VM_METRIC_COUNT; i++) {
        if (!r->seen[i])
            continue;
        enum vm_metric_kind kind = vm_metric_rows[i].kind;
        uint64_t add = kind == VM_SUM ? to->v[i] : kind == VM_LEVEL_IF_TOLD, sum = r->pending[i] + add;
        to->v[i] = sum < add ? UINT64_MAX : sum;
    }
    to->lines += good;
    line_begin(r);
    return good;
}

unsigned vm_metrics_read(struct vm_metrics_reader *r, const void *bytes, size_t n, struct vm_metrics *to)
{
    const char *p = bytes;
    unsigned good = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n')
            good += line_end(r, to);
        else
            take(r, p[i]);
    }
    return good;
}
