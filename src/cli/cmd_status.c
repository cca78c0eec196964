#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/follow.h"
#include "cli/lost.h"
#include "cli/target.h"
#include "cli/views.h"

#define WATCH_WAIT "60s"

static bool is_under_way(const json_t *deployment)
{
    const char *state = json_text(deployment, "state");
    return !strcmp(state, "running") || !strcmp(state, "paused");
}

static json_t *row_of(json_t *rows, long long version)
{
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
        if (json_number(row, "version") == version)
            return row;
    row = json_pack("{sIsIsIsI}", "version", (json_int_t)version, "replicas", (json_int_t)0, "healthy", (json_int_t)0,
                    "leaving", (json_int_t)0);
    json_array_append_new(rows, row);
    return row;
}

static void count_up(json_t *row, const char *key)
{
    json_object_set_new(row, key, json_integer(json_number(row, key) + 1));
}

static bool serves(const json_t *alloc, bool checked)
{
    return !strcmp(json_text(alloc, "state"), checked ? "healthy" : "running");
}

/* The part of the requests from outside that each version gets: what the deployment gives it, or as many as its replicas. */
static void add_requests(json_t *rows, const json_t *deployment)
{
    size_t i;
    json_t *row;
    long long healthy = 0, given = json_number(deployment, "target_percent") ? json_number(deployment, "traffic_percent") : -1;
    json_array_foreach(rows, i, row)
        healthy += json_number(row, "healthy");
    json_array_foreach(rows, i, row) {
        bool new = json_number(row, "version") == json_number(deployment, "version");
        double part = given >= 0 ? (double)(new ? given : 100 - given)
                                 : healthy ? 100.0 * (double)json_number(row, "healthy") / (double)healthy : 0;
        json_object_set_new(row, "requests", json_sprintf("%.3g %%", part));
    }
}

/* Old against new, while both are there. */
static void show_rollout(struct cli *cli, const json_t *service, const json_t *deployment, const json_t *allocs)
{
    CLEANUP(json_decref) json_t *rows = json_array();
    size_t i;
    json_t *a;
    bool checked = *json_text(service, "current.spec.health.type") && strcmp(json_text(service, "current.spec.health.type"), "none");
    json_array_foreach(allocs, i, a) {
        if (!follow_alloc_live(a))
            continue;
        json_t *row = row_of(rows, json_number(a, "version"));
        bool leaves = !strcmp(json_text(a, "leaving"), "to stop") || !strcmp(json_text(a, "desired"), "stop");
        count_up(row, leaves ? "leaving" : "replicas");
        if (!leaves && serves(a, checked))
            count_up(row, "healthy");
    }
    if (json_array_size(rows) < 2 && !is_under_way(deployment))
        return;
    if (json_array_size(json_at(service, "current.spec.ingress")))
        add_requests(rows, deployment);
    printf("\n");
    output_rows(cli, rows, view_rollout, "version", "no replicas");
}

/* NULL with err when it could not be asked for; old ones are forgotten: an empty one then. */
static json_t *get_deployment(struct cli *cli, const char *id, struct error *err)
{
    CLEANUP_FREE char *path = api_path("/v1/deployments/", id, "");
    json_t *deployment = *id ? api_get(cli->api, path, err) : NULL;
    if (deployment || (*id && err->code != ERROR_NOT_FOUND))
        return deployment;
    *err = (struct error){0};
    return json_object();
}

static int show_service(struct cli *cli, const struct target *t, struct error *err)
{
    if (output_value(cli, t->json))
        return 0;
    CLEANUP(json_decref) json_t *deployment = get_deployment(cli, json_text(t->json, "status.deployment"), err);
    CLEANUP(json_decref) json_t *allocs = deployment ? target_allocs(cli, t->name, args_has(cli->args, "all"), err) : NULL;
    if (!allocs)
        return -1;
    output_facts(cli, t->json, view_service);
    if (json_object_size(deployment)) {
        printf("\n");
        output_facts(cli, deployment, view_deployment);
    }
    show_rollout(cli, t->json, deployment, allocs);
    printf("\n");
    if (json_array_size(json_at(t->json, "ingress_problems"))) {
        output_rows(cli, json_at(t->json, "ingress_problems"), view_ingress_problems, "node", "");
        printf("\n");
    }
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
