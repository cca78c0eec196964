#include "../cmocka_all.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/id.h"
#include "base/pattern.h"
#include "base/random.h"
#include "base/roff.h"
#include "base/text.h"
#include "base/timefmt.h"

static void buf_grows_and_stays_terminated(void **state)
{
    CLEANUP_BUF struct buf b = {0};
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%d,", i);
    assert_int_equal(strlen(b.data), b.len);
    buf_consume(&b, 2);
    assert_int_equal(strncmp(b.data, "1,2,", 4), 0);
}

static void a_secret_buf_is_the_same_when_it_grew_and_stays_secret(void **state)
{
    CLEANUP_BUF struct buf b = {.secret = true}, plain = {0};
    for (int i = 0; i < 1000; i++) {
        buf_printf(&b, "%d,", i);
        buf_printf(&plain, "%d,", i);
    }
    assert_int_equal(b.len, plain.len);
    assert_string_equal(b.data, plain.data);
    buf_free(&b);
    assert_true(b.secret && !b.data);
}

static void varints_round_trip_and_overlong_forms_are_refused(void **state)
{
    const uint64_t values[] = {0, 1, 127, 128, 300, UINT32_MAX, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        CLEANUP_BUF struct buf b = {0};
        buf_add_varint(&b, values[i]);
        struct cursor c = cursor_of(b.data, b.len);
        uint64_t v;
        assert_true(cursor_varint(&c, &v));
        assert_true(v == values[i] && !cursor_left(&c));
        struct cursor cut = cursor_of(b.data, b.len - 1);
        assert_false(cursor_varint(&cut, &v));
        assert_int_equal(cursor_left(&cut), b.len - 1);
    }
    const uint8_t overlong[] = {0x80, 0x00}, overflow[] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 2};
    struct cursor c = cursor_of(overlong, sizeof overlong);
    uint64_t v;
    assert_false(cursor_varint(&c, &v));
    c = cursor_of(overflow, sizeof overflow);
    assert_false(cursor_varint(&c, &v));
}

static void durations_parse_and_print(void **state)
{
    static const struct { const char *text; int64_t ms; const char *printed; } cases[] = {
        {"500ms", 500, "500ms"}, {"10s", 10000, "10s"}, {"5m", 300000, "5m"}, {"1h", 3600000, "1h"},
        {"1h30m", 5400000, "1h30m"}, {"1.5s", 1500, "1s500ms"}, {"90s", 90000, "1m30s"}, {"7d", 604800000, "168h"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t ms;
        char out[TIME_TEXT_SIZE];
        assert_int_equal(duration_parse(cases[i].text, &ms), 0);
        assert_int_equal(ms, cases[i].ms);
        duration_format(out, ms);
        assert_string_equal(out, cases[i].printed);
    }
    static const char *const bad[] = {"", "10", "s", "-1s", "1.s", "1x", "99999999999999999999s", "1 s"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int64_t ms = 7;
        assert_int_equal(duration_parse(bad[i], &ms), -1);
        assert_int_equal(ms, 7);
    }
}

static void times_parse_and_print(void **state)
{
    int64_t ms;
    char out[TIME_TEXT_SIZE];
    assert_int_equal(time_parse("2026-11-24T08:19:16.042Z", &ms), 0);
    time_format(out, ms);
    assert_string_equal(out, "2026-11-24T08:19:16.042Z");
    assert_int_equal(time_parse("2026-11-24T09:19:16.042+01:00", &ms), 0);
    time_format(out, ms);
    assert_string_equal(out, "2026-11-24T08:19:16.042Z");
    assert_int_equal(time_parse("2026-13-24T09:19:16Z", &ms), -1);
    assert_int_equal(time_parse("2026-11-24T09:19:16", &ms), -1);
}

static void suggestions_are_near(void **state)
{
    static const char *const keys[] = {"health", "restart", "kill", "deploy", NULL};
    assert_string_equal(text_nearest("helth", keys), "health");
    assert_string_equal(text_nearest("dpeloy", keys), "deploy");
    assert_null(text_nearest("zzzzz", keys));
}

static void names_and_utf8_are_checked(void **state)
{
    assert_true(text_same("a", "a") && text_same(NULL, "") && text_same(NULL, NULL) && !text_same("a", NULL));
    assert_true(text_same_secret("ab", "ab") && !text_same_secret("ab", "ac") && !text_same_secret("ab", "abc") && !text_same_secret("bb", "ab"));
    assert_true(text_is_name("api-service"));
    assert_false(text_is_name("-api"));
    assert_false(text_is_name("Api"));
    assert_false(text_is_name(""));
    char tamed[] = "a\033[2J\x7f\xc2\x9bm\n\xc3\x9b";
    text_tame(tamed, true);
    assert_string_equal(tamed, "a [2J   m\n\xc3\x9b");
    text_tame(tamed, false);
    assert_string_equal(tamed, "a [2J   m \xc3\x9b");
    assert_true(text_is_utf8("gr\xc3\xbc\xc3\x9f", 7 - 1));
    assert_false(text_is_utf8("\xc0\xaf", 2));
    assert_false(text_is_utf8("\xed\xa0\x80", 3));
    assert_false(text_is_utf8("\xf4\x90\x80\x80", 4));
}

static void files_are_replaced_whole(void **state)
{
    char dir[] = "/tmp/mentat-base-XXXXXX";
    assert_non_null(mkdtemp(dir));
    CLEANUP_FREE char *path = mem_printf("%s/f", dir);
    struct error err = {0};
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(file_read(path, 10, &b, &err), -1);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    assert_int_equal(file_write(path, "one", 3, 0600, &err), 0);
    assert_int_equal(file_write(path, "second", 6, 0600, &err), 0);
    assert_int_equal(file_read(path, 6, &b, &err), 0);
    assert_string_equal(b.data, "second");
    assert_int_equal(file_read(path, 5, &b, &err), -1);
    assert_int_equal(err.code, ERROR_TOO_LARGE);
    unlink(path);
    rmdir(dir);
}

static void errors_carry_context(void **state)
{
    struct error err = {0};
    error_set(&err, ERROR_INVALID, "bad %s", "thing");
    error_context(&err, "reading %s", "x");
    assert_string_equal(err.text, "reading x: bad thing");
    assert_int_equal(err.code, ERROR_INVALID);
}

static void manual_pages_spell_out_what_roff_would_take_for_its_own(void **state)
{
    CLEANUP_BUF struct buf b = {0};
    roff_text(&b, ".a 'b' `--c` \\n\n  ex: -1\nd");
    assert_string_equal(b.data, "\\&.a \\(aqb\\(aq \\fB\\-\\-c\\fR \\en\n.PP\n.nf\n  ex: \\-1\n.fi\nd\n");
}

static void patterns_that_explode_are_refused(void **state)
{
    static const char *const good[] = {"^web-[0-9]{1,3}$", "a{100}b{100}", "(a|b)+c?", "[{+*(]{2}", "a++", "a{3,}",
                                       "a********************", "\\+\\{", "((a?){30}){30}"};
    static const char *const bad[] = {"a{101}", "a{1,101}", "a{100}{100}", "(a{50}){50}", "(((((a+)+)+)+)+){80}", "\\1",
                                      "a++++++++++++", "(((((((((((a+)+)+)+)+)+)+)+)+)+)+)", "(a", "[", "a{x", "{", "[[:alpha:]]{60}{60}"};
    struct error err;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (pattern_check(good[i], &err))
            fail_msg("%s", err.text);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(pattern_check(bad[i], &err), -1);
        assert_non_null(strstr(err.text, bad[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buf_grows_and_stays_terminated),
        cmocka_unit_test(a_secret_buf_is_the_same_when_it_grew_and_stays_secret),
        cmocka_unit_test(varints_round_trip_and_overlong_forms_are_refused),
        cmocka_unit_test(durations_parse_and_print),
        cmocka_unit_test(times_parse_and_print),
        cmocka_unit_test(suggestions_are_near),
        cmocka_unit_test(names_and_utf8_are_checked),
        cmocka_unit_test(patterns_that_explode_are_refused),
        cmocka_unit_test(files_are_replaced_whole),
        cmocka_unit_test(errors_carry_context),
        cmocka_unit_test(manual_pages_spell_out_what_roff_would_take_for_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
