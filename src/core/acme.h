/* ACME: the ingress nodes get certificates for themselves; their keys never leave them. What an ACME server asks to prove a
 * host may come to any of the nodes, so each one's challenges are in the ingress table, and answered by all. Private to
 * src/core. */
#pragma once
#include "core/state.h"

/* Part of a report; what is not newer than what is known changes nothing. */
void acme_take(struct core *c, struct node_entry *n, const struct acme_report *report);
/* With each report: challenges that every ingress node has by now are ready. */
void acme_follow(struct core *c);
void acme_add_challenges(const struct core *c, struct agent_ingress *out);
