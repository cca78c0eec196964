/* Difference of two objects of one type, field by field, as `mt plan` shows it. */
#include <string.h>

#include "model/json.h"
#include "model/scalar.h"

struct walk {
    struct change_list *out;
    bool restart;               /* a change here replaces running replicas */
};

static char *field_text(const struct field *f, const void *value)
{
    CLEANUP_BUF struct buf text = {0};
    if (field_is_scalar(f))
        scalar_format(f, value, &text);
    else
        field_to_json(f, value, JSON_SPARSE, &text);
    return buf_steal(&text);
}

/* Takes over path, before and after. */
static void add(struct walk *w, char *path, char *before, char *after)
{
    w->out->v = mem_realloc_array(w->out->v, w->out->n + 1, sizeof *w->out->v);
    w->out->v[w->out->n++] = (struct change){.path = path, .before = before, .after = after, .restart = w->restart};
}

static void diff_object(struct walk *w, const struct type *t, const void *before, const void *after, const char *path);

static void diff_map(struct walk *w, const struct kv_list *a, const struct kv_list *b, const char *path)
{
    /* Both are sorted: walk their union. */
    for (uint32_t i = 0, k = 0; i < a->n || k < b->n;) {
        int order = i == a->n ? 1 : k == b->n ? -1 : strcmp(a->v[i].key, b->v[k].key);
        const char *key = order <= 0 ? a->v[i].key : b->v[k].key;
        const char *before = order <= 0 ? a->v[i].value : NULL;
        const char *after = order >= 0 ? b->v[k].value : NULL;
        if (!before || !after || strcmp(before, after))
            add(w, mem_printf("%s.%s", path, key), mem_strdup(before), mem_strdup(after));
        i += order <= 0;
        k += order >= 0;
    }
}

static const char *item_name(const struct field *name, const void *item)
{
    return name ? *(char *const *)field_value(name, item) : NULL;
}

static const void *item_at(const struct type *t, const struct list *l, size_t i)
{
    return (const char *)l->v + i * t->size;
}

/* The item of l that has this name; without names, the one at the same place. */
static const void *counterpart(const struct type *t, const struct field *name, const struct list *l, const void *item,
                               size_t i)
{
    const char *wanted = item_name(name, item);
    if (!wanted)
        return i < l->n ? item_at(t, l, i) : NULL;
    for (size_t k = 0; k < l->n; k++) {
        const char *other = item_name(name, item_at(t, l, k));
        if (other && !strcmp(other, wanted))
            return item_at(t, l, k);
    }
    return NULL;
}

static char *item_text(const struct type *t, const void *item)
{
    struct field whole = {.kind = FIELD_OBJECT, .type = t};
    return field_text(&whole, item);
}

static void diff_list(struct walk *w, const struct type *t, const struct list *a, const struct list *b, const char *path)
{
    const struct field *name = type_field(t, "name");
    if (name && name->kind != FIELD_STRING)
        name = NULL;
    for (size_t i = 0; i < a->n + b->n; i++) {
        bool from_before = i < a->n;
        size_t at = from_before ? i : i - a->n;
        const void *item = item_at(t, from_before ? a : b, at);
        const void *other = counterpart(t, name, from_before ? b : a, item, at);
        const char *label = item_name(name, item);
        CLEANUP_FREE char *item_path = label ? mem_printf("%s[%s]", path, label) : mem_printf("%s[%zu]", path, at);
        if (from_before && other)
            diff_object(w, t, item, other, item_path);
        else if (!other)
            add(w, mem_strdup(item_path), from_before ? item_text(t, item) : NULL, from_before ? NULL : item_text(t, item));
    }
}

static void diff_field(struct walk *w, const struct field *f, const void *before, const void *after, const char *path)
{
    switch (f->kind) {
    case FIELD_OBJECT: diff_object(w, f->type, before, after, path); break;
    case FIELD_LIST: diff_list(w, f->type, before, after, path); break;
    case FIELD_MAP: diff_map(w, before, after, path); break;
    default:
        if (!field_equal(f, before, after))
            add(w, mem_strdup(path), field_is_zero(f, before) && f->kind == FIELD_STRING ? NULL : field_text(f, before),
                field_is_zero(f, after) && f->kind == FIELD_STRING ? NULL : field_text(f, after));
    }
}

static bool stays_in_place(const struct field *f, const void *before, const void *after)
{
    return f->flags & FIELD_NO_RESTART || (f->flags & FIELD_ADJUSTABLE && !field_is_zero(f, before) && !field_is_zero(f, after));
}

static void diff_object(struct walk *w, const struct type *t, const void *before, const void *after, const char *path)
{
    bool restart = w->restart;
    for (const struct field *f = t->fields; f->name; f++) {
        if (f->flags & (FIELD_INTERNAL | FIELD_SECRET) || field_equal(f, field_value(f, before), field_value(f, after)))
            continue;
        CLEANUP_FREE char *field_path = *path ? mem_printf("%s.%s", path, f->name) : mem_strdup(f->name);
        w->restart = restart && !stays_in_place(f, field_value(f, before), field_value(f, after));
        diff_field(w, f, field_value(f, before), field_value(f, after), field_path);
    }
    w->restart = restart;
}

void type_diff(const struct type *t, const void *before, const void *after, struct change_list *out)
{
    struct walk w = {.out = out, .restart = true};
    diff_object(&w, t, before, after, "");
}

void change_list_clear(struct change_list *l)
{
    for (uint32_t i = 0; i < l->n; i++) {
        free(l->v[i].path);
        free(l->v[i].before);
        free(l->v[i].after);
    }
    free(l->v);
    *l = (struct change_list){0};
}
