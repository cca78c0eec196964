#include "cli/api.h"
#include "cli/commands.h"
#include "cli/follow.h"
#include "cli/target.h"

static int stop_alloc(struct cli *cli, const struct target *t, struct error *err)
{
    CLEANUP_FREE char *path = api_path("/v1/allocs/", t->name, "/stop");
    if (api_call(cli->api, HTTP_METHOD_POST, path, NULL, NULL, NULL, err))
        return cli_fail(cli, err);
    cli_say(cli, "allocation %s is being stopped; its service replaces it while it wants it", t->name);
    return STATUS_DONE;
}

static int stop_service(struct cli *cli, const struct target *t, struct error *err)
{
    bool purge = args_has(cli->args, "purge");
    CLEANUP_FREE char *path = api_path("/v1/services/", t->name, purge ? "?purge=true" : "");
    CLEANUP(json_decref) json_t *answer = NULL;
    if (api_call(cli->api, HTTP_METHOD_DELETE, path, NULL, &answer, NULL, err))
        return cli_fail(cli, err);
    return args_has(cli->args, "detach") ? STATUS_DONE : follow_answer(cli, answer, follow_stopped, NULL);
}

static int run(struct cli *cli)
{
    int status = STATUS_DONE;
    for (int i = 0; i < cli->args->operand_count && status == STATUS_DONE; i++) {
        struct error err = {0};
        struct target t = {0};
        if (target_find(cli, cli_operand(cli, i), &t, &err))
            return cli_fail(cli, &err);
        status = t.kind == TARGET_SERVICE ? stop_service(cli, &t, &err) : stop_alloc(cli, &t, &err);
        target_clear(&t);
    }
    return status;
}

static const struct option_row options[] = {
    {"purge", 0, NULL, "Forgets the versions and the ended allocations too.", NULL},
    {"detach", 'd', NULL, "Does not wait until all are stopped.", NULL},
    {0},
};

const struct command_row cmd_stop = {
    .name = "stop", .operands = "SERVICE|ALLOC…", .min = 1, .max = -1, .kind = OPERAND_SERVICE, .options = options,
    .run = run, .summary = "stop services, and wait until nothing of them runs",
    .help = "`mt run` or `mt rollback` starts a stopped service again. An allocation that is stopped is replaced.",
};
