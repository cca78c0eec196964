/* JSON, writing: straight to bytes, by the tables. */
#include <inttypes.h>
#include <string.h>

#include "base/timefmt.h"
#include "model/json.h"
#include "model/namespace.h"
#include "model/scalar.h"

/* How long the well-formed UTF-8 character at s is; 0 when it is not one. */
static size_t utf8_length(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t n = p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool wrong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0) || (p[0] == 0xf0 && p[1] < 0x90) ||
                 (p[0] == 0xf4 && p[1] >= 0x90);
    return wrong ? 0 : n;
}

/* The character at s when it breaks lines or terminals, or YAML's readers refuse it: C1 controls, line and paragraph
 * separators, the byte order mark, and what is no character; else 0. It is well-formed and n bytes long. */
static unsigned needs_escape(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    unsigned c = n == 2   ? (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu)
                 : n == 3 ? (p[0] & 0xfu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu)
                          : 0;
    bool escape = (c >= 0x80 && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff || c >= 0xfffe;
    return escape ? c : 0;
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

void json_add_string(struct buf *out, const char *s)
{
    if (!s) {
        buf_add(out, "null", 4);
        return;
    }
    buf_add_char(out, '"');
    while (*s) {
        size_t n = 0;
        while (is_plain((unsigned char)s[n]))
            n++;
        buf_add(out, s, n);
        s += n;
        unsigned char c = (unsigned char)*s;
        if (!c)
            break;
        static const char escaped[] = "\"\\\n\r\t\b\f", letters[] = "\"\\nrtbf";
        const char *escape = strchr(escaped, c);
        if (escape) {
            buf_add_char(out, '\\');
            buf_add_char(out, letters[escape - escaped]);
            s++;
        } else if (c < 0x20 || c == 0x7f) {
            buf_printf(out, "\\u%04x", c);
            s++;
        } else if ((n = utf8_length(s))) {
            unsigned point = needs_escape(s, n);
            if (point)
                buf_printf(out, "\\u%04x", point);
            else
                buf_add(out, s, n);
            s += n;
        } else {
            buf_add(out, "\xef\xbf\xbd", 3);   /* U+FFFD: a task may have put anything into a reason */
            s++;
        }
    }
    buf_add_char(out, '"');
}

static void add_int(struct buf *out, int64_t v)
{
    char text[24], *p = text + sizeof text;
    uint64_t n = v < 0 ? -(uint64_t)v : (uint64_t)v;
    do
        *--p = (char)('0' + n % 10);
    while (n /= 10);
    if (v < 0)
        *--p = '-';
    buf_add(out, p, (size_t)(text + sizeof text - p));
}

static void add_scalar(struct buf *out, const struct field *f, const void *value)
{
    char text[TIME_TEXT_SIZE];
    switch (f->kind) {
    case FIELD_BOOL:
        if (*(const bool *)value)
            buf_add(out, "true", 4);
        else
            buf_add(out, "false", 5);
        break;
    case FIELD_INT:
    case FIELD_SIZE_MB: add_int(out, *(const int64_t *)value); break;
    case FIELD_UINT:
        if (*(const uint64_t *)value <= INT64_MAX)
            add_int(out, *(const int64_t *)value);
        else
            buf_printf(out, "%" PRIu64, *(const uint64_t *)value);
        break;
    case FIELD_FLOAT: number_format(*(const double *)value, out); break;
    case FIELD_STRING:
        if (f->flags & FIELD_BOOL_TEXT && *(char *const *)value)
            buf_add_string(out, *(char *const *)value);
        else
            json_add_string(out, *(char *const *)value);
        break;
    case FIELD_ENUM:
        buf_add_char(out, '"');
        buf_add_string(out, enum_name(f->names, *(const int *)value));
        buf_add_char(out, '"');
        break;
    case FIELD_DURATION:
    case FIELD_TIME:
        if (f->kind == FIELD_TIME)
            time_format(text, *(const int64_t *)value);
        else
            duration_format(text, *(const int64_t *)value);
        buf_add_char(out, '"');
        buf_add_string(out, text);
        buf_add_char(out, '"');
        break;
    default: break;
    }
}

static void add_map(struct buf *out, const struct kv_list *l)
{
    buf_add_char(out, '{');
    for (uint32_t i = 0; i < l->n; i++) {
        if (i)
            buf_add_char(out, ',');
        json_add_string(out, l->v[i].key);
        buf_add_char(out, ':');
        json_add_string(out, l->v[i].value);
    }
    buf_add_char(out, '}');
}

static void add_str_list(struct buf *out, const struct str_list *l)
{
    buf_add_char(out, '[');
    for (uint32_t i = 0; i < l->n; i++) {
        if (i)
            buf_add_char(out, ',');
        json_add_string(out, l->v[i]);
    }
    buf_add_char(out, ']');
}

static void add_object(struct buf *out, const struct type *t, const void *object, enum json_style style, unsigned only);

static void add_list(struct buf *out, const struct type *t, const struct list *l, enum json_style style)
{
    buf_add_char(out, '[');
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            buf_add_char(out, ',');
        add_object(out, t, (const char *)l->v + i * t->size, style, 0);
    }
    buf_add_char(out, ']');
}

/* What is not written: secrets, what is absent, and keys of other drivers (they hold their defaults). */
static bool is_left_out(const struct field *f, const void *value, enum json_style style, unsigned only)
{
    if (f->flags & FIELD_SECRET)
        return true;
    if (style == JSON_SPARSE)
        return f->flags & FIELD_INTERNAL || (!(f->flags & FIELD_REQUIRED) && field_is_default(f, value));
    if (f->kind == FIELD_STRING && !*(char *const *)value)
        return !f->default_text;
    if (f->kind == FIELD_TIME)
        return !*(const int64_t *)value;
    if (f->kind == FIELD_ENUM && f->flags & FIELD_REQUIRED)
        return !*(const int *)value;
    return f->only && only && !(f->only & only) && field_is_default(f, value);
}

/* A qualified name as users see it, and whose it is. */
static void add_qualified(struct buf *out, const struct field *f, const char *name)
{
    char namespace[NAMESPACE_SIZE];
    json_add_string(out, namespace_bare(name));
    if (!(f->flags & FIELD_NAMESPACE) || namespace_has(NULL, name))
        return;
    buf_add_string(out, ",\"namespace\":");
    json_add_string(out, namespace_of(name, namespace));
}

static void add_object(struct buf *out, const struct type *t, const void *object, enum json_style style, unsigned only)
{
    bool first = true;
    buf_add_char(out, '{');
    for (const struct field *f = t->fields; f->name; f++) {
        const void *value = field_value(f, object);
        if (is_left_out(f, value, style, only))
            continue;
        size_t n = strlen(f->name);
        buf_reserve(out, n + 4);
        char *p = out->data + out->len;
        if (!first)
            *p++ = ',';
        first = false;
        *p++ = '"';
        memcpy(p, f->name, n);
        p += n;
        *p++ = '"';
        *p++ = ':';
        *p = '\0';
        out->len = (size_t)(p - out->data);
        if (style == JSON_SHOWN && f->flags & FIELD_QUALIFIED) {
            add_qualified(out, f, *(char *const *)value);
            continue;
        }
        switch (f->kind) {
        case FIELD_OBJECT: add_object(out, f->type, value, style, type_driver_bit(t, object)); break;
        case FIELD_LIST: add_list(out, f->type, value, style); break;
        case FIELD_STR_LIST: add_str_list(out, value); break;
        case FIELD_MAP: add_map(out, value); break;
        default: add_scalar(out, f, value);
        }
    }
    buf_add_char(out, '}');
}

unsigned type_driver_bit(const struct type *t, const void *object)
{
    for (const struct field *f = t->fields; f->name; f++)
        if (f->names == driver_kind_names) {
            int driver = *(const int *)field_value(f, object);
            return driver ? 1u << driver : 0;
        }
    return 0;
}

void type_to_json(const struct type *t, const void *object, struct buf *out)
{
    add_object(out, t, object, JSON_FULL, 0);
}

void list_to_json(const struct type *t, const struct list *l, struct buf *out)
{
    add_list(out, t, l, JSON_FULL);
}

void type_show_json(const struct type *t, const void *object, struct buf *out)
{
    add_object(out, t, object, JSON_SHOWN, 0);
}

void list_show_json(const struct type *t, const struct list *l, struct buf *out)
{
    add_list(out, t, l, JSON_SHOWN);
}

void field_to_json(const struct field *f, const void *value, enum json_style style, struct buf *out)
{
    switch (f->kind) {
    case FIELD_OBJECT: add_object(out, f->type, value, style, 0); break;
    case FIELD_LIST: add_list(out, f->type, value, style); break;
    case FIELD_STR_LIST: add_str_list(out, value); break;
    case FIELD_MAP: add_map(out, value); break;
    default: add_scalar(out, f, value);
    }
}
