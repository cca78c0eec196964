/* Validation of an object that exists: required keys, name rules, ranges, keys of other drivers, and each type's own
 * check. The readers run it on what they made; the server runs it on what came by other ways. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "model/json.h"
#include "model/scalar.h"
#include "model/value.h"

struct output {
    struct problem_list *problems;
    const struct str_list *unchecked;    /* may be NULL */
};

static void validate(const struct type *t, const void *object, const char *path, unsigned only,
                     struct output *out);

/* Where a value is: the path of its object, and its field. Made to text only for a problem, as they are few. */
struct place { const char *object; const struct field *f; };

static char *place_path(const struct place *p)
{
    return *p->object ? mem_printf("%s.%s", p->object, p->f->name) : mem_strdup(p->f->name);
}

static void __attribute__((format(printf, 3, 4))) complain(struct output *out, const struct place *at, const char *fmt, ...)
{
    CLEANUP_FREE char *path = place_path(at), *text = NULL;
    va_list args;
    va_start(args, fmt);
    INVARIANT(vasprintf(&text, fmt, args) >= 0);
    va_end(args);
    problem_add(out->problems, path, "%s", text);
}

static void validate_scalar(const struct place *at, const void *value, struct output *out)
{
    struct error err;
    const struct field *f = at->f;
    if (f->flags & FIELD_REQUIRED && scalar_is_zero(f, value) && !scalar_zero_is_value(f)) {
        CLEANUP_BUF struct buf wanted = {0};
        scalar_describe(f, &wanted);
        complain(out, at, "is required: %s", wanted.data);
        return;
    }
    const char *text = f->kind == FIELD_STRING ? *(char *const *)value : NULL;
    if (text && f->flags & FIELD_NAME_RULE && !text_is_name(text))
        complain(out, at, "`%.80s` is not a name: lower-case letters, digits and hyphens, 1 to 63, no hyphen at either end",
                 text);
    if (text && !text_is_utf8(text, strlen(text)))
        complain(out, at, "is not UTF-8");
    if (scalar_check_range(f, value, &err) < 0)
        complain(out, at, "%s", err.text);
}

static void validate_list(const struct place *at, const struct list *l, unsigned only, struct output *out)
{
    const struct field *f = at->f;
    if (f->flags & FIELD_REQUIRED && !l->n)
        complain(out, at, "is required: %s", f->kind == FIELD_MAP ? "a map of names and texts"
                                                                  : "a list with at least one entry");
    if (f->kind != FIELD_LIST || !l->n)
        return;
    CLEANUP_FREE char *path = place_path(at);
    for (size_t i = 0; i < l->n; i++) {
        CLEANUP_FREE char *item_path = mem_printf("%s[%zu]", path, i);
        validate(f->type, (const char *)l->v + i * f->type->size, item_path, only, out);
    }
}

static void validate_field(const struct place *at, const void *value, unsigned only, struct output *out)
{
    const struct field *f = at->f;
    if (f->only && only && !(f->only & only))
        return;                         /* holds its default; the reader refuses the key */
    switch (f->kind) {
    case FIELD_OBJECT: {
        CLEANUP_FREE char *path = place_path(at);
        validate(f->type, value, path, only, out);
        break;
    }
    case FIELD_LIST:
    case FIELD_STR_LIST:
    case FIELD_MAP: validate_list(at, value, only, out); break;
    default: validate_scalar(at, value, out); break;
    }
}

static void validate(const struct type *t, const void *object, const char *path, unsigned only,
                     struct output *out)
{
    unsigned bit = type_driver_bit(t, object);
    if (bit)
        only = bit;
    for (const struct field *f = t->fields; f->name; f++)
        validate_field(&(struct place){path, f}, field_value(f, object), only, out);
    if (t->check && !(out->unchecked && str_list_has(out->unchecked, path)))
        t->check(object, path, out->problems);
}

void type_validate(const struct type *t, const void *object, const char *path, struct problem_list *problems)
{
    struct output out = {.problems = problems};
    validate(t, object, path, 0, &out);
}

void type_validate_except(const struct type *t, const void *object, const struct str_list *unchecked,
                          struct problem_list *problems)
{
    struct output out = {.problems = problems, .unchecked = unchecked};
    validate(t, object, "", 0, &out);
}
