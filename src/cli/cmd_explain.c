#include <stdio.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/target.h"
#include "cli/views.h"

#define LIMIT_DEFAULT 50
#define LIMIT_MAX 1000

static const struct column service_facts[] = {
    {"Service", "service.name"}, {"State", "service.state"}, {"Reason", "service.reason"}, {"Version", "service.version"},
    {"Desired", "service.desired"}, {"Placed", "service.placed"}, {"Healthy", "service.healthy"}, {0},
};
static const struct column verdicts[] = {
    {"NODE", "name"}, {"ID", "id", .wide = true}, {"FITS", "fits"}, {"VERDICT", "verdict"}, {0},
};

static const struct {
    const char *title, *key;
    const struct column *columns;
    const char *left_off, *more;     /* key of how many more there are, and what these are called */
} lists[] = {
    {"Allocations", "allocs", view_allocs, "allocs_left_off", "allocations"},
    {"Nodes, for one more replica", "nodes", verdicts, "nodes_left_off", "nodes"},
    {"What keeps requests from outside away", "ingress_problems", view_ingress_problems, NULL, NULL},
    {"What happened", "events", view_events, NULL, NULL},
};

static void show(const struct cli *cli, const json_t *answer)
{
    const json_t *alloc = json_at(answer, "alloc");
    if (alloc) {
        output_facts(cli, alloc, view_alloc);
        printf("\n");
    }
    output_facts(cli, answer, service_facts);
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        const json_t *rows = json_at(answer, lists[i].key);
        if (!json_array_size(rows))
            continue;
        printf("\n%s%s%s\n", cli->color ? "\033[1m" : "", lists[i].title, cli->color ? COLOR_OFF : "");
        output_rows(cli, rows, lists[i].columns, "id", "");
        long long more = lists[i].left_off ? json_number(answer, lists[i].left_off) : 0;
        if (more)
            printf("… and %lld more %s (--limit)\n", more, lists[i].more);
    }
}

static int run(struct cli *cli)
{
    struct error err = {0};
    struct target t = {0};
    long long limit = LIMIT_DEFAULT;
    if (args_number(cli->args, "limit", 1, LIMIT_MAX, &limit, &err) || target_find(cli, cli_operand(cli, 0), &t, &err))
        return cli_fail(cli, &err);
    CLEANUP_FREE char *rest = mem_printf("?limit=%lld", limit);
    CLEANUP_FREE char *path = api_path("/v1/explain/", t.name, rest);
    target_clear(&t);
    CLEANUP(json_decref) json_t *answer = api_get(cli->api, path, &err);
    if (!answer)
        return cli_fail(cli, &err);
    if (!output_value(cli, answer))
        show(cli, answer);
    return STATUS_DONE;
}

static const struct option_row options[] = {
    {"limit", 0, "N", "How many allocations and how many nodes it tells of: 50 unless given, 1000 at most.", NULL},
    {0},
};

const struct command_row cmd_explain = {
    .name = "explain", .operands = "SERVICE|ALLOC", .min = 1, .max = 1, .kind = OPERAND_SERVICE, .run = run, .options = options,
    .summary = "why it is where it is, or why it is not placed: each node's verdict, and what happened",
};
