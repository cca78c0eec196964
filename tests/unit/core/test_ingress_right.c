/* The right to take requests from outside: who has it, who gives it, and how it ends. */
#include <string.h>

#include "../cmocka_all.h"
#include "cluster.h"

#define HOUR_MS (3600 * 1000LL)
#define ASKS true
#define IS_PLAIN false

/* By an agent that proved who it is. True: it is an ingress node now. */
static bool comes(struct cluster *c, unsigned node, const char *name, bool asks)
{
    struct command cmd;
    command_init(&cmd, COMMAND_NODE_REGISTER, c->now, NULL, NULL);
    struct command_node_register *p = cmd.payload;
    p->by_right = true;
    p->node.id = mem_strdup(cluster_node_id(node));
    p->node.name = mem_strdup(name);
    p->node.cpus = 1;
    p->node.memory_mb = 1024;
    p->node.ingress = asks;
    assert_true(cluster_apply(c, &cmd));
    return core_node(c->core, cluster_node_id(node))->ingress;
}

static void make_token(struct cluster *c, const char *id, bool ingress)
{
    struct command cmd;
    command_init(&cmd, COMMAND_AGENT_TOKEN, c->now, NULL, "somebody");
    ((struct command_join_token *)cmd.payload)->token = (struct join_token){
        .id = mem_strdup(id), .secret_hash = mem_strdup("hash"), .expires_at = c->now + HOUR_MS, .agents = true, .uses = 9,
        .ingress = ingress};
    assert_true(cluster_apply(c, &cmd));
}

static bool let(struct cluster *c, unsigned node)
{
    struct command cmd;
    command_init(&cmd, COMMAND_NODE_INGRESS, c->now, NULL, "somebody");
    *(struct command_node *)cmd.payload = (struct command_node){.node_id = mem_strdup(cluster_node_id(node))};
    return cluster_apply(c, &cmd);
}

static void begin(struct cluster *c)
{
    cluster_init(c, 0);
    cluster_level(c, COMMAND_LEVEL);
    make_token(c, "plain", false);
    make_token(c, "ingress", true);
}

static void the_word_of_an_agent_is_not_enough(void **state)
{
    struct cluster c;
    begin(&c);
    assert_true(cluster_enrol(&c, "a", "plain"));
    assert_false(comes(&c, 0, "a", IS_PLAIN));
    assert_false(let(&c, 0));
    assert_non_null(strstr(c.error.text, "set `ingress: true` in its agent.yaml first"));
    assert_false(comes(&c, 0, "a", ASKS));
    assert_true(cluster_event(&c, "but nobody let it"));
    struct ingress_problem_list l;
    core_ingress_problems(c.core, NULL, cluster_node_id(0), &l);
    assert_int_equal(l.n, 1);
    assert_non_null(strstr(l.v[0].problem, "mt node ingress a"));
    list_clear((struct list *)&l, &ingress_problem_type);
    /* Nor as another node of its name, once its own is down. */
    cluster_node_state(&c, 0, NODE_DOWN);
    assert_false(comes(&c, 1, "a", ASKS));
    assert_true(let(&c, 1));
    assert_true(core_node(c.core, cluster_node_id(1))->ingress);
    assert_true(cluster_event(&c, "it may take requests from outside by somebody"));
    assert_true(comes(&c, 1, "a", ASKS));
    core_ingress_problems(c.core, NULL, cluster_node_id(1), &l);
    assert_int_equal(l.n, 0);
    cluster_clear(&c);
}

static void a_token_says_what_its_nodes_may(void **state)
{
    struct cluster c;
    begin(&c);
    assert_true(cluster_enrol(&c, "a", "ingress"));
    assert_true(cluster_enrol(&c, "b", "ingress"));
    assert_true(comes(&c, 0, "a", ASKS));
    assert_false(comes(&c, 1, "b", IS_PLAIN));               /* which gives it up */
    assert_false(comes(&c, 1, "b", ASKS));
    /* A newer token says it anew, also of a node whose id somebody knows. */
    cluster_node_state(&c, 0, NODE_DOWN);
    assert_true(cluster_enrol(&c, "a", "plain"));
    assert_false(core_node(c.core, cluster_node_id(0))->ingress);
    assert_false(comes(&c, 0, "a", ASKS));
    cluster_clear(&c);
}

static void with_a_node_its_right_is_removed(void **state)
{
    struct cluster c;
    begin(&c);
    assert_true(cluster_enrol(&c, "a", "ingress"));
    assert_true(cluster_enrol(&c, "b", "ingress"));
    assert_true(comes(&c, 0, "a", ASKS));
    assert_true(comes(&c, 1, "b", ASKS));
    cluster_node_state(&c, 0, NODE_DOWN);
    cluster_node_state(&c, 1, NODE_DOWN);
    assert_true(cluster_remove_node(&c, 0, c.now + HOUR_MS));
    assert_true(cluster_remove_node(&c, 1, 0));              /* another host of this name has a certificate already */
    assert_false(comes(&c, 2, "a", ASKS));
    assert_true(comes(&c, 3, "b", ASKS));
    cluster_clear(&c);
}

static void who_was_an_ingress_node_before_stays_one(void **state)
{
    struct cluster c;
    cluster_init(&c, 0);
    cluster_add_ingress_node(&c, 0);
    cluster_level(&c, COMMAND_LEVEL);
    assert_true(comes(&c, 0, "n0", ASKS));
    cluster_node_state(&c, 0, NODE_DOWN);
    assert_true(comes(&c, 1, "n0", ASKS));                   /* it has the right by now, as all others have */
    cluster_clear(&c);
}

static void before_all_servers_know_of_it_tokens_settle_nothing(void **state)
{
    struct cluster c;
    cluster_init(&c, 0);
    cluster_level(&c, INGRESS_RIGHT_LEVEL - 1);
    cluster_add_ingress_node(&c, 0);
    cluster_node_state(&c, 0, NODE_DOWN);
    make_token(&c, "old", false);
    assert_true(cluster_enrol(&c, "n0", "old"));
    assert_true(core_node(c.core, cluster_node_id(0))->ingress);
    cluster_clear(&c);
}

static void add_authority(struct cluster *c, char digit, const char *sealed_key)
{
    struct command cmd;
    command_init(&cmd, COMMAND_AUTHORITY_SET, c->now, NULL, NULL);
    struct authority *a = &((struct command_authority_set *)cmd.payload)->authority;
    a->id = mem_strdup("0000000000000000000000000000000000000000000000000000000000000000");
    a->id[0] = digit;
    a->certificate = mem_strdup("certificate");
    a->sealed_key = mem_strdup(sealed_key);
    a->state = AUTHORITY_LEAVING;
    a->until = c->now + HOUR_MS;
    assert_true(cluster_apply(c, &cmd));
}

static void while_a_cluster_is_founded_who_comes_first_is_believed(void **state)
{
    struct cluster c;
    begin(&c);
    add_authority(&c, '1', "key");                           /* one that signed before */
    assert_false(comes(&c, 0, "a", ASKS));
    add_authority(&c, '2', NULL);
    assert_true(comes(&c, 1, "b", ASKS));
    assert_false(comes(&c, 2, "c", IS_PLAIN));
    assert_false(comes(&c, 2, "c", ASKS));
    cluster_node_state(&c, 2, NODE_DOWN);
    assert_false(comes(&c, 3, "c", ASKS));
    assert_true(cluster_enrol(&c, "d", "plain"));                /* who comes by a token may what that says */
    assert_false(comes(&c, 4, "d", ASKS));
    c.now += HOUR_MS;
    assert_false(comes(&c, 5, "e", ASKS));
    assert_true(comes(&c, 1, "b", ASKS));
    cluster_clear(&c);
}

static void restore(struct cluster *c, const struct buf *bytes)
{
    assert_true(cluster_send_chunk(c, "u", bytes, 0, bytes->len));
    assert_true(cluster_restore(c, "u", bytes));
}

static void a_restore_gives_back_no_right_that_was_taken(void **state)
{
    struct cluster c;
    CLEANUP_BUF struct buf bytes = {0};
    cluster_init(&c, 0);
    cluster_add_ingress_node(&c, 0);                         /* "n0", from before the right */
    cluster_level(&c, COMMAND_LEVEL);
    make_token(&c, "plain", false);
    make_token(&c, "ingress", true);
    assert_true(cluster_enrol(&c, "a", "ingress"));
    assert_true(cluster_enrol(&c, "b", "ingress"));
    assert_true(comes(&c, 1, "a", ASKS));
    assert_true(comes(&c, 2, "b", ASKS));
    core_snapshot(c.core, &bytes);
    cluster_node_state(&c, 1, NODE_DOWN);
    assert_true(cluster_remove_node(&c, 1, c.now + HOUR_MS));
    assert_true(cluster_enrol(&c, "a", "plain"));
    assert_false(comes(&c, 1, "a", ASKS));
    restore(&c, &bytes);
    assert_false(core_node(c.core, cluster_node_id(1))->ingress);
    assert_false(comes(&c, 1, "a", ASKS));
    for (unsigned i = 0; i < 3; i += 2)
        assert_true(core_node(c.core, cluster_node_id(i))->ingress);
    assert_true(comes(&c, 0, "n0", ASKS));
    assert_true(comes(&c, 2, "b", ASKS));
    assert_true(let(&c, 1));
    assert_true(comes(&c, 1, "a", ASKS));
    cluster_clear(&c);
}

static void where_nobody_is_asked_a_restore_takes_no_right(void **state)
{
    struct cluster c;
    CLEANUP_BUF struct buf bytes = {0};
    cluster_init(&c, 0);
    cluster_level(&c, COMMAND_LEVEL);
    cluster_add_ingress_node(&c, 0);
    core_snapshot(c.core, &bytes);
    cluster_node_state(&c, 0, NODE_DOWN);
    assert_true(cluster_remove_node(&c, 0, 0));
    restore(&c, &bytes);
    assert_true(core_node(c.core, cluster_node_id(0))->ingress);
    cluster_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_word_of_an_agent_is_not_enough),
        cmocka_unit_test(a_token_says_what_its_nodes_may),
        cmocka_unit_test(with_a_node_its_right_is_removed),
        cmocka_unit_test(who_was_an_ingress_node_before_stays_one),
        cmocka_unit_test(before_all_servers_know_of_it_tokens_settle_nothing),
        cmocka_unit_test(while_a_cluster_is_founded_who_comes_first_is_believed),
        cmocka_unit_test(a_restore_gives_back_no_right_that_was_taken),
        cmocka_unit_test(where_nobody_is_asked_a_restore_takes_no_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
