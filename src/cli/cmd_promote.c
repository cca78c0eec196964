#include "cli/api.h"
#include "cli/commands.h"
#include "cli/follow.h"
#include "cli/table.h"

static int run(struct cli *cli)
{
    struct error err = {0};
    long long percent = 0;
    if (args_number(cli->args, "to", 1, 100, &percent, &err))
        return cli_fail(cli, &err);
    struct api *api = cli_api(cli, &err);
    CLEANUP_FREE char *path = api_path("/v1/services/", cli_operand(cli, 0), "/promote");
    CLEANUP_BUF struct buf body = {0};
    CLEANUP(json_decref) json_t *answer = NULL;
    buf_printf(&body, "{\"percent\":%lld}", percent);
    if (!api || api_call(api, HTTP_METHOD_POST, path, &body, &answer, NULL, &err))
        return cli_fail(cli, &err);
    return args_has(cli->args, "detach") ? STATUS_DONE : follow_answer(cli, answer, follow_settled, NULL);
}

static const struct option_row options[] = {
    {"to", 0, "PERCENT", "The part of the requests at which a canary pauses again; default: all of them.", NULL},
    {"detach", 'd', NULL, "Does not wait for the deployment.", NULL},
    {0},
};

const struct command_row cmd_promote = {
    .name = "promote", .operands = "SERVICE", .min = 1, .max = 1, .kind = OPERAND_SERVICE, .options = options, .run = run,
    .summary = "let a paused deployment go on, and follow it",
    .help = "A canary gets more of the requests, or all, and replaces the version before. A blue-green deployment ends its\n"
            "standby: the version before is stopped. A rollout in batches goes on without waiting for its analysis.",
};
