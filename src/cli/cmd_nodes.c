#include <stdio.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/views.h"

static int show_node(struct cli *cli, struct api *api, const char *name, struct error *err)
{
    CLEANUP_FREE char *path = api_path("/v1/nodes/", name, "");
    CLEANUP_FREE char *allocs_path = api_path("/v1/allocs?namespace=*&node=", name, "");
    CLEANUP(json_decref) json_t *node = api_get(api, path, err);
    if (!node)
        return cli_fail(cli, err);
    if (output_value(cli, node))
        return STATUS_DONE;
    output_facts(cli, node, view_node);
    CLEANUP(json_decref) json_t *all = api_list(api, allocs_path, err);
    CLEANUP(json_decref) json_t *current = json_array();
    size_t i;
    json_t *a;
    if (!all)
        return cli_fail(cli, err);
    json_array_foreach(all, i, a)
        if (view_alloc_current(a))
            json_array_append(current, a);
    printf("\n");
    output_rows(cli, current, view_allocs, "id", "nothing runs on it");
    return STATUS_DONE;
}

static int run(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    if (api && cli_operand(cli, 0))
        return show_node(cli, api, cli_operand(cli, 0), &err);
    CLEANUP(json_decref) json_t *list = api ? api_list(api, "/v1/nodes", &err) : NULL;
    if (!list)
        return cli_fail(cli, &err);
    output_rows(cli, list, view_nodes, "name", "no nodes; start mentat-agent on a host");
    return STATUS_DONE;
}

const struct command_row cmd_nodes = {
    .name = "nodes", .operands = "[NODE]", .max = 1, .kind = OPERAND_NODE, .run = run,
    .summary = "list the nodes, or show one with what runs on it",
};
