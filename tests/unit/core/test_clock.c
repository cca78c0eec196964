/* The leader's wall clock is set: who waits waits as long as before. */
#include <string.h>

#include "../cmocka_all.h"
#include "cluster.h"

#define HOUR (3600 * 1000LL)
#define HEALTH "    ports: [{name: http, port: 80}]\n    health: {type: tcp, port: http}\n"

/* told: a COMMAND_CLOCK goes first. Then the leader decides. */
static void jump(struct cluster *c, int64_t by, bool told)
{
    c->now += by;
    if (told) {
        struct command cmd;
        command_init(&cmd, COMMAND_CLOCK, c->now, NULL, NULL);
        *(struct command_clock *)cmd.payload = (struct command_clock){.by = by};
        assert_true(cluster_apply(c, &cmd));
    }
    cluster_decide(c);
}

/* A deployment of which one replica runs and is not healthy yet, for 4 of its 10 seconds. */
static void begin_deployment(struct cluster *c)
{
    cluster_init(c, 2);
    cluster_submit(c, "web", "    count: 1\n" HEALTH);
    cluster_decide(c);
    cluster_report_all(c, "web", ALLOC_HEALTHY);
    cluster_submit(c, "web", "    count: 1\n    env: {A: b}\n" HEALTH);
    cluster_decide(c);
    cluster_report_all(c, "web", ALLOC_RUNNING);
    cluster_pass(c, 3000);
}

static void a_deployment_does_not_fail_by_a_step_forward(void **state)
{
    struct cluster c;
    begin_deployment(&c);
    jump(&c, HOUR, false);
    assert_int_equal(core_service(c.core, "web")->version, 3);       /* what it would be */
    cluster_clear(&c);

    begin_deployment(&c);
    jump(&c, HOUR, true);
    cluster_pass(&c, 5000);
    assert_int_equal(core_service(c.core, "web")->version, 2);
    cluster_pass(&c, 2000);                                          /* its time is up, all the same */
    assert_int_equal(core_service(c.core, "web")->version, 3);
    cluster_clear(&c);
}

static void a_replica_is_tried_again_in_time_after_a_step_back(void **state)
{
    for (int told = 0; told <= 1; told++) {
        struct cluster c;
        cluster_init(&c, 1);
        cluster_submit(&c, "web", "    count: 1\n");
        cluster_decide(&c);
        CLEANUP_FREE char *id = mem_strdup(cluster_wanted(&c, "web", 0)->id);
        assert_true(cluster_report(&c, id, ALLOC_RUNNING));
        cluster_pass(&c, 20 * 60 * 1000);
        assert_true(cluster_report(&c, id, ALLOC_FAILED));
        cluster_decide(&c);
        jump(&c, -5 * HOUR, told);
        cluster_pass(&c, 60 * 1000);
        const struct alloc *next = cluster_wanted(&c, "web", 0);
        assert_int_equal(next && strcmp(next->id, id) && alloc_live(next), told);
        cluster_clear(&c);
    }
}

static void a_schedule_follows_the_clock(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    cluster_submit(&c, "night", "    mode: task\n    schedule: \"0 3 * * *\"\n");
    cluster_decide(&c);
    struct service_status s = cluster_status(&c, "night");
    int64_t first = s.next_run_at;
    type_clear(&service_status_type, &s);
    jump(&c, -72 * HOUR, true);
    s = cluster_status(&c, "night");
    assert_int_equal(s.next_run_at, first - 72 * HOUR);
    type_clear(&service_status_type, &s);
    /* By less it waits: a night's run is not done twice. */
    jump(&c, -HOUR, true);
    s = cluster_status(&c, "night");
    assert_int_equal(s.next_run_at, first - 72 * HOUR);
    type_clear(&service_status_type, &s);
    cluster_clear(&c);
}

static void a_repeat_with_its_key_is_known_after_a_step(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    const char *yaml = "job: j\nservices:\n  - name: web\n    driver: exec\n    config: {command: /bin/true}\n";
    assert_true(cluster_submit_yaml(&c, yaml, "key"));
    uint64_t index = core_changed(c.core, CORE_JOB, "j");
    jump(&c, 100 * HOUR, true);
    assert_true(cluster_submit_yaml(&c, yaml, "key"));
    assert_int_equal(core_changed(c.core, CORE_JOB, "j"), index);
    cluster_clear(&c);
}

static void a_step_of_centuries_is_refused(void **state)
{
    struct cluster c;
    struct command cmd;
    cluster_init(&c, 1);
    command_init(&cmd, COMMAND_CLOCK, c.now, NULL, NULL);
    *(struct command_clock *)cmd.payload = (struct command_clock){.by = INT64_MAX};
    assert_false(cluster_apply(&c, &cmd));
    cluster_clear(&c);
}

static void a_command_gets_another_time(void **state)
{
    struct error err;
    struct command back, cmd;
    CLEANUP_BUF struct buf bytes = {0};
    command_init(&cmd, COMMAND_SERVICE_SCALE, 17, "key", "me");
    ((struct command_service_scale *)cmd.payload)->service = mem_strdup("web");
    command_encode(&cmd, &bytes);
    command_stamp(bytes.data, bytes.len, 1234567890123);
    assert_int_equal(command_decode(bytes.data, bytes.len, &back, &err), 0);
    assert_int_equal(back.time, 1234567890123);
    assert_int_equal(back.kind, cmd.kind);
    assert_string_equal(back.key, "key");
    assert_string_equal(((struct command_service_scale *)back.payload)->service, "web");
    command_clear(&back);
    command_clear(&cmd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_deployment_does_not_fail_by_a_step_forward),
        cmocka_unit_test(a_replica_is_tried_again_in_time_after_a_step_back),
        cmocka_unit_test(a_schedule_follows_the_clock),
        cmocka_unit_test(a_repeat_with_its_key_is_known_after_a_step),
        cmocka_unit_test(a_step_of_centuries_is_refused),
        cmocka_unit_test(a_command_gets_another_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
