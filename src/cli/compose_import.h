/* What the files of the compose import share. */
#pragma once
#include "cli/compose.h"

struct import {
    const struct compose_options *options;
    struct job *job;
    struct problem_list *left;
    const struct value *root;
};

/* One service on its way. */
struct import_service {
    struct import *im;
    const char *key;                 /* its name in the compose file */
    const struct value *v;
    struct service *s;
    bool has_memory, read_only, non_root, shares_volume;
};

/* Adds to what was not translated. entry: its key gives path and place. */
void left_add(struct import_service *i, const struct value_entry *entry, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void left_add_at(struct import *im, const char *path, int line, int column, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* --- compose_text.c --- */
/* Replaces $NAME, ${NAME}, ${NAME:-default} and its like in every text of v, and $$ by $. What is not set is empty, and
 * told. */
void compose_interpolate(struct import *im, struct value *v, const char *path);
/* As a shell takes it apart: quotes and backslashes. false: a quote is not closed. */
bool compose_words(const char *text, struct str_list *out);
/* "512m", "1gb", "1048576": bytes; -1 when it is none. */
int64_t compose_bytes(const char *text);
/* "1m30s", "500ms", "10": ms; -1 when it is none. */
int64_t compose_duration(const char *text);
/* A scalar's text; "" for others. */
const char *compose_scalar(const struct value *v);
/* KEY=VALUE lines, with comments, quotes and `export`; value NULL where a line has no `=`. Cuts text into pieces. */
void compose_env_lines(struct buf *text, void (*fn)(void *arg, const char *key, const char *value), void *arg);
/* A name that Mentat takes, made of any text. The caller frees it. */
char *compose_name(const char *text);

/* --- compose_service.c, compose_place.c: one function for a key --- */
struct compose_key {
    const char *name;
    void (*take)(struct import_service *i, const struct value_entry *e);
    const char *why;                 /* take NULL: why there is nothing like it */
};
const struct compose_key *compose_service_key(const char *name);
/* After all keys. */
void compose_service_finish(struct import_service *i);

#define TAKE(name) void compose_##name(struct import_service *i, const struct value_entry *e)
TAKE(ports); TAKE(volumes); TAKE(tmpfs); TAKE(networks); TAKE(network_mode); TAKE(deploy); TAKE(depends_on);
TAKE(memory_limit); TAKE(cpus); TAKE(pids_limit);
/* Whether more services than this one have this named volume. */
bool compose_volume_is_shared(const struct import *im, const char *name);
