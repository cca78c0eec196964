/* Doctor: compares this host with the reference profile, a line for each thing that is wanted of it. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/doctor/checks.h"
#include "cli/table.h"

static bool is_asked_for(const struct cli *cli, const char *name)
{
    for (int i = 0; i < cli->args->operand_count; i++)
        if (!strcmp(cli_operand(cli, i), name))
            return true;
    return cli->args->operand_count == 0;
}

static int check_names(const struct cli *cli, struct error *err)
{
    for (int i = 0; i < cli->args->operand_count; i++) {
        const struct check *c = doctor_checks;
        while (c->name && strcmp(c->name, cli_operand(cli, i)))
            c++;
        if (!c->name)
            return error_set(err, ERROR_INVALID, "there is no check \"%.64s\"; `mt doctor -q` names them", cli_operand(cli, i));
    }
    return 0;
}

/* "" for the machine itself; the caller's. NULL with err. */
static char *find_root(const struct cli *cli, struct error *err)
{
    const char *given = args_get(cli->args, "root");
    if (!given)
        return mem_strdup("");
    char *real = realpath(given, NULL);
    if (!real)
        error_set(err, ERROR_INVALID, "--root: there is no directory %.200s", given);
    if (real && !strcmp(real, "/"))
        *real = '\0';
    return real;
}

static json_t *run_check(const struct check *c, const struct host *h, enum verdict *worst)
{
    struct finding f = {0};
    c->run(h, &f);
    bool mend = f.verdict > VERDICT_SKIPPED;
    /* File names and the words of other programs may be no UTF-8, which JSON has to be. */
    for (size_t i = 0; i < f.found.len; i++)
        if ((unsigned char)f.found.data[i] >= 0x80)
            f.found.data[i] = '?';
    json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:s?}", "check", c->name, "state", verdict_names[f.verdict], "found",
                            f.found.data, "wanted", c->wanted, "mend", !mend ? NULL : f.mend ? f.mend : c->mend);
    if (f.verdict > *worst)
        *worst = f.verdict;
    finding_clear(&f);
    return row;
}

/* Under the table, since a line of it would be cut. */
static void print_mends(const struct cli *cli, const json_t *rows)
{
    size_t i;
    json_t *row;
    if (cli->quiet || cli->format == OUTPUT_JSON || cli->format == OUTPUT_YAML)
        return;
    json_array_foreach(rows, i, row)
        if (*json_text(row, "mend"))
            cli_say(cli, "\n%s: %s\n  wanted: %s\n  found:  %s\n  mend:   %s", json_text(row, "check"), json_text(row, "state"),
                    json_text(row, "wanted"), json_text(row, "found"), json_text(row, "mend"));
}

static int run(struct cli *cli)
{
    static const struct column columns[] = {
        {"CHECK", "check"}, {"STATE", "state"}, {"WANTED", "wanted", .wide = true}, {"FOUND", "found"}, {0}};
    const char *config_dir = args_get(cli->args, "config-dir"), *user = args_get(cli->args, "user");
    struct error err = {0};
    CLEANUP_FREE char *root = find_root(cli, &err);
    if (!root || check_names(cli, &err))
        return cli_fail(cli, &err);
    struct host h;
    host_open(&h, root, config_dir ? config_dir : "/etc/mentat", user ? user : "mentat");
    for (size_t i = 0; i < cli->args->value_count; i++)
        if (!strcmp(cli->args->values[i].option->name, "peer"))
            str_list_add(&h.peers, cli->args->values[i].value);
    enum verdict worst = VERDICT_OK;
    CLEANUP(json_decref) json_t *rows = json_array();
    for (const struct check *c = doctor_checks; c->name; c++)
        if (is_asked_for(cli, c->name))
            json_array_append_new(rows, run_check(c, &h, &worst));
    output_rows(cli, rows, columns, "check", "");
    print_mends(cli, rows);
    host_close(&h);
    enum verdict bad = args_has(cli->args, "strict") ? VERDICT_WARNING : VERDICT_FAILED;
    return worst >= bad ? STATUS_FAILED : STATUS_DONE;
}

static const struct option_row options[] = {
    {"peer", 0, "HOST[:PORT]", "Another host that must be reached, beside those in the configuration; may be repeated.", NULL},
    {"user", 0, "NAME", "Whom the programs run as; default: mentat.", NULL},
    {"config-dir", 0, "DIR", "Where server.yaml and agent.yaml are; default: /etc/mentat.", NULL},
    {"root", 0, "DIR", "Looks at the files below DIR instead of this machine, an image for example, and runs programs found "
     "there for their version.", NULL},
    {"strict", 0, NULL, "Warnings count as failures.", NULL},
    {0},
};

const struct command_row cmd_doctor = {
    .name = "doctor", .starts_programs = true, .operands = "[CHECK…]", .min = 0, .max = INT_MAX, .options = options, .run = run,
    .summary = "check this host against the reference profile",
    .help = "Each check says what it found, what is wanted and how to mend it. `failed` is what does not work, `warning` what\n"
            "works on less than the reference profile, or less safely. The exit status is 1 when a check failed. No server\n"
            "is needed; root sees more. Names of checks run these alone.",
};
