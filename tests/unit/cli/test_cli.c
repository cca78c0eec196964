/* Command lines: what is parsed, what is refused and how, and what the help texts hold. */
#include "../cmocka_all.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/cli.h"
#include "cli/help.h"
#include "cli/manual.h"
#include "test_cli.h"

static const char *const colors[] = {"red", "green", NULL};
static const struct option_row options[] = {
    {"follow", 'f', NULL, "Follows.", NULL}, {"tail", 'n', "N", "Lines.", NULL}, {"color", 'c', "COLOR", "A color.", colors},
    {"quiet", 'q', NULL, "Is quiet.", NULL}, {0}};
static const struct option_row *const tables[] = {options, NULL};

static int parse(struct args *a, enum args_stop stop, const char *const *words, struct error *err)
{
    int n = 0;
    while (words[n])
        n++;
    return args_parse(a, n, (char **)(uintptr_t)words, tables, stop, err);
}

static void options_and_operands_mix_in_every_spelling(void **state)
{
    struct args a = {0};
    struct error err = {0};
    static const char *const words[] = {"web", "-fn5", "--color=red", "x", "--tail", "7", "--", "-f", "b", NULL};
    assert_int_equal(parse(&a, ARGS_ALL, words, &err), 9);
    assert_int_equal(a.operand_count, 2);
    assert_string_equal(args_operand(&a, 1), "x");
    assert_null(args_operand(&a, 2));
    assert_true(args_has(&a, "follow"));
    assert_false(args_has(&a, "quiet"));
    assert_string_equal(args_get(&a, "tail"), "7");
    assert_string_equal(args_get(&a, "color"), "red");
    assert_int_equal(a.rest_count, 2);
    assert_string_equal(a.rest[0], "-f");
    assert_null(a.rest[2]);
    args_clear(&a);
}

static void parsing_can_stop_at_the_first_operand(void **state)
{
    struct args a = {0};
    struct error err = {0};
    static const char *const words[] = {"-q", "run", "--unknown", NULL};
    assert_int_equal(parse(&a, ARGS_BEFORE_OPERAND, words, &err), 1);
    assert_true(args_has(&a, "quiet"));
    args_clear(&a);
}

static void wrong_options_are_refused_with_what_to_do(void **state)
{
    static const struct {
        const char *words[3];
        const char *message;
    } cases[] = {
        {{"--folow"}, "unknown option --folow; did you mean --follow?"},
        {{"--zzzzzzz=1"}, "unknown option --zzzzzzz"},
        {{"-x"}, "unknown option -x"},
        {{"--tail"}, "--tail needs a value: --tail N"},
        {{"-n"}, "-n needs a value: -n N"},
        {{"--follow=1"}, "--follow takes no value"},
        {{"--color", "gren"}, "--color: there is no COLOR \"gren\"; did you mean green?"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct args a = {0};
        struct error err = {0};
        assert_int_equal(parse(&a, ARGS_ALL, cases[i].words, &err), -1);
        assert_string_equal(err.text, cases[i].message);
        assert_int_equal(err.code, ERROR_INVALID);
        args_clear(&a);
    }
}

static void numbers_outside_their_range_are_refused(void **state)
{
    static const char *const wrong[] = {"", "x", "5x", "11", "-1", "99999999999999999999"};
    struct error err;
    long long v = 42;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_int_equal(number_parse("N", wrong[i], 0, 10, &v, &err), -1);
    assert_int_equal(v, 42);
    assert_int_equal(number_parse("N", "10", 0, 10, &v, &err), 0);
    assert_int_equal(v, 10);
}

/* Runs a command line with both outputs in a file; returns the exit status. */
static int run(struct buf *output, const char *const *words)
{
    char path[] = "/tmp/mentat-test-cli-XXXXXX";
    char *argv[16] = {(char *)(uintptr_t)"mt"};
    int n = 1, fd = mkstemp(path), out = dup(STDOUT_FILENO), error_out = dup(STDERR_FILENO);
    struct error err;
    for (; words[n - 1]; n++)
        argv[n] = (char *)(uintptr_t)words[n - 1];
    fflush(stdout);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    int status = cli_main(n, argv, NULL);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    dup2(error_out, STDERR_FILENO);
    close(out);
    close(error_out);
    close(fd);
    assert_int_equal(file_read(path, 1 << 20, output, &err), 0);
    unlink(path);
    return status;
}

static void each_end_has_its_exit_status_and_its_words(void **state)
{
    static const struct { const char *words[5]; int status; const char *says; } cases[] = {
        {{"--version"}, STATUS_DONE, "mt "},
        {{"--help"}, STATUS_DONE, "usage: mt COMMAND"},
        {{"help", "run"}, STATUS_DONE, "usage: mt run FILE"},
        {{"logs", "-h"}, STATUS_DONE, "--tail N"},
        {{"node", "drain", "--help"}, STATUS_DONE, "usage: mt node drain NODE"},
        {{"completion", "tcsh"}, STATUS_USAGE, "bash, zsh or fish"},
        {{NULL}, STATUS_USAGE, "usage: mt COMMAND"},
        {{"stauts"}, STATUS_USAGE, "did you mean `status`?"},
        {{"node", "drian", "n1"}, STATUS_USAGE, "did you mean `drain`?"},
        {{"node"}, STATUS_USAGE, "which of its commands?"},
        {{"run"}, STATUS_USAGE, "FILE is needed"},
        {{"scale", "web", "3", "4"}, STATUS_USAGE, "\"4\" is one word too many"},
        {{"scale", "web", "many"}, STATUS_USAGE, "not a whole number"},
        {{"services", "--", "x"}, STATUS_USAGE, "nothing can follow --"},
        {{"services", "-o", "xml"}, STATUS_USAGE, "there is no FORMAT \"xml\""},
        {{"run", "/nonexistent.yaml"}, STATUS_USAGE, "/nonexistent.yaml"},
        {{"services", "--address", "ftp://x"}, STATUS_USAGE, "is not http://host:port"},
        {{"services", "--address", "http://127.0.0.1:1"}, STATUS_UNREACHED,
         "no server reached at http://127.0.0.1:1: connection refused; start one with `mt dev`, or give --address"},
        {{"scale", "web", "3", "--address=127.0.0.1:1,127.0.0.1:2"}, STATUS_UNREACHED,
         "no server reached at http://127.0.0.1:1, http://127.0.0.1:2: "},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP_BUF struct buf output = {0};
        int status = run(&output, cases[i].words);
        if (status != cases[i].status || !strstr(output.data, cases[i].says))
            fail_msg("case %zu: status %d, said: %s", i, status, output.data);
    }
}

static void problems_of_a_file_are_told_with_their_places(void **state)
{
    char path[] = "/tmp/mentat-test-job-XXXXXX";
    static const char text[] = "name: web\ndriver: exec\nconfig:\n  command: /bin/true\nhelth: {}\n";
    CLEANUP_BUF struct buf output = {0};
    int fd = mkstemp(path);
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    close(fd);
    assert_int_equal(run(&output, (const char *[]){"validate", path, NULL}), STATUS_USAGE);
    CLEANUP_FREE char *place = mem_printf("%s:5:1: ", path);
    assert_non_null(strstr(output.data, place));
    assert_non_null(strstr(output.data, "health"));
    unlink(path);
}

static void every_command_is_in_help_manual_and_completions(void **state)
{
    struct buf texts[5] = {{0}};
    help_overview(&texts[0]);
    manual_mt(&texts[1]);
    assert_int_equal(help_completion("bash", &texts[2]), 0);
    assert_int_equal(help_completion("zsh", &texts[3]), 0);
    assert_int_equal(help_completion("fish", &texts[4]), 0);
    for (const struct command_row *const *c = commands; *c; c++) {
        assert_true((*c)->run || (*c)->subcommands);
        for (size_t i = 0; i < ARRAY_LEN(texts); i++)
            assert_non_null(strstr(texts[i].data, (*c)->name));
    }
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        buf_free(&texts[i]);
}

static void no_short_option_has_two_meanings_in_a_command(void **state)
{
    for (const struct command_row *const *c = commands; *c; c++)
        for (const struct option_row *o = (*c)->options; o && o->name; o++)
            for (const struct option_row *g = global_options; g->name; g++) {
                assert_string_not_equal(o->name, g->name);
                assert_true(!o->letter || o->letter != g->letter);
            }
}

/* Those of a command and of the commands below it, added to v. */
static size_t collect_options(const struct command_row *const *list, const struct option_row **v, size_t n, size_t most)
{
    for (; *list; list++) {
        for (const struct option_row *o = (*list)->options; o && o->name; o++) {
            assert_true(n < most);
            v[n++] = o;
        }
        if ((*list)->subcommands)
            n = collect_options((*list)->subcommands, v, n, most);
    }
    return n;
}

/* Completion looks at the words before it knows the command. */
static void an_option_takes_a_value_in_every_command_or_in_none(void **state)
{
    const struct option_row *v[256];
    size_t n = collect_options(commands, v, 0, ARRAY_LEN(v));
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++)
            if (!strcmp(v[i]->name, v[k]->name) || (v[i]->letter && v[i]->letter == v[k]->letter))
                assert_int_equal(v[i]->value != NULL, v[k]->value != NULL);
}

int main(void)
{
    unsetenv("MENTAT_ADDR");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_and_operands_mix_in_every_spelling),
        cmocka_unit_test(parsing_can_stop_at_the_first_operand),
        cmocka_unit_test(wrong_options_are_refused_with_what_to_do),
        cmocka_unit_test(numbers_outside_their_range_are_refused),
        cmocka_unit_test(each_end_has_its_exit_status_and_its_words),
        cmocka_unit_test(problems_of_a_file_are_told_with_their_places),
        cmocka_unit_test(every_command_is_in_help_manual_and_completions),
        cmocka_unit_test(no_short_option_has_two_meanings_in_a_command),
        cmocka_unit_test(an_option_takes_a_value_in_every_command_or_in_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) + run_output_tests() + run_doctor_tests();
}
