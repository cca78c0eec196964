#include <stdio.h>
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/table.h"
#include "model/model.h"

static int run(struct cli *cli)
{
    CLEANUP_BUF struct buf out = {0};
    job_schema(&out);
    json_t *json = cli->format == OUTPUT_YAML ? json_loadb(out.data, out.len, 0, NULL) : NULL;
    if (json)
        output_value(cli, json);
    else
        printf("%s\n", out.data ? out.data : "");
    json_decref(json);
    return STATUS_DONE;
}

const struct command_row cmd_schema = {
    .name = "schema", .summary = "the JSON Schema of services.yaml, for editors", .run = run,
    .help = "Put it into a file and name it in the first line of a services.yaml:\n"
            "# yaml-language-server: $schema=./mentat.schema.json",
};
