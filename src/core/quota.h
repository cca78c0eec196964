/* Quota: what the services of a namespace want of the cluster, and whether more of it is allowed. Counted are the replicas
 * that the current version of each service wants, and what each takes of a node; services that run on every node by the
 * nodes that they match now; and what is to stop, until it has. Replicas that a deployment has beside them for a while are
 * not. Private to src/core. */
#pragma once
#include "core/state.h"

/* The names are qualified. Whether the namespace may want what it wants with this job in place of the one of its name, or
 * with this spec in place of that of its service. A quota below what is wanted already refuses growth alone. */
int quota_admits_job(const struct core *c, const struct job *job, struct error *err);
int quota_admits_service(const struct core *c, const struct service *spec, struct error *err);
