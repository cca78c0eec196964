#include <stdlib.h>
#include <string.h>

#include "cli/table.h"

#define STEP 2

/* True for texts that stand in YAML as they are and are read back as texts by any reader. */
static bool is_plain(const char *s)
{
    static const char *const words[] = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"};
    size_t len = strlen(s);
    if (!len || strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+ ") != len)
        return false;
    /* What begins like a number may be one, a time, or octal, in some version of YAML. */
    if (strchr("0123456789.-+ ", s[0]) || s[len - 1] == ' ')
        return false;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (!strcasecmp(words[i], s))
            return false;
    return true;
}

static void add_scalar(const json_t *v, struct buf *out)
{
    const char *s = json_string_value(v);
    if (s && is_plain(s)) {
        buf_add_string(out, s);
        return;
    }
    /* JSON's form of texts, numbers and empty containers is YAML's too. */
    char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    buf_add_string(out, text ? text : "null");
    free(text);
}

static bool is_block(const json_t *v)
{
    return (json_is_object(v) && json_object_size(v)) || (json_is_array(v) && json_array_size(v));
}

/* Writes v at the current place of a line; the lines of a block that follow are indented by `indent`. */
static void add_value(const json_t *v, int indent, struct buf *out)
{
    size_t i, n = 0;
    const char *key;
    json_t *item;
    if (!is_block(v)) {
        add_scalar(v, out);
        buf_add_char(out, '\n');
        return;
    }
    json_array_foreach(v, i, item) {
        if (n++)
            buf_printf(out, "%*s", indent, "");
        buf_add_string(out, "- ");
        add_value(item, indent + STEP, out);
    }
    json_object_foreach((json_t *)(uintptr_t)v, key, item) {
        if (n++)
            buf_printf(out, "%*s", indent, "");
        json_t *name = json_string(key);
        add_scalar(name, out);
        json_decref(name);
        buf_add_char(out, ':');
        if (!is_block(item)) {
            buf_add_char(out, ' ');
        } else {
            buf_printf(out, "\n%*s", indent + STEP, "");
        }
        add_value(item, indent + STEP, out);
    }
}

void yaml_format(const json_t *value, struct buf *out)
{
    add_value(value, 0, out);
}
