#include <stdio.h>
#include <stdlib.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/table.h"

/* The servers' release is told when one can be reached; that none can is no error here. */
static int run(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    if (!api)
        return cli_fail(cli, &err);
    CLEANUP(json_decref) json_t *server = api_get(api, "/v1/version", &err);
    CLEANUP(json_decref) json_t *both = json_pack("{s:s, s:O?}", "version", MENTAT_VERSION, "server", server);
    if (output_value(cli, both))
        return STATUS_DONE;
    printf("mt %s\n", MENTAT_VERSION);
    if (server)
        printf("mentat-server %s at %s\n", json_text(server, "version"), api_address(api));
    return STATUS_DONE;
}

const struct command_row cmd_version = {
    .name = "version", .summary = "the release of this program and of the servers", .run = run,
};
