/* JSON: what the model's own files share beyond field.h. */
#pragma once
#include "model/field.h"

enum json_style {
    JSON_FULL,      /* as the API: every key but absent strings and times */
    JSON_SHOWN,     /* the same for users: names without their namespaces */
    JSON_SPARSE,    /* only what differs from the defaults and is not internal; for people */
};
/* One field's value. JSON is also YAML's flow style, which is what differences and YAML output use it for. */
void field_to_json(const struct field *f, const void *value, enum json_style style, struct buf *out);
/* The bit of the object's driver, to be compared with `only` of the fields of the objects inside it; 0: no driver. */
unsigned type_driver_bit(const struct type *t, const void *object);
