/* Cli: what every command of mt shares: its description, its settings, and how it ends. */
#pragma once
#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"
#include "cli/args.h"

enum exit_status {
    STATUS_DONE,
    STATUS_FAILED,       /* it failed, or the deployment did */
    STATUS_USAGE,        /* bad usage or bad file */
    STATUS_UNREACHED,    /* no server reached */
    STATUS_DENIED,       /* not allowed */
};

enum output_format { OUTPUT_TABLE, OUTPUT_JSON, OUTPUT_YAML, OUTPUT_WIDE };

struct api;

#define ADDRESS_DEFAULT "http://127.0.0.1:4646"

struct cli {
    const struct args *args;
    enum output_format format;
    bool color;              /* standard output takes colours */
    bool terminal;           /* standard output is a terminal */
    bool quiet;
    int columns;             /* width of the terminal; 0: none */
    struct api *api;         /* made by cli_api at first use */
    bool fetched_ca;         /* it believes what `mt login` fetched */
    const char *file_namespace;      /* of the file that is submitted; NULL: it names none */
    int (*confine)(struct error *err);
};

/* What the operands of a command are, for completion. */
enum operand_kind { OPERAND_NONE, OPERAND_FILE, OPERAND_SERVICE, OPERAND_ALLOC, OPERAND_NODE, OPERAND_NAMESPACE, OPERAND_SHELL };

struct command_row {
    const char *name;
    const char *operands;                /* "SERVICE N", "[FILE]"; NULL: none */
    int min, max;                        /* how many */
    bool takes_rest;                     /* words after "--" */
    bool starts_programs;                /* not to be confined */
    enum operand_kind kind;
    const struct option_row *options;    /* NULL: none but the global ones */
    const char *summary;                 /* one line, no full stop */
    const char *help;                    /* paragraphs; NULL: the summary says all */
    int (*run)(struct cli *cli);         /* returns an exit status; NULL: a group */
    const struct command_row *const *subcommands;   /* NULL-ended; of a group */
};

extern const struct command_row *const commands[];      /* NULL-ended */
extern const struct option_row global_options[];

/* Runs the command line. argv as of main. confine takes from the process what most commands do not need; NULL: nothing. */
int cli_main(int argc, char **argv, int (*confine)(struct error *err));

/* The connection to the servers, by --address and its like. NULL with err. */
struct api *cli_api(struct cli *cli, struct error *err);
/* The namespace that was asked for on the command line or by MENTAT_NAMESPACE; NULL: none. */
const char *cli_namespace_asked(const struct cli *cli);
/* Says what is wrong on stderr and returns the exit status that its code stands for. */
int cli_fail(const struct cli *cli, const struct error *err);
/* A plain line on stdout for people; nothing with -q. */
void cli_say(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Whether what cannot be taken back is meant: --yes, or "yes" to a question that begins with `what` ("This deletes …"). False
 * with err, which says `nothing` was done. */
bool cli_confirmed(const struct cli *cli, const char *what, const char *nothing, struct error *err);
const char *cli_operand(const struct cli *cli, int n);
/* The option's value, else the variable's (NULL: none); NULL when neither says anything. */
const char *cli_setting(const struct cli *cli, const char *option, const char *variable);
