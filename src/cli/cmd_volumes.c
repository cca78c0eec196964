#include "cli/api.h"
#include "cli/commands.h"
#include "cli/views.h"

static int run(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    const char *service = cli_operand(cli, 0);
    CLEANUP_FREE char *path = service ? api_path("/v1/volumes?service=", service, "") : mem_strdup("/v1/volumes");
    CLEANUP(json_decref) json_t *list = api ? api_list(api, path, &err) : NULL;
    if (!list)
        return cli_fail(cli, &err);
    output_rows(cli, list, view_volumes, "name", "no volumes");
    return STATUS_DONE;
}

const struct command_row cmd_volumes = {
    .name = "volumes", .operands = "[SERVICE]", .max = 1, .kind = OPERAND_SERVICE, .run = run,
    .summary = "list the volumes of all nodes: whose they are, where, how large, and who has them",
};
