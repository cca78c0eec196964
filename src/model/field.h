/* Field tables: each type of the model is described once, and from that description come its defaults, YAML and
 * JSON, the binary codec, validation, difference, JSON Schema, help texts and command-line flags. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

struct json_t;

/* The plain containers of the model. A list owns its items; n items at v. All-zero is empty. */
struct list { void *v; uint32_t n; };                       /* layout of every typed list below */
struct str_list { char **v; uint32_t n; };
struct kv { char *key; char *value; };
struct kv_list { struct kv *v; uint32_t n; };               /* sorted by key, keys unique */

/* A problem found in input. line and column count from 1; 0 when there is no place (JSON, API). */
struct problem {
    char *path;                  /* "services[0].health.interval" */
    char *message;               /* what is wrong and what to do */
    int line, column;
};
struct problem_list { struct problem *v; uint32_t n; };

enum field_kind {
    FIELD_BOOL,       /* bool */
    FIELD_INT,        /* int64_t, min..max */
    FIELD_UINT,       /* uint64_t; a plain number in JSON */
    FIELD_FLOAT,      /* double, min..max */
    FIELD_STRING,     /* char *, NULL when absent */
    FIELD_ENUM,       /* int (an enum); names from `names` */
    FIELD_DURATION,   /* int64_t milliseconds; text "10s" in YAML and JSON */
    FIELD_SIZE_MB,    /* int64_t MiB; YAML accepts 256, "256MB", "1GiB"; JSON writes the number */
    FIELD_TIME,       /* int64_t milliseconds since 1970; RFC 3339 in JSON, absent when 0 */
    FIELD_OBJECT,     /* a struct inside the struct; `type` */
    FIELD_LIST,       /* struct list of `type` */
    FIELD_STR_LIST,   /* struct str_list */
    FIELD_MAP,        /* struct kv_list */
};

enum field_flags {
    FIELD_REQUIRED = 1 << 0,
    FIELD_INTERNAL = 1 << 1,     /* not accepted from users' files (runtime facts); still in JSON output and binary */
    FIELD_SECRET = 1 << 2,       /* never in JSON output, logs or diffs; binary only */
    FIELD_SCALAR_OK = 1 << 3,    /* a str_list that also accepts one scalar */
    FIELD_NAME_RULE = 1 << 4,    /* string must satisfy text_is_name */
    FIELD_NO_RESTART = 1 << 5,   /* a change of it does not replace running replicas (count, deploy, ingress, meta, …) */
    FIELD_BOOL_TEXT = 1 << 6,    /* a string that is "true", "false" or absent; a boolean in YAML and JSON */
    FIELD_EXPAND = 1 << 7,       /* the agent replaces ${replica} and its like in it; see model/expand.h */
    FIELD_QUALIFIED = 1 << 8,    /* a string with its namespace before it (model/namespace.h), which users see without */
    FIELD_NAMESPACE = 1 << 9,    /* and the object's `namespace` comes from it, where it is not default */
    FIELD_ADJUSTABLE = 1 << 10,   /* a change from one value to another does not replace running replicas; from or to none does */
};

struct type;

struct field {
    const char *name;            /* snake_case, in YAML, JSON, schema and flags */
    uint16_t tag;                /* number in the binary codec: unique in its type, never used again */
    enum field_kind kind;
    size_t offset;
    unsigned flags;
    const struct type *type;     /* OBJECT, LIST */
    const char *const *names;    /* ENUM, NULL-ended; index is the value */
    const char *default_text;    /* as it would stand in YAML; NULL: zero */
    double min, max;             /* INT, FLOAT, DURATION (ms), SIZE_MB; no check when both are 0 */
    unsigned only;               /* bit set of enum driver_kind the key belongs to; 0: all (used by `config`) */
    const char *help;            /* one sentence for docs, schema and flags */
    const char *yaml_name;       /* NULL: as name */
};

struct type {
    const char *name;            /* "service" */
    size_t size;
    const struct field *fields;  /* ended by a field without name */
    const char *help;
    /* Checks what no single field can; adds every problem found. May be NULL. path is like "services[0].ports[1]". */
    void (*check)(const void *object, const char *path, struct problem_list *problems);
};

/* --- objects --- */
void type_init(const struct type *t, void *object);          /* zero, then the defaults of the table (nested too) */
void type_clear(const struct type *t, void *object);         /* frees what the object owns, then zero */
void type_copy(const struct type *t, void *to, const void *from);   /* deep; `to` is raw memory */
bool type_equal(const struct type *t, const void *a, const void *b);
void *type_new(const struct type *t);                        /* malloc + type_init */
void type_free(const struct type *t, void *object);          /* type_clear + free; NULL is fine */
void *list_add(struct list *l, const struct type *t);        /* a new item, initialised with defaults; typed lists are cast */
void *list_add_zero(struct list *l, const struct type *t);  /* as list_add, but all zero */
void list_remove(struct list *l, const struct type *t, uint32_t i);
void list_clear(struct list *l, const struct type *t);
bool field_equal(const struct field *f, const void *a, const void *b);     /* a and b point at the field's values */
bool field_is_zero(const struct field *f, const void *value);
bool field_is_default(const struct field *f, const void *value);
void str_list_add(struct str_list *l, const char *s);
bool str_list_has(const struct str_list *l, const char *s);
void str_list_clear(struct str_list *l);
void str_list_wipe(struct str_list *l);                   /* as str_list_clear; the texts are overwritten */
const char *kv_get(const struct kv_list *l, const char *key);        /* NULL when absent */
void kv_set(struct kv_list *l, const char *key, const char *value);  /* copies both */
void kv_remove(struct kv_list *l, const char *key);                  /* nothing when it is not there */
void kv_clear(struct kv_list *l);
const struct field *type_field(const struct type *t, const char *name);
const char *enum_name(const char *const *names, int value);           /* "?" when there is none */
int enum_value(const char *const *names, const char *name);          /* -1 when unknown */

/* --- problems --- */
void problem_add(struct problem_list *l, const char *path, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void problem_list_clear(struct problem_list *l);
/* "FILE:12:5: services[0].helth: unknown key; did you mean `health`?" lines; file may be NULL. */
void problem_list_format(const struct problem_list *l, const char *file, struct buf *out);

/* --- YAML (libyaml) ---
 * Reads one document into a fresh object with defaults applied. All problems of the text are collected, each with
 * line and column. Aliases, anchors, tags, duplicate keys, documents nested deeper than 32 or larger than 1 MiB are
 * refused. Returns 0, or -1 with problems (then object is left zero). Runs the tables' range checks and `check`s. */
int type_from_yaml(const struct type *t, const char *text, size_t len, void *object, struct problem_list *problems);
void type_to_yaml(const struct type *t, const void *object, struct buf *out);      /* omits defaults */

/* --- JSON ---
 * Reading is strict (unknown keys, wrong types, trailing bytes are problems) and validates; FIELD_INTERNAL keys are passed
 * over, so that what the API gave can be given back. With `internal` the text comes from another program of the cluster,
 * maybe of another release: FIELD_INTERNAL keys are read, unknown keys passed over, and nothing is validated but the kinds
 * of values. Keys that are not there have their defaults; a string's null is its absence.
 * Writing goes straight to bytes, keys in the table's order; absent strings and times are left out. type_show_json and
 * list_show_json write for users: names are without their namespaces (FIELD_QUALIFIED). */
int type_from_json(const struct type *t, const char *text, size_t len, bool internal, void *object,
                   struct problem_list *problems);
void type_to_json(const struct type *t, const void *object, struct buf *out);
void list_to_json(const struct type *t, const struct list *l, struct buf *out);    /* a JSON array */
void type_show_json(const struct type *t, const void *object, struct buf *out);
void list_show_json(const struct type *t, const struct list *l, struct buf *out);
void json_add_string(struct buf *out, const char *s);        /* quoted and escaped; NULL gives null */

/* --- binary ---
 * Tag, wire type, value, as in protocol buffers; zero values are left out and unknown tags are skipped, so that older
 * and newer releases read each other. Equal objects give equal bytes. Decoding never trusts a length; depth is at most 32.
 * type_decode fills `object` from zero (not from defaults) and fails on malformed bytes, leaving it zero. */
void type_encode(const struct type *t, const void *object, struct buf *out);
int type_decode(const struct type *t, const void *bytes, size_t len, void *object, struct error *err);

/* --- validation, difference, schema --- */
/* Ranges, required keys, name rules and `check`s of an object that did not come through a parser. */
void type_validate(const struct type *t, const void *object, const char *path, struct problem_list *problems);

struct change {
    char *path;             /* "resources.memory_mb", "env.NODE_ENV", "ports[http].port" */
    char *before, *after;   /* as YAML scalars; NULL: absent */
    bool restart;           /* running replicas must be replaced for it */
};
struct change_list { struct change *v; uint32_t n; };
/* Lists of objects that have a `name` are matched by it, others by position. FIELD_INTERNAL fields are passed over. */
void type_diff(const struct type *t, const void *before, const void *after, struct change_list *out);
void change_list_clear(struct change_list *l);

void type_schema(const struct type *t, struct buf *out);     /* JSON Schema 2020-12, nested types under $defs */
/* Markdown tables of the keys, defaults, ranges and help of t and of every type below it. */
void type_markdown(const struct type *t, struct buf *out);
/* The same as parts of a manual page: a subsection for each type. */
void type_manual(const struct type *t, struct buf *out);

/* --- configuration: a YAML file plus flags from the same table ---
 * argv: --config FILE (default_file is read when it exists and --config is not given), then --key value or --key=value
 * for every field (underscores as hyphens; nested as --a.b), flags win. Lists: repeat the flag. Maps: --meta k=v.
 * `--help` and `--version` are the caller's: they are returned as 1 and 2. Returns 0 when loaded, -1 with err set. */
int config_load(const struct type *t, int argc, char **argv, const char *default_file, void *object, struct error *err);
void config_help(const struct type *t, struct buf *out);
/* The OPTIONS section of the program's manual page. */
void config_manual(const struct type *t, const char *default_file, struct buf *out);
