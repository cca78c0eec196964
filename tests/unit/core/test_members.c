/* Servers, join tokens, and a snapshot that takes the place of the state. */
#include <string.h>

#include "../cmocka_all.h"
#include "base/base64.h"
#include "base/random.h"
#include "cluster.h"

#define HOUR_MS (3600 * 1000LL)

static const char *cluster_name;         /* that set_member names */

static bool set_member(struct cluster *c, const char *id, const char *name, const char *address, const char *token)
{
    struct command cmd;
    command_init(&cmd, COMMAND_MEMBER_SET, c->now, NULL, NULL);
    struct command_member_set *p = cmd.payload;
    p->member = (struct member){.id = mem_strdup(id), .name = mem_strdup(name), .address = mem_strdup(address),
                                .raft_address = mem_strdup("10.0.0.1:4648"), .version = mem_strdup("1.0"), .level = 2};
    p->cluster = mem_strdup(cluster_name);
    if (token) {
        p->token_id = mem_strdup(token);
        p->token_hash = mem_strdup("hash");
    }
    return cluster_apply(c, &cmd);
}

static bool make_token(struct cluster *c, const char *id, int64_t expires_at)
{
    struct command cmd;
    command_init(&cmd, COMMAND_JOIN_TOKEN, c->now, NULL, "somebody");
    struct command_join_token *p = cmd.payload;
    p->token = (struct join_token){.id = mem_strdup(id), .secret_hash = mem_strdup("hash"), .expires_at = expires_at};
    return cluster_apply(c, &cmd);
}

static void servers_say_what_they_are_and_are_removed(void **state)
{
    struct cluster c;
    cluster_init(&c, 0);
    assert_int_equal(core_level(c.core), 1);
    assert_true(set_member(&c, "11", "s1", "10.0.0.1:4646", NULL));
    assert_true(set_member(&c, "22", "s2", "10.0.0.2:4646", NULL));
    assert_int_equal(core_level(c.core), 2);
    assert_true(cluster_event(&c, "it joined the cluster"));
    uint64_t before = core_changed(c.core, CORE_MEMBER, NULL);
    assert_true(set_member(&c, "22", "s2", "10.0.0.2:4646", NULL));
    assert_int_equal(core_changed(c.core, CORE_MEMBER, NULL), before);
    assert_true(set_member(&c, "22", "s2", "10.0.0.3:4646", NULL));
    assert_string_equal(core_member(c.core, "22")->address, "10.0.0.3:4646");
    assert_true(cluster_event(&c, "its address changed"));
    assert_false(set_member(&c, "33", "s2", "10.0.0.4:4646", NULL));
    assert_non_null(strstr(c.error.text, "mt cluster remove s2"));
    assert_false(set_member(&c, "abc", "s3", "10.0.0.4:4646", NULL));
    assert_false(set_member(&c, "33", "s3", "nowhere", NULL));
    struct command cmd;
    command_init(&cmd, COMMAND_MEMBER_REMOVE, c.now, NULL, NULL);
    ((struct command_member_remove *)cmd.payload)->id = mem_strdup("22");
    assert_true(cluster_apply(&c, &cmd));
    assert_null(core_member(c.core, "22"));
    assert_true(set_member(&c, "33", "s2", "10.0.0.4:4646", NULL));
    cluster_clear(&c);
}

static void a_join_token_is_good_once_and_for_a_while(void **state)
{
    struct cluster c;
    cluster_init(&c, 0);
    assert_false(make_token(&c, "t1", c.now));
    assert_true(make_token(&c, "t1", c.now + HOUR_MS));
    assert_true(make_token(&c, "t2", c.now + HOUR_MS));
    assert_false(make_token(&c, "t2", c.now + HOUR_MS));
    assert_false(set_member(&c, "11", "s1", "10.0.0.1:4646", "t9"));
    assert_int_equal(c.error.code, ERROR_DENIED);
    assert_null(core_member(c.core, "11"));
    assert_true(set_member(&c, "11", "s1", "10.0.0.1:4646", "t1"));
    assert_true(set_member(&c, "11", "s1", "10.0.0.1:4646", "t1"));      /* the answer was lost: asked again */
    assert_false(set_member(&c, "22", "s2", "10.0.0.2:4646", "t1"));
    assert_non_null(strstr(c.error.text, "used already"));
    assert_null(core_member(c.core, "22"));
    c.now += HOUR_MS;
    assert_false(set_member(&c, "22", "s2", "10.0.0.2:4646", "t2"));
    assert_non_null(strstr(c.error.text, "expired"));
    cluster_clear(&c);
}

static bool make_agent_token(struct cluster *c, const char *id, int64_t uses)
{
    struct command cmd;
    command_init(&cmd, COMMAND_AGENT_TOKEN, c->now, NULL, "somebody");
    ((struct command_join_token *)cmd.payload)->token = (struct join_token){
        .id = mem_strdup(id), .secret_hash = mem_strdup("hash"), .expires_at = c->now + HOUR_MS, .agents = true, .uses = uses};
    return cluster_apply(c, &cmd);
}

static bool remove_node(struct cluster *c, unsigned node, int64_t revoked_until)
{
    assert_true(cluster_node_state(c, node, NODE_DOWN));
    return cluster_remove_node(c, node, revoked_until);
}

static void a_removed_node_joins_by_no_token_that_it_may_have(void **state)
{
    struct cluster c;
    cluster_init(&c, 2);
    assert_true(make_agent_token(&c, "shared", 5));
    assert_true(make_agent_token(&c, "unused", 5));
    assert_true(make_agent_token(&c, "own", 0));
    assert_true(cluster_enrol(&c, "a", "shared"));
    assert_true(cluster_enrol(&c, "b", "shared"));
    assert_true(remove_node(&c, 0, 0));                                   /* it keeps its certificate */
    assert_true(cluster_enrol(&c, "d", "shared"));
    assert_true(remove_node(&c, 1, c.now + HOUR_MS));
    assert_false(cluster_enrol(&c, "e", "shared"));
    assert_non_null(strstr(c.error.text, "when a node was removed"));
    assert_true(cluster_enrol(&c, "d", "shared"));                        /* its answer was lost: asked again */
    assert_true(cluster_enrol(&c, "e", "unused"));
    assert_true(cluster_enrol(&c, "f", "own"));
    cluster_clear(&c);
}

/* --- restore --- */

/* The old cluster: two replicas on one node, at a much higher index than the new one. */
static void take_snapshot(struct cluster *c, struct buf *bytes)
{
    cluster_init(c, 1);
    c->index = 5000;
    cluster_submit(c, "web", "    count: 2\n");
    cluster_decide(c);
    cluster_report_all(c, "web", ALLOC_RUNNING);
    set_member(c, "99", "old", "10.9.9.9:4646", NULL);
    core_snapshot(c->core, bytes);
}

static void a_snapshot_takes_the_place_of_another_clusters_state(void **state)
{
    struct cluster old, c, d;
    CLEANUP_BUF struct buf bytes = {0}, a = {0}, b = {0};
    struct error err;
    take_snapshot(&old, &bytes);
    cluster_init(&c, 0);
    set_member(&c, "11", "s1", "10.0.0.1:4646", NULL);
    make_token(&c, "t1", c.now + HOUR_MS);
    cluster_submit_yaml(&c, "job: other\nservices: [{name: gone, driver: exec, config: {command: /x}}]\n", "key-of-new");
    assert_true(cluster_send_chunk(&c, "u1", &bytes, 0, 100));
    assert_true(cluster_send_chunk(&c, "u1", &bytes, 0, 100));            /* repeated */
    assert_true(cluster_send_chunk(&c, "u1", &bytes, 100, bytes.len));

    /* A server that starts from a snapshot of its own in the middle of it goes on equally. */
    d = c;
    d.core = core_new();
    core_snapshot(c.core, &a);
    assert_int_equal(core_restore(d.core, a.data, a.len, &err), 0);
    buf_clear(&a);
    assert_true(cluster_restore(&c, "u1", &bytes));
    assert_true(cluster_restore(&d, "u1", &bytes));
    core_snapshot(c.core, &a);
    core_snapshot(d.core, &b);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);

    /* Indexes are behind nobody. */
    assert_true(core_index(c.core) > core_index(old.core) + 1000);
    assert_null(core_service(c.core, "gone"));
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 2);
    /* The servers are this cluster's, not the snapshot's. */
    assert_non_null(core_member(c.core, "11"));
    assert_null(core_member(c.core, "99"));
    assert_true(set_member(&c, "22", "s2", "10.0.0.2:4646", "t1"));
    struct core_result r = {0};
    assert_true(core_answer_of_key(c.core, "key-of-new", &r));
    core_result_clear(&r);
    /* Agents are told everything, whatever they know of. */
    struct agent_work work;
    assert_int_equal(core_agent_work(c.core, cluster_node_id(0), core_index(old.core) + 77, &work), 0);
    assert_true(work.full);
    assert_int_equal(work.allocs.n, 2);
    type_clear(&agent_work_type, &work);
    assert_true(core_changed(c.core, CORE_NODE_WORK, cluster_node_id(0)) > core_index(old.core) + 77);
    /* And it goes on. */
    assert_true(cluster_scale(&c, "web", 3));
    cluster_decide(&c);
    assert_int_equal(cluster_count(&c, "web", DESIRED_RUN, true), 3);
    cluster_clear(&d);
    cluster_clear(&c);
    cluster_clear(&old);
}

static void uploads_that_are_cut_damaged_or_replaced_change_nothing(void **state)
{
    struct cluster old, c;
    CLEANUP_BUF struct buf bytes = {0}, before = {0}, after = {0};
    take_snapshot(&old, &bytes);
    cluster_init(&c, 1);
    cluster_submit(&c, "mine", NULL);
    assert_false(cluster_restore(&c, "u1", &bytes));
    assert_true(cluster_send_chunk(&c, "u1", &bytes, 0, 100));
    assert_false(cluster_send_chunk(&c, "u1", &bytes, 200, bytes.len));   /* a hole */
    assert_false(cluster_restore(&c, "u1", &bytes));                      /* not complete */
    assert_true(cluster_send_chunk(&c, "u2", &bytes, 0, bytes.len));      /* another upload takes over */
    assert_false(cluster_send_chunk(&c, "u1", &bytes, 100, bytes.len));
    assert_non_null(strstr(c.error.text, "given up"));
    c.now += 2 * HOUR_MS;
    cluster_scale(&c, "mine", 2);
    assert_false(cluster_restore(&c, "u2", &bytes));                      /* too late */
    bytes.data[bytes.len / 2] ^= 1;
    assert_true(cluster_send_chunk(&c, "u3", &bytes, 0, bytes.len));
    bytes.data[bytes.len / 2] ^= 1;
    assert_false(cluster_restore(&c, "u3", &bytes));
    assert_int_equal(c.error.code, ERROR_CORRUPT);
    /* Whole on its way, but no state. */
    struct buf nonsense = {.data = (char[]){"MENTATS\x02 nonsense that is long enough to be looked at"}, .len = 50};
    assert_true(cluster_send_chunk(&c, "u4", &nonsense, 0, nonsense.len));
    core_snapshot(c.core, &before);
    assert_false(cluster_restore(&c, "u4", &nonsense));
    core_snapshot(c.core, &after);
    struct service_status status = cluster_status(&c, "mine");
    assert_int_equal(status.desired, 2);
    type_clear(&service_status_type, &status);
    assert_true(after.len < before.len);                                  /* the upload is gone, */
    assert_false(cluster_restore(&c, "u4", &nonsense));                   /* the rest is there */
    cluster_clear(&c);
    cluster_clear(&old);
}

static bool register_node(struct cluster *c, const char *cluster, int64_t tasks)
{
    struct command cmd;
    command_init(&cmd, COMMAND_NODE_REGISTER, c->now, NULL, NULL);
    struct command_node_register *p = cmd.payload;
    type_clear(&node_type, &p->node);
    type_copy(&node_type, &p->node, core_node(c->core, cluster_node_id(0)));
    p->cluster = mem_strdup(cluster);
    p->tasks = tasks;
    return cluster_apply(c, &cmd);
}

static void a_node_that_runs_tasks_of_another_cluster_is_refused_until_that_is_restored(void **state)
{
    struct cluster old, c;
    CLEANUP_BUF struct buf bytes = {0};
    cluster_name = "old";
    take_snapshot(&old, &bytes);
    assert_string_equal(core_cluster(old.core), "old");
    cluster_init(&c, 1);
    cluster_name = "new";
    set_member(&c, "11", "s1", "10.0.0.1:4646", NULL);
    assert_false(register_node(&c, "old", 2));
    assert_int_equal(c.error.code, ERROR_CONFLICT);
    assert_non_null(strstr(c.error.text, "mt snapshot restore"));
    assert_true(register_node(&c, "old", 0));
    assert_true(register_node(&c, "new", 2));
    assert_true(register_node(&c, NULL, 2));
    cluster_send_chunk(&c, "u", &bytes, 0, bytes.len);
    assert_true(cluster_restore(&c, "u", &bytes));
    assert_string_equal(core_cluster(c.core), "old");
    assert_true(register_node(&c, "old", 2));
    assert_true(register_node(&c, "new", 2));           /* it may have come to this one before the restore */
    assert_false(register_node(&c, "third", 2));
    cluster_clear(&c);
    cluster_clear(&old);
}

/* What a snapshot of today is without what came later: of the kinds of changes the first few, of the rest the end. */
static void restore_older(uint8_t version, size_t kinds, size_t kinds_to_skip, size_t tail)
{
    struct cluster c, d;
    CLEANUP_BUF struct buf now = {0}, old = {0}, again = {0};
    struct error err;
    cluster_init(&c, 1);
    cluster_submit(&c, "web", "    count: 2\n");
    cluster_decide(&c);
    core_snapshot(c.core, &now);
    size_t head = 8 + 3 * 8 + kinds * 8;
    buf_add(&old, now.data, head);
    buf_add(&old, now.data + head + kinds_to_skip, now.len - head - kinds_to_skip - tail);
    old.data[7] = (char)version;
    d = c;
    d.core = core_new();
    if (core_restore(d.core, old.data, old.len, &err))
        fail_msg("version %u: %s", version, err.text);
    core_snapshot(d.core, &again);
    assert_int_equal(now.len, again.len);
    assert_memory_equal(now.data, again.data, now.len);
    cluster_clear(&c);
    cluster_clear(&d);
}

/* Version 1 had no word for the servers and the ingress after its seven kinds of changes, no jump of indexes, and ended
 * before the servers, the clusters and the policy; version 2 had no ingress, and ended before roles and
 * tokens; version 3 ended before secrets. */
static void snapshots_of_older_versions_are_read(void **state)
{
    restore_older(1, 7, 3 * 8, 4 + 8 + 1 + 1 + 1 + 1);
    restore_older(2, 8, 8, 1 + 1);
    restore_older(3, 9, 0, 1);
}

static void base64_gives_back_what_it_got(void **state)
{
    struct random random = {7};
    for (size_t n = 0; n < 200; n++) {
        CLEANUP_BUF struct buf bytes = {0}, text = {0}, again = {0};
        for (size_t i = 0; i < n; i++)
            buf_add_u8(&bytes, (uint8_t)random_next(&random));
        base64_add(&text, n ? bytes.data : "", n);
        assert_true(base64_read(text.len ? text.data : "", &again));
        assert_int_equal(again.len, n);
        if (n)
            assert_memory_equal(again.data, bytes.data, n);
    }
    CLEANUP_BUF struct buf out = {0};
    static const char *const bad[] = {"a", "ab=", "a===", "=aaa", "ab=c", "abc\n", "ab==abcd", "Zh==", "Zm9="};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(base64_read(bad[i], &out));
    assert_int_equal(out.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(servers_say_what_they_are_and_are_removed),
        cmocka_unit_test(a_join_token_is_good_once_and_for_a_while),
        cmocka_unit_test(a_removed_node_joins_by_no_token_that_it_may_have),
        cmocka_unit_test(a_snapshot_takes_the_place_of_another_clusters_state),
        cmocka_unit_test(uploads_that_are_cut_damaged_or_replaced_change_nothing),
        cmocka_unit_test(a_node_that_runs_tasks_of_another_cluster_is_refused_until_that_is_restored),
        cmocka_unit_test(snapshots_of_older_versions_are_read),
        cmocka_unit_test(base64_gives_back_what_it_got),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
