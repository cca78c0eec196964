/* Table: JSON from the API, printed for people as aligned columns, or for programs as JSON or YAML. */
#pragma once
#include <jansson.h>

#include "cli/cli.h"

struct column {
    const char *title;
    const char *key;             /* member of the row; "a.b" goes down */
    /* Writes the cell; NULL: the value of key as text. */
    void (*cell)(const json_t *row, const json_t *value, struct buf *out);
    bool wide;                   /* only with -o wide */
    bool right;                  /* numbers: aligned to the right */
    bool sparse;                 /* only when some row has it */
};

/* Columns as lines; states are coloured when colour. width: cuts lines; 0 does not. wide: all columns. Nothing but the
 * head for no rows. */
struct table_style { bool color, wide; int width; };
void table_format(const json_t *rows, const struct column *columns, struct table_style style, struct buf *out);
/* YAML of any JSON: block style, texts quoted where they would be read as something else. */
void yaml_format(const json_t *value, struct buf *out);

/* Prints rows by --output; id_key is what -q prints, one in a line. none: what is said instead of an empty table. */
void output_rows(const struct cli *cli, const json_t *rows, const struct column *columns, const char *id_key,
                 const char *none);
/* Prints value as JSON or YAML when that is asked for, and says so: then a command has nothing more to print. */
bool output_value(const struct cli *cli, const json_t *value);
/* "Key   value" lines of one object; empty values are left out. */
void output_facts(const struct cli *cli, const json_t *object, const struct column *columns);

/* --- cells --- */
const json_t *json_at(const json_t *object, const char *path);          /* NULL when absent */
const char *json_text(const json_t *object, const char *path);          /* "" when absent */
/* The name at the path, with the object's namespace before it where it has one. The caller's. */
char *json_qualified(const json_t *object, const char *path);
long long json_number(const json_t *object, const char *path);          /* 0 when absent */
void cell_age(const json_t *row, const json_t *value, struct buf *out);      /* "3m" since a time */
void cell_time(const json_t *row, const json_t *value, struct buf *out);     /* local time of day */
void cell_ports(const json_t *row, const json_t *value, struct buf *out);    /* "http=127.0.0.1:20001" */
/* The escape sequence of a state's colour; "" for a word that is none. */
const char *state_color(const char *state);
#define COLOR_OFF "\033[0m"
