/* Store: what the agent must still know after kill -9 or power loss, in one LMDB environment under data_dir.
 *
 * Everything is read once when the store is opened; from then on it is only written. Writes are collected and
 * committed together by the worker pool, one transaction at a time, so that a thousand changes cost one fsync and the
 * loop never waits for the disk. While the disk refuses (full, broken), changes stay in memory and are tried again. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "base/error.h"

struct store;

enum store_table {
    STORE_META,       /* "node_id", "index", "servers", "cluster", "format" */
    STORE_ALLOCS,     /* allocation id: struct alloc_record */
    STORE_SERVICES,   /* "name/version": struct service_version */
    STORE_TABLE_COUNT
};

/* Opens or makes DIR/store.mdb and locks it against a second agent (ERROR_CONFLICT). A damaged store is ERROR_CORRUPT:
 * nothing is repaired silently. */
int store_open(const char *dir, uv_loop_t *loop, struct store **out, struct error *err);

/* Waits for a running commit, commits the rest (logging a failure), closes. Waiting callbacks are dropped. Turns the
 * loop itself, so it is called outside of the loop's callbacks; the loop must run once more for the handles to end. */
void store_close(struct store *s);

/* Calls fn for each entry of a table in order of key, as it was when the store was opened. Only before the first
 * store_put. fn returns -1 (with err set) to stop. */
int store_load(struct store *s, enum store_table table,
               int (*fn)(void *ctx, const char *key, const void *value, size_t len, struct error *err), void *ctx,
               struct error *err);

/* Queues a write; the latest one of a key counts. value is copied. */
void store_put(struct store *s, enum store_table table, const char *key, const void *value, size_t len);
void store_delete(struct store *s, enum store_table table, const char *key);

/* Calls fn from the loop once everything queued so far is on disk. Not called while the disk refuses. */
typedef void store_done(void *ctx);
struct store_wait;
struct store_wait *store_when_durable(struct store *s, store_done *fn, void *ctx);
/* Forgets a callback that was not called yet. */
void store_wait_cancel(struct store_wait *w);

/* NULL while writes succeed, else why the last one failed ("no space left on device"). `changed` is called when this
 * changes. */
const char *store_failing(const struct store *s);
void store_on_change(struct store *s, store_done *changed, void *ctx);
