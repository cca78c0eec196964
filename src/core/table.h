/* Table: short rows for the field tables of the core's own records; tags stand in logs and snapshots. */
#pragma once
#include <stddef.h>

#include "model/field.h"

#define ROW(T, tag_, kind_, member, ...) \
    {.name = #member, .tag = (tag_), .kind = (kind_), .offset = offsetof(struct T, member), ##__VA_ARGS__}
#define ROW_STRING(T, tag_, member) ROW(T, tag_, FIELD_STRING, member)
#define ROW_INT(T, tag_, member) ROW(T, tag_, FIELD_INT, member)
#define ROW_UINT(T, tag_, member) ROW(T, tag_, FIELD_UINT, member)
#define ROW_BOOL(T, tag_, member) ROW(T, tag_, FIELD_BOOL, member)
#define ROW_FLOAT(T, tag_, member) ROW(T, tag_, FIELD_FLOAT, member)
#define ROW_STR_LIST(T, tag_, member) ROW(T, tag_, FIELD_STR_LIST, member)
#define ROW_OBJECT(T, tag_, member, type_) ROW(T, tag_, FIELD_OBJECT, member, .type = &(type_))
#define ROW_LIST(T, tag_, member, type_) ROW(T, tag_, FIELD_LIST, member, .type = &(type_))
#define ROW_ENUM(T, tag_, member, names_) ROW(T, tag_, FIELD_ENUM, member, .names = (names_))
#define ROWS(T, ...) static const struct field T##_fields[] = {__VA_ARGS__, {.name = NULL}}
#define TYPE_OF(T) {.name = #T, .size = sizeof(struct T), .fields = T##_fields}
