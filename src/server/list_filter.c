#include "server/list_filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/namespace.h"

static bool comparable(const struct field *f)
{
    switch (f->kind) {
    case FIELD_BOOL: case FIELD_INT: case FIELD_UINT: case FIELD_FLOAT: case FIELD_STRING: case FIELD_ENUM:
    case FIELD_SIZE_MB:
        return !(f->flags & FIELD_SECRET);
    default:
        return false;
    }
}

static int unknown_field(const struct type *type, const char *name, struct error *err)
{
    CLEANUP_BUF struct buf known = {0};
    for (const struct field *f = type->fields; f->name; f++)
        if (comparable(f)) {
            buf_add_string(&known, known.len ? ", " : "");
            buf_add_string(&known, f->name);
        }
    return error_set(err, ERROR_INVALID, "filter: no field \"%.64s\" to compare; there are %s", name, known.data);
}

static int bad_value(const struct list_filter_term *t, struct error *err)
{
    CLEANUP_BUF struct buf known = {0};
    if (t->field->kind == FIELD_ENUM)
        for (const char *const *n = t->field->names; *n; n++)
            buf_printf(&known, "%s%s", known.len ? ", " : "; one of ", *n);
    return error_set(err, ERROR_INVALID, "filter: \"%.64s\" is no value of %s%s", t->value, t->field->name,
                     known.data ? known.data : "");
}

static int parse_value(struct list_filter_term *t, struct error *err)
{
    char *end = t->value;
    errno = 0;
    switch (t->field->kind) {
    case FIELD_ENUM:
        t->number = enum_value(t->field->names, t->value);
        return t->number < 0 ? bad_value(t, err) : 0;
    case FIELD_BOOL:
        t->number = !strcmp(t->value, "true");
        return t->number || !strcmp(t->value, "false") ? 0 : bad_value(t, err);
    case FIELD_FLOAT:
        t->real = strtod(t->value, &end);
        break;
    case FIELD_INT: case FIELD_UINT: case FIELD_SIZE_MB:
        t->number = strtoll(t->value, &end, 10);
        break;
    default:
        return 0;
    }
    return errno || end == t->value || *end ? bad_value(t, err) : 0;
}

static int parse_term(const struct type *type, const char *text, struct list_filter *out, struct error *err)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text)
        return error_set(err, ERROR_INVALID, "filter: write field=value[,field=value], not \"%.64s\"", text);
    struct list_filter_term t = {.negate = equals[-1] == '!'};
    CLEANUP_FREE char *name = mem_strndup(text, (size_t)(equals - text) - t.negate);
    const struct field *f = type_field(type, name);
    if (!f || !comparable(f))
        return unknown_field(type, name, err);
    t.field = f;
    t.value = mem_strdup(equals + 1);
    if (parse_value(&t, err)) {
        free(t.value);
        return -1;
    }
    out->terms = mem_realloc_array(out->terms, out->count + 1, sizeof *out->terms);
    out->terms[out->count++] = t;
    return 0;
}

int list_filter_parse(const struct type *type, const char *text, struct list_filter *out, struct error *err)
{
    *out = (struct list_filter){0};
    if (!text || !*text)
        return 0;
    CLEANUP_FREE char *copy = mem_strdup(text);
    char *rest = copy;
    for (char *part; (part = strsep(&rest, ","));) {
        if (out->count == LIST_FILTER_MAX) {
            list_filter_clear(out);
            return error_set(err, ERROR_INVALID, "filter: at most %d comparisons", LIST_FILTER_MAX);
        }
        if (parse_term(type, part, out, err)) {
            list_filter_clear(out);
            return -1;
        }
    }
    return 0;
}

static bool term_equal(const struct list_filter_term *t, const void *object)
{
    const void *at = (const char *)object + t->field->offset;
    switch (t->field->kind) {
    case FIELD_BOOL:
        return *(const bool *)at == (t->number != 0);
    case FIELD_ENUM:
        return *(const int *)at == t->number;
    case FIELD_FLOAT: {
        double v = *(const double *)at;
        return v >= t->real && v <= t->real;
    }
    case FIELD_STRING: {
        const char *s = *(char *const *)at;
        if (t->field->flags & FIELD_QUALIFIED)
            s = namespace_bare(s);
        return !strcmp(s ? s : "", t->value);
    }
    default:
        return *(const int64_t *)at == t->number;
    }
}

bool list_filter_match(const struct list_filter *f, const void *object)
{
    for (size_t i = 0; i < f->count; i++)
        if (term_equal(&f->terms[i], object) == f->terms[i].negate)
            return false;
    return true;
}

void list_filter_clear(struct list_filter *f)
{
    for (size_t i = 0; i < f->count; i++)
        free(f->terms[i].value);
    free(f->terms);
    *f = (struct list_filter){0};
}
