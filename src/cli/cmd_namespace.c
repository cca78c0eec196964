/* Namespaces: jobs and secrets with names, rights and a quota of their own. */
#include <string.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "model/namespace.h"

/* "2 of 10", or without a limit "2". */
static void add_use(const json_t *row, const char *key, struct buf *out)
{
    CLEANUP_FREE char *wanted = mem_printf("wanted.%s", key), *quota = mem_printf("quota.%s", key);
    double allows = json_number_value(json_at(row, quota));
    buf_printf(out, "%.10g", json_number_value(json_at(row, wanted)));
    if (allows > 0)
        buf_printf(out, " of %.10g", allows);
}

static void cell_cpus(const json_t *row, const json_t *value, struct buf *out)
{
    add_use(row, "cpus", out);
}

static void cell_memory(const json_t *row, const json_t *value, struct buf *out)
{
    add_use(row, "memory_mb", out);
}

static void cell_replicas(const json_t *row, const json_t *value, struct buf *out)
{
    add_use(row, "replicas", out);
}

static const struct column columns[] = {
    {"NAMESPACE", "name"}, {"JOBS", "jobs", .right = true}, {"SECRETS", "secrets", .right = true},
    {"CPUS", "wanted.cpus", cell_cpus}, {"MEMORY MIB", "wanted.memory_mb", cell_memory},
    {"REPLICAS", "wanted.replicas", cell_replicas}, {0},
};
static const struct column facts[] = {
    {"Namespace", "name"}, {"Jobs", "jobs"}, {"Secrets", "secrets"}, {"CPUs", "wanted.cpus", cell_cpus},
    {"Memory MiB", "wanted.memory_mb", cell_memory}, {"Replicas", "wanted.replicas", cell_replicas}, {0},
};

static int run_list(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP(json_decref) json_t *rows = api ? api_list(api, "/v1/namespaces", &err) : NULL;
    if (!rows)
        return cli_fail(cli, &err);
    output_rows(cli, rows, columns, "name", "there are no namespaces in which you may read");
    return STATUS_DONE;
}

static char *path_of(struct cli *cli)
{
    return api_path("/v1/namespaces/", cli_operand(cli, 0), "");
}

static int run_show(struct cli *cli)
{
    struct error err = {0};
    CLEANUP_FREE char *path = path_of(cli);
    struct api *api = cli_api(cli, &err);
    CLEANUP(json_decref) json_t *row = api ? api_get(api, path, &err) : NULL;
    if (!row)
        return cli_fail(cli, &err);
    if (!output_value(cli, row))
        output_facts(cli, row, facts);
    return STATUS_DONE;
}

/* {"name": "…", "quota": {…}} of the options, as they would stand in a file. */
static int read_quota(struct cli *cli, struct namespace *out, struct error *err)
{
    static const char *const keys[] = {"cpus", "memory_mb", "replicas"}, *const options[] = {"cpus", "memory-mb", "replicas"};
    CLEANUP_BUF struct buf text = {0};
    struct problem_list problems = {0};
    buf_add_string(&text, "name: ");
    json_add_string(&text, cli_operand(cli, 0));
    buf_add_string(&text, "\nquota: {");
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const char *value = args_get(cli->args, options[i]);
        bool plain = value && strspn(value, "0123456789.") == strlen(value) && *value;
        if (!value)
            continue;
        buf_printf(&text, "%s: ", keys[i]);
        if (plain)
            buf_add_string(&text, value);
        else
            json_add_string(&text, value);
        buf_add_string(&text, ", ");
    }
    buf_add_string(&text, "}\n");
    int rc = type_from_yaml(&namespace_type, text.data, text.len, out, &problems);
    if (rc)
        error_set(err, ERROR_INVALID, "%s: %s", problems.v[0].path, problems.v[0].message);
    problem_list_clear(&problems);
    return rc;
}

/* Who raises one limit means that one: the others stay, where the namespace is there. */
static int keep_others(struct cli *cli, struct api *api, const char *path, struct quota *quota, struct error *err)
{
    struct error why = {0};
    CLEANUP(json_decref) json_t *row = api_get(api, path, &why);
    if (!row && why.code != ERROR_NOT_FOUND) {
        *err = why;
        return -1;
    }
    if (!args_get(cli->args, "cpus"))
        quota->cpus = json_number_value(json_at(row, "quota.cpus"));
    if (!args_get(cli->args, "memory-mb"))
        quota->memory_mb = json_integer_value(json_at(row, "quota.memory_mb"));
    if (!args_get(cli->args, "replicas"))
        quota->replicas = json_integer_value(json_at(row, "quota.replicas"));
    return 0;
}

static int run_put(struct cli *cli)
{
    struct error err = {0};
    struct namespace n = {0};
    CLEANUP_BUF struct buf body = {0};
    CLEANUP_FREE char *path = path_of(cli);
    if (read_quota(cli, &n, &err))
        return cli_fail(cli, &err);
    struct api *api = cli_api(cli, &err);
    int rc = api ? keep_others(cli, api, path, &n.quota, &err) : -1;
    type_to_json(&namespace_type, &n, &body);
    type_clear(&namespace_type, &n);
    if (rc || api_call(api, HTTP_METHOD_PUT, path, &body, NULL, NULL, &err))
        return cli_fail(cli, &err);
    return run_show(cli);
}

static int run_delete(struct cli *cli)
{
    struct error err = {0};
    CLEANUP_FREE char *path = path_of(cli);
    struct api *api = cli_api(cli, &err);
    if (!api || api_call(api, HTTP_METHOD_DELETE, path, NULL, NULL, NULL, &err))
        return cli_fail(cli, &err);
    cli_say(cli, "deleted");
    return STATUS_DONE;
}

static const struct option_row put_options[] = {
    {"cpus", 0, "N", "How many processors all replicas together may want; 0: no limit.", NULL},
    {"memory-mb", 0, "SIZE", "How much memory, such as 4096 or 4GiB; 0: no limit.", NULL},
    {"replicas", 0, "N", "How many replicas; 0: no limit.", NULL}, {0}};

static const struct command_row list = {
    .name = "list", .run = run_list, .summary = "the namespaces in which you may read, and what their services want",
};
static const struct command_row show = {
    .name = "show", .operands = "NAME", .min = 1, .max = 1, .kind = OPERAND_NAMESPACE, .run = run_show,
    .summary = "what the services of a namespace want, of what they may",
};
static const struct command_row put = {
    .name = "put", .operands = "NAME", .min = 1, .max = 1, .kind = OPERAND_NAMESPACE, .options = put_options, .run = run_put,
    .summary = "make a namespace, or give it another quota",
    .help = "Limits that are not named stay as they are; a new namespace has none. One that is lower than what the services\n"
            "want already stops nothing; it refuses more.",
};
static const struct command_row delete_row = {
    .name = "delete", .operands = "NAME", .min = 1, .max = 1, .kind = OPERAND_NAMESPACE, .run = run_delete,
    .summary = "delete a namespace that has neither jobs nor secrets",
};
static const struct command_row *const subcommands[] = {&list, &show, &put, &delete_row, NULL};

const struct command_row cmd_namespace = {
    .name = "namespace", .summary = "namespaces: jobs and secrets with names, rights and a quota of their own",
    .subcommands = subcommands,
};
