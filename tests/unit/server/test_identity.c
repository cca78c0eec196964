#include "test_server.h"

#include <string.h>

#include "base/timefmt.h"
#include "server/identity.h"
#include "server/secret.h"

#define SECRET "0123456789abcdef0123456789abcdef"

/* A table with the tokens "good" (deployer on web-*), and "old", which has expired. */
static struct access_table *table_with(int64_t now, struct access *access)
{
    struct access_table *t = access_table_new();
    struct role *role = list_add_zero((struct list *)&access->roles, &role_type);
    struct problem_list problems = {0};
    static const char yaml[] = "name: web\nrules: [{allow: [submit], services: [\"web-*\"]}]\n";
    assert_int_equal(type_from_yaml(&role_type, yaml, sizeof yaml - 1, role, &problems), 0);
    for (int i = 0; i < 2; i++) {
        char hash[SECRET_HASH_SIZE];
        struct access_token *token = list_add_zero((struct list *)&access->tokens, &access_token_type);
        secret_hash(SECRET, hash);
        token->id = mem_strdup(i ? "old" : "good");
        token->name = mem_strdup(i ? "robot" : "ci");
        token->secret_hash = mem_strdup(hash);
        token->expires_at = i ? now - 1 : 0;
        str_list_add(&token->roles, "web");
    }
    access_table_set(t, access);
    access_table_set_in_cluster(t, true);
    return t;
}

struct sender { struct http_request http; struct http_header headers[2]; struct tls_peer tls; char *names[1]; };

static struct http_request *sender(struct sender *s, const char *authorization, const char *certificate, const char *agent)
{
    size_t n = 0;
    *s = (struct sender){.http = {.peer = "10.1.2.3:999"}};
    if (authorization)
        s->headers[n++] = (struct http_header){"Authorization", authorization};
    if (agent)
        s->headers[n++] = (struct http_header){HEADER_AGENT, agent};
    s->http.headers = (struct http_headers){.items = s->headers, .count = n};
    s->names[0] = (char *)(uintptr_t)certificate;
    s->tls = (struct tls_peer){.names = s->names, .name_count = 1};
    s->http.tls = certificate ? &s->tls : NULL;
    return &s->http;
}

static void who_shows_nothing_is_nobody(void **state)
{
    struct access access = {0};
    struct access_table *t = table_with(1000, &access);
    struct identity who;
    struct sender s;
    struct error err = {0};
    assert_int_equal(identity_of_request(t, sender(&s, NULL, NULL, NULL), RIGHT_READ, &who, &err), 0);
    assert_int_equal(who.kind, IDENTITY_NOBODY);
    assert_int_equal(identity_check(&who, RIGHT_READ, &err), -1);
    assert_int_equal(err.code, ERROR_UNAUTHENTICATED);
    assert_int_equal(identity_check(&who, RIGHT_PUBLIC, &err), 0);
    /* Nor does a word of one's own make an agent of anybody, or its own host an operator once there is a cluster. */
    assert_int_equal(identity_of_request(t, sender(&s, NULL, NULL, "n1"), RIGHT_AGENT, &who, &err), 0);
    assert_int_equal(who.kind, IDENTITY_NOBODY);
    sender(&s, NULL, NULL, NULL);
    s.http.peer = "127.0.0.1:5";
    assert_int_equal(identity_of_request(t, &s.http, RIGHT_CLUSTER, &who, &err), 0);
    assert_int_equal(who.kind, IDENTITY_NOBODY);
    access_table_set_in_cluster(t, false);
    assert_int_equal(identity_of_request(t, &s.http, RIGHT_CLUSTER, &who, &err), 0);
    assert_int_equal(who.kind, IDENTITY_LOCAL);
    s.http.peer = "10.1.2.3:5";
    assert_int_equal(identity_of_request(t, &s.http, RIGHT_CLUSTER, &who, &err), 0);
    assert_int_equal(who.kind, IDENTITY_NOBODY);
    access_table_free(t);
    type_clear(&access_type, &access);
}

static void certificates_tell_agents_and_servers(void **state)
{
    static const struct { const char *name, *agent; enum identity_kind kind; const char *who; } cases[] = {
        {"DNS:7.server.mentat", NULL, IDENTITY_SERVER, "7"},
        {"DNS:n1.agent.mentat", NULL, IDENTITY_AGENT, "n1"},
        {"DNS:7.server.mentat", "n2", IDENTITY_AGENT, "n2"},     /* it hands on an agent's request */
        {"DNS:n1.agent.mentat", "n2", IDENTITY_AGENT, "n1"},     /* that word is taken from servers alone */
        {"DNS:n1.agent.mentat.evil", NULL, IDENTITY_NOBODY, ""},
        {"DNS:a.b.server.mentat", NULL, IDENTITY_NOBODY, ""},
        {"DNS:.server.mentat", NULL, IDENTITY_NOBODY, ""},
        {"IP:7.server.mentat", NULL, IDENTITY_NOBODY, ""},
        {"DNS:web", NULL, IDENTITY_NOBODY, ""},
    };
    struct access access = {0};
    struct access_table *t = table_with(1000, &access);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct identity who;
        struct sender s;
        struct error err = {0};
        assert_int_equal(identity_of_request(t, sender(&s, NULL, cases[i].name, cases[i].agent), RIGHT_READ, &who, &err), 0);
        assert_int_equal(who.kind, cases[i].kind);
        assert_string_equal(who.name, cases[i].who);
    }
    access_table_free(t);
    type_clear(&access_type, &access);
}

static void tokens_are_known_until_they_are_revoked(void **state)
{
    static const char *const bad[] = {"Bearer good", "Bearer good.", "Bearer good.0123", "Bearer other." SECRET, "Bearer ." SECRET,
                                      "Bearer old." SECRET, "Basic good." SECRET, "good." SECRET, ""};
    struct access access = {0};
    struct access_table *t = table_with(time_now_ms(), &access);
    struct identity who;
    struct sender s;
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(identity_of_request(t, sender(&s, bad[i], NULL, NULL), RIGHT_READ, &who, &err), -1);
        assert_int_equal(err.code, strstr(bad[i], "other.") ? ERROR_NOT_FOUND : ERROR_UNAUTHENTICATED);
        assert_null(strstr(err.text, SECRET));
        identity_clear(&who);
    }
    /* A token wins over what hands it on. */
    assert_int_equal(identity_of_request(t, sender(&s, "Bearer good." SECRET, "DNS:7.server.mentat", NULL), RIGHT_READ, &who, &err), 0);
    assert_int_equal(who.kind, IDENTITY_TOKEN);
    assert_string_equal(who.name, "ci");
    assert_int_equal(identity_check(&who, RIGHT_SUBMIT, &err), 0);
    assert_int_equal(identity_check(&who, RIGHT_READ, &err), -1);
    assert_int_equal(err.code, ERROR_DENIED);
    assert_int_equal(access_holder_check(who.holder, time_now_ms(), &err), 0);
    list_remove((struct list *)&access.tokens, &access_token_type, 0);
    access_table_set(t, &access);
    assert_int_equal(access_holder_check(who.holder, time_now_ms(), &err), -1);
    identity_clear(&who);
    assert_int_equal(identity_of_request(t, sender(&s, "Bearer good." SECRET, NULL, NULL), RIGHT_READ, &who, &err), -1);
    access_table_free(t);
    type_clear(&access_type, &access);
}

static void another_role_is_another_right(void **state)
{
    struct access access = {0};
    struct access_table *t = table_with(time_now_ms(), &access);
    struct error err = {0};
    struct access_holder *h = access_table_find(t, "good." SECRET, time_now_ms(), &err);
    assert_true(grant_allows_service(&h->grant, RIGHT_SUBMIT, "web-1"));
    access_table_set(t, &access);                       /* nothing changed for it */
    assert_int_equal(access_holder_check(h, time_now_ms(), &err), 0);
    free(access.roles.v[0].rules.v[0].services.v[0]);
    access.roles.v[0].rules.v[0].services.v[0] = mem_strdup("db");
    access_table_set(t, &access);
    assert_int_equal(access_holder_check(h, time_now_ms(), &err), -1);
    access_holder_free(h);
    h = access_table_find(t, "good." SECRET, time_now_ms(), &err);
    assert_false(grant_allows_service(&h->grant, RIGHT_SUBMIT, "web-1"));
    access_holder_free(h);
    access_table_free(t);
    type_clear(&access_type, &access);
}

int test_identity(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_shows_nothing_is_nobody),
        cmocka_unit_test(certificates_tell_agents_and_servers),
        cmocka_unit_test(tokens_are_known_until_they_are_revoked),
        cmocka_unit_test(another_role_is_another_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
