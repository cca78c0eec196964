/* Completion: one script for each shell. Names of commands and options come from the tables; names of services,
 * allocations and nodes are asked of the servers while the user types (`mt services -q`). */
#include <string.h>

#include "cli/help.h"

static const struct { enum operand_kind kind; const char *shell_command; } askers[] = {
    {OPERAND_SERVICE, "mt services -q 2>/dev/null"},
    {OPERAND_ALLOC, "mt allocs -q 2>/dev/null"},
    {OPERAND_NODE, "mt nodes -q 2>/dev/null"},
    {OPERAND_SHELL, "echo bash zsh fish"},
};

static const char *asker(enum operand_kind kind)
{
    for (size_t i = 0; i < ARRAY_LEN(askers); i++)
        if (askers[i].kind == kind)
            return askers[i].shell_command;
    return NULL;
}

static void add_option_words(const struct option_row *o, struct buf *out)
{
    for (; o && o->name; o++)
        buf_printf(out, " --%s", o->name);
}

static void add_names(const struct command_row *const *list, struct buf *out)
{
    for (const struct command_row *const *c = list; *c; c++)
        buf_printf(out, "%s%s", c == list ? "" : " ", (*c)->name);
}

/* --- bash, and zsh through its bashcompinit --- */

static void add_bash_case(const char *indent, const struct command_row *c, struct buf *out)
{
    buf_printf(out, "%s%s) options=\"", indent, c->name);
    add_option_words(c->options, out);
    buf_add_char(out, '"');
    if (c->kind == OPERAND_FILE)
        buf_add_string(out, "; files=1");
    else if (asker(c->kind))
        buf_printf(out, "; words=\"$(%s)\"", asker(c->kind));
    buf_add_string(out, " ;;\n");
}

static void add_bash(struct buf *out)
{
    buf_add_string(out, "_mt() {\n  local current=\"${COMP_WORDS[COMP_CWORD]}\" command=\"\" sub=\"\" i options=\"\" words=\"\" files=\"\"\n"
                   "  for ((i = 1; i < COMP_CWORD; i++)); do\n    case \"${COMP_WORDS[i]}\" in\n      -*) ;;\n"
                   "      *) if [ -z \"$command\" ]; then command=\"${COMP_WORDS[i]}\"; "
                   "elif [ -z \"$sub\" ]; then sub=\"${COMP_WORDS[i]}\"; fi ;;\n    esac\n  done\n"
                   "  case \"$command\" in\n    \"\") words=\"");
    add_names(commands, out);
    buf_add_string(out, "\" ;;\n");
    for (const struct command_row *const *c = commands; *c; c++) {
        if (!(*c)->subcommands) {
            add_bash_case("    ", *c, out);
            continue;
        }
        buf_printf(out, "    %s) case \"$sub\" in\n", (*c)->name);
        for (const struct command_row *const *s = (*c)->subcommands; *s; s++)
            add_bash_case("      ", *s, out);
        buf_add_string(out, "      *) words=\"");
        add_names((*c)->subcommands, out);
        buf_add_string(out, "\" ;;\n    esac ;;\n");
    }
    buf_add_string(out, "  esac\n  case \"$current\" in -*) words=\"$options");
    add_option_words(global_options, out);
    buf_add_string(out, "\"; files=\"\" ;; esac\n  COMPREPLY=($(compgen ${files:+-f} -W \"$words\" -- \"$current\"))\n}\n"
                   "complete -o filenames -F _mt mt\n");
}

/* --- fish --- */

static void add_fish_text(struct buf *out, const char *s)
{
    buf_add_char(out, '\'');
    for (; *s; s++) {
        if (*s == '\'' || *s == '\\')
            buf_add_char(out, '\\');
        buf_add_char(out, *s);
    }
    buf_add_char(out, '\'');
}

static void add_fish_options(const char *condition, const struct option_row *o, struct buf *out)
{
    for (; o && o->name; o++) {
        buf_printf(out, "complete -c mt%s%s%s -l %s", condition ? " -n '" : "", condition ? condition : "",
                   condition ? "'" : "", o->name);
        if (o->letter)
            buf_printf(out, " -s %c", o->letter);
        if (o->value)
            buf_add_string(out, " -r");
        if (o->choices) {
            buf_add_string(out, " -f -a '");
            for (const char *const *c = o->choices; *c; c++)
                buf_printf(out, "%s%s", c == o->choices ? "" : " ", *c);
            buf_add_char(out, '\'');
        }
        buf_add_string(out, " -d ");
        add_fish_text(out, o->help);
        buf_add_char(out, '\n');
    }
}

static void add_fish_commands(const struct command_row *const *list, const char *condition, struct buf *out)
{
    for (; *list; list++) {
        const struct command_row *c = *list;
        buf_printf(out, "complete -c mt -f -n '%s' -a %s -d ", condition, c->name);
        add_fish_text(out, c->summary);
        buf_add_char(out, '\n');
        CLEANUP_FREE char *seen = mem_printf("__fish_seen_subcommand_from %s", c->name);
        add_fish_options(seen, c->options, out);
        if (c->kind == OPERAND_FILE)
            buf_printf(out, "complete -c mt -n '%s' -F\n", seen);
        else if (asker(c->kind))
            buf_printf(out, "complete -c mt -f -n '%s' -a '(%s)'\n", seen, asker(c->kind));
        if (c->subcommands) {
            CLEANUP_BUF struct buf names = {0};
            add_names(c->subcommands, &names);
            CLEANUP_FREE char *inside = mem_printf("%s; and not __fish_seen_subcommand_from %s", seen, names.data);
            add_fish_commands(c->subcommands, inside, out);
        }
    }
}

static void add_fish(struct buf *out)
{
    add_fish_commands(commands, "__fish_use_subcommand", out);
    add_fish_options(NULL, global_options, out);
}

static void add_zsh(struct buf *out)
{
    buf_add_string(out, "#compdef mt\nautoload -U +X bashcompinit && bashcompinit\n");
    add_bash(out);
}

int help_completion(const char *shell, struct buf *out)
{
    static const struct { const char *shell; void (*add)(struct buf *out); } shells[] = {
        {"bash", add_bash}, {"zsh", add_zsh}, {"fish", add_fish}};
    for (size_t i = 0; i < ARRAY_LEN(shells); i++)
        if (!strcmp(shells[i].shell, shell)) {
            shells[i].add(out);
            return 0;
        }
    return -1;
}
