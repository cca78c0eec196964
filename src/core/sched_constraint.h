/* Sched_constraint: attributes of nodes, and constraints and affinities evaluated against them. */
#pragma once
#include <regex.h>
#include <stdbool.h>

#include "model/model.h"

#define ATTRIBUTE_NUMBER_SIZE 40

/* The attribute's value as text, NULL when the node has none. Numbers are written into `number`. */
const char *attribute_value(const struct node *n, const char *attribute, char number[static ATTRIBUTE_NUMBER_SIZE]);
/* "node", "node.name" and "node.id": different on every node. */
bool attribute_is_unique(const char *attribute);

/* One compiled condition. Holds no pointers into what it was made from. */
struct matcher {
    char *attribute;
    enum constraint_op op;
    struct str_list value;
    bool version;                /* compared as a version, whatever it looks like */
    bool compiled;
    regex_t regex;               /* op matches, when compiled */
};
void matcher_init(struct matcher *m, const char *attribute, enum constraint_op op, const struct str_list *value);
void matcher_clear(struct matcher *m);
/* A missing attribute satisfies nothing but `!=`. `distinct` is not about a single node: always satisfied here. */
bool matcher_matches(const struct matcher *m, const struct node *n);
void matcher_format(const struct matcher *m, struct buf *out);        /* "meta.zone in [a, b]" */

/* "6.1.0-18-amd64" against "6.1": parts between dots as numbers, missing ones are 0; what follows the numbers counts
 * only when both sides have it. A leading v is passed over. <0, 0, >0. */
int version_compare(const char *a, const char *b);
