#include "cli/compose_import.h"

#include <ctype.h>
#include <string.h>

#include "base/text.h"
#include "base/timefmt.h"

#define DEPTH_MAX 8                  /* of ${A:-${B:-…}} */

const char *compose_scalar(const struct value *v)
{
    return v && v->kind < VALUE_LIST && v->text ? v->text : "";
}

char *compose_name(const char *text)
{
    return text_make_name(text, "service");
}

/* --- variables --- */

struct place {
    struct import *im;
    const char *path;
    int line, column;
};

static void expand(const struct place *at, const char *text, size_t len, int depth, struct buf *out);

static bool is_name_char(char c, bool first)
{
    return isalpha((unsigned char)c) || c == '_' || (!first && isdigit((unsigned char)c));
}

static size_t name_length(const char *p, const char *end)
{
    size_t n = 0;
    while (p + n < end && is_name_char(p[n], n == 0))
        n++;
    return n;
}

/* The brace that closes the one before p; NULL. */
static const char *closing(const char *p, const char *end)
{
    for (int open = 1; p < end; p++) {
        if (p[0] == '$' && p + 1 < end && p[1] == '{')
            open++;
        else if (*p == '}' && --open == 0)
            return p;
    }
    return NULL;
}

static void not_set(const struct place *at, const char *name)
{
    left_add_at(at->im, at->path, at->line, at->column, "$%.60s is not set: nothing stands for it; give it with --var %.60s=VALUE",
                name, name);
}

/* What stands between the braces. */
static void expand_braced(const struct place *at, const char *p, const char *end, int depth, struct buf *out)
{
    size_t n = name_length(p, end);
    CLEANUP_FREE char *name = mem_strndup(p, n);
    const char *value = n ? at->im->options->variable(at->im->options->ctx, name) : NULL, *rest = p + n;
    bool even_empty = rest < end && *rest == ':';
    rest += even_empty;
    bool there = value && (*value || !even_empty);
    char sign = rest < end ? *rest : 0;
    if (!n || (sign && !strchr("-?+", sign)) || (even_empty && !sign)) {
        left_add_at(at->im, at->path, at->line, at->column, "${%.*s} is not understood and left out",
                    end - p > 60 ? 60 : (int)(end - p), p);
    } else if (sign == '+') {
        if (there)
            expand(at, rest + 1, (size_t)(end - rest - 1), depth + 1, out);
    } else if (there) {
        buf_add_string(out, value);
    } else if (sign == '-') {
        expand(at, rest + 1, (size_t)(end - rest - 1), depth + 1, out);
    } else if (sign == '?') {
        left_add_at(at->im, at->path, at->line, at->column, "$%.60s has to be set: %.*s", name,
                    end - rest > 100 ? 100 : (int)(end - rest - 1), rest + 1);
    } else {
        not_set(at, name);
    }
}

static void expand(const struct place *at, const char *p, size_t len, int depth, struct buf *out)
{
    const char *end = p + len;
    while (p < end) {
        if (*p != '$' || p + 1 == end) {
            buf_add_char(out, *p++);
            continue;
        }
        size_t n = name_length(p + 1, end);
        const char *close = p[1] == '{' ? closing(p + 2, end) : NULL;
        if (p[1] == '$') {
            buf_add_char(out, '$');
            p += 2;
        } else if (close && depth < DEPTH_MAX) {
            expand_braced(at, p + 2, close, depth, out);
            p = close + 1;
        } else if (n) {
            CLEANUP_FREE char *name = mem_strndup(p + 1, n);
            const char *value = at->im->options->variable(at->im->options->ctx, name);
            if (value)
                buf_add_string(out, value);
            else
                not_set(at, name);
            p += 1 + n;
        } else {
            buf_add_char(out, *p++);
        }
    }
}

void compose_interpolate(struct import *im, struct value *v, const char *path)
{
    if (v->kind == VALUE_TEXT && strchr(v->text, '$')) {
        struct buf out = {0};
        expand(&(struct place){im, path, v->line, v->column}, v->text, strlen(v->text), 0, &out);
        free(v->text);
        v->text = out.data ? buf_steal(&out) : mem_strdup("");
        if (!text_is_utf8(v->text, strlen(v->text)))
            mem_set_string(&v->text, "");
        if (v->loose)
            v->kind = *v->text ? value_plain_kind(v->text) : VALUE_TEXT;
    }
    for (uint32_t i = 0; i < v->n; i++) {
        const char *key = v->entries[i].key;
        CLEANUP_FREE char *inner = key ? mem_printf("%s%s%s", path, *path ? "." : "", key) : mem_printf("%s[%u]", path, i);
        compose_interpolate(im, &v->entries[i].value, inner);
    }
}

/* --- other notations --- */

bool compose_words(const char *p, struct str_list *out)
{
    CLEANUP_BUF struct buf word = {0};
    bool in_word = false;
    char quote = 0;
    for (; *p; p++) {
        if (!quote && isspace((unsigned char)*p)) {
            if (in_word)
                str_list_add(out, word.data ? word.data : "");
            in_word = false;
            buf_clear(&word);
            continue;
        }
        in_word = true;
        if (quote ? *p == quote : *p == '"' || *p == '\'')
            quote = quote ? 0 : *p;
        else if (*p == '\\' && p[1] && (!quote || (quote == '"' && strchr("\"\\$`", p[1]))))
            buf_add_char(&word, *++p);
        else
            buf_add_char(&word, *p);
    }
    if (in_word)
        str_list_add(out, word.data ? word.data : "");
    return !quote;
}

void compose_env_lines(struct buf *text, void (*fn)(void *arg, const char *key, const char *value), void *arg)
{
    char *rest = text->len ? text->data : NULL, *end;
    for (char *line; rest && (line = strsep(&rest, "\n")); ) {
        line += strspn(line, " \t\r");
        if (text_has_prefix(line, "export "))
            line += strlen("export ");
        for (end = line + strlen(line); end > line && isspace((unsigned char)end[-1]); )
            *--end = 0;
        char *equals = strchr(line, '='), *value = equals ? equals + 1 + strspn(equals + 1, " \t") : NULL;
        if (*line == '#' || !*line || equals == line)
            continue;
        if (equals)
            *equals = 0;
        bool quoted = value && (*value == '"' || *value == '\'') && strlen(value) > 1 && value[strlen(value) - 1] == *value;
        if (quoted)
            value[strlen(value) - 1] = 0;
        else if (value && (end = strstr(value, " #")))
            *end = 0;
        value += quoted;
        fn(arg, line, value);
    }
}

int64_t compose_bytes(const char *text)
{
    static const char units[] = "bkmgt";
    char *end;
    double n = strtod(text, &end);
    if (end == text || !(n >= 0))
        return -1;
    while (*end == ' ')
        end++;
    const char *unit = *end ? strchr(units, tolower((unsigned char)*end)) : units;
    if (!unit)
        return -1;
    if (*end) {
        end++;
        if (tolower((unsigned char)*end) == 'i')
            end++;
        if (tolower((unsigned char)*end) == 'b')
            end++;
    }
    for (long k = unit - units; k > 0; k--)
        n *= 1024;
    return *end || n > 1e15 ? -1 : (int64_t)n;
}

int64_t compose_duration(const char *text)
{
    int64_t ms;
    bool bare = *text && strspn(text, "0123456789") == strlen(text);
    CLEANUP_FREE char *seconds = bare ? mem_printf("%ss", text) : mem_strdup(text);
    return duration_parse(seconds, &ms) == 0 ? ms : -1;
}
