/* Blue-green and canary: new replicas beside the old ones, their part of the requests, and the ways on and back. */
#include <stdio.h>
#include <string.h>

#include "../cmocka_all.h"
#include "cluster.h"

#define WEB "    ports: [{name: http, port: 80}]\n    health: {type: tcp, interval: 1s}\n" \
            "    ingress: [{host: a.example, port: http}]\n"
#define GREEN WEB "    count: 3\n    deploy: {strategy: blue-green, standby_secs: 100}\n"
#define CANARY WEB "    count: 10\n    deploy: {strategy: canary, canary_percent: 10}\n"

static const struct deployment *last_deployment(struct cluster *c)
{
    struct service_status s = cluster_status(c, "web");
    const struct deployment *d = core_deployment(c->core, s.deployment);
    type_clear(&service_status_type, &s);
    return d;
}

/* "v1 3x100, v2 3x0": how many replicas of which version have which weight; what leaves is not told. */
static const char *table(struct cluster *c)
{
    static char text[512];
    struct agent_ingress t;
    size_t n = 0;
    text[0] = '\0';
    core_agent_ingress(c->core, &t);
    for (uint64_t v = 1; v < 20 && t.routes.n; v++) {
        int count = 0;
        int64_t weight = -1;
        for (uint32_t i = 0; i < t.routes.v[0].targets.n; i++) {
            const struct ingress_target *to = &t.routes.v[0].targets.v[i];
            if (to->version != v || to->leaving)
                continue;
            count++;
            assert_true(weight < 0 || weight == to->weight);
            weight = to->weight;
        }
        if (count)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%sv%d %dx%d", n ? ", " : "", (int)v, count, (int)weight);
    }
    type_clear(&agent_ingress_type, &t);
    return text;
}

static void follow(struct cluster *c)
{
    cluster_proxy(c, 7, NULL);
    cluster_decide(c);
}

/* The service runs in version 1, behind a proxy. */
static void begin(struct cluster *c, const char *yaml)
{
    cluster_init(c, 7);
    cluster_add_ingress_node(c, 7);
    assert_true(cluster_submit(c, "web", yaml));
    cluster_decide(c);
    cluster_report_all(c, "web", ALLOC_HEALTHY);
    follow(c);
    assert_int_equal(last_deployment(c)->state, DEPLOYMENT_SUCCESSFUL);
}

static void submit_next(struct cluster *c, const char *yaml, const char *value)
{
    CLEANUP_FREE char *text = mem_printf("%s    env: {A: %s}\n", yaml, value);
    assert_true(cluster_submit(c, "web", text));
    cluster_decide(c);
}

/* All of it beside the old one, healthy and followed. */
static void fill(struct cluster *c, const char *yaml, const char *value)
{
    submit_next(c, yaml, value);
    cluster_report_all(c, "web", ALLOC_HEALTHY);
    follow(c);
}

static bool promote(struct cluster *c, int64_t percent)
{
    bool done = cluster_promote(c, "web", percent);
    cluster_decide(c);
    return done;
}

static void assert_state(struct cluster *c, enum deployment_state state)
{
    const struct deployment *d = last_deployment(c);
    if (d->state != state)
        fail_msg("the deployment is %s: %s", deployment_state_names[d->state], d->reason);
}

static void assert_table(struct cluster *c, const char *wanted)
{
    assert_string_equal(table(c), wanted);
}

/* The old ones have left and ended. */
static void old_end(struct cluster *c)
{
    follow(c);
    cluster_pass(c, 10000);
    cluster_stop_all(c, "web");
}

static void green_gets_all_requests_at_once_and_blue_stands_by(void **state)
{
    struct cluster c;
    begin(&c, GREEN);
    submit_next(&c, GREEN, "b");
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 6);
    assert_table(&c, "v1 3x100");
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    assert_table(&c, "v1 3x100, v2 3x0");
    assert_state(&c, DEPLOYMENT_RUNNING);
    follow(&c);
    assert_table(&c, "v1 3x0, v2 3x100");
    assert_state(&c, DEPLOYMENT_RUNNING);
    follow(&c);
    assert_state(&c, DEPLOYMENT_PAUSED);
    assert_int_equal(last_deployment(&c)->standby_until, c.now + 100000);
    cluster_pass(&c, 99999);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 6);
    cluster_pass(&c, 1);
    assert_table(&c, "v2 3x100");
    old_end(&c);
    assert_state(&c, DEPLOYMENT_SUCCESSFUL);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 3);
    cluster_clear(&c);
}

static void promote_ends_the_standby(void **state)
{
    struct cluster c;
    begin(&c, GREEN);
    submit_next(&c, GREEN, "b");
    assert_false(promote(&c, 0));
    assert_non_null(strstr(c.error.text, "has not come to its pause yet"));
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    follow(&c);
    follow(&c);
    assert_false(promote(&c, 50));
    assert_non_null(strstr(c.error.text, "only a canary"));
    assert_true(promote(&c, 0));
    old_end(&c);
    assert_state(&c, DEPLOYMENT_SUCCESSFUL);
    assert_true(cluster_event(&c, "standby ended by tester"));
    assert_false(promote(&c, 0));
    assert_non_null(strstr(c.error.text, "no deployment of service web is under way"));
    cluster_clear(&c);
}

static void a_rollback_on_standby_starts_nothing(void **state)
{
    struct cluster c;
    begin(&c, GREEN);
    fill(&c, GREEN, "b");
    follow(&c);
    assert_state(&c, DEPLOYMENT_PAUSED);
    assert_true(cluster_rollback(&c, "web", 0));
    assert_table(&c, "v3 3x100");                      /* at once: the replicas of version 1, which stand for 3 now */
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 6);
    old_end(&c);
    assert_state(&c, DEPLOYMENT_SUCCESSFUL);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(cluster_wanted(&c, "web", i)->generation, 0);
    assert_true(cluster_event(&c, "rolled back"));
    cluster_clear(&c);
}

static void green_that_fails_is_taken_back_and_nobody_sees_it(void **state)
{
    struct cluster c;
    begin(&c, GREEN);
    submit_next(&c, GREEN, "b");
    cluster_report_all(&c, "web", ALLOC_RUNNING);      /* never healthy */
    assert_table(&c, "");
    cluster_clear(&c);
    begin(&c, GREEN);
    submit_next(&c, GREEN, "b");
    CLEANUP_FREE char *id = mem_strdup(cluster_wanted(&c, "web", 1)->id);
    assert_int_equal(core_alloc(c.core, id)->version, 2);
    cluster_report(&c, id, ALLOC_FAILED);
    cluster_decide(&c);
    assert_table(&c, "v3 3x100");
    assert_int_equal(core_service(c.core, "web")->version, 3);
    old_end(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 3);
    assert_state(&c, DEPLOYMENT_SUCCESSFUL);
    cluster_clear(&c);
}

static void green_that_fails_on_standby_is_taken_back(void **state)
{
    struct cluster c;
    begin(&c, GREEN);
    fill(&c, GREEN, "b");
    follow(&c);
    assert_state(&c, DEPLOYMENT_PAUSED);
    CLEANUP_FREE char *id = mem_strdup(cluster_wanted(&c, "web", 1)->id);
    cluster_report(&c, id, ALLOC_UNHEALTHY);           /* for a moment: it has its time anew */
    cluster_decide(&c);
    assert_state(&c, DEPLOYMENT_PAUSED);
    assert_table(&c, "v1 3x0, v2 2x100");
    cluster_pass(&c, 10000);
    assert_table(&c, "v3 3x100");
    cluster_clear(&c);
}

static void a_version_that_is_not_to_be_taken_back_stays_without_requests(void **state)
{
    struct cluster c;
    static const char yaml[] = WEB "    count: 3\n    deploy: {strategy: blue-green, auto_revert: false}\n";
    begin(&c, yaml);
    submit_next(&c, yaml, "b");
    CLEANUP_FREE char *id = mem_strdup(cluster_wanted(&c, "web", 1)->id);
    cluster_report(&c, id, ALLOC_FAILED);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    assert_state(&c, DEPLOYMENT_FAILED);
    assert_table(&c, "v1 3x100, v2 2x0");
    cluster_pass(&c, 1000000);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 5);
    assert_true(cluster_rollback(&c, "web", 0));
    assert_table(&c, "v3 3x100");
    cluster_clear(&c);
}

static void a_canary_gets_its_part_and_waits(void **state)
{
    struct cluster c;
    begin(&c, CANARY);
    submit_next(&c, CANARY, "b");
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 11);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    assert_table(&c, "v1 10x100, v2 1x0");
    follow(&c);
    assert_table(&c, "v1 10x9, v2 1x10");              /* 90 and 10 of a hundred */
    follow(&c);
    assert_state(&c, DEPLOYMENT_PAUSED);
    cluster_pass(&c, 24 * 3600 * 1000);
    assert_state(&c, DEPLOYMENT_PAUSED);
    cluster_clear(&c);
}

static void a_canary_is_promoted_in_steps(void **state)
{
    struct cluster c;
    begin(&c, CANARY);
    fill(&c, CANARY, "b");
    follow(&c);
    assert_false(promote(&c, 10));
    assert_non_null(strstr(c.error.text, "between 11"));
    assert_false(promote(&c, 101));
    assert_true(promote(&c, 50));
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 15);
    assert_table(&c, "v1 10x9, v2 1x10");              /* until the others are there */
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    follow(&c);
    assert_table(&c, "v1 10x1, v2 5x2");
    follow(&c);
    assert_state(&c, DEPLOYMENT_PAUSED);
    assert_true(promote(&c, 0));
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    follow(&c);
    assert_table(&c, "v2 10x100");                     /* the others leave at once */
    old_end(&c);
    assert_state(&c, DEPLOYMENT_SUCCESSFUL);
    assert_table(&c, "v2 10x100");
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 10);
    cluster_clear(&c);
}

static void an_aborted_canary_leaves_and_the_rest_stays(void **state)
{
    struct cluster c;
    begin(&c, CANARY);
    assert_false(cluster_service(&c, COMMAND_SERVICE_ABORT, "web"));
    assert_non_null(strstr(c.error.text, "no deployment of service web is under way"));
    fill(&c, CANARY, "b");
    follow(&c);
    assert_true(cluster_service(&c, COMMAND_SERVICE_ABORT, "web"));
    assert_table(&c, "v3 10x100");
    old_end(&c);
    assert_state(&c, DEPLOYMENT_SUCCESSFUL);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 10);
    cluster_clear(&c);
}

static void a_newer_version_replaces_a_canary_and_stands_beside_what_the_canary_did(void **state)
{
    struct cluster c;
    begin(&c, CANARY);
    fill(&c, CANARY, "b");
    follow(&c);
    submit_next(&c, CANARY, "c");
    assert_table(&c, "v1 10x100");
    old_end(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    follow(&c);
    assert_table(&c, "v1 10x9, v3 1x10");
    assert_int_equal(last_deployment(&c)->previous_version, 1);
    cluster_clear(&c);
}

static void a_newer_version_during_the_standby_stands_beside_green(void **state)
{
    struct cluster c;
    begin(&c, GREEN);
    fill(&c, GREEN, "b");
    follow(&c);
    submit_next(&c, GREEN, "c");
    assert_table(&c, "v2 3x100");
    old_end(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    assert_table(&c, "v2 3x100, v3 3x0");
    assert_int_equal(last_deployment(&c)->previous_version, 2);
    cluster_clear(&c);
}

static void the_file_before_is_a_way_back_too(void **state)
{
    struct cluster c;
    begin(&c, GREEN);
    fill(&c, GREEN, "b");
    follow(&c);
    assert_true(cluster_submit(&c, "web", GREEN));
    assert_table(&c, "v3 3x100");
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 6);
    cluster_clear(&c);
}

static void a_lost_stable_replica_is_replaced_in_its_own_version(void **state)
{
    struct cluster c;
    begin(&c, CANARY);
    fill(&c, CANARY, "b");
    follow(&c);
    CLEANUP_FREE char *id = NULL;
    for (unsigned i = 0; i < 11 && !id; i++)
        if (cluster_wanted(&c, "web", i)->version == 1)
            id = mem_strdup(cluster_wanted(&c, "web", i)->id);
    cluster_report(&c, id, ALLOC_FAILED);
    cluster_decide(&c);
    assert_table(&c, "v1 9x1, v2 1x1");
    cluster_pass(&c, 5000);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    assert_table(&c, "v1 10x9, v2 1x10");
    assert_state(&c, DEPLOYMENT_PAUSED);
    cluster_clear(&c);
}

static void a_drained_node_loses_both_sides_without_a_gap(void **state)
{
    struct cluster c;
    begin(&c, CANARY);
    fill(&c, CANARY, "b");
    follow(&c);
    unsigned node = 0;
    while (strcmp(cluster_node_id(node), cluster_wanted(&c, "web", 0)->node_id))
        node++;
    cluster_node_state(&c, node, NODE_DRAINING);
    cluster_decide(&c);
    assert_table(&c, "v1 10x9, v2 1x10");
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    follow(&c);
    for (int i = 0; i < 3; i++)
        old_end(&c);
    assert_string_equal(core_node(c.core, cluster_node_id(node))->state_reason, "drained");
    assert_table(&c, "v1 10x9, v2 1x10");
    assert_state(&c, DEPLOYMENT_PAUSED);
    cluster_clear(&c);
}

static void without_an_older_version_there_is_nothing_to_stand_beside(void **state)
{
    struct cluster c;
    cluster_init(&c, 7);
    cluster_submit(&c, "web", GREEN);
    cluster_decide(&c);
    assert_false(promote(&c, 0));
    assert_non_null(strstr(c.error.text, "without a pause"));
    assert_false(cluster_service(&c, COMMAND_SERVICE_ABORT, "web"));
    assert_non_null(strstr(c.error.text, "no earlier version"));
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    assert_state(&c, DEPLOYMENT_SUCCESSFUL);
    cluster_clear(&c);
}

/* How many of those wanted were not restarted as often as their service. */
static unsigned not_restarted(struct cluster *c, int64_t times)
{
    const struct alloc *a;
    unsigned n = 0;
    for (unsigned i = 0; (a = cluster_wanted(c, "web", i)); i++)
        n += a->generation < times;
    return n;
}

/* The one replica that leaves the ingress; the caller frees. */
static char *the_leaving(struct cluster *c)
{
    const struct alloc *a, *found = NULL;
    for (unsigned i = 0; (a = cluster_wanted(c, "web", i)); i++) {
        assert_false(found && a->leaving);
        found = a->leaving ? a : found;
    }
    assert_non_null(found);
    return mem_strdup(found->id);
}

static void a_restart_during_a_pause_is_one_of_both_sides(void **state)
{
    struct cluster c;
    begin(&c, CANARY);
    fill(&c, CANARY, "b");
    follow(&c);
    assert_state(&c, DEPLOYMENT_PAUSED);
    assert_true(cluster_service(&c, COMMAND_SERVICE_RESTART, "web"));
    cluster_decide(&c);
    for (unsigned left = 11; left > 0; left--) {
        CLEANUP_FREE char *id = the_leaving(&c);
        assert_int_equal(not_restarted(&c, 1), left);
        cluster_proxy(&c, 7, id);
        cluster_decide(&c);
        assert_int_equal(not_restarted(&c, 1), left - 1);
        cluster_pass(&c, 1000);
        cluster_report(&c, id, ALLOC_STARTING);
        cluster_report(&c, id, ALLOC_HEALTHY);
        cluster_decide(&c);
        follow(&c);
    }
    assert_table(&c, "v1 10x9, v2 1x10");
    assert_state(&c, DEPLOYMENT_PAUSED);
    cluster_clear(&c);
}

static void a_change_that_needs_no_new_replica_goes_through_at_any_time(void **state)
{
    struct cluster c;
    begin(&c, GREEN);
    fill(&c, GREEN, "b");
    follow(&c);
    CLEANUP_FREE char *id = mem_strdup(last_deployment(&c)->id);
    CLEANUP_FREE char *yaml = mem_strdup(GREEN "    env: {A: b}\n    meta: {team: x}\n");
    assert_true(cluster_submit(&c, "web", yaml));
    cluster_decide(&c);
    assert_table(&c, "v1 3x0, v3 3x100");
    assert_string_equal(last_deployment(&c)->id, id);
    assert_state(&c, DEPLOYMENT_PAUSED);
    cluster_scale(&c, "web", 4);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    follow(&c);
    assert_table(&c, "v1 3x0, v4 4x100");
    assert_true(cluster_rollback(&c, "web", 0));
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    assert_table(&c, "v5 4x100");
    cluster_clear(&c);
}

static void shares_are_exact(void **state)
{
    static const struct { int stable, canary; int64_t percent; } cases[] = {
        {10, 1, 10}, {1, 1, 10}, {1, 1, 50}, {3, 1, 25}, {10, 3, 25}, {16, 4, 5}, {7, 2, 20}, {5, 5, 50}, {1, 1, 90}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cluster c;
        int64_t count = cases[i].stable;
        CLEANUP_FREE char *yaml = mem_printf(WEB "    count: %lld\n    deploy: {strategy: canary, canary_percent: %lld}\n",
                                             (long long)count, (long long)cases[i].percent);
        begin(&c, yaml);
        fill(&c, yaml, "b");
        int v1, w1, v2, w2;
        assert_int_equal(sscanf(table(&c), "v1 %dx%d, v2 %dx%d", &v1, &w1, &v2, &w2), 4);
        assert_true(w1 >= 1 && w1 <= 256 && w2 >= 1 && w2 <= 256);
        assert_int_equal(v2 * w2 * 100, cases[i].percent * (v1 * w1 + v2 * w2));
        cluster_clear(&c);
    }
}

/* "25: 2", "0: 0": the canary's part by the header, and how many replicas are said to be its. */
static void assert_by_header(struct cluster *c, int64_t percent, int canaries)
{
    struct agent_ingress t;
    int found = 0;
    core_agent_ingress(c->core, &t);
    for (uint32_t i = 0; i < t.routes.v[0].targets.n; i++) {
        const struct ingress_target *to = &t.routes.v[0].targets.v[i];
        found += to->canary;
        assert_true(!to->canary || to->version == 2);
    }
    assert_int_equal(t.routes.v[0].canary_percent, percent);
    assert_int_equal(found, canaries);
    type_clear(&agent_ingress_type, &t);
}

static void a_header_divides_while_both_are_there(void **state)
{
    static const char yaml[] = "    ports: [{name: http, port: 80}]\n    health: {type: tcp, interval: 1s}\n    count: 4\n"
                               "    ingress: [{host: a.example, port: http, sticky_header: X-User}]\n"
                               "    deploy: {strategy: canary, canary_percent: 25}\n";
    struct cluster c;
    begin(&c, yaml);
    assert_by_header(&c, 0, 0);
    fill(&c, yaml, "b");
    assert_by_header(&c, 25, 1);
    follow(&c);
    assert_true(promote(&c, 50));
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    follow(&c);
    follow(&c);
    assert_by_header(&c, 50, 2);
    assert_true(promote(&c, 0));
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    follow(&c);
    assert_by_header(&c, 0, 0);
    cluster_clear(&c);
    begin(&c, CANARY);                   /* without a header the weights are all there is to it */
    fill(&c, CANARY, "b");
    assert_by_header(&c, 0, 0);
    cluster_clear(&c);
}

static void a_snapshot_in_a_pause_changes_nothing(void **state)
{
    struct cluster c;
    struct error err;
    CLEANUP_BUF struct buf bytes = {0};
    begin(&c, GREEN);
    fill(&c, GREEN, "b");
    follow(&c);
    core_snapshot(c.core, &bytes);
    assert_int_equal(core_restore(c.core, bytes.data, bytes.len, &err), 0);
    cluster_decide(&c);
    assert_state(&c, DEPLOYMENT_PAUSED);
    assert_table(&c, "v1 3x0, v2 3x100");
    cluster_pass(&c, 100000);
    old_end(&c);
    assert_state(&c, DEPLOYMENT_SUCCESSFUL);
    cluster_clear(&c);
}

static void without_ways_in_no_proxy_is_waited_for(void **state)
{
    static const char yaml[] = "    count: 4\n    health: {min_running: 0s}\n"
                               "    deploy: {strategy: canary, canary_percent: 25}\n";
    struct cluster c;
    begin(&c, yaml);
    submit_next(&c, yaml, "b");
    cluster_report_all(&c, "web", ALLOC_RUNNING);
    assert_state(&c, DEPLOYMENT_PAUSED);
    cluster_clear(&c);
}

/* "replace 1, keep 9, ": how many steps of each kind a plan has. */
static const char *plan(struct cluster *c, const char *yaml)
{
    static const char *const actions[] = {"start", "stop", "replace", "keep", "none"};
    static char text[128];
    struct job job;
    struct plan plan;
    struct error err;
    struct problem_list problems = {0};
    size_t n = 0;
    CLEANUP_FREE char *all = mem_printf("job: j\nservices:\n  - name: web\n    driver: exec\n    config: {command: /bin/x}\n"
                                        "%s    env: {A: b}\n", yaml);
    assert_int_equal(job_from_yaml(all, strlen(all), NULL, &job, &problems), 0);
    assert_int_equal(core_plan(c->core, &job, c->now, &plan, &err), 0);
    text[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        int count = 0;
        for (uint32_t k = 0; k < plan.steps.n; k++)
            count += strcmp(plan.steps.v[k].action, actions[i]) == 0;
        if (count)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%s %d, ", actions[i], count);
    }
    type_clear(&plan_type, &plan);
    type_clear(&job_type, &job);
    return text;
}

static void a_plan_knows_the_strategy(void **state)
{
    struct cluster c;
    begin(&c, CANARY);
    assert_string_equal(plan(&c, CANARY), "replace 1, keep 9, ");
    cluster_clear(&c);
    begin(&c, GREEN);
    assert_string_equal(plan(&c, GREEN), "replace 3, ");
    cluster_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(green_gets_all_requests_at_once_and_blue_stands_by),
        cmocka_unit_test(promote_ends_the_standby),
        cmocka_unit_test(a_rollback_on_standby_starts_nothing),
        cmocka_unit_test(green_that_fails_is_taken_back_and_nobody_sees_it),
        cmocka_unit_test(green_that_fails_on_standby_is_taken_back),
        cmocka_unit_test(a_version_that_is_not_to_be_taken_back_stays_without_requests),
        cmocka_unit_test(a_canary_gets_its_part_and_waits),
        cmocka_unit_test(a_canary_is_promoted_in_steps),
        cmocka_unit_test(an_aborted_canary_leaves_and_the_rest_stays),
        cmocka_unit_test(a_newer_version_replaces_a_canary_and_stands_beside_what_the_canary_did),
        cmocka_unit_test(a_newer_version_during_the_standby_stands_beside_green),
        cmocka_unit_test(the_file_before_is_a_way_back_too),
        cmocka_unit_test(a_lost_stable_replica_is_replaced_in_its_own_version),
        cmocka_unit_test(a_drained_node_loses_both_sides_without_a_gap),
        cmocka_unit_test(without_an_older_version_there_is_nothing_to_stand_beside),
        cmocka_unit_test(a_restart_during_a_pause_is_one_of_both_sides),
        cmocka_unit_test(a_change_that_needs_no_new_replica_goes_through_at_any_time),
        cmocka_unit_test(shares_are_exact),
        cmocka_unit_test(a_header_divides_while_both_are_there),
        cmocka_unit_test(a_snapshot_in_a_pause_changes_nothing),
        cmocka_unit_test(without_ways_in_no_proxy_is_waited_for),
        cmocka_unit_test(a_plan_knows_the_strategy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
