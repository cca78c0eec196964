#include "cli/args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/text.h"

#define SUGGESTIONS_MAX 64

static const struct option_row *find(const struct option_row *const *tables, const char *name, size_t len, char letter)
{
    for (; *tables; tables++)
        for (const struct option_row *o = *tables; o->name; o++)
            if (letter ? o->letter == letter : strlen(o->name) == len && !strncmp(o->name, name, len))
                return o;
    return NULL;
}

static int unknown(const struct option_row *const *tables, const char *word, size_t len, struct error *err)
{
    const char *names[SUGGESTIONS_MAX + 1];
    size_t n = 0;
    for (; *tables; tables++)
        for (const struct option_row *o = *tables; o->name && n < SUGGESTIONS_MAX; o++)
            names[n++] = o->name;
    names[n] = NULL;
    CLEANUP_FREE char *name = mem_strndup(word + 2, len > 2 ? len - 2 : 0);
    const char *near = word[1] == '-' ? text_nearest(name, names) : NULL;
    return error_set(err, ERROR_INVALID, "unknown option %.*s%s%s%s", (int)(len < 64 ? len : 64), word,
                     near ? "; did you mean --" : "", near ? near : "", near ? "?" : "");
}

static int add(struct args *a, const struct option_row *o, const char *value, struct error *err)
{
    if (value && o->choices) {
        bool known = false;
        for (const char *const *c = o->choices; *c; c++)
            known = known || !strcmp(*c, value);
        if (!known) {
            const char *near = text_nearest(value, o->choices);
            CLEANUP_BUF struct buf all = {0};
            for (const char *const *c = o->choices; *c; c++)
                buf_printf(&all, "%s%s", c == o->choices ? "" : c[1] ? ", " : " or ", *c);
            return error_set(err, ERROR_INVALID, "--%s: there is no %s \"%.64s\"; %s%s%s", o->name, o->value, value,
                             near ? "did you mean " : "it is ", near ? near : all.data, near ? "?" : "");
        }
    }
    a->values = mem_realloc_array(a->values, a->value_count + 1, sizeof *a->values);
    a->values[a->value_count++] = (struct arg_value){o, value};
    return 0;
}

/* One word "--name", "--name=value", and the next word where that is the value. Returns the words used. */
static int parse_long(struct args *a, int argc, char **argv, const struct option_row *const *tables, struct error *err)
{
    const char *equals = strchr(argv[0], '=');
    size_t len = equals ? (size_t)(equals - argv[0]) : strlen(argv[0]);
    const struct option_row *o = find(tables, argv[0] + 2, len - 2, 0);
    if (!o)
        return unknown(tables, argv[0], len, err);
    if (!o->value && equals)
        return error_set(err, ERROR_INVALID, "--%s takes no value", o->name);
    if (o->value && !equals && argc < 2)
        return error_set(err, ERROR_INVALID, "--%s needs a value: --%s %s", o->name, o->name, o->value);
    const char *value = !o->value ? NULL : equals ? equals + 1 : argv[1];
    return add(a, o, value, err) ? -1 : o->value && !equals ? 2 : 1;
}

/* One word of letters: "-f", "-fw", "-ojson", "-o" "json". */
static int parse_short(struct args *a, int argc, char **argv, const struct option_row *const *tables, struct error *err)
{
    for (const char *p = argv[0] + 1; *p; p++) {
        const struct option_row *o = find(tables, NULL, 0, *p);
        if (!o)
            return error_set(err, ERROR_INVALID, "unknown option -%c", *p);
        if (!o->value) {
            if (add(a, o, NULL, err))
                return -1;
            continue;
        }
        if (!p[1] && argc < 2)
            return error_set(err, ERROR_INVALID, "-%c needs a value: -%c %s", *p, *p, o->value);
        return add(a, o, p[1] ? p + 1 : argv[1], err) ? -1 : p[1] ? 1 : 2;
    }
    return 1;
}

static void add_operand(struct args *a, const char *word)
{
    a->operands = mem_realloc_array(a->operands, (size_t)a->operand_count + 1, sizeof *a->operands);
    a->operands[a->operand_count++] = word;
}

int args_parse(struct args *a, int argc, char **argv, const struct option_row *const *tables, enum args_stop stop,
               struct error *err)
{
    int i = 0;
    while (i < argc) {
        const char *word = argv[i];
        if (!strcmp(word, "--")) {
            a->rest_count = argc - i - 1;
            a->rest = mem_array((size_t)a->rest_count + 1, sizeof *a->rest);
            for (int k = 0; k < a->rest_count; k++)
                a->rest[k] = argv[i + 1 + k];
            return argc;
        }
        if (word[0] != '-' || !word[1]) {
            if (stop == ARGS_BEFORE_OPERAND)
                return i;
            add_operand(a, word);
            i++;
            continue;
        }
        int used = word[1] == '-' ? parse_long(a, argc - i, argv + i, tables, err)
                                  : parse_short(a, argc - i, argv + i, tables, err);
        if (used < 0)
            return -1;
        i += used;
    }
    return i;
}

void args_clear(struct args *a)
{
    free(a->values);
    free(a->operands);
    free(a->rest);
    *a = (struct args){0};
}

bool args_has(const struct args *a, const char *name)
{
    for (size_t i = 0; i < a->value_count; i++)
        if (!strcmp(a->values[i].option->name, name))
            return true;
    return false;
}

const char *args_get(const struct args *a, const char *name)
{
    for (size_t i = a->value_count; i-- > 0;)
        if (!strcmp(a->values[i].option->name, name))
            return a->values[i].value;
    return NULL;
}

int number_parse(const char *what, const char *text, long long min, long long max, long long *out, struct error *err)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (!*text || *end || errno || v < min || v > max)
        return error_set(err, ERROR_INVALID, "%s: \"%.64s\" is not a whole number from %lld to %lld", what, text, min, max);
    *out = v;
    return 0;
}

int args_number(const struct args *a, const char *name, long long min, long long max, long long *out, struct error *err)
{
    const char *text = args_get(a, name);
    if (!text)
        return 0;
    CLEANUP_FREE char *what = mem_printf("--%s", name);
    return number_parse(what, text, min, max, out, err);
}

const char *args_operand(const struct args *a, int n)
{
    return n < a->operand_count ? a->operands[n] : NULL;
}
