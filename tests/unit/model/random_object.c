#include "random_object.h"

#include <string.h>

#include "model/model.h"
#include "model/scalar.h"

static char *random_text(struct random *r, bool name)
{
    static const char *const texts[] = {"a", "hello world", "8080", "true", "null", "- x", "key: value", "\"quoted\"",
                                        "tab\there", "line\nbreak", "gr\xc3\xbc\xc3\x9f", "#no comment", "~", "1e3", "it's", "{}"};
    static const char *const names[] = {"web", "db-1", "a", "x9"};
    return mem_strdup(name ? names[random_below(r, ARRAY_LEN(names))] : texts[random_below(r, ARRAY_LEN(texts))]);
}

static int64_t random_within(const struct field *f, struct random *r)
{
    bool free_range = f->min == 0 && f->max == 0;
    int64_t low = free_range ? -1000 : (int64_t)f->min, high = free_range ? 1000000 : (int64_t)f->max;
    return low + (int64_t)random_below(r, (uint64_t)(high - low) + 1);
}

static void random_scalar(const struct field *f, struct random *r, void *slot)
{
    switch (f->kind) {
    case FIELD_BOOL: *(bool *)slot = random_below(r, 2); break;
    case FIELD_INT: *(int64_t *)slot = random_within(f, r); break;
    case FIELD_DURATION:
    case FIELD_SIZE_MB: {
        int64_t v = random_within(f, r);
        *(int64_t *)slot = v < 0 ? -v : v;
        break;
    }
    case FIELD_UINT: *(uint64_t *)slot = random_below(r, UINT64_C(1) << 62); break;
    case FIELD_FLOAT: *(double *)slot = f->min + (double)random_below(r, 4000) / 1000; break;
    case FIELD_TIME: *(int64_t *)slot = 1 + (int64_t)random_below(r, INT64_C(4000000000000)); break;
    case FIELD_STRING:
        free(*(char **)slot);
        *(char **)slot = f->flags & FIELD_BOOL_TEXT ? mem_strdup(random_below(r, 2) ? "true" : "false")
                                                    : random_text(r, f->flags & FIELD_NAME_RULE);
        break;
    case FIELD_ENUM: {
        uint64_t n = 0;
        while (f->names[n])
            n++;
        uint64_t first = f->flags & FIELD_REQUIRED ? 1 : 0;
        *(int *)slot = (int)(first + random_below(r, n - first));
        break;
    }
    default: break;
    }
}

static void fill(const struct type *t, struct random *r, unsigned only, void *object)
{
    for (const struct field *f = t->fields; f->name; f++) {
        void *slot = field_slot(f, object);
        bool chosen = f->flags & FIELD_REQUIRED || f->kind == FIELD_OBJECT || random_below(r, 2);
        if (!chosen || (f->only && only && !(f->only & only)))
            continue;
        if (f->names == driver_kind_names) {
            random_scalar(f, r, slot);
            only = 1u << *(int *)slot;
        } else if (f->kind == FIELD_OBJECT) {
            fill(f->type, r, only, slot);
        } else if (f->kind == FIELD_LIST) {
            for (uint64_t n = 1 + random_below(r, 3); n; n--)
                fill(f->type, r, only, list_add(slot, f->type));
        } else if (f->kind == FIELD_STR_LIST || f->kind == FIELD_MAP) {
            for (uint64_t n = 1 + random_below(r, 3); n; n--) {
                CLEANUP_FREE char *text = random_text(r, false);
                if (f->kind == FIELD_MAP)
                    kv_set(slot, text, text);
                else
                    str_list_add(slot, text);
            }
        } else {
            random_scalar(f, r, slot);
        }
    }
}

void random_object(const struct type *t, struct random *r, void *object)
{
    type_init(t, object);
    fill(t, r, 0, object);
}
