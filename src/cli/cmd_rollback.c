#include <limits.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/follow.h"

static int run(struct cli *cli)
{
    struct error err = {0};
    long long version = 0;
    if (args_number(cli->args, "to", 1, LLONG_MAX, &version, &err))
        return cli_fail(cli, &err);
    struct api *api = cli_api(cli, &err);
    CLEANUP_FREE char *path = api_path("/v1/services/", cli_operand(cli, 0), "/rollback");
    CLEANUP_BUF struct buf body = {0};
    CLEANUP(json_decref) json_t *answer = NULL;
    buf_printf(&body, "{\"version\":%lld}", version);
    if (!api || api_call(api, HTTP_METHOD_POST, path, &body, &answer, NULL, &err))
        return cli_fail(cli, &err);
    return args_has(cli->args, "detach") ? STATUS_DONE : follow_answer(cli, answer, follow_settled, NULL);
}

static const struct option_row options[] = {
    {"to", 0, "VERSION", "The version to go back to; default: the newest other one that did not fail.", NULL},
    {"detach", 'd', NULL, "Does not wait for the deployment.", NULL},
    {0},
};

const struct command_row cmd_rollback = {
    .name = "rollback", .operands = "SERVICE", .min = 1, .max = 1, .kind = OPERAND_SERVICE, .options = options, .run = run,
    .summary = "make an older version the current one again, and follow its deployment",
};
