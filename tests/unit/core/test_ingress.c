/* The ingress table: who is in it, when it changes, and how far the proxies have followed it. */
#include <stdio.h>
#include <string.h>

#include "../cmocka_all.h"
#include "cluster.h"

#define WEB "    count: 2\n    ports: [{name: http, port: 80}]\n    health: {type: tcp, interval: 1s}\n" \
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
