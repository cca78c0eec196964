#include "server/rate_limit.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <uthash.h>

#include "base/error.h"
#include "base/mem.h"

#define KEYS_MOST 16384
#define KEY_SIZE 80
#define BURST_US 10000000

/* full_us: when all that was taken is there again. */
struct entry {
    char key[KEY_SIZE];
    int64_t full_us;
    UT_hash_handle hh;
};

struct rate_limits {
    pthread_mutex_t lock;
    struct entry *entries;           /* who asked last is last */
    int64_t each_us[RATE_KINDS];     /* what one costs; 0: nothing */
};

struct rate_limits *rate_limits_new(const int64_t per_second[static RATE_KINDS])
{
    struct rate_limits *l = NEW(struct rate_limits);
    INVARIANT(pthread_mutex_init(&l->lock, NULL) == 0);
    for (int i = 0; i < RATE_KINDS; i++)
        l->each_us[i] = per_second[i] ? 1000000 / per_second[i] : 0;
    return l;
}

static void remove_entry(struct rate_limits *l, struct entry *e)
{
    HASH_DEL(l->entries, e);
    free(e);
}

void rate_limits_free(struct rate_limits *l)
{
    struct entry *e, *next;
    if (!l)
        return;
    HASH_ITER(hh, l->entries, e, next)
        remove_entry(l, e);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* Found or made, and put to the end. */
static struct entry *entry_of(struct rate_limits *l, enum rate_kind kind, const char *key)
{
    struct entry *e;
    char text[KEY_SIZE];
    snprintf(text, sizeof text, "%d %s", (int)kind, key);
    HASH_FIND_STR(l->entries, text, e);
    if (e) {
        HASH_DEL(l->entries, e);
    } else {
        if (HASH_COUNT(l->entries) >= KEYS_MOST)
            remove_entry(l, l->entries);
        e = NEW(struct entry);
        memcpy(e->key, text, sizeof text);
    }
    HASH_ADD_STR(l->entries, key, e);
    return e;
}

int64_t rate_take(struct rate_limits *l, enum rate_kind kind, const char *key, int64_t now_ms)
{
    int64_t now_us = now_ms * 1000, each_us = l->each_us[kind], over_us;
    if (!each_us)
        return 0;
    pthread_mutex_lock(&l->lock);
    struct entry *e = entry_of(l, kind, key);
    if (e->full_us < now_us)
        e->full_us = now_us;
    over_us = e->full_us + each_us - now_us - BURST_US;
    if (over_us <= 0)
        e->full_us += each_us;
    pthread_mutex_unlock(&l->lock);
    return over_us > 0 ? (over_us + 999) / 1000 : 0;
}
