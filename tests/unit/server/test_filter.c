#include "test_server.h"

#include <string.h>

#include "model/model.h"
#include "server/list_filter.h"
#include "server/page.h"
#include "server/time_zone.h"

static char name_web[] = "web", id[] = "0123456789ab";
static const struct alloc example = {.id = id, .service = name_web, .state = ALLOC_RUNNING, .replica = 2, .oom = true};

static bool matches(const char *text)
{
    struct list_filter f;
    struct error err = {0};
    assert_int_equal(list_filter_parse(&alloc_type, text, &f, &err), 0);
    bool match = list_filter_match(&f, &example);
    list_filter_clear(&f);
    return match;
}

static void fields_of_every_simple_kind_compare(void **state)
{
    assert_true(matches(NULL));
    assert_true(matches("service=web"));
    assert_false(matches("service=api"));
    assert_true(matches("service!=api"));
    assert_true(matches("state=running,replica=2,oom=true"));
    assert_false(matches("state=running,replica=3"));
    assert_false(matches("state!=running"));
    assert_true(matches("reason="));
}

static void a_filter_that_means_nothing_is_refused_with_what_would(void **state)
{
    static const struct { const char *text, *expected; } cases[] = {
        {"sevice=web", "no field \"sevice\""}, {"service", "field=value"}, {"=x", "field=value"},
        {"state=walking", "one of pending, starting, running"}, {"replica=two", "\"two\" is no value of replica"},
        {"ports=80", "no field \"ports\""}, {"oom=maybe", "no value of oom"}, {"service=web,", "field=value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct list_filter f;
        struct error err = {0};
        assert_int_equal(list_filter_parse(&alloc_type, cases[i].text, &f, &err), -1);
        assert_int_equal(err.code, ERROR_INVALID);
        if (!strstr(err.text, cases[i].expected))
            fail_msg("%s: %s", cases[i].text, err.text);
    }
}

static void too_many_comparisons_are_refused(void **state)
{
    char text[400] = "replica=1";
    for (int i = 0; i < LIST_FILTER_MAX; i++)
        strcat(text, ",replica=1");
    struct list_filter f;
    struct error err = {0};
    assert_int_equal(list_filter_parse(&alloc_type, text, &f, &err), -1);
}

static void the_floor_of_a_prefix_is_below_it_and_above_all_before(void **state)
{
    assert_null(page_floor(""));
    static const char *const below[] = {"a", "aa", "aazzz", "a-9"}, *const from[] = {"ab", "ab0", "b"};
    char *floor = page_floor("ab");
    for (size_t i = 0; i < sizeof below / sizeof *below; i++)
        assert_true(strcmp(below[i], floor) < 0);
    for (size_t i = 0; i < sizeof from / sizeof *from; i++)
        assert_true(strcmp(from[i], floor) > 0);
    free(floor);
}

static void zones_become_rules_and_unknown_ones_are_refused(void **state)
{
    static const struct { const char *zone, *rule; } cases[] = {
        {NULL, "UTC0"}, {"UTC", "UTC0"}, {"CET-1CEST,M3.5.0,M10.5.0/3", "CET-1CEST,M3.5.0,M10.5.0/3"},
        {"<+03>-3", "<+03>-3"},
    };
    struct problem_list problems = {0};
    struct error err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct service s = {.schedule = mem_strdup("* * * * *"), .time_zone = mem_strdup(cases[i].zone)};
        struct job job = {.services = {&s, 1}};
        assert_int_equal(time_zone_resolve(&job, &problems, &err), 0);
        assert_string_equal(s.time_zone_rule, cases[i].rule);
        type_clear(&service_type, &s);
    }
    static const char *const wrong[] = {"Europe/Atlantis", "../../etc/passwd", "/etc/passwd", "X"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct service s = {.schedule = mem_strdup("* * * * *"), .time_zone = mem_strdup(wrong[i])};
        struct job job = {.services = {&s, 1}};
        assert_int_equal(time_zone_resolve(&job, &problems, &err), -1);
        assert_int_equal(err.code, ERROR_INVALID);
        assert_int_equal(problems.n, i + 1);
        type_clear(&service_type, &s);
    }
    problem_list_clear(&problems);
}

int test_filter(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_of_every_simple_kind_compare),
        cmocka_unit_test(a_filter_that_means_nothing_is_refused_with_what_would),
        cmocka_unit_test(too_many_comparisons_are_refused),
        cmocka_unit_test(the_floor_of_a_prefix_is_below_it_and_above_all_before),
        cmocka_unit_test(zones_become_rules_and_unknown_ones_are_refused),
    };
    return cmocka_run_group_tests_name("filter", tests, NULL, NULL);
}
