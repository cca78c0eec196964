#include "server/liveness.h"

#include <string.h>
#include <uthash.h>

#include "base/mem.h"

struct liveness_node {
    char *id;
    int64_t seen_ms;
    UT_hash_handle hh;
};

static struct liveness_node *find(const struct liveness *l, const char *id)
{
    struct liveness_node *n;
    HASH_FIND_STR(l->nodes, id, n);
    return n;
}

static void drop(struct liveness *l, struct liveness_node *n)
{
    HASH_DEL(l->nodes, n);
    free(n->id);
    free(n);
}

void liveness_touch(struct liveness *l, const char *node_id, int64_t now_ms)
{
    struct liveness_node *n = find(l, node_id);
    if (!n) {
        n = NEW(struct liveness_node);
        n->id = mem_strdup(node_id);
        HASH_ADD_KEYPTR(hh, l->nodes, n->id, strlen(n->id), n);
    }
    n->seen_ms = now_ms;
}

void liveness_clear(struct liveness *l)
{
    struct liveness_node *n, *next;
    HASH_ITER(hh, l->nodes, n, next)
        drop(l, n);
}

int64_t liveness_silence(const struct liveness *l, const char *node_id, int64_t now_ms)
{
    const struct liveness_node *n = find(l, node_id);
    return n ? now_ms - n->seen_ms : 0;
}

void liveness_keep(struct liveness *l, bool (*keep)(void *ctx, const char *node_id), void *ctx)
{
    struct liveness_node *n, *next;
    HASH_ITER(hh, l->nodes, n, next)
        if (!keep(ctx, n->id))
            drop(l, n);
}

struct liveness_count liveness_count(const struct liveness *l, int64_t now_ms, int64_t silent_ms)
{
    struct liveness_count out = {0};
    struct liveness_node *n, *next;
    HASH_ITER(hh, l->nodes, n, next) {
        int64_t silence = now_ms - n->seen_ms;
        out.all++;
        out.silent += silence >= silent_ms;
        out.longest_ms = silence > out.longest_ms ? silence : out.longest_ms;
    }
    return out;
}

int64_t liveness_expire(struct liveness *l, int64_t now_ms, int64_t grace_ms,
                        void (*fn)(void *ctx, const char *node_id), void *ctx)
{
    int64_t due = INT64_MAX;
    struct liveness_node *n, *next;
    HASH_ITER(hh, l->nodes, n, next) {
        if (n->seen_ms + grace_ms <= now_ms) {
            fn(ctx, n->id);
            drop(l, n);
        } else if (n->seen_ms + grace_ms < due) {
            due = n->seen_ms + grace_ms;
        }
    }
    return due;
}
