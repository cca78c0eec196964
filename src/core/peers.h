/* Peers: the agents of a service's replicas are told where all the others are, for ${peers.NAME} and
 * MENTAT_PEERS_<PORT>. Private to src/core.
 *
 * Told of each other are the replicas of a service with ports that has at most PEERS_ALWAYS of them, or whose
 * arguments, environment or volumes speak of peers. A big service that does not ask would pay for every change of one
 * replica with as many words as it has replicas, to each of its agents. */
#pragma once
#include "core/state.h"

#define PEERS_ALWAYS 32u

/* A version whose texts hold ${peers.…} or MENTAT_PEERS_. */
bool spec_names_peers(const struct service *spec);
/* A replica came, left or moved, or the version changed. */
void peers_set_changed(struct core *c, struct service_entry *s);
void peers_forget(struct core *c, struct service_entry *s);             /* the service is going away */
/* At the end of each command: what changed becomes work for the agents, once for a service however much of it did. */
void peers_tell(struct core *c);
void peers_add_to_work(struct service_entry *s, struct agent_work *out);    /* once, when it is told of */
