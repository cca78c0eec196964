/* Roles: what tokens allow. */
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/jobfile.h"
#include "cli/table.h"
#include "model/access.h"

static void cell_rules(const json_t *row, const json_t *value, struct buf *out)
{
    const json_t *rule, *word;
    size_t i, k;
    json_array_foreach(value, i, rule) {
        buf_add_string(out, i ? "; " : "");
        json_array_foreach(json_object_get(rule, "allow"), k, word)
            buf_printf(out, "%s%s", k ? "," : "", json_string_value(word) ? json_string_value(word) : "");
        json_array_foreach(json_object_get(rule, "services"), k, word)
            buf_printf(out, "%s%s", k ? "," : " on ", json_string_value(word) ? json_string_value(word) : "");
        json_array_foreach(json_object_get(rule, "namespaces"), k, word)
            buf_printf(out, "%s%s", k ? "," : " in ", json_string_value(word) ? json_string_value(word) : "");
    }
}

static const struct column columns[] = {{"ROLE", "name"}, {"RULES", "rules", cell_rules}, {0}};

static int run_list(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP(json_decref) json_t *rows = api ? api_list(api, "/v1/roles", &err) : NULL;
    if (!rows)
        return cli_fail(cli, &err);
    output_rows(cli, rows, columns, "name", "there are no roles but admin, operator, deployer and reader");
    return STATUS_DONE;
}

static int run_set(struct cli *cli)
{
    struct error err = {0};
    struct role role = {0};
    CLEANUP_BUF struct buf json = {0};
    int rc = jobfile_object(cli_operand(cli, 0), &role_type, &role, "the role was not set", &err);
    CLEANUP_FREE char *path = rc ? NULL : api_path("/v1/roles/", role.name, "");
    if (!rc)
        type_to_json(&role_type, &role, &json);
    type_clear(&role_type, &role);
    struct api *api = rc ? NULL : cli_api(cli, &err);
    if (!api || api_call(api, HTTP_METHOD_PUT, path, &json, NULL, NULL, &err))
        return cli_fail(cli, &err);
    cli_say(cli, "the role is set; tokens that carry it have these rights now");
    return STATUS_DONE;
}

static int run_delete(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP_FREE char *path = api_path("/v1/roles/", cli_operand(cli, 0), "");
    if (!api || api_call(api, HTTP_METHOD_DELETE, path, NULL, NULL, NULL, &err))
        return cli_fail(cli, &err);
    cli_say(cli, "deleted");
    return STATUS_DONE;
}

static const struct command_row list = {
    .name = "list", .run = run_list, .summary = "the roles of the cluster, beside admin, operator, deployer and reader",
};
static const struct command_row set = {
    .name = "set", .operands = "FILE", .min = 1, .max = 1, .kind = OPERAND_FILE, .run = run_set,
    .summary = "put a file in place of the role of its name",
    .help = "\"-\" reads standard input. A role has rules, and each adds what it allows, on all services or on some:\n"
            "  name: web-team\n"
            "  rules:\n"
            "    - {allow: [read, logs]}\n"
            "    - {allow: [submit, deploy, exec], services: [web-*]}",
};
static const struct command_row delete_row = {
    .name = "delete", .operands = "NAME", .min = 1, .max = 1, .run = run_delete, .summary = "delete a role that no token carries",
};
static const struct command_row *const subcommands[] = {&list, &set, &delete_row, NULL};

const struct command_row cmd_role = {
    .name = "role", .summary = "roles: what tokens allow", .subcommands = subcommands,
};
