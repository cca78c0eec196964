/* The network of microVMs: which part of the range a node has, and what its agent is told of others. */
#include <stdio.h>
#include <string.h>

#include "../cmocka_all.h"
#include "cluster.h"

/* A node registers as an agent of microVMs does; had: what it says it had before. */
static const char *join(struct cluster *c, unsigned node, const char *wanted, const char *had, const char *range)
{
    static char text[256];
    struct command cmd;
    command_init(&cmd, COMMAND_NODE_REGISTER, c->now, NULL, NULL);
    struct command_node_register *p = cmd.payload;
    type_clear(&node_type, &p->node);
    type_copy(&node_type, &p->node, core_node(c->core, cluster_node_id(node)));
    type_clear(&node_network_type, &p->node.network);
    p->node.network.wanted = mem_strdup(wanted);
    p->node.network.subnet = mem_strdup(had);
    mem_set_string(&p->network.range, range);
    assert_true(cluster_apply(c, &cmd));
    const struct node_network *n = &core_node(c->core, cluster_node_id(node))->network;
    snprintf(text, sizeof text, "%s", n->subnet ? n->subnet : n->problem ? n->problem : "");
    return text;
}

#define RANGE "10.64.0.0/22"

static void each_node_has_a_part_for_its_life(void **state)
{
    struct cluster c;
    cluster_init(&c, 6);
    assert_string_equal(join(&c, 0, "auto", NULL, RANGE), "10.64.0.0/24");
    assert_string_equal(join(&c, 1, "auto", NULL, RANGE), "10.64.1.0/24");
    assert_string_equal(join(&c, 0, "auto", NULL, RANGE), "10.64.0.0/24");
    /* What somebody has, or what is of another kind, is not given back. */
    assert_string_equal(join(&c, 2, "auto", "10.64.1.0/24", RANGE), "10.64.2.0/24");
    assert_string_equal(join(&c, 3, "auto", "10.64.3.0/25", RANGE), "10.64.3.0/24");
    assert_non_null(strstr(join(&c, 4, "auto", NULL, RANGE), "no /24 of 10.64.0.0/22 is left"));
    /* A node that is removed leaves its part, and finds it again, though a lower one is free. */
    for (unsigned i = 1; i < 3; i++) {
        cluster_node_state(&c, i, NODE_DOWN);
        assert_true(cluster_remove_node(&c, i, 0));
        cluster_add_node(&c, i);
    }
    assert_string_equal(join(&c, 2, "auto", "10.64.2.0/24", RANGE), "10.64.2.0/24");
    assert_string_equal(join(&c, 4, "auto", NULL, RANGE), "10.64.1.0/24");
    /* Another range is for those who come from now on. */
    assert_string_equal(join(&c, 0, "auto", "10.64.0.0/24", "10.96.0.0/22"), "10.64.0.0/24");
    assert_string_equal(join(&c, 5, "auto", "10.64.9.0/24", "10.96.0.0/22"), "10.96.0.0/24");
    cluster_clear(&c);
}

static void a_network_of_its_own_is_nobody_elses(void **state)
{
    struct cluster c;
    cluster_init(&c, 5);
    assert_string_equal(join(&c, 0, "10.64.0.0/23", NULL, RANGE), "10.64.0.0/23");
    assert_string_equal(join(&c, 1, "auto", NULL, RANGE), "10.64.2.0/24");
    assert_non_null(strstr(join(&c, 2, "10.64.1.0/25", NULL, RANGE), "overlaps with 10.64.0.0/23 of node n0"));
    assert_string_equal(join(&c, 3, "10.88.0.0/24", NULL, RANGE), "10.88.0.0/24");
    assert_non_null(strstr(join(&c, 4, "nonsense", NULL, RANGE), "is no network"));
    /* Without a range nothing is handed out, and what agents have is their own business. */
    assert_string_equal(join(&c, 1, "auto", NULL, NULL), "");
    assert_string_equal(join(&c, 2, "10.64.1.0/25", NULL, NULL), "");
    assert_string_equal(join(&c, 3, NULL, NULL, RANGE), "");
    cluster_clear(&c);
}

static const char *nodes_told(struct cluster *c, unsigned node)
{
    static char text[256];
    struct agent_network t;
    size_t n = 0;
    assert_int_equal(core_agent_network(c->core, cluster_node_id(node), &t), 0);
    text[0] = '\0';
    for (uint32_t i = 0; i < t.nodes.n; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s %s ", t.nodes.v[i].name, t.nodes.v[i].subnet);
    type_clear(&agent_network_type, &t);
    return text;
}

static uint64_t changed(struct cluster *c, unsigned node)
{
    return core_changed(c->core, CORE_NETWORK, cluster_node_id(node));
}

static void agents_are_told_of_the_other_nodes(void **state)
{
    struct cluster c;
    cluster_init(&c, 3);
    join(&c, 0, "auto", NULL, RANGE);
    uint64_t before = changed(&c, 0);
    join(&c, 1, "auto", NULL, RANGE);
    assert_true(changed(&c, 0) > before);
    assert_string_equal(nodes_told(&c, 0), "n1 10.64.1.0/24 ");
    assert_string_equal(nodes_told(&c, 2), "n0 10.64.0.0/24 n1 10.64.1.0/24 ");
    before = changed(&c, 0);
    join(&c, 1, "auto", NULL, RANGE);
    assert_int_equal(changed(&c, 0), before);
    join(&c, 1, NULL, NULL, RANGE);
    assert_true(changed(&c, 0) > before);
    assert_string_equal(nodes_told(&c, 0), "");
    cluster_clear(&c);
}

/* "web 0 10.64.0.2 + 1 - ": replicas with their addresses, and + for those that serve. */
static const char *replicas_told(struct cluster *c, unsigned node)
{
    static char text[512];
    struct agent_network t;
    size_t n = 0;
    assert_int_equal(core_agent_network(c->core, cluster_node_id(node), &t), 0);
    text[0] = '\0';
    for (uint32_t i = 0; i < t.services.n; i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, "%s ", t.services.v[i].name);
        for (uint32_t k = 0; k < t.services.v[i].replicas.n; k++) {
            const struct network_replica *r = &t.services.v[i].replicas.v[k];
            n += (size_t)snprintf(text + n, sizeof text - n, "%lld %s %s", (long long)r->replica, r->address ? r->address : "-",
                                  r->serves ? "+ " : "");
        }
    }
    type_clear(&agent_network_type, &t);
    return text;
}

static void report(struct cluster *c, const char *service, unsigned n, enum alloc_state state, const char *address)
{
    const struct alloc *a = cluster_wanted(c, service, n);
    struct command cmd;
    command_init(&cmd, COMMAND_ALLOC_REPORT, c->now, NULL, NULL);
    struct agent_report *p = cmd.payload;
    p->node_id = mem_strdup(a->node_id);
    struct alloc_report *r = list_add_zero((struct list *)&p->allocs, &alloc_report_type);
    *r = (struct alloc_report){.id = mem_strdup(a->id), .seq = ++c->report_seq, .state = state, .started_at = c->now,
                               .address = mem_strdup(address)};
    assert_true(cluster_apply(c, &cmd));
}

#define VM(name, node) "  - {name: " name ", driver: firecracker, config: {image: /x}, resources: {cpus: 0.1, memory_mb: 64},\n" \
                       "     health: {type: tcp, port: p, interval: 1s}, ports: [{name: p, port: 80}],\n" \
                       "     constraints: [{attribute: node.name, op: '=', value: " node "}]}\n"

static void machines_know_the_replicas_of_their_own_job(void **state)
{
    struct cluster c;
    cluster_init(&c, 3);
    assert_true(cluster_submit_yaml(&c, "job: a\nservices:\n" VM("web", "n0") VM("db", "n1"), NULL));
    assert_true(cluster_submit_yaml(&c, "job: b\nservices:\n" VM("other", "n1"), NULL));
    cluster_submit(&c, "plain", "    constraints: [{attribute: node.name, op: '=', value: n2}]\n");
    cluster_decide(&c);
    assert_string_equal(replicas_told(&c, 0), "web 0 - db 0 - ");
    assert_string_equal(replicas_told(&c, 2), "");
    report(&c, "db", 0, ALLOC_RUNNING, "10.64.1.2");
    assert_string_equal(replicas_told(&c, 0), "web 0 - db 0 10.64.1.2 ");
    report(&c, "db", 0, ALLOC_HEALTHY, "10.64.1.2");
    assert_string_equal(replicas_told(&c, 0), "web 0 - db 0 10.64.1.2 + ");
    /* At once. */
    uint64_t before = c.index, other = changed(&c, 2);
    report(&c, "db", 0, ALLOC_UNHEALTHY, "10.64.1.2");
    assert_int_equal(changed(&c, 0), before + 1);
    assert_string_equal(replicas_told(&c, 0), "web 0 - db 0 10.64.1.2 ");
    /* What is of no concern to a node's machines does not wake it. */
    before = changed(&c, 0);
    report(&c, "other", 0, ALLOC_HEALTHY, "10.64.1.3");
    cluster_report_all(&c, "plain", ALLOC_RUNNING);
    assert_int_equal(changed(&c, 0), before);
    assert_int_equal(changed(&c, 2), other);
    assert_true(changed(&c, 1) > before);
    assert_non_null(strstr(replicas_told(&c, 1), "web 0 - db 0 10.64.1.2 "));
    assert_non_null(strstr(replicas_told(&c, 1), "other 0 10.64.1.3 + "));
    cluster_clear(&c);
}

static void a_snapshot_keeps_parts_and_addresses(void **state)
{
    struct cluster c;
    struct error err = {0};
    CLEANUP_BUF struct buf bytes = {0}, twice = {0};
    cluster_init(&c, 2);
    join(&c, 0, "auto", NULL, RANGE);
    join(&c, 1, "auto", NULL, RANGE);
    cluster_submit_yaml(&c, "job: a\nservices:\n" VM("web", "n0"), NULL);
    cluster_decide(&c);
    report(&c, "web", 0, ALLOC_HEALTHY, "10.64.0.2");
    core_snapshot(c.core, &bytes);
    struct core *again = core_new();
    assert_int_equal(core_restore(again, bytes.data, bytes.len, &err), 0);
    core_free(c.core);
    c.core = again;
    core_snapshot(c.core, &twice);
    assert_true(bytes.len == twice.len && memcmp(bytes.data, twice.data, bytes.len) == 0);
    assert_string_equal(nodes_told(&c, 1), "n0 10.64.0.0/24 ");
    assert_string_equal(replicas_told(&c, 0), "web 0 10.64.0.2 + ");
    assert_int_equal(changed(&c, 0), c.index);
    assert_string_equal(join(&c, 1, "auto", NULL, RANGE), "10.64.1.0/24");
    cluster_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_node_has_a_part_for_its_life),
        cmocka_unit_test(a_network_of_its_own_is_nobody_elses),
        cmocka_unit_test(agents_are_told_of_the_other_nodes),
        cmocka_unit_test(machines_know_the_replicas_of_their_own_job),
        cmocka_unit_test(a_snapshot_keeps_parts_and_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
