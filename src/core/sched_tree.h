/* Sched_tree: nodes ordered by score, best first, with the most free room of each subtree known, so that the best
 * one that fits is found without looking at those that are full.
 *
 * A treap whose copies share what they have in common: a copy costs one reference, and a change of either side copies
 * only the path that it touches. So each service can have an order of its own (its replicas change the score of the
 * nodes they are on) at the cost of its differences from the common one. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct tree;

struct tree_room { int64_t cpu_nano, memory_mb, disk_mb; };      /* what is free, or what is needed */

struct tree_item {
    int64_t score;               /* higher comes first */
    uint64_t tie;                /* among equal scores lower comes first; two items never have both equal and the slot too */
    uint32_t slot;
    struct tree_room room;
};

/* Gives back trees' memory only as a whole. */
struct tree_pool { struct tree *free; void **blocks; uint32_t n_blocks, used; };
void tree_pool_clear(struct tree_pool *pool);

void tree_insert(struct tree_pool *pool, struct tree **root, const struct tree_item *item);
/* The item must be there; room does not matter. */
void tree_remove(struct tree_pool *pool, struct tree **root, const struct tree_item *item);
struct tree *tree_share(struct tree *root);                       /* a copy; NULL is the empty tree */
void tree_release(struct tree_pool *pool, struct tree **root);

/* True when the room that is needed is free. */
bool tree_room_fits(const struct tree_room *free_room, const struct tree_room *need);

struct tree_query {
    struct tree_room need;
    bool (*accept)(void *ctx, uint32_t slot);                     /* what room does not say */
    void *ctx;
};
/* The first item in order that fits and is accepted, or NULL. */
const struct tree_item *tree_best(const struct tree *root, const struct tree_query *q);
/* Of the items with exactly this score: the first that fits from `tie` on. */
const struct tree_item *tree_best_from(const struct tree *root, const struct tree_query *q, int64_t score, uint64_t tie);
