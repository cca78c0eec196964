/* Events as a list of what is kept, and with -f as the server sends them. A stream that breaks is taken up again behind
 * the last event that was told. */
#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/event_stream.h"
#include "cli/lost.h"
#include "cli/views.h"

#define TAIL_DEFAULT 100
#define QUIET_MS 40000          /* a server writes something every 15 s */

struct follow_events {
    struct cli *cli;
    struct event_stream stream;
    struct lost lost;
    bool greeted;                /* what comes first says no more than that there is a server */
    char position[64];           /* "INDEX-SEQ" of the last event told */
    struct error error;          /* why the server ended the stream, when it said so */
};

static void tell(struct follow_events *f, const json_t *event)
{
    lost_over(&f->lost, f->cli);
    snprintf(f->position, sizeof f->position, "%lld-%lld", json_number(event, "index"), json_number(event, "seq"));
    if (f->cli->format == OUTPUT_JSON || f->cli->format == OUTPUT_YAML) {
        json_dumpf(event, stdout, JSON_COMPACT);
        putchar('\n');
    } else {
        CLEANUP_BUF struct buf out = {0};
        CLEANUP(json_decref) json_t *rows = json_pack("[O]", event);
        table_format(rows, view_events, (struct table_style){.color = f->cli->color}, &out);
        fputs(strchr(out.data, '\n') + 1, stdout);      /* without the head */
    }
    fflush(stdout);
}

static bool on_event(void *arg, bool is_error, const char *data)
{
    struct follow_events *f = arg;
    CLEANUP(json_decref) json_t *json = json_loads(data, 0, NULL);
    if (is_error)
        error_set(&f->error, error_code_from_name(json_text(json, "error.code")), "%s", json_text(json, "error.message"));
    else if (json)
        tell(f, json);
    return !is_error;
}

static bool on_data(const char *data, size_t len, void *arg)
{
    struct follow_events *f = arg;
    if (f->greeted)
        lost_over(&f->lost, f->cli);
    f->greeted = true;
    return event_stream_add(&f->stream, data, len, on_event, f);
}

static void add_filters(const struct cli *cli, struct buf *path)
{
    static const char *const names[] = {"service", "kind"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *value = i ? args_get(cli->args, names[i]) : cli_operand(cli, 0);
        if (!value)
            continue;
        buf_printf(path, "&%s=", names[i]);
        http_add_encoded(path, value);
    }
}

static int follow(struct cli *cli, struct follow_events *f, struct error *err)
{
    for (;;) {
        CLEANUP_BUF struct buf path = {0};
        buf_printf(&path, "/v1/events?index=%s", f->position);
        add_filters(cli, &path);
        event_stream_clear(&f->stream);
        f->error = (struct error){0};
        f->greeted = false;
        int rc = api_stream(cli->api, path.data, QUIET_MS, on_data, f, err);
        if (rc == 0 && f->error.code != ERROR_NONE)
            *err = f->error;
        else if (rc == 0)
            error_set(err, ERROR_UNAVAILABLE, "%s ended the stream of events", api_address(cli->api));
        if (!lost_wait(&f->lost, cli, err))
            return -1;
    }
}

/* The last `tail` rows. */
static json_t *last_rows(const json_t *list, size_t tail)
{
    size_t n = json_array_size(list);
    json_t *out = json_array();
    for (size_t i = n > tail ? n - tail : 0; i < n; i++)
        json_array_append(out, json_array_get(list, i));
    return out;
}

static int run(struct cli *cli)
{
    struct error err = {0};
    long long tail = TAIL_DEFAULT;
    if (args_number(cli->args, "tail", 0, 1000000, &tail, &err))
        return cli_fail(cli, &err);
    struct api *api = cli_api(cli, &err);
    CLEANUP_BUF struct buf path = {0};
    buf_add_string(&path, "/v1/events?limit=1000");
    add_filters(cli, &path);
    CLEANUP(json_decref) json_t *list = api ? api_list(api, path.data, &err) : NULL;
    if (!list)
        return cli_fail(cli, &err);
    CLEANUP(json_decref) json_t *rows = last_rows(list, (size_t)tail);
    if (!args_has(cli->args, "follow")) {
        output_rows(cli, rows, view_events, "subject", "no events");
        return STATUS_DONE;
    }
    struct follow_events f = {.cli = cli, .position = "0"};
    const json_t *newest = json_array_get(list, json_array_size(list) - 1);
    size_t i;
    json_t *event;
    json_array_foreach(rows, i, event)
        tell(&f, event);
    if (newest)
        snprintf(f.position, sizeof f.position, "%lld-%lld", json_number(newest, "index"), json_number(newest, "seq"));
    follow(cli, &f, &err);
    event_stream_clear(&f.stream);
    return cli_fail(cli, &err);
}

static const char *const kinds[] = {"job", "service", "alloc", "node", "deployment", NULL};
static const struct option_row options[] = {
    {"follow", 'f', NULL, "Goes on with what happens from now on, until Ctrl-C.", NULL},
    {"kind", 0, "KIND", "Only events of this kind: job, service, alloc, node or deployment.", kinds},
    {"tail", 'n', "N", "How many of the past are told; default 100.", NULL},
    {0},
};

const struct command_row cmd_events = {
    .name = "events", .operands = "[SERVICE]", .max = 1, .kind = OPERAND_SERVICE, .options = options, .run = run,
    .summary = "what happened: each transition with its time and reason",
};
