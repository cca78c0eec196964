/* Join token: "ID.SECRET@host:port,host:port": lets one server join, once. Servers keep only a hash of the secret. */
#pragma once
#include "base/error.h"
#include "model/field.h"

struct join_token_text {
    char *id, *secret;
    struct str_list addresses;       /* of the servers' APIs */
};
int join_token_parse(const char *text, struct join_token_text *out, struct error *err);
void join_token_clear(struct join_token_text *t);
/* A fresh one; addresses are added by the caller, then formatted. The text is the caller's. */
void join_token_new(struct join_token_text *out);
char *join_token_format(const struct join_token_text *t);
