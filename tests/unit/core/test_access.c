/* Roles and tokens: what is taken, what is refused, and that it is kept. */
#include <string.h>

#include "../cmocka_all.h"
#include "cluster.h"
#include "model/access.h"

static bool role_set(struct cluster *c, const char *yaml)
{
    struct command cmd;
    struct problem_list problems = {0};
    command_init(&cmd, COMMAND_ROLE_SET, c->now, NULL, "root");
    struct command_role_set *p = cmd.payload;
    int rc = type_from_yaml(&role_type, yaml, strlen(yaml), &p->role, &problems);
    assert_int_equal(rc, 0);
    return cluster_apply(c, &cmd);
}

static bool role_delete(struct cluster *c, const char *name)
{
    struct command cmd;
    command_init(&cmd, COMMAND_ROLE_DELETE, c->now, NULL, "root");
    ((struct command_role_delete *)cmd.payload)->name = mem_strdup(name);
    return cluster_apply(c, &cmd);
}

static bool token_create(struct cluster *c, const char *id, const char *name, const char *role, int64_t expires_at)
{
    struct command cmd;
    command_init(&cmd, COMMAND_TOKEN_CREATE, c->now, NULL, "root");
    struct access_token *t = &((struct command_token_create *)cmd.payload)->token;
    t->id = mem_strdup(id);
    t->name = mem_strdup(name);
    t->secret_hash = mem_strdup("00ff");
    t->expires_at = expires_at;
    if (role)
        str_list_add(&t->roles, role);
    return cluster_apply(c, &cmd);
}

static bool token_revoke(struct cluster *c, const char *id)
{
    struct command cmd;
    command_init(&cmd, COMMAND_TOKEN_REVOKE, c->now, NULL, "root");
    ((struct command_token_revoke *)cmd.payload)->id = mem_strdup(id);
    return cluster_apply(c, &cmd);
}

static void tokens_carry_roles_that_are_there(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    assert_true(token_create(&c, "t1", "ci", "deployer", 0));
    assert_false(token_create(&c, "t1", "other", "reader", 0));
    assert_int_equal(c.error.code, ERROR_EXISTS);
    assert_false(token_create(&c, "t2", "ci", "web-team", 0));
    assert_non_null(strstr(c.error.text, "there is no role web-team"));
    assert_false(token_create(&c, "t2", "ci", NULL, 0));
    assert_false(token_create(&c, "t2", "", "reader", 0));
    assert_false(token_create(&c, "t2", "ci", "reader", c.now));
    assert_true(role_set(&c, "name: web-team\nrules: [{allow: [read]}, {allow: [submit], services: [\"web-*\"]}]\n"));
    assert_true(token_create(&c, "t2", "ci", "web-team", 0));
    assert_false(role_delete(&c, "web-team"));
    assert_non_null(strstr(c.error.text, "token ci has role web-team"));
    assert_true(token_revoke(&c, "t2"));
    assert_false(token_revoke(&c, "t2"));
    assert_int_equal(c.error.code, ERROR_NOT_FOUND);
    assert_true(role_delete(&c, "web-team"));
    assert_false(role_delete(&c, "web-team"));
    assert_int_equal(core_access(c.core)->tokens.n, 1);
    assert_string_equal(core_access(c.core)->tokens.v[0].created_by, "root");
    cluster_clear(&c);
}

static void expired_tokens_are_forgotten_when_one_is_made(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    assert_true(token_create(&c, "t1", "a", "reader", c.now + 1000));
    assert_true(token_create(&c, "t2", "b", "reader", 0));
    cluster_pass(&c, 2000);
    assert_true(token_create(&c, "t3", "c", "reader", 0));
    assert_int_equal(core_access(c.core)->tokens.n, 2);
    assert_string_equal(core_access(c.core)->tokens.v[0].id, "t2");
    cluster_clear(&c);
}

static void a_role_that_is_always_there_cannot_be_changed(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    assert_false(role_set(&c, "name: admin\nrules: [{allow: [read]}]\n"));
    assert_int_equal(c.error.code, ERROR_CONFLICT);
    assert_false(role_delete(&c, "reader"));
    cluster_clear(&c);
}

static void bad_roles_say_what_is_wrong(void **state)
{
    static const struct { const char *yaml, *says; } bad[] = {
        {"name: x\nrules: [{allow: [reed]}]\n", "\"reed\" is no right"},
        {"name: x\nrules: [{allow: [drain], services: [web]}]\n", "about the whole cluster"},
        {"name: x\nrules: [{allow: [\"*\"], services: [web]}]\n", "about the whole cluster"},
        {"name: x\nrules: [{allow: [agent]}]\n", "is no right"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct role role = {0};
        struct problem_list problems = {0};
        assert_int_equal(type_from_yaml(&role_type, bad[i].yaml, strlen(bad[i].yaml), &role, &problems), -1);
        assert_non_null(strstr(problems.v[0].message, bad[i].says));
        problem_list_clear(&problems);
        type_clear(&role_type, &role);
    }
}

static void grants_add_up(void **state)
{
    struct role role = {0};
    struct problem_list problems = {0};
    struct grant g = {0};
    static const char yaml[] = "name: x\nrules:\n  - {allow: [submit, logs], services: [\"web-*\", db]}\n  - allow: scale\n";
    assert_int_equal(type_from_yaml(&role_type, yaml, sizeof yaml - 1, &role, &problems), 0);
    assert_false(grant_allows(&g, RIGHT_READ));
    grant_add_role(&g, &role);
    assert_true(grant_allows(&g, RIGHT_SUBMIT));
    assert_false(grant_allows_all(&g, RIGHT_SUBMIT));
    assert_true(grant_allows_service(&g, RIGHT_SUBMIT, "web-1"));
    assert_true(grant_allows_service(&g, RIGHT_LOGS, "db"));
    assert_false(grant_allows_service(&g, RIGHT_LOGS, "db2"));
    assert_false(grant_allows_service(&g, RIGHT_SUBMIT, "*"));
    assert_true(grant_allows_service(&g, RIGHT_SCALE, "anything"));
    assert_false(grant_allows_all(&g, RIGHT_SCALE));
    assert_false(grant_allows(&g, RIGHT_EXEC));
    struct str_list nobody = {0}, admin = {0};
    str_list_add(&nobody, "nobody");
    str_list_add(&admin, "admin");
    grant_add_names(&g, &nobody, &(struct role_list){0});
    assert_false(grant_allows(&g, RIGHT_EXEC));
    grant_add_names(&g, &admin, &(struct role_list){0});
    str_list_clear(&nobody);
    str_list_clear(&admin);
    assert_true(grant_allows_all(&g, RIGHT_ACCESS));
    assert_false(grant_allows(&g, RIGHT_AGENT));
    assert_false(grant_allows(&g, RIGHT_UNSET));
    grant_clear(&g);
    type_clear(&role_type, &role);
}

static void a_snapshot_keeps_them(void **state)
{
    struct cluster c;
    CLEANUP_BUF struct buf bytes = {0}, again = {0};
    struct error err;
    cluster_init(&c, 1);
    assert_true(role_set(&c, "name: web-team\nrules: [{allow: [submit], services: [\"web-*\"]}]\n"));
    assert_true(token_create(&c, "t1", "ci", "web-team", c.now + 5000));
    core_snapshot(c.core, &bytes);
    struct core *other = core_new();
    assert_int_equal(core_restore(other, bytes.data, bytes.len, &err), 0);
    assert_true(type_equal(&access_type, core_access(c.core), core_access(other)));
    core_snapshot(other, &again);
    assert_memory_equal(bytes.data, again.data, bytes.len);
    core_free(other);
    cluster_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_carry_roles_that_are_there),
        cmocka_unit_test(expired_tokens_are_forgotten_when_one_is_made),
        cmocka_unit_test(a_role_that_is_always_there_cannot_be_changed),
        cmocka_unit_test(bad_roles_say_what_is_wrong),
        cmocka_unit_test(grants_add_up),
        cmocka_unit_test(a_snapshot_keeps_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
