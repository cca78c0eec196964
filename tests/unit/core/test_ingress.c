/* The ingress table: who is in it, when it changes, and how far the proxies have followed it. */
#include <stdio.h>
#include <string.h>

#include "../cmocka_all.h"
#include "cluster.h"

#define WEB "    count: 2\n    spread: node\n    ports: [{name: http, port: 80}]\n    health: {type: tcp, interval: 1s}\n" \
            "    ingress: [{host: a.example, port: http}, {host: b.example, path: /x, port: http}]\n"

static uint64_t table_index(struct cluster *c)
{
    return core_changed(c->core, CORE_INGRESS, NULL);
}

/* "a.example:2 b.example:2 ": the ways of the table with the number of their replicas. */
static const char *table(struct cluster *c)
{
    static char text[512];
    struct agent_ingress t;
    size_t n = 0;
    core_agent_ingress(c->core, &t);
    assert_int_equal(t.index, table_index(c));
    text[0] = '\0';
    for (uint32_t i = 0; i < t.routes.n; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s:%u ", t.routes.v[i].ingress.host, t.routes.v[i].targets.n);
    type_clear(&agent_ingress_type, &t);
    return text;
}

static void only_what_is_healthy_takes_requests(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    assert_int_equal(table_index(&c), 0);
    assert_true(cluster_submit(&c, "web", WEB));
    assert_string_equal(table(&c), "a.example:0 b.example:0 ");
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_RUNNING);
    assert_string_equal(table(&c), "a.example:0 b.example:0 ");
    uint64_t before = table_index(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    assert_string_equal(table(&c), "a.example:2 b.example:2 ");
    assert_true(table_index(&c) > before);
    before = table_index(&c);
    CLEANUP_FREE char *id = mem_strdup(cluster_wanted(&c, "web", 0)->id);
    cluster_report(&c, id, ALLOC_UNHEALTHY);
    assert_string_equal(table(&c), "a.example:1 b.example:1 ");
    assert_int_equal(table_index(&c), c.index);
    assert_true(table_index(&c) > before);
    cluster_clear(&c);
}

static void a_target_tells_where_its_replica_is_reached(void **state)
{
    struct cluster c;
    struct agent_ingress t;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", WEB);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    core_agent_ingress(c.core, &t);
    for (uint32_t i = 0; i < 2; i++) {
        const struct alloc *a = cluster_wanted(&c, "web", i);
        const struct ingress_target *to = &t.routes.v[1].targets.v[i];
        assert_string_equal(to->alloc, a->id);
        assert_string_equal(to->ip, a->ip);
        assert_int_equal(to->port, a->ports.v[0].host);
        assert_int_equal(to->weight, t.routes.v[1].targets.v[0].weight);
        assert_true(to->weight > 0 && !to->leaving);
    }
    assert_string_equal(t.routes.v[0].service, "web");
    assert_string_equal(t.routes.v[0].job, "j");
    type_clear(&agent_ingress_type, &t);
    cluster_clear(&c);
}

static void what_does_not_concern_it_leaves_the_table_as_old_as_it_is(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    cluster_submit(&c, "web", WEB);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    uint64_t before = table_index(&c);
    cluster_submit_yaml(&c, "job: k\nservices:\n  - name: other\n    driver: exec\n    config: {command: /bin/x}\n", NULL);
    cluster_decide(&c);
    cluster_report_all(&c, "other", ALLOC_RUNNING);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    assert_int_equal(table_index(&c), before);
    cluster_clear(&c);
}

static void a_stopped_service_leaves_the_table_with_its_last_replica(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    cluster_submit(&c, "web", WEB);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    cluster_delete(&c, "web", false);
    cluster_decide(&c);
    cluster_stop_all(&c, "web");
    assert_string_equal(table(&c), "");
    cluster_clear(&c);
}

static void the_table_and_its_age_survive_a_snapshot(void **state)
{
    struct cluster c;
    struct error err;
    struct core *other = core_new();
    CLEANUP_BUF struct buf bytes = {0}, again = {0};
    cluster_init(&c, 2);
    cluster_submit(&c, "web", WEB);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    uint64_t before = table_index(&c);
    core_snapshot(c.core, &bytes);
    assert_int_equal(core_restore(other, bytes.data, bytes.len, &err), 0);
    core_free(c.core);
    c.core = other;
    core_snapshot(c.core, &again);
    assert_int_equal(again.len, bytes.len);
    assert_memory_equal(again.data, bytes.data, bytes.len);
    assert_int_equal(table_index(&c), before);
    assert_string_equal(table(&c), "a.example:2 b.example:2 ");
    cluster_report_all(&c, "web", ALLOC_HEALTHY);    /* no news */
    assert_int_equal(table_index(&c), before);
    cluster_clear(&c);
}

static bool follow(struct cluster *c, unsigned node, uint64_t applied, const char *problem)
{
    struct command cmd;
    command_init(&cmd, COMMAND_INGRESS_REPORT, c->now, NULL, NULL);
    *(struct ingress_report *)cmd.payload = (struct ingress_report){
        .node_id = mem_strdup(cluster_node_id(node)), .applied = applied, .problem = mem_strdup(problem)};
    return cluster_apply(c, &cmd);
}

static void reports_of_others_than_ingress_nodes_are_refused(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    assert_false(follow(&c, 0, 0, NULL));
    assert_non_null(strstr(c.error.text, "did not register as one with ingress"));
    assert_false(follow(&c, 7, 0, NULL));
    assert_int_equal(c.error.code, ERROR_NOT_FOUND);
    cluster_add_ingress_node(&c, 1);
    assert_true(follow(&c, 1, 1, NULL));
    assert_false(follow(&c, 1, c.index + 2, NULL));
    assert_non_null(strstr(c.error.text, "fetch the table anew"));
    cluster_clear(&c);
}

static void a_proxy_that_cannot_follow_says_why(void **state)
{
    struct cluster c;
    cluster_init(&c, 0);
    cluster_add_ingress_node(&c, 0);
    assert_true(follow(&c, 0, 1, "port 80 is taken"));
    assert_true(cluster_event(&c, "ingress: port 80 is taken"));
    assert_true(follow(&c, 0, 1, NULL));
    assert_true(cluster_event(&c, "ingress: it follows again"));
    cluster_clear(&c);
}

/* "n3: PROBLEM | n3: …" of the service and node, NULL: any. */
static void assert_problem(struct cluster *c, const char *service, const char *node_id, const char *wanted)
{
    struct ingress_problem_list l;
    CLEANUP_BUF struct buf text = {0};
    core_ingress_problems(c->core, service, node_id, &l);
    for (uint32_t i = 0; i < l.n; i++)
        buf_printf(&text, "%s%s: %s", i ? " | " : "", l.v[i].node, l.v[i].problem);
    assert_string_equal(text.data ? text.data : "", wanted ? wanted : "");
    list_clear((struct list *)&l, &ingress_problem_type);
}

static void what_keeps_requests_away_is_told_of_whom_it_concerns(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    assert_true(cluster_submit(&c, "web", WEB));
    assert_problem(&c, "web", NULL, ": no node takes requests from outside: set `ingress: true` in the agent.yaml of those that are to");
    cluster_add_ingress_node(&c, 2);
    cluster_add_ingress_node(&c, 3);
    assert_problem(&c, "web", NULL, NULL);
    assert_true(follow(&c, 3, 1, "ingress of db: its `listen` port is taken on this node; ingress of web: it is not served"));
    assert_problem(&c, "web", NULL, "n3: ingress of web: it is not served");
    assert_problem(&c, NULL, cluster_node_id(3), "n3: ingress of db: its `listen` port is taken on this node | n3: ingress of web: it is not served");
    assert_problem(&c, NULL, cluster_node_id(2), NULL);
    assert_true(follow(&c, 3, 1, "ingress of db: its `listen` port is taken on this node"));
    assert_problem(&c, "web", NULL, NULL);
    assert_true(follow(&c, 3, 1, "port 80: is taken by another program on this node"));
    assert_problem(&c, "web", NULL, "n3: port 80: is taken by another program on this node");
    cluster_node_state(&c, 3, NODE_DOWN);
    assert_problem(&c, "web", NULL, NULL);
    cluster_clear(&c);
}

/* "SERVICE=REASON|…" of the events of the last command. */
static const char *events(struct cluster *c)
{
    static char text[1024];
    struct event_list l = {0};
    size_t n = 0;
    text[0] = '\0';
    core_events(c->core, c->index - 1, INT64_MAX, UINT32_MAX, &l);
    for (uint32_t i = 0; i < l.n; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s=%s|", l.v[i].service ? l.v[i].service : "", l.v[i].reason);
    list_clear((struct list *)&l, &event_type);
    return text;
}

static void each_service_has_its_own_event(void **state)
{
    struct cluster c;
    cluster_init(&c, 0);
    cluster_add_ingress_node(&c, 0);
    assert_true(follow(&c, 0, 1, "ingress of a: x; ingress of b: y"));
    assert_string_equal(events(&c), "=ingress: ingress of a: x; ingress of b: y|");       /* as older servers have it */
    cluster_level(&c, INGRESS_APART_LEVEL);
    assert_true(follow(&c, 0, 1, "ingress of b: y; ingress of c: z"));
    assert_string_equal(events(&c), "c=ingress: ingress of c: z|");
    assert_true(follow(&c, 0, 1, "the proxy ended: backend a.http"));
    assert_string_equal(events(&c), "=ingress: the proxy ended|");
    assert_problem(&c, NULL, cluster_node_id(0), "n0: the proxy ended: backend a.http");
    assert_true(follow(&c, 0, 1, NULL));
    assert_string_equal(events(&c), "=ingress: it follows again|");
    cluster_clear(&c);
}

/* --- leaving before stopping --- */

static void two_proxies(struct cluster *c)
{
    cluster_init(c, 2);
    cluster_add_ingress_node(c, 2);
    cluster_add_ingress_node(c, 3);
    assert_true(cluster_submit(c, "web", WEB));
    cluster_decide(c);
    cluster_report_all(c, "web", ALLOC_HEALTHY);
    cluster_proxy(c, 2, NULL);
    cluster_proxy(c, 3, NULL);
    cluster_decide(c);
    assert_int_equal(core_deployment_next(c->core, NULL)->state, DEPLOYMENT_SUCCESSFUL);
}

static bool is_leaving(struct cluster *c, const char *id)
{
    const struct alloc *a = core_alloc(c->core, id);
    return a->leaving == LEAVING_TO_STOP && a->desired == DESIRED_RUN;
}

static bool is_stopped(struct cluster *c, const char *id)
{
    return core_alloc(c->core, id)->desired == DESIRED_STOP;
}

static void a_replica_stops_once_no_proxy_has_a_connection_to_it(void **state)
{
    struct cluster c;
    two_proxies(&c);
    CLEANUP_FREE char *id = mem_strdup(cluster_wanted(&c, "web", 1)->id);
    cluster_scale(&c, "web", 1);
    cluster_decide(&c);
    assert_true(is_leaving(&c, id));
    assert_string_equal(table(&c), "a.example:2 b.example:2 ");   /* one of them leaves */
    cluster_proxy(&c, 2, id);
    cluster_decide(&c);
    assert_true(is_leaving(&c, id));
    cluster_proxy(&c, 3, NULL);                       /* it follows, and has a connection */
    cluster_decide(&c);
    assert_true(is_leaving(&c, id));
    cluster_proxy(&c, 3, id);
    cluster_decide(&c);
    assert_true(is_stopped(&c, id));
    assert_string_equal(table(&c), "a.example:2 b.example:2 ");   /* what it finishes is not cut */
    cluster_stop_all(&c, "web");
    assert_string_equal(table(&c), "a.example:1 b.example:1 ");
    cluster_clear(&c);
}

static void reports_from_before_it_left_do_not_count(void **state)
{
    struct cluster c;
    two_proxies(&c);
    uint64_t before = table_index(&c);
    CLEANUP_FREE char *id = mem_strdup(cluster_wanted(&c, "web", 1)->id);
    cluster_scale(&c, "web", 1);
    cluster_decide(&c);
    for (unsigned node = 2; node < 4; node++)
        cluster_proxy_at(&c, node, before, id);
    cluster_decide(&c);
    assert_true(is_leaving(&c, id));
    cluster_clear(&c);
}

static void a_silent_proxy_holds_nothing_up_longer_than_the_kill_timeout(void **state)
{
    struct cluster c;
    two_proxies(&c);
    CLEANUP_FREE char *id = mem_strdup(cluster_wanted(&c, "web", 1)->id);
    cluster_scale(&c, "web", 1);
    cluster_decide(&c);
    cluster_proxy(&c, 2, id);
    assert_int_equal(core_next_wake(c.core), c.now + 10000);
    cluster_pass(&c, 9999);
    assert_true(is_leaving(&c, id));
    cluster_pass(&c, 1);
    assert_true(is_stopped(&c, id));
    cluster_clear(&c);
}

static void a_proxy_whose_node_is_down_holds_nothing_up(void **state)
{
    struct cluster c;
    two_proxies(&c);
    CLEANUP_FREE char *id = mem_strdup(cluster_wanted(&c, "web", 1)->id);
    cluster_scale(&c, "web", 1);
    cluster_decide(&c);
    cluster_proxy(&c, 2, id);
    cluster_decide(&c);
    assert_true(is_leaving(&c, id));
    cluster_node_state(&c, 3, NODE_DOWN);
    cluster_decide(&c);
    assert_true(is_stopped(&c, id));
    cluster_clear(&c);
}

static void without_proxies_nothing_waits(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    cluster_submit(&c, "web", WEB);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    CLEANUP_FREE char *id = mem_strdup(cluster_wanted(&c, "web", 1)->id);
    cluster_scale(&c, "web", 1);
    cluster_decide(&c);
    assert_true(is_stopped(&c, id));
    cluster_clear(&c);
}

static void a_stop_that_is_asked_for_leaves_first_too(void **state)
{
    struct cluster c;
    struct command cmd;
    two_proxies(&c);
    CLEANUP_FREE char *id = mem_strdup(cluster_wanted(&c, "web", 0)->id);
    for (int i = 0; i < 2; i++) {
        command_init(&cmd, COMMAND_ALLOC_STOP, c.now, NULL, NULL);
        ((struct command_alloc *)cmd.payload)->alloc_id = mem_strdup(id);
        assert_true(cluster_apply(&c, &cmd));
        cluster_decide(&c);
        assert_true(is_leaving(&c, id));
    }
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 3);     /* its replacement is there already */
    cluster_pass(&c, 10000);
    assert_true(is_stopped(&c, id));
    cluster_clear(&c);
}

static void a_restart_leaves_first_and_comes_back(void **state)
{
    struct cluster c;
    two_proxies(&c);
    cluster_service(&c, COMMAND_SERVICE_RESTART, "web");
    cluster_decide(&c);
    const struct alloc *a = cluster_wanted(&c, "web", 0), *b = cluster_wanted(&c, "web", 1);
    assert_int_equal(a->leaving, LEAVING_TO_RESTART);
    assert_int_equal(a->generation, 0);
    assert_int_equal(b->leaving, LEAVING_NOT);            /* one after the other */
    cluster_proxy(&c, 2, a->id);
    cluster_proxy(&c, 3, a->id);
    cluster_decide(&c);
    assert_int_equal(a->leaving, LEAVING_NOT);
    assert_int_equal(a->generation, 1);
    assert_int_equal(b->leaving, LEAVING_NOT);
    assert_string_equal(table(&c), "a.example:1 b.example:1 ");
    CLEANUP_FREE char *id = mem_strdup(a->id);
    cluster_report(&c, id, ALLOC_STARTING);
    cluster_report(&c, id, ALLOC_HEALTHY);
    cluster_decide(&c);
    assert_string_equal(table(&c), "a.example:2 b.example:2 ");
    assert_int_equal(b->leaving, LEAVING_NOT);            /* the first one takes no requests yet */
    cluster_proxy(&c, 2, NULL);
    cluster_proxy(&c, 3, NULL);
    cluster_decide(&c);
    assert_int_equal(b->leaving, LEAVING_TO_RESTART);
    cluster_clear(&c);
}

static void a_stop_overtakes_a_restart(void **state)
{
    struct cluster c;
    two_proxies(&c);
    CLEANUP_FREE char *id = mem_strdup(cluster_wanted(&c, "web", 0)->id);
    cluster_service(&c, COMMAND_SERVICE_RESTART, "web");
    cluster_decide(&c);
    assert_int_equal(core_alloc(c.core, id)->leaving, LEAVING_TO_RESTART);
    cluster_delete(&c, "web", false);
    cluster_decide(&c);
    assert_true(is_leaving(&c, id));
    cluster_proxy(&c, 2, id);
    cluster_proxy(&c, 3, id);
    cluster_decide(&c);
    assert_true(is_stopped(&c, id));
    cluster_clear(&c);
}

static void an_old_replica_leaves_when_the_new_one_takes_requests(void **state)
{
    struct cluster c;
    two_proxies(&c);
    CLEANUP_FREE char *old = mem_strdup(cluster_wanted(&c, "web", 0)->id);
    cluster_submit(&c, "web", WEB "    env: {A: b}\n");
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    assert_string_equal(table(&c), "a.example:3 b.example:3 ");
    assert_false(is_leaving(&c, old));
    cluster_proxy(&c, 2, NULL);
    cluster_decide(&c);
    assert_false(is_leaving(&c, old));
    cluster_proxy(&c, 3, NULL);
    cluster_decide(&c);
    assert_true(is_leaving(&c, old));
    cluster_clear(&c);
}

static void a_proxy_that_does_not_take_a_new_replica_up_is_not_waited_for_for_ever(void **state)
{
    struct cluster c;
    two_proxies(&c);
    CLEANUP_FREE char *old = mem_strdup(cluster_wanted(&c, "web", 0)->id);
    cluster_submit(&c, "web", WEB "    env: {A: b}\n    deploy: {health_timeout_secs: 7}\n");
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    cluster_pass(&c, 6999);
    assert_false(is_leaving(&c, old));
    cluster_pass(&c, 1);
    assert_true(is_leaving(&c, old));
    cluster_clear(&c);
}

static void a_snapshot_keeps_who_leaves_and_since_when(void **state)
{
    struct cluster c;
    struct error err;
    two_proxies(&c);
    CLEANUP_BUF struct buf bytes = {0};
    CLEANUP_FREE char *id = mem_strdup(cluster_wanted(&c, "web", 1)->id);
    cluster_scale(&c, "web", 1);
    cluster_decide(&c);
    cluster_proxy(&c, 2, id);
    cluster_pass(&c, 4000);
    core_snapshot(c.core, &bytes);
    assert_int_equal(core_restore(c.core, bytes.data, bytes.len, &err), 0);
    cluster_decide(&c);
    assert_true(is_leaving(&c, id));
    cluster_proxy(&c, 3, id);
    cluster_decide(&c);
    assert_true(is_stopped(&c, id));
    cluster_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_is_healthy_takes_requests),
        cmocka_unit_test(a_target_tells_where_its_replica_is_reached),
        cmocka_unit_test(what_does_not_concern_it_leaves_the_table_as_old_as_it_is),
        cmocka_unit_test(a_stopped_service_leaves_the_table_with_its_last_replica),
        cmocka_unit_test(the_table_and_its_age_survive_a_snapshot),
        cmocka_unit_test(reports_of_others_than_ingress_nodes_are_refused),
        cmocka_unit_test(a_proxy_that_cannot_follow_says_why),
        cmocka_unit_test(what_keeps_requests_away_is_told_of_whom_it_concerns),
        cmocka_unit_test(each_service_has_its_own_event),
        cmocka_unit_test(a_replica_stops_once_no_proxy_has_a_connection_to_it),
        cmocka_unit_test(reports_from_before_it_left_do_not_count),
        cmocka_unit_test(a_silent_proxy_holds_nothing_up_longer_than_the_kill_timeout),
        cmocka_unit_test(a_proxy_whose_node_is_down_holds_nothing_up),
        cmocka_unit_test(without_proxies_nothing_waits),
        cmocka_unit_test(a_stop_that_is_asked_for_leaves_first_too),
        cmocka_unit_test(a_restart_leaves_first_and_comes_back),
        cmocka_unit_test(a_stop_overtakes_a_restart),
        cmocka_unit_test(an_old_replica_leaves_when_the_new_one_takes_requests),
        cmocka_unit_test(a_proxy_that_does_not_take_a_new_replica_up_is_not_waited_for_for_ever),
        cmocka_unit_test(a_snapshot_keeps_who_leaves_and_since_when),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
