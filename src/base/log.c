#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/timefmt.h"

#define LIMIT_LINES 10
#define LIMIT_MS 10000

static const char *const level_names[] = {"debug", "info", "warn", "error", "fatal"};
static const char *log_component = "mentat";
static enum log_level log_threshold = LOG_INFO;

void log_init(const char *component, enum log_level level)
{
    log_component = component;
    log_threshold = level;
}

int log_level_parse(const char *s, enum log_level *level)
{
    for (enum log_level l = LOG_DEBUG; l <= LOG_ERROR; l++)
        if (!strcmp(s, level_names[l])) {
            *level = l;
            return 0;
        }
    return -1;
}

static void add_value(struct buf *b, const char *v)
{
    if (!v)
        v = "";
    if (*v && !v[strcspn(v, " \t\r\n\"\\=")]) {
        buf_add_string(b, v);
        return;
    }
    buf_add_char(b, '"');
    for (; *v; v++) {
        unsigned char c = (unsigned char)*v;
        if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else if (c == '\n')
            buf_add_string(b, "\\n");
        else if (c < 0x20 || c == 0x7f)
            buf_printf(b, "\\x%02x", c);
        else
            buf_add_char(b, (char)c);
    }
    buf_add_char(b, '"');
}

void log_write(enum log_level level, const char *msg, ...)
{
    if (level < log_threshold)
        return;
    CLEANUP_BUF struct buf b = {0};
    char time[TIME_TEXT_SIZE];
    time_format(time, time_now_ms());
    buf_printf(&b, "time=%s level=%s component=%s msg=", time, level_names[level], log_component);
    add_value(&b, msg);
    va_list ap;
    va_start(ap, msg);
    const char *key;
    while ((key = va_arg(ap, const char *))) {
        buf_printf(&b, " %s=", key);
        add_value(&b, va_arg(ap, const char *));
    }
    va_end(ap);
    buf_add_char(&b, '\n');
    /* A log that cannot be written must not stop the program. */
    ssize_t ignored = write(STDERR_FILENO, b.data, b.len);
    (void)ignored;
}

const char *log_number(char *out, unsigned long long v)
{
    snprintf(out, 21, "%llu", v);
    return out;
}

const char *log_signed(char *out, long long v)
{
    snprintf(out, 22, "%lld", v);
    return out;
}

bool log_limit_allows(struct log_limit *l, int64_t now_ms, uint64_t *unsaid)
{
    if (!l->said || now_ms >= l->since_ms + LIMIT_MS)
        *l = (struct log_limit){.since_ms = now_ms, .unsaid = l->unsaid};
    if (l->said == LIMIT_LINES) {
        l->unsaid++;
        return false;
    }
    l->said++;
    *unsaid = l->unsaid;
    l->unsaid = 0;
    return true;
}
