/* The log and what is made of it: encoding, damaged bytes, stale decisions, snapshots, agents' work, plans. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "../cmocka_all.h"
#include "cluster.h"

static void commands_come_back_as_they_were(void **state)
{
    CLEANUP_BUF struct buf bytes = {0}, again = {0};
    CLEANUP_COMMAND struct command in, out = {0};
    struct error err;
    command_init(&in, COMMAND_SERVICE_SCALE, 12345, "key", "somebody");
    *(struct command_service_scale *)in.payload = (struct command_service_scale){.service = mem_strdup("web"), .count = 3};
    command_encode(&in, &bytes);
    assert_int_equal(command_decode(bytes.data, bytes.len, &out, &err), 0);
    assert_string_equal(out.key, "key");
    assert_string_equal(out.actor, "somebody");
    command_encode(&out, &again);
    assert_int_equal(bytes.len, again.len);
    assert_memory_equal(bytes.data, again.data, bytes.len);
}

static void damaged_commands_are_refused_and_only_move_the_index(void **state)
{
    struct cluster c;
    struct core_result r;
    cluster_init(&c, 1);
    static const char *const bytes[] = {"", "\x01", "\x02\x01\0\0\0\0\0\0\0\0", "\x01\x7f\0\0\0\0\0\0\0\0\0\0",
                                        "\x01\x03\0\0\0\0\0\0\0\0\x7f\0"};
    static const size_t lens[] = {0, 1, 10, 12, 12};
    for (size_t i = 0; i < ARRAY_LEN(bytes); i++) {
        core_apply(c.core, ++c.index, bytes[i], lens[i], &r);
        assert_int_not_equal(r.error.code, ERROR_NONE);
        assert_int_equal(core_index(c.core), c.index);
        core_result_clear(&r);
    }
    cluster_clear(&c);
}

static void a_decision_of_an_old_leader_is_checked_again(void **state)
{
    struct cluster c;
    CLEANUP_BUF struct buf old = {0};
    struct core_result r;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", "    count: 2\n");
    assert_true(core_decide(c.core, c.now, 99, &old));
    cluster_decide(&c);                              /* the new leader was faster */
    core_apply(c.core, ++c.index, old.data, old.len, &r);
    core_result_clear(&r);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 2);
    cluster_clear(&c);
}

static void a_placement_on_a_node_that_went_down_is_skipped(void **state)
{
    struct cluster c;
    CLEANUP_BUF struct buf old = {0};
    struct core_result r;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", NULL);
    assert_true(core_decide(c.core, c.now, 99, &old));
    cluster_node_state(&c, 0, NODE_DOWN);
    core_apply(c.core, ++c.index, old.data, old.len, &r);
    core_result_clear(&r);
    assert_null(core_alloc_next(c.core, NULL));
    cluster_clear(&c);
}

static void reports_that_are_repeated_or_older_change_nothing(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", NULL);
    cluster_decide(&c);
    CLEANUP_FREE char *id = mem_strdup(cluster_wanted(&c, "web", 0)->id);
    cluster_report(&c, id, ALLOC_STARTING);
    cluster_report(&c, id, ALLOC_RUNNING);
    c.report_seq = 0;
    cluster_report(&c, id, ALLOC_STARTING);
    cluster_report(&c, id, ALLOC_FAILED);
    assert_int_equal(core_alloc(c.core, id)->state, ALLOC_RUNNING);
    cluster_clear(&c);
}

static void reports_of_unknown_and_foreign_allocations_are_named(void **state)
{
    struct cluster c;
    struct command cmd;
    cluster_init(&c, 2);
    cluster_submit(&c, "web", NULL);
    cluster_decide(&c);
    const struct alloc *a = cluster_wanted(&c, "web", 0);
    unsigned other = strcmp(a->node_id, cluster_node_id(0)) == 0 ? 1 : 0;
    command_init(&cmd, COMMAND_ALLOC_REPORT, c.now, NULL, NULL);
    struct agent_report *p = cmd.payload;
    p->node_id = mem_strdup(cluster_node_id(other));
    for (int i = 0; i < 2; i++) {
        struct alloc_report *r = list_add_zero((struct list *)&p->allocs, &alloc_report_type);
        *r = (struct alloc_report){.id = mem_strdup(i ? a->id : "aaaaaaaaaaaa"), .seq = 9, .state = ALLOC_RUNNING};
    }
    assert_true(cluster_apply(&c, &cmd));
    CLEANUP_FREE char *expected = mem_printf("{\"gone\":[\"aaaaaaaaaaaa\",\"%s\"]}", a->id);
    assert_string_equal(c.body, expected);
    assert_int_equal(a->state, ALLOC_PENDING);
    cluster_clear(&c);
}

static void another_reason_for_the_same_state_is_told(void **state)
{
    struct cluster c;
    struct command cmd;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", NULL);
    cluster_decide(&c);
    const struct alloc *a = cluster_wanted(&c, "web", 0);
    cluster_report(&c, a->id, ALLOC_STARTING);
    int64_t since = a->state_since;
    c.now += 1000;
    command_init(&cmd, COMMAND_ALLOC_REPORT, c.now, NULL, NULL);
    struct agent_report *p = cmd.payload;
    p->node_id = mem_strdup(a->node_id);
    struct alloc_report *r = list_add_zero((struct list *)&p->allocs, &alloc_report_type);
    *r = (struct alloc_report){.id = mem_strdup(a->id), .seq = ++c.report_seq, .state = ALLOC_STARTING,
                               .reason = mem_strdup("waits: no space"), .started_at = a->started_at};
    assert_true(cluster_apply(&c, &cmd));
    assert_string_equal(a->reason, "waits: no space");
    assert_int_equal(a->state_since, since);
    assert_int_equal(a->modify_index, c.index);
    assert_true(cluster_event(&c, "waits: no space"));
    cluster_clear(&c);
}

static void an_agent_gets_what_changed_and_its_versions(void **state)
{
    struct cluster c;
    struct agent_work work;
    cluster_init(&c, 1);
    uint64_t since = c.index;
    cluster_submit(&c, "web", "    count: 2\n");
    cluster_decide(&c);
    assert_true(core_changed(c.core, CORE_NODE_WORK, cluster_node_id(0)) > since);
    assert_int_equal(core_agent_work(c.core, cluster_node_id(0), since, &work), 0);
    assert_int_equal(work.allocs.n, 2);
    assert_int_equal(work.services.n, 1);
    since = work.index;
    type_clear(&agent_work_type, &work);
    cluster_report_all(&c, "web", ALLOC_RUNNING);
    assert_true(core_changed(c.core, CORE_NODE_WORK, cluster_node_id(0)) <= since);  /* its own words do not wake it */
    assert_int_equal(core_agent_work(c.core, "ffffffffffff", 0, &work), -1);
    cluster_clear(&c);
}

static void make_history(struct cluster *c)
{
    cluster_init(c, 3);
    cluster_submit_yaml(c, "job: j\nservices:\n"
                           "  - {name: all, driver: exec, config: {command: /x}, mode: every-node}\n"
                           "  - {name: web, driver: exec, config: {command: /x}, count: 4, spread: node}\n"
                           "  - {name: tick, driver: exec, config: {command: /x}, mode: task, schedule: \"* * * * *\"}\n",
                        "key");
    cluster_decide(c);
    cluster_report_all(c, "web", ALLOC_RUNNING);
    cluster_node_state(c, 1, NODE_DRAINING);
    cluster_pass(c, 70000);
    cluster_node_state(c, 2, NODE_DOWN);
    cluster_pass(c, 4000 * 1000);
}

static void a_restored_core_is_equal_and_goes_on_equally(void **state)
{
    struct cluster c, d;
    CLEANUP_BUF struct buf a = {0}, b = {0};
    struct error err;
    make_history(&c);
    core_snapshot(c.core, &a);
    d = c;
    d.core = core_new();
    assert_int_equal(core_restore(d.core, a.data, a.len, &err), 0);
    assert_true(core_hash(c.core) == core_hash(d.core));
    core_snapshot(d.core, &b);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    for (int i = 0; i < 2; i++) {
        struct cluster *one = i ? &d : &c;
        cluster_submit(one, "more", "    count: 3\n");
        cluster_delete(one, "web", false);
    }
    assert_true(core_hash(c.core) == core_hash(d.core));
    cluster_clear(&c);
    cluster_clear(&d);
}

static void damaged_snapshots_are_refused_and_leave_the_state(void **state)
{
    struct cluster c;
    CLEANUP_BUF struct buf a = {0}, after = {0};
    struct error err = {0};
    make_history(&c);
    core_snapshot(c.core, &a);
    for (size_t cut = 0; cut < a.len; cut += 1 + a.len / 300)
        assert_int_equal(core_restore(c.core, a.data, cut, &err), -1);
    struct core *other = core_new();
    for (size_t at = 0; at < a.len; at += 1 + a.len / 1500) {    /* accepted or refused, never a crash */
        a.data[at] ^= 0x15;
        core_restore(other, a.data, a.len, &err);
        a.data[at] ^= 0x15;
    }
    core_free(other);
    core_snapshot(c.core, &after);
    assert_int_equal(a.len, after.len);
    assert_memory_equal(a.data, after.data, a.len);
    cluster_clear(&c);
}

static void a_plan_says_what_would_happen_and_changes_nothing(void **state)
{
    struct cluster c;
    struct plan plan;
    struct job job;
    struct error err;
    CLEANUP_BUF struct buf before = {0}, after = {0};
    cluster_init(&c, 2);
    cluster_submit_yaml(&c, "job: j\nservices:\n  - {name: web, driver: exec, config: {command: /x}, count: 2}\n"
                            "  - {name: gone, driver: exec, config: {command: /x}}\n", NULL);
    cluster_decide(&c);
    core_snapshot(c.core, &before);
    core_job(c.core, "j", &job);
    list_remove((struct list *)&job.services, &service_type, 1);
    kv_set(&job.services.v[0].env, "A", "b");
    job.services.v[0].count = 3;
    assert_int_equal(core_plan(c.core, &job, c.now, &plan, &err), 0);
    assert_int_equal(plan.services.n, 2);
    assert_string_equal(plan.services.v[0].action, "change");
    assert_string_equal(plan.services.v[1].action, "delete");
    assert_int_equal(plan.steps.n, 4);
    assert_string_equal(plan.steps.v[0].action, "replace");
    assert_string_equal(plan.steps.v[2].action, "start");
    assert_string_equal(plan.steps.v[3].action, "stop");
    type_clear(&plan_type, &plan);
    type_clear(&job_type, &job);
    core_snapshot(c.core, &after);
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.data, after.data, before.len);
    cluster_clear(&c);
}

/* Several services on nodes that are all alike: whatever the seed of the leader, it decides what was planned. */
static void what_is_planned_is_what_is_decided(void **state)
{
    struct cluster c;
    struct job job;
    struct plan plan;
    struct error err;
    struct problem_list problems = {0};
    const char *yaml = "job: j\nservices:\n"
                       "  - {name: web, driver: exec, config: {command: /x}, count: 3}\n"
                       "  - {name: db, driver: exec, config: {command: /x}, count: 2, resources: {cpus: 2}}\n"
                       "  - {name: first, driver: exec, config: {command: /x}, count: 2, priority: 90}\n"
                       "  - {name: api, driver: exec, config: {command: /x}, count: 4}\n";
    for (uint64_t seed = 1; seed <= 20; seed++) {
        cluster_init(&c, 8);
        c.seed = seed * 1000;
        assert_int_equal(job_from_yaml(yaml, strlen(yaml), NULL, &job, &problems), 0);
        assert_int_equal(core_plan(c.core, &job, c.now, &plan, &err), 0);
        assert_int_equal(plan.steps.n, 11);
        for (uint32_t i = 0; i < job.services.n; i++)
            assert_string_equal(plan.services.v[i].name, job.services.v[i].name);
        assert_true(cluster_submit_yaml(&c, yaml, NULL));
        cluster_decide(&c);
        for (uint32_t i = 0; i < plan.steps.n; i++) {
            const struct plan_step *step = &plan.steps.v[i];
            const struct alloc *a = cluster_wanted(&c, step->service, (unsigned)step->replica);
            assert_string_equal(step->action, "start");
            assert_int_equal(a->replica, step->replica);
            assert_string_equal(a->node_name, step->node_name);
        }
        type_clear(&plan_type, &plan);
        type_clear(&job_type, &job);
        cluster_clear(&c);
    }
}

static void explain_gives_each_nodes_verdict_as_json(void **state)
{
    struct cluster c;
    struct error err;
    CLEANUP_BUF struct buf json = {0};
    make_history(&c);
    assert_int_equal(core_explain(c.core, "web", 50, &json, &err), 0);
    json_t *parsed = json_loads(json.data, 0, NULL);
    assert_non_null(parsed);
    assert_int_equal(json_array_size(json_object_get(parsed, "nodes")), 3);
    assert_true(json_array_size(json_object_get(parsed, "events")) > 0);
    json_decref(parsed);
    assert_int_equal(core_explain(c.core, "nothing", 50, &json, &err), -1);
    cluster_clear(&c);
}

static void explain_tells_first_of_what_does_not_serve_and_how_much_it_leaves_off(void **state)
{
    struct cluster c;
    struct error err;
    CLEANUP_BUF struct buf json = {0};
    cluster_init(&c, 3);
    cluster_submit(&c, "web", "    count: 20\n");
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_RUNNING);
    CLEANUP_FREE char *sick = mem_strdup(cluster_wanted(&c, "web", 17)->id);
    cluster_report(&c, sick, ALLOC_UNHEALTHY);
    assert_int_equal(core_explain(c.core, "web", 2, &json, &err), 0);
    json_t *parsed = json_loads(json.data, 0, NULL), *allocs = json_object_get(parsed, "allocs");
    assert_int_equal(json_array_size(allocs), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(allocs, 0), "id")), sick);
    assert_int_equal(json_integer_value(json_object_get(parsed, "allocs_left_off")), 18);
    assert_int_equal(json_array_size(json_object_get(parsed, "nodes")), 2);
    assert_int_equal(json_integer_value(json_object_get(parsed, "nodes_left_off")), 1);
    json_decref(parsed);
    cluster_clear(&c);
}

static void events_are_given_in_order_after_a_point(void **state)
{
    struct cluster c;
    struct event_list l = {0};
    make_history(&c);
    core_events(c.core, 0, 0, 5, &l);
    assert_int_equal(l.n, 5);
    struct event last = l.v[4];
    uint64_t index = last.index;
    int64_t seq = last.seq;
    list_clear((struct list *)&l, &event_type);
    core_events(c.core, index, seq, UINT32_MAX, &l);
    for (uint32_t i = 0; i < l.n; i++) {
        assert_true(l.v[i].index > index || (l.v[i].index == index && l.v[i].seq > seq));
        index = l.v[i].index;
        seq = l.v[i].seq;
    }
    list_clear((struct list *)&l, &event_type);
    cluster_clear(&c);
}

static void a_restored_leader_forgets_the_node_that_is_down_for_longest(void **state)
{
    static const int64_t day = 24 * 3600 * 1000;
    struct cluster c;
    CLEANUP_BUF struct buf snapshot = {0};
    struct error err;
    cluster_init(&c, 2);
    cluster_node_state(&c, 1, NODE_DOWN);            /* against the order of their ids */
    int64_t first = c.now;
    cluster_pass(&c, day);
    cluster_node_state(&c, 0, NODE_DOWN);
    core_snapshot(c.core, &snapshot);
    assert_int_equal(core_restore(c.core, snapshot.data, snapshot.len, &err), 0);
    cluster_decide(&c);
    assert_int_equal(core_next_wake(c.core), first + 3 * day);
    cluster_pass(&c, 2 * day);
    assert_null(core_node(c.core, cluster_node_id(1)));
    assert_non_null(core_node(c.core, cluster_node_id(0)));
    cluster_clear(&c);
}

static void an_agent_that_was_removed_hears_that_nothing_is_its_work_any_more(void **state)
{
    struct cluster c;
    struct agent_work work;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", NULL);
    cluster_decide(&c);
    uint64_t since = c.index;
    cluster_node_state(&c, 0, NODE_DOWN);
    assert_true(cluster_remove_node(&c, 0, 0));
    cluster_add_node(&c, 0);
    assert_true(core_changed(c.core, CORE_NODE_WORK, cluster_node_id(0)) > since);
    assert_int_equal(core_agent_work(c.core, cluster_node_id(0), since, &work), 0);
    assert_true(work.full);
    assert_int_equal(work.allocs.n, 0);
    type_clear(&agent_work_type, &work);
    cluster_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_come_back_as_they_were),
        cmocka_unit_test(damaged_commands_are_refused_and_only_move_the_index),
        cmocka_unit_test(a_decision_of_an_old_leader_is_checked_again),
        cmocka_unit_test(a_placement_on_a_node_that_went_down_is_skipped),
        cmocka_unit_test(reports_that_are_repeated_or_older_change_nothing),
        cmocka_unit_test(reports_of_unknown_and_foreign_allocations_are_named),
        cmocka_unit_test(another_reason_for_the_same_state_is_told),
        cmocka_unit_test(an_agent_gets_what_changed_and_its_versions),
        cmocka_unit_test(a_restored_core_is_equal_and_goes_on_equally),
        cmocka_unit_test(damaged_snapshots_are_refused_and_leave_the_state),
        cmocka_unit_test(a_plan_says_what_would_happen_and_changes_nothing),
        cmocka_unit_test(what_is_planned_is_what_is_decided),
        cmocka_unit_test(explain_gives_each_nodes_verdict_as_json),
        cmocka_unit_test(explain_tells_first_of_what_does_not_serve_and_how_much_it_leaves_off),
        cmocka_unit_test(events_are_given_in_order_after_a_point),
        cmocka_unit_test(a_restored_leader_forgets_the_node_that_is_down_for_longest),
        cmocka_unit_test(an_agent_that_was_removed_hears_that_nothing_is_its_work_any_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
