#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/target.h"
#include "cli/views.h"

#define COLUMNS_MAX 12

/* The members of the rows' objects that hold single values, in the order of their first appearance. */
static size_t find_columns(const json_t *rows, struct column *columns, char (*titles)[32])
{
    size_t i, n = 0;
    json_t *row, *value;
    const char *key;
    json_array_foreach(rows, i, row)
        json_object_foreach(row, key, value) {
            bool known = json_is_object(value) || json_is_array(value);
            for (size_t k = 0; k < n; k++)
                known = known || !strcmp(columns[k].key, key);
            if (known || n == COLUMNS_MAX)
                continue;
            snprintf(titles[n], sizeof titles[n], "%s", key);
            for (char *p = titles[n]; *p; p++)
                *p = *p == '_' ? ' ' : *p >= 'a' && *p <= 'z' ? (char)(*p - 32) : *p;
            columns[n] = (struct column){.title = titles[n], .key = key, .right = json_is_number(value)};
            n++;
        }
    return n;
}

static void print_rows(const struct cli *cli, const char *name, const json_t *rows)
{
    struct column columns[COLUMNS_MAX + 1] = {{0}};
    char titles[COLUMNS_MAX][32];
    printf("\n%s:\n", name);
    if (!strcmp(name, "events")) {
        output_rows(cli, rows, view_events, "subject", "none");
        return;
    }
    if (!json_is_object(json_array_get(rows, 0))) {
        size_t i;
        json_t *line;
        json_array_foreach(rows, i, line)
            if (json_is_string(line))
                printf("  %s\n", json_string_value(line));
        return;
    }
    find_columns(rows, columns, titles);
    output_rows(cli, rows, columns, columns[0].key, "none");
}

/* The server explains; here its facts come first, then each list as a table: nodes' verdicts, allocations, events. */
static void print_object(const struct cli *cli, const json_t *object)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
        if (!json_is_array(value) && !json_is_object(value)) {
            struct column fact[] = {{.title = key, .key = key}, {0}};
            output_facts(cli, object, fact);
        }
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        if (json_is_array(value) && json_array_size(value)) {
            print_rows(cli, key, value);
        } else if (json_is_object(value) && json_object_size(value)) {
            printf("\n%s:\n", key);
            print_object(cli, value);
        }
    }
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
        print_object(cli, answer);
    return STATUS_DONE;
}

const struct command_row cmd_explain = {
    .name = "explain", .operands = "SERVICE|ALLOC", .min = 1, .max = 1, .kind = OPERAND_SERVICE, .run = run,
    .summary = "why it is where it is, or why it is not placed: each node's verdict, and what happened",
};
