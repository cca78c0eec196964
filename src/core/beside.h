/* Beside: rollouts in which the new replicas stand beside all the old ones until they have proven themselves: blue-green
 * (as many as the old ones; they get all requests at once) and canary (as many as their part of the requests needs).
 *
 * Filling: the new replicas are placed, get healthy, and stand in the ingress table without requests. Then the deployment's
 * traffic_percent is set, in one change of the table. A canary pauses there, until it is promoted to a larger part or to
 * all; blue-green pauses as long as its standby lasts. At last the old replicas leave. Going back is one change of the
 * table too, at any time until then. Private to src/core. */
#pragma once
#include "core/state.h"

struct pass;
struct slot;

/* The last deployment, when its version stands beside an older one; NULL: there is none such. One that failed and was not
 * taken back stays as it is. */
struct deployment_entry *beside_deployment(const struct service_entry *s);
/* The one whose traffic_percent holds: also while the replicas of a stopped service leave. */
const struct deployment_entry *beside_shares(const struct service_entry *s);
/* How many new replicas it is to have. */
int64_t beside_count(const struct service_entry *s, const struct deployment_entry *d);
/* True when a placement of this older version would not be one too many. */
bool beside_is_free(const struct service_entry *s, int64_t replica);
/* True when as many new replicas serve as the deployment is to have. */
bool beside_serves(const struct service_entry *s, const struct deployment_entry *d);

/* The parts of a pass (reconcile.h) over a service with such a deployment. */
void beside_settle(struct pass *p, const struct slot *slot);
void beside_judge(struct pass *p);
