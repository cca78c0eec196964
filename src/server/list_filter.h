/* List filter: ?filter=field=value[,field=value] over the top-level fields of a list's items. All must match.
 * Strings, enums, numbers and booleans can be compared; `!=` turns a comparison round. */
#pragma once
#include <stdbool.h>

#include "base/error.h"
#include "model/field.h"

struct list_filter_term {
    const struct field *field;
    char *value;
    int64_t number;      /* of an enum or integer */
    double real;
    bool negate;
};
struct list_filter {
    struct list_filter_term *terms;
    size_t count;
};

#define LIST_FILTER_MAX 16

/* text NULL or empty: everything matches. */
int list_filter_parse(const struct type *type, const char *text, struct list_filter *out, struct error *err);
bool list_filter_match(const struct list_filter *f, const void *object);
void list_filter_clear(struct list_filter *f);
