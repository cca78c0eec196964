/* Analysis: a new version is judged by the requests that it and the version before it got, as the ingress nodes measured them.
 *
 * From the moment that it has its part of the requests, the table asks the nodes to measure; what they report is kept for
 * each node, and added up. When the deployment has paused for window_secs, both versions had min_requests, and the canary's
 * do not fail or last more than the others by what is allowed, it has passed. It has failed as soon as they do by more than chance
 * explains; in between, more requests are waited for.
 *
 * A rollout in batches has no part of the requests of its own: its first batch is what is compared, from when all of it counts.
 * Until it has stood its window no further replica of the version before is replaced, and none leaves; then it is watched until
 * the last one is. Private to src/core. */
#pragma once
#include "core/state.h"

struct pass;
struct verdict;

/* The canary has another part of the requests now: what was measured before does not count. */
void analysis_begin(struct core *c, struct deployment_entry *d);
/* The first batch of a rollout counts: the window begins. */
void analysis_begin_rollout(struct core *c, struct deployment_entry *d);
/* It pauses: the window begins. */
void analysis_open_window(struct core *c, struct deployment_entry *d);
/* What was measured node by node is not needed any more. An outcome that there is already stays. */
void analysis_end(struct core *c, struct deployment_entry *d, enum analysis_outcome outcome);

/* The index of the table since which the service's versions are measured; 0: they need not be. */
uint64_t analysis_measured(const struct service_entry *s);
/* Part of a report; what is late, repeated or not asked for changes nothing. */
void analysis_take(struct core *c, const struct node_entry *n, const struct ingress_measure *m);

/* Of a canary that pauses: fills the verdict's state, reason or failure, when there is something to say. */
void analysis_judge(struct pass *p, struct verdict *v);

/* Of a rollout in batches: no more replicas of the version before may be replaced or leave. Also when it has failed, and was
 * not taken back. */
bool analysis_holds(struct pass *p);
/* Fills the verdict's analysis, failure or reason, when there is something to say. The slots' part of it is done. */
void analysis_judge_rollout(struct pass *p, struct verdict *v);
