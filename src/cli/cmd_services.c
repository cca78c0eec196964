#include "cli/api.h"
#include "cli/commands.h"
#include "cli/views.h"

static int run(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP(json_decref) json_t *list = api ? api_list(api, "/v1/services", &err) : NULL;
    if (!list)
        return cli_fail(cli, &err);
    output_rows(cli, list, view_services, "name", "no services; `mt run FILE` starts some");
    return STATUS_DONE;
}

const struct command_row cmd_services = {
    .name = "services", .summary = "list the services and how they stand", .run = run,
};
