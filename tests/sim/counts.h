/* Counts: what the cases went through. What never happens proves nothing, so a long run fails on a zero. */
#pragma once
#include <stdint.h>

#define COUNTS(X) \
    X(COMMANDS, "commands") \
    X(PLACEMENTS, "placements")

#define COUNT_ENUM(name, text) COUNT_##name,
enum count { COUNTS(COUNT_ENUM) COUNT_COUNT };
#undef COUNT_ENUM

struct counts { uint64_t v[COUNT_COUNT]; };
