/* Idempotency keys: what is promised, and what happens when there is no room for the promise. */
#include <stdio.h>
#include <string.h>

#include "../cmocka_all.h"
#include "cluster.h"
#include "core/keys.h"

#define MINUTE_MS (60 * 1000LL)
#define MANY 40000                /* more than KEYS_BYTES_EASY, and more than releases before kept */
#define LONG_KEY (100 * 1024)

static void start(struct cluster *c, int64_t level)
{
    cluster_init(c, 0);
    cluster_level(c, level);
    cluster_submit(c, "web", "    count: 0\n");
}

/* A keyed write; its answer holds the index at which it was done. */
static bool restart(struct cluster *c, const char *key)
{
    struct command cmd;
    command_init(&cmd, COMMAND_SERVICE_RESTART, c->now, key, NULL);
    ((struct command_service *)cmd.payload)->service = mem_strdup("web");
    return cluster_apply(c, &cmd);
}

static void restart_many(struct cluster *c, unsigned n)
{
    char key[16];
    for (unsigned i = 0; i < n; i++) {
        snprintf(key, sizeof(key), "many-%u", i);
        assert_true(restart(c, key));
    }
}

static bool is_known(struct cluster *c, const char *key)
{
    struct core_result r = {0};
    bool known = core_answer_of_key(c->core, key, &r);
    core_result_clear(&r);
    return known;
}

static void none_is_forgotten_within_ten_minutes(void **state)
{
    struct cluster c;
    char first[sizeof(c.body)];
    start(&c, 3);
    assert_true(restart(&c, "first"));
    strcpy(first, c.body);
    restart_many(&c, MANY);
    assert_true(core_key_bytes(c.core) > KEYS_BYTES_EASY);
    c.now += 10 * MINUTE_MS;
    assert_true(restart(&c, "first"));
    assert_string_equal(c.body, first);
    c.now += MINUTE_MS;
    assert_true(restart(&c, "first"));
    assert_string_not_equal(c.body, first);
    assert_true(core_key_bytes(c.core) < KEYS_BYTES_EASY + 1024);      /* the newest one came on top */
    cluster_clear(&c);
}

static void a_few_are_kept_for_a_day(void **state)
{
    struct cluster c;
    start(&c, 3);
    assert_true(restart(&c, "first"));
    c.now += 24 * 60 * MINUTE_MS;
    assert_true(restart(&c, "second"));
    assert_true(is_known(&c, "first"));
    c.now += MINUTE_MS;
    assert_true(restart(&c, "third"));
    assert_false(is_known(&c, "first"));
    assert_true(is_known(&c, "second"));
    cluster_clear(&c);
}

static void without_room_new_keys_are_refused_and_old_ones_answered(void **state)
{
    static char key[LONG_KEY + 1];
    struct cluster c;
    unsigned n = 0;
    start(&c, 3);
    memset(key, 'k', LONG_KEY);
    do {
        snprintf(key, 16, "%015u", n++);
        key[15] = 'k';
    } while (restart(&c, key));
    assert_int_equal(c.error.code, ERROR_TOO_MANY);
    assert_true(core_key_bytes(c.core) >= KEYS_BYTES_MOST);
    assert_false(is_known(&c, key));
    assert_true(restart(&c, NULL));
    snprintf(key, 16, "%015u", 0u);
    key[15] = 'k';
    assert_true(restart(&c, key));
    c.now += 10 * MINUTE_MS;
    assert_false(restart(&c, "another"));
    c.now += 1;
    assert_true(restart(&c, "another"));
    assert_true(core_key_bytes(c.core) < KEYS_BYTES_EASY + 1024);
    cluster_clear(&c);
}

static void a_clock_that_was_ahead_holds_up_nothing(void **state)
{
    struct cluster c;
    start(&c, 3);
    c.now += 365 * 24 * 60 * MINUTE_MS;
    assert_true(restart(&c, "ahead"));
    c.now -= 365 * 24 * 60 * MINUTE_MS;
    assert_true(restart(&c, "then"));
    assert_true(is_known(&c, "ahead"));
    c.now += 24 * 60 * MINUTE_MS + 1;
    assert_true(restart(&c, "later"));
    assert_false(is_known(&c, "ahead"));
    cluster_clear(&c);
}

static void a_snapshot_holds_them_and_what_they_take(void **state)
{
    struct cluster c;
    struct error err;
    CLEANUP_BUF struct buf bytes = {0};
    start(&c, 3);
    restart_many(&c, 100);
    core_snapshot(c.core, &bytes);
    struct core *other = core_read(bytes.data, bytes.len, &err);
    assert_non_null(other);
    assert_int_equal(core_key_bytes(other), core_key_bytes(c.core));
    core_free(other);
    cluster_clear(&c);
}

/* Together with servers that count them, as releases before did. */
static void beside_an_older_release_the_last_ones_are_kept(void **state)
{
    struct cluster c;
    start(&c, 2);
    assert_true(restart(&c, "first"));
    restart_many(&c, 10000);
    assert_true(is_known(&c, "first"));
    assert_true(restart(&c, "last"));
    assert_false(is_known(&c, "first"));
    cluster_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(none_is_forgotten_within_ten_minutes),
        cmocka_unit_test(a_few_are_kept_for_a_day),
        cmocka_unit_test(without_room_new_keys_are_refused_and_old_ones_answered),
        cmocka_unit_test(a_clock_that_was_ahead_holds_up_nothing),
        cmocka_unit_test(a_snapshot_holds_them_and_what_they_take),
        cmocka_unit_test(beside_an_older_release_the_last_ones_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
