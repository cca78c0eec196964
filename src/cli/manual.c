#include "cli/manual.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/roff.h"
#include "cli/help.h"
#include "model/model.h"

#define SUMMARY "run services on hosts that you own"

static void add_options(const struct option_row *options, struct buf *out)
{
    for (const struct option_row *o = options; o && o->name; o++) {
        CLEANUP_BUF struct buf name = {0};
        help_option_name(o, &name);
        roff_item(out, name.data, o->help);
    }
}

/* What the command does, in sentences. */
static void add_description(const struct command_row *c, struct buf *out)
{
    CLEANUP_BUF struct buf text = {0};
    buf_printf(&text, "%c%s.", toupper((unsigned char)c->summary[0]), c->summary + 1);
    if (c->help)
        buf_printf(&text, "\n\n%s", c->help);
    roff_text(out, text.data);
}

static void add_commands(const struct command_row *const *list, const struct command_row *group, struct buf *out)
{
    for (; *list; list++) {
        const struct command_row *c = *list;
        if (c->subcommands) {
            add_commands(c->subcommands, c, out);
            continue;
        }
        CLEANUP_BUF struct buf usage = {0};
        help_usage(group, c, &usage);
        roff_subheading(out, usage.data);
        add_description(c, out);
        add_options(c->options, out);
    }
}

static void add_environment(struct buf *out)
{
    roff_heading(out, "ENVIRONMENT");
    roff_item(out, "MENTAT_ADDR", "As `--address`.");
    roff_item(out, "MENTAT_TOKEN", "As `--token`.");
    roff_item(out, "NO_COLOR", "As `--no-color`, when it is not empty.");
}

static void add_statuses(struct buf *out)
{
    roff_heading(out, "EXIT STATUS");
    for (int i = 0; help_statuses[i]; i++) {
        char number[12];
        snprintf(number, sizeof number, "%d", i);
        roff_item(out, number, help_statuses[i]);
    }
}

void manual_mt(struct buf *out)
{
    roff_page(out, "mt", 1, SUMMARY);
    roff_heading(out, "SYNOPSIS");
    roff_text(out, "`mt` COMMAND [OPTION]…");
    roff_heading(out, "COMMANDS");
    add_commands(commands, NULL, out);
    roff_heading(out, "OPTIONS");
    roff_text(out, "Every command takes these.");
    add_options(global_options, out);
    add_statuses(out);
    add_environment(out);
    roff_heading(out, "SEE ALSO");
    roff_text(out, "services.yaml(5), mentat-server(8), mentat-agent(8)");
}

void manual_command(const struct command_row *group, const struct command_row *c, struct buf *out)
{
    CLEANUP_FREE char *name = mem_printf("mt-%s%s%s", group ? group->name : "", group ? "-" : "", c->name);
    CLEANUP_BUF struct buf usage = {0};
    help_usage(group, c, &usage);
    roff_page(out, name, 1, c->summary);
    roff_heading(out, "SYNOPSIS");
    roff_text(out, usage.data);
    roff_heading(out, "DESCRIPTION");
    add_description(c, out);
    if (c->options)
        roff_heading(out, "OPTIONS");
    add_options(c->options, out);
    roff_heading(out, "OPTIONS OF EVERY COMMAND");
    add_options(global_options, out);
    add_statuses(out);
    add_environment(out);
    roff_heading(out, "SEE ALSO");
    roff_text(out, c->kind == OPERAND_FILE ? "mt(1), services.yaml(5)" : "mt(1)");
}

void manual_services_yaml(struct buf *out)
{
    roff_page(out, "services.yaml", 5, "what Mentat runs");
    roff_heading(out, "DESCRIPTION");
    roff_text(out,
        "A file is one service, or a job: a name and several services that are submitted together by mt-run(1). It is YAML "
        "without anchors, tags and repeated keys, at most 1 MiB. Keys that are not known are errors.\n\n"
        "A duration is a text such as 500ms, 10s, 5m, 1h30m or 7d. A size is a number of MiB, or a text such as 256MB or "
        "1GiB.\n\n"
        "`${NAME}` is replaced by the value of `mt run --var NAME=VALUE`. In `args`, `env` and the `source` of volumes, the "
        "agent replaces `${replica}`, `${ip}`, `${port.NAME}`, `${peers.NAME}`, `${node.name}` and `${meta.KEY}`.");
    roff_heading(out, "EXAMPLE");
    roff_text(out, "  name: web\n  driver: exec\n  count: 3\n  config:\n    command: /usr/bin/python3\n"
                   "    args: [\"-m\", \"http.server\", \"${port.http}\"]\n  ports: [{name: http, port: 8000}]\n"
                   "  health: {type: http, port: http, path: /}");
    roff_heading(out, "KEYS");
    type_manual(&job_type, out);
    roff_heading(out, "SEE ALSO");
    roff_text(out, "mt(1), mt-run(1), mt-validate(1), mt-schema(1)");
}

static int write_page(const char *dir, const char *name, int section, const struct buf *text, struct error *err)
{
    CLEANUP_FREE char *folder = mem_printf("%s/man%d", dir, section);
    CLEANUP_FREE char *path = mem_printf("%s/%s.%d", folder, name, section);
    return dir_make(folder, 0755, err) || file_write(path, text->data, text->len, 0644, err) ? -1 : 0;
}

static int write_commands(const char *dir, const struct command_row *const *list, const struct command_row *group,
                          struct error *err)
{
    for (; *list; list++) {
        const struct command_row *c = *list;
        CLEANUP_BUF struct buf text = {0};
        CLEANUP_FREE char *name = mem_printf("mt-%s%s%s", group ? group->name : "", group ? "-" : "", c->name);
        if (!c->subcommands)
            manual_command(group, c, &text);
        if (c->subcommands ? write_commands(dir, c->subcommands, c, err) : write_page(dir, name, 1, &text, err))
            return -1;
    }
    return 0;
}

int manual_write(const char *dir, struct error *err)
{
    CLEANUP_BUF struct buf mt = {0}, file = {0};
    manual_mt(&mt);
    manual_services_yaml(&file);
    return write_page(dir, "mt", 1, &mt, err) || write_page(dir, "services.yaml", 5, &file, err) ||
           write_commands(dir, commands, NULL, err) ? -1 : 0;
}
