#include "agent/ingress/layout.h"

#include <string.h>

#include "base/mem.h"

#define SLOTS_PER_HUNDRED 16         /* half of them are in use: a dozen numbers for each replica */

const char *const map_files[MAP_COUNT] = {"http.map", "https.map", "acme.map", "sticky.map"};

static void backend_free(struct backend *b)
{
    free(b->name);
    free(b->service);
    free(b->header);
    free(b->slots);
    free(b);
}

void layout_clear(struct layout *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        backend_free(l->backends[i]);
    free(l->backends);
    for (int i = 0; i < MAP_COUNT; i++)
        kv_clear(&l->maps[i]);
    *l = (struct layout){0};
}

/* Where it is, or would be. */
static uint32_t place(const struct layout *l, const char *name)
{
    uint32_t from = 0, to = l->n;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (strcmp(l->backends[middle]->name, name) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

struct backend *layout_find(const struct layout *l, const char *name)
{
    uint32_t at = place(l, name);
    return at < l->n && !strcmp(l->backends[at]->name, name) ? l->backends[at] : NULL;
}

struct backend *layout_add(struct layout *l, const char *name)
{
    struct backend *b = layout_find(l, name);
    if (b)
        return b;
    uint32_t at = place(l, name);
    l->backends = mem_realloc_array(l->backends, l->n + 1, sizeof *l->backends);
    memmove(l->backends + at + 1, l->backends + at, (l->n - at) * sizeof *l->backends);
    l->n++;
    b = l->backends[at] = NEW(struct backend);
    b->name = mem_strdup(name);
    return b;
}

void layout_remove_unused(struct layout *l, bool tcp_only)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        if (l->backends[i]->unused && (l->backends[i]->tcp || !tcp_only))
            backend_free(l->backends[i]);
        else
            l->backends[kept++] = l->backends[i];
    }
    l->n = kept;
}

bool layout_has_header(const struct layout *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (l->backends[i]->header)
            return true;
    return false;
}

uint32_t backend_numbers(const struct backend *b)
{
    return 100 * (b->n_slots > SLOTS_PER_HUNDRED ? b->n_slots / SLOTS_PER_HUNDRED : 1);
}

void backend_grow(struct backend *b, uint32_t n)
{
    if (n <= b->n_slots)
        return;
    b->slots = mem_realloc_array(b->slots, n, sizeof *b->slots);
    memset(b->slots + b->n_slots, 0, (n - b->n_slots) * sizeof *b->slots);
    b->n_slots = n;
}
