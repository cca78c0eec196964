/* Volumes: what the nodes have said that they hold, and who has it now. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api.h"
#include "server/api_types.h"
#include "server/page.h"

struct volume_ref { char *key; const struct node *node; const struct node_volume *volume; };
struct volume_refs { struct volume_ref *v; size_t n, cap; };

/* Replicas in the order of their numbers. */
static char *key_of(const struct node *n, const struct node_volume *v)
{
    return mem_printf("%s/%010lld %s %s", v->service, (long long)v->replica, n->id, v->name);
}

static void add(struct volume_refs *refs, const struct node *n, const char *service)
{
    for (uint32_t i = 0; i < n->volumes.n; i++) {
        const struct node_volume *v = &n->volumes.v[i];
        if (service && strcmp(v->service, service))
            continue;
        if (refs->n == refs->cap) {
            refs->cap = refs->cap ? refs->cap * 2 : 64;
            refs->v = mem_realloc_array(refs->v, refs->cap, sizeof *refs->v);
        }
        refs->v[refs->n++] = (struct volume_ref){key_of(n, v), n, v};
    }
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct volume_ref *)a)->key, ((const struct volume_ref *)b)->key);
}

struct holder { const struct volume_ref *of; const char *alloc; };

static bool find_holder(void *ctx, const struct alloc *a)
{
    struct holder *h = ctx;
    if (a->replica == h->of->volume->replica && a->node_id && !strcmp(a->node_id, h->of->node->id)
        && a->state < ALLOC_COMPLETE)
        h->alloc = a->id;
    return !h->alloc;
}

static bool offer(struct control *c, struct page *p, const struct volume_ref *ref)
{
    struct holder h = {.of = ref};
    core_service_allocs(c->core, ref->volume->service, find_holder, &h);
    struct volume_view view = {                  /* borrowed */
        .service = ref->volume->service, .replica = ref->volume->replica, .node_id = ref->node->id,
        .node_name = ref->node->name, .name = ref->volume->name, .size_mb = ref->volume->size_mb,
        .used_mb = ref->volume->used_mb, .alloc = (char *)(uintptr_t)h.alloc,
        .state = ref->node->state == NODE_DOWN ? VOLUME_UNREACHABLE : h.alloc ? VOLUME_USED : VOLUME_FREE};
    return page_offer(p, ref->key, &view);
}

API_READ(api_volumes)
{
    const char *service = r->service, *name = request_query(r, "node");
    const struct node *only = name ? control_find_node(c, name, err) : NULL;
    if (name && !only)
        return -1;
    struct volume_refs refs = {0};
    const char *after = NULL;
    for (const struct node *n; (n = core_node_next(c->core, after)); after = n->id)
        if (!only || n == only)
            add(&refs, n, service);
    if (refs.n)
        qsort(refs.v, refs.n, sizeof *refs.v, compare);
    struct page p;
    page_open(&p, r, &volume_view_type);
    CLEANUP_FREE char *start = page_start(&p);
    bool go = true;
    for (size_t i = 0; i < refs.n; i++) {
        if (go && (!start || strcmp(refs.v[i].key, start) > 0))
            go = offer(c, &p, &refs.v[i]);
        free(refs.v[i].key);
    }
    page_close(&p, core_index(c->core));
    free(refs.v);
    return 0;
}
