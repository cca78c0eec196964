#include <string.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/follow.h"
#include "cli/table.h"

/* The request's body; -1 with err. */
static int read_change(const struct cli *cli, json_t *body, struct error *err)
{
    const char *image = args_get(cli->args, "image"), *strategy = args_get(cli->args, "strategy");
    json_t *env = json_object();
    int rc = 0;
    for (size_t i = 0; i < cli->args->value_count && !rc; i++) {
        const struct arg_value *v = &cli->args->values[i];
        const char *equals = v->value ? strchr(v->value, '=') : NULL;
        if (strcmp(v->option->name, "env"))
            continue;
        CLEANUP_FREE char *key = equals ? mem_strndup(v->value, (size_t)(equals - v->value)) : NULL;
        if (!key || !*key || json_object_set_new(env, key, json_string(equals + 1)))
            rc = error_set(err, ERROR_INVALID, "--env %.64s: write it as --env NAME=VALUE", v->value);
    }
    if (!rc && !image && !strategy && !json_object_size(env))
        rc = error_set(err, ERROR_INVALID, "nothing is to change: give --image, --env or --strategy");
    if (image)
        json_object_set_new(body, "image", json_string(image));
    if (strategy)
        json_object_set_new(body, "strategy", json_string(strategy));
    json_object_set_new(body, "env", env);
    return rc;
}

/* The service's part of the answer, which is that to a submit of its job. */
static int follow(struct cli *cli, const json_t *answer, const char *service)
{
    size_t i;
    json_t *s;
    json_array_foreach(json_at(answer, "services"), i, s) {
        if (strcmp(json_text(s, "name"), service))
            continue;
        const char *deployment = json_string_value(json_object_get(s, "deployment"));
        struct follow_item item = {.service = service, .deployment = deployment,
                                   .judge = !json_is_true(json_at(s, "changed")) ? follow_unchanged
                                            : deployment ? follow_deployment : follow_settled};
        return follow_run(cli, &item, 1);
    }
    return STATUS_DONE;
}

static int run(struct cli *cli)
{
    struct error err = {0};
    CLEANUP(json_decref) json_t *change = json_object(), *answer = NULL;
    if (read_change(cli, change, &err))
        return cli_fail(cli, &err);
    struct api *api = cli_api(cli, &err);
    CLEANUP_FREE char *path = api_path("/v1/services/", cli_operand(cli, 0), "/deploy"), *text = json_dumps(change, 0);
    CLEANUP_BUF struct buf body = {0};
    buf_add_string(&body, text);
    if (!api || api_call(api, HTTP_METHOD_POST, path, &body, &answer, NULL, &err))
        return cli_fail(cli, &err);
    int status = args_has(cli->args, "detach") ? STATUS_DONE : follow(cli, answer, cli_operand(cli, 0));
    output_value(cli, answer);
    return status;
}

static const char *const strategies[] = {"rolling", "blue-green", "canary", NULL};
static const struct option_row options[] = {
    {"image", 'i', "IMAGE", "The image that the new version runs.", NULL},
    {"env", 'e', "NAME=VALUE", "A variable of the new version's environment; may be repeated.", NULL},
    {"strategy", 's', "STRATEGY", "How it replaces the version before, from now on.", strategies},
    {"detach", 'd', NULL, "Does not wait for the deployment.", NULL},
    {0},
};

const struct command_row cmd_deploy = {
    .name = "deploy", .operands = "SERVICE", .min = 1, .max = 1, .kind = OPERAND_SERVICE, .options = options, .run = run,
    .summary = "make a new version of a service with another image or environment, and follow its deployment",
    .help = "A change of the strategy alone replaces no replica; it holds for the next version.",
};
