/* Services: versions, counts, restarts, ends; answers and refusals. */
#include <stdio.h>
#include <string.h>

#include "../cmocka_all.h"
#include "cluster.h"

static void a_submitted_service_is_placed_and_its_deployment_succeeds(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    assert_true(cluster_submit(&c, "web", "    count: 3\n"));
    assert_non_null(strstr(c.body, "{\"job\":\"j\",\"index\":3,\"services\":[{\"name\":\"web\",\"version\":1,\"changed\":true,"));
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(cluster_wanted(&c, "web", i)->replica, i);
    cluster_report_all(&c, "web", ALLOC_RUNNING);
    const struct deployment *d = core_deployment_next(c.core, NULL);
    assert_int_equal(d->state, DEPLOYMENT_SUCCESSFUL);
    struct service_status s = cluster_status(&c, "web");
    assert_int_equal(s.state, SERVICE_RUNNING);
    assert_int_equal(s.healthy, 3);
    assert_null(s.reason);
    type_clear(&service_status_type, &s);
    cluster_clear(&c);
}

static void an_unchanged_service_stays_untouched(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", NULL);
    cluster_decide(&c);
    uint64_t modified = cluster_wanted(&c, "web", 0)->modify_index;
    assert_true(cluster_submit(&c, "web", NULL));
    assert_non_null(strstr(c.body, "\"version\":1,\"changed\":false,\"deployment\":null"));
    cluster_decide(&c);
    assert_int_equal(cluster_wanted(&c, "web", 0)->modify_index, modified);
    cluster_clear(&c);
}

static void a_change_that_needs_no_restart_carries_replicas_over(void **state)
{
    struct cluster c;
    char id[16];
    cluster_init(&c, 1);
    cluster_submit(&c, "web", NULL);
    cluster_decide(&c);
    snprintf(id, sizeof(id), "%s", cluster_wanted(&c, "web", 0)->id);
    assert_true(cluster_submit(&c, "web", "    count: 2\n    priority: 70\n"));
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 2);
    assert_string_equal(cluster_wanted(&c, "web", 0)->id, id);
    assert_int_equal(cluster_wanted(&c, "web", 0)->version, 2);
    cluster_clear(&c);
}

static void other_checks_replace_nothing_once_all_servers_agree_on_that(void **state)
{
    static const char checks[] = "    count: 1\n    ports: [{name: http, port: 80}]\n    health: {type: tcp, interval: 1s}\n",
                      others[] = "    count: 1\n    ports: [{name: http, port: 80}]\n    health: {type: http, path: /x}\n";
    static const struct { int64_t level; int replicas; } cases[] = {{3, 2 /* the new one beside the old */}, {4, 1}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cluster c;
        cluster_init(&c, 1);
        cluster_level(&c, cases[i].level);
        cluster_submit(&c, "web", checks);
        cluster_decide(&c);
        cluster_report_all(&c, "web", ALLOC_HEALTHY);
        assert_true(cluster_submit(&c, "web", others));
        cluster_decide(&c);
        assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), cases[i].replicas);
        cluster_clear(&c);
    }
}

static void services_that_the_new_file_leaves_out_are_stopped(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", NULL);
    cluster_decide(&c);
    assert_true(cluster_submit(&c, "other", NULL));
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 0);
    struct service_status s = cluster_status(&c, "web");
    assert_int_equal(s.state, SERVICE_STOPPING);
    type_clear(&service_status_type, &s);
    cluster_stop_all(&c, "web");
    s = cluster_status(&c, "web");
    assert_int_equal(s.state, SERVICE_STOPPED);
    type_clear(&service_status_type, &s);
    struct job job;
    assert_int_equal(core_job(c.core, "j", &job), 0);
    assert_int_equal(job.services.n, 1);
    assert_string_equal(job.services.v[0].name, "other");
    type_clear(&job_type, &job);
    cluster_clear(&c);
}

static void a_service_name_belongs_to_one_job(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", NULL);
    assert_false(cluster_submit_yaml(&c, "job: k\nservices: [{name: web, driver: exec, config: {command: /bin/x}}]\n", NULL));
    assert_int_equal(c.error.code, ERROR_CONFLICT);
    assert_non_null(strstr(c.error.text, "belongs to job j"));
    assert_null(core_job_next(c.core, "j"));
    cluster_delete(&c, "web", false);
    assert_true(cluster_submit_yaml(&c, "job: k\nservices: [{name: web, driver: exec, config: {command: /bin/x}}]\n", NULL));
    assert_int_equal(core_service(c.core, "web")->version, 2);
    cluster_clear(&c);
}

static void a_submit_for_another_index_is_refused(void **state)
{
    struct cluster c;
    struct command cmd;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", NULL);
    for (int matches = 0; matches < 2; matches++) {
        command_init(&cmd, COMMAND_JOB_SUBMIT, c.now, NULL, NULL);
        struct command_job_submit *p = cmd.payload;
        core_job(c.core, "j", &p->job);
        p->check_index = true;
        p->expected_index = matches ? core_changed(c.core, CORE_JOB, "j") : 1;
        assert_int_equal(cluster_apply(&c, &cmd), matches);
    }
    cluster_clear(&c);
}

static void a_repeated_key_gets_the_first_answer(void **state)
{
    static const char *const yaml = "name: web\ndriver: exec\nconfig: {command: /bin/x}\n";
    struct cluster c;
    char first[sizeof(c.body)];
    cluster_init(&c, 1);
    assert_true(cluster_submit_yaml(&c, yaml, "k1"));
    strcpy(first, c.body);
    c.now += 1000;
    assert_true(cluster_submit_yaml(&c, yaml, "k1"));
    assert_string_equal(c.body, first);
    assert_false(cluster_submit_yaml(&c, "name: api\ndriver: exec\nconfig: {command: /bin/x}\n", "k1"));
    assert_int_equal(c.error.code, ERROR_CONFLICT);
    c.now += 25 * 3600 * 1000;
    assert_true(cluster_submit_yaml(&c, "name: api\ndriver: exec\nconfig: {command: /bin/x}\n", "k1"));
    cluster_clear(&c);
}

static void scaling_goes_up_down_and_to_nothing(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    cluster_submit(&c, "web", NULL);
    cluster_decide(&c);
    assert_true(cluster_scale(&c, "web", 5));
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 5);
    assert_true(cluster_scale(&c, "web", 2));
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 2);
    assert_int_equal(cluster_wanted(&c, "web", 1)->replica, 1);
    assert_true(cluster_scale(&c, "web", 0));
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 0);
    assert_false(cluster_scale(&c, "web", -1));
    assert_int_equal(c.error.code, ERROR_INVALID);
    assert_false(cluster_scale(&c, "nothing", 1));
    assert_int_equal(c.error.code, ERROR_NOT_FOUND);
    cluster_clear(&c);
}

static void a_restart_goes_through_the_replicas_one_by_one(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", "    count: 3\n");
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_RUNNING);
    assert_true(cluster_service(&c, COMMAND_SERVICE_RESTART, "web"));
    for (unsigned done = 0; done < 3; done++) {
        cluster_pass(&c, 1000);
        unsigned raised = 0;
        for (unsigned i = 0; i < 3; i++)
            raised += (unsigned)cluster_wanted(&c, "web", i)->generation;
        assert_int_equal(raised, done + 1);
        char id[16];
        snprintf(id, sizeof(id), "%s", cluster_wanted(&c, "web", done)->id);
        assert_true(cluster_report(&c, id, ALLOC_STARTING));
        cluster_decide(&c);
        assert_true(cluster_report(&c, id, ALLOC_RUNNING));
    }
    cluster_clear(&c);
}

static void rollback_makes_a_new_version_of_an_old_one(void **state)
{
    struct cluster c;
    struct service_version_list versions;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", NULL);
    cluster_submit(&c, "web", "    env: {A: b}\n");
    assert_false(cluster_rollback(&c, "web", 7));
    assert_int_equal(c.error.code, ERROR_NOT_FOUND);
    assert_true(cluster_rollback(&c, "web", 0));
    core_service_versions(c.core, "web", &versions);
    assert_int_equal(versions.n, 3);
    assert_string_equal(versions.v[2].why, "rollback to 1");
    assert_int_equal(versions.v[2].spec.env.n, 0);
    list_clear((struct list *)&versions, &service_version_type);
    cluster_clear(&c);
}

static void ten_versions_are_kept(void **state)
{
    struct cluster c;
    struct service_version_list versions;
    char extra[64];
    cluster_init(&c, 0);
    for (int i = 0; i < 25; i++) {
        snprintf(extra, sizeof(extra), "    env: {A: v%d}\n", i);
        cluster_submit(&c, "web", extra);
    }
    core_service_versions(c.core, "web", &versions);
    assert_int_equal(versions.n, 10);
    assert_int_equal(versions.v[0].version, 16);
    list_clear((struct list *)&versions, &service_version_type);
    cluster_clear(&c);
}

static void a_purged_service_is_forgotten_when_its_last_task_has_ended(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", NULL);
    cluster_decide(&c);
    assert_true(cluster_delete(&c, "web", true));
    cluster_decide(&c);
    assert_non_null(core_service(c.core, "web"));
    cluster_stop_all(&c, "web");
    assert_null(core_service(c.core, "web"));
    assert_null(core_job_next(c.core, NULL));
    assert_null(core_alloc_next(c.core, NULL));
    cluster_clear(&c);
}

static void what_is_wrong_in_a_submit_is_said_and_changes_nothing(void **state)
{
    struct cluster c;
    struct command cmd;
    CLEANUP_BUF struct buf before = {0}, after = {0};
    cluster_init(&c, 1);
    cluster_submit(&c, "web", NULL);
    core_snapshot(c.core, &before);
    command_init(&cmd, COMMAND_JOB_SUBMIT, c.now, NULL, NULL);
    struct command_job_submit *p = cmd.payload;
    core_job(c.core, "j", &p->job);
    p->job.services.v[0].count = -5;
    assert_false(cluster_apply(&c, &cmd));
    assert_int_equal(c.error.code, ERROR_INVALID);
    assert_non_null(strstr(c.error.text, "services[0].count"));
    core_snapshot(c.core, &after);
    /* past the head with index and hash */
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.data + 24, after.data + 24, before.len - 24);
    cluster_clear(&c);
}

#define ORDERED "job: j\nservices:\n" \
                "  - {name: api, driver: exec, config: {command: /x%s}, after: db}\n" \
                "  - {name: db, driver: exec, config: {command: /x%s}, count: 2, after: init}\n" \
                "  - {name: init, driver: exec, config: {command: /x}, mode: task}\n"

static void submit_ordered(struct cluster *c, const char *api, const char *db)
{
    CLEANUP_FREE char *yaml = mem_printf(ORDERED, api, db);
    assert_true(cluster_submit_yaml(c, yaml, NULL));
    cluster_decide(c);
}

static unsigned running(struct cluster *c, const char *service)
{
    return cluster_count(c, service, DESIRED_RUN, true);
}

static void services_start_after_those_that_they_name(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    submit_ordered(&c, "", "");
    assert_int_equal(running(&c, "init"), 1);
    assert_int_equal(running(&c, "db") + running(&c, "api"), 0);
    struct service_status s = cluster_status(&c, "api");
    assert_string_equal(s.reason, "waits for service db, which is not healthy yet");
    type_clear(&service_status_type, &s);
    cluster_pass(&c, 3600 * 1000);                        /* that is not its failure */
    cluster_report_all(&c, "init", ALLOC_COMPLETE);
    assert_int_equal(running(&c, "db"), 2);
    assert_int_equal(running(&c, "api"), 0);
    cluster_report_all(&c, "db", ALLOC_RUNNING);
    assert_int_equal(running(&c, "api"), 1);
    cluster_report_all(&c, "api", ALLOC_RUNNING);
    s = cluster_status(&c, "api");
    assert_int_equal(s.state, SERVICE_RUNNING);
    type_clear(&service_status_type, &s);
    cluster_clear(&c);
}

static void what_runs_is_not_held_back(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    submit_ordered(&c, "", "");
    cluster_report_all(&c, "init", ALLOC_COMPLETE);
    cluster_report_all(&c, "db", ALLOC_RUNNING);
    cluster_report_all(&c, "api", ALLOC_RUNNING);
    cluster_report_all(&c, "db", ALLOC_FAILED);
    cluster_report_all(&c, "api", ALLOC_FAILED);
    cluster_pass(&c, 5000);
    assert_int_equal(running(&c, "api"), 1);              /* although db does not serve */
    cluster_clear(&c);
}

static void a_rollout_waits_for_that_of_the_service_before(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    submit_ordered(&c, "", "");
    cluster_report_all(&c, "init", ALLOC_COMPLETE);
    cluster_report_all(&c, "db", ALLOC_RUNNING);
    cluster_report_all(&c, "api", ALLOC_RUNNING);
    submit_ordered(&c, "y", "y");
    assert_int_equal(running(&c, "api"), 1);
    assert_int_equal(running(&c, "db"), 3);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(core_service(c.core, "api")->version, 2);
        cluster_report_all(&c, "db", ALLOC_RUNNING);
        cluster_stop_all(&c, "db");
    }
    assert_int_equal(running(&c, "api"), 2);
    cluster_clear(&c);
}

static bool submit_way(struct cluster *c, const char *job, const char *service, const char *way)
{
    CLEANUP_FREE char *yaml = mem_printf("job: %s\nservices:\n  - {name: %s, driver: exec, config: {command: /x}, "
                                         "ports: [{name: p, port: 80}], ingress: [%s]}\n", job, service, way);
    return cluster_submit_yaml(c, yaml, NULL);
}

static void a_way_in_has_one_service(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    assert_true(submit_way(&c, "a", "one", "{host: a.example, path: /x, port: p}"));
    assert_true(submit_way(&c, "b", "two", "{host: a.example, path: /y, port: p}"));
    assert_false(submit_way(&c, "b", "two", "{host: a.example, path: /x/, port: p}"));
    assert_int_equal(c.error.code, ERROR_CONFLICT);
    assert_non_null(strstr(c.error.text, "service one of job a has host a.example with path /x already"));
    assert_true(submit_way(&c, "a", "one", "{protocol: tcp, listen: 9000, port: p}"));
    assert_true(submit_way(&c, "b", "two", "{host: a.example, path: /x, port: p}"));
    assert_false(cluster_rollback(&c, "one", 1));         /* to the way that it left to another */
    assert_non_null(strstr(c.error.text, "service two of job b has host a.example"));
    assert_false(submit_way(&c, "d", "three", "{protocol: tcp, listen: 9000, port: p}"));
    assert_non_null(strstr(c.error.text, "port 9000"));
    cluster_delete(&c, "one", false);
    assert_true(submit_way(&c, "d", "three", "{protocol: tcp, listen: 9000, port: p}"));
    cluster_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(services_start_after_those_that_they_name),
        cmocka_unit_test(what_runs_is_not_held_back),
        cmocka_unit_test(a_rollout_waits_for_that_of_the_service_before),
        cmocka_unit_test(a_way_in_has_one_service),
        cmocka_unit_test(a_submitted_service_is_placed_and_its_deployment_succeeds),
        cmocka_unit_test(an_unchanged_service_stays_untouched),
        cmocka_unit_test(a_change_that_needs_no_restart_carries_replicas_over),
        cmocka_unit_test(other_checks_replace_nothing_once_all_servers_agree_on_that),
        cmocka_unit_test(services_that_the_new_file_leaves_out_are_stopped),
        cmocka_unit_test(a_service_name_belongs_to_one_job),
        cmocka_unit_test(a_submit_for_another_index_is_refused),
        cmocka_unit_test(a_repeated_key_gets_the_first_answer),
        cmocka_unit_test(scaling_goes_up_down_and_to_nothing),
        cmocka_unit_test(a_restart_goes_through_the_replicas_one_by_one),
        cmocka_unit_test(rollback_makes_a_new_version_of_an_old_one),
        cmocka_unit_test(ten_versions_are_kept),
        cmocka_unit_test(a_purged_service_is_forgotten_when_its_last_task_has_ended),
        cmocka_unit_test(what_is_wrong_in_a_submit_is_said_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
