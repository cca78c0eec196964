#include "../cmocka_all.h"

#include <string.h>

#include "agent/task_env.h"

struct world {
    struct service spec;
    struct alloc alloc;
    struct kv_list meta, peers;
    struct task_facts facts;
};

static int setup(void **state)
{
    struct world *w = NEW(struct world);
    type_init(&service_type, &w->spec);
    type_init(&alloc_type, &w->alloc);
    w->spec.driver = DRIVER_EXEC;
    w->alloc.id = mem_strdup("0123456789ab");
    w->alloc.service = mem_strdup("web");
    w->alloc.version = 7;
    w->alloc.replica = 2;
    struct alloc_port *p = list_add((struct list *)&w->alloc.ports, &alloc_port_type);
    p->name = mem_strdup("http-api");
    p->port = 8080;
    p->host = 23456;
    kv_set(&w->meta, "zone", "a1");
    kv_set(&w->peers, "http-api", "10.0.0.1:1,10.0.0.1:2");
    w->facts = (struct task_facts){.spec = &w->spec, .alloc = &w->alloc, .node_name = "n1", .ip = "10.0.0.1",
                                   .node_meta = &w->meta, .peers = &w->peers};
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    type_clear(&service_type, &w->spec);
    type_clear(&alloc_type, &w->alloc);
    kv_clear(&w->meta);
    kv_clear(&w->peers);
    free(w);
    return 0;
}

static void expect(struct world *w, const char *in, const char *out)
{
    CLEANUP_BUF struct buf b = {0};
    struct error err = {0};
    if (task_interpolate(&w->facts, in, &b, &err) < 0)
        fail_msg("%s: %s", in, err.text);
    assert_string_equal(b.data ? b.data : "", out);
}

static void expect_error(struct world *w, const char *in, const char *part)
{
    CLEANUP_BUF struct buf b = {0};
    struct error err = {0};
    assert_int_equal(task_interpolate(&w->facts, in, &b, &err), -1);
    assert_int_equal(err.code, ERROR_INVALID);
    assert_non_null(strstr(err.text, part));
}

static void every_variable_is_replaced(void **state)
{
    struct world *w = *state;
    expect(w, "${replica}/${ip}/${node.name}/${port.http-api}/${meta.zone}", "2/10.0.0.1/n1/23456/a1");
    expect(w, "--peers=${peers.http-api}", "--peers=10.0.0.1:1,10.0.0.1:2");
    expect(w, "", "");
    w->spec.driver = DRIVER_DOCKER;
    expect(w, "${port.http-api}", "8080");
}

static void what_is_a_shells_stays(void **state)
{
    struct world *w = *state;
    expect(w, "echo ${HOME} $1 $$ ${ ${unclosed", "echo ${HOME} $1 $$ ${ ${unclosed");
    expect(w, "$${replica} ${replica}", "${replica} 2");
    expect(w, "$", "$");
}

static void unknown_ports_and_keys_are_errors_that_say_what_to_do(void **state)
{
    struct world *w = *state;
    expect_error(w, "${port.grpc}", "add it under `ports`");
    expect_error(w, "${peers.grpc}", "add it under `ports`");
    expect_error(w, "x ${meta.rack} y", "n1 has no such meta key");
}

static void the_environment_holds_the_mentat_variables_over_the_users(void **state)
{
    struct world *w = *state;
    kv_set(&w->spec.env, "A", "service");
    kv_set(&w->spec.env, "B", "on ${node.name}");
    kv_set(&w->spec.env, "MENTAT_REPLICA", "99");
    kv_set(&w->spec.config.env, "A", "config");
    struct kv_list env = {0};
    struct error err = {0};
    assert_int_equal(task_env(&w->facts, &env, &err), 0);
    static const char *const expected[][2] = {
        {"A", "config"}, {"B", "on n1"}, {"MENTAT_REPLICA", "2"}, {"MENTAT_SERVICE", "web"}, {"MENTAT_NODE", "n1"},
        {"MENTAT_ALLOC_ID", "0123456789ab"}, {"MENTAT_IP", "10.0.0.1"}, {"MENTAT_VERSION", "7"},
        {"MENTAT_PORT_HTTP_API", "23456"}, {"MENTAT_PEERS_HTTP_API", "10.0.0.1:1,10.0.0.1:2"},
    };
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        const char *value = kv_get(&env, expected[i][0]);
        assert_non_null(value);
        assert_string_equal(value, expected[i][1]);
    }
    assert_string_equal(kv_get(&env, "MENTAT_NAMESPACE"), "default");
    kv_clear(&env);
    char *own = w->alloc.service;
    w->alloc.service = (char[]){"team-a.web"};
    assert_int_equal(task_env(&w->facts, &env, &err), 0);
    assert_string_equal(kv_get(&env, "MENTAT_SERVICE"), "web");
    assert_string_equal(kv_get(&env, "MENTAT_NAMESPACE"), "team-a");
    w->alloc.service = own;
    kv_clear(&env);
    kv_set(&w->spec.env, "C", "${port.no}");
    assert_int_equal(task_env(&w->facts, &env, &err), -1);
    assert_non_null(strstr(err.text, "env.C"));
    kv_clear(&env);
}

static void each_replica_has_its_own_volume_below_the_root(void **state)
{
    struct world *w = *state;
    static const struct { const char *source, *path; } rows[] = {
        {"/mnt/v/web", "/mnt/v/web/2"},
        {"/mnt/v/web/", "/mnt/v/web/2"},
        {"web", "/mnt/v/web/2"},
        {"/mnt/v/web-${replica}/x", "/mnt/v/web-2/x"},
        {"/mnt/v/web/${replica}/.", "/mnt/v/web/2"},
        {"/mnt//v/./web//.x/", "/mnt/v/web/.x/2"},
    };
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct volume v = {.source = mem_strdup(rows[i].source)};
        char *path = NULL;
        assert_int_equal(task_volume_path(&w->facts, "/mnt/v", &v, &path, &err), 0);
        assert_string_equal(path, rows[i].path);
        free(path);
        free(v.source);
    }
}

static void a_volume_cannot_leave_the_root(void **state)
{
    struct world *w = *state;
    static const char *const rows[] = {"/etc", "/mnt/v/../../etc", "/mnt/volumes", "/mnt/v", "/mnt/v/.", "/", "..", "a/../../b"};
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct volume v = {.source = mem_strdup(rows[i])};
        char *path = NULL;
        assert_int_equal(task_volume_path(&w->facts, "/mnt/v", &v, &path, &err), -1);
        assert_int_equal(err.code, ERROR_DENIED);
        free(v.source);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_variable_is_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_a_shells_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(unknown_ports_and_keys_are_errors_that_say_what_to_do, setup, teardown),
        cmocka_unit_test_setup_teardown(the_environment_holds_the_mentat_variables_over_the_users, setup, teardown),
        cmocka_unit_test_setup_teardown(each_replica_has_its_own_volume_below_the_root, setup, teardown),
        cmocka_unit_test_setup_teardown(a_volume_cannot_leave_the_root, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
