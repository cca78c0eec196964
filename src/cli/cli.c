/* From the command line to a command: global options, the command's row, its options and operands, its run. */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/api.h"
#include "cli/authorities.h"
#include "cli/help.h"
#include "cli/manual.h"
#include "cli/settings.h"

#define COMMANDS_MAX 64
/* On a server's host, for who may read it: the server's own word about whom to believe. */
#define LOCAL_CA "/var/lib/mentat/state/tls/authorities.pem"
#define LOCAL_ADDRESS "https://127.0.0.1:4646"

static const char *const format_names[] = {"table", "json", "yaml", "wide", NULL};

const struct option_row global_options[] = {
    {"address", 0, "URL", "Where the servers are; several, comma separated, are tried in turn (MENTAT_ADDR; default "
     ADDRESS_DEFAULT ").", NULL},
    {"token", 0, "TOKEN", "Who asks (MENTAT_TOKEN).", NULL},
    {"ca", 0, "FILE", "Certificates (PEM) of the authority that the servers must have.", NULL},
    {"cert", 0, "FILE", "Our certificate (PEM).", NULL},
    {"key", 0, "FILE", "Its key (PEM).", NULL},
    {"namespace", 'N', "NAMESPACE", "In which namespace (MENTAT_NAMESPACE; default default); lists take '*' for all.", NULL},
    {"output", 'o', "FORMAT", "table, json, yaml or wide.", format_names},
    {"no-color", 0, NULL, "No colours (also NO_COLOR).", NULL},
    {"quiet", 'q', NULL, "Only what was asked for: no progress; lists give names alone.", NULL},
    {"help", 'h', NULL, "Says how a command is used.", NULL},
    {0},
};
static const struct option_row top_options[] = {
    {"version", 'V', NULL, "The release of this program.", NULL},
    {"man", 0, NULL, "The manual page, as roff: mt --man | man -l -", NULL},
    {"man-pages", 0, "DIR", "Writes the pages of mt, of each command and of services.yaml into DIR/man1 and DIR/man5.", NULL},
    {0},
};

static const struct option_row no_options[] = {{0}};

const char *cli_setting(const struct cli *cli, const char *option, const char *variable)
{
    const char *v = args_get(cli->args, option);
    if (!v && variable)
        v = getenv(variable);
    return v && *v ? v : NULL;
}

/* The --token of `mt cluster join` is a join token, or where one is read, and says nothing of who asks. */
static const char *who_asks(const struct cli *cli)
{
    const char *given = cli_setting(cli, "token", "MENTAT_TOKEN"), *other = getenv("MENTAT_TOKEN");
    bool joins = given && (strchr(given, '@') || !strcmp(given, "-"));
    return !joins ? given : other && *other ? other : NULL;
}

const char *cli_namespace_asked(const struct cli *cli)
{
    return cli_setting(cli, "namespace", "MENTAT_NAMESPACE");
}

struct api *cli_api(struct cli *cli, struct error *err)
{
    if (cli->api)
        return cli->api;
    struct api_options o = {
        .addresses = cli_setting(cli, "address", "MENTAT_ADDR"), .token = who_asks(cli),
        .namespace = cli->file_namespace ? cli->file_namespace : cli_namespace_asked(cli),
        .ca = cli_setting(cli, "ca", NULL), .cert = cli_setting(cli, "cert", NULL), .key = cli_setting(cli, "key", NULL),
    };
    struct settings kept = {0};
    /* What login kept belongs together: a token is not sent to an address that it was not kept for. */
    if (!o.addresses && settings_load(&kept, err)) {
        type_clear(&settings_type, &kept);
        return NULL;
    }
    bool local = !o.addresses && !kept.address && !o.ca && access(LOCAL_CA, R_OK) == 0;
    if (!o.addresses)
        o.addresses = kept.address ? kept.address : local ? LOCAL_ADDRESS : ADDRESS_DEFAULT;
    if (!o.ca && local)
        o.ca = LOCAL_CA;
    if (!o.token)
        o.token = kept.token;
    CLEANUP_FREE char *fetched = settings_ca_path();
    cli->fetched_ca = !o.ca && kept.ca && fetched && !strcmp(kept.ca, fetched);
    if (!o.ca)
        o.ca = kept.ca;
    if (!o.namespace)
        o.namespace = kept.namespace;
    cli->api = api_new(&o, err);
    type_clear(&settings_type, &kept);
    return cli->api;
}

int cli_fail(const struct cli *cli, const struct error *err)
{
    fflush(stdout);
    CLEANUP_FREE char *text = mem_strdup(err->text);
    text_tame(text, true);
    fprintf(stderr, "mt: %s\n", text);
    if (cli->api && api_unreached(cli->api) && err->code != ERROR_INVALID && err->code != ERROR_DENIED)
        return STATUS_UNREACHED;
    switch (err->code) {
    case ERROR_INVALID: return STATUS_USAGE;
    case ERROR_DENIED:
    case ERROR_UNAUTHENTICATED: return STATUS_DENIED;
    default: return STATUS_FAILED;
    }
}

bool cli_confirmed(const struct cli *cli, const char *what, const char *nothing, struct error *err)
{
    char answer[16] = "";
    if (args_has(cli->args, "yes"))
        return true;
    if (!isatty(STDIN_FILENO)) {
        error_set(err, ERROR_INVALID, "%s; say --yes if that is meant", what);
        return false;
    }
    fprintf(stderr, "%s. Write yes if that is meant: ", what);
    if (fgets(answer, sizeof answer, stdin) && !strcmp(answer, "yes\n"))
        return true;
    error_set(err, ERROR_CANCELLED, "%s", nothing);
    return false;
}

void cli_say(const struct cli *cli, const char *fmt, ...)
{
    if (cli->quiet || cli->format == OUTPUT_JSON || cli->format == OUTPUT_YAML)
        return;
    va_list ap;
    va_start(ap, fmt);
    CLEANUP_FREE char *text = NULL;
    INVARIANT(vasprintf(&text, fmt, ap) >= 0);
    va_end(ap);
    text_tame(text, true);
    puts(text);
    fflush(stdout);
}

const char *cli_operand(const struct cli *cli, int n)
{
    return args_operand(cli->args, n);
}

static void find_settings(struct cli *cli)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    struct winsize size;
    int format = 0;
    for (const char *name = args_get(cli->args, "output"); name && strcmp(format_names[format], name);)
        format++;
    cli->format = (enum output_format)format;
    cli->terminal = isatty(STDOUT_FILENO) && (!term || strcmp(term, "dumb"));
    cli->color = cli->terminal && !(no_color && *no_color) && !args_has(cli->args, "no-color");
    cli->quiet = args_has(cli->args, "quiet");
    if (cli->terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
        cli->columns = size.ws_col;
}

static int print(const struct buf *text)
{
    fwrite(text->data ? text->data : "", 1, text->len, stdout);
    return STATUS_DONE;
}

static int usage_error(const struct command_row *group, const struct command_row *c, const char *text)
{
    if (c)
        fprintf(stderr, "mt %s%s%s: %s\nsee `mt %s%s%s --help`\n", group ? group->name : "", group ? " " : "", c->name, text,
                group ? group->name : "", group ? " " : "", c->name);
    else
        fprintf(stderr, "mt: %s\nsee `mt --help`\n", text);
    return STATUS_USAGE;
}

static const struct command_row *find_command(const struct command_row *const *list, const struct command_row *group,
                                              const char *name)
{
    const char *names[COMMANDS_MAX + 1];
    size_t n = 0;
    for (; *list; list++) {
        if (!strcmp((*list)->name, name))
            return *list;
        if (n < COMMANDS_MAX)
            names[n++] = (*list)->name;
    }
    names[n] = NULL;
    const char *near = text_nearest(name, names);
    CLEANUP_FREE char *text = mem_printf("there is no command \"%.64s\"%s%s%s", name, near ? "; did you mean `" : "",
                                         near ? near : "", near ? "`?" : "");
    usage_error(NULL, group, text);
    return NULL;
}

static int check_operands(const struct command_row *group, const struct command_row *c, const struct args *a)
{
    CLEANUP_FREE char *text = NULL;
    if (a->operand_count < c->min)
        text = mem_printf("too little is given: %s is needed", c->operands);
    else if (c->max >= 0 && a->operand_count > c->max)
        text = mem_printf("\"%.64s\" is one word too many%s%s", a->operands[c->max], c->operands ? "; it takes " : "",
                          c->operands ? c->operands : "");
    else if (a->rest_count && !c->takes_rest)
        text = mem_printf("nothing can follow --");
    return text ? usage_error(group, c, text) : STATUS_DONE;
}

/* Runs a command whose words begin at argv[0]. */
static int run_command(struct cli *cli, struct args *a, const struct command_row *group, const struct command_row *c,
                       int argc, char **argv)
{
    const struct option_row *tables[] = {global_options, c->options ? c->options : no_options, NULL};
    struct error err = {0};
    int used = args_parse(a, argc, argv, tables, c->subcommands ? ARGS_BEFORE_OPERAND : ARGS_ALL, &err);
    if (used >= 0 && used < argc) {
        const struct command_row *sub = find_command(c->subcommands, c, argv[used]);
        return sub ? run_command(cli, a, c, sub, argc - used - 1, argv + used + 1) : STATUS_USAGE;
    }
    if (used < 0)
        return usage_error(group, c, err.text);
    if (args_has(a, "help")) {
        CLEANUP_BUF struct buf text = {0};
        help_command(group, c, &text);
        return print(&text);
    }
    if (c->subcommands)
        return usage_error(group, c, "which of its commands?");
    int status = check_operands(group, c, a);
    if (status)
        return status;
    find_settings(cli);
    if (cli->confine && !c->starts_programs && cli->confine(&err))
        fprintf(stderr, "mt: %s\n", err.text);              /* it does without */
    status = c->run(cli);
    if (fflush(stdout) && errno != EPIPE && status == STATUS_DONE) {      /* who reads may have had enough */
        fprintf(stderr, "mt: the output could not be written\n");
        status = STATUS_FAILED;
    }
    return status;
}

static int run_top(struct cli *cli, struct args *a, int argc, char **argv)
{
    const struct option_row *tables[] = {global_options, top_options, NULL};
    struct error err = {0};
    CLEANUP_BUF struct buf text = {0};
    int used = args_parse(a, argc, argv, tables, ARGS_BEFORE_OPERAND, &err);
    if (used < 0)
        return usage_error(NULL, NULL, err.text);
    if (args_has(a, "version")) {
        printf("mt %s\n", MENTAT_VERSION);
        return STATUS_DONE;
    }
    if (args_has(a, "man")) {
        manual_mt(&text);
        return print(&text);
    }
    if (args_has(a, "man-pages"))
        return manual_write(args_get(a, "man-pages"), &err) ? cli_fail(&(struct cli){.args = a}, &err) : STATUS_DONE;
    bool help_word = used < argc && !strcmp(argv[used], "help");
    if (args_has(a, "help") || help_word) {
        const char *topic = args_has(a, "help") ? NULL : argv[used + 1];
        const struct command_row *c = topic ? find_command(commands, NULL, topic) : NULL;
        if (topic && !c)
            return STATUS_USAGE;
        if (c)
            help_command(NULL, c, &text);
        else
            help_overview(&text);
        return print(&text);
    }
    if (used == argc) {
        help_overview(&text);
        fputs(text.data, stderr);
        return STATUS_USAGE;
    }
    const struct command_row *c = find_command(commands, NULL, argv[used]);
    return c ? run_command(cli, a, NULL, c, argc - used - 1, argv + used + 1) : STATUS_USAGE;
}

int cli_main(int argc, char **argv, int (*confine)(struct error *err))
{
    struct args args = {0};
    struct cli cli = {.args = &args, .confine = confine};
    int status = run_top(&cli, &args, argc > 0 ? argc - 1 : 0, argv + 1);
    if (status == STATUS_DONE)
        authorities_refresh(&cli, AUTHORITIES_AGE_S);
    if (cli.api)
        api_free(cli.api);
    args_clear(&args);
    return status;
}
