/* Object: making, freeing, copying and comparing any object by its table. */
#include <string.h>

#include "model/field.h"
#include "model/scalar.h"

static void set_default(const struct field *f, void *slot)
{
    if (f->kind == FIELD_OBJECT) {
        type_init(f->type, slot);
    } else if (f->default_text && field_is_scalar(f)) {
        struct error err;
        INVARIANT(!scalar_parse(f, f->default_text, slot, &err));
    }
}

void type_init(const struct type *t, void *object)
{
    memset(object, 0, t->size);
    for (const struct field *f = t->fields; f->name; f++)
        set_default(f, field_slot(f, object));
}

static void clear_field(const struct field *f, void *slot)
{
    switch (f->kind) {
    case FIELD_STRING: free(*(char **)slot); break;
    case FIELD_OBJECT: type_clear(f->type, slot); break;
    case FIELD_LIST: list_clear(slot, f->type); break;
    case FIELD_STR_LIST: str_list_clear(slot); break;
    case FIELD_MAP: kv_clear(slot); break;
    default: break;
    }
}

void type_clear(const struct type *t, void *object)
{
    for (const struct field *f = t->fields; f->name; f++)
        clear_field(f, field_slot(f, object));
    memset(object, 0, t->size);
}

static void copy_list(const struct type *t, struct list *to, const struct list *from)
{
    *to = (struct list){0};
    if (!from->n)
        return;
    to->v = mem_array(from->n, t->size);
    to->n = from->n;
    for (uint32_t i = 0; i < from->n; i++)
        type_copy(t, (char *)to->v + (size_t)i * t->size, (const char *)from->v + (size_t)i * t->size);
}

static void copy_str_list(struct str_list *to, const struct str_list *from)
{
    *to = (struct str_list){0};
    if (!from->n)
        return;
    to->v = mem_array(from->n, sizeof *to->v);
    for (; to->n < from->n; to->n++)
        to->v[to->n] = mem_strdup(from->v[to->n]);
}

static void copy_map(struct kv_list *to, const struct kv_list *from)
{
    *to = (struct kv_list){0};
    if (!from->n)
        return;
    to->v = mem_array(from->n, sizeof *to->v);
    for (; to->n < from->n; to->n++)
        to->v[to->n] = (struct kv){.key = mem_strdup(from->v[to->n].key), .value = mem_strdup(from->v[to->n].value)};
}

void type_copy(const struct type *t, void *to, const void *from)
{
    memcpy(to, from, t->size);
    for (const struct field *f = t->fields; f->name; f++) {
        void *slot = field_slot(f, to);
        const void *value = field_value(f, from);
        switch (f->kind) {
        case FIELD_STRING: *(char **)slot = mem_strdup(*(char *const *)value); break;
        case FIELD_OBJECT: type_copy(f->type, slot, value); break;
        case FIELD_LIST: copy_list(f->type, slot, value); break;
        case FIELD_STR_LIST: copy_str_list(slot, value); break;
        case FIELD_MAP: copy_map(slot, value); break;
        default: break;
        }
    }
}

bool field_equal(const struct field *f, const void *a, const void *b)
{
    switch (f->kind) {
    case FIELD_OBJECT: return type_equal(f->type, a, b);
    case FIELD_LIST: {
        const struct list *x = a, *y = b;
        if (x->n != y->n)
            return false;
        for (size_t i = 0; i < x->n; i++)
            if (!type_equal(f->type, (const char *)x->v + i * f->type->size, (const char *)y->v + i * f->type->size))
                return false;
        return true;
    }
    case FIELD_STR_LIST: {
        const struct str_list *x = a, *y = b;
        if (x->n != y->n)
            return false;
        for (uint32_t i = 0; i < x->n; i++)
            if (strcmp(x->v[i], y->v[i]))
                return false;
        return true;
    }
    case FIELD_MAP: {
        const struct kv_list *x = a, *y = b;
        if (x->n != y->n)
            return false;
        for (uint32_t i = 0; i < x->n; i++)
            if (strcmp(x->v[i].key, y->v[i].key) || strcmp(x->v[i].value, y->v[i].value))
                return false;
        return true;
    }
    default: return scalar_equal(f, a, b);
    }
}

bool type_equal(const struct type *t, const void *a, const void *b)
{
    for (const struct field *f = t->fields; f->name; f++)
        if (!field_equal(f, field_value(f, a), field_value(f, b)))
            return false;
    return true;
}

bool field_is_zero(const struct field *f, const void *value)
{
    switch (f->kind) {
    case FIELD_OBJECT:
        for (const struct field *inner = f->type->fields; inner->name; inner++)
            if (!field_is_zero(inner, field_value(inner, value)))
                return false;
        return true;
    case FIELD_LIST:
    case FIELD_STR_LIST:
    case FIELD_MAP: return !((const struct list *)value)->n;
    default: return scalar_is_zero(f, value);
    }
}

bool field_is_default(const struct field *f, const void *value)
{
    if (f->kind == FIELD_OBJECT) {
        for (const struct field *inner = f->type->fields; inner->name; inner++)
            if (!field_is_default(inner, field_value(inner, value)))
                return false;
        return true;
    }
    if (!f->default_text)
        return field_is_zero(f, value);
    union {
        int64_t number;
        double real;
        char *text;
        int name;
        bool flag;
    } slot = {0};
    set_default(f, &slot);
    bool equal = scalar_equal(f, &slot, value);
    if (f->kind == FIELD_STRING)
        free(slot.text);
    return equal;
}

void *type_new(const struct type *t)
{
    void *object = mem_alloc(t->size);
    type_init(t, object);
    return object;
}

void type_free(const struct type *t, void *object)
{
    if (!object)
        return;
    type_clear(t, object);
    free(object);
}

const struct field *type_field(const struct type *t, const char *name)
{
    for (const struct field *f = t->fields; f->name; f++)
        if (!strcmp(f->name, name))
            return f;
    return NULL;
}

const char *enum_name(const char *const *names, int value)
{
    for (int i = 0; names[i]; i++)
        if (i == value)
            return names[i];
    return "?";
}

int enum_value(const char *const *names, const char *name)
{
    for (int i = 0; names[i]; i++)
        if (!strcmp(names[i], name))
            return i;
    return -1;
}
