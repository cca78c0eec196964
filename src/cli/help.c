#include "cli/help.h"

#include <ctype.h>
#include <string.h>

#include "base/text.h"

#define NAME_WIDTH 26

const char *const help_statuses[] = {
    [STATUS_DONE] = "done",
    [STATUS_FAILED] = "it failed, or the deployment did",
    [STATUS_USAGE] = "bad usage or bad file",
    [STATUS_UNREACHED] = "no server reached",
    [STATUS_DENIED] = "not allowed",
    NULL,
};

static void add_padded(struct buf *out, const char *left, const char *right)
{
    int len = 0;
    for (const char *p = left; *p; p++)
        len += ((unsigned char)*p & 0xc0) != 0x80;
    buf_printf(out, "  %s%*s%s\n", left, len < NAME_WIDTH ? NAME_WIDTH - len : 1, "", right);
}

void help_option_name(const struct option_row *o, struct buf *out)
{
    if (o->letter)
        buf_printf(out, "-%c, ", o->letter);
    buf_printf(out, "--%s", o->name);
    if (o->value)
        buf_printf(out, " %s", o->value);
}

static void add_options(const struct option_row *options, struct buf *out)
{
    for (const struct option_row *o = options; o && o->name; o++) {
        CLEANUP_BUF struct buf name = {0};
        help_option_name(o, &name);
        add_padded(out, name.data, o->help);
    }
}

void help_usage(const struct command_row *group, const struct command_row *c, struct buf *out)
{
    buf_printf(out, "mt %s%s%s", group ? group->name : "", group ? " " : "", c->name);
    if (c->subcommands)
        buf_add_string(out, " COMMAND");
    if (c->operands)
        buf_printf(out, " %s", c->operands);
    if (c->options)
        buf_add_string(out, " [OPTION]…");
    if (c->takes_rest)
        buf_add_string(out, " -- COMMAND…");
}

static void add_command_lines(const struct command_row *const *list, const struct command_row *group, struct buf *out)
{
    for (; *list; list++) {
        if ((*list)->subcommands) {
            add_command_lines((*list)->subcommands, *list, out);
            continue;
        }
        CLEANUP_FREE char *name = mem_printf("%s%s%s%s%s", group ? group->name : "", group ? " " : "", (*list)->name,
                                             (*list)->operands ? " " : "", (*list)->operands ? (*list)->operands : "");
        add_padded(out, name, (*list)->summary);
    }
}

void help_overview(struct buf *out)
{
    buf_add_string(out, "mt runs services on hosts that you own.\n\nusage: mt COMMAND [OPTION]…\n\nCommands:\n");
    add_command_lines(commands, NULL, out);
    buf_add_string(out, "\nOptions of every command:\n");
    add_options(global_options, out);
    buf_add_string(out, "\nExit status: ");
    for (int i = 0; help_statuses[i]; i++)
        buf_printf(out, "%s%d %s", i ? "; " : "", i, help_statuses[i]);
    buf_add_string(out, ".\n`mt COMMAND --help` says more.\n");
}

void help_command(const struct command_row *group, const struct command_row *c, struct buf *out)
{
    buf_add_string(out, "usage: ");
    help_usage(group, c, out);
    buf_printf(out, "\n\n%c%s.\n", toupper((unsigned char)c->summary[0]), c->summary + 1);
    if (c->help)
        buf_printf(out, "\n%s\n", c->help);
    if (c->subcommands) {
        buf_add_string(out, "\nCommands:\n");
        add_command_lines(c->subcommands, c, out);
    }
    if (c->options) {
        buf_add_string(out, "\nOptions:\n");
        add_options(c->options, out);
    }
    buf_add_string(out, "\nOptions of every command:\n");
    add_options(global_options, out);
}
