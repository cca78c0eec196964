/* Words: short lists on a command line, and in a cell of a table. */
#pragma once
#include <jansson.h>

#include "base/buf.h"

/* "reader,web-deployer" as a list; the caller's. */
json_t *words_list(const char *text);
/* A list as such a text; for struct column. */
void cell_words(const json_t *row, const json_t *value, struct buf *out);
