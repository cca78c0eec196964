#include "agent/server_list.h"

#include <string.h>

#include "base/mem.h"
#include "base/random.h"
#include "base/text.h"

/* Highest random weight: each node has its own order, and losing a server moves only those who used it. */
static uint64_t weight(const struct server_list *l, const char *target)
{
    return hash_string(target, hash_string(l->node_id, 0));
}

static void add_targets(const struct server_list *l, const struct str_list *addresses, struct str_list *out)
{
    for (uint32_t i = 0; i < addresses->n; i++) {
        const char *text = addresses->v[i];
        bool whole = strstr(text, "://") || text_has_prefix(text, "unix:");
        CLEANUP_FREE char *target = mem_printf("%s%s", whole ? "" : l->tls ? "https://" : "http://", text);
        if (str_list_has(out, target))
            continue;
        str_list_add(out, target);
        for (uint32_t k = out->n - 1; k > 0 && weight(l, out->v[k - 1]) < weight(l, out->v[k]); k--) {
            char *swap = out->v[k];
            out->v[k] = out->v[k - 1];
            out->v[k - 1] = swap;
        }
    }
}

static void join(struct server_list *l)
{
    str_list_clear(&l->all);
    for (uint32_t i = 0; i < l->learned.n; i++)
        str_list_add(&l->all, l->learned.v[i]);
    for (uint32_t i = 0; i < l->configured.n; i++)
        if (!str_list_has(&l->learned, l->configured.v[i]))
            str_list_add(&l->all, l->configured.v[i]);
}

void server_list_init(struct server_list *l, const char *node_id, const struct str_list *addresses, bool tls)
{
    *l = (struct server_list){.node_id = mem_strdup(node_id), .tls = tls};
    add_targets(l, addresses, &l->configured);
    join(l);
}

void server_list_clear(struct server_list *l)
{
    str_list_clear(&l->configured);
    str_list_clear(&l->learned);
    str_list_clear(&l->all);
    free(l->node_id);
    *l = (struct server_list){0};
}

static bool same(const struct str_list *a, const struct str_list *b)
{
    for (uint32_t i = 0; i < a->n && a->n == b->n; i++)
        if (strcmp(a->v[i], b->v[i]))
            return false;
    return a->n == b->n;
}

bool server_list_learn(struct server_list *l, const struct str_list *addresses)
{
    struct str_list fresh = {0};
    add_targets(l, addresses, &fresh);
    if (!fresh.n || same(&fresh, &l->learned)) {
        str_list_clear(&fresh);
        return false;
    }
    str_list_clear(&l->learned);
    l->learned = fresh;
    join(l);
    return true;
}

int server_list_find(const struct server_list *l, const char *target)
{
    for (uint32_t i = 0; i < l->all.n; i++)
        if (!strcmp(l->all.v[i], target))
            return (int)i;
    return -1;
}
