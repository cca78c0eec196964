#include "agent/ingress/changes.h"

#include <string.h>

static int part_of(const struct slot *s)
{
    return s->mode == SLOT_READY ? s->weight : 0;
}

static bool slot_differs(const struct slot *actual, const struct slot *wanted)
{
    if (actual->mode != wanted->mode)
        return true;
    if (wanted->mode == SLOT_OUT)
        return false;
    return actual->port != wanted->port || strcmp(actual->ip, wanted->ip) ||
           (wanted->mode == SLOT_READY && actual->weight != wanted->weight);
}

static void slot_change(const struct backend *b, uint32_t i, const struct slot *actual, const struct slot *wanted, struct buf *out)
{
    CLEANUP_FREE char *server = mem_printf("set server %s/s%u", b->name, i + 1);
    bool out_now = actual->mode == SLOT_OUT;
    if (wanted->mode == SLOT_OUT) {
        buf_printf(out, "%s state maint\n", server);
        return;
    }
    if (actual->port != wanted->port || strcmp(actual->ip, wanted->ip)) {
        if (!out_now)
            buf_printf(out, "%s state maint\n", server);
        out_now = true;
        buf_printf(out, "%s addr %s port %d\n", server, wanted->ip, wanted->port);
    }
    if (wanted->mode == SLOT_READY && actual->weight != wanted->weight)
        buf_printf(out, "%s weight %d\n", server, wanted->weight);
    if (out_now || actual->mode != wanted->mode)
        buf_printf(out, "%s state %s\n", server, wanted->mode == SLOT_READY ? "ready" : "drain");
}

/* One pass over the slots: those that take more than before, or the others. */
static void slots_change(const struct layout *actual, const struct layout *wanted, bool more, struct buf *out,
                         struct str_list *touched)
{
    for (uint32_t i = 0; i < wanted->n; i++) {
        const struct backend *to = wanted->backends[i], *from = layout_find(actual, to->name);
        bool changed = false;
        for (uint32_t k = 0; from && k < to->n_slots && k < from->n_slots; k++) {
            const struct slot *a = &from->slots[k], *w = &to->slots[k];
            if (!slot_differs(a, w) || (part_of(w) > part_of(a)) != more)
                continue;
            slot_change(to, k, a, w, out);
            changed = true;
        }
        if (changed && (!touched->n || strcmp(touched->v[touched->n - 1], to->name)))
            str_list_add(touched, to->name);
    }
}

/* A backend that the proxy does not have yet comes with a reload. */
static bool may_have(const struct layout *actual, enum map_kind map, const struct kv *entry)
{
    if (map == MAP_ACME || !strcmp(entry->value, MAP_REDIRECT))
        return true;
    CLEANUP_FREE char *name = mem_strndup(entry->key, strcspn(entry->key, "/"));
    return layout_find(actual, map == MAP_STICKY ? name : entry->value);
}

enum { MAP_SETS = 1 << 0, MAP_DELETES = 1 << 1 };

/* Both are sorted by key. */
static bool map_change(const struct layout *actual, const struct layout *wanted, enum map_kind map, unsigned what, struct buf *out)
{
    const struct kv_list *from = &actual->maps[map], *to = &wanted->maps[map];
    size_t before = out->len;
    uint32_t i = 0, k = 0;
    while (i < from->n || k < to->n) {
        int order = i == from->n ? 1 : k == to->n ? -1 : strcmp(from->v[i].key, to->v[k].key);
        if (order < 0 && what & MAP_DELETES)
            buf_printf(out, "del map %s %s\n", map_files[map], from->v[i].key);
        else if (order >= 0 && what & MAP_SETS && (order > 0 || strcmp(from->v[i].value, to->v[k].value)) && may_have(actual, map, &to->v[k]))
            buf_printf(out, "%s map %s %s %s\n", order > 0 ? "add" : "set", map_files[map], to->v[k].key, to->v[k].value);
        i += order <= 0;
        k += order >= 0;
    }
    return out->len != before;
}

bool changes_between(const struct layout *actual, const struct layout *wanted, struct buf *commands, struct str_list *touched)
{
    bool maps = false;
    slots_change(actual, wanted, true, commands, touched);
    for (int i = 0; i < MAP_COUNT; i++)
        maps |= map_change(actual, wanted, (enum map_kind)i, i == MAP_STICKY ? MAP_SETS : MAP_SETS | MAP_DELETES, commands);
    slots_change(actual, wanted, false, commands, touched);
    /* Without its number a value goes where the weights say: they have to hold before. */
    return maps | map_change(actual, wanted, MAP_STICKY, MAP_DELETES, commands);
}
