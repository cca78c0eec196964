/* Output: columns, YAML, and the judges of what is followed. */
#include "../cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "cli/api.h"
#include "cli/follow.h"
#include "cli/views.h"
#include "test_cli.h"

static void columns_are_aligned_and_texts_of_tasks_are_tamed(void **state)
{
    static const struct column columns[] = {
        {"NAME", "name"}, {"N", "count.n", .right = true}, {"HIDDEN", "name", .wide = true}, {"WHY", "why"}, {0}};
    CLEANUP(json_decref) json_t *rows = json_pack("[{s:s, s:{s:i}, s:s}, {s:s}]", "name", "é-long", "count", "n", 12, "why",
                                                  "bad\033[2Jtext\xc2\x9b" "1m", "name", "b");
    CLEANUP_BUF struct buf out = {0};
    table_format(rows, columns, (struct table_style){0}, &out);
    assert_string_equal(out.data, "NAME     N  WHY\né-long  12  bad [2Jtext  1m\nb\n");
}

static void a_line_is_cut_to_the_terminal(void **state)
{
    static const struct column columns[] = {{"A", "a"}, {"B", "b"}, {0}};
    CLEANUP(json_decref) json_t *rows = json_pack("[{s:s, s:s}]", "a", "x", "b", "0123456789abcdef");
    CLEANUP_BUF struct buf out = {0};
    table_format(rows, columns, (struct table_style){.width = 12}, &out);
    assert_string_equal(out.data, "A  B\nx  01234567…\n");
}

static void states_are_coloured_only_when_asked_for(void **state)
{
    static const struct column columns[] = {{"STATE", "s"}, {0}};
    CLEANUP(json_decref) json_t *rows = json_pack("[{s:s}]", "s", "failed");
    CLEANUP_BUF struct buf out = {0};
    table_format(rows, columns, (struct table_style){.color = true}, &out);
    assert_non_null(strstr(out.data, "\033[31mfailed\033[0m"));
}

static void yaml_keeps_texts_texts(void **state)
{
    CLEANUP(json_decref) json_t *v = json_loads(
        "{\"a\": \"x y\", \"b\": \"true\", \"c\": \"1.5\", \"d\": [], \"e\": {}, \"f\": [1, {\"g\": null, \"h\": [\"a: b\"]}],"
        " \"i\": {\"k\": 1.5}, \"on\": \"\"}", 0, NULL);
    CLEANUP_BUF struct buf out = {0};
    yaml_format(v, &out);
    assert_string_equal(out.data, "a: x y\nb: \"true\"\nc: \"1.5\"\nd: []\ne: {}\nf:\n  - 1\n  - g: null\n    h:\n"
                        "      - \"a: b\"\ni:\n  k: 1.5\n\"on\": \"\"\n");
}

static void ended_allocations_are_current_only_while_wanted(void **state)
{
    static const struct { const char *state, *desired; bool current; } cases[] = {
        {"running", "run", true}, {"stopping", "stop", true}, {"complete", "stop", false}, {"failed", "stop", false},
        {"failed", "run", true}, {"complete", "run", true}, {"lost", "stop", false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(json_decref) json_t *a = json_pack("{s:s, s:s}", "state", cases[i].state, "desired", cases[i].desired);
        assert_int_equal(view_alloc_current(a), cases[i].current);
    }
}

/* What a judge says of a service with these numbers and one allocation. */
static enum follow_state judge(follow_judge *f, const char *state, int desired, int running, const char *alloc_state,
                               const char *alloc_desired, const json_t *before)
{
    struct follow_item item = {.service = "web", .before = before};
    enum follow_state result = FOLLOW_GOING;
    struct error err;
    char *note = NULL;
    CLEANUP(json_decref) json_t *service = state ? json_pack("{s:{s:s, s:i, s:i, s:i}}", "status", "state", state, "desired",
                                                             desired, "running", running, "healthy", running) : NULL;
    CLEANUP(json_decref) json_t *allocs = json_pack("[{s:s, s:s, s:s, s:s}]", "id", "a1", "state", alloc_state, "desired",
                                                    alloc_desired, "started_at", "T1");
    assert_int_equal(f(NULL, &item, service, allocs, &result, &note, &err), 0);
    assert_non_null(note);
    free(note);
    return result;
}

static void a_change_of_count_is_done_when_all_run_and_no_other_is_left(void **state)
{
    assert_int_equal(judge(follow_settled, "pending", 1, 0, "starting", "run", NULL), FOLLOW_GOING);
    assert_int_equal(judge(follow_settled, "running", 1, 1, "running", "run", NULL), FOLLOW_DONE);
    assert_int_equal(judge(follow_settled, "running", 0, 0, "stopping", "stop", NULL), FOLLOW_GOING);
    assert_int_equal(judge(follow_settled, "running", 0, 0, "complete", "stop", NULL), FOLLOW_DONE);
    assert_int_equal(judge(follow_settled, "failed", 1, 0, "failed", "run", NULL), FOLLOW_FAILED);
    assert_int_equal(judge(follow_settled, "complete", 1, 0, "complete", "run", NULL), FOLLOW_DONE);
    assert_int_equal(judge(follow_settled, NULL, 0, 0, "complete", "stop", NULL), FOLLOW_FAILED);
}

static void a_restart_is_done_when_each_replica_began_anew(void **state)
{
    CLEANUP(json_decref) json_t *same = json_pack("[{s:s, s:s}]", "id", "a1", "started_at", "T1");
    CLEANUP(json_decref) json_t *older = json_pack("[{s:s, s:s}]", "id", "a1", "started_at", "T0");
    assert_int_equal(judge(follow_restart, "running", 1, 1, "running", "run", same), FOLLOW_GOING);
    assert_int_equal(judge(follow_restart, "running", 1, 1, "running", "run", older), FOLLOW_DONE);
    assert_int_equal(judge(follow_restart, "pending", 1, 0, "starting", "run", older), FOLLOW_GOING);
}

static void a_stop_is_done_when_nothing_is_left(void **state)
{
    assert_int_equal(judge(follow_stopped, "stopped", 0, 1, "stopping", "stop", NULL), FOLLOW_GOING);
    assert_int_equal(judge(follow_stopped, "stopped", 0, 0, "complete", "stop", NULL), FOLLOW_DONE);
    assert_int_equal(judge(follow_stopped, NULL, 0, 0, "complete", "stop", NULL), FOLLOW_DONE);
}

int run_output_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_aligned_and_texts_of_tasks_are_tamed),
        cmocka_unit_test(a_line_is_cut_to_the_terminal),
        cmocka_unit_test(states_are_coloured_only_when_asked_for),
        cmocka_unit_test(yaml_keeps_texts_texts),
        cmocka_unit_test(ended_allocations_are_current_only_while_wanted),
        cmocka_unit_test(a_change_of_count_is_done_when_all_run_and_no_other_is_left),
        cmocka_unit_test(a_restart_is_done_when_each_replica_began_anew),
        cmocka_unit_test(a_stop_is_done_when_nothing_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
