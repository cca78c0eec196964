/* Args: options and operands of a command line, by tables. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* A row; a table ends with a row without name. */
struct option_row {
    const char *name;            /* long name, without hyphens */
    char letter;                 /* short name; 0: none */
    const char *value;           /* what its value is called in help texts; NULL: a switch */
    const char *help;            /* one sentence */
    const char *const *choices;  /* NULL-ended; NULL: any value */
};

struct arg_value {
    const struct option_row *option;
    const char *value;           /* NULL for a switch */
};

/* All strings are borrowed from argv. */
struct args {
    struct arg_value *values;
    size_t value_count;
    const char **operands;
    int operand_count;
    const char **rest;           /* the words after "--", NULL-ended */
    int rest_count;
};

enum args_stop {
    ARGS_ALL,                    /* options and operands may be mixed */
    ARGS_BEFORE_OPERAND,         /* stops at the first operand */
};

/* Adds what argv holds (from argv[0] on) to a, which was zero at first. tables: NULL-ended. Returns how many words were
 * used, or -1 with err (ERROR_INVALID), which names the word and the nearest known option. */
int args_parse(struct args *a, int argc, char **argv, const struct option_row *const *tables, enum args_stop stop,
               struct error *err);
void args_clear(struct args *a);

bool args_has(const struct args *a, const char *name);
/* The last value given; NULL when absent. */
const char *args_get(const struct args *a, const char *name);
/* A whole number from min to max; absent: *out stays. */
int args_number(const struct args *a, const char *name, long long min, long long max, long long *out, struct error *err);
/* The n-th operand, NULL when there is none. */
const char *args_operand(const struct args *a, int n);
/* A whole number from min to max out of any text; what: how the error calls it. */
int number_parse(const char *what, const char *text, long long min, long long max, long long *out, struct error *err);
