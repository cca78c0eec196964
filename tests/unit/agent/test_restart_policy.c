#include "../cmocka_all.h"

#include <string.h>

#include "agent/restart_policy.h"

#define SECOND 1000

static struct service spec_with(enum service_mode mode, int64_t attempts)
{
    return (struct service){.mode = mode, .restart = {.attempts = attempts, .window_ms = 60 * SECOND,
                                                      .delay_ms = SECOND}};
}

static void delays_double_up_to_thirty_seconds(void **state)
{
    struct service spec = spec_with(MODE_SERVICE, 100);
    struct alloc_record r = {0};
    static const int64_t expected[] = {1000, 2000, 4000, 8000, 16000, 30000, 30000};
    int64_t now = 1000000;
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        struct restart_decision d = restart_decide(&r, &spec, false, now, now + 10);
        assert_int_equal(d.verdict, RESTART_AGAIN);
        assert_int_equal(d.delay_ms, expected[i]);
        now += d.delay_ms;
    }
    assert_int_equal(r.report.restarts, ARRAY_LEN(expected));
    /* A run longer than the window makes it begin small again. */
    struct restart_decision d = restart_decide(&r, &spec, false, now, now + 61 * SECOND);
    assert_int_equal(d.delay_ms, 1000);
    assert_int_equal(d.number, 1);
    free(r.restarts.v);
}

static void attempts_within_the_window_are_used_up_and_come_back(void **state)
{
    struct service spec = spec_with(MODE_SERVICE, 2);
    struct alloc_record r = {0};
    assert_int_equal(restart_decide(&r, &spec, false, 0, 1 * SECOND).number, 1);
    assert_int_equal(restart_decide(&r, &spec, false, 2 * SECOND, 3 * SECOND).number, 2);
    assert_int_equal(restart_decide(&r, &spec, false, 4 * SECOND, 5 * SECOND).verdict, RESTART_FAILED);
    assert_int_equal(restart_decide(&r, &spec, false, 4 * SECOND, 62 * SECOND).verdict, RESTART_AGAIN);
    free(r.restarts.v);
}

static void a_task_that_ends_well_is_complete_and_a_service_is_not(void **state)
{
    struct service task = spec_with(MODE_TASK, 3), service = spec_with(MODE_SERVICE, 3);
    struct alloc_record r = {0};
    assert_int_equal(restart_decide(&r, &task, true, 0, 1).verdict, RESTART_COMPLETE);
    assert_int_equal(restart_decide(&r, &task, false, 0, 1).verdict, RESTART_AGAIN);
    assert_int_equal(restart_decide(&r, &service, true, 0, 1).verdict, RESTART_AGAIN);
    free(r.restarts.v);
}

static void no_attempts_means_none(void **state)
{
    struct service spec = spec_with(MODE_SERVICE, 0);
    struct alloc_record r = {0};
    assert_int_equal(restart_decide(&r, &spec, false, 0, 1).verdict, RESTART_FAILED);
    assert_int_equal(r.report.restarts, 0);
}

static void what_follows_is_said_in_plain_words(void **state)
{
    struct service spec = spec_with(MODE_SERVICE, 3);
    CLEANUP_BUF struct buf b = {0};
    restart_describe(&(struct restart_decision){.verdict = RESTART_AGAIN, .delay_ms = 4000, .number = 2}, &spec, &b);
    assert_string_equal(b.data, "; restart 2 of 3 in 4s");
    buf_clear(&b);
    restart_describe(&(struct restart_decision){.verdict = RESTART_FAILED}, &spec, &b);
    assert_string_equal(b.data, "; 3 restarts within 1m are used up");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delays_double_up_to_thirty_seconds),
        cmocka_unit_test(attempts_within_the_window_are_used_up_and_come_back),
        cmocka_unit_test(a_task_that_ends_well_is_complete_and_a_service_is_not),
        cmocka_unit_test(no_attempts_means_none),
        cmocka_unit_test(what_follows_is_said_in_plain_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
