/* Latency: a histogram of times, in steps that are alike on all nodes, so that theirs can be added: to the millisecond up to
 * 16, then eight steps for each doubling, up to LATENCY_MS_MAX. A list is in order of ms, without empty steps. */
#pragma once
#include <stdbool.h>

#include "model/model.h"

#define LATENCY_STEPS 121
#define LATENCY_MS_MAX 131072

/* The step that a time belongs to, 0 to LATENCY_STEPS - 1, and its upper end. What is longer than the last belongs to it. */
unsigned latency_step(int64_t ms);
int64_t latency_step_ms(unsigned step);
/* True when it is a list as above, of counts that can be added. */
bool latency_list_valid(const struct latency_list *l);
void latency_list_add(struct latency_list *to, const struct latency_list *more);
int64_t latency_list_count(const struct latency_list *l);
/* Those of them that took longer. */
int64_t latency_list_beyond(const struct latency_list *l, int64_t ms);
/* What so many percent of the requests did not exceed; 0 of none. */
int64_t latency_list_percentile(const struct latency_list *l, int64_t percent);
