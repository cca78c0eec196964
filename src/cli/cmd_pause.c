#include "cli/api.h"
#include "cli/commands.h"
#include "cli/target.h"

/* An allocation, or a service's replica by its number. */
static int run(struct cli *cli, const char *verb, const char *done)
{
    struct error err = {0};
    struct target t = {0};
    int status = STATUS_DONE;
    if (target_find(cli, cli_operand(cli, 0), &t, &err))
        return cli_fail(cli, &err);
    CLEANUP_FREE char *path = api_path("/v1/allocs/", t.name, verb);
    if (t.kind != TARGET_ALLOC)
        error_set(&err, ERROR_INVALID, "%.64s is a service: name one replica of it, as in %.64s/0", t.name, t.name);
    if (err.code || api_call(cli->api, HTTP_METHOD_POST, path, NULL, NULL, NULL, &err))
        status = cli_fail(cli, &err);
    else
        cli_say(cli, "allocation %s is being %s", t.name, done);
    target_clear(&t);
    return status;
}

static int run_pause(struct cli *cli)
{
    return run(cli, "/pause", "paused");
}

static int run_resume(struct cli *cli)
{
    return run(cli, "/resume", "resumed");
}

const struct command_row cmd_pause = {
    .name = "pause", .operands = "ALLOC", .min = 1, .max = 1, .kind = OPERAND_SERVICE, .run = run_pause,
    .summary = "let a microVM stand still, in memory, without requests",
}, cmd_resume = {
    .name = "resume", .operands = "ALLOC", .min = 1, .max = 1, .kind = OPERAND_SERVICE, .run = run_resume,
    .summary = "let a paused microVM go on",
};
