#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/follow.h"
#include "cli/jobfile.h"
#include "cli/table.h"

static json_t *submit(struct cli *cli, const struct job *job, struct error *err)
{
    struct api *api = cli_api(cli, err);
    CLEANUP_BUF struct buf body = {0};
    json_t *answer = NULL;
    type_to_json(&job_type, job, &body);
    if (!api || api_call(api, HTTP_METHOD_POST, "/v1/jobs", &body, &answer, NULL, err))
        return NULL;
    return answer ? answer : json_object();
}

static int follow(struct cli *cli, const struct job *job, const json_t *services)
{
    size_t i, n = 0;
    json_t *s;
    struct follow_item *items = mem_array(json_array_size(services) + 1, sizeof *items);
    json_array_foreach(services, i, s) {
        const char *deployment = json_string_value(json_object_get(s, "deployment"));
        bool task = i < job->services.n && job->services.v[i].mode == MODE_TASK;
        /* A change without a deployment replaces no replica: only their count changed, or what is about the service. */
        follow_judge *judge = !json_is_true(json_at(s, "changed")) ? follow_unchanged : deployment ? follow_deployment
                            : task ? follow_task : follow_settled;
        items[n++] = (struct follow_item){.service = json_text(s, "name"), .deployment = deployment, .judge = judge};
    }
    int status = follow_run(cli, items, n);
    free(items);
    return status;
}

static int run(struct cli *cli)
{
    struct error err = {0};
    struct job job;
    int status = jobfile_read(cli, &job);
    CLEANUP(json_decref) json_t *answer = status == STATUS_DONE ? submit(cli, &job, &err) : NULL;
    if (status == STATUS_DONE && !answer) {
        status = cli_fail(cli, &err);
    } else if (answer) {
        const json_t *services = json_at(answer, "services");
        cli_say(cli, "job %s submitted: %zu service%s", job.name, json_array_size(services),
                json_array_size(services) == 1 ? "" : "s");
        if (!args_has(cli->args, "detach"))
            status = follow(cli, &job, services);
        output_value(cli, answer);
    }
    type_clear(&job_type, &job);
    return status;
}

static const struct option_row options[] = {
    {"detach", 'd', NULL, "Submits it and does not wait for the deployment.", NULL},
    JOBFILE_VAR_OPTION,
    {0},
};

const struct command_row cmd_run = {
    .name = "run", .operands = "FILE", .min = 1, .max = 1, .kind = OPERAND_FILE, .options = options, .run = run,
    .summary = "check a file, submit it, and follow the deployment until its services are healthy",
    .help = "Exit status 1 when a deployment failed; the reasons are on stderr. Ctrl-C stops the watching, not the\n"
            "deployment. \"-\" reads standard input.",
};
