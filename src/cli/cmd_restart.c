#include "cli/api.h"
#include "cli/commands.h"
#include "cli/follow.h"
#include "cli/table.h"
#include "cli/target.h"

static int restart(struct cli *cli, const struct target *t, struct error *err)
{
    bool service = t->kind == TARGET_SERVICE;
    CLEANUP_FREE char *name = service ? mem_strdup(t->name) : json_qualified(t->json, "service");
    CLEANUP_FREE char *path = api_path(service ? "/v1/services/" : "/v1/allocs/", t->name, "/restart");
    CLEANUP(json_decref) json_t *answer = NULL, *before = NULL;
    before = target_allocs(cli, name, true, err);
    if (!before || api_call(cli->api, HTTP_METHOD_POST, path, NULL, &answer, NULL, err))
        return cli_fail(cli, err);
    if (args_has(cli->args, "detach"))
        return STATUS_DONE;
    if (service)
        return follow_answer(cli, answer, follow_restart, before);
    CLEANUP(json_decref) json_t *one = json_pack("[O]", t->json);
    struct follow_item item = {.service = name, .before = one, .judge = follow_alloc_restart};
    return follow_run(cli, &item, 1);
}

static int run(struct cli *cli)
{
    struct error err = {0};
    struct target t = {0};
    if (target_find(cli, cli_operand(cli, 0), &t, &err))
        return cli_fail(cli, &err);
    int status = restart(cli, &t, &err);
    target_clear(&t);
    return status;
}

static const struct option_row options[] = {
    {"detach", 'd', NULL, "Does not wait until they run again.", NULL}, {0}};

const struct command_row cmd_restart = {
    .name = "restart", .operands = "SERVICE|ALLOC", .min = 1, .max = 1, .kind = OPERAND_SERVICE, .options = options,
    .run = run, .summary = "restart the replicas of a service, or one of them, where they are",
};
