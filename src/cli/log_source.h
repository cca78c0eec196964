/* Log source: one stream of one task's log on its way to our output, line by line or as it comes. */
#pragma once
#include <jansson.h>
#include <stdio.h>

#include "cli/cli.h"

/* What all sources of a command share. */
struct log_style {
    const struct cli *cli;
    bool by_node;                /* replicas are named by their nodes */
    bool prefixed;               /* each line with the replica in front; may be switched on while sources run */
    const char *only;            /* "stdout" or "stderr"; NULL: both */
    const char *query;           /* "&tail=5&follow=true" */
};

struct log_source {
    const struct log_style *style;
    char *alloc, *service, *node;
    char *name;                  /* of the replica: web/0, node-agent@n1 */
    long long replica;
    const char *stream;          /* "stdout", "stderr" */
    FILE *to;
    struct buf line;             /* not complete yet */
    bool mid_line;               /* what was passed on as it came did not end with a line's end */
    uint64_t received;           /* bytes */
};

/* The sources of an allocation: one for each stream that is wanted, at most two. Returns how many. */
size_t log_sources_make(const struct log_style *style, const json_t *alloc, struct log_source *out[static 2]);
/* Says what is left of a line, then frees it. */
void log_source_free(struct log_source *s);
/* Where its log is; from: NULL, or a place to go on at. The caller's. */
char *log_source_path(const struct log_source *s, const char *from);
/* For api_stream and api_part; false once nothing can be written any more. */
bool log_source_data(const char *data, size_t len, void *source);
