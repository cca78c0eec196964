/* VM metrics: what a virtual machine's monitor says of itself, a line of JSON at a time ({"block": {"read_bytes": 512, …},
 * …}), of which a chosen part is kept. Names and meaning: Firecracker 1.7, src/vmm/src/logger/metrics.rs and the devices'
 * own. Its counters start again with each line; here they are added up. The statistics of a balloon are taken for a line with
 * the one group "balloon_statistics". */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The place in a machine's values; shims and agents of different releases speak of it: only ever added to at the end. */
enum vm_metric {
    VM_BLOCK_READ_BYTES, VM_BLOCK_WRITE_BYTES, VM_BLOCK_READS, VM_BLOCK_WRITES, VM_BLOCK_FLUSHES, VM_BLOCK_THROTTLED, VM_BLOCK_FAILS,
    VM_NET_RX_BYTES, VM_NET_TX_BYTES, VM_NET_RX_PACKETS, VM_NET_TX_PACKETS, VM_NET_RX_FAILS, VM_NET_TX_FAILS,
    VM_NET_RX_NO_BUFFER, VM_NET_TAP_WRITE_FAILS, VM_NET_SPOOFED, VM_NET_MALFORMED, VM_NET_RX_THROTTLED, VM_NET_TX_THROTTLED,
    VM_VCPU_IO_IN, VM_VCPU_IO_OUT, VM_VCPU_MMIO_READ, VM_VCPU_MMIO_WRITE, VM_VCPU_FAILURES,
    VM_BALLOON_INFLATES, VM_BALLOON_DEFLATES,
    VM_SECCOMP_FAULTS, VM_PANICS, VM_API_FAILS, VM_METRICS_MISSED,
    VM_STARTUP_US, VM_PAUSE_US, VM_RESUME_US, VM_LOAD_SNAPSHOT_US,
    VM_GUEST_TOTAL, VM_GUEST_FREE, VM_GUEST_AVAILABLE, VM_GUEST_CACHES, VM_BALLOON_TARGET, VM_BALLOON_ACTUAL,
    VM_METRIC_COUNT
};
struct vm_metrics {
    uint64_t lines;                  /* that were understood; 0: nothing is known yet */
    uint64_t v[VM_METRIC_COUNT];
};
enum vm_metric_kind {
    VM_SUM,
    VM_LEVEL,                        /* the last value counts */
    VM_LEVEL_IF_TOLD,                /* not each machine has it: v is one more than the level; 0: it was not told */
};
/* One of each; those of one name stand together. */
extern const struct vm_metric_row {
    const char *group, *key;         /* in the monitor's line */
    const char *name, *labels;       /* in the agent's metrics, after "mentat_vm_"; labels: NULL: none of its own */
    const char *help;                /* NULL: its name is that of the row before */
    enum vm_metric_kind kind;
    double unit;                     /* what one is worth in the unit of the name */
} vm_metric_rows[VM_METRIC_COUNT];

#define VM_METRICS_DEPTH 8
#define VM_METRICS_WORD 32
/* Reads lines piece by piece, and holds none of them: whatever comes costs no more memory than this. */
struct vm_metrics_reader {
    char group[VM_METRICS_WORD], key[VM_METRICS_WORD], word[VM_METRICS_WORD];
    unsigned depth, word_n;
    enum { VM_METRICS_BETWEEN, VM_METRICS_STRING, VM_METRICS_ESCAPE, VM_METRICS_NUMBER, VM_METRICS_BAD } state;
    bool valued, closed;             /* a colon came; the line's object is complete */
    uint64_t number;
    uint64_t pending[VM_METRIC_COUNT];
    bool seen[VM_METRIC_COUNT];
};
/* Adds the lines that end in these bytes to `to`. One that is no such object, or was cut, adds nothing. Returns how many
 * lines were understood. */
unsigned vm_metrics_read(struct vm_metrics_reader *r, const void *bytes, size_t n, struct vm_metrics *to);
