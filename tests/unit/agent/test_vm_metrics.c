/* A monitor's metrics: sums of its lines, and lines that are none. */
#include <string.h>

#include "../cmocka_all.h"
#include "agent/vm_metrics.h"

static unsigned tell(struct vm_metrics_reader *r, const char *text, struct vm_metrics *m)
{
    return vm_metrics_read(r, text, strlen(text), m);
}

static void test_counters_add_up(void **state)
{
    struct vm_metrics_reader r = {0};
    struct vm_metrics m = {0};
    assert_int_equal(tell(&r, "{\"utc_timestamp_ms\":1,\"block_image\":{\"read_bytes\":99},\"block\":{\"read_agg\":{\"read_bytes\":7},"
                              "\"read_bytes\":512,\"flush_count\":2},\"latencies_us\":{\"pause_vm\":30}}\n", &m), 1);
    assert_int_equal(m.v[VM_BLOCK_READ_BYTES], 512);
    assert_int_equal(tell(&r, "{\"block\": {\"read_bytes\": 1, \"flush_count\": 0},\r\n", &m), 0);     /* cut */
    assert_int_equal(tell(&r, "{\"block\": {\"read_bytes\": 8}, \"latencies_us\": {\"pause_vm\": 20}}\n", &m), 1);
    assert_int_equal(m.v[VM_BLOCK_READ_BYTES], 520);
    assert_int_equal(m.v[VM_BLOCK_FLUSHES], 2);
    assert_int_equal(m.v[VM_PAUSE_US], 20);          /* a level, no sum */
    assert_int_equal(m.lines, 2);
}

/* The statistics of a balloon: nothing of a guest before it tells it, and then also that it is nothing. */
static void test_what_is_not_told(void **state)
{
    struct vm_metrics_reader r = {0};
    struct vm_metrics m = {0};
    assert_int_equal(tell(&r, "{\"balloon_statistics\":{\"target_mib\": 32, \"actual_mib\": 0}}\n", &m), 1);
    assert_int_equal(m.v[VM_BALLOON_TARGET], 33);
    assert_int_equal(m.v[VM_BALLOON_ACTUAL], 1);
    assert_int_equal(m.v[VM_GUEST_FREE], 0);
    assert_int_equal(tell(&r, "{\"balloon_statistics\":{\"free_memory\": 4096, \"actual_mib\": 99999999999999999999}}\n", &m), 1);
    assert_int_equal(m.v[VM_GUEST_FREE], 4097);
    assert_true(m.v[VM_BALLOON_ACTUAL] == UINT64_MAX);
}

static void test_what_is_none(void **state)
{
    static const char *const lines[] = {
        "\n", "read_bytes\n", "{\"block\":{\"read_bytes\":5}\n", "{\"block\":{\"read_bytes\":5}}}\n", "{\"block\":{\"read_bytes\":-5}}\n",
        "{\"block\":{\"read_bytes\":5}} {\"block\":{\"read_bytes\":5}}\n", "{\"block\":{\"read_bytes\":true}}\n",
        "{\"block\":{\"read_bytes\":5.5}}\n", "[{\"block\":{\"read_bytes\":5}}]\n", "{\"block\":{\"read_bytes\":5}}x\n",
        "{{\"block\":{\"read_bytes\":5}}}\n", "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}}}}}\n",
    };
    struct vm_metrics_reader r = {0};
    struct vm_metrics m = {0}, none = {0};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        assert_int_equal(tell(&r, lines[i], &m), 0);
    assert_memory_equal(&m, &none, sizeof m);
}

/* A line without an end is held nowhere; names that are too long are none of ours, and sums have an end. */
static void test_bounds(void **state)
{
    struct vm_metrics_reader r = {0};
    struct vm_metrics m = {0};
    char block[4096];
    memset(block, 'a', sizeof block);
    tell(&r, "{\"block\":{\"read_bytes", &m);
    for (int i = 0; i < 1000; i++)
        vm_metrics_read(&r, block, sizeof block, &m);
    assert_int_equal(tell(&r, "\":5}}\n", &m), 1);
    assert_int_equal(m.v[VM_BLOCK_READ_BYTES], 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(tell(&r, "{\"block\":{\"read_bytes\":99999999999999999999999999}}\n", &m), 1);
    assert_true(m.v[VM_BLOCK_READ_BYTES] == UINT64_MAX);
}

/* What the table promises to who reads the metrics. */
static void test_table(void **state)
{
    for (int i = 0; i < VM_METRIC_COUNT; i++) {
        const struct vm_metric_row *row = &vm_metric_rows[i];
        assert_true(row->name && strlen(row->group) < VM_METRICS_WORD - 1 && strlen(row->key) < VM_METRICS_WORD - 1);
        bool same = i > 0 && !strcmp(row->name, vm_metric_rows[i - 1].name);
        assert_true(same == !row->help);
        for (int k = 0; k < i - 1; k++)
            assert_true(same || strcmp(row->name, vm_metric_rows[k].name));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters_add_up), cmocka_unit_test(test_what_is_not_told), cmocka_unit_test(test_what_is_none),
        cmocka_unit_test(test_bounds), cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
