#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/jobfile.h"
#include "cli/table.h"

static void cell_replica(const json_t *row, const json_t *value, struct buf *out)
{
    buf_printf(out, "%s/%lld", json_text(row, "service"), json_number(row, "replica"));
}

static const struct column steps[] = {
    {"REPLICA", "service", cell_replica}, {"ACTION", "action"}, {"NODE", "node_name"}, {"ALLOC", "alloc"}, {"WHY", "why"}, {0},
};

static const struct { const char *action, *mark, *color; } marks[] = {
    {"create", "+", "\033[32m"}, {"change", "~", "\033[33m"}, {"keep", " ", ""}, {"delete", "-", "\033[31m"},
};

static void print_change(const json_t *c)
{
    const json_t *before = json_at(c, "before"), *after = json_at(c, "after");
    CLEANUP_BUF struct buf line = {0};
    buf_printf(&line, "%s: ", json_text(c, "path"));
    if (json_is_string(before))
        buf_printf(&line, "%s → ", json_string_value(before));
    buf_add_string(&line, json_is_string(after) ? json_string_value(after) : "(removed)");
    text_tame(line.data, false);
    printf("    %s%s\n", line.data, json_is_true(json_at(c, "restart")) ? "   (replaces replicas)" : "");
}

static void print_service(const struct cli *cli, const json_t *s)
{
    const char *action = json_text(s, "action"), *mark = "?", *color = "";
    for (size_t i = 0; i < ARRAY_LEN(marks); i++)
        if (!strcmp(marks[i].action, action)) {
            mark = marks[i].mark;
            color = cli->color ? marks[i].color : "";
        }
    printf("%s%s %s%s: %s", color, mark, json_text(s, "name"), *color ? COLOR_OFF : "", action);
    size_t i;
    json_t *c;
    if (json_is_string(json_at(s, "profile")))
        printf("   (profile %s", json_text(s, "profile"));
    json_array_foreach(json_at(s, "loosened"), i, c)
        printf("%s%s", i ? ", " : ", and beyond it ", json_string_value(c));
    printf("%s\n", json_is_string(json_at(s, "profile")) ? ")" : "");
    /* Everything of a new service is a change; the file says it better. */
    if (strcmp(action, "create"))
        json_array_foreach(json_at(s, "changes"), i, c)
            print_change(c);
}

static int show(struct cli *cli, const struct job *job)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP_BUF struct buf body = {0};
    CLEANUP(json_decref) json_t *plan = NULL;
    type_to_json(&job_type, job, &body);
    if (!api || api_call(api, HTTP_METHOD_POST, "/v1/plan", &body, &plan, NULL, &err))
        return cli_fail(cli, &err);
    if (output_value(cli, plan))
        return STATUS_DONE;
    size_t i;
    json_t *s;
    json_array_foreach(json_at(plan, "services"), i, s)
        print_service(cli, s);
    printf("\n");
    output_rows(cli, json_at(plan, "steps"), steps, "alloc", "no replica starts, stops or moves");
    return STATUS_DONE;
}

static int run(struct cli *cli)
{
    struct job job;
    int status = jobfile_read(cli, &job);
    if (status == STATUS_DONE)
        status = show(cli, &job);
    type_clear(&job_type, &job);
    return status;
}

static const struct option_row options[] = {JOBFILE_VAR_OPTION, {0}};

const struct command_row cmd_plan = {
    .name = "plan", .operands = "FILE", .min = 1, .max = 1, .kind = OPERAND_FILE, .options = options, .run = run,
    .summary = "what `run` would change, start, stop and keep, and why; changes nothing",
};
