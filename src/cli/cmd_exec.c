#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/exec_session.h"
#include "cli/follow.h"
#include "cli/target.h"
#include "cli/table.h"
#include "net/exec_frames.h"

/* The allocation to go into: the one that is named, or the only live one of the service. The caller's. */
static char *find_alloc(struct cli *cli, struct error *err)
{
    struct target t = {0};
    if (target_find(cli, cli_operand(cli, 0), &t, err))
        return NULL;
    if (t.kind == TARGET_ALLOC) {
        char *id = steal(&t.name);
        target_clear(&t);
        return id;
    }
    CLEANUP(json_decref) json_t *allocs = target_allocs(cli, t.name, false, err);
    char *id = NULL;
    CLEANUP_FREE char *first = NULL;
    size_t i, live = 0;
    json_t *a;
    json_array_foreach(allocs, i, a)
        if (follow_alloc_live(a) && !live++) {
            id = mem_strdup(json_text(a, "id"));
            first = target_replica_name(a, target_by_node(t.json));
        }
    if (allocs && live != 1) {
        if (live)
            error_set(err, ERROR_INVALID, "service %s has %zu replicas; say which, such as %s", t.name, live, first);
        else
            error_set(err, ERROR_NOT_FOUND, "service %s runs nowhere; see `mt status %s`", t.name, t.name);
        free(id);
        id = NULL;
    }
    target_clear(&t);
    return id;
}

static char *make_path(const struct cli *cli, const char *alloc, bool tty, struct error *err)
{
    CLEANUP(json_decref) json_t *command = json_array();
    struct buf path = {0};
    for (int i = 0; i < cli->args->rest_count; i++)
        if (json_array_append_new(command, json_string(cli->args->rest[i]))) {
            error_set(err, ERROR_INVALID, "word %d of the command is not UTF-8 text", i + 1);
            return NULL;
        }
    CLEANUP_FREE char *text = json_dumps(command, JSON_COMPACT);
    CLEANUP_FREE char *before = api_path("/v1/allocs/", alloc, "/exec?command=");
    buf_add_string(&path, before);
    http_add_encoded(&path, text);
    unsigned rows, columns;
    if (tty)
        buf_add_string(&path, "&tty=true");
    if (tty && exec_session_size(&rows, &columns))
        buf_printf(&path, "&rows=%u&cols=%u", rows, columns);
    return buf_steal(&path);
}

static int run(struct cli *cli)
{
    struct error err = {0};
    int code = 0;
    bool tty = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !args_has(cli->args, "no-tty");
    if (!cli->args->rest_count) {
        error_set(&err, ERROR_INVALID, "no command is given: mt exec %s -- CMD", cli_operand(cli, 0));
        return cli_fail(cli, &err);
    }
    CLEANUP_FREE char *alloc = find_alloc(cli, &err);
    CLEANUP_FREE char *path = alloc ? make_path(cli, alloc, tty, &err) : NULL;
    struct stream *stream = path ? api_upgrade(cli->api, path, EXEC_PROTOCOL, &err) : NULL;
    if (!stream || exec_session_run(api_loop(cli->api), stream, tty, &code, &err))
        return cli_fail(cli, &err);
    return code & 0xff;
}

static const struct option_row options[] = {
    {"no-tty", 'T', NULL, "No terminal for the command although there is one here.", NULL}, {0}};

const struct command_row cmd_exec = {
    .name = "exec", .operands = "ALLOC|SERVICE[/N|@NODE]", .min = 1, .max = 1, .takes_rest = true, .kind = OPERAND_ALLOC,
    .options = options, .run = run, .summary = "run a command in a task, with a terminal when there is one here",
    .help = "SERVICE@NODE is the replica on that node, as services that run on every node have them. The exit status is the\n"
            "command's.",
};
