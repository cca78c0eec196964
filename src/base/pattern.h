/* Pattern: POSIX extended regular expressions from users, without the constructs by which a short pattern takes
 * endless time or memory. */
#pragma once
#include <regex.h>

#include "base/error.h"

#define PATTERN_MAX_LENGTH 256
#define PATTERN_MAX_REPEAT 100
#define PATTERN_MAX_PARTS 2000

/* Refuses back references, {n,m} above PATTERN_MAX_REPEAT, repeats that multiply to more than PATTERN_MAX_PARTS parts,
 * and what regcomp refuses; the error says what to write. */
int pattern_compile(const char *text, regex_t *regex, struct error *err);    /* the caller calls regfree */
int pattern_check(const char *text, struct error *err);
