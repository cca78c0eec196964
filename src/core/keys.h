/* Keys: idempotency keys of requests, each with what its request was answered. Private to src/core.
 *
 * A key is kept for ten minutes at least, by the time in the commands, and for a day while all of them take little memory.
 * When those of the last ten minutes take more than there is for them, requests with new keys are refused: none is forgotten
 * in silence. */
#pragma once
#include "core/state.h"

#define KEYS_KEPT_MS (10 * 60 * 1000LL)             /* at least */
#define KEYS_KEPT_AT_MOST_MS (24 * 3600 * 1000LL)
#define KEYS_BYTES_EASY (8u << 20)                  /* beyond which none is kept longer than it has to be */
#define KEYS_BYTES_MOST (128u << 20)

/* NULL: not seen, or forgotten. */
struct key_entry *keys_find(const struct core *c, const char *key);
void keys_add(struct core *c, struct key_entry *k);                     /* takes it over; its key is not there */
void keys_remove(struct core *c, struct key_entry *k);
/* Takes the oldest out, without freeing it; NULL: none. */
struct key_entry *keys_take(struct core *c);

/* Forgets those whose time is over. */
void keys_expire(struct core *c);
/* The answer to a keyed command that is not to be applied: the first one's again, or a refusal when the key came with
 * another request or there is no room. False: apply it, then keys_remember(). */
bool keys_answer(const struct core *c, const struct command *cmd, struct core_result *result);
void keys_remember(struct core *c, const struct command *cmd, const struct core_result *result);
