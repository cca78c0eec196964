#include "cli/event_stream.h"

#include <string.h>

#include "base/text.h"

#define LINE_LIMIT (1024 * 1024)

void event_stream_clear(struct event_stream *s)
{
    buf_free(&s->line);
    s->is_error = false;
}

static bool take_line(struct event_stream *s, const char *line,
                      bool (*on_event)(void *arg, bool is_error, const char *data), void *arg)
{
    if (text_has_prefix(line, "event: "))
        s->is_error = !strcmp(line + 7, "error");
    else if (text_has_prefix(line, "data: "))
        return on_event(arg, s->is_error, line + 6);
    return true;
}

bool event_stream_add(struct event_stream *s, const char *data, size_t len,
                      bool (*on_event)(void *arg, bool is_error, const char *data), void *arg)
{
    buf_add(&s->line, data, len);
    size_t used = 0;
    bool more = true;
    for (char *end; more && s->line.len > used && (end = memchr(s->line.data + used, '\n', s->line.len - used));) {
        *end = '\0';
        more = take_line(s, s->line.data + used, on_event, arg);
        used = (size_t)(end - s->line.data) + 1;
    }
    buf_consume(&s->line, used);
    return more && s->line.len < LINE_LIMIT;
}
