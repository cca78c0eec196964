/* Ingress right: which nodes may take requests from outside, and so are told of every route and get the keys of certificates.
 * Where agents prove who they are, the word of one is not enough: the operator says it, by a join token or by a command of its
 * own. It is the name's that the agent's certificate carries. Private to src/core. */
#pragma once
#include "core/state.h"

#define INGRESS_REFUSED "its agent.yaml says `ingress: true`, but nobody let it take requests from outside: mt node ingress %s"

/* Whether the node that registers under this name (e: as it is known; NULL: it is new) may do what it asks for. It keeps the
 * right for as long as it asks; who does not ask gives it up. */
bool ingress_right_claim(struct core *c, const char *name, const struct node_entry *e, bool asks);
/* What the operator says of the name. Without the right, nodes that have it are no ingress nodes from then on. */
void ingress_right_set(struct core *c, const char *name, bool has);
/* A restore gives nobody a right that was taken since: what was said stays, of nodes too that have it from before anybody said
 * anything, and nodes of the snapshot may only what is said. */
void ingress_right_before_restore(struct core *c);
void ingress_right_restored(struct core *c);
