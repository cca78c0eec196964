#include "agent/alloc_record.h"

static const struct field restart_mark_fields[] = {
    {.name = "at", .tag = 1, .kind = FIELD_TIME, .offset = offsetof(struct restart_mark, at)},
    {0},
};

static const struct type restart_mark_type = {
    .name = "restart_mark", .size = sizeof(struct restart_mark), .fields = restart_mark_fields,
};

#define RECORD(key, number, kind_, ...) \
    {.name = #key, .tag = number, .kind = kind_, .offset = offsetof(struct alloc_record, key), __VA_ARGS__}

static const struct field alloc_record_fields[] = {
    RECORD(alloc, 1, FIELD_OBJECT, .type = &alloc_type),
    RECORD(report, 2, FIELD_OBJECT, .type = &alloc_report_type),
    RECORD(acknowledged, 3, FIELD_BOOL),
    RECORD(handle, 4, FIELD_STRING),
    RECORD(generation, 5, FIELD_INT),
    RECORD(launched, 6, FIELD_BOOL),
    RECORD(restarts, 7, FIELD_LIST, .type = &restart_mark_type),
    RECORD(backoff, 8, FIELD_INT),
    RECORD(runs, 9, FIELD_UINT),
    RECORD(secrets, 10, FIELD_MAP),
    RECORD(paused, 11, FIELD_BOOL),
    {0},
};

const struct type alloc_record_type = {
    .name = "alloc_record", .size = sizeof(struct alloc_record), .fields = alloc_record_fields,
};
