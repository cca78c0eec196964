/* Metrics: counters and histograms, written by one thread each and read by any; Prometheus text. */
#pragma once
#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"

#define HISTOGRAM_BUCKETS 14

struct histogram {
    atomic_uint_fast64_t buckets[HISTOGRAM_BUCKETS + 1];    /* the last one: slower than all */
    atomic_uint_fast64_t sum_ns;
};
void histogram_add(struct histogram *h, int64_t ns);
/* into += from */
void histogram_sum(struct histogram *into, struct histogram *from);

struct control_metrics {
    struct histogram propose;        /* from the proposal of a client's write to its application */
    struct histogram apply;          /* of one command */
    struct histogram decide;         /* of one core_decide */
    struct histogram snapshot;       /* of writing down the whole state; by several threads */
    uint64_t applied, decisions, nodes_down, refused, backup_failures, forwarded;
};

/* Of one HTTP thread. */
#define METRICS_STATUS_CLASSES 6
struct http_metrics {
    struct histogram reads, writes;  /* without waiting reads and streams: their time says nothing */
    atomic_uint_fast64_t *requests;  /* [route_count][METRICS_STATUS_CLASSES] */
    atomic_uint_fast64_t unrouted, denied, limited, strangers, connections, active;
};

void metric_help(struct buf *out, const char *name, const char *kind, const char *help);
void metric_add(struct buf *out, const char *name, const char *labels, double value);
void metric_histogram(struct buf *out, const char *name, const char *labels, struct histogram *h);
