#include "net/http_target.h"

#include <string.h>
#include <strings.h>

#include "base/mem.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes len bytes of in to *out, adds a NUL and moves *out behind it. plus: '+' is a space. */
static int decode(const char *in, size_t len, bool plus, char **out, struct error *err)
{
    char *o = *out;
    for (size_t i = 0; i < len; i++) {
        char c = in[i];
        if (c == '%') {
            int high = len - i > 2 ? hex(in[i + 1]) : -1;
            int low = len - i > 2 ? hex(in[i + 2]) : -1;
            if (high < 0 || low < 0 || !(high | low))
                return error_set(err, ERROR_INVALID, "the target has a broken %%-escape");
            c = (char)(high * 16 + low);
            i += 2;
        } else if (plus && c == '+') {
            c = ' ';
        }
        *o++ = c;
    }
    *o++ = '\0';
    *out = o;
    return 0;
}

static int parse_path(const char *path, size_t len, char ***segments, size_t *count, struct error *err)
{
    size_t slashes = 0;
    for (size_t i = 0; i < len; i++)
        slashes += path[i] == '/';
    *segments = mem_array(slashes + 1, sizeof **segments);
    char *text = mem_alloc(len + 2);    /* a NUL takes each slash's place */
    char *out = text;
    (*segments)[0] = text;
    const char *end = path + len;
    for (const char *p = path + 1; p < end;) {
        const char *slash = memchr(p, '/', (size_t)(end - p));
        const char *stop = slash ? slash : end;
        (*segments)[(*count)++] = out;
        if (decode(p, (size_t)(stop - p), false, &out, err))
            return -1;
        p = stop + 1;
    }
    return 0;
}

static int parse_query(const char *text, size_t len, struct http_headers *query, struct error *err)
{
    size_t count = 1;
    for (size_t i = 0; i < len; i++)
        count += text[i] == '&';
    query->items = mem_array(count, sizeof *query->items);
    /* Each part grows by at most two NUL bytes and shrinks by none. */
    query->text = mem_alloc(len + 2 * count);
    char *out = query->text;
    const char *end = text + len;
    for (const char *p = text; p < end;) {
        const char *amp = memchr(p, '&', (size_t)(end - p));
        const char *stop = amp ? amp : end;
        const char *equal = memchr(p, '=', (size_t)(stop - p));
        const char *name_end = equal ? equal : stop;
        if (stop > p) {
            struct http_header *item = &query->items[query->count];
            item->name = out;
            if (decode(p, (size_t)(name_end - p), true, &out, err))
                return -1;
            item->value = out;
            const char *value = equal ? equal + 1 : stop;
            if (decode(value, (size_t)(stop - value), true, &out, err))
                return -1;
            query->count++;
        }
        p = stop + 1;
    }
    return 0;
}

void http_target_free(char **segments, size_t segment_count, struct http_headers *query)
{
    if (segments)
        free(segments[0]);
    free(segments);
    free(query->items);
    free(query->text);
    *query = (struct http_headers){0};
}

int http_target_parse(const char *target, char ***segments, size_t *segment_count, struct http_headers *query,
                      struct error *err)
{
    /* Proxies may send the absolute form. */
    if (!strncasecmp(target, "http://", 7) || !strncasecmp(target, "https://", 8)) {
        target = strstr(target, "://") + 3;
        target += strcspn(target, "/?#");
        if (*target != '/')
            target = "/";
    }
    if (*target != '/' && strcmp(target, "*"))
        return error_set(err, ERROR_INVALID, "the target must begin with a slash");
    size_t all = strcspn(target, "#");
    const char *mark = memchr(target, '?', all);
    size_t path_len = mark ? (size_t)(mark - target) : all;
    if (parse_path(target, path_len, segments, segment_count, err) ||
        (mark && parse_query(mark + 1, all - path_len - 1, query, err))) {
        http_target_free(*segments, *segment_count, query);
        *segments = NULL;
        *segment_count = 0;
        return -1;
    }
    return 0;
}
