/* An object as YAML in block style, without defaults and internal keys: what a person would have written. */
#include <string.h>

#include "model/json.h"
#include "model/scalar.h"
#include "model/value.h"

static void add_object(struct buf *out, const struct type *t, const void *object, int indent, bool in_list);

static void add_indent(struct buf *out, int indent)
{
    for (int i = 0; i < indent; i++)
        buf_add_string(out, "  ");
}

/* Texts that a reader would take for something else are quoted; JSON's quoting is valid YAML. */
static void add_text(struct buf *out, const char *s)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-";
    if (value_plain_kind(s) == VALUE_TEXT && !s[strspn(s, safe)] && s[0] != '-' && s[0] != '.' && strcmp(s, "---"))
        buf_add_string(out, s);
    else
        json_add_string(out, s);
}

/* YAML lets a key be 1,024 characters long before its colon; longer ones are written with a question mark. */
static void add_key(struct buf *out, const char *key, int indent)
{
    CLEANUP_BUF struct buf text = {0};
    add_text(&text, key);
    bool long_key = text.len > 1000;
    buf_add_string(out, long_key ? "? " : "");
    buf_add(out, text.data, text.len);
    if (long_key) {
        buf_add_char(out, '\n');
        add_indent(out, indent);
    }
    buf_add_string(out, ": ");
}

static void add_scalar(struct buf *out, const struct field *f, const void *value)
{
    CLEANUP_BUF struct buf text = {0};
    scalar_format(f, value, &text);
    buf_reserve(&text, 0);
    if (f->kind == FIELD_STRING && !*(char *const *)value)
        buf_add_string(out, "null");
    else if (f->kind == FIELD_ENUM || (f->kind == FIELD_STRING && !(f->flags & FIELD_BOOL_TEXT)))
        add_text(out, text.data);
    else
        buf_add_string(out, text.data);
}

static void add_field(struct buf *out, const struct field *f, const void *value, int indent)
{
    const struct list *l = value;
    switch (f->kind) {
    case FIELD_OBJECT:
        buf_add_char(out, '\n');
        add_object(out, f->type, value, indent + 1, false);
        break;
    case FIELD_LIST:
        buf_add_char(out, '\n');
        for (size_t i = 0; i < l->n; i++) {
            add_indent(out, indent + 1);
            buf_add_string(out, "- ");
            add_object(out, f->type, (const char *)l->v + i * f->type->size, indent + 2, true);
        }
        break;
    case FIELD_STR_LIST: {
        const struct str_list *texts = value;
        buf_add_string(out, " [");
        for (uint32_t i = 0; i < texts->n; i++) {
            buf_add_string(out, i ? ", " : "");
            add_text(out, texts->v[i]);
        }
        buf_add_string(out, "]\n");
        break;
    }
    case FIELD_MAP: {
        const struct kv_list *map = value;
        buf_add_char(out, '\n');
        for (uint32_t i = 0; i < map->n; i++) {
            add_indent(out, indent + 1);
            add_key(out, map->v[i].key, indent + 1);
            add_text(out, map->v[i].value);
            buf_add_char(out, '\n');
        }
        break;
    }
    default:
        buf_add_char(out, ' ');
        add_scalar(out, f, value);
        buf_add_char(out, '\n');
        break;
    }
}

/* In a list the first key stands behind the dash. */
static void add_object(struct buf *out, const struct type *t, const void *object, int indent, bool in_list)
{
    bool empty = true;
    for (const struct field *f = t->fields; f->name; f++) {
        const void *value = field_value(f, object);
        if (f->flags & (FIELD_INTERNAL | FIELD_SECRET) || field_is_default(f, value))
            continue;
        if (!empty || !in_list)
            add_indent(out, indent);
        empty = false;
        buf_add_string(out, f->yaml_name ? f->yaml_name : f->name);
        buf_add_char(out, ':');
        add_field(out, f, value, indent);
    }
    if (!empty)
        return;
    if (!in_list)
        add_indent(out, indent);
    buf_add_string(out, "{}\n");
}

void type_to_yaml(const struct type *t, const void *object, struct buf *out)
{
    add_object(out, t, object, 0, false);
}
