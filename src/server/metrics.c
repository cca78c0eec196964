#include "server/metrics.h"

/* From 100 microseconds on, each bucket reaches about twice as far. */
static const int64_t bounds_us[HISTOGRAM_BUCKETS] = {100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000,
                                                     250000, 500000, 1000000, 5000000};

void histogram_add(struct histogram *h, int64_t ns)
{
    int i = 0;
    while (i < HISTOGRAM_BUCKETS && ns > bounds_us[i] * 1000)
        i++;
    atomic_fetch_add_explicit(&h->buckets[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_ns, ns > 0 ? (uint64_t)ns : 0, memory_order_relaxed);
}

void histogram_sum(struct histogram *into, struct histogram *from)
{
    for (int i = 0; i <= HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += atomic_load_explicit(&from->buckets[i], memory_order_relaxed);
    into->sum_ns += atomic_load_explicit(&from->sum_ns, memory_order_relaxed);
}

void metric_help(struct buf *out, const char *name, const char *kind, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

void metric_add(struct buf *out, const char *name, const char *labels, double value)
{
    buf_printf(out, labels && *labels ? "%s{%s} %.15g\n" : "%s%s %.15g\n", name, labels ? labels : "", value);
}

void metric_histogram(struct buf *out, const char *name, const char *labels, struct histogram *h)
{
    uint64_t total = 0;
    const char *comma = labels && *labels ? "," : "";
    for (int i = 0; i < HISTOGRAM_BUCKETS; i++) {
        total += h->buckets[i];
        buf_printf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, labels ? labels : "", comma,
                   (double)bounds_us[i] / 1e6, (unsigned long long)total);
    }
    total += h->buckets[HISTOGRAM_BUCKETS];
    buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, labels ? labels : "", comma, (unsigned long long)total);
    const char *open = *comma ? "{" : "", *close = *comma ? "}" : "";
    buf_printf(out, "%s_sum%s%s%s %.9g\n", name, open, labels ? labels : "", close, (double)h->sum_ns / 1e9);
    buf_printf(out, "%s_count%s%s%s %llu\n", name, open, labels ? labels : "", close, (unsigned long long)total);
}
