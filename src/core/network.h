/* Network of microVMs: each node's part of the cluster's range, and what its agent is told: the other nodes' parts, and the
 * replicas that its machines may reach and name, which are those of their own jobs. It follows from the state alone: what
 * counts as a change of a service's replicas is found at the end of each command, by comparing. Private to src/core. */
#pragma once
#include "core/state.h"

/* Fills `out` with a node's network as it is after it registered: `asked` is what its agent said, net what the leader's
 * configuration says (range NULL: there is none for all), e the node as it was known (NULL: it is new). A node keeps its
 * part for its life, and gets back the one that it says it had, when nobody has it now. */
void network_resolve(const struct core *c, const struct node_entry *e, const struct node_network *asked,
                     const struct cluster_network *net, struct node_network *out);
/* A node came, went, or has another address or part. */
void network_nodes_changed(struct core *c);
/* Something of a service or its replicas changed. */
void network_set_changed(struct core *c, struct service_entry *s);
void network_forget(struct core *c, struct service_entry *s);           /* the service is going away */
void network_tell(struct core *c);                                      /* at the end of each command */
void network_rebuild(struct core *c);                                   /* after a snapshot was read */
