#include "cli/api.h"
#include "cli/commands.h"
#include "cli/follow.h"

static int run(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP_FREE char *path = api_path("/v1/services/", cli_operand(cli, 0), "/abort");
    CLEANUP(json_decref) json_t *answer = NULL;
    if (!api || api_call(api, HTTP_METHOD_POST, path, NULL, &answer, NULL, &err))
        return cli_fail(cli, &err);
    return args_has(cli->args, "detach") ? STATUS_DONE : follow_answer(cli, answer, follow_settled, NULL);
}

static const struct option_row options[] = {
    {"detach", 'd', NULL, "Does not wait until the version before serves again.", NULL},
    {0},
};

const struct command_row cmd_abort = {
    .name = "abort", .operands = "SERVICE", .min = 1, .max = 1, .kind = OPERAND_SERVICE, .options = options, .run = run,
    .summary = "take back the deployment that is under way: the version before serves again",
};
