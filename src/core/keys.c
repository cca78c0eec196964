#include "core/keys.h"

#include <string.h>

#include "base/random.h"

/* Releases that know no newer commands than these forgot all but the last keys, and a day after any. While one of them may
 * be in the cluster, all do as it does. */
#define LEVEL_BY_COUNT 2
#define KEYS_BY_COUNT 10000u
#define ENTRY_BYTES 192             /* beside its texts; the same on every machine, and in every release */

static bool by_count(const struct core *c)
{
    return core_level(c) <= LEVEL_BY_COUNT;
}

/* About what it takes in memory. */
static uint64_t bytes_of(const struct key_entry *k)
{
    return ENTRY_BYTES + strlen(k->key) + (k->text ? strlen(k->text) : 0) + (k->body ? strlen(k->body) : 0);
}

struct key_entry *keys_find(const struct core *c, const char *key)
{
    struct key_entry *k;
    HASH_FIND_STR(c->keys, key, k);
    return k;
}

void keys_add(struct core *c, struct key_entry *k)
{
    HASH_ADD_KEYPTR(hh, c->keys, k->key, strlen(k->key), k);
    TAILQ_INSERT_TAIL(&c->key_order, k, link);
    c->key_bytes += bytes_of(k);
}

static void take(struct core *c, struct key_entry *k)
{
    TAILQ_REMOVE(&c->key_order, k, link);
    HASH_DEL(c->keys, k);
    c->key_bytes -= bytes_of(k);
}

void keys_remove(struct core *c, struct key_entry *k)
{
    take(c, k);
    type_free(&key_entry_type, k);
}

struct key_entry *keys_take(struct core *c)
{
    struct key_entry *k = TAILQ_FIRST(&c->key_order);
    if (k)
        take(c, k);
    return k;
}

static bool is_over(const struct core *c, const struct key_entry *k)
{
    int64_t age = c->now - k->time;
    if (by_count(c))
        return HASH_COUNT(c->keys) > KEYS_BY_COUNT || age > KEYS_KEPT_AT_MOST_MS;
    return age > KEYS_KEPT_AT_MOST_MS || (age > KEYS_KEPT_MS && c->key_bytes > KEYS_BYTES_EASY);
}

void keys_expire(struct core *c)
{
    struct key_entry *k;
    while ((k = TAILQ_FIRST(&c->key_order)) && is_over(c, k))
        keys_remove(c, k);
    /* The clock was set back: its time begins now, instead of holding up those behind it. */
    if (k && k->time > c->now && !by_count(c))
        k->time = c->now;
}

static uint64_t payload_hash(const struct command *cmd)
{
    const struct type *t = command_payload_type(cmd->kind);
    CLEANUP_BUF struct buf bytes = {0};
    buf_add_varint(&bytes, (uint64_t)cmd->kind);
    if (t)
        type_encode(t, cmd->payload, &bytes);
    return hash_bytes(bytes.data, bytes.len, 0);
}

static void say_again(const struct key_entry *k, struct core_result *result)
{
    if (k->code)
        error_set(&result->error, (enum error_code)k->code, "%s", k->text ? k->text : "");
    if (k->body)
        buf_add_string(&result->body, k->body);
}

uint64_t core_key_bytes(const struct core *c)
{
    return c->key_bytes;
}

bool core_answer_of_key(const struct core *c, const char *key, struct core_result *result)
{
    const struct key_entry *k = keys_find(c, key);
    if (k)
        say_again(k, result);
    return k != NULL;
}

bool keys_answer(const struct core *c, const struct command *cmd, struct core_result *result)
{
    const struct key_entry *k = keys_find(c, cmd->key);
    if (!k && (c->key_bytes < KEYS_BYTES_MOST || by_count(c)))
        return false;
    if (!k)
        error_set(&result->error, ERROR_TOO_MANY, "too many requests with an idempotency key came within ten minutes: %u MiB of "
                  "answers are remembered, and none may be forgotten yet; nothing was done, try again in a minute",
                  KEYS_BYTES_MOST >> 20);
    else if (k->payload_hash != payload_hash(cmd))
        error_set(&result->error, ERROR_CONFLICT, "the idempotency key %.64s was used for a different request before; "
                  "use a new key", cmd->key);
    else
        say_again(k, result);
    return true;
}

void keys_remember(struct core *c, const struct command *cmd, const struct core_result *result)
{
    struct key_entry *k = NEW(struct key_entry);
    k->key = mem_strdup(cmd->key);
    k->payload_hash = payload_hash(cmd);
    k->time = c->now;
    k->code = (int64_t)result->error.code;
    k->text = result->error.code ? mem_strdup(result->error.text) : NULL;
    k->body = result->body.len ? mem_strdup(result->body.data) : NULL;
    keys_add(c, k);
}
