/* Reference: the scheduler as plainly as it can be said: for each request it looks at every node. */
#pragma once
#include "core/sched.h"

struct reference { struct node_list { struct node *v; uint32_t n; } nodes; struct alloc_list allocs; };

void reference_clear(struct reference *r);
void reference_node_set(struct reference *r, const struct node *n);
void reference_node_remove(struct reference *r, const char *id);
void reference_alloc_add(struct reference *r, const struct alloc *a);
void reference_alloc_remove(struct reference *r, const char *id);
struct node *reference_node(struct reference *r, const char *id);

/* The node to choose, or NULL. rejected[] (REFERENCE_REASONS long) counts nodes by first reason. */
enum { REFERENCE_STATE, REFERENCE_DRIVER, REFERENCE_CONSTRAINT, REFERENCE_PORT, REFERENCE_DISTINCT, REFERENCE_CPU,
       REFERENCE_MEMORY, REFERENCE_DISK, REFERENCE_DYNAMIC, REFERENCE_REASONS, REFERENCE_FITS };
const struct node *reference_place(struct reference *r, const struct sched_request *q, double *score,
                                   int64_t rejected[static REFERENCE_REASONS]);
