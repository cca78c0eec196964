#include "cli/api.h"
#include "cli/commands.h"
#include "cli/follow.h"

#define COUNT_MAX 100000

static int run(struct cli *cli)
{
    struct error err = {0};
    long long count = 0;
    const char *service = cli_operand(cli, 0);
    if (number_parse("N", cli_operand(cli, 1), 0, COUNT_MAX, &count, &err))
        return cli_fail(cli, &err);
    struct api *api = cli_api(cli, &err);
    CLEANUP_FREE char *path = api_path("/v1/services/", service, "/scale");
    CLEANUP_BUF struct buf body = {0};
    CLEANUP(json_decref) json_t *answer = NULL;
    buf_printf(&body, "{\"count\":%lld}", count);
    if (!api || api_call(api, HTTP_METHOD_POST, path, &body, &answer, NULL, &err))
        return cli_fail(cli, &err);
    return args_has(cli->args, "detach") ? STATUS_DONE : follow_answer(cli, answer, follow_settled, NULL);
}

static const struct option_row options[] = {
    {"detach", 'd', NULL, "Does not wait until the replicas run.", NULL}, {0}};

const struct command_row cmd_scale = {
    .name = "scale", .operands = "SERVICE N", .min = 2, .max = 2, .kind = OPERAND_SERVICE, .options = options, .run = run,
    .summary = "set the number of replicas, and wait until they run",
};
