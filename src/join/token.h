/* Join token: "ID.SECRET@host:port,host:port" or, where the cluster has an authority of its own, "ID.SECRET.HASH@…" with the
 * hash by which that is known. It lets one server, or some agents, join. Servers keep only a hash of the secret. */
#pragma once
#include "base/error.h"
#include "model/field.h"

struct join_token_text {
    char *id, *secret;
    char *ca_hash;                   /* NULL: none; TLS_HASH_LEAST digits (net/tls.h) */
    struct str_list addresses;       /* of the servers' APIs */
};
int join_token_parse(const char *text, struct join_token_text *out, struct error *err);
void join_token_clear(struct join_token_text *t);
/* The text is the caller's. */
char *join_token_format(const struct join_token_text *t);
