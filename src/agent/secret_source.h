/* Secrets: what the tasks of this node get that the servers keep sealed. Values come over the agent's own connection to the
 * servers, and stay in locked memory while their allocation is there; nothing of them is stored. After a new start of the
 * agent they are asked for again. */
#pragma once
#include <uv.h>

#include "base/error.h"
#include "model/model.h"

struct sync;
struct tls_context;

struct secret_item { char *name; uint64_t version; void *bytes; size_t len; };
/* What one allocation has. */
struct secret_set {
    struct secret_item *v;
    uint32_t n;
    char *identity;                  /* NULL: none */
    int64_t identity_expires_at;
};
void secret_set_free(struct secret_set *s);      /* overwrites the values; NULL does nothing */
/* NULL: it is not among them. */
const struct secret_item *secret_set_find(const struct secret_set *s, const char *name);

struct secret_source;
struct secret_source *secret_source_new(uv_loop_t *loop, const char *node_id);
/* tls: NULL: plain. sync: says which server to ask. Until then questions wait. */
void secret_source_use(struct secret_source *s, struct tls_context *tls, const struct sync *sync);
/* No callback comes any more. Its handles end as the loop runs on. */
void secret_source_close(struct secret_source *s);

/* Exactly one call of done, never from inside; set is its own, or NULL with err: ERROR_UNAVAILABLE when no server could be
 * asked, else what the servers said. */
typedef void secret_ask_done(void *ctx, struct secret_set *set, const struct error *err);
struct secret_ask;
struct secret_ask *secret_source_ask(struct secret_source *s, const char *alloc_id, secret_ask_done *done, void *ctx);
void secret_ask_cancel(struct secret_ask *ask);    /* done is not called any more */
