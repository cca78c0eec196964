#include "model/type_set.h"

#include "base/mem.h"

void type_set_add(struct type_set *set, const struct type *t)
{
    for (size_t i = 0; i < set->n; i++)
        if (set->v[i] == t)
            return;
    set->v = mem_realloc_array(set->v, set->n + 1, sizeof *set->v);
    set->v[set->n++] = t;
    for (const struct field *f = t->fields; f->name; f++)
        if (f->type && !(f->flags & FIELD_SECRET))
            type_set_add(set, f->type);
}

void type_set_clear(struct type_set *set)
{
    free(set->v);
    *set = (struct type_set){0};
}
