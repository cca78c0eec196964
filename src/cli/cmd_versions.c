#include "cli/api.h"
#include "cli/commands.h"
#include "cli/views.h"

static int run(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP_FREE char *path = api_path("/v1/services/", cli_operand(cli, 0), "/versions");
    CLEANUP(json_decref) json_t *list = api ? api_list(api, path, &err) : NULL;
    if (!list)
        return cli_fail(cli, &err);
    output_rows(cli, list, view_versions, "version", "no versions");
    return STATUS_DONE;
}

const struct command_row cmd_versions = {
    .name = "versions", .operands = "SERVICE", .min = 1, .max = 1, .kind = OPERAND_SERVICE, .run = run,
    .summary = "list the versions of a service that are kept for a rollback",
};
