/* Text: small questions about strings that several parts ask. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* As strcmp() == 0, in a time that says nothing of where they differ: for hashes of secrets. */
bool text_same_secret(const char *a, const char *b);
bool text_has_prefix(const char *s, const char *prefix);
bool text_same(const char *a, const char *b);        /* NULL is as good as empty */
/* Names of jobs, services, nodes, ports: [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most 63 characters (RFC 1123 label). */
bool text_is_name(const char *s);
/* The nearest name that satisfies this: "/shop_api.1" gives "shop-api-1"; otherwise where nothing is left. The caller frees
 * it. */
char *text_make_name(const char *s, const char *otherwise);
bool text_is_utf8(const void *p, size_t n);
/* Puts spaces for control characters (also those of two bytes, U+0080 to U+009F): a terminal would obey them, move the
 * cursor or hide something. Line ends stay when keep_lines. */
void text_tame(char *s, bool keep_lines);
/* Levenshtein distance with swaps of neighbours counted as one; for suggestions. Inputs are cut at 64 characters. */
unsigned text_distance(const char *a, const char *b);
/* The entry of the NULL-ended list nearest to s, or NULL when none is near enough to be worth suggesting. */
const char *text_nearest(const char *s, const char *const *candidates);
