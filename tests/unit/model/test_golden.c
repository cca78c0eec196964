/* Files written by the first release. Logs and snapshots live on across releases: these bytes must be readable for ever,
 * and what is read must be written the same way. Tags may be added, never changed. (The files were made with
 * type_encode from tests/fuzz/corpus/yaml/everything.yaml and tests/fuzz/corpus/json/work.json.) */
#include "../cmocka_all.h"

#include <string.h>

#include "base/file.h"
#include "model/model.h"

static void read_golden(const char *name, const struct type *t, void *object)
{
    CLEANUP_BUF struct buf file = {0};
    CLEANUP_BUF struct buf again = {0};
    CLEANUP_FREE char *path = mem_printf("%s/golden/%s", DATA_DIR, name);
    struct error err = {0};
    if (file_read(path, 1 << 20, &file, &err) || type_decode(t, file.data, file.len, object, &err))
        fail_msg("%s", err.text);
    type_encode(t, object, &again);
    assert_int_equal(again.len, file.len);
    assert_memory_equal(again.data, file.data, file.len);
}

static void a_job_of_the_first_release_is_read(void **state)
{
    struct job job;
    read_golden("job-1.bin", &job_type, &job);
    const struct service *s = &job.services.v[0];
    assert_string_equal(job.name, "everything");
    assert_int_equal(s->driver, DRIVER_DOCKER);
    assert_int_equal(s->count, 2);
    assert_int_equal(s->config.pull, PULL_ALWAYS);
    assert_int_equal(s->config.args.n, 7);
    assert_string_equal(s->config.args.v[5], "1.10");
    assert_string_equal(kv_get(&s->config.env, "B"), "x: y");
    assert_int_equal(s->config.volumes.v[0].size_mb, 1024);
    assert_true(s->config.volumes.v[0].read_only);
    assert_int_equal(s->ports.v[1].host, 5353);
    assert_int_equal(s->ports.v[1].protocol, PROTOCOL_UDP);
    assert_true(s->resources.cpus == 0.25);
    assert_int_equal(s->constraints.v[1].op, OP_IN);
    assert_string_equal(s->constraints.v[1].value.v[1], "b");
    assert_int_equal(s->affinities.v[0].weight, -20);
    assert_int_equal(s->health.interval_ms, 90000);
    assert_int_equal(s->restart.then, THEN_FAIL);
    assert_string_equal(s->kill.signal, "SIGINT");
    assert_int_equal(s->deploy.strategy, STRATEGY_CANARY);
    assert_false(s->deploy.auto_revert);
    assert_string_equal(s->ingress.v[0].redirect_https, "false");
    assert_int_equal(s->security.profile, PROFILE_DOCKER_LEGACY);
    assert_int_equal(s->secrets.v[0].on_change, ON_CHANGE_SIGNAL);
    assert_int_equal(s->logs.max_files, 2);
    assert_string_equal(kv_get(&s->meta, "odd key"), "odd: value");
    type_clear(&job_type, &job);
}

static void work_of_the_first_release_is_read(void **state)
{
    struct agent_work work;
    read_golden("agent-work-1.bin", &agent_work_type, &work);
    assert_int_equal(work.index, 7);
    assert_true(work.full);
    assert_string_equal(work.services.v[0].spec.name, "web");
    assert_int_equal(work.services.v[0].spec.driver, DRIVER_EXEC);
    assert_int_equal(work.services.v[0].submitted_at, INT64_C(1795508356042));
    const struct alloc *a = &work.allocs.v[0];
    assert_string_equal(a->id, "0123456789ab");
    assert_int_equal(a->state, ALLOC_RUNNING);
    assert_int_equal(a->exit_code, -1);
    assert_int_equal(a->ports.v[0].host, 20000);
    assert_int_equal(a->created_at, INT64_C(1795508356000));
    assert_string_equal(work.gone.v[1], "b");
    type_clear(&agent_work_type, &work);
}

static void tags_of_newer_releases_are_passed_over(void **state)
{
    static const uint8_t bytes[] = {0x0a, 1, 'n',                        /* 1: name */
                                    0xf8, 0x07, 5,                       /* 127: a number */
                                    0xfa, 0x07, 2, 'x', 'y',             /* 127: bytes */
                                    0xf9, 0x07, 1, 2, 3, 4, 5, 6, 7, 8}; /* 127: eight bytes */
    struct job job;
    struct error err = {0};
    assert_int_equal(type_decode(&job_type, bytes, sizeof bytes, &job, &err), 0);
    assert_string_equal(job.name, "n");
    type_clear(&job_type, &job);
}

static void malformed_bytes_are_refused(void **state)
{
    static const struct { const char *bytes; size_t n; } bad[] = {
        {"\x0a", 1},                    /* a length is missing */
        {"\x0a\x05" "ab", 4},           /* too short */
        {"\x0a\x02" "a\0", 4},          /* NUL in a text */
        {"\x08\x01", 2},                /* a number for a text */
        {"\x0b\x01", 2},                /* a wire type that does not exist */
        {"\x12\x02\x10\x63", 4},        /* a driver that does not exist */
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},
        {"\x12\x0e\x4a\x05\x0a\x01" "b\x12\x00\x4a\x05\x0a\x01" "a\x12\x00", 16},    /* keys of a map out of order */
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct job job;
        struct error err = {0};
        assert_int_equal(type_decode(&job_type, bad[i].bytes, bad[i].n, &job, &err), -1);
        assert_int_equal(err.code, ERROR_CORRUPT);
        assert_null(job.name);
        assert_int_equal(job.services.n, 0);
    }
}

static void tags_are_unique_within_each_type(void **state)
{
    static const struct type *const types[] = {&job_type, &service_type, &config_type, &node_type, &alloc_type, &event_type,
                                               &service_version_type, &service_status_type, &deployment_type,
                                               &agent_work_type, &agent_report_type, &alloc_report_type, &health_type_table,
                                               &deploy_type, &ingress_type, &resources_type, &restart_type};
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        for (const struct field *f = types[i]->fields; f->name; f++) {
            assert_true(f->tag > 0);
            assert_non_null(f->help);
            for (const struct field *g = types[i]->fields; g != f; g++) {
                assert_int_not_equal(g->tag, f->tag);
                assert_string_not_equal(g->name, f->name);
                assert_int_not_equal(g->offset, f->offset);
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_of_the_first_release_is_read),
        cmocka_unit_test(work_of_the_first_release_is_read),
        cmocka_unit_test(tags_of_newer_releases_are_passed_over),
        cmocka_unit_test(malformed_bytes_are_refused),
        cmocka_unit_test(tags_are_unique_within_each_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
