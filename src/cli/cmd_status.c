#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/lost.h"
#include "cli/target.h"
#include "cli/views.h"

#define WATCH_WAIT "60s"

static int show_deployment(struct cli *cli, const char *id, struct error *err)
{
    CLEANUP_FREE char *path = api_path("/v1/deployments/", id, "");
    CLEANUP(json_decref) json_t *deployment = api_get(cli->api, path, err);
    if (!deployment)
        return err->code == ERROR_NOT_FOUND ? 0 : -1;       /* old ones are forgotten */
    printf("\n");
    output_facts(cli, deployment, view_deployment);
    return 0;
}

static int show_service(struct cli *cli, const struct target *t, struct error *err)
{
    if (output_value(cli, t->json))
        return 0;
    output_facts(cli, t->json, view_service);
    const char *deployment = json_text(t->json, "status.deployment");
    if (*deployment && show_deployment(cli, deployment, err))
        return -1;
    CLEANUP(json_decref) json_t *allocs = target_allocs(cli, t->name, args_has(cli->args, "all"), err);
    if (!allocs)
        return -1;
    printf("\n");
    output_rows(cli, allocs, view_allocs, "id", "no allocations of it run or are wanted; --all shows those that ended");
    return 0;
}

static int show(struct cli *cli, struct error *err)
{
    struct api *api = cli_api(cli, err);
    if (!api)
        return -1;
    if (!cli_operand(cli, 0)) {
        CLEANUP(json_decref) json_t *list = api_list(api, "/v1/services", err);
        if (list)
            output_rows(cli, list, view_services, "name", "no services; `mt run FILE` starts some");
        return list ? 0 : -1;
    }
    struct target t = {0};
    if (target_find(cli, cli_operand(cli, 0), &t, err))
        return -1;
    int rc = 0;
    if (t.kind == TARGET_SERVICE)
        rc = show_service(cli, &t, err);
    else if (!output_value(cli, t.json))
        output_facts(cli, t.json, view_alloc);
    target_clear(&t);
    return rc;
}

/* Waits until something changed after *index, or until the wait is over. */
static int wait_for_change(struct cli *cli, uint64_t *index, struct error *err)
{
    CLEANUP_FREE char *path = mem_printf("/v1/services?limit=1&index=%llu&wait=" WATCH_WAIT, (unsigned long long)*index);
    return api_call(cli->api, HTTP_METHOD_GET, path, NULL, NULL, index, err);
}

static int run(struct cli *cli)
{
    struct error err = {0};
    struct lost lost = {0};
    uint64_t index = 0;
    if (!args_has(cli->args, "watch"))
        return show(cli, &err) ? cli_fail(cli, &err) : STATUS_DONE;
    for (bool shown = false;;) {
        if (!cli_api(cli, &err))
            return cli_fail(cli, &err);
        /* The index first: what changes while it is shown wakes the next wait. */
        uint64_t newest = index;
        int rc = wait_for_change(cli, &newest, &err);
        if (!rc && cli->terminal)
            printf("\033[H\033[2J");
        if (rc || show(cli, &err)) {
            if (!shown || !lost_wait(&lost, cli, &err))
                return cli_fail(cli, &err);
            continue;
        }
        lost_over(&lost, cli);
        index = newest;
        shown = true;
        if (!cli->terminal)
            printf("\n");
        fflush(stdout);
    }
}

static const struct option_row options[] = {
    {"watch", 'w', NULL, "Shows it anew with each change, until Ctrl-C.", NULL},
    {"all", 'a', NULL, "Allocations that ended and are not wanted any more, too.", NULL},
    {0},
};

const struct command_row cmd_status = {
    .name = "status", .operands = "[SERVICE|ALLOC]", .max = 1, .kind = OPERAND_SERVICE, .options = options, .run = run,
    .summary = "how services, one service or one allocation stand",
    .help = "SERVICE/N names a replica; of an allocation's id any unique beginning is enough.",
};
