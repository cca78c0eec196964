/* Counters: what the proxy counted, summed over its processes: each begins at zero, and those that end take theirs along. */
#pragma once
#include "agent/ingress/answers.h"
#include "model/latency.h"

/* How long replicas took to answer; counts by latency_step. */
struct times { int64_t counts[LATENCY_STEPS], all, sum_ms; };
struct counter {
    char *name;                      /* "BACKEND", or "BACKEND/sN" of a slot */
    struct answer_stat values;       /* its texts are not valid */
    struct times *times;             /* of a backend; NULL: none */
};
struct counter_list { struct counter *v; uint32_t n; };          /* by name */

/* Finds it, or makes one of zeros. */
struct counter *counter_of(struct counter_list *l, const char *name);
/* One more answer. */
void counter_time(struct counter *c, int64_t response_ms);
void counters_clear(struct counter_list *l);
/* Adds to `total` what `now` has beyond what was `seen` of the same process, and remembers it. What is no sum (sessions,
 * times) is taken as it is. */
void counter_follow(struct answer_stat *total, struct answer_stat *seen, const struct answer_stat *now);
