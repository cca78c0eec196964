#include "cli/api.h"
#include "cli/commands.h"
#include "cli/target.h"
#include "cli/views.h"

static int run(struct cli *cli)
{
    struct error err = {0};
    CLEANUP(json_decref) json_t *list = target_allocs(cli, cli_operand(cli, 0), args_has(cli->args, "all"), &err);
    if (!list)
        return cli_fail(cli, &err);
    output_rows(cli, list, view_allocs, "id", "no allocations; --all shows those that ended too");
    return STATUS_DONE;
}

static const struct option_row options[] = {
    {"all", 'a', NULL, "Those that ended and are not wanted any more, too.", NULL}, {0}};

const struct command_row cmd_allocs = {
    .name = "allocs", .operands = "[SERVICE]", .max = 1, .kind = OPERAND_SERVICE, .options = options, .run = run,
    .summary = "list the allocations: each replica and where it runs",
};
