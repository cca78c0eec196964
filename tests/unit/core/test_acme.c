/* ACME: challenges of ingress nodes in the table, and what is told of certificates. */
#include <stdio.h>
#include <string.h>

#include "../cmocka_all.h"
#include "cluster.h"

struct said { int64_t seq; const char *token, *answer, *problem; int64_t expires_at; };

static void say(struct cluster *c, unsigned node, uint64_t applied, struct said said)
{
    struct command cmd;
    command_init(&cmd, COMMAND_INGRESS_REPORT, c->now, NULL, NULL);
    struct ingress_report *p = cmd.payload;
    p->node_id = mem_strdup(cluster_node_id(node));
    p->applied = applied;
    p->acme.seq = said.seq;
    if (said.token) {
        struct acme_challenge *a = list_add((struct list *)&p->acme.challenges, &acme_challenge_type);
        *a = (struct acme_challenge){mem_strdup("a.example"), mem_strdup(said.token), mem_strdup(said.answer), true};
    }
    struct acme_certificate *k = list_add((struct list *)&p->acme.certificates, &acme_certificate_type);
    *k = (struct acme_certificate){mem_strdup("a.example"), said.expires_at, mem_strdup(said.problem)};
    assert_true(cluster_apply(c, &cmd));
}

static uint64_t table_index(struct cluster *c)
{
    return core_changed(c->core, CORE_INGRESS, NULL);
}

/* "TOKEN=ANSWER", with "!" when it is ready. */
static const char *challenges(struct cluster *c)
{
    static char text[256];
    struct agent_ingress t;
    core_agent_ingress(c->core, &t);
    text[0] = '\0';
    for (uint32_t i = 0; i < t.challenges.n; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s=%s%s", i ? " " : "", t.challenges.v[i].token,
                 t.challenges.v[i].answer, t.challenges.v[i].ready ? "!" : "");
    type_clear(&agent_ingress_type, &t);
    return text;
}

static void begin(struct cluster *c)
{
    cluster_init(c, 7);
    cluster_add_ingress_node(c, 7);
    cluster_add_ingress_node(c, 8);
}

static void a_challenge_is_ready_when_all_nodes_answer(void **state)
{
    struct cluster c;
    begin(&c);
    say(&c, 7, 0, (struct said){5, "tok", "tok.print"});
    assert_string_equal(challenges(&c), "tok=tok.print");
    uint64_t with_it = table_index(&c);
    assert_int_equal(with_it, c.index);
    cluster_proxy(&c, 7, NULL);
    assert_string_equal(challenges(&c), "tok=tok.print");
    cluster_proxy_at(&c, 8, with_it, NULL);
    assert_string_equal(challenges(&c), "tok=tok.print!");
    assert_int_equal(table_index(&c), c.index);
    say(&c, 7, with_it, (struct said){6, "tok", "tok.print"});
    assert_string_equal(challenges(&c), "tok=tok.print!");
    say(&c, 7, with_it, (struct said){7});
    assert_string_equal(challenges(&c), "");
    assert_int_equal(table_index(&c), c.index);
    say(&c, 7, with_it, (struct said){6, "tok", "tok.print"});           /* late */
    assert_string_equal(challenges(&c), "");
    cluster_clear(&c);
}

static void a_node_that_is_lost_holds_nothing_up(void **state)
{
    struct cluster c;
    begin(&c);
    say(&c, 7, 0, (struct said){5, "tok", "tok.print"});
    cluster_proxy(&c, 7, NULL);
    cluster_node_state(&c, 8, NODE_DOWN);
    say(&c, 7, table_index(&c), (struct said){6, "tok", "tok.print"});
    assert_string_equal(challenges(&c), "tok=tok.print!");
    cluster_clear(&c);
}

static void a_clock_that_was_set_back_does_not_silence_a_node(void **state)
{
    struct cluster c;
    begin(&c);
    say(&c, 7, 0, (struct said){10000000, "tok", "tok.print"});
    say(&c, 7, 0, (struct said){9400001, "old", "old.print"});
    assert_string_equal(challenges(&c), "tok=tok.print");
    say(&c, 7, 0, (struct said){9400000, "new", "new.print"});
    assert_string_equal(challenges(&c), "new=new.print");
    cluster_clear(&c);
}

static void what_proxies_could_take_for_more_than_a_name_is_passed_over(void **state)
{
    static const struct said bad[] = {{5, "a b", "x"}, {5, "a", "x;y"}, {5, "a/../b", "x"}, {5, "", "x"}, {5, "a", ""}, {5, "a.b", "x"}};
    struct cluster c;
    begin(&c);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        say(&c, 7, 0, bad[i]);
        assert_string_equal(challenges(&c), "");
    }
    cluster_clear(&c);
}

static void certificates_and_their_lack_are_told_once(void **state)
{
    struct cluster c;
    begin(&c);
    say(&c, 7, 0, (struct said){1, .problem = "nobody answers"});
    assert_true(cluster_event(&c, "no certificate for a.example: nobody answers"));
    struct event_list news = {0};
    say(&c, 7, 0, (struct said){2, .problem = "nobody answers"});
    core_events(c.core, c.index - 1, INT64_MAX, UINT32_MAX, &news);
    assert_int_equal(news.n, 0);
    list_clear((struct list *)&news, &event_type);
    say(&c, 7, 0, (struct said){3, .expires_at = INT64_C(1795508356000)});
    assert_true(cluster_event(&c, "it has a certificate for a.example until 2026-11-24T"));
    cluster_clear(&c);
}

static void certificates_are_told_to_who_sees_the_service_of_their_host(void **state)
{
    struct cluster c;
    struct event_list news = {0};
    begin(&c);
    cluster_level(&c, INGRESS_APART_LEVEL);
    say(&c, 7, 0, (struct said){1, .problem = "nobody answers"});
    core_events(c.core, c.index - 1, INT64_MAX, UINT32_MAX, &news);
    assert_int_equal(news.n, 0);                                  /* no service has that host */
    assert_true(cluster_submit(&c, "web", "    ports: [{name: http, port: 80}]\n    ingress: [{host: a.example, port: http, tls: true}]\n"));
    say(&c, 7, 0, (struct said){2, .problem = "nobody answers yet"});
    core_events(c.core, c.index - 1, INT64_MAX, UINT32_MAX, &news);
    assert_int_equal(news.n, 1);
    assert_string_equal(news.v[0].service, "web");
    list_clear((struct list *)&news, &event_type);
    cluster_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_challenge_is_ready_when_all_nodes_answer),
        cmocka_unit_test(a_node_that_is_lost_holds_nothing_up),
        cmocka_unit_test(a_clock_that_was_set_back_does_not_silence_a_node),
        cmocka_unit_test(what_proxies_could_take_for_more_than_a_name_is_passed_over),
        cmocka_unit_test(certificates_and_their_lack_are_told_once),
        cmocka_unit_test(certificates_are_told_to_who_sees_the_service_of_their_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
