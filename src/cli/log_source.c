#include "cli/log_source.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "cli/api.h"
#include "cli/table.h"
#include "cli/target.h"
#include "model/field.h"

#define LINE_MAX_BYTES (64 * 1024)

static bool is_json(const struct log_source *s)
{
    return s->style->cli->format == OUTPUT_JSON || s->style->cli->format == OUTPUT_YAML;
}

static void write_json(const struct log_source *s, const char *line, size_t len)
{
    CLEANUP_BUF struct buf out = {0};
    CLEANUP_FREE char *text = mem_strndup(line, len);
    for (char *p; (p = memchr(text, '\0', len));)
        *p = '\xff';                /* no text in JSON: becomes the replacement character */
    buf_add_string(&out, "{\"service\":");
    json_add_string(&out, s->service);
    buf_printf(&out, ",\"replica\":%lld,\"alloc\":\"%s\",\"node\":", s->replica, s->alloc);
    json_add_string(&out, s->node);
    buf_printf(&out, ",\"stream\":\"%s\",\"line\":", s->stream);
    json_add_string(&out, text);
    buf_add_string(&out, "}\n");
    fwrite(out.data, 1, out.len, stdout);
}

static void write_line(const struct log_source *s, const char *line, size_t len)
{
    static const char *const colors[] = {"\033[36m", "\033[33m", "\033[32m", "\033[35m", "\033[34m", "\033[31m"};
    const struct cli *cli = s->style->cli;
    if (is_json(s)) {
        write_json(s, line, len);
        return;
    }
    size_t number = s->style->by_node ? (size_t)hash_bytes(s->node, strlen(s->node), 0) : (size_t)s->replica;
    const char *color = cli->color ? colors[number % ARRAY_LEN(colors)] : "";
    fprintf(s->to, "%s%s", color, s->name);
    if (cli->format == OUTPUT_WIDE)
        fprintf(s->to, " %s on %s", s->alloc, s->node);
    fprintf(s->to, " |%s ", *color ? COLOR_OFF : "");
    fwrite(line, 1, len, s->to);
    putc('\n', s->to);
}

static void write_lines(struct log_source *s, const char *data, size_t len)
{
    if (s->mid_line)
        putc('\n', s->to);
    s->mid_line = false;
    buf_add(&s->line, data, len);
    size_t start = 0;
    for (char *end; start < s->line.len && (end = memchr(s->line.data + start, '\n', s->line.len - start));) {
        write_line(s, s->line.data + start, (size_t)(end - s->line.data) - start);
        start = (size_t)(end - s->line.data) + 1;
    }
    buf_consume(&s->line, start);
    if (s->line.len > LINE_MAX_BYTES) {
        write_line(s, s->line.data, s->line.len);
        buf_clear(&s->line);
    }
}

bool log_source_data(const char *data, size_t len, void *source)
{
    struct log_source *s = source;
    s->received += len;
    if (s->style->prefixed || is_json(s)) {
        write_lines(s, data, len);
    } else {
        fwrite(data, 1, len, s->to);
        s->mid_line = len && data[len - 1] != '\n';
    }
    return !fflush(is_json(s) ? stdout : s->to);
}

char *log_source_path(const struct log_source *s, const char *from)
{
    CLEANUP_FREE char *after = mem_printf("/logs?stream=%s%s%s%s", s->stream, s->style->query, from ? "&from=" : "",
                                          from ? from : "");
    return api_path("/v1/allocs/", s->alloc, after);
}

size_t log_sources_make(const struct log_style *style, const json_t *alloc, struct log_source *out[static 2])
{
    static const char *const streams[] = {"stdout", "stderr"};
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
        if (style->only && strcmp(style->only, streams[i]))
            continue;
        out[n] = NEW(struct log_source);
        *out[n++] = (struct log_source){
            .style = style, .alloc = mem_strdup(json_text(alloc, "id")), .replica = json_number(alloc, "replica"),
            .service = mem_strdup(json_text(alloc, "service")), .node = mem_strdup(json_text(alloc, "node_name")),
            .name = target_replica_name(alloc, style->by_node), .stream = streams[i], .to = i ? stderr : stdout,
        };
    }
    return n;
}

void log_source_free(struct log_source *s)
{
    if (s->line.len)
        write_line(s, s->line.data, s->line.len);
    fflush(s->to);
    buf_free(&s->line);
    free(s->alloc);
    free(s->service);
    free(s->name);
    free(s->node);
    free(s);
}
