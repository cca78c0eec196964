/* Tokens: who may ask. */
#include <stdio.h>
#include <string.h>

#include "base/timefmt.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "cli/words.h"

static int run_create(struct cli *cli)
{
    struct error err = {0};
    const char *ttl = args_get(cli->args, "ttl"), *role = args_get(cli->args, "role");
    int64_t ms;
    if (!role || (ttl && duration_parse(ttl, &ms))) {
        if (role)
            error_set(&err, ERROR_INVALID, "--ttl: \"%.32s\" is not a duration such as 720h or 90d", ttl);
        else
            error_set(&err, ERROR_INVALID, "--role is needed: reader, deployer, operator, admin, or one of `mt role list`");
        return cli_fail(cli, &err);
    }
    struct api *api = cli_api(cli, &err);
    CLEANUP(json_decref) json_t *body = json_pack("{s:s, s:o}", "name", cli_operand(cli, 0), "roles", words_list(role));
    CLEANUP(json_decref) json_t *answer = NULL;
    CLEANUP_BUF struct buf b = {0};
    if (ttl)
        json_object_set_new(body, "ttl", json_string(ttl));
    char *text = json_dumps(body, JSON_COMPACT);
    buf_add_string(&b, text ? text : "");
    free(text);
    if (!api || api_call(api, HTTP_METHOD_POST, "/v1/tokens", &b, &answer, NULL, &err))
        return cli_fail(cli, &err);
    if (output_value(cli, answer))
        return STATUS_DONE;
    const char *until = json_text(answer, "expires_at");
    cli_say(cli, "shown only now%s%s:", *until ? "; good until " : "; good until it is revoked", until);
    printf("%s\n", json_text(answer, "token"));
    return STATUS_DONE;
}

static const struct column columns[] = {
    {"ID", "id"}, {"NAME", "name"}, {"ROLES", "roles", cell_words}, {"CREATED BY", "created_by"},
    {"AGE", "created_at", cell_age}, {"GOOD UNTIL", "expires_at"}, {0},
};

static int run_list(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP(json_decref) json_t *rows = api ? api_list(api, "/v1/tokens", &err) : NULL;
    if (!rows)
        return cli_fail(cli, &err);
    output_rows(cli, rows, columns, "id", "there are no tokens");
    return STATUS_DONE;
}

static int run_revoke(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP_FREE char *path = api_path("/v1/tokens/", cli_operand(cli, 0), "");
    if (!api || api_call(api, HTTP_METHOD_DELETE, path, NULL, NULL, NULL, &err))
        return cli_fail(cli, &err);
    cli_say(cli, "revoked");
    return STATUS_DONE;
}

static const struct column facts[] = {
    {"Kind", "kind"}, {"Name", "name"}, {"Token", "id"}, {"Roles", "roles", cell_words}, {"Good until", "expires_at"}, {0},
};

static int run_whoami(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP(json_decref) json_t *me = api ? api_get(api, "/v1/tokens/self", &err) : NULL;
    if (!me)
        return cli_fail(cli, &err);
    if (!output_value(cli, me))
        output_facts(cli, me, facts);
    return STATUS_DONE;
}

static const struct option_row create_options[] = {
    {"role", 0, "ROLE,…", "What it may: reader, deployer, operator, admin, or roles of `mt role list`.", NULL},
    {"ttl", 0, "TIME", "How long it is good; default 90d; 0s: until it is revoked.", NULL}, {0}};

static const struct command_row create = {
    .name = "create", .operands = "NAME", .min = 1, .max = 1, .options = create_options, .run = run_create,
    .summary = "make a token for someone or something, and show it once",
};
static const struct command_row list = {
    .name = "list", .run = run_list, .summary = "the tokens, without their secrets",
};
static const struct command_row revoke_row = {
    .name = "revoke", .operands = "ID", .min = 1, .max = 1, .run = run_revoke,
    .summary = "make a token worthless, at once; ID is what stands before its dot",
};
static const struct command_row whoami = {
    .name = "whoami", .run = run_whoami, .summary = "whose token is used, and what it may",
};
static const struct command_row *const subcommands[] = {&create, &list, &revoke_row, &whoami, NULL};

const struct command_row cmd_token = {
    .name = "token", .summary = "tokens: who may ask the servers", .subcommands = subcommands,
};
