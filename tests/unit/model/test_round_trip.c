/* Every table's objects, random ones, through every form in which they are stored or sent. */
#include "../cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "model/model.h"
#include "random_object.h"

static const struct type *const types[] = {
    &port_type, &volume_type, &rate_limits_type, &config_type, &resources_type, &constraint_type, &affinity_type,
    &health_type_table, &restart_type, &kill_type, &deploy_type, &ingress_type, &security_type, &secret_ref_type, &logs_type,
    &service_type, &job_type, &driver_info_type, &node_type, &alloc_port_type, &alloc_type, &service_version_type,
    &service_status_type, &deployment_type, &event_type, &alloc_report_type, &agent_report_type, &agent_hello_type,
    &agent_welcome_type, &agent_heartbeat_type, &agent_work_type,
};
enum { ROUNDS = 60 };

static void for_random_objects(void (*check)(const struct type *t, const void *object, const char *where))
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
            const struct type *t = unchecked_twin(types[i]);
            struct random r = {.state = seed * 1000 + i};
            void *object = mem_alloc(t->size);
            object_randomize(t, &r, object);
            CLEANUP_FREE char *where = mem_printf("%s, seed %d", t->name, (int)seed);
            check(t, object, where);
            type_free(t, object);
        }
    twins_free();
}

static void expect_equal(const struct type *t, const void *wanted, const void *got, const char *text, const char *where)
{
    if (type_equal(t, wanted, got))
        return;
    struct change_list changes = {0};
    type_diff(t, wanted, got, &changes);
    for (uint32_t i = 0; i < changes.n; i++)
        print_message("%s: %s -> %s\n", changes.v[i].path, changes.v[i].before ? changes.v[i].before : "NULL",
                      changes.v[i].after ? changes.v[i].after : "NULL");
    change_list_clear(&changes);
    fail_msg("%s: differs after the round trip through\n%s", where, text);
}

static void expect_no_problems(const struct problem_list *problems, const char *text, const char *where)
{
    if (!problems->n)
        return;
    CLEANUP_BUF struct buf message = {0};
    problem_list_format(problems, NULL, &message);
    fail_msg("%s: %s\n%s", where, message.data, text);
}

static void check_json(const struct type *t, const void *object, const char *where)
{
    CLEANUP_BUF struct buf text = {0};
    struct problem_list problems = {0};
    void *back = mem_alloc(t->size);
    type_to_json(t, object, &text);
    type_from_json(t, text.data, text.len, true, back, &problems);
    expect_no_problems(&problems, text.data, where);
    expect_equal(t, object, back, text.data, where);
    type_free(t, back);
}

static void check_yaml(const struct type *t, const void *object, const char *where)
{
    CLEANUP_BUF struct buf text = {0};
    struct problem_list problems = {0};
    void *back = mem_alloc(t->size);
    type_to_yaml(t, object, &text);
    type_from_yaml(t, text.data, text.len, back, &problems);
    expect_no_problems(&problems, text.data, where);
    expect_equal(t, object, back, text.data, where);
    type_free(t, back);
}

static void check_binary(const struct type *t, const void *object, const char *where)
{
    CLEANUP_BUF struct buf bytes = {0};
    CLEANUP_BUF struct buf again = {0};
    struct error err = {0};
    void *back = mem_alloc(t->size);
    type_encode(t, object, &bytes);
    if (type_decode(t, bytes.data, bytes.len, back, &err))
        fail_msg("%s: %s", where, err.text);
    expect_equal(t, object, back, "(bytes)", where);
    type_encode(t, back, &again);
    assert_int_equal(again.len, bytes.len);
    if (bytes.len)
        assert_memory_equal(again.data, bytes.data, bytes.len);
    type_free(t, back);
}

static void check_copy(const struct type *t, const void *object, const char *where)
{
    void *copy = mem_alloc(t->size);
    type_copy(t, copy, object);
    expect_equal(t, object, copy, "(copy)", where);
    type_free(t, copy);
}

/* Cut anywhere: refused or read, never a crash, and nothing is left behind. */
static void check_cut_binary(const struct type *t, const void *object, const char *where)
{
    CLEANUP_BUF struct buf bytes = {0};
    type_encode(t, object, &bytes);
    for (size_t n = 0; n < bytes.len; n += 1 + n / 16) {
        void *cut = mem_dup(bytes.data, n);
        void *back = mem_alloc(t->size);
        struct error err = {0};
        if (type_decode(t, cut, n, back, &err)) {
            assert_int_equal(err.code, ERROR_CORRUPT);
            for (size_t i = 0; i < t->size; i++)
                assert_int_equal(((char *)back)[i], 0);
        }
        type_free(t, back);
        free(cut);
    }
}

static void json_gives_back_what_was_written(void **state) { for_random_objects(check_json); }
static void yaml_gives_back_what_was_written(void **state) { for_random_objects(check_yaml); }
static void binary_gives_back_the_object_and_the_same_bytes(void **state) { for_random_objects(check_binary); }
static void a_copy_is_equal(void **state) { for_random_objects(check_copy); }
static void binary_cut_anywhere_is_refused_or_read(void **state) { for_random_objects(check_cut_binary); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(binary_gives_back_the_object_and_the_same_bytes),
        cmocka_unit_test(binary_cut_anywhere_is_refused_or_read),
        cmocka_unit_test(a_copy_is_equal),
        cmocka_unit_test(json_gives_back_what_was_written),
        cmocka_unit_test(yaml_gives_back_what_was_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
