#include "test_server.h"

#include <stdio.h>

#include "base/mem.h"
#include "net/address.h"
#include "server/rate_limit.h"

static void allowances_fill_at_their_rate(void **state)
{
    struct rate_limits *l = rate_limits_new((const int64_t[RATE_KINDS]){[RATE_TOKEN] = 2, [RATE_ADDRESS] = 1});
    int64_t now = 1000000;
    for (int i = 0; i < 20; i++)
        assert_int_equal(rate_take(l, RATE_TOKEN, "a", now), 0);
    assert_int_equal(rate_take(l, RATE_TOKEN, "a", now), 500);
    assert_int_equal(rate_take(l, RATE_TOKEN, "a", now + 499), 1);
    assert_int_equal(rate_take(l, RATE_TOKEN, "a", now + 500), 0);
    assert_true(rate_take(l, RATE_TOKEN, "a", now + 500) > 0);
    /* Others, and other kinds, have their own; a kind without a limit has none. */
    assert_int_equal(rate_take(l, RATE_TOKEN, "b", now), 0);
    assert_int_equal(rate_take(l, RATE_ADDRESS, "a", now), 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(rate_take(l, RATE_FAILURE, "a", now), 0);
    /* Who asks again is not forgotten, however many ask once. */
    for (int i = 0; i < 100000; i++) {
        char key[24];
        snprintf(key, sizeof key, "x%d", i);
        assert_int_equal(rate_take(l, RATE_TOKEN, key, now), 0);
        assert_true(rate_take(l, RATE_TOKEN, "a", now + 500) > 0);
    }
    rate_limits_free(l);
    rate_limits_free(NULL);
}

static void an_address_is_a_host_or_its_network(void **state)
{
    static const struct { const char *peer, *holder; } cases[] = {
        {"10.0.0.1:5123", "10.0.0.1"},
        {"[2001:db8:1:2:3:4:5:6]:80", "2001:0db8:0001:0002::/64"},
        {"[::1]:80", "0000:0000:0000:0000::/64"},
        {"unix", "unix"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char out[ADDRESS_HOLDER_SIZE];
        address_holder(cases[i].peer, out);
        assert_string_equal(out, cases[i].holder);
    }
}

int test_rates(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allowances_fill_at_their_rate),
        cmocka_unit_test(an_address_is_a_host_or_its_network),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
