/* Peers: whose agents are told of which replicas, and when they hear of it. */
#include <stdio.h>
#include <string.h>

#include "../cmocka_all.h"
#include "cluster.h"

#define PORT "    ports: [{name: http, port: 80}]\n"

/* The replicas that a node's agent is told of, "0 1 2 "; "-" when it is told of none. */
static const char *told(struct cluster *c, unsigned node, const char *service, uint64_t since)
{
    static char text[512];
    struct agent_work work;
    assert_int_equal(core_agent_work(c->core, cluster_node_id(node), since, &work), 0);
    strcpy(text, "-");
    for (uint32_t i = 0; i < work.peers.n; i++) {
        if (strcmp(work.peers.v[i].service, service))
            continue;
        size_t n = 0;
        text[0] = '\0';
        for (uint32_t k = 0; k < work.peers.v[i].peers.n; k++)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%lld ", (long long)work.peers.v[i].peers.v[k].replica);
    }
    type_clear(&agent_work_type, &work);
    return text;
}

static uint64_t work_index(struct cluster *c, unsigned node)
{
    return core_changed(c->core, CORE_NODE_WORK, cluster_node_id(node));
}

static void all_replicas_are_known_at_the_first_start(void **state)
{
    struct cluster c;
    cluster_init(&c, 3);
    uint64_t before = c.index;
    cluster_submit(&c, "web", "    count: 3\n    spread: node\n" PORT);
    cluster_decide(&c);
    for (unsigned i = 0; i < 3; i++)
        assert_string_equal(told(&c, i, "web", before), "0 1 2 ");
    cluster_clear(&c);
}

static void a_change_reaches_those_that_stay(void **state)
{
    struct cluster c;
    cluster_init(&c, 3);
    cluster_submit(&c, "web", "    count: 2\n    spread: node\n" PORT);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_RUNNING);
    uint64_t before = c.index;
    const struct alloc *first = cluster_wanted(&c, "web", 0);
    uint64_t modified = first->modify_index;
    unsigned home = 0;
    while (strcmp(cluster_node_id(home), first->node_id))
        home++;
    cluster_scale(&c, "web", 3);
    cluster_decide(&c);
    assert_true(work_index(&c, home) > before);
    assert_string_equal(told(&c, home, "web", before), "0 1 2 ");
    assert_true(first->modify_index >= modified);
    cluster_scale(&c, "web", 1);
    cluster_decide(&c);
    assert_string_equal(told(&c, home, "web", before), "0 ");
    cluster_clear(&c);
}

static void a_replica_that_moves_is_named_once_where_it_will_stay(void **state)
{
    struct cluster c;
    cluster_init(&c, 3);
    cluster_submit(&c, "web", "    count: 2\n    spread: node\n" PORT);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_RUNNING);
    unsigned home = 0;
    while (strcmp(cluster_node_id(home), cluster_wanted(&c, "web", 0)->node_id))
        home++;
    cluster_node_state(&c, home, NODE_DRAINING);
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 3);
    assert_string_equal(told(&c, home, "web", 0), "0 1 ");
    struct agent_work work;
    core_agent_work(c.core, cluster_node_id(home), 0, &work);
    assert_string_not_equal(work.peers.v[0].peers.v[0].node_id, cluster_node_id(home));
    type_clear(&agent_work_type, &work);
    cluster_clear(&c);
}

static void big_services_are_told_only_when_they_ask(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    cluster_submit(&c, "web", "    count: 33\n    resources: {cpus: 0.01, memory_mb: 8}\n" PORT);
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 33);
    assert_string_equal(told(&c, 0, "web", 0), "-");
    /* nor do the others hear of it when one of them ends */
    const char *gone = cluster_wanted(&c, "web", 0)->node_id;
    unsigned other = strcmp(gone, cluster_node_id(0)) ? 0 : 1;
    uint64_t before = work_index(&c, other);
    cluster_report(&c, cluster_wanted(&c, "web", 0)->id, ALLOC_FAILED);
    assert_int_equal(work_index(&c, other), before);
    cluster_submit(&c, "web", "    count: 33\n    resources: {cpus: 0.01, memory_mb: 8}\n"
                              "    env: {ALL: \"${peers.http}\"}\n" PORT);
    cluster_pass(&c, 60000);
    assert_string_not_equal(told(&c, 0, "web", 0), "-");
    cluster_clear(&c);
}

static void growing_beyond_the_limit_takes_the_word_back(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", "    count: 2\n    resources: {cpus: 0.01, memory_mb: 8}\n" PORT);
    cluster_decide(&c);
    assert_string_equal(told(&c, 0, "web", 0), "0 1 ");
    uint64_t before = c.index;
    cluster_scale(&c, "web", 40);
    cluster_decide(&c);
    struct agent_work work;
    core_agent_work(c.core, cluster_node_id(0), before, &work);
    assert_int_equal(work.allocs.n, 40);      /* with the two that were there */
    assert_int_equal(work.peers.n, 0);
    type_clear(&agent_work_type, &work);
    cluster_clear(&c);
}

static void services_without_ports_have_no_peers(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", "    count: 2\n");
    cluster_decide(&c);
    assert_string_equal(told(&c, 0, "web", 0), "-");
    cluster_clear(&c);
}

static void a_snapshot_keeps_what_agents_are_told(void **state)
{
    struct cluster c;
    struct error err = {0};
    CLEANUP_BUF struct buf bytes = {0};
    cluster_init(&c, 1);
    cluster_submit(&c, "web", "    count: 2\n" PORT);
    cluster_decide(&c);
    core_snapshot(c.core, &bytes);
    struct core *again = core_new();
    assert_int_equal(core_restore(again, bytes.data, bytes.len, &err), 0);
    core_free(c.core);
    c.core = again;
    assert_string_equal(told(&c, 0, "web", 0), "0 1 ");
    cluster_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_replicas_are_known_at_the_first_start),
        cmocka_unit_test(a_change_reaches_those_that_stay),
        cmocka_unit_test(a_replica_that_moves_is_named_once_where_it_will_stay),
        cmocka_unit_test(big_services_are_told_only_when_they_ask),
        cmocka_unit_test(growing_beyond_the_limit_takes_the_word_back),
        cmocka_unit_test(services_without_ports_have_no_peers),
        cmocka_unit_test(a_snapshot_keeps_what_agents_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
