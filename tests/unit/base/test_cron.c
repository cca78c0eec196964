#include "../cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cron.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/timefmt.h"
#include "base/tz.h"

#define BERLIN "CET-1CEST,M3.5.0,M10.5.0/3"

static const char *const rules[] = {
    "UTC0", BERLIN, "EST5EDT,M3.2.0,M11.1.0", "<+0330>-3:30", "NZST-12NZDT,M9.5.0,M4.1.0/3",
    "IST-1GMT0,M10.5.0,M3.5.0/1", "<-02>2<-01>,M3.5.0/-1,M10.5.0/0", "EET-2EEST,M3.4.4/50,M10.4.4/50",
    "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", "XXX3YYY,J60/0,J300/1:30", "AAA-5BBB,10,200/4",
};

/* --- what libc says: the reference for all that follows --- */

static void use_zone(const char *rule)
{
    setenv("TZ", rule, 1);
    tzset();
}

static struct tm local(int64_t t)
{
    time_t at = (time_t)t;
    struct tm tm;
    assert_non_null(localtime_r(&at, &tm));
    return tm;
}

static int64_t at_ms(const char *text)
{
    int64_t t;
    assert_int_equal(time_parse(text, &t), 0);
    return t;
}

static void assert_next(const char *expr, const char *rule, const char *after, const char *expected)
{
    char got[TIME_TEXT_SIZE], want[TIME_TEXT_SIZE];
    int64_t next = cron_next(expr, rule, at_ms(after));
    assert_true(next != INT64_MAX);
    time_format(got, next);
    time_format(want, at_ms(expected));
    assert_string_equal(got, want);
}

static void offsets_agree_with_libc(void **state)
{
    struct random r = {1};
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        struct tz_rule rule;
        assert_int_equal(tz_rule_parse(rules[i], &rule, NULL), 0);
        use_zone(rules[i]);
        for (int k = 0; k < 1000; k++) {
            int64_t t = 100000000 + (int64_t)random_below(&r, INT64_C(4000000000));  /* libc's rules begin in 1970 */
            struct tz_span span;
            tz_rule_span(&rule, t, &span);
            assert_true(span.begin <= t && t < span.end);
            assert_int_equal(span.offset_s, local(t).tm_gmtoff);
            if (!rule.has_summer)
                continue;
            assert_int_equal(span.offset_s, local(span.begin).tm_gmtoff);
            assert_int_equal(span.offset_before_s, local(span.begin - 1).tm_gmtoff);
            assert_int_not_equal(span.offset_s, local(span.end).tm_gmtoff);
        }
    }
}

static void dates_agree_with_libc(void **state)
{
    struct random r = {2};
    use_zone("UTC0");
    for (int i = 0; i < 5000; i++) {
        int64_t days = (int64_t)random_below(&r, 3000000) - 700000, year;
        int month, day;
        date_from_days(days, &year, &month, &day);
        struct tm tm = local(days * 86400);
        assert_int_equal(year, tm.tm_year + 1900);
        assert_int_equal(month, tm.tm_mon + 1);
        assert_int_equal(day, tm.tm_mday);
        assert_int_equal(weekday_from_days(days), tm.tm_wday);
        assert_int_equal(days_from_date(year, month, day), days);
    }
}

/* A schedule of one fixed minute and hour, or of any hour, so that the reference stays simple. */
struct daily {
    char expr[64];
    int hour, minute;           /* hour -1: any */
    int weekday;                /* -1: any */
};

static bool shows(const struct daily *d, int64_t wall_minute)
{
    int64_t days = wall_minute / 1440;
    return wall_minute % 60 == d->minute && (d->hour < 0 || wall_minute / 60 % 24 == d->hour)
           && (d->weekday < 0 || weekday_from_days(days) == d->weekday);
}

static int64_t wall_minute(int64_t t)
{
    struct tm tm = local(t);
    return (t + tm.tm_gmtoff) / 60;
}

/* Minute by minute by libc's clock. */
static int64_t next_by_steps(const struct daily *d, int64_t after_s)
{
    for (int64_t t = after_s / 60 * 60 + 60;; t += 60) {
        int64_t now = wall_minute(t), before = wall_minute(t - 60);
        bool fixed = d->hour >= 0, seen = false;
        if (fixed && now > before + 1)
            for (int64_t w = before + 1; w < now; w++)
                if (shows(d, w))
                    return t;
        if (!shows(d, now))
            continue;
        for (int64_t e = t - 60; fixed && e > t - 3 * 3600; e -= 60)
            seen |= wall_minute(e) == now;
        if (!seen)
            return t;
    }
}

static void next_runs_agree_with_steps_of_libcs_clock(void **state)
{
    struct random r = {3};
    for (int i = 0; i < 1000; i++) {
        const char *rule = rules[random_below(&r, ARRAY_LEN(rules))];
        use_zone(rule);
        struct daily d = {.minute = (int)random_below(&r, 60), .hour = (int)random_below(&r, 6) - 1, .weekday = -1};
        if (random_below(&r, 3) == 0)
            d.weekday = (int)random_below(&r, 7);
        char hour[12] = "*", weekday[12] = "*";
        if (d.hour >= 0)
            snprintf(hour, sizeof(hour), "%d", d.hour);
        if (d.weekday >= 0)
            snprintf(weekday, sizeof(weekday), "%d", d.weekday);
        snprintf(d.expr, sizeof(d.expr), "%d %s * * %s", d.minute, hour, weekday);
        int64_t after = 1000000000 + (int64_t)random_below(&r, 1000000000);
        struct tz_rule parsed;
        struct tz_span span;
        tz_rule_parse(rule, &parsed, NULL);
        tz_rule_span(&parsed, after, &span);
        if (parsed.has_summer && random_below(&r, 2) == 0)        /* near a change, where it matters */
            after = span.end - 7200 + (int64_t)random_below(&r, 4 * 3600);
        assert_int_equal(cron_next(d.expr, rule, after * 1000), next_by_steps(&d, after) * 1000);
    }
    use_zone("UTC0");
}

static void fields_lists_ranges_steps_and_names_are_understood(void **state)
{
    assert_next("*/15 * * * *", NULL, "2026-01-01T00:00:00Z", "2026-01-01T00:15:00Z");
    assert_next("5-10/2,40 3 * * *", NULL, "2026-01-01T03:07:30Z", "2026-01-01T03:09:00Z");
    assert_next("5-10/2,40 3 * * *", NULL, "2026-01-01T03:09:00Z", "2026-01-01T03:40:00Z");
    assert_next("0 0 1 feb,JUL *", NULL, "2026-02-01T00:00:00Z", "2026-07-01T00:00:00Z");
    assert_next("0 9 * * MON-FRI", NULL, "2026-01-02T09:00:00Z", "2026-01-05T09:00:00Z");
    assert_next("0 9 * * FRI-SUN", NULL, "2026-01-05T00:00:00Z", "2026-01-09T09:00:00Z");
    assert_next("0 0 * * 7", NULL, "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z");
    assert_next("  0\t0 * *   SUN ", NULL, "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z");
    assert_next("@hourly", NULL, "2026-01-01T23:00:00Z", "2026-01-02T00:00:00Z");
    assert_next("@weekly", NULL, "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z");
    assert_next("@yearly", NULL, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
}

static void either_day_field_is_enough_unless_one_begins_with_a_star(void **state)
{
    assert_next("0 0 13 * FRI", NULL, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    assert_next("0 0 13 * FRI", NULL, "2026-01-09T00:00:00Z", "2026-01-13T00:00:00Z");
    assert_next("0 0 */2 * FRI", NULL, "2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z");
    assert_next("0 0 31 * *", NULL, "2026-01-31T00:00:00Z", "2026-03-31T00:00:00Z");
}

static void rare_days_come_and_impossible_ones_never(void **state)
{
    assert_next("0 0 29 2 *", NULL, "2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z");
    assert_next("0 0 29 2 */7", NULL, "2088-02-29T00:00:00Z", "2128-02-29T00:00:00Z");
    assert_true(cron_next("0 0 30 2 *", NULL, 0) == INT64_MAX);
    assert_true(cron_next("0 0 31 4,6,9,11 *", BERLIN, 0) == INT64_MAX);
    assert_true(cron_next("* * * * *", BERLIN, INT64_MAX) == INT64_MAX);
    assert_true(cron_next("* * * * *", NULL, INT64_MIN) == 0);
    assert_true(cron_next("nonsense", NULL, 0) == INT64_MAX);
    assert_true(cron_next("* * * * *", "nonsense", 0) == INT64_MAX);
}

static void the_skipped_hour_runs_once_right_after_it(void **state)
{
    assert_next("30 2 * * *", BERLIN, "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z");
    assert_next("30 2 * * *", BERLIN, "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z");
    assert_next("*/10 2 * * *", BERLIN, "2026-03-29T00:59:00Z", "2026-03-29T01:00:00Z");
    assert_next("*/10 2 * * *", BERLIN, "2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z");
    assert_next("30 * * * *", BERLIN, "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z");
}

static void the_repeated_hour_runs_once(void **state)
{
    assert_next("30 2 * * *", BERLIN, "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z");
    assert_next("30 2 * * *", BERLIN, "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z");
    assert_next("0 3 * * *", BERLIN, "2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z");
    /* … but what runs each hour goes on through both. */
    assert_next("30 * * * *", BERLIN, "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z");
}

static void summer_time_for_ever_is_a_rule_too(void **state)
{
    assert_next("0 12 * * *", "XXX3EDT4,0/0,J365/23", "2026-01-01T00:00:00Z", "2026-01-01T16:00:00Z");
    assert_next("0 12 * * *", "XXX3EDT4,0/0,J365/23", "2026-12-31T17:00:00Z", "2027-01-01T16:00:00Z");
}

static void assert_refused(const char *expr, const char *part)
{
    struct error err = {0};
    assert_int_equal(cron_check(expr, &err), -1);
    assert_int_equal(err.code, ERROR_INVALID);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" says: %s", expr, err.text);
}

static void mistakes_are_explained(void **state)
{
    assert_refused("", "the minute is missing");
    assert_refused("* * * *", "the day of week is missing");
    assert_refused("* * * * * *", "is too much");
    assert_refused("60 * * * *", "minute 60 is out of range, it goes from 0 to 59");
    assert_refused("* 24 * * *", "hour 24 is out of range");
    assert_refused("* * 0 * *", "day of month 0 is out of range, it goes from 1 to 31");
    assert_refused("* * * FOO *", "\"FOO\" is not a month");
    assert_refused("* * * * JAN", "\"JAN\" is not a day of week");
    assert_refused("5/10 * * * *", "write 5-59/");
    assert_refused("*/0 * * * *", "step 0");
    assert_refused("*/99999999999 * * * *", "is not a step");
    assert_refused("*/ * * * *", "a step is missing");
    assert_refused("1, * * * *", "a minute is missing");
    assert_refused("1--2 * * * *", "a minute is missing");
    assert_refused("**  * * * *", "\"*\" is not expected in the minute");
    assert_refused("* 22-6 * * *", "write two ranges, like 22-23,0-6");
    assert_refused("@reboot", "known words are");
    assert_refused("@daily x", "known words are");
    assert_int_equal(cron_check("0-59/7,3 */2 1-31 jan-DEC sun,1-7", NULL), 0);
}

static void wrong_rules_are_refused_and_right_ones_accepted(void **state)
{
    const char *const wrong[] = {"", "UTC", "UT0", "CET-1CEST,M3.5.0", "CET-1CEST,M13.5.0,M10.5.0", "CET-1CEST,M3.5.0,M10.5.0x",
                                 "CET-25", "<+03-3", "CET-1CEST,M3.5.0,M10.5.0/168", "CET-1:60", "CET-1CEST,J0,J5",
                                 "Europe/Berlin"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct error err = {0};
        assert_int_equal(tz_rule_check(wrong[i], &err), -1);
        assert_int_equal(err.code, ERROR_INVALID);
    }
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        assert_int_equal(tz_rule_check(rules[i], NULL), 0);
    assert_int_equal(tz_rule_check("EST5EDT", NULL), 0);
}

static void rules_of_named_zones_are_found(void **state)
{
    char rule[TZ_RULE_SIZE];
    struct error err = {0};
    assert_int_equal(tz_rule_find("UTC", rule, &err), 0);
    assert_string_equal(rule, "UTC0");
    if (tz_rule_find("Europe/Berlin", rule, &err) == 0)
        assert_string_equal(rule, BERLIN);
    else                                                          /* a machine without tzdata says so */
        assert_non_null(strstr(err.text, "install the package tzdata"));
    const char *const wrong[] = {"../../../etc/passwd", "/etc/passwd", "", "Europe/", "No\nwhere"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_equal(tz_rule_find(wrong[i], rule, &err), -1);
        assert_int_equal(err.code, ERROR_INVALID);
    }
    assert_int_equal(tz_rule_find("Europe/Berlim", rule, &err), -1);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    assert_int_equal(tz_rule_find("Europe", rule, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offsets_agree_with_libc),
        cmocka_unit_test(dates_agree_with_libc),
        cmocka_unit_test(next_runs_agree_with_steps_of_libcs_clock),
        cmocka_unit_test(fields_lists_ranges_steps_and_names_are_understood),
        cmocka_unit_test(either_day_field_is_enough_unless_one_begins_with_a_star),
        cmocka_unit_test(rare_days_come_and_impossible_ones_never),
        cmocka_unit_test(the_skipped_hour_runs_once_right_after_it),
        cmocka_unit_test(the_repeated_hour_runs_once),
        cmocka_unit_test(summer_time_for_ever_is_a_rule_too),
        cmocka_unit_test(mistakes_are_explained),
        cmocka_unit_test(wrong_rules_are_refused_and_right_ones_accepted),
        cmocka_unit_test(rules_of_named_zones_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
