/* Peers: where the replicas of a service are reached, for its tasks. Nothing of it is stored: tasks are not started
 * before the servers have said everything anew. */
#pragma once
#include "model/model.h"

struct peers_entry;
struct peers { struct peers_entry *entries; };

/* The servers' word: of each service of live allocations in it, what is there counts, and that nothing is. */
void peers_apply(struct peers *p, const struct agent_work *work);

/* Forgets the services that were not marked by peers_keep since the last sweep. */
void peers_keep(struct peers *p, const char *service);
void peers_sweep(struct peers *p);

/* Sets for each port of the allocation its "ip:port,ip:port" of all replicas in their order. The allocation itself is
 * always among them, in its place, at `ip`. Nothing is set when the servers did not tell of the service. */
void peers_texts(const struct peers *p, const struct service *spec, const struct alloc *alloc, const char *ip,
                 struct kv_list *texts);
void peers_clear(struct peers *p);
