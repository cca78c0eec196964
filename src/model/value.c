#include "model/value.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum value_kind value_plain_kind(const char *text)
{
    if (!*text || !strcmp(text, "~") || !strcmp(text, "null"))
        return VALUE_NULL;
    if (!strcmp(text, "true") || !strcmp(text, "false"))
        return VALUE_BOOL;
    const char *digits = text + (*text == '-' || *text == '+');
    char *end;
    strtod(text, &end);
    return !*end && strspn(digits, "0123456789") ? VALUE_NUMBER : VALUE_TEXT;
}

void value_clear(struct value *v)
{
    for (uint32_t i = 0; i < v->n; i++) {
        free(v->entries[i].key);
        value_clear(&v->entries[i].value);
    }
    free(v->entries);
    free(v->text);
    *v = (struct value){0};
}

void value_copy(struct value *to, const struct value *from)
{
    *to = (struct value){.kind = from->kind, .text = mem_strdup(from->text), .line = from->line, .column = from->column,
                         .loose = from->loose};
    for (uint32_t i = 0; i < from->n; i++) {
        value_add(to, from->entries[i].key);
        to->entries[i].line = from->entries[i].line;
        to->entries[i].column = from->entries[i].column;
        value_copy(&to->entries[i].value, &from->entries[i].value);
    }
}

struct value *value_add(struct value *container, const char *key)
{
    /* Powers of two: grown when n reaches one. */
    if (!(container->n & (container->n - 1)))
        container->entries = mem_realloc_array(container->entries, container->n ? 2 * (size_t)container->n : 1,
                                               sizeof *container->entries);
    struct value_entry *entry = &container->entries[container->n++];
    *entry = (struct value_entry){.key = mem_strdup(key)};
    return &entry->value;
}

const struct value_entry *value_get(const struct value *map, const char *key)
{
    for (uint32_t i = 0; map->kind == VALUE_MAP && i < map->n; i++)
        if (!strcmp(map->entries[i].key, key))
            return &map->entries[i];
    return NULL;
}

void value_describe(const struct value *v, struct buf *out)
{
    switch (v->kind) {
    case VALUE_NULL: buf_add_string(out, "nothing"); break;
    case VALUE_LIST: buf_add_string(out, "a list"); break;
    case VALUE_MAP: buf_add_string(out, "a map"); break;
    case VALUE_TEXT: buf_printf(out, v->loose ? "`%.80s`" : "the text \"%.80s\"", v->text); break;
    default: buf_printf(out, "`%.80s`", v->text); break;
    }
}

static const struct value *step_into(const struct value *v, const char *part, size_t n, const char **rest)
{
    if (*part == '[') {
        char *end;
        unsigned long i = strtoul(part + 1, &end, 10);
        *rest = end + (*end == ']');
        return v->kind == VALUE_LIST && i < v->n ? &v->entries[i].value : NULL;
    }
    *rest = part + n;
    for (uint32_t i = 0; v->kind == VALUE_MAP && i < v->n; i++)
        if (strlen(v->entries[i].key) == n && !memcmp(v->entries[i].key, part, n))
            return &v->entries[i].value;
    return NULL;
}

const struct value *value_at(const struct value *root, const char *path)
{
    const struct value *at = root;
    while (*path) {
        if (*path == '.')
            path++;
        const struct value *next = step_into(at, path, strcspn(path, ".["), &path);
        if (!next)
            break;
        at = next;
    }
    return at;
}

void problem_add_at(struct problem_list *l, const char *path, int line, int column, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    CLEANUP_FREE char *message = NULL;
    INVARIANT(vasprintf(&message, fmt, ap) >= 0);
    va_end(ap);
    uint32_t before = l->n;
    problem_add(l, path, "%s", message);
    if (l->n > before && l->n <= PROBLEMS_MAX) {
        l->v[before].line = line;
        l->v[before].column = column;
    }
}

/* --- taking apart what another program wrote --- */

const struct value *value_path(const struct value *v, const char *path)
{
    char key[64];
    while (v && *path) {
        size_t n = strcspn(path, "/");
        const struct value_entry *found = NULL;
        if (v->kind == VALUE_MAP && n < sizeof key) {
            snprintf(key, sizeof key, "%.*s", (int)n, path);
            found = value_get(v, key);
        }
        v = found ? &found->value : NULL;
        path += n + (path[n] == '/');
    }
    return v;
}

const char *value_text(const struct value *v, const char *path)
{
    const struct value *at = value_path(v, path);
    return at && at->kind == VALUE_TEXT ? at->text : NULL;
}

int64_t value_number(const struct value *v, const char *path)
{
    const struct value *at = value_path(v, path);
    return at && at->kind == VALUE_NUMBER ? strtoll(at->text, NULL, 10) : 0;
}

bool value_true(const struct value *v, const char *path)
{
    const struct value *at = value_path(v, path);
    return at && at->kind == VALUE_BOOL && !strcmp(at->text, "true");
}
