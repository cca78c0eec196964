/* Workload identity: signed tokens (JWT, ES256) that say which task somebody is, for systems that know the cluster's public
 * keys (GET /v1/jwks). The private keys are in the state, sealed. Core thread.
 *
 * The first token asked for makes the first key. A key is replaced after a while; the next one is published for some minutes
 * before it signs, and the last one stays published until the last token that it signed has expired. */
#pragma once
#include "server/control.h"

void workload_identity_start(struct control *c);
void workload_identity_end(struct control *c);
/* At the end of each turn. */
void workload_identity_look(struct control *c);

/* Appends a token for the task of an allocation of this version of its service. ERROR_UNAVAILABLE: there is no key yet. */
int workload_identity_sign(struct control *c, const struct alloc *a, const struct service *spec, struct buf *out,
                           int64_t *expires_at, struct error *err);
