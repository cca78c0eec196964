#include "core/sched_tree.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/random.h"

#define BLOCK_NODES 256
/* One core for 4 GiB: the scale on which cpu and memory are compared to know the larger need of the two. */
#define NANO_PER_MB (1000000000 / 4096)

/* The most free room in a subtree, each kind by itself. */
struct most {
    struct tree_room room;
    int64_t both;                /* the smaller of cpu and memory. Half the nodes out of memory and the others out of cpu
                                  * would otherwise look like plenty of both */
};

/* What the subtrees have stands beside the links to them: a search does not touch a subtree that has no room, and a
 * change does not touch the siblings of its path. */
struct tree {
    uint32_t refs;
    uint32_t priority;
    struct tree_item item;
    struct most left_most, right_most;
    struct tree *left, *right;   /* `left` also links the pool's free ones */
};

void tree_pool_clear(struct tree_pool *pool)
{
    for (uint32_t i = 0; i < pool->n_blocks; i++)
        free(pool->blocks[i]);
    free(pool->blocks);
    *pool = (struct tree_pool){0};
}

static struct tree *take(struct tree_pool *pool)
{
    struct tree *t = pool->free;
    if (t) {
        pool->free = t->left;
        return t;
    }
    if (pool->n_blocks == 0 || pool->used == BLOCK_NODES) {
        pool->blocks = mem_realloc_array(pool->blocks, pool->n_blocks + 1, sizeof(*pool->blocks));
        pool->blocks[pool->n_blocks++] = mem_array(BLOCK_NODES, sizeof(struct tree));
        pool->used = 0;
    }
    return (struct tree *)pool->blocks[pool->n_blocks - 1] + pool->used++;
}

struct tree *tree_share(struct tree *root)
{
    if (root)
        root->refs++;
    return root;
}

void tree_release(struct tree_pool *pool, struct tree **root)
{
    struct tree *t = *root;
    *root = NULL;
    if (!t || --t->refs)
        return;
    tree_release(pool, &t->left);
    tree_release(pool, &t->right);
    t->left = pool->free;
    pool->free = t;
}

static int64_t smaller_of_both(const struct tree_room *r)
{
    int64_t cpu_as_mb = r->cpu_nano / NANO_PER_MB;
    return cpu_as_mb < r->memory_mb ? cpu_as_mb : r->memory_mb;
}

static void raise_to(int64_t *a, int64_t b)
{
    if (*a < b)
        *a = b;
}

static void raise_most(struct most *m, const struct most *by)
{
    raise_to(&m->room.cpu_nano, by->room.cpu_nano);
    raise_to(&m->room.memory_mb, by->room.memory_mb);
    raise_to(&m->room.disk_mb, by->room.disk_mb);
    raise_to(&m->both, by->both);
}

static struct most most_of(const struct tree *t)
{
    struct most m = {{INT64_MIN, INT64_MIN, INT64_MIN}, INT64_MIN};
    if (t) {
        m = (struct most){t->item.room, smaller_of_both(&t->item.room)};
        raise_most(&m, &t->left_most);
        raise_most(&m, &t->right_most);
    }
    return m;
}

static void set_left(struct tree *t, struct tree *child)
{
    t->left = child;
    t->left_most = most_of(child);
}

static void set_right(struct tree *t, struct tree *child)
{
    t->right = child;
    t->right_most = most_of(child);
}

/* One that may be changed: itself when nobody else has it, else a copy. Takes over the caller's reference. */
static struct tree *own(struct tree_pool *pool, struct tree *t)
{
    if (t->refs == 1)
        return t;
    struct tree *copy = take(pool);
    *copy = *t;
    copy->refs = 1;
    tree_share(copy->left);
    tree_share(copy->right);
    t->refs--;
    return copy;
}

static int compare(const struct tree_item *a, const struct tree_item *b)
{
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    if (a->tie != b->tie)
        return a->tie < b->tie ? -1 : 1;
    return a->slot < b->slot ? -1 : a->slot > b->slot;
}

static void split(struct tree_pool *pool, struct tree *t, const struct tree_item *at, struct tree **left,
                  struct tree **right)
{
    struct tree *part;
    if (!t) {
        *left = *right = NULL;
        return;
    }
    t = own(pool, t);
    if (compare(&t->item, at) < 0) {
        split(pool, t->right, at, &part, right);
        set_right(t, part);
        *left = t;
    } else {
        split(pool, t->left, at, left, &part);
        set_left(t, part);
        *right = t;
    }
}

static struct tree *join(struct tree_pool *pool, struct tree *left, struct tree *right)
{
    if (!left || !right)
        return left ? left : right;
    struct tree *t;
    if (left->priority >= right->priority) {
        t = own(pool, left);
        set_right(t, join(pool, t->right, right));
    } else {
        t = own(pool, right);
        set_left(t, join(pool, left, t->left));
    }
    return t;
}

static struct tree *insert(struct tree_pool *pool, struct tree *t, struct tree *fresh)
{
    if (!t || t->priority < fresh->priority) {
        struct tree *left, *right;
        split(pool, t, &fresh->item, &left, &right);
        set_left(fresh, left);
        set_right(fresh, right);
        return fresh;
    }
    t = own(pool, t);
    if (compare(&fresh->item, &t->item) < 0)
        set_left(t, insert(pool, t->left, fresh));
    else
        set_right(t, insert(pool, t->right, fresh));
    return t;
}

void tree_insert(struct tree_pool *pool, struct tree **root, const struct tree_item *item)
{
    struct tree *fresh = take(pool);
    *fresh = (struct tree){.refs = 1, .item = *item, .priority = (uint32_t)hash_mix(item->tie ^ item->slot)};
    *root = insert(pool, *root, fresh);
}

static struct tree *remove_item(struct tree_pool *pool, struct tree *t, const struct tree_item *item)
{
    INVARIANT(t);
    t = own(pool, t);
    int c = compare(item, &t->item);
    if (c == 0) {
        struct tree *rest = join(pool, t->left, t->right);
        t->left = t->right = NULL;
        tree_release(pool, &t);
        return rest;
    }
    if (c < 0)
        set_left(t, remove_item(pool, t->left, item));
    else
        set_right(t, remove_item(pool, t->right, item));
    return t;
}

void tree_remove(struct tree_pool *pool, struct tree **root, const struct tree_item *item)
{
    *root = remove_item(pool, *root, item);
}

/* --- searching --- */

bool tree_room_fits(const struct tree_room *free_room, const struct tree_room *need)
{
    return free_room->cpu_nano >= need->cpu_nano && free_room->memory_mb >= need->memory_mb
           && (need->disk_mb <= 0 || free_room->disk_mb >= need->disk_mb);
}

static bool may_fit(const struct most *m, const struct tree_query *q)
{
    return m->both >= smaller_of_both(&q->need) && tree_room_fits(&m->room, &q->need);
}

static bool fits(const struct tree *t, const struct tree_query *q)
{
    return tree_room_fits(&t->item.room, &q->need) && q->accept(q->ctx, t->item.slot);
}

const struct tree_item *tree_best(const struct tree *t, const struct tree_query *q)
{
    while (t) {
        if (may_fit(&t->left_most, q)) {
            const struct tree_item *found = tree_best(t->left, q);
            if (found)
                return found;
        }
        if (fits(t, q))
            return &t->item;
        t = may_fit(&t->right_most, q) ? t->right : NULL;
    }
    return NULL;
}

const struct tree_item *tree_best_from(const struct tree *t, const struct tree_query *q, int64_t score, uint64_t tie)
{
    while (t) {
        if (t->item.score < score) {
            t = may_fit(&t->left_most, q) ? t->left : NULL;
            continue;
        }
        if (t->item.score == score && t->item.tie >= tie) {
            const struct tree_item *found = may_fit(&t->left_most, q) ? tree_best_from(t->left, q, score, tie) : NULL;
            if (found)
                return found;
            if (fits(t, q))
                return &t->item;
        }
        t = may_fit(&t->right_most, q) ? t->right : NULL;
    }
    return NULL;
}
