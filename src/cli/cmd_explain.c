#include <stdio.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/target.h"
#include "cli/views.h"

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
} lists[] = {
    {"Allocations", "allocs", view_allocs},
    {"Nodes, for one more replica", "nodes", verdicts},
    {"What happened", "events", view_events},
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
    }
    if (json_number(answer, "nodes_left_off"))
        printf("… and %lld nodes more\n", json_number(answer, "nodes_left_off"));
}

static int run(struct cli *cli)
{
    struct error err = {0};
    struct target t = {0};
    if (target_find(cli, cli_operand(cli, 0), &t, &err))
        return cli_fail(cli, &err);
    CLEANUP_FREE char *path = api_path("/v1/explain/", t.name, "");
    target_clear(&t);
    CLEANUP(json_decref) json_t *answer = api_get(cli->api, path, &err);
    if (!answer)
        return cli_fail(cli, &err);
    if (!output_value(cli, answer))
        show(cli, answer);
    return STATUS_DONE;
}

const struct command_row cmd_explain = {
    .name = "explain", .operands = "SERVICE|ALLOC", .min = 1, .max = 1, .kind = OPERAND_SERVICE, .run = run,
    .summary = "why it is where it is, or why it is not placed: each node's verdict, and what happened",
};
