#include "server/access_table.h"

#include <pthread.h>
#include <string.h>
#include <uthash.h>

#include "server/secret.h"

#define TOKEN_MOST 256

struct watcher { void (*fn)(void *ctx); void *ctx; };

struct entry {
    struct access_holder *holder;
    UT_hash_handle hh;
};

struct access_table {
    pthread_rwlock_t lock;
    struct entry *by_id;
    atomic_bool in_cluster;
    atomic_int knowledge;
    struct watcher *watchers;
    size_t watcher_count;
    bool revoked;                    /* somebody, since the watchers were told */
};

struct access_table *access_table_new(void)
{
    struct access_table *t = NEW(struct access_table);
    INVARIANT(pthread_rwlock_init(&t->lock, NULL) == 0);
    return t;
}

static void remove_entry(struct access_table *t, struct entry *e)
{
    HASH_DEL(t->by_id, e);
    atomic_store(&e->holder->revoked, true);
    t->revoked = true;
    access_holder_free(e->holder);
    free(e);
}

void access_table_free(struct access_table *t)
{
    struct entry *e, *next;
    if (!t)
        return;
    HASH_ITER(hh, t->by_id, e, next)
        remove_entry(t, e);
    pthread_rwlock_destroy(&t->lock);
    free(t->watchers);
    free(t);
}

/* --- holders --- */

struct access_holder *access_holder_hold(struct access_holder *h)
{
    atomic_fetch_add_explicit(&h->users, 1, memory_order_relaxed);
    return h;
}

void access_holder_free(struct access_holder *h)
{
    if (!h || atomic_fetch_sub_explicit(&h->users, 1, memory_order_acq_rel) > 1)
        return;
    free(h->id);
    free(h->name);
    free(h->secret_hash);
    str_list_clear(&h->roles);
    grant_clear(&h->grant);
    free(h);
}

bool access_holder_revoked(const struct access_holder *h)
{
    return h && atomic_load_explicit(&h->revoked, memory_order_relaxed);
}

int access_holder_check(const struct access_holder *h, int64_t now_ms, struct error *err)
{
    if (access_holder_revoked(h))
        return error_set(err, ERROR_UNAUTHENTICATED, "the token %s (%s) was revoked, or its roles changed meanwhile", h->id, h->name);
    if (h->expires_at && h->expires_at <= now_ms)
        return error_set(err, ERROR_UNAUTHENTICATED, "the token %s (%s) has expired", h->id, h->name);
    return 0;
}

static struct access_holder *holder_new(const struct access_token *token, const struct role_list *roles)
{
    struct access_holder *h = NEW(struct access_holder);
    atomic_init(&h->users, 1);
    h->id = mem_strdup(token->id);
    h->name = mem_strdup(token->name);
    h->secret_hash = mem_strdup(token->secret_hash);
    h->expires_at = token->expires_at;
    for (uint32_t i = 0; i < token->roles.n; i++)
        str_list_add(&h->roles, token->roles.v[i]);
    grant_add_names(&h->grant, &token->roles, roles);
    return h;
}

static bool same_list(const struct str_list *a, const struct str_list *b)
{
    bool equal = a->n == b->n;
    for (uint32_t i = 0; equal && i < a->n; i++)
        equal = !strcmp(a->v[i], b->v[i]);
    return equal;
}

static bool same(const struct access_holder *a, const struct access_holder *b)
{
    bool equal = !strcmp(a->name, b->name) && !strcmp(a->secret_hash, b->secret_hash) && a->expires_at == b->expires_at &&
                 a->grant.everywhere == b->grant.everywhere && a->grant.n == b->grant.n;
    for (uint32_t i = 0; equal && i < a->grant.n; i++) {
        const struct grant_part *p = &a->grant.parts[i], *q = &b->grant.parts[i];
        equal = p->rights == q->rights && same_list(&p->namespaces, &q->namespaces) && same_list(&p->services, &q->services);
    }
    return equal;
}

/* --- the table --- */

static struct entry *find_entry(const struct access_table *t, const char *id)
{
    struct entry *e;
    HASH_FIND_STR(t->by_id, id, e);
    return e;
}

static const struct access_token *find_token(const struct access *access, const char *id)
{
    for (uint32_t i = 0; i < access->tokens.n; i++)
        if (!strcmp(access->tokens.v[i].id, id))
            return &access->tokens.v[i];
    return NULL;
}

static void put(struct access_table *t, struct access_holder *h)
{
    struct entry *e = find_entry(t, h->id);
    if (e && same(e->holder, h)) {
        access_holder_free(h);
        return;
    }
    if (e)
        remove_entry(t, e);
    e = NEW(struct entry);
    e->holder = h;
    HASH_ADD_KEYPTR(hh, t->by_id, h->id, strlen(h->id), e);
}

void access_table_set(struct access_table *t, const struct access *access)
{
    struct entry *e, *next;
    pthread_rwlock_wrlock(&t->lock);
    HASH_ITER(hh, t->by_id, e, next)
        if (!find_token(access, e->holder->id))
            remove_entry(t, e);
    for (uint32_t i = 0; i < access->tokens.n; i++)
        put(t, holder_new(&access->tokens.v[i], &access->roles));
    pthread_rwlock_unlock(&t->lock);
    for (size_t i = 0; t->revoked && i < t->watcher_count; i++)
        t->watchers[i].fn(t->watchers[i].ctx);
    t->revoked = false;
}

void access_table_watch(struct access_table *t, void (*fn)(void *ctx), void *ctx)
{
    t->watchers = mem_realloc_array(t->watchers, t->watcher_count + 1, sizeof *t->watchers);
    t->watchers[t->watcher_count++] = (struct watcher){fn, ctx};
}

void access_table_set_in_cluster(struct access_table *t, bool in_cluster)
{
    atomic_store(&t->in_cluster, in_cluster);
}

bool access_table_in_cluster(const struct access_table *t)
{
    return atomic_load(&t->in_cluster);
}

void access_table_set_knowledge(struct access_table *t, enum access_knowledge knowledge)
{
    atomic_store(&t->knowledge, knowledge);
}

enum access_knowledge access_table_knowledge(const struct access_table *t)
{
    return (enum access_knowledge)atomic_load(&t->knowledge);
}

struct access_holder *access_table_find(struct access_table *t, const char *token, int64_t now_ms, struct error *err)
{
    static const char make[] = "`mt token create` makes one";
    const char *dot = strchr(token, '.');
    size_t len = strlen(token);
    if (!dot || dot == token || len > TOKEN_MOST) {
        error_set(err, ERROR_UNAUTHENTICATED, "this is no token; %s", make);
        return NULL;
    }
    CLEANUP_FREE char *id = mem_strndup(token, (size_t)(dot - token));
    pthread_rwlock_rdlock(&t->lock);
    struct entry *e = find_entry(t, id);
    struct access_holder *h = e ? access_holder_hold(e->holder) : NULL;
    pthread_rwlock_unlock(&t->lock);
    if (!h || !secret_fits(dot + 1, h->secret_hash)) {
        error_set(err, h ? ERROR_UNAUTHENTICATED : ERROR_NOT_FOUND, "the cluster does not know this token (it was revoked, or it is of another "
                  "cluster); %s", make);
        access_holder_free(h);
        return NULL;
    }
    if (access_holder_check(h, now_ms, err)) {
        access_holder_free(h);
        return NULL;
    }
    return h;
}
