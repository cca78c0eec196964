#include "cli/commands.h"
#include "cli/jobfile.h"

static int run(struct cli *cli)
{
    struct job job;
    int status = jobfile_read(cli, &job);
    if (status == STATUS_DONE)
        cli_say(cli, "%s is valid: job %s with %u service%s", cli_operand(cli, 0), job.name, job.services.n,
                job.services.n == 1 ? "" : "s");
    type_clear(&job_type, &job);
    return status;
}

static const struct option_row options[] = {JOBFILE_VAR_OPTION, {0}};

const struct command_row cmd_validate = {
    .name = "validate", .operands = "FILE", .min = 1, .max = 1, .kind = OPERAND_FILE, .options = options, .run = run,
    .summary = "check a file without a server",
    .help = "All problems are told at once, each with file, line and column. \"-\" reads standard input.",
};
