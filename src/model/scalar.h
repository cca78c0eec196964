/* Scalar: one value of a field as text, the same in YAML, JSON strings, defaults and flags. */
#pragma once
#include "model/field.h"

/* Reads text into the field's slot (strings are replaced, the old one freed). Returns 0, or -1 with err saying what is
 * wanted; the slot is then as it was. Does not check the range. Not for OBJECT, LIST, STR_LIST and MAP. */
int scalar_parse(const struct field *f, const char *text, void *slot, struct error *err);
/* 0, or -1 with err when the value is outside of min..max. */
int scalar_check_range(const struct field *f, const void *slot, struct error *err);
/* min or max of the field, as text. */
void scalar_format_limit(const struct field *f, double limit, struct buf *out);
/* The text that scalar_parse reads back. Nothing for an absent string or time. */
void scalar_format(const struct field *f, const void *slot, struct buf *out);
/* What kind of value is wanted: "a whole number", "one of firecracker, docker, exec". */
void scalar_describe(const struct field *f, struct buf *out);
/* The shortest decimal text that reads back as the same number. */
void number_format(double v, struct buf *out);
/* The slot holds zero, NULL or "absent". */
bool scalar_is_zero(const struct field *f, const void *slot);
/* A number for which zero may be written: whether it is absent only a reader of text knows. */
static inline bool scalar_zero_is_value(const struct field *f)
{
    return (f->kind == FIELD_INT || f->kind == FIELD_UINT || f->kind == FIELD_FLOAT) && f->min <= 0 && f->max >= 0;
}
bool scalar_equal(const struct field *f, const void *a, const void *b);

static inline bool field_is_scalar(const struct field *f)
{
    return f->kind < FIELD_OBJECT;
}

static inline void *field_slot(const struct field *f, void *object)
{
    return (char *)object + f->offset;
}

static inline const void *field_value(const struct field *f, const void *object)
{
    return (const char *)object + f->offset;
}

/* The first value that may be written: an enum that is required has no zero. */
static inline int enum_first(const struct field *f)
{
    return f->flags & FIELD_REQUIRED ? 1 : 0;
}
