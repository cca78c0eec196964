/* Access table: the tokens as HTTP threads read them. The core thread puts in what the core keeps, each time that it
 * changed; whoever was found before keeps what it has, and sees when that is revoked. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/access.h"

struct access_table;

/* What one token proves; counted by its users. */
struct access_holder {
    atomic_uint users;
    atomic_bool revoked;
    char *id, *name, *secret_hash;
    int64_t expires_at;              /* 0: never */
    struct str_list roles;
    struct grant grant;
};

struct access_table *access_table_new(void);
void access_table_free(struct access_table *t);

/* Before threads run: fn is called on the core thread whenever somebody's token was revoked. */
void access_table_watch(struct access_table *t, void (*fn)(void *ctx), void *ctx);

/* Core thread: what the core has now. Tokens that are gone, and those whose roles changed, are revoked in the hands of
 * those who use them. */
void access_table_set(struct access_table *t, const struct access *access);
/* Core thread: whether this server is in a cluster; until then its own host may found one, or let it join. */
void access_table_set_in_cluster(struct access_table *t, bool in_cluster);
bool access_table_in_cluster(const struct access_table *t);
/* What a token that the table lacks is. A server that just started, or lost its leader, cannot say; one that follows a
 * leader is milliseconds behind it; a leader has them all. */
enum access_knowledge { ACCESS_BEHIND, ACCESS_CURRENT, ACCESS_COMPLETE };
void access_table_set_knowledge(struct access_table *t, enum access_knowledge knowledge);     /* core thread */
enum access_knowledge access_table_knowledge(const struct access_table *t);

/* Any thread. "ID.SECRET": the caller's reference, or NULL with err: UNAUTHENTICATED, or NOT_FOUND: it is not
 * known here. */
struct access_holder *access_table_find(struct access_table *t, const char *token, int64_t now_ms, struct error *err);
struct access_holder *access_holder_hold(struct access_holder *h);
void access_holder_free(struct access_holder *h);      /* one reference; NULL does nothing */
/* 0, or -1 with err: it was revoked, or its time is over. */
int access_holder_check(const struct access_holder *h, int64_t now_ms, struct error *err);
bool access_holder_revoked(const struct access_holder *h);     /* false for NULL */
