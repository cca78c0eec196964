/* Ingress: the table of the ways in from outside, and which replicas take the requests. It follows from the state alone:
 * what counts as a change of it is found at the end of each command, by comparing a service's part with what it was.
 * The proxies of the ingress nodes follow it and say how far they are, by which rollouts go on. Private to src/core. */
#pragma once
#include "core/state.h"

/* Something changed that the table may show. */
void ingress_set_changed(struct core *c, struct service_entry *s);
void ingress_forget(struct core *c, struct service_entry *s);           /* the service is going away */
void ingress_node_changed(struct core *c, struct node_entry *n);        /* it came, went, or its facts or state changed */
void ingress_tell(struct core *c);                                      /* at the end of each command */
void ingress_rebuild(struct core *c);                                   /* after a snapshot was read, which changed nothing */

/* True when each ingress node that lives has followed this table, or a newer one; also when there is none. */
bool ingress_followed(const struct core *c, uint64_t index);
