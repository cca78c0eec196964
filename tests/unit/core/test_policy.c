/* The policy of the cluster: what it lets be submitted, and that it is kept. */
#include <string.h>

#include "../cmocka_all.h"
#include "cluster.h"

static bool policy_set(struct cluster *c, const char *yaml)
{
    struct command cmd;
    struct problem_list problems = {0};
    command_init(&cmd, COMMAND_POLICY_SET, c->now, NULL, "somebody");
    struct command_policy_set *p = cmd.payload;
    assert_int_equal(type_from_yaml(&policy_type, yaml, strlen(yaml), &p->policy, &problems), 0);
    return cluster_apply(c, &cmd);
}

static bool submit(struct cluster *c, const char *name, const char *rest)
{
    CLEANUP_FREE char *yaml = mem_printf("job: %s\nservices:\n  - name: %s\n%s", name, name, rest);
    return cluster_submit_yaml(c, yaml, NULL);
}

#define DOCKER "    driver: docker\n    config: {image: x}\n"
#define EXEC "    driver: exec\n    config: {command: /bin/true}\n"

static void services_go_beyond_their_profile_only_by_an_exception(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    assert_true(submit(&c, "plain", DOCKER));
    assert_true(submit(&c, "tight", DOCKER "    security: {profile: docker-legacy, root: false, capabilities: none}\n"));
    assert_false(submit(&c, "vpn", DOCKER "    security: {root: true, capabilities: [NET_ADMIN]}\n"));
    assert_int_equal(c.error.code, ERROR_DENIED);
    assert_non_null(strstr(c.error.text, "service vpn: root goes beyond profile docker-hardened"));
    assert_true(policy_set(&c, "exceptions: [{services: [\"vpn*\"], allow: [root]}]"));
    assert_false(submit(&c, "vpn", DOCKER "    security: {root: true, capabilities: [NET_ADMIN]}\n"));
    assert_non_null(strstr(c.error.text, "capabilities.NET_ADMIN goes beyond"));
    assert_true(policy_set(&c, "exceptions: [{services: [\"vpn*\"], allow: [root, capabilities.NET_ADMIN]}]"));
    assert_true(submit(&c, "vpn", DOCKER "    security: {root: true, capabilities: [NET_ADMIN]}\n"));
    assert_true(submit(&c, "vpn-2", DOCKER "    security: {root: true}\n"));
    assert_false(submit(&c, "other", DOCKER "    security: {root: true}\n"));
    assert_false(submit(&c, "tmp", DOCKER "    security: {tmpfs_mb: 65}\n"));
    assert_false(submit(&c, "pids", DOCKER "    resources: {pids: 513}\n"));
    assert_true(submit(&c, "pids", DOCKER "    resources: {pids: 512}\n"));
    cluster_clear(&c);
}

static void what_no_profile_allows_no_exception_does(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    assert_true(policy_set(&c, "exceptions: [{services: [\"*\"], allow: [\"*\"]}]"));
    assert_false(submit(&c, "web", "    driver: docker\n    config: {image: x, network: host}\n"));
    assert_non_null(strstr(c.error.text, "no profile allows"));
    assert_false(submit(&c, "web", "    driver: docker\n    config: {image: x, network: \"container:abc\"}\n"));
    assert_true(policy_set(&c, "{}"));
    assert_false(submit(&c, "web", "    driver: docker\n    config: {image: x, network: bridge}\n"));
    assert_false(submit(&c, "web", "    driver: docker\n    config: {image: x, user: \"0:0\"}\n"));
    assert_true(submit(&c, "web", "    driver: docker\n    config: {image: x, network: none, user: \"1\"}\n"));
    cluster_clear(&c);
}

static void a_profile_may_be_for_some_services_only(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    assert_true(submit(&c, "anybody", EXEC));
    assert_true(submit(&c, "anybody", EXEC "    env: {A: b}\n"));
    assert_true(policy_set(&c, "profiles: [{name: exec-internal, services: [node-agent]}]"));
    assert_false(submit(&c, "anybody", EXEC "    env: {A: c}\n"));
    assert_int_equal(c.error.code, ERROR_DENIED);
    assert_false(cluster_rollback(&c, "anybody", 1));
    assert_int_equal(c.error.code, ERROR_DENIED);
    assert_true(submit(&c, "node-agent", EXEC));
    assert_true(cluster_scale(&c, "anybody", 3));     /* what runs goes on */
    cluster_clear(&c);
}

static void a_bad_policy_is_refused_and_the_old_one_stays(void **state)
{
    struct cluster c;
    struct command cmd;
    cluster_init(&c, 1);
    assert_true(policy_set(&c, "profiles: [{name: exec-internal}]"));
    command_init(&cmd, COMMAND_POLICY_SET, c.now, NULL, NULL);
    struct command_policy_set *p = cmd.payload;
    struct policy_profile *rule = list_add_zero((struct list *)&p->policy.profiles, policy_type.fields[0].type);
    rule->name = mem_strdup("no-such");
    assert_false(cluster_apply(&c, &cmd));
    assert_false(submit(&c, "anybody", EXEC));
    cluster_clear(&c);
}

static void it_is_in_snapshots(void **state)
{
    struct cluster c;
    struct core *other = core_new();
    struct error err;
    CLEANUP_BUF struct buf bytes = {0}, again = {0};
    cluster_init(&c, 1);
    assert_true(policy_set(&c, "profiles: [{name: exec-internal, services: [a]}]\nexceptions: [{services: [b], allow: [root]}]"));
    core_snapshot(c.core, &bytes);
    assert_int_equal(core_restore(other, bytes.data, bytes.len, &err), 0);
    core_snapshot(other, &again);
    assert_int_equal(bytes.len, again.len);
    assert_memory_equal(bytes.data, again.data, again.len);
    assert_true(type_equal(&policy_type, core_policy(c.core), core_policy(other)));
    assert_string_equal(core_policy(other)->exceptions.v[0].allow.v[0], "root");
    core_free(other);
    cluster_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(services_go_beyond_their_profile_only_by_an_exception),
        cmocka_unit_test(what_no_profile_allows_no_exception_does),
        cmocka_unit_test(a_profile_may_be_for_some_services_only),
        cmocka_unit_test(a_bad_policy_is_refused_and_the_old_one_stays),
        cmocka_unit_test(it_is_in_snapshots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
