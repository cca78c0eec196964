/* Table: macros that write one row of a field table. Each checks at compile time that the member's C type is the one
 * that its kind stands for, since a wrong row would corrupt memory. `s` is the struct's tag, `m` its member. */
#pragma once
#include "model/field.h"

#define MEMBER_IS(s, m, ctype) __builtin_types_compatible_p(__typeof__(((struct s *)0)->m), ctype)
#define MEMBER_AT(s, m, cond) \
    (offsetof(struct s, m) + 0 * sizeof(struct { _Static_assert(cond, "kind does not fit " #s "." #m); int unused; }))
#define MEMBER_LIST(s, m) \
    (sizeof(((struct s *)0)->m) == sizeof(struct list) && MEMBER_IS(s, m.n, uint32_t) && \
     offsetof(struct s, m.n) - offsetof(struct s, m) == offsetof(struct list, n))

#define ROW(key, number, kind_, at, ...) {.name = key, .tag = number, .kind = kind_, .offset = at, __VA_ARGS__}

#define BOOL(s, m, number, ...) ROW(#m, number, FIELD_BOOL, MEMBER_AT(s, m, MEMBER_IS(s, m, bool)), __VA_ARGS__)
#define INT(s, m, number, ...) ROW(#m, number, FIELD_INT, MEMBER_AT(s, m, MEMBER_IS(s, m, int64_t)), __VA_ARGS__)
#define UINT(s, m, number, ...) ROW(#m, number, FIELD_UINT, MEMBER_AT(s, m, MEMBER_IS(s, m, uint64_t)), __VA_ARGS__)
#define FLOAT(s, m, number, ...) ROW(#m, number, FIELD_FLOAT, MEMBER_AT(s, m, MEMBER_IS(s, m, double)), __VA_ARGS__)
#define STRING(s, m, number, ...) STRING_AS(s, m, #m, number, __VA_ARGS__)
#define STRING_AS(s, m, key, number, ...) \
    ROW(key, number, FIELD_STRING, MEMBER_AT(s, m, MEMBER_IS(s, m, char *)), __VA_ARGS__)
#define ENUM(s, m, number, names_, ...) \
    ROW(#m, number, FIELD_ENUM, MEMBER_AT(s, m, sizeof(((struct s *)0)->m) == sizeof(int)), .names = names_, __VA_ARGS__)
#define DURATION(s, m, key, number, ...) \
    ROW(key, number, FIELD_DURATION, MEMBER_AT(s, m, MEMBER_IS(s, m, int64_t)), __VA_ARGS__)
#define SIZE_MB(s, m, number, ...) \
    ROW(#m, number, FIELD_SIZE_MB, MEMBER_AT(s, m, MEMBER_IS(s, m, int64_t)), __VA_ARGS__)
#define TIME(s, m, number, ...) ROW(#m, number, FIELD_TIME, MEMBER_AT(s, m, MEMBER_IS(s, m, int64_t)), __VA_ARGS__)
#define OBJECT(s, m, number, tag_, ...) \
    ROW(#m, number, FIELD_OBJECT, MEMBER_AT(s, m, MEMBER_IS(s, m, struct tag_)), .type = &tag_##_type, __VA_ARGS__)
#define LIST(s, m, number, tag_, ...) \
    ROW(#m, number, FIELD_LIST, MEMBER_AT(s, m, MEMBER_LIST(s, m) && MEMBER_IS(s, m.v, struct tag_ *)), \
        .type = &tag_##_type, __VA_ARGS__)
#define STR_LIST(s, m, number, ...) \
    ROW(#m, number, FIELD_STR_LIST, MEMBER_AT(s, m, MEMBER_IS(s, m, struct str_list)), __VA_ARGS__)
#define MAP(s, m, number, ...) ROW(#m, number, FIELD_MAP, MEMBER_AT(s, m, MEMBER_IS(s, m, struct kv_list)), __VA_ARGS__)
#define RANGE(lowest, highest) .min = lowest, .max = highest

#define TABLE(tag_, rows, text, ...) \
    const struct type tag_##_type = {.name = #tag_, .size = sizeof(struct tag_), .fields = rows, .help = text, __VA_ARGS__}
