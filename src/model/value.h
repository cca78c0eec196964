/* Value: a parsed document before its types are known. YAML and JSON both become one, so that one reader checks both. */
#pragma once
#include "model/field.h"

enum value_kind { VALUE_NULL, VALUE_BOOL, VALUE_NUMBER, VALUE_TEXT, VALUE_LIST, VALUE_MAP };

struct value {
    enum value_kind kind;
    char *text;                  /* BOOL, NUMBER, TEXT: as it was written; NULL: only when YAML says so in words */
    int line, column;            /* where it begins, from 1; 0: unknown */
    bool loose;                  /* written without quotes in YAML: `1.4` may also serve as a text */
    struct value_entry *entries; /* LIST, MAP */
    uint32_t n;
};

struct value_entry {
    char *key;                   /* NULL in a list */
    int line, column;            /* of the key */
    struct value value;
};

#define VALUE_DEPTH_MAX 32
#define VALUE_BYTES_MAX (1u << 20)      /* of a YAML document */

/* Each reads one whole document; *out is the caller's to clear. Returns 0, or -1 with problems (then *out is empty).
 * Duplicate keys are problems; in YAML so are aliases, anchors, tags and a second document. */
int value_from_yaml(const char *text, size_t len, struct value *out, struct problem_list *problems);
/* The same for files of others, with anchors, aliases, merge keys (<<) and tags, which are passed over. */
int value_from_foreign_yaml(const char *text, size_t len, struct value *out, struct problem_list *problems);
int value_from_json(const char *text, size_t len, struct value *out, struct problem_list *problems);
/* A configuration file. Of one with comments only, or that is not there and is not required, *root stays as it is. */
int config_read_file(const char *path, bool required, struct value *root, struct error *err);
/* The plain scalars of YAML 1.2's core schema: what `text` is when written without quotes. */
enum value_kind value_plain_kind(const char *text);
void value_clear(struct value *v);
void value_copy(struct value *to, const struct value *from);         /* deep; `to` is raw memory */
struct value *value_add(struct value *container, const char *key);   /* a new NULL entry; valid until the next one */
const struct value_entry *value_get(const struct value *map, const char *key);
/* For what another program wrote: of the wrong kind, or not there, is nothing. Keys joined by '/': "State/Status". */
const struct value *value_path(const struct value *v, const char *path);
const char *value_text(const struct value *v, const char *path);         /* NULL */
int64_t value_number(const struct value *v, const char *path);           /* 0 */
bool value_true(const struct value *v, const char *path);                /* false */
/* "a list", "the number 3": for messages. */
void value_describe(const struct value *v, struct buf *out);

/* Replaces ${NAME} in every text by what vars has; the names that the agent fills in (${replica}, ${port.http}, …) stay,
 * others are problems. vars may be NULL: then every ${…} that is not the agent's is one. */
void value_substitute(struct value *v, const struct kv_list *vars, struct problem_list *problems);

/* A text in which no variable is replaced, by neither --var nor the agent. The caller frees it. */
char *value_literal(const char *text);

/* The value at "services[0].health.interval", or the nearest one above it that exists. */
const struct value *value_at(const struct value *root, const char *path);

enum { PROBLEMS_MAX = 100 };   /* what a person would still read; behind them one more says that there are others */
void problem_add_at(struct problem_list *l, const char *path, int line, int column, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* As type_validate, but without the `check`s of the objects at these paths. */
void type_validate_except(const struct type *t, const void *object, const struct str_list *unchecked,
                          struct problem_list *problems);

/* Fills `object` (raw memory) with the defaults and what the value says. Problems are added with their places; the
 * object is always valid to clear. */
enum read_flags { READ_INTERNAL = 1, READ_YAML_NAMES = 2 };
void object_from_value(const struct type *t, const struct value *v, unsigned flags, void *object,
                       struct problem_list *problems);
