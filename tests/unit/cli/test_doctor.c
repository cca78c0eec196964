/* Doctor's judgements that no file stands for. */
#include "../cmocka_all.h"

#include <string.h>
#include <sys/timex.h>

#include "cli/doctor/checks.h"
#include "test_cli.h"

static void versions_are_found_in_what_programs_say(void **state)
{
    static const struct { const char *text; struct version v; bool found; } cases[] = {
        {"Firecracker v1.7.0\n\nSupported snapshot data format 2.0.0\n", {1, 7, 0}, true},
        {"HAProxy version 2.6.12-1+deb12u1 2023/12/16", {2, 6, 12}, true},
        {"28.2.2", {28, 2, 2}, true}, {"6.1", {6, 1, 0}, true}, {"20.10.24+dfsg1", {20, 10, 24}, true},
        {"", {0}, false}, {"version seven", {0}, false}, {"12", {0}, false}, {"v3.", {0}, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct version v;
        assert_int_equal(version_read(cases[i].text, &v), cases[i].found);
        if (cases[i].found)
            assert_int_equal(version_compare(v, cases[i].v), 0);
    }
    assert_true(version_compare((struct version){1, 10, 0}, (struct version){1, 9, 9}) > 0);
    assert_true(version_compare((struct version){1, 9, 1}, (struct version){1, 9, 2}) < 0);
    assert_true(version_compare((struct version){2, 0, 0}, (struct version){1, 9, 2}) > 0);
}

static void a_clock_that_is_not_synchronised_is_a_warning(void **state)
{
    static const struct { int state, status; enum verdict verdict; const char *found; } cases[] = {
        {TIME_OK, STA_PLL, VERDICT_OK, "synchronised, at most 12 ms off"}, {TIME_ERROR, 0, VERDICT_WARNING, "not synchronised"},
        {TIME_OK, STA_UNSYNC, VERDICT_WARNING, "not synchronised"}, {-1, 0, VERDICT_SKIPPED, "the kernel does not say"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct finding f = {0};
        judge_clock(cases[i].state, cases[i].status, 12500, &f);
        assert_int_equal(f.verdict, cases[i].verdict);
        assert_string_equal(f.found.data, cases[i].found);
        finding_clear(&f);
    }
}

static void the_worst_of_what_was_found_stays(void **state)
{
    struct finding f = {0};
    find(&f, VERDICT_FAILED, "a");
    find(&f, VERDICT_OK, "b");
    assert_int_equal(f.verdict, VERDICT_FAILED);
    assert_string_equal(f.found.data, "a; b");
    finding_clear(&f);
}

static void each_check_is_whole_and_named_once(void **state)
{
    for (const struct check *c = doctor_checks; c->name; c++) {
        assert_true(*c->wanted && *c->mend && c->run);
        for (const struct check *other = doctor_checks; other < c; other++)
            assert_string_not_equal(c->name, other->name);
    }
}

int run_doctor_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_are_found_in_what_programs_say),
        cmocka_unit_test(a_clock_that_is_not_synchronised_is_a_warning),
        cmocka_unit_test(the_worst_of_what_was_found_stays),
        cmocka_unit_test(each_check_is_whole_and_named_once),
    };
    return cmocka_run_group_tests_name("doctor", tests, NULL, NULL);
}
