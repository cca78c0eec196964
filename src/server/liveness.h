/* Liveness: when each node was last heard of, in the leader's memory. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct liveness_node;
struct liveness {
    struct liveness_node *nodes;     /* a uthash by id */
};

/* The node was heard of. */
void liveness_touch(struct liveness *l, const char *node_id, int64_t now_ms);
void liveness_clear(struct liveness *l);
/* How long the node has not been heard of; 0 when it is not among them. */
int64_t liveness_silence(const struct liveness *l, const char *node_id, int64_t now_ms);
/* Takes out the nodes that keep does not want (keep must not touch l). */
void liveness_keep(struct liveness *l, bool (*keep)(void *ctx, const char *node_id), void *ctx);
struct liveness_count {
    size_t all, silent;              /* silent: for silent_ms or longer */
    int64_t longest_ms;              /* the longest silence */
};
struct liveness_count liveness_count(const struct liveness *l, int64_t now_ms, int64_t silent_ms);
/* Calls fn for each node that was silent for grace_ms and takes it out (fn must not touch l). Returns when
 * the next one is due, INT64_MAX when there is none. */
int64_t liveness_expire(struct liveness *l, int64_t now_ms, int64_t grace_ms,
                        void (*fn)(void *ctx, const char *node_id), void *ctx);
