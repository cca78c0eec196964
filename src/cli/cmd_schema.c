#include <stdio.h>
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/table.h"
#include "model/access.h"
#include "model/profile.h"

static int run(struct cli *cli)
{
    CLEANUP_BUF struct buf out = {0};
    if (args_has(cli->args, "markdown")) {
        type_markdown(&job_type, &out);
        printf("%s", out.data);
        return STATUS_DONE;
    }
    if (args_has(cli->args, "profiles")) {
        profiles_markdown(&out);
        buf_add_string(&out, "\n## policy.yaml\n\n");
        type_markdown(&policy_type, &out);
        printf("%s", out.data);
        return STATUS_DONE;
    }
    if (args_has(cli->args, "roles")) {
        access_markdown(&out);
        buf_add_string(&out, "\n");
        type_markdown(&role_type, &out);
        printf("%s", out.data);
        return STATUS_DONE;
    }
    job_schema(&out);
    json_t *json = cli->format == OUTPUT_YAML ? json_loadb(out.data, out.len, 0, NULL) : NULL;
    if (json)
        output_value(cli, json);
    else
        printf("%s\n", out.data ? out.data : "");
    json_decref(json);
    return STATUS_DONE;
}

static const struct option_row options[] = {
    {"markdown", 0, NULL, "The keys as tables for people, in Markdown.", NULL},
    {"profiles", 0, NULL, "The security profiles and the keys of policy.yaml, in Markdown.", NULL},
    {"roles", 0, NULL, "The rights, the roles that are always there and the keys of a role, in Markdown.", NULL},
    {0},
};

const struct command_row cmd_schema = {
    .name = "schema", .summary = "the JSON Schema of services.yaml, for editors", .run = run, .options = options,
    .help = "Put it into a file and name it in the first line of a services.yaml:\n"
            "  # yaml-language-server: $schema=./mentat.schema.json",
};
