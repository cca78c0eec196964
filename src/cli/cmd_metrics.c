#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/table.h"

/* Prometheus' text as one object: series → number. */
static json_t *as_object(char *text)
{
    json_t *out = json_object();
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *space = strrchr(line, ' ');
        if (*line == '#' || !space)
            continue;
        *space = '\0';
        json_object_set_new(out, line, json_real(strtod(space + 1, NULL)));
    }
    return out;
}

static int run(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP_BUF struct buf text = {0};
    if (!api || api_text(api, "/v1/metrics", &text, &err))
        return cli_fail(cli, &err);
    buf_reserve(&text, 0);
    if (cli->format == OUTPUT_JSON || cli->format == OUTPUT_YAML) {
        CLEANUP(json_decref) json_t *object = as_object(text.data);
        output_value(cli, object);
    } else {
        fwrite(text.data, 1, text.len, stdout);
    }
    return STATUS_DONE;
}

const struct command_row cmd_metrics = {
    .name = "metrics", .summary = "the server's metrics, as Prometheus reads them", .run = run,
};
