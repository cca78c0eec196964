/* Revoked: whom a TLS context believes no more, from what the servers keep of it. */
#pragma once
#include "model/model.h"
#include "net/tls.h"

/* In place of those from before. */
void revoked_use(struct tls_context *context, const struct revocation_list *all);
