#include <stdlib.h>
#include <string.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/views.h"
#include "model/model.h"

#define CHANGES_TOLD 3

static bool read_spec(const json_t *version, struct service *spec)
{
    struct problem_list problems = {0};
    char *text = json_dumps(json_at(version, "spec"), JSON_COMPACT);
    bool ok = text && type_from_json(&service_type, text, strlen(text), true, spec, &problems) == 0;
    problem_list_clear(&problems);
    free(text);
    return ok;
}

static void say_changes(const struct change_list *changes, struct buf *out)
{
    for (uint32_t i = 0; i < changes->n && i < CHANGES_TOLD; i++) {
        const struct change *c = &changes->v[i];
        buf_printf(out, "%s%s: %s%s%s", i ? ", " : "", c->path, c->before ? c->before : "", c->before ? " → " : "",
                   c->after ? c->after : "(removed)");
    }
    if (changes->n > CHANGES_TOLD)
        buf_printf(out, ", and %u more", changes->n - CHANGES_TOLD);
}

/* What each version has other than the one before it, for people. */
static void add_changes(json_t *list)
{
    for (size_t i = 1; i < json_array_size(list); i++) {
        struct service before, after;
        struct change_list changes = {0};
        CLEANUP_BUF struct buf text = {0};
        bool first = read_spec(json_array_get(list, i - 1), &before), both = first && read_spec(json_array_get(list, i), &after);
        if (both)
            type_diff(&service_type, &before, &after, &changes);
        say_changes(&changes, &text);
        if (text.len)
            json_object_set_new(json_array_get(list, i), "changes", json_string(text.data));
        change_list_clear(&changes);
        if (both)
            type_clear(&service_type, &after);
        if (first)
            type_clear(&service_type, &before);
    }
}

static int run(struct cli *cli)
{
    struct error err = {0};
    struct api *api = cli_api(cli, &err);
    CLEANUP_FREE char *path = api_path("/v1/services/", cli_operand(cli, 0), "/versions");
    CLEANUP(json_decref) json_t *list = api ? api_list(api, path, &err) : NULL;
    if (!list)
        return cli_fail(cli, &err);
    add_changes(list);
    output_rows(cli, list, view_versions, "version", "no versions");
    return STATUS_DONE;
}

const struct command_row cmd_versions = {
    .name = "versions", .operands = "SERVICE", .min = 1, .max = 1, .kind = OPERAND_SERVICE, .run = run,
    .summary = "list the versions of a service that are kept for a rollback: who made them, when, and what changed",
};
