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

/* Refuses ways in that another service has. job: services of this one do not count, they are submitted with it; NULL: only
 * the service itself does not. */
int ingress_admits(const struct core *c, const struct service *spec, const char *job, struct error *err);

/* The service with TLS on this host, by its name; NULL: none. A host is of one namespace. */
const char *ingress_service_of_host(const struct core *c, const char *host);

/* True when each ingress node that lives has followed this table, or a newer one; also when there is none. */
bool ingress_followed(const struct core *c, uint64_t index);

/* The three that follow give in *until when they will be true by the passing of time alone, if they are not yet: ingress
 * nodes that are silent hold nothing up for longer. */
/* The replica takes requests wherever it should: each ingress node has followed a table with it, or had the
 * time that a replica has to become healthy. */
bool ingress_in_force(const struct core *c, const struct alloc_entry *a, int64_t now, int64_t *until);
/* It leaves, and no ingress node has a connection to it any more, or its time to finish is over. */
bool ingress_has_left(const struct core *c, const struct alloc_entry *a, int64_t now, int64_t *until);
/* It must leave before it stops: some ingress node may send requests to it. */
bool ingress_must_leave(const struct core *c, const struct alloc_entry *a);
