/* Secrets: which versions there are, who may have them, what a change does, and that all of it is kept. The core never sees a
 * value: what is sealed is any text. */
#include <string.h>

#include "../cmocka_all.h"
#include "cluster.h"
#include "model/secret.h"

static bool put_at(struct cluster *c, const char *name, uint64_t version, const char *services)
{
    struct command cmd;
    command_init(&cmd, COMMAND_SECRET_PUT, c->now, NULL, "root");
    struct command_secret_put *p = cmd.payload;
    p->name = mem_strdup(name);
    p->sealed = mem_printf("sealed-%llu", (unsigned long long)version);
    p->version = version;
    p->bytes = 3;
    p->set_services = services != NULL;
    if (services)
        str_list_add(&p->services, services);
    return cluster_apply(c, &cmd);
}

static bool put(struct cluster *c, const char *name)
{
    return put_at(c, name, core_secret_next_version(c->core, name), NULL);
}

static bool delete(struct cluster *c, const char *name)
{
    struct command cmd;
    command_init(&cmd, COMMAND_SECRET_DELETE, c->now, NULL, "root");
    ((struct command_secret_delete *)cmd.payload)->name = mem_strdup(name);
    return cluster_apply(c, &cmd);
}

static const struct secret *find(const struct cluster *c, const char *name)
{
    return secrets_find(core_secrets(c->core), name);
}

static void versions_count_up_and_none_comes_again(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    assert_false(put_at(&c, "No-Name", 1, NULL));
    assert_false(put_at(&c, "key", 2, NULL));
    assert_int_equal(c.error.code, ERROR_CONFLICT);
    for (int i = 0; i < 12; i++)
        assert_true(put(&c, "key"));
    assert_int_equal(find(&c, "key")->versions.n, 10);
    assert_int_equal(secret_version(find(&c, "key"), 0)->version, 12);
    assert_null(secret_version(find(&c, "key"), 2));
    assert_string_equal(secret_version(find(&c, "key"), 3)->sealed, "sealed-3");
    assert_true(delete(&c, "key"));
    assert_false(delete(&c, "key"));
    assert_int_equal(c.error.code, ERROR_NOT_FOUND);
    /* What was sealed for one of its versions is not that of a later one. */
    assert_int_equal(core_secret_next_version(c.core, "key"), 13);
    cluster_clear(&c);
}

static void a_service_gets_what_is_for_it(void **state)
{
    struct cluster c;
    cluster_init(&c, 1);
    assert_false(cluster_submit(&c, "web", "    secrets: [{name: key, file: key}]\n"));
    assert_non_null(strstr(c.error.text, "there is no secret key"));
    assert_true(put_at(&c, "key", 1, "api-*"));
    assert_false(cluster_submit(&c, "web", "    secrets: [{name: key, file: key}]\n"));
    assert_int_equal(c.error.code, ERROR_DENIED);
    assert_true(put_at(&c, "key", 2, "*"));
    assert_true(cluster_submit(&c, "web", "    secrets: [{name: key, file: key}]\n"));
    assert_false(delete(&c, "key"));
    assert_non_null(strstr(c.error.text, "service web names secret key"));
    assert_true(cluster_delete(&c, "web", true));
    assert_true(delete(&c, "key"));
    cluster_clear(&c);
}

/* The version of `key` that the agent of the first node is told since an index; 0: it is told nothing. */
static int told(struct cluster *c, uint64_t since)
{
    struct agent_work work;
    int version = 0;
    assert_int_equal(core_agent_work(c->core, cluster_node_id(0), since, &work), 0);
    for (uint32_t i = 0; i < work.secrets.n; i++)
        version = atoi(kv_get(&work.secrets.v[i].secrets, "key"));
    type_clear(&agent_work_type, &work);
    return version;
}

static void a_change_restarts_or_is_told(void **state)
{
    static const struct { const char *extra; bool restarts; } cases[] = {
        {"    secrets: [{name: key, file: key}]\n", true},
        {"    secrets: [{name: key, file: key, on_change: signal}]\n", false},
        {"    secrets: [{name: key, file: key, on_change: none}]\n", false},
        {"    mode: task\n    secrets: [{name: key, file: key}]\n", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cluster c;
        cluster_init(&c, 1);
        assert_true(put(&c, "key"));
        assert_true(cluster_submit(&c, "web", cases[i].extra));
        cluster_decide(&c);
        assert_int_equal(told(&c, 0), 1);
        cluster_report_all(&c, "web", ALLOC_RUNNING);
        uint64_t before = core_index(c.core);
        int64_t generation = cluster_wanted(&c, "web", 0)->generation;
        assert_true(put(&c, "other"));
        assert_int_equal(told(&c, before), 0);
        assert_true(put(&c, "key"));
        cluster_decide(&c);
        assert_int_equal(cluster_wanted(&c, "web", 0)->generation > generation, cases[i].restarts);
        assert_int_equal(told(&c, before), 2);
        cluster_clear(&c);
    }
}

static void a_key_of_the_cluster_changes_what_is_sealed_alone(void **state)
{
    struct cluster c;
    struct command cmd;
    cluster_init(&c, 1);
    assert_true(put(&c, "key"));
    command_init(&cmd, COMMAND_SECRET_RESEAL, c.now, NULL, NULL);
    struct command_secret_reseal *p = cmd.payload;
    p->cluster_key = mem_strdup("00ff");
    kv_set(&p->secrets, "key/1", "anew");
    kv_set(&p->secrets, "key/7", "of no version");
    kv_set(&p->secrets, "gone/1", "of no secret");
    kv_set(&p->secrets, "no place", "x");
    assert_true(cluster_apply(&c, &cmd));
    assert_string_equal(secret_version(find(&c, "key"), 1)->sealed, "anew");
    assert_int_equal(find(&c, "key")->versions.n, 1);
    assert_string_equal(core_secrets(c.core)->cluster_key, "00ff");
    cluster_clear(&c);
}

static bool add_key(struct cluster *c, const char *id, const char *drop)
{
    struct command cmd;
    command_init(&cmd, COMMAND_IDENTITY_KEY, c->now, NULL, NULL);
    struct command_identity_key *p = cmd.payload;
    p->key = (struct identity_key){.id = mem_strdup(id), .public_key = mem_strdup("x.y"), .sealed = mem_strdup("sealed")};
    if (drop)
        str_list_add(&p->drop, drop);
    return cluster_apply(c, &cmd);
}

static void it_is_all_kept(void **state)
{
    struct cluster c;
    CLEANUP_BUF struct buf bytes = {0}, again = {0};
    struct error err;
    cluster_init(&c, 1);
    for (const char *const *name = (const char *const[]){"m", "a", "z", "b", NULL}; *name; name++)
        assert_true(put(&c, *name));
    assert_true(add_key(&c, "k1", NULL));
    assert_false(add_key(&c, "k1", NULL));
    assert_true(add_key(&c, "k2", "k1"));
    assert_int_equal(core_secrets(c.core)->keys.n, 1);
    core_snapshot(c.core, &bytes);
    if (core_restore(c.core, bytes.data, bytes.len, &err))
        fail_msg("%s", err.text);
    core_snapshot(c.core, &again);
    assert_int_equal(bytes.len, again.len);
    assert_memory_equal(bytes.data, again.data, bytes.len);
    const struct secret_list *all = &core_secrets(c.core)->secrets;
    assert_int_equal(all->n, 4);
    for (uint32_t i = 1; i < all->n; i++)
        assert_true(strcmp(all->v[i - 1].name, all->v[i].name) < 0);
    cluster_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_count_up_and_none_comes_again),
        cmocka_unit_test(a_service_gets_what_is_for_it),
        cmocka_unit_test(a_change_restarts_or_is_told),
        cmocka_unit_test(a_key_of_the_cluster_changes_what_is_sealed_alone),
        cmocka_unit_test(it_is_all_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
