/* Logs. Without -f the streams come one after the other; with -f side by side, each line when it is complete, so that
 * lines of several replicas never mix. */
#include <stdlib.h>
#include <string.h>

#include "base/timefmt.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/log_follow.h"
#include "cli/table.h"

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

static int read_one(struct cli *cli, struct log_source *source)
{
    struct error err = {0};
    CLEANUP_FREE char *path = log_source_path(source, NULL);
    return api_stream(cli->api, path, 0, log_source_data, source, &err) ? cli_fail(cli, &err) : STATUS_DONE;
}

static json_t *find_allocs(struct cli *cli, const struct target *t, struct error *err)
{
    json_t *allocs = t->kind == TARGET_ALLOC ? json_pack("[O]", t->json) : target_allocs(cli, t->name, false, err);
    /* A task that is complete and not wanted any more still has its logs. */
    if (allocs && !json_array_size(allocs)) {
        json_decref(allocs);
        allocs = target_allocs(cli, t->name, true, err);
    }
    if (allocs && !json_array_size(allocs)) {
        json_decref(allocs);
        allocs = NULL;
        error_set(err, ERROR_NOT_FOUND, "service %s has no allocation yet; `mt explain %s` says why", t->name, t->name);
    }
    return allocs;
}

static int read_all(struct cli *cli, const struct target *target, struct log_style *style)
{
    struct error err = {0};
    CLEANUP(json_decref) json_t *allocs = find_allocs(cli, target, &err);
    if (!allocs)
        return cli_fail(cli, &err);
    size_t i;
    json_t *a;
    int status = STATUS_DONE;
    style->by_node = target->kind == TARGET_SERVICE && target_by_node(target->json);
    style->prefixed = json_array_size(allocs) > 1 && !cli->quiet;
    json_array_foreach(allocs, i, a) {
        struct log_source *sources[2];
        size_t n = log_sources_make(style, a, sources);
        for (size_t k = 0; k < n; k++) {
            int read = read_one(cli, sources[k]);
            status = read ? read : status;
            log_source_free(sources[k]);
        }
    }
    return status;
}

/* With -f the replica is followed from one allocation to the next: the service is what is looked up. */
static int follow(struct cli *cli, struct log_style *style)
{
    struct error err = {0};
    struct target target = {0};
    const char *word = cli_operand(cli, 0), *mark = strpbrk(word, "/@");
    CLEANUP_FREE char *name = mem_strndup(word, mark ? (size_t)(mark - word) : strlen(word));
    struct log_choice choice = {.replica = -1, .node = mark && *mark == '@' ? mark + 1 : NULL};
    if ((mark && *mark == '/' && number_parse("the replica's number", mark + 1, 0, 1000000, &choice.replica, &err)) ||
        target_find(cli, name, &target, &err))
        return cli_fail(cli, &err);
    style->by_node = target.kind == TARGET_SERVICE && target_by_node(target.json);
    bool several = target.kind == TARGET_SERVICE && !choice.node && (choice.replica < 0 || style->by_node);
    style->prefixed = several && !cli->quiet && json_number(target.json, "status.desired") > 1;
    int status = log_follow(cli, &target, &choice, style);
    target_clear(&target);
    return status;
}

static int run(struct cli *cli)
{
    struct error err = {0};
    CLEANUP_BUF struct buf query = {0};
    struct log_style style = {.cli = cli};
    if (make_query(cli, &query, &err))
        return cli_fail(cli, &err);
    style.query = query.data ? query.data : "";
    style.only = args_has(cli->args, "stderr") ? "stderr" : args_has(cli->args, "stdout") ? "stdout" : NULL;
    if (args_has(cli->args, "follow"))
        return follow(cli, &style);
    struct target target = {0};
    int status = target_find(cli, cli_operand(cli, 0), &target, &err) ? cli_fail(cli, &err)
                                                                      : read_all(cli, &target, &style);
    target_clear(&target);
    return status;
}

static const struct option_row options[] = {
    {"follow", 'f', NULL, "Goes on with what is written from now on.", NULL},
    {"tail", 'n', "N", "Only the last N lines of each replica and stream.", NULL},
    {"since", 0, "T", "Only what was written since: 10m, or 2026-01-31T12:00:00Z.", NULL},
    {"stderr", 0, NULL, "Only the standard error of the task.", NULL},
    {"stdout", 0, NULL, "Only its standard output.", NULL},
    {0},
};

const struct command_row cmd_logs = {
    .name = "logs", .operands = "SERVICE[/N|@NODE]|ALLOC", .min = 1, .max = 1, .kind = OPERAND_SERVICE, .options = options,
    .run = run, .summary = "what tasks wrote: of all replicas of a service, or of one",
    .help = "The task's standard output goes to standard output, its standard error to standard error. The lines\n"
            "of several replicas have the replica in front (SERVICE/N, or SERVICE@NODE where it runs on every node), with -o wide also its allocation and node, with -q\n"
            "nothing; -o json makes an object of each line.\n"
            "\n"
            "With -f the replicas of a service are followed as they come and go: replacements, and new ones when\n"
            "it is scaled. It ends by itself when nothing more can come: the service was stopped or, as a task,\n"
            "has ended (for ALLOC: when that allocation has ended), and all that was written was told.",
};
