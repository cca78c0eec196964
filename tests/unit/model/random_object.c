#include "random_object.h"

#include <math.h>
#include <string.h>

struct twin {
    const struct type *original;
    struct type type;
    struct field *fields;
};
enum { TWINS_MAX = 64 };
static struct twin twins[TWINS_MAX];
static size_t twin_count;

const struct type *unchecked_twin(const struct type *t)
{
    for (size_t i = 0; i < twin_count; i++)
        if (twins[i].original == t)
            return &twins[i].type;
    INVARIANT(twin_count < TWINS_MAX);
    struct twin *twin = &twins[twin_count++];
    size_t n = 0;
    while (t->fields[n].name)
        n++;
    twin->original = t;
    twin->fields = mem_dup(t->fields, (n + 1) * sizeof *twin->fields);
    twin->type = *t;
    twin->type.check = NULL;
    twin->type.fields = twin->fields;
    for (struct field *f = twin->fields; f->name; f++) {
        f->flags &= FIELD_SCALAR_OK | FIELD_BOOL_TEXT;
        f->min = f->max = 0;
        f->only = 0;
        if (f->type)
            f->type = unchecked_twin(f->type);
    }
    return &twin->type;
}

void twins_free(void)
{
    for (size_t i = 0; i < twin_count; i++)
        free(twins[i].fields);
    twin_count = 0;
}

/* Texts that some format could mistake for something else, or has to escape. */
static const char *const texts[] = {
    "", " ", "a", "web", "null", "~", "true", "no", "1", "1.4", "-0", "0x1f", "1e3", ".inf", "=", ">=", "!=", "*", "&a", "!t",
    "- a", "a: b", "a #b", "#c", "[a", "{a", "a, b", "'", "\"", "\\", "\\n", "a\nb\n", "\n", "\t", "\r\n", " a ", "\x01\x1f\x7f",
    "\xc2\x85", "\xc2\x9f", "\xe2\x80\xa8", "\xef\xbb\xbf", "\xef\xbf\xbe", "\xc3\xa4\xe4\xb8\xad\xf0\x9f\x98\x80", "---", "...",
    "%d%s", "?", "? a", "|", ">", "@", "`", "a:", ":a", "<<", "2026-01-01", "12:30", "${replica}", "$${x}",
};

static char *random_text(struct random *r)
{
    switch (random_below(r, 4)) {
    case 0: return mem_printf("%s%s", texts[random_below(r, ARRAY_LEN(texts))], texts[random_below(r, ARRAY_LEN(texts))]);
    case 1: {
        size_t n = random_below(r, 300);
        char *s = mem_alloc(n + 1);
        for (size_t i = 0; i < n; i++)
            s[i] = (char)(1 + random_below(r, 127));
        return s;
    }
    default: return mem_strdup(texts[random_below(r, ARRAY_LEN(texts))]);
    }
}

static int64_t random_int(struct random *r)
{
    int64_t v = (int64_t)(random_next(r) >> random_below(r, 64));
    return random_below(r, 4) ? v : random_below(r, 2) ? -v : 0;
}

static double random_double(struct random *r)
{
    switch (random_below(r, 4)) {
    case 0: return (double)random_below(r, 1000) / 10;
    case 1: return (double)random_int(r) / 1000;
    case 2: return 0;
    default: {
        uint64_t bits = random_next(r);
        double v;
        memcpy(&v, &bits, sizeof v);
        return isfinite(v) ? v : 1;
    }
    }
}

static int random_enum(const char *const *names, struct random *r)
{
    uint64_t n = 0;
    while (names[n])
        n++;
    return (int)random_below(r, n);
}

static char *random_string(const struct field *f, struct random *r)
{
    if (!random_below(r, 3))
        return NULL;
    if (f->flags & FIELD_BOOL_TEXT)
        return mem_strdup(random_below(r, 2) ? "true" : "false");
    return random_text(r);
}

static void randomize_field(const struct field *f, struct random *r, void *slot)
{
    static const int64_t end_of_year_9999_ms = 253402300799999;
    uint64_t n = random_below(r, 2) ? random_below(r, 4) : 0;
    switch (f->kind) {
    case FIELD_BOOL: *(bool *)slot = random_below(r, 2); break;
    case FIELD_INT: *(int64_t *)slot = random_int(r); break;
    case FIELD_UINT: *(uint64_t *)slot = random_next(r) >> (1 + random_below(r, 63)); break;
    case FIELD_FLOAT: *(double *)slot = random_double(r); break;
    case FIELD_STRING: *(char **)slot = random_string(f, r); break;
    case FIELD_ENUM: *(int *)slot = random_enum(f->names, r); break;
    case FIELD_DURATION:
    case FIELD_SIZE_MB: *(int64_t *)slot = (int64_t)(random_next(r) >> (1 + random_below(r, 63))); break;
    case FIELD_TIME: *(int64_t *)slot = random_below(r, 3) ? (int64_t)random_below(r, (uint64_t)end_of_year_9999_ms) : 0; break;
    case FIELD_OBJECT: object_randomize(f->type, r, slot); break;
    case FIELD_LIST:
        for (; n; n--)
            object_randomize(f->type, r, list_add_zero(slot, f->type));
        break;
    case FIELD_STR_LIST:
        for (; n; n--) {
            CLEANUP_FREE char *s = random_text(r);
            str_list_add(slot, s);
        }
        break;
    case FIELD_MAP:
        for (; n; n--) {
            CLEANUP_FREE char *key = random_text(r);
            CLEANUP_FREE char *value = random_text(r);
            kv_set(slot, key, value);
        }
        break;
    }
}

void object_randomize(const struct type *t, struct random *r, void *object)
{
    memset(object, 0, t->size);
    for (const struct field *f = t->fields; f->name; f++)
        randomize_field(f, r, (char *)object + f->offset);
}
