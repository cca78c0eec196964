/* Namespaces: names that do not meet, secrets that stay where they are, and quotas. */
#include <string.h>

#include "../cmocka_all.h"
#include "cluster.h"
#include "core/command.h"
#include "model/access.h"
#include "model/namespace.h"
#include "model/profile.h"
#include "model/secret.h"

static bool put(struct cluster *c, const char *name, struct quota quota)
{
    struct command cmd;
    command_init(&cmd, COMMAND_NAMESPACE_PUT, c->now, NULL, "root");
    struct namespace *n = &((struct command_namespace_put *)cmd.payload)->namespace;
    n->name = mem_strdup(name);
    n->quota = quota;
    return cluster_apply(c, &cmd);
}

static bool delete(struct cluster *c, const char *name)
{
    struct command cmd;
    command_init(&cmd, COMMAND_NAMESPACE_DELETE, c->now, NULL, "root");
    ((struct command_namespace_delete *)cmd.payload)->name = mem_strdup(name);
    return cluster_apply(c, &cmd);
}

/* A job of one service in a namespace; extra is more YAML of the service, with a comma before it. */
static bool submit(struct cluster *c, const char *namespace, const char *service, const char *extra)
{
    CLEANUP_FREE char *yaml = mem_printf("job: shop\nnamespace: %s\nservices: [{name: %s, driver: exec, config: {command: /bin/x}%s}]\n",
                                         namespace, service, extra);
    return cluster_submit_yaml(c, yaml, NULL);
}

static bool put_secret(struct cluster *c, const char *name)
{
    struct command cmd;
    command_init(&cmd, COMMAND_SECRET_PUT, c->now, NULL, "root");
    struct command_secret_put *p = cmd.payload;
    p->name = mem_strdup(name);
    p->sealed = mem_strdup("sealed");
    p->version = core_secret_next_version(c->core, name);
    p->bytes = 3;
    return cluster_apply(c, &cmd);
}

static void names_are_qualified_and_taken_apart(void **state)
{
    char own[NAMESPACE_SIZE];
    CLEANUP_FREE char *plain = namespace_qualify(NULL, "web"), *same = namespace_qualify("default", "web"),
                      *other = namespace_qualify("team-a", "web");
    assert_string_equal(plain, "web");
    assert_string_equal(same, "web");
    assert_string_equal(other, "team-a.web");
    assert_string_equal(namespace_bare(other), "web");
    assert_string_equal(namespace_of(other, own), "team-a");
    assert_string_equal(namespace_of("web", own), "default");
    assert_true(namespace_same("web", "db"));
    assert_false(namespace_same("web", other));
    static const char *const good[] = {"web", "team-a.web"}, *const bad[] = {".web", "team-a.", "a.b.c", "default.web", "Team.web", "a/b"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(namespace_is_qualified_name(good[i]));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(namespace_is_qualified_name(bad[i]));
}

static void a_namespace_has_to_be_there(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    assert_false(submit(&c, "team-a", "web", ""));
    assert_non_null(strstr(c.error.text, "mt namespace put team-a"));
    assert_false(put_secret(&c, "team-a.key"));
    assert_false(put(&c, "Team", (struct quota){0}));
    assert_true(put(&c, "team-a", (struct quota){0}));
    assert_true(submit(&c, "team-a", "web", ""));
    assert_true(submit(&c, "default", "web", ""));
    assert_false(delete(&c, "default"));
    assert_false(delete(&c, "team-b"));
    assert_int_equal(c.error.code, ERROR_NOT_FOUND);
    cluster_clear(&c);
}

static void names_of_two_namespaces_do_not_meet(void **state)
{
    struct cluster c;
    struct job job;
    cluster_init(&c, 2);
    put(&c, "team-a", (struct quota){0});
    assert_true(submit(&c, "default", "web", ", count: 2"));
    assert_null(strstr(c.body, "namespace"));
    assert_true(submit(&c, "team-a", "web", ", count: 3"));
    assert_non_null(strstr(c.body, "{\"job\":\"shop\",\"namespace\":\"team-a\""));
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 2);
    assert_int_equal(cluster_count(&c, "team-a.web", DESIRED_RUN, true), 3);
    assert_string_equal(cluster_wanted(&c, "team-a.web", 0)->job, "team-a.shop");
    assert_int_equal(core_job(c.core, "team-a.shop", &job), 0);
    assert_string_equal(job.name, "shop");
    assert_string_equal(job.namespace, "team-a");
    assert_string_equal(job.services.v[0].name, "web");
    type_clear(&job_type, &job);
    assert_true(cluster_delete(&c, "web", false));
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "team-a.web", DESIRED_RUN, true), 3);
    cluster_clear(&c);
}

static void services_wait_for_those_of_their_own_job(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    put(&c, "team-a", (struct quota){0});
    assert_true(cluster_submit_yaml(&c, "job: shop\nnamespace: team-a\nservices:\n  - {name: db, driver: exec, config: {command: /x}}\n"
                                        "  - {name: web, driver: exec, config: {command: /x}, after: db}\n", NULL));
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "team-a.web", DESIRED_RUN, true), 0);
    cluster_report_all(&c, "team-a.db", ALLOC_RUNNING);
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "team-a.web", DESIRED_RUN, true), 1);
    cluster_clear(&c);
}

static void a_way_in_has_one_service_in_all_namespaces(void **state)
{
    static const char way[] = ", ports: [{name: http, port: 80}], ingress: [{host: example.com, port: http}]";
    struct cluster c;
    cluster_init(&c, 1);
    put(&c, "team-a", (struct quota){0});
    assert_true(submit(&c, "team-a", "web", way));
    assert_false(submit(&c, "default", "front", way));
    assert_non_null(strstr(c.error.text, "another namespace has host example.com"));
    assert_null(strstr(c.error.text, "team-a"));
    /* Nor a path of its host, which would take requests away; its own namespace may. */
    static const char login[] = "job: login\nnamespace: %s\nservices: [{name: login, driver: exec, config: {command: /bin/x}, ports: "
                                "[{name: http, port: 80}], ingress: [{host: %sexample.com, path: /login, port: http}]}]\n";
    static const struct { const char *namespace, *sub; bool admitted; } rows[] = {
        {"default", "", false}, {"default", "www.", true}, {"team-a", "", true}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP_FREE char *yaml = mem_printf(login, rows[i].namespace, rows[i].sub);
        assert_int_equal(cluster_submit_yaml(&c, yaml, NULL), rows[i].admitted);
    }
    cluster_clear(&c);
}

static void secrets_are_for_services_of_their_namespace(void **state)
{
    static const char names_it[] = ", secrets: [{name: key, file: key}]";
    struct cluster c;
    cluster_init(&c, 1);
    put(&c, "team-a", (struct quota){0});
    put(&c, "team-b", (struct quota){0});
    assert_true(put_secret(&c, "team-a.key"));
    assert_false(submit(&c, "default", "web", names_it));
    assert_false(submit(&c, "team-b", "web", names_it));
    assert_non_null(strstr(c.error.text, "there is no secret key in its namespace"));
    assert_true(submit(&c, "team-a", "web", names_it));
    assert_true(put_secret(&c, "team-b.key"));
    assert_true(submit(&c, "team-b", "web", names_it));
    const struct secret *a = secrets_find_for(core_secrets(c.core), "team-a.web", "key");
    assert_string_equal(a->name, "team-a.key");
    assert_true(secret_is_for(a, "team-a.other"));
    assert_false(secret_is_for(a, "team-b.web"));
    assert_false(secret_is_for(a, "web"));
    /* Each namespace is kept as long as there is something in it. */
    assert_false(delete(&c, "team-a"));
    assert_non_null(strstr(c.error.text, "namespace team-a has job shop"));
    assert_true(cluster_delete(&c, "team-a.web", true));
    assert_false(delete(&c, "team-a"));
    assert_non_null(strstr(c.error.text, "namespace team-a has secret key"));
    cluster_clear(&c);
}

static void a_quota_refuses_what_is_too_much(void **state)
{
    struct cluster c;
    cluster_init(&c, 3);
    put(&c, "team-a", (struct quota){.replicas = 4, .memory_mb = 1000, .cpus = 2});
    assert_false(submit(&c, "team-a", "web", ", count: 5"));
    assert_int_equal(c.error.code, ERROR_DENIED);
    assert_non_null(strstr(c.error.text, "allows 4 replicas, its services want 0, and with this 5"));
    assert_true(submit(&c, "team-a", "web", ", count: 3"));
    assert_false(cluster_scale(&c, "team-a.web", 5));
    assert_true(cluster_scale(&c, "team-a.web", 4));
    assert_false(submit(&c, "team-a", "web", ", count: 4, resources: {memory_mb: 300}"));
    assert_non_null(strstr(c.error.text, "allows 1000 MiB of memory, its services want 256, and with this 1200"));
    assert_false(submit(&c, "team-a", "web", ", count: 4, resources: {cpus: 0.6}"));
    assert_non_null(strstr(c.error.text, "allows 2 cpus"));
    assert_true(submit(&c, "team-a", "web", ", count: 4, resources: {cpus: 0.5}"));
    /* Others are not concerned. */
    assert_true(submit(&c, "default", "web", ", count: 50"));
    cluster_clear(&c);
}

static void what_was_stopped_counts_until_it_has_ended(void **state)
{
    static const char other[] = "job: other\nnamespace: team-a\nservices: [{name: other, driver: exec, count: 2, config: {command: /x}}]\n";
    struct cluster c;
    struct quota wants;
    cluster_init(&c, 1);
    put(&c, "team-a", (struct quota){.replicas = 2});
    assert_true(submit(&c, "team-a", "web", ", count: 2"));
    cluster_decide(&c);
    cluster_report_all(&c, "team-a.web", ALLOC_RUNNING);
    assert_true(cluster_delete(&c, "team-a.web", false));
    assert_false(cluster_submit_yaml(&c, other, NULL));         /* before anything was decided */
    cluster_decide(&c);
    assert_false(cluster_submit_yaml(&c, other, NULL));
    core_namespace_wants(c.core, "team-a", &wants);
    assert_int_equal(wants.replicas, 2);
    cluster_stop_all(&c, "team-a.web");
    core_namespace_wants(c.core, "team-a", &wants);
    assert_int_equal(wants.replicas, 0);
    assert_true(cluster_submit_yaml(&c, other, NULL));
    cluster_clear(&c);
}

static void a_quota_below_what_is_wanted_refuses_growth_alone(void **state)
{
    struct cluster c;
    struct quota wants;
    cluster_init(&c, 2);
    put(&c, "team-a", (struct quota){0});
    assert_true(submit(&c, "team-a", "web", ", count: 6"));
    assert_true(put(&c, "team-a", (struct quota){.replicas = 2}));
    core_namespace_wants(c.core, "team-a", &wants);
    assert_int_equal(wants.replicas, 6);
    assert_int_equal(wants.memory_mb, 6 * 64);
    assert_true(submit(&c, "team-a", "web", ", count: 6, env: {A: b}"));
    assert_true(cluster_scale(&c, "team-a.web", 5));
    assert_false(cluster_scale(&c, "team-a.web", 6));
    /* An older version that wants more is refused as well; one that is taken back by itself would not be. */
    assert_false(cluster_rollback(&c, "team-a.web", 1));
    assert_int_equal(c.error.code, ERROR_DENIED);
    assert_true(cluster_delete(&c, "team-a.web", false));
    core_namespace_wants(c.core, "team-a", &wants);
    assert_int_equal(wants.replicas, 0);
    cluster_clear(&c);
}

static void what_a_namespace_wants_leaves_out_names_around_it(void **state)
{
    static const struct { const char *namespace, *service; int64_t count; } all[] = {
        {"default", "team", 1}, {"default", "team-a", 2}, {"default", "zoo", 3}, {"team", "a", 4}, {"team", "z", 5},
        {"team-a", "a", 6}, {"team-a", "web", 7}, {"team0", "a", 8}};
    static const struct { const char *namespace; int64_t replicas; } wanted[] = {
        {"default", 6}, {"team", 9}, {"team-a", 13}, {"team0", 8}, {"team-b", 0}};
    struct cluster c;
    struct quota wants;
    cluster_init(&c, 1);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        CLEANUP_FREE char *yaml = mem_printf("job: %s\nnamespace: %s\nservices: [{name: %s, driver: exec, count: %lld, "
                                             "config: {command: /x}}]\n", all[i].service, all[i].namespace, all[i].service,
                                             (long long)all[i].count);
        put(&c, all[i].namespace, (struct quota){0});
        assert_true(cluster_submit_yaml(&c, yaml, NULL));
    }
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        core_namespace_wants(c.core, wanted[i].namespace, &wants);
        assert_int_equal(wants.replicas, wanted[i].replicas);
    }
    cluster_clear(&c);
}

static void services_on_every_node_count_by_the_nodes(void **state)
{
    struct cluster c;
    struct quota wants;
    cluster_init(&c, 3);
    assert_true(put(&c, "default", (struct quota){.replicas = 2}));
    assert_false(submit(&c, "default", "eyes", ", mode: every-node"));
    assert_true(put(&c, "default", (struct quota){.replicas = 3}));
    assert_true(submit(&c, "default", "eyes", ", mode: every-node"));
    core_namespace_wants(c.core, "default", &wants);
    assert_int_equal(wants.replicas, 3);
    cluster_clear(&c);
}

static void one_that_finds_no_node_counts_once(void **state)
{
    static const char nowhere[] = ", mode: every-node, constraints: [{attribute: node.name, op: \"=\", value: [n9]}]";
    struct cluster c;
    struct quota wants;
    cluster_init(&c, 2);
    put(&c, "team-a", (struct quota){.replicas = 2, .memory_mb = 64});
    cluster_level(&c, QUOTA_LEAST_LEVEL - 1);
    assert_true(submit(&c, "team-a", "eyes", nowhere));
    core_namespace_wants(c.core, "team-a", &wants);
    assert_int_equal(wants.replicas, 0);                        /* as older servers count */
    cluster_level(&c, QUOTA_LEAST_LEVEL);
    core_namespace_wants(c.core, "team-a", &wants);
    assert_int_equal(wants.replicas, 1);
    assert_int_equal(wants.memory_mb, 64);
    static const char two[] = "job: other\nnamespace: team-a\nservices: [{name: ears, driver: exec, mode: every-node, config: {command: /x}, "
                              "constraints: [{attribute: node.name, op: \"=\", value: [n9]}]}]\n";
    assert_false(cluster_submit_yaml(&c, two, NULL));
    assert_non_null(strstr(c.error.text, "allows 64 MiB of memory, its services want 64, and with this 128"));
    cluster_clear(&c);
}

static void a_plan_says_it_beforehand(void **state)
{
    static const char yaml[] = "job: shop\nnamespace: team-a\nservices: [{name: web, driver: exec, count: 3, config: {command: /x}}]\n";
    struct cluster c;
    struct job job;
    struct plan plan;
    struct error err;
    struct problem_list problems = {0};
    cluster_init(&c, 1);
    assert_int_equal(job_from_yaml(yaml, sizeof yaml - 1, NULL, &job, &problems), 0);
    assert_int_equal(core_plan(c.core, &job, c.now, &plan, &err), -1);
    assert_non_null(strstr(err.text, "there is no namespace team-a"));
    put(&c, "team-a", (struct quota){.replicas = 2});
    assert_int_equal(core_plan(c.core, &job, c.now, &plan, &err), -1);
    assert_non_null(strstr(err.text, "allows 2 replicas"));
    put(&c, "team-a", (struct quota){.replicas = 3});
    assert_int_equal(core_plan(c.core, &job, c.now, &plan, &err), 0);
    assert_int_equal(plan.steps.n, 3);
    type_clear(&plan_type, &plan);
    type_clear(&job_type, &job);
    cluster_clear(&c);
}

static void rules_are_for_their_namespaces(void **state)
{
    static const char yaml[] = "name: x\nrules:\n  - {allow: [read, submit], namespaces: [\"team-*\"]}\n"
                               "  - {allow: logs, services: \"web-*\", namespaces: ops}\n  - {allow: [scale, drain]}\n"
                               "  - {allow: secrets, namespaces: \"*\"}\n";
    struct role role = {0};
    struct problem_list problems = {0};
    struct grant g = {0};
    assert_int_equal(type_from_yaml(&role_type, yaml, sizeof yaml - 1, &role, &problems), 0);
    grant_add_role(&g, &role);
    assert_true(grant_allows_service(&g, RIGHT_SUBMIT, "team-a.web"));
    assert_false(grant_allows_service(&g, RIGHT_SUBMIT, "team.web"));
    assert_false(grant_allows_service(&g, RIGHT_SUBMIT, "web"));
    assert_false(grant_allows_service(&g, RIGHT_SUBMIT, "team-a"));
    assert_true(grant_allows_service(&g, RIGHT_LOGS, "ops.web-1"));
    assert_false(grant_allows_service(&g, RIGHT_LOGS, "ops.db"));
    assert_false(grant_allows_service(&g, RIGHT_LOGS, "web-1"));
    assert_true(grant_allows_service(&g, RIGHT_SCALE, "anything"));
    assert_false(grant_allows_service(&g, RIGHT_SCALE, "team-a.web"));
    assert_true(grant_allows_all(&g, RIGHT_DRAIN));
    assert_true(grant_allows_all(&g, RIGHT_SECRETS));
    assert_true(grant_allows_in(&g, RIGHT_READ, "team-b"));
    assert_false(grant_allows_in(&g, RIGHT_READ, "default"));
    grant_clear(&g);
    type_clear(&role_type, &role);
    static const char *const bad[] = {
        "name: x\nrules: [{allow: drain, namespaces: team-a}]\n", "name: x\nrules: [{allow: \"*\", namespaces: team-a}]\n",
        "name: x\nrules: [{allow: read, namespaces: Team}]\n", "name: x\nrules: [{allow: secrets, services: web}]\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(type_from_yaml(&role_type, bad[i], strlen(bad[i]), &role, &problems), -1);
        problem_list_clear(&problems);
        type_clear(&role_type, &role);
    }
}

static void the_policy_of_the_cluster_keeps_them_apart(void **state)
{
    struct str_list patterns = {0};
    str_list_add(&patterns, "team*");
    str_list_add(&patterns, "ops.web-*");
    assert_true(policy_matches_service(&patterns, "team-a"));
    assert_false(policy_matches_service(&patterns, "team-a.web"));
    assert_true(policy_matches_service(&patterns, "ops.web-1"));
    assert_false(policy_matches_service(&patterns, "web-1"));
    str_list_clear(&patterns);
    str_list_add(&patterns, "*");
    assert_true(policy_matches_service(&patterns, "team-a.web"));
    str_list_clear(&patterns);
}

/* Servers of the release before would not see a difference where there is one. */
static void what_older_servers_cannot_read_waits_for_them(void **state)
{
    struct job job = {.name = (char[]){"shop"}};
    struct role role = {0};
    assert_int_equal(command_job_level(&job), 1);
    job.namespace = (char[]){"team-a"};
    assert_int_equal(command_job_level(&job), NAMESPACES_LEVEL);
    assert_int_equal(command_kind_level(COMMAND_NAMESPACE_PUT), NAMESPACES_LEVEL);
    assert_int_equal(command_name_level("web"), 0);
    assert_int_equal(command_name_level("team-a.web"), NAMESPACES_LEVEL);
    struct role_rule *rule = list_add((struct list *)&role.rules, role_type.fields[1].type);
    assert_true(command_role_level(&role) < NAMESPACES_LEVEL);
    str_list_add(&rule->namespaces, "team-a");
    assert_int_equal(command_role_level(&role), NAMESPACES_LEVEL);
    type_clear(&role_type, &role);
}

static void a_snapshot_keeps_them(void **state)
{
    struct cluster c;
    CLEANUP_BUF struct buf bytes = {0}, again = {0};
    struct error err;
    cluster_init(&c, 1);
    put(&c, "team-a", (struct quota){.replicas = 4, .cpus = 1.5});
    put_secret(&c, "team-a.key");
    submit(&c, "team-a", "web", "");
    cluster_decide(&c);
    core_snapshot(c.core, &bytes);
    struct core *other = core_new();
    assert_int_equal(core_restore(other, bytes.data, bytes.len, &err), 0);
    assert_int_equal(namespace_find(core_access(other), "team-a")->quota.replicas, 4);
    core_snapshot(other, &again);
    assert_int_equal(bytes.len, again.len);
    assert_memory_equal(bytes.data, again.data, bytes.len);
    core_free(other);
    cluster_clear(&c);
}

static void what_users_see_has_names_without_namespaces(void **state)
{
    CLEANUP_BUF struct buf out = {0};
    struct alloc a = {.id = (char[]){"1"}, .service = (char[]){"team-a.web"}, .job = (char[]){"team-a.shop"}};
    type_show_json(&alloc_type, &a, &out);
    assert_non_null(strstr(out.data, "\"service\":\"web\",\"namespace\":\"team-a\",\"job\":\"shop\""));
    buf_clear(&out);
    type_to_json(&alloc_type, &a, &out);
    assert_non_null(strstr(out.data, "\"service\":\"team-a.web\""));
    buf_clear(&out);
    struct event e = {.kind = (char[]){"job"}, .subject = (char[]){"team-a.shop"}};
    event_show(&e, &out);
    assert_non_null(strstr(out.data, "\"subject\":\"shop\""));
    assert_non_null(strstr(out.data, "\"namespace\":\"team-a\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_qualified_and_taken_apart),
        cmocka_unit_test(a_namespace_has_to_be_there),
        cmocka_unit_test(names_of_two_namespaces_do_not_meet),
        cmocka_unit_test(services_wait_for_those_of_their_own_job),
        cmocka_unit_test(a_way_in_has_one_service_in_all_namespaces),
        cmocka_unit_test(secrets_are_for_services_of_their_namespace),
        cmocka_unit_test(a_quota_refuses_what_is_too_much),
        cmocka_unit_test(what_was_stopped_counts_until_it_has_ended),
        cmocka_unit_test(a_quota_below_what_is_wanted_refuses_growth_alone),
        cmocka_unit_test(what_a_namespace_wants_leaves_out_names_around_it),
        cmocka_unit_test(services_on_every_node_count_by_the_nodes),
        cmocka_unit_test(one_that_finds_no_node_counts_once),
        cmocka_unit_test(a_plan_says_it_beforehand),
        cmocka_unit_test(rules_are_for_their_namespaces),
        cmocka_unit_test(the_policy_of_the_cluster_keeps_them_apart),
        cmocka_unit_test(what_older_servers_cannot_read_waits_for_them),
        cmocka_unit_test(a_snapshot_keeps_them),
        cmocka_unit_test(what_users_see_has_names_without_namespaces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
