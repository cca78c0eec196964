/* Completion: one script for each shell. Names of commands and options come from the tables; names of services,
 * allocations and nodes are asked of the servers while the user types (`mt services -q`), in the namespace that the line names.
 *
 * bash and zsh share _mt_find, in what both understand: it is given the words so far and says which words and whether
 * files can follow. fish has conditions instead, which look at the words by __mt_words. */
#include <string.h>

#include "cli/help.h"

static const struct { enum operand_kind kind; const char *shell_command; } askers[] = {
    {OPERAND_SERVICE, "mt services -q 2>/dev/null"},
    {OPERAND_ALLOC, "mt allocs -q 2>/dev/null"},
    {OPERAND_NODE, "mt nodes -q 2>/dev/null"},
    {OPERAND_NAMESPACE, "mt namespace list -q 2>/dev/null"},
    {OPERAND_SHELL, "echo bash zsh fish"},
};

static const char *asker(enum operand_kind kind)
{
    for (size_t i = 0; i < ARRAY_LEN(askers); i++)
        if (askers[i].kind == kind)
            return askers[i].shell_command;
    return NULL;
}

static bool takes_path(const struct option_row *o)
{
    return o->value && (!strcmp(o->value, "FILE") || !strcmp(o->value, "DIR"));
}

static bool takes_namespace(const struct option_row *o)
{
    return o->value && !strcmp(o->value, "NAMESPACE");
}

static void add_names(const struct command_row *const *list, struct buf *out)
{
    for (const struct command_row *const *c = list; *c; c++)
        buf_printf(out, "%s%s", c == list ? "" : " ", (*c)->name);
}

static void add_choices(const struct option_row *o, struct buf *out)
{
    for (const char *const *c = o->choices; *c; c++)
        buf_printf(out, "%s%s", c == o->choices ? "" : " ", *c);
}

/* Of all options of all commands, each once: an option takes a value in every command that has it or in none. */
struct option_set { const struct option_row *v[128]; size_t n; };

static void add_set(struct option_set *set, const struct option_row *o)
{
    for (; o && o->name; o++) {
        size_t i = 0;
        while (i < set->n && strcmp(set->v[i]->name, o->name))
            i++;
        if (i == set->n && set->n < ARRAY_LEN(set->v))
            set->v[set->n++] = o;
    }
}

static void add_set_of_commands(struct option_set *set, const struct command_row *const *list)
{
    for (; *list; list++) {
        add_set(set, (*list)->options);
        if ((*list)->subcommands)
            add_set_of_commands(set, (*list)->subcommands);
    }
}

static struct option_set all_options(void)
{
    struct option_set set = {0};
    add_set(&set, global_options);
    add_set_of_commands(&set, commands);
    return set;
}

/* "--output|-o" of each option that takes a value, with the separator between all. */
static void add_value_patterns(const char *separator, struct buf *out)
{
    struct option_set set = all_options();
    for (size_t i = 0, n = 0; i < set.n; i++) {
        if (!set.v[i]->value)
            continue;
        buf_printf(out, "%s--%s", n++ ? separator : "", set.v[i]->name);
        if (set.v[i]->letter)
            buf_printf(out, "%s-%c", separator, set.v[i]->letter);
    }
}

/* --- bash and zsh --- */

static void add_option_words(const struct option_row *o, struct buf *out)
{
    for (; o && o->name; o++)
        buf_printf(out, " --%s", o->name);
}

/* What the value of an option can be, where that is known. */
static void add_value_cases(struct buf *out)
{
    struct option_set set = all_options();
    for (size_t i = 0; i < set.n; i++) {
        const struct option_row *o = set.v[i];
        if (!o->choices && !takes_path(o) && !takes_namespace(o))
            continue;
        buf_printf(out, "    --%s", o->name);
        if (o->letter)
            buf_printf(out, "|-%c", o->letter);
        if (o->choices) {
            buf_add_string(out, ") mt_words='");
            add_choices(o, out);
            buf_add_string(out, "' ;;\n");
        } else if (takes_namespace(o)) {
            buf_printf(out, ") mt_words=$(%s) ;;\n", asker(OPERAND_NAMESPACE));
        } else {
            buf_add_string(out, ") mt_files=1 ;;\n");
        }
    }
}

static void add_command_case(const char *indent, const struct command_row *c, struct buf *out)
{
    buf_printf(out, "%s%s) options='", indent, c->name);
    add_option_words(c->options, out);
    buf_add_char(out, '\'');
    if (c->kind == OPERAND_FILE)
        buf_add_string(out, "; mt_files=1");
    else if (asker(c->kind))
        buf_printf(out, "; asker='%s'", asker(c->kind));
    buf_add_string(out, " ;;\n");
}

static void add_command_cases(struct buf *out)
{
    for (const struct command_row *const *c = commands; *c; c++) {
        if (!(*c)->subcommands) {
            add_command_case("    ", *c, out);
            continue;
        }
        buf_printf(out, "    %s) case \"$sub\" in\n", (*c)->name);
        for (const struct command_row *const *s = (*c)->subcommands; *s; s++)
            add_command_case("      ", *s, out);
        buf_add_string(out, "      *) mt_words='");
        add_names((*c)->subcommands, out);
        buf_add_string(out, "' ;;\n    esac ;;\n");
    }
}

static void add_find(struct buf *out)
{
    buf_add_string(out,
        "_mt_find() {\n"
        "  local command='' sub='' option='' skip='' options='' asker='' namespace=''\n"
        "  mt_words='' mt_files=''\n"
        "  while [ $# -gt 1 ]; do\n"
        "    case \"$1\" in\n"
        /* bash splits --option=value and host:port there. */
        "    =|:) skip=1; shift; continue ;;\n"
        "    esac\n"
        "    if [ -n \"$skip\" ]; then\n"
        "      case \"$option\" in --namespace|-N) namespace=$1 ;; esac\n"
        "      skip='' option=''; shift; continue\n"
        "    fi\n"
        "    case \"$1\" in\n"
        "    --) return ;;\n"
        "    --namespace=*) namespace=${1#*=} ;;\n"
        "    ");
    add_value_patterns("|", out);
    buf_add_string(out,
        ") option=$1; skip=1 ;;\n"
        "    -*) ;;\n"
        "    *) if [ -z \"$command\" ]; then command=$1; elif [ -z \"$sub\" ]; then sub=$1; fi ;;\n"
        "    esac\n"
        "    shift\n"
        "  done\n"
        "  if [ -n \"$skip\" ]; then\n"
        "    case \"$option\" in\n");
    add_value_cases(out);
    buf_add_string(out,
        "    esac\n"
        "    return\n"
        "  fi\n"
        "  case \"$command\" in\n"
        "    '') mt_words='");
    add_names(commands, out);
    buf_add_string(out, "' ;;\n");
    add_command_cases(out);
    buf_add_string(out,
        "  esac\n"
        "  case \"$1\" in\n"
        "  -*) mt_files=''; mt_words=\"$options");
    add_option_words(global_options, out);
    buf_add_string(out,
        "\" ;;\n"
        "  *) [ -z \"$asker\" ] || mt_words=$([ -z \"$namespace\" ] || export MENTAT_NAMESPACE=\"$namespace\"; eval \"$asker\") ;;\n"
        "  esac\n"
        "}\n");
}

static void add_bash(struct buf *out)
{
    add_find(out);
    buf_add_string(out,
        "_mt() {\n"
        "  local mt_words mt_files current=\"${COMP_WORDS[COMP_CWORD]}\"\n"
        "  [ \"$current\" != = ] || current=''\n"
        "  _mt_find \"${COMP_WORDS[@]:1:COMP_CWORD-1}\" \"$current\"\n"
        "  COMPREPLY=()\n"
        "  if [ -n \"$mt_files\" ]; then\n"
        "    compopt -o filenames 2>/dev/null\n"
        "    mapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
        "  fi\n"
        "  COMPREPLY+=($(compgen -W \"$mt_words\" -- \"$current\"))\n"
        "}\n"
        "complete -F _mt mt\n");
}

static void add_zsh(struct buf *out)
{
    buf_add_string(out, "#compdef mt\n");
    add_find(out);
    buf_add_string(out,
        "_mt() {\n"
        "  local mt_words mt_files\n"
        "  _mt_find \"${(@)words[2,CURRENT]}\"\n"
        "  [ -z \"$mt_files\" ] || _files\n"
        "  [ -z \"$mt_words\" ] || compadd -- ${=mt_words}\n"
        "}\n"
        /* As a file in fpath this is the body of _mt itself. */
        "if [ \"${funcstack[1]}\" = _mt ]; then _mt \"$@\"; else compdef _mt mt; fi\n");
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
        buf_add_string(out, "complete -c mt");
        if (condition)
            buf_printf(out, " -n '%s'", condition);
        buf_printf(out, " -l %s", o->name);
        if (o->letter)
            buf_printf(out, " -s %c", o->letter);
        if (o->value)
            buf_add_string(out, takes_path(o) ? " -r -F" : " -x");
        if (takes_namespace(o))
            buf_printf(out, " -a '(%s | string split \" \")'", asker(OPERAND_NAMESPACE));
        if (o->choices) {
            buf_add_string(out, " -a '");
            add_choices(o, out);
            buf_add_char(out, '\'');
        }
        buf_add_string(out, " -d ");
        add_fish_text(out, o->help);
        buf_add_char(out, '\n');
    }
}

/* path: the words of the group, and a blank; "" at the top. */
static void add_fish_commands(const struct command_row *const *list, const char *path, struct buf *out)
{
    for (; *list; list++) {
        const struct command_row *c = *list;
        buf_printf(out, "complete -c mt -f -n '__mt_after %s' -a %s -d ", path, c->name);
        add_fish_text(out, c->summary);
        buf_add_char(out, '\n');
        CLEANUP_FREE char *inside = mem_printf("__mt_in %s%s", path, c->name);
        add_fish_options(inside, c->options, out);
        if (c->kind == OPERAND_FILE)
            buf_printf(out, "complete -c mt -n '%s' -F\n", inside);
        else if (asker(c->kind))
            buf_printf(out, "complete -c mt -f -n '%s' -a '(__mt_ask %s | string split \" \")'\n", inside, asker(c->kind));
        if (c->subcommands) {
            CLEANUP_FREE char *deeper = mem_printf("%s%s ", path, c->name);
            add_fish_commands(c->subcommands, deeper, out);
        }
    }
}

static void add_fish(struct buf *out)
{
    buf_add_string(out,
        "# The words so far that are no options and no values of options.\n"
        "function __mt_words\n"
        "    set -l skip 0\n"
        "    for word in (commandline -opc)[2..]\n"
        "        if test $skip -eq 1\n"
        "            set skip 0\n"
        "            continue\n"
        "        end\n"
        "        switch $word\n"
        "            case ");
    add_value_patterns(" ", out);
    buf_add_string(out,
        "\n"
        "                set skip 1\n"
        "            case '-*'\n"
        "            case '*'\n"
        "                echo $word\n"
        "        end\n"
        "    end\n"
        "end\n"
        "# Runs this in the namespace that the line names.\n"
        "function __mt_ask\n"
        "    set -l namespace\n"
        "    set -l next 0\n"
        "    for word in (commandline -opc)[2..]\n"
        "        if test $next -eq 1\n"
        "            set namespace MENTAT_NAMESPACE=$word\n"
        "        else if string match -q -- '--namespace=*' $word\n"
        "            set namespace MENTAT_NAMESPACE=(string replace -- --namespace= '' $word)\n"
        "        end\n"
        "        set next (contains -- $word --namespace -N; and echo 1; or echo 0)\n"
        "    end\n"
        "    env $namespace $argv\n"
        "end\n"
        "# They begin with these.\n"
        "function __mt_in\n"
        "    set -l given (__mt_words)\n"
        "    for i in (seq (count $argv))\n"
        "        test \"$given[$i]\" = \"$argv[$i]\"; or return 1\n"
        "    end\n"
        "end\n"
        "# They are exactly these.\n"
        "function __mt_after\n"
        "    test (count (__mt_words)) -eq (count $argv); and __mt_in $argv\n"
        "end\n"
        "complete -c mt -f\n");
    add_fish_commands(commands, "", out);
    add_fish_options(NULL, global_options, out);
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
