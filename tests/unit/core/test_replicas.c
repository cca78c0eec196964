/* Replicas: rollouts, failures, nodes that go and come, drains, tasks and schedules. */
#include <stdio.h>
#include <string.h>

#include "../cmocka_all.h"
#include "cluster.h"

#define HEALTH "    ports: [{name: http, port: 80}]\n    health: {type: tcp, port: http}\n"

static void a_rollout_replaces_one_after_the_other_new_before_old(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    cluster_submit(&c, "web", "    count: 2\n" HEALTH);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    cluster_submit(&c, "web", "    count: 2\n    env: {A: b}\n" HEALTH);
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 3);        /* one new beside two old */
    for (unsigned i = 0; i < 2; i++) {
        cluster_report_all(&c, "web", ALLOC_HEALTHY);
        cluster_stop_all(&c, "web");
    }
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 2);
    assert_int_equal(cluster_wanted(&c, "web", 0)->version, 2);
    assert_int_equal(cluster_wanted(&c, "web", 1)->version, 2);
    struct service_status s = cluster_status(&c, "web");
    assert_int_equal(core_deployment(c.core, s.deployment)->state, DEPLOYMENT_SUCCESSFUL);
    type_clear(&service_status_type, &s);
    cluster_clear(&c);
}

static void with_a_static_host_port_the_old_one_stops_first(void **state)
{
    static const char *const port = "    ports: [{name: http, port: 80, host: 8080}]\n";
    struct cluster c;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", port);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_RUNNING);
    CLEANUP_FREE char *changed = mem_printf("%s    env: {A: b}\n", port);
    cluster_submit(&c, "web", changed);
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 0);
    cluster_stop_all(&c, "web");
    assert_int_equal(cluster_wanted(&c, "web", 0)->version, 2);
    assert_int_equal(cluster_wanted(&c, "web", 0)->ports.v[0].host, 8080);
    cluster_clear(&c);
}

static void a_version_that_fails_is_taken_back(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    cluster_submit(&c, "web", "    count: 2\n" HEALTH);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    cluster_submit(&c, "web", "    count: 2\n    env: {A: b}\n" HEALTH);
    cluster_decide(&c);
    const struct alloc *bad = cluster_wanted(&c, "web", 0)->version == 2 ? cluster_wanted(&c, "web", 0)
                                                                         : cluster_wanted(&c, "web", 1);
    assert_int_equal(bad->version, 2);
    assert_true(cluster_report(&c, bad->id, ALLOC_FAILED));
    cluster_decide(&c);
    assert_int_equal(core_service(c.core, "web")->version, 3);
    assert_int_equal(core_service(c.core, "web")->spec.env.n, 0);
    assert_non_null(strstr(core_service(c.core, "web")->why, "reverted to 1"));
    assert_true(cluster_event(&c, "replica"));
    cluster_clear(&c);
}

/* One of its replicas fails. */
static void fail_version(struct cluster *c, uint64_t version)
{
    const struct alloc *a;
    unsigned i = 0;
    while ((a = cluster_wanted(c, "web", i)) && (uint64_t)a->version != version)
        i++;
    assert_non_null(a);
    assert_true(cluster_report(c, a->id, ALLOC_FAILED));
    cluster_decide(c);
}

static unsigned serving(struct cluster *c, uint64_t version)
{
    const struct alloc *a;
    unsigned n = 0;
    for (unsigned i = 0; (a = cluster_wanted(c, "web", i)); i++)
        n += a->version == version && a->state == ALLOC_HEALTHY;
    return n;
}

static void what_crashes_soon_after_it_was_healthy_replaces_nothing(void **state)
{
    static const char first[] = "    count: 2\n" HEALTH "    deploy: {min_healthy_secs: 8}\n";
    static const char second[] = "    count: 2\n    env: {A: b}\n" HEALTH "    deploy: {min_healthy_secs: 8}\n";
    struct cluster c;
    cluster_init(&c, 2);
    cluster_submit(&c, "web", first);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    assert_int_equal(core_deployment_next(c.core, NULL)->state, DEPLOYMENT_RUNNING);
    cluster_pass(&c, 8000);
    assert_int_equal(core_deployment_next(c.core, NULL)->state, DEPLOYMENT_SUCCESSFUL);
    cluster_submit(&c, "web", second);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    cluster_pass(&c, 7000);
    assert_int_equal(serving(&c, 1), 2);                         /* the new one serves beside them */
    assert_int_equal(serving(&c, 2), 1);
    fail_version(&c, 2);
    assert_non_null(strstr(core_service(c.core, "web")->why, "reverted to 1"));
    assert_int_equal(serving(&c, 1), 2);
    /* One that holds goes on. */
    cluster_submit(&c, "web", second);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    cluster_pass(&c, 8000);
    cluster_stop_all(&c, "web");
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    cluster_pass(&c, 8000);
    cluster_stop_all(&c, "web");
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 2);
    assert_int_equal(cluster_wanted(&c, "web", 0)->version, 4);
    assert_int_equal(cluster_wanted(&c, "web", 1)->version, 4);
    cluster_clear(&c);
}

/* 1 and 2 are good, 3 fails and is reverted as 4, which is 2 again: what is before 4 is 1. */
static void a_rollback_passes_over_versions_that_failed_or_are_the_same(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    cluster_submit(&c, "web", HEALTH "    env: {A: one}\n");
    assert_false(cluster_rollback(&c, "web", 0));
    assert_int_equal(c.error.code, ERROR_CONFLICT);
    assert_non_null(strstr(c.error.text, "no older version"));
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    cluster_decide(&c);
    cluster_submit(&c, "web", HEALTH "    env: {A: two}\n");
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    cluster_decide(&c);
    cluster_stop_all(&c, "web");
    cluster_submit(&c, "web", HEALTH "    env: {A: three}\n");
    cluster_decide(&c);
    fail_version(&c, 3);
    assert_int_equal(core_service(c.core, "web")->version, 4);
    assert_non_null(strstr(core_service(c.core, "web")->why, "reverted to 2"));
    assert_true(cluster_rollback(&c, "web", 0));
    assert_string_equal(core_service(c.core, "web")->why, "rollback to 1");
    assert_true(cluster_rollback(&c, "web", 3));       /* who names it gets it */
    cluster_clear(&c);
}

static void a_rollback_leaves_the_scale(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    cluster_level(&c, COMMAND_LEVEL);
    cluster_submit(&c, "web", HEALTH "    env: {A: one}\n");
    int64_t count = core_service(c.core, "web")->spec.count;
    cluster_submit(&c, "web", HEALTH "    env: {A: two}\n");
    assert_true(cluster_scale(&c, "web", count + 1));
    assert_true(cluster_rollback(&c, "web", 0));
    assert_string_equal(core_service(c.core, "web")->why, "rollback to 1");
    assert_int_equal(core_service(c.core, "web")->spec.count, count + 1);
    assert_true(cluster_rollback(&c, "web", 2));       /* who names one gets its count too */
    assert_int_equal(core_service(c.core, "web")->spec.count, count);
    cluster_clear(&c);
}

static void a_rollback_after_the_first_change_failed_says_that_nothing_is_left(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", HEALTH);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    cluster_decide(&c);
    cluster_submit(&c, "web", HEALTH "    env: {A: b}\n");
    cluster_decide(&c);
    fail_version(&c, 2);
    assert_int_equal(core_service(c.core, "web")->version, 3);
    assert_false(cluster_rollback(&c, "web", 0));
    assert_int_equal(c.error.code, ERROR_CONFLICT);
    assert_non_null(strstr(c.error.text, "no older version that did not fail"));
    cluster_clear(&c);
}

static void a_replica_that_does_not_get_healthy_in_time_fails_the_deployment(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", HEALTH "    deploy: {health_timeout_secs: 10}\n");
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_RUNNING);
    cluster_pass(&c, 8000);
    const struct deployment *d = core_deployment_next(c.core, NULL);
    assert_int_equal(d->state, DEPLOYMENT_RUNNING);
    assert_int_equal(core_next_wake(c.core), c.now + 1000);
    cluster_pass(&c, 1000);
    d = core_deployment_next(c.core, NULL);
    assert_int_equal(d->state, DEPLOYMENT_FAILED);               /* the first one: nothing to go back to */
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 1);
    cluster_clear(&c);
}

/* One replica that serves, one that does not on a node that drains, and a port that only one version of a replica can have. */
static void a_rollout_counts_what_does_not_serve_on_a_draining_node(void **state)
{
    static const char fixed[] = "    count: 2\n    spread: node\n    ports: [{name: http, port: 80, host: 8000}]\n"
                                "    health: {type: tcp, interval: 1s}\n";
    struct cluster c;
    cluster_init(&c, 2);
    cluster_submit(&c, "web", fixed);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    CLEANUP_FREE char *serves = mem_strdup(cluster_wanted(&c, "web", 0)->id), *sick = mem_strdup(cluster_wanted(&c, "web", 1)->id);
    cluster_report(&c, sick, ALLOC_UNHEALTHY);
    unsigned node = strcmp(cluster_wanted(&c, "web", 1)->node_id, cluster_node_id(0)) == 0 ? 0 : 1;
    cluster_node_state(&c, node, NODE_DRAINING);
    CLEANUP_FREE char *next = mem_printf("%s    env: {A: b}\n", fixed);
    assert_true(cluster_submit(&c, "web", next));
    cluster_decide(&c);
    assert_int_equal(core_alloc(c.core, serves)->desired, DESIRED_RUN);
    cluster_report(&c, sick, ALLOC_HEALTHY);
    cluster_decide(&c);
    assert_int_equal(core_alloc(c.core, serves)->desired, DESIRED_STOP);
    cluster_clear(&c);
}

static void what_has_no_room_says_so_and_is_woken_by_a_new_node(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", "    count: 3\n    resources: {cpus: 2}\n");
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 2);
    struct service_status s = cluster_status(&c, "web");
    assert_non_null(strstr(s.reason, "1 replica is not placed"));
    assert_non_null(strstr(s.reason, "cpu"));
    type_clear(&service_status_type, &s);
    cluster_add_node(&c, 1);
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 3);
    cluster_clear(&c);
}

static void a_deployment_without_room_fails_after_ten_minutes(void **state)
{
    struct cluster c;
    cluster_init(&c, 0);
    cluster_submit(&c, "web", NULL);
    cluster_decide(&c);
    cluster_pass(&c, 10 * 60 * 1000 - 1);
    assert_int_equal(core_deployment_next(c.core, NULL)->state, DEPLOYMENT_RUNNING);
    cluster_pass(&c, 1);
    assert_int_equal(core_deployment_next(c.core, NULL)->state, DEPLOYMENT_FAILED);
    cluster_clear(&c);
}

static void higher_priority_is_placed_first(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    cluster_submit_yaml(&c, "job: j\nservices:\n"
                            "  - {name: a, driver: exec, config: {command: /x}, resources: {cpus: 3}, priority: 10}\n"
                            "  - {name: b, driver: exec, config: {command: /x}, resources: {cpus: 3}, priority: 90}\n", NULL);
    cluster_decide(&c);
    assert_null(cluster_wanted(&c, "a", 0));
    assert_non_null(cluster_wanted(&c, "b", 0));
    cluster_clear(&c);
}

static void replicas_of_a_lost_node_are_replaced_at_once(void **state)
{
    struct cluster c;
    struct agent_work work;
    cluster_init(&c, 2);
    cluster_submit(&c, "web", NULL);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_RUNNING);
    CLEANUP_FREE char *id = mem_strdup(cluster_wanted(&c, "web", 0)->id);
    unsigned node = strcmp(cluster_wanted(&c, "web", 0)->node_id, cluster_node_id(0)) == 0 ? 0 : 1;
    cluster_node_state(&c, node, NODE_DOWN);
    cluster_decide(&c);
    assert_int_equal(core_alloc(c.core, id)->state, ALLOC_LOST);
    assert_string_equal(cluster_wanted(&c, "web", 0)->node_id, cluster_node_id(1 - node));
    assert_string_equal(cluster_wanted(&c, "web", 0)->previous, id);
    cluster_add_node(&c, node);                                  /* it registers again */
    assert_int_equal(core_node(c.core, cluster_node_id(node))->state, NODE_READY);
    assert_int_equal(core_agent_work(c.core, cluster_node_id(node), 0, &work), 0);
    assert_int_equal(work.allocs.n, 1);
    assert_int_equal(work.allocs.v[0].desired, DESIRED_STOP);
    type_clear(&agent_work_type, &work);
    cluster_report(&c, id, ALLOC_RUNNING);
    assert_int_equal(core_alloc(c.core, id)->state, ALLOC_LOST);     /* final */
    cluster_clear(&c);
}

static bool fence(struct cluster *c, unsigned node, int64_t since)
{
    struct command cmd;
    command_init(&cmd, COMMAND_NODE_FENCED, c->now, NULL, NULL);
    *(struct command_node_fenced *)cmd.payload =
        (struct command_node_fenced){.node_id = mem_strdup(cluster_node_id(node)), .since = since};
    return cluster_apply(c, &cmd);
}

/* "db" has a volume that both nodes have, "web" has none. */
static void a_shared_volume_is_placed_elsewhere_when_the_lease_is_over(void **state)
{
    struct cluster c;
    cluster_init(&c, 0);
    c.lease_ms = 60000;
    cluster_add_node(&c, 0);
    cluster_submit_yaml(&c, "job: j\nservices:\n  - {name: db, driver: exec, config: {command: /x},\n"
                            "     volumes: [{source: /mnt/db, target: /data}]}\n"
                            "  - {name: web, driver: exec, config: {command: /x}}\n", NULL);
    cluster_decide(&c);
    cluster_report_all(&c, "db", ALLOC_RUNNING);
    cluster_report_all(&c, "web", ALLOC_RUNNING);
    CLEANUP_FREE char *id = mem_strdup(cluster_wanted(&c, "db", 0)->id);
    cluster_add_node(&c, 1);
    cluster_node_state(&c, 0, NODE_DOWN);
    int64_t first = core_node(c.core, cluster_node_id(0))->state_since;
    cluster_pass(&c, 3600000);                                   /* nobody's clock decides but the leader's word */
    assert_string_equal(cluster_wanted(&c, "web", 0)->node_id, cluster_node_id(1));
    assert_string_equal(cluster_wanted(&c, "db", 0)->id, id);
    assert_int_equal(cluster_count(&c, "db", DESIRED_RUN, true), 1);
    assert_int_equal(core_alloc(c.core, id)->state, ALLOC_UNHEALTHY);
    assert_false(cluster_remove_node(&c, 0, 0));
    assert_non_null(strstr(c.error.text, "may still use volumes"));
    /* It comes back in time: its task goes on, and it says again how that is. */
    cluster_add_node(&c, 0);
    struct agent_work work;
    assert_int_equal(core_agent_work(c.core, cluster_node_id(0), c.index - 1, &work), 0);
    assert_true(work.full);
    type_clear(&agent_work_type, &work);
    cluster_report(&c, id, ALLOC_RUNNING);
    assert_int_equal(core_alloc(c.core, id)->state, ALLOC_RUNNING);
    /* A word about the time before does nothing; the right one does. */
    c.now += 1000;
    cluster_node_state(&c, 0, NODE_DOWN);
    assert_false(fence(&c, 0, first));
    assert_true(fence(&c, 0, core_node(c.core, cluster_node_id(0))->state_since));
    cluster_decide(&c);
    assert_int_equal(core_alloc(c.core, id)->state, ALLOC_LOST);
    assert_string_equal(cluster_wanted(&c, "db", 0)->node_id, cluster_node_id(1));
    assert_true(cluster_remove_node(&c, 0, 0));
    cluster_clear(&c);
}

static void a_drain_starts_the_replacement_before_it_stops_the_original(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    cluster_submit(&c, "web", NULL);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_RUNNING);
    unsigned node = strcmp(cluster_wanted(&c, "web", 0)->node_id, cluster_node_id(0)) == 0 ? 0 : 1;
    cluster_node_state(&c, node, NODE_DRAINING);
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 2);
    cluster_report_all(&c, "web", ALLOC_RUNNING);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 1);
    assert_string_equal(cluster_wanted(&c, "web", 0)->node_id, cluster_node_id(1 - node));
    cluster_stop_all(&c, "web");
    assert_string_equal(core_node(c.core, cluster_node_id(node))->state_reason, "drained");
    cluster_clear(&c);
}

static void a_drain_of_the_replacement_too_stops_it_before_the_next_one(void **state)
{
    static const char *const port = "    ports: [{name: http, port: 80, host: 8080}]\n";
    struct cluster c;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", port);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_RUNNING);
    cluster_add_node(&c, 1);
    cluster_node_state(&c, 0, NODE_DRAINING);
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 2);
    cluster_add_node(&c, 2);
    cluster_node_state(&c, 1, NODE_DRAINING);        /* its replica does not serve yet */
    CLEANUP_BUF struct buf bytes = {0};
    CLEANUP_COMMAND struct command decision = {0};
    struct error err;
    assert_true(core_decide(c.core, c.now, 1, &bytes));
    assert_int_equal(command_decode(bytes.data, bytes.len, &decision, &err), 0);
    assert_int_equal(((struct command_decide *)decision.payload)->stops.n, 1);
    assert_int_equal(((struct command_decide *)decision.payload)->places.n, 0);      /* it would not hold */
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 1);
    assert_string_equal(cluster_wanted(&c, "web", 0)->node_id, cluster_node_id(0));
    cluster_stop_all(&c, "web");
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 2);
    assert_string_equal(cluster_wanted(&c, "web", 1)->node_id, cluster_node_id(2));
    cluster_clear(&c);
}

static void a_volume_has_one_user_when_the_mode_changes(void **state)
{
    static const char *const volume = "    volumes: [{source: /mnt/x, target: /data}]\n";
    struct cluster c;
    cluster_init(&c, 1);
    for (int every = 1; every >= 0; every--) {
        CLEANUP_FREE char *extra = mem_printf("%s%s", volume, every ? "    mode: every-node\n" : "");
        cluster_submit(&c, "db", extra);
        cluster_decide(&c);
        if (!every) {
            assert_null(cluster_wanted(&c, "db", 0));            /* the one of the node is being stopped */
            cluster_stop_all(&c, "db");
            cluster_decide(&c);
        }
        assert_non_null(cluster_wanted(&c, "db", 0));
        cluster_report_all(&c, "db", ALLOC_RUNNING);
    }
    assert_int_equal(cluster_count(&c, "db", DESIRED_RUN, true), 1);
    cluster_clear(&c);
}

/* Its block image is on one node alone: an empty one on another would be taken for its data. */
static void a_replica_returns_to_the_node_of_its_volume_or_waits(void **state)
{
    struct cluster c;
    cluster_init(&c, 3);
    cluster_submit_yaml(&c, "job: j\nservices:\n  - name: db\n    driver: firecracker\n    count: 2\n    spread: node\n"
                            "    config: {image: /x, volumes: [{source: /mnt/db, target: /data}]}\n", NULL);
    cluster_decide(&c);
    cluster_report_all(&c, "db", ALLOC_RUNNING);
    CLEANUP_FREE char *id = mem_strdup(cluster_wanted(&c, "db", 0)->id), *node = mem_strdup(cluster_wanted(&c, "db", 0)->node_id);
    unsigned at = 0;
    while (strcmp(node, cluster_node_id(at)))
        at++;
    /* What fails there starts there again. */
    cluster_report(&c, id, ALLOC_FAILED);
    cluster_pass(&c, 60000);
    assert_string_equal(cluster_wanted(&c, "db", 0)->node_id, node);
    cluster_report_all(&c, "db", ALLOC_RUNNING);
    /* Without the node it waits, and says for what. */
    CLEANUP_FREE char *second = mem_strdup(cluster_wanted(&c, "db", 0)->id);
    cluster_node_state(&c, at, NODE_INELIGIBLE);
    cluster_report(&c, second, ALLOC_FAILED);
    cluster_pass(&c, 600000);
    assert_int_equal(cluster_count(&c, "db", DESIRED_RUN, true), 1);
    struct service_status s = cluster_status(&c, "db");
    assert_non_null(strstr(s.reason, "the replica's volume is on the node: the node is ineligible"));
    type_clear(&service_status_type, &s);
    cluster_node_state(&c, at, NODE_READY);
    cluster_pass(&c, 60000);
    assert_string_equal(cluster_wanted(&c, "db", 0)->node_id, node);
    cluster_clear(&c);
}

/* Where no run of it is remembered, its nodes do: the service was purged, or the servers were restored. */
static void a_volume_that_a_node_tells_of_is_returned_to(void **state)
{
    for (unsigned holder = 0; holder < 3; holder++) {
        struct cluster c;
        cluster_init(&c, 3);
        cluster_node_holds(&c, holder, "db");
        cluster_node_holds(&c, (holder + 1) % 3, "other");
        cluster_submit_yaml(&c, "job: j\nservices:\n  - name: db\n    driver: firecracker\n"
                                "    config: {image: /x, volumes: [{source: /mnt/db, target: /data}]}\n", NULL);
        cluster_node_state(&c, holder, NODE_INELIGIBLE);
        cluster_decide(&c);
        assert_null(cluster_wanted(&c, "db", 0));
        cluster_node_state(&c, holder, NODE_READY);
        cluster_pass(&c, 60000);
        assert_string_equal(cluster_wanted(&c, "db", 0)->node_id, cluster_node_id(holder));
        cluster_clear(&c);
    }
}

#define LARGE "    resources: {cpus: 3}\n    priority: "

static void room_that_a_lost_decision_would_have_taken_is_used(void **state)
{
    struct cluster c;
    CLEANUP_BUF struct buf lost = {0};
    cluster_init(&c, 1);
    assert_true(cluster_submit_yaml(&c, "job: j\nservices:\n  - name: first\n    driver: exec\n"
                                    "    config: {command: /bin/x}\n" LARGE "90\n  - name: second\n    driver: exec\n"
                                    "    config: {command: /bin/x}\n" LARGE "10\n", NULL));
    assert_true(core_decide(c.core, c.now, 1, &lost));
    cluster_scale(&c, "first", 0);
    cluster_decide(&c);
    assert_non_null(cluster_wanted(&c, "second", 0));
    cluster_clear(&c);
}

static void the_reason_for_no_room_follows_the_nodes(void **state)
{
    struct cluster c;
    struct service_status s;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", "    resources: {cpus: 5}\n");
    cluster_decide(&c);
    s = cluster_status(&c, "web");
    assert_non_null(strstr(s.reason, "not enough cpu"));
    type_clear(&service_status_type, &s);
    cluster_node_state(&c, 0, NODE_DRAINING);
    cluster_decide(&c);
    s = cluster_status(&c, "web");
    assert_non_null(strstr(s.reason, "the node is draining"));
    type_clear(&service_status_type, &s);
    cluster_clear(&c);
}

static void every_node_runs_on_each_node_and_leaves_a_draining_one_last(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    cluster_submit_yaml(&c, "job: j\nservices:\n"
                            "  - {name: all, driver: exec, config: {command: /x}, mode: every-node}\n"
                            "  - {name: web, driver: exec, config: {command: /x}, count: 4, spread: node}\n", NULL);
    cluster_decide(&c);
    cluster_report_all(&c, "all", ALLOC_RUNNING);
    cluster_report_all(&c, "web", ALLOC_RUNNING);
    assert_int_equal(cluster_count(&c, "all", DESIRED_RUN, true), 2);
    cluster_add_node(&c, 2);
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "all", DESIRED_RUN, true), 3);
    cluster_node_state(&c, 0, NODE_DRAINING);
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "all", DESIRED_RUN, true), 3);
    cluster_report_all(&c, "web", ALLOC_RUNNING);
    cluster_stop_all(&c, "web");
    assert_int_equal(cluster_count(&c, "all", DESIRED_RUN, true), 2);
    cluster_clear(&c);
}

static void a_failed_replica_is_tried_again_after_growing_delays_elsewhere(void **state)
{
    static const int64_t delays[] = {5000, 10000, 20000};
    struct cluster c;
    cluster_init(&c, 2);
    cluster_submit(&c, "web", "    deploy: {auto_revert: false}\n");
    cluster_decide(&c);
    for (size_t i = 0; i < ARRAY_LEN(delays); i++) {
        CLEANUP_FREE char *node = mem_strdup(cluster_wanted(&c, "web", 0)->node_id);
        assert_int_equal(cluster_wanted(&c, "web", 0)->attempt, i);
        cluster_report_all(&c, "web", ALLOC_FAILED);
        assert_null(cluster_wanted(&c, "web", 0));
        cluster_pass(&c, delays[i] - 1);
        assert_null(cluster_wanted(&c, "web", 0));
        assert_int_equal(core_next_wake(c.core), c.now + 1);
        cluster_pass(&c, 1);
        assert_string_not_equal(cluster_wanted(&c, "web", 0)->node_id, node);
    }
    cluster_clear(&c);
}

static void then_fail_leaves_it_until_a_restart(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", "    restart: {then: fail}\n");
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_FAILED);
    cluster_pass(&c, 24 * 3600 * 1000);
    assert_null(cluster_wanted(&c, "web", 0));
    struct service_status s = cluster_status(&c, "web");
    assert_int_equal(s.state, SERVICE_FAILED);
    assert_non_null(strstr(s.reason, "restart.then is fail"));
    type_clear(&service_status_type, &s);
    cluster_service(&c, COMMAND_SERVICE_RESTART, "web");
    cluster_decide(&c);
    assert_non_null(cluster_wanted(&c, "web", 0));
    cluster_clear(&c);
}

static void a_task_that_completed_does_not_run_again(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    cluster_submit(&c, "once", "    mode: task\n");
    cluster_decide(&c);
    cluster_report_all(&c, "once", ALLOC_COMPLETE);
    cluster_pass(&c, 24 * 3600 * 1000);
    assert_null(cluster_wanted(&c, "once", 0));
    struct service_status s = cluster_status(&c, "once");
    assert_int_equal(s.state, SERVICE_COMPLETE);
    type_clear(&service_status_type, &s);
    cluster_clear(&c);
}

static void a_schedule_runs_skips_what_overlaps_and_runs_again(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    cluster_submit(&c, "tick", "    mode: task\n    schedule: \"* * * * *\"\n");
    cluster_decide(&c);
    assert_null(cluster_wanted(&c, "tick", 0));
    struct service_status s = cluster_status(&c, "tick");
    assert_true(s.next_run_at > c.now && s.next_run_at <= c.now + 60000);
    type_clear(&service_status_type, &s);
    cluster_pass(&c, core_next_wake(c.core) - c.now);
    CLEANUP_FREE char *first = mem_strdup(cluster_wanted(&c, "tick", 0)->id);
    cluster_report(&c, first, ALLOC_RUNNING);
    cluster_pass(&c, 60000);
    assert_true(cluster_event(&c, "skipped"));
    assert_int_equal(cluster_count(&c, "tick", DESIRED_RUN, true), 1);
    cluster_report(&c, first, ALLOC_COMPLETE);
    cluster_pass(&c, 60000);
    assert_non_null(cluster_wanted(&c, "tick", 0));
    assert_string_not_equal(cluster_wanted(&c, "tick", 0)->id, first);
    cluster_clear(&c);
}

static void ended_allocations_are_forgotten_in_time(void **state)
{
    struct cluster c;
    struct agent_work work;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", NULL);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_RUNNING);
    CLEANUP_FREE char *id = mem_strdup(cluster_wanted(&c, "web", 0)->id);
    uint64_t since = c.index;
    cluster_scale(&c, "web", 0);
    cluster_decide(&c);
    cluster_stop_all(&c, "web");
    assert_int_equal(core_alloc(c.core, id)->state, ALLOC_COMPLETE);
    cluster_pass(&c, 3600 * 1000);
    assert_null(core_alloc(c.core, id));
    assert_int_equal(core_agent_work(c.core, cluster_node_id(0), since, &work), 0);
    assert_false(work.full);
    assert_int_equal(work.gone.n, 1);
    assert_string_equal(work.gone.v[0], id);
    type_clear(&agent_work_type, &work);
    cluster_clear(&c);
}

static void a_node_that_is_down_for_three_days_is_forgotten(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    cluster_node_state(&c, 0, NODE_DOWN);
    assert_int_equal(core_next_wake(c.core), c.now + 72 * 3600 * 1000);
    cluster_pass(&c, 72 * 3600 * 1000);
    assert_null(core_node_next(c.core, NULL));
    cluster_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rollout_replaces_one_after_the_other_new_before_old),
        cmocka_unit_test(with_a_static_host_port_the_old_one_stops_first),
        cmocka_unit_test(a_version_that_fails_is_taken_back),
        cmocka_unit_test(a_rollback_passes_over_versions_that_failed_or_are_the_same),
        cmocka_unit_test(a_rollback_leaves_the_scale),
        cmocka_unit_test(a_rollback_after_the_first_change_failed_says_that_nothing_is_left),
        cmocka_unit_test(what_crashes_soon_after_it_was_healthy_replaces_nothing),
        cmocka_unit_test(a_replica_that_does_not_get_healthy_in_time_fails_the_deployment),
        cmocka_unit_test(a_rollout_counts_what_does_not_serve_on_a_draining_node),
        cmocka_unit_test(what_has_no_room_says_so_and_is_woken_by_a_new_node),
        cmocka_unit_test(a_deployment_without_room_fails_after_ten_minutes),
        cmocka_unit_test(higher_priority_is_placed_first),
        cmocka_unit_test(replicas_of_a_lost_node_are_replaced_at_once),
        cmocka_unit_test(a_shared_volume_is_placed_elsewhere_when_the_lease_is_over),
        cmocka_unit_test(a_drain_starts_the_replacement_before_it_stops_the_original),
        cmocka_unit_test(a_drain_of_the_replacement_too_stops_it_before_the_next_one),
        cmocka_unit_test(a_volume_has_one_user_when_the_mode_changes),
        cmocka_unit_test(a_replica_returns_to_the_node_of_its_volume_or_waits),
        cmocka_unit_test(a_volume_that_a_node_tells_of_is_returned_to),
        cmocka_unit_test(room_that_a_lost_decision_would_have_taken_is_used),
        cmocka_unit_test(the_reason_for_no_room_follows_the_nodes),
        cmocka_unit_test(every_node_runs_on_each_node_and_leaves_a_draining_one_last),
        cmocka_unit_test(a_failed_replica_is_tried_again_after_growing_delays_elsewhere),
        cmocka_unit_test(then_fail_leaves_it_until_a_restart),
        cmocka_unit_test(a_task_that_completed_does_not_run_again),
        cmocka_unit_test(a_schedule_runs_skips_what_overlaps_and_runs_again),
        cmocka_unit_test(ended_allocations_are_forgotten_in_time),
        cmocka_unit_test(a_node_that_is_down_for_three_days_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
