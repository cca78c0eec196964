/* Volumes of nodes by hand: deleted when nobody needs them any more, made before their replica comes. */
#include <limits.h>
#include <string.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "model/namespace.h"

/* Of the volume that the operands name; the caller frees it. */
static char *path_of(const struct cli *cli)
{
    CLEANUP_FREE char *node = api_path("/v1/nodes/", cli_operand(cli, 0), "/volumes/");
    return api_path(node, cli_operand(cli, 1), "");
}

static int run_delete(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP_FREE char *path = path_of(cli);
    CLEANUP_FREE char *what = mem_printf("This deletes all data of volume %s on node %s", cli_operand(cli, 1), cli_operand(cli, 0));
    if (!api || !cli_confirmed(cli, what, "nothing was deleted", &err) ||
        api_call(api, HTTP_METHOD_DELETE, path, NULL, NULL, NULL, &err))
        return cli_fail(cli, &err);
    cli_say(cli, "%s on %s is deleted", cli_operand(cli, 1), cli_operand(cli, 0));
    return STATUS_DONE;
}

static int run_create(struct cli *cli)
{
    struct error err = {0};
    const char *name = cli_operand(cli, 1), *service = args_get(cli->args, "for");
    CLEANUP_FREE char *source = mem_strndup(name, strcspn(name, "/")), *path = path_of(cli);
    long long size_mb = 0;
    struct api *api = cli_api(cli, &err);
    if (args_number(cli->args, "size-mb", 1, LLONG_MAX, &size_mb, &err))
        return cli_fail(cli, &err);
    CLEANUP_FREE char *owner = api ? namespace_qualify(api_namespace(api), service ? service : source) : NULL;
    CLEANUP(json_decref) json_t *json = owner ? json_pack("{s:s}", "service", owner) : NULL;
    if (json && size_mb)
        json_object_set_new(json, "size_mb", json_integer(size_mb));
    CLEANUP_FREE char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    CLEANUP_BUF struct buf body = {0};
    buf_add_string(&body, text ? text : "{}");
    if (!api || api_call(api, HTTP_METHOD_PUT, path, &body, NULL, NULL, &err))
        return cli_fail(cli, &err);
    cli_say(cli, "%s is made on %s; its replica of %s is placed there", name, cli_operand(cli, 0), owner);
    return STATUS_DONE;
}

static const struct option_row delete_options[] = {{"yes", 'y', NULL, "Does not ask.", NULL}, {0}};
static const struct option_row create_options[] = {
    {"size-mb", 0, "N", "How large its file system is, in MiB; default 1024.", NULL},
    {"for", 0, "SERVICE", "Whose it is; default: the source's name.", NULL}, {0}};

static const struct command_row create = {
    .name = "create", .operands = "NODE SOURCE/REPLICA", .min = 2, .max = 2, .kind = OPERAND_NODE, .options = create_options,
    .run = run_create, .summary = "make a microVM's volume on a node before its replica is there, which is placed with it",
};
static const struct command_row delete_row = {
    .name = "delete", .operands = "NODE VOLUME", .min = 2, .max = 2, .kind = OPERAND_NODE, .options = delete_options,
    .run = run_delete, .summary = "delete the data of a volume that no replica wants any more",
    .help = "VOLUME is the name that `mt volumes` shows, such as web/0. Refused while an allocation has it, or a service that is "
            "not stopped wants it for one of its replicas.",
};
static const struct command_row *const subcommands[] = {&create, &delete_row, NULL};

const struct command_row cmd_volume = {
    .name = "volume", .summary = "make and delete volumes of nodes; `mt volumes` lists them", .subcommands = subcommands,
};
