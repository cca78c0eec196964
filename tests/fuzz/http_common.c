#include "http_common.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/random.h"
#include "net/http_target.h"

struct trace {
    struct buf text;        /* what was seen, in order */
    size_t body;            /* bytes of body since the last event */
};

static void on_body(void *arg, const char *data, size_t len)
{
    struct trace *t = arg;
    t->body += len;
}

static void check_head(struct trace *t, enum http_parse_side side, const struct http_head *head)
{
    buf_printf(&t->text, "head %d %d %zu %lld;", head->method, head->status, head->headers.count,
               (long long)head->content_length);
    for (size_t i = 0; i < head->headers.count; i++) {
        INVARIANT(*head->headers.items[i].name);
        INVARIANT(!strpbrk(head->headers.items[i].value, "\r\n"));
        buf_printf(&t->text, "%s=%s;", head->headers.items[i].name, head->headers.items[i].value);
    }
    INVARIANT(!(head->chunked && head->content_length >= 0));
    if (side == HTTP_PARSE_RESPONSES)
        return;
    char **segments = NULL;
    size_t count = 0;
    struct http_headers query = {0};
    struct error err;
    if (http_target_parse(head->target, &segments, &count, &query, &err)) {
        INVARIANT(!segments && !query.items);
        return;
    }
    for (size_t i = 0; i < count; i++)
        buf_printf(&t->text, "/%s", segments[i]);
    for (size_t i = 0; i < query.count; i++)
        buf_printf(&t->text, "?%s=%s", query.items[i].name, query.items[i].value);
    http_target_free(segments, count, &query);
}

/* Runs all bytes through a parser in pieces of at most `most` bytes, by the numbers of `r`. */
static void run(enum http_parse_side side, const char *data, size_t size, size_t most, struct random *r,
                struct trace *t)
{
    struct http_parse *p = http_parse_new(side, &(struct http_parse_limits){.head = 2048, .target = 512}, on_body, t);
    enum http_parse_event event = HTTP_PARSE_MORE;
    size_t at = 0;
    while (event != HTTP_PARSE_FAILED && (at < size || event == HTTP_PARSE_HEAD)) {
        size_t left = size - at, n = most ? 1 + random_below(r, most) : left;
        if (n > left)
            n = left;
        size_t used;
        event = http_parse_run(p, data + at, n, &used);
        INVARIANT(used <= n && (event != HTTP_PARSE_MORE || used == n));
        at += used;
        if (event != HTTP_PARSE_MORE && event != HTTP_PARSE_FAILED) {
            buf_printf(&t->text, "body %zu;", t->body);
            t->body = 0;
        }
        if (event == HTTP_PARSE_HEAD)
            check_head(t, side, http_parse_head(p));
        if (event == HTTP_PARSE_END)
            buf_add_string(&t->text, "end;");
    }
    if (event == HTTP_PARSE_FAILED) {
        const char *why = NULL;
        INVARIANT(http_parse_failure(p, &why) >= 400 && why);
        buf_add_string(&t->text, "failed");
    } else {
        buf_printf(&t->text, "eof %d", http_parse_eof(p) == HTTP_PARSE_FAILED);
    }
    http_parse_free(p);
}

void http_fuzz(enum http_parse_side side, const unsigned char *data, size_t size)
{
    struct random r = {hash_bytes(data, size, 1)};
    CLEANUP_BUF struct buf whole = {0};
    static const size_t pieces[] = {0, 1, 16};
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        struct trace t = {0};
        run(side, (const char *)data, size, pieces[i], &r, &t);
        buf_add_char(&t.text, '\0');
        if (!whole.len)
            buf_add(&whole, t.text.data, t.text.len);
        INVARIANT(whole.len == t.text.len && !memcmp(whole.data, t.text.data, t.text.len));
        buf_free(&t.text);
    }
}
