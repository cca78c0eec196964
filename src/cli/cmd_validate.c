#include <stdio.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/jobfile.h"
#include "cli/table.h"
#include "model/release.h"

/* The job as the API takes it, with its defaults. */
static int print_job(const struct cli *cli, const struct job *job)
{
    CLEANUP_BUF struct buf text = {0};
    type_to_json(&job_type, job, &text);
    CLEANUP(json_decref) json_t *json = json_loadb(text.data, text.len, 0, NULL);
    output_value(cli, json);
    return STATUS_DONE;
}

/* The file is valid all the same; a server of this release refuses it. */
static void warn(const struct job *job)
{
    struct problem_list problems = {0};
    job_release_check(job, &problems);
    for (uint32_t i = 0; i < problems.n; i++)
        fprintf(stderr, "mt: warning: %s: %s\n", problems.v[i].path, problems.v[i].message);
    problem_list_clear(&problems);
}

static int run(struct cli *cli)
{
    struct job job;
    int status = jobfile_read(cli, &job);
    if (status == STATUS_DONE)
        warn(&job);
    if (status == STATUS_DONE && (cli->format == OUTPUT_JSON || cli->format == OUTPUT_YAML))
        status = print_job(cli, &job);
    else if (status == STATUS_DONE)
        cli_say(cli, "%s is valid: job %s with %u service%s", cli_operand(cli, 0), job.name, job.services.n,
                job.services.n == 1 ? "" : "s");
    type_clear(&job_type, &job);
    return status;
}

static const struct option_row options[] = {JOBFILE_VAR_OPTION, {0}};

const struct command_row cmd_validate = {
    .name = "validate", .operands = "FILE", .min = 1, .max = 1, .kind = OPERAND_FILE, .options = options, .run = run,
    .summary = "check a file without a server",
    .help = "All problems are told at once, each with file, line and column. \"-\" reads standard input. -o json prints\n"
            "the job as it was understood, with all defaults. What this release does not do yet is a warning on stderr here,\n"
            "and refused by `mt run`.",
};
