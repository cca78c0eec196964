/* Request targets: "/v1/jobs/a%20b?index=3" into decoded segments and parameters. */
#pragma once
#include <stddef.h>

#include "base/error.h"
#include "net/http.h"

/* Fills both (zeroed before); the strings of the segments live in segments[0]'s allocation. A trailing slash makes no
 * segment. Refuses broken escapes and encoded NUL bytes. On failure nothing is left allocated. */
int http_target_parse(const char *target, char ***segments, size_t *segment_count, struct http_headers *query,
                      struct error *err);
void http_target_free(char **segments, size_t segment_count, struct http_headers *query);
