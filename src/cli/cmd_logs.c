/* Logs. Without -f the streams come one after the other; with -f side by side, each line when it is complete, so that
 * lines of several replicas never mix. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/timefmt.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/target.h"
#include "cli/views.h"

#define LINE_MAX_BYTES (64 * 1024)

struct source {
    char *path;
    char *prefix;                /* NULL: bytes pass as they are */
    const char *color;
    FILE *to;
    struct buf line;
};

static void write_line(struct source *s, const char *line, size_t len)
{
    fprintf(s->to, "%s%s%s ", s->color, s->prefix, *s->color ? COLOR_OFF : "");
    fwrite(line, 1, len, s->to);
    putc('\n', s->to);
}

static bool on_data(const char *data, size_t len, void *arg)
{
    struct source *s = arg;
    if (!s->prefix) {
        fwrite(data, 1, len, s->to);
        return !fflush(s->to);
    }
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
    return !fflush(s->to);
}

/* --since: a time, or how long ago. */
static int add_since(const char *text, struct buf *query, struct error *err)
{
    int64_t ms;
    char time[TIME_TEXT_SIZE];
    if (!duration_parse(text, &ms))
        ms = time_now_ms() - ms;
    else if (time_parse(text, &ms))
        return error_set(err, ERROR_INVALID, "--since: \"%.64s\" is neither a duration such as 10m nor a time such as "
                         "2026-01-31T12:00:00Z", text);
    time_format(time, ms > 0 ? ms : 1);
    buf_add_string(query, "&since=");
    http_add_encoded(query, time);
    return 0;
}

static int make_query(const struct cli *cli, struct buf *query, struct error *err)
{
    long long tail = -1;
    const char *since = args_get(cli->args, "since");
    if (args_number(cli->args, "tail", 0, 1000000000, &tail, err) || (since && add_since(since, query, err)))
        return -1;
    if (tail >= 0)
        buf_printf(query, "&tail=%lld", tail);
    if (args_has(cli->args, "follow"))
        buf_add_string(query, "&follow=true");
    return 0;
}

static void add_sources(const struct cli *cli, const json_t *alloc, bool prefixed, const char *query, struct source *out,
                        size_t *n)
{
    static const char *const colors[] = {"\033[36m", "\033[33m", "\033[32m", "\033[35m", "\033[34m", "\033[31m"};
    static const char *const streams[] = {"stdout", "stderr"};
    const char *only = args_has(cli->args, "stderr") ? "stderr" : args_has(cli->args, "stdout") ? "stdout" : NULL;
    long long replica = json_number(alloc, "replica");
    for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
        if (only && strcmp(only, streams[i]))
            continue;
        CLEANUP_FREE char *after = mem_printf("/logs?stream=%s%s", streams[i], query);
        out[(*n)++] = (struct source){
            .path = api_path("/v1/allocs/", json_text(alloc, "id"), after),
            .prefix = prefixed ? mem_printf("%s/%lld |", json_text(alloc, "service"), replica) : NULL,
            .color = prefixed && cli->color ? colors[(size_t)replica % ARRAY_LEN(colors)] : "",
            /* With -f a terminal shows both; a pipe keeps them apart. */
            .to = i ? stderr : stdout,
        };
    }
}

/* What follows the last end of line. */
static void end_line(struct source *s)
{
    if (s->line.len)
        write_line(s, s->line.data, s->line.len);
    buf_free(&s->line);
}

static void end_source(struct source *s)
{
    free(s->path);
    free(s->prefix);
}

static int read_all(struct cli *cli, struct source *sources, size_t n, bool follow)
{
    struct api_part *parts = mem_array(n + 1, sizeof *parts);
    size_t group = follow ? n : 1;
    int status = STATUS_DONE;
    for (size_t i = 0; i < n; i++)
        parts[i] = (struct api_part){.path = sources[i].path, .on_data = on_data, .arg = &sources[i]};
    for (size_t i = 0; i < n; i += group) {
        api_stream_all(cli->api, parts + i, group);
        for (size_t k = i; k < i + group; k++)
            end_line(&sources[k]);
    }
    for (size_t i = 0; i < n; i++) {
        if (parts[i].error.code != ERROR_NONE)
            status = cli_fail(cli, &parts[i].error);
        end_source(&sources[i]);
    }
    free(parts);
    return status;
}

static json_t *find_allocs(struct cli *cli, struct error *err)
{
    struct target t = {0};
    if (target_find(cli, cli_operand(cli, 0), &t, err))
        return NULL;
    json_t *allocs = t.kind == TARGET_ALLOC ? json_pack("[O]", t.json) : target_allocs(cli, t.name, false, err);
    /* A task that is complete and not wanted any more still has its logs. */
    if (allocs && !json_array_size(allocs)) {
        json_decref(allocs);
        allocs = target_allocs(cli, t.name, true, err);
    }
    if (allocs && !json_array_size(allocs)) {
        json_decref(allocs);
        allocs = NULL;
        error_set(err, ERROR_NOT_FOUND, "service %s has no allocation yet; `mt explain %s` says why", t.name, t.name);
    }
    target_clear(&t);
    return allocs;
}

static int run(struct cli *cli)
{
    struct error err = {0};
    CLEANUP_BUF struct buf query = {0};
    if (make_query(cli, &query, &err))
        return cli_fail(cli, &err);
    CLEANUP(json_decref) json_t *allocs = find_allocs(cli, &err);
    if (!allocs)
        return cli_fail(cli, &err);
    size_t i, n = 0, count = json_array_size(allocs);
    json_t *a;
    struct source *sources = mem_array(count * 2, sizeof *sources);
    json_array_foreach(allocs, i, a)
        add_sources(cli, a, count > 1, query.data ? query.data : "", sources, &n);
    int status = read_all(cli, sources, n, args_has(cli->args, "follow"));
    free(sources);
    return status;
}

static const struct option_row options[] = {
    {"follow", 'f', NULL, "Goes on with what is written from now on, until the task ends or Ctrl-C.", NULL},
    {"tail", 'n', "N", "Only the last N lines.", NULL},
    {"since", 0, "T", "Only what was written since: 10m, or 2026-01-31T12:00:00Z.", NULL},
    {"stderr", 0, NULL, "Only the standard error of the task.", NULL},
    {"stdout", 0, NULL, "Only its standard output.", NULL},
    {0},
};

const struct command_row cmd_logs = {
    .name = "logs", .operands = "SERVICE[/N]|ALLOC", .min = 1, .max = 1, .kind = OPERAND_SERVICE, .options = options,
    .run = run, .summary = "what tasks wrote: of all replicas of a service, or of one",
    .help = "The task's standard output goes to standard output, its standard error to standard error.",
};
