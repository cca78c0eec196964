/* Audit files: whether they are whole. */
#include <stdio.h>

#include "audit/chain.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/table.h"

#define DIRECTORY "/var/lib/mentat/state/audit"

static int run_verify(struct cli *cli)
{
    struct error err = {0};
    struct chain_report report;
    const char *dir = cli_operand(cli, 0) ? cli_operand(cli, 0) : DIRECTORY;
    if (chain_verify(dir, &report, &err)) {
        cli_fail(cli, &err);
        return STATUS_FAILED;
    }
    CLEANUP(json_decref) json_t *json = json_pack("{s:I, s:I, s:s}", "files", (json_int_t)report.files, "lines",
                                                  (json_int_t)report.lines, "hash", report.hash);
    if (!output_value(cli, json))
        cli_say(cli, "%zu lines in %zu files, whole; the last hash is %s", report.lines, report.files, report.hash);
    return STATUS_DONE;
}

static const struct command_row verify = {
    .name = "verify", .operands = "[DIR]", .max = 1, .kind = OPERAND_FILE, .run = run_verify,
    .summary = "whether a server's audit files are whole: no line changed, taken out or put in",
    .help = "Reads the files of DIR (default " DIRECTORY ") on this host, without a server. The last hash\n"
            "stands for all that is before it: kept elsewhere, it shows whether the files were made anew.",
};
static const struct command_row *const subcommands[] = {&verify, NULL};

const struct command_row cmd_audit = {
    .name = "audit", .summary = "who did what: the servers' audit files", .subcommands = subcommands,
};
