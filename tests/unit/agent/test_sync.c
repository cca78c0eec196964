#include "../cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "agent/server_list.h"
#include "agent/sync.h"
#include "base/log.h"
#include "net/http_server.h"

#define NODE "0123456789ab"

/* A server of which the test says how it answers. */
struct fake_server {
    struct world *world;
    struct http_server *server;
    int registers, heartbeats, works, reports;
    uint64_t asked_index;            /* of the last request for work */
    struct http_request *waiting;    /* a request for work that is held */
    uint64_t index;                  /* what it knows; a request below it is answered at once */
    bool unknown_node;               /* answers 404 but to register */
    bool drop_reports;               /* takes reports and closes without an answer */
    bool hold_reports;
    struct http_request *held_report;
    bool hold_registers;
    struct http_request *held_register;
    int refuse_registers;            /* the status by which they are refused; 1: closed without an answer; 0: taken */
    bool not_leader;                 /* answers 503 */
    bool nonsense;                   /* answers work with what is not JSON */
    bool silent;                     /* holds heartbeats */
    char address[32];
};

struct world {
    uv_loop_t loop;
    struct fake_server peers[2];
    struct sync *sync;
    struct str_list servers;
    int stopped;
    /* what the agent saw */
    int works_applied;
    uint64_t applied_index;
    uint32_t unsent, acknowledged;   /* reports that the "runner" has, that were acknowledged */
    uint64_t seq;
    bool tell_servers;               /* welcomes list both peers */
    const char *mark;                /* of the servers' authorities, in welcomes */
    char *heard_mark;
    uint32_t heard_revoked;
    struct str_list learned;         /* as the agent stores it */
};

/* --- the servers --- */

static void answer_work(struct fake_server *p, bool full)
{
    CLEANUP_FREE char *text = mem_printf("{\"index\":%llu,\"full\":%s}", (unsigned long long)p->index,
                                         full ? "true" : "false");
    struct http_request *req = steal(&p->waiting);
    http_respond_text(req, 200, "application/json", p->nonsense ? "{nonsense" : text);
}

static void on_work_closed(struct http_request *req)
{
    struct fake_server *p = req->data;
    p->waiting = NULL;
    http_request_drop(req);
}

static void serve_work(struct fake_server *p, struct http_request *req)
{
    p->works++;
    p->asked_index = strtoull(http_request_query(req, "index"), NULL, 10);
    assert_string_equal(http_request_query(req, "node"), NODE);
    p->waiting = req;
    req->data = p;
    req->on_close = on_work_closed;
    if (p->asked_index < p->index)
        answer_work(p, !p->asked_index);
}

static void serve_report(struct fake_server *p, struct http_request *req)
{
    p->reports++;
    if (p->drop_reports)
        http_request_drop(req);
    else if (p->hold_reports)
        p->held_report = req;
    else
        http_respond_text(req, 204, NULL, NULL);
}

static void welcome(struct fake_server *p, struct http_request *req)
{
    CLEANUP_BUF struct buf text = {0};
    buf_printf(&text, "{\"heartbeat\":\"20ms\",\"index\":%llu,\"servers\":[", (unsigned long long)p->index);
    for (int i = 0; p->world->tell_servers && i < 2; i++)
        buf_printf(&text, "%s\"%s\"", i ? "," : "", p->world->peers[i].address);
    buf_add_string(&text, "]");
    if (p->world->mark)
        buf_printf(&text, ",\"certificate_mark\":\"%s\",\"revoked\":[{\"name\":\"7.server\",\"before\":\"2026-01-01T00:00:00Z\","
                   "\"until\":\"2026-02-01T00:00:00Z\"}]", p->world->mark);
    buf_add_char(&text, '}');
    http_respond_text(req, 200, "application/json", text.data);
}

static void on_beat_closed(struct http_request *req)
{
    http_request_drop(req);
}

static void on_request(struct http_request *req, void *arg)
{
    struct fake_server *p = arg;
    const char *what = req->segments[2];
    if (p->not_leader) {
        struct error err;
        error_set(&err, ERROR_UNAVAILABLE, "no leader");
        http_respond_error(req, &err);
    } else if (!strcmp(what, "register")) {
        p->registers++;
        p->unknown_node = false;
        if (p->refuse_registers == 1)
            http_request_drop(req);
        else if (p->refuse_registers)
            http_respond_text(req, p->refuse_registers, "application/json", "{nonsense");
        else if (p->hold_registers)
            p->held_register = req;
        else
            welcome(p, req);
    } else if (p->unknown_node) {
        struct error err;
        error_set(&err, ERROR_NOT_FOUND, "no such node");
        http_respond_error(req, &err);
    } else if (!strcmp(what, "heartbeat")) {
        p->heartbeats++;
        if (p->silent)
            req->on_close = on_beat_closed;
        else if (p->world->tell_servers)
            welcome(p, req);
        else
            http_respond_text(req, 204, NULL, NULL);
    } else if (!strcmp(what, "allocs")) {
        serve_work(p, req);
    } else {
        serve_report(p, req);
    }
}

static void on_server_stopped(void *arg)
{
    ((struct world *)arg)->stopped++;
}

static void peer_open(struct world *w, struct fake_server *p)
{
    struct address any = {.host = "127.0.0.1"};
    struct error err;
    p->world = w;
    p->index = 10;
    p->server = http_server_new(&w->loop, &(struct http_server_options){.on_request = on_request, .arg = p});
    if (http_server_listen(p->server, &any, &(struct http_listen_options){0}, &err) < 0)
        fail_msg("%s", err.text);
    snprintf(p->address, sizeof(p->address), "127.0.0.1:%d", http_server_port(p->server));
    str_list_add(&w->servers, p->address);
}

static void peer_close(struct fake_server *p)
{
    if (p->server)
        http_server_stop(steal(&p->server), 0, on_server_stopped, p->world);
}

/* --- the agent --- */

static void hello(void *ctx, struct agent_hello *h)
{
    mem_set_string(&h->node.name, "n1");
}

static void work(void *ctx, struct agent_work *work)
{
    struct world *w = ctx;
    w->works_applied++;
    w->applied_index = work->index;
}

static void collect(void *ctx, struct agent_report *report, uint32_t limit)
{
    struct world *w = ctx;
    for (uint32_t i = 0; i < w->unsent && i < limit; i++) {
        struct alloc_report *r = list_add((struct list *)&report->allocs, &alloc_report_type);
        mem_set_string(&r->id, "aaaaaaaaaaaa");
        r->seq = w->seq;
    }
}

static void acknowledged(void *ctx, const struct agent_report *report)
{
    struct world *w = ctx;
    w->unsent -= report->allocs.n;
    w->acknowledged += report->allocs.n;
}

static void servers(void *ctx, const struct str_list *addresses)
{
    struct world *w = ctx;
    str_list_clear(&w->learned);
    for (uint32_t i = 0; i < addresses->n; i++)
        str_list_add(&w->learned, addresses->v[i]);
}

static void certificate_mark(void *ctx, const char *mark)
{
    mem_set_string(&((struct world *)ctx)->heard_mark, mark);
}

static void revoked(void *ctx, const struct revocation_list *all)
{
    ((struct world *)ctx)->heard_revoked = all->n;
    if (all->n)
        assert_string_equal(all->v[0].name, "7.server");
}

static const struct sync_handlers handlers = {hello, work, collect, acknowledged, servers, .certificate_mark = certificate_mark,
                                              .revoked = revoked};

static void begin(struct world *w, uint64_t index)
{
    w->sync = sync_new(&w->loop, &(struct sync_options){
        .node_id = NODE, .servers = &w->servers, .index = index, .seed = 1, .first_delay_ms = 4,
        .answer_ms = 200, .home_after_ms = 100, .known = &w->learned, .handlers = &handlers, .ctx = w,
    });
}

static int setup(void **state)
{
    struct world *w = NEW(struct world);
    uv_loop_init(&w->loop);
    peer_open(w, &w->peers[0]);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    if (w->sync)
        sync_close(w->sync);
    for (size_t i = 0; i < ARRAY_LEN(w->peers); i++) {
        if (w->peers[i].held_report)
            http_request_drop(w->peers[i].held_report);
        peer_close(&w->peers[i]);
    }
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    str_list_clear(&w->servers);
    str_list_clear(&w->learned);
    free(w->heard_mark);
    free(w);
    return 0;
}

static void on_guard(uv_timer_t *t)
{
    fail_msg("nothing happened for ten seconds");
}

#define UNTIL(w, condition)                                     \
    do {                                                        \
        uv_timer_t guard_;                                      \
        uv_timer_init(&(w)->loop, &guard_);                     \
        uv_timer_start(&guard_, on_guard, 10000, 0);            \
        while (!(condition))                                    \
            uv_run(&(w)->loop, UV_RUN_ONCE);                    \
        uv_close((uv_handle_t *)&guard_, NULL);                 \
        uv_run(&(w)->loop, UV_RUN_NOWAIT);                      \
    } while (0)

/* --- the tests --- */

static void it_registers_beats_and_waits_for_work(void **state)
{
    struct world *w = *state;
    struct fake_server *p = &w->peers[0];
    begin(w, 0);
    UNTIL(w, p->heartbeats >= 3 && p->waiting);
    assert_int_equal(p->registers, 1);
    assert_int_equal(w->works_applied, 1);
    assert_int_equal(w->applied_index, 10);
    assert_int_equal(p->asked_index, 10);
    assert_int_equal(p->works, 2);
    p->index = 11;
    answer_work(p, false);
    UNTIL(w, w->applied_index == 11 && p->waiting);
    assert_int_equal(p->asked_index, 11);
    assert_int_equal(sync_index(w->sync), 11);
}

/* A rotation takes as long as its slowest node, which is not to wait until its certificate is due. */
static void other_authorities_and_removed_servers_are_heard_of_with_a_heartbeat(void **state)
{
    struct world *w = *state;
    w->tell_servers = true;
    w->mark = "m1";
    begin(w, 0);
    UNTIL(w, w->heard_mark && !strcmp(w->heard_mark, "m1") && w->heard_revoked == 1);
    w->mark = "m2";
    UNTIL(w, !strcmp(w->heard_mark, "m2"));
    assert_int_equal(w->peers[0].registers, 1);
    w->mark = NULL;
    UNTIL(w, !w->heard_mark && !w->heard_revoked);
}

static void an_unknown_node_registers_again_and_asks_for_everything(void **state)
{
    struct world *w = *state;
    struct fake_server *p = &w->peers[0];
    begin(w, 0);
    UNTIL(w, p->heartbeats >= 1 && p->waiting);
    int works = p->works;
    p->unknown_node = true;
    UNTIL(w, p->registers == 2 && p->works >= works + 1 && w->works_applied == 2);
    assert_int_equal(w->applied_index, 10);
}

static void servers_that_lost_their_state_are_believed_after_registration(void **state)
{
    struct world *w = *state;
    struct fake_server *p = &w->peers[0];
    p->index = 3;
    begin(w, 500);
    UNTIL(w, w->works_applied == 1);
    assert_int_equal(w->applied_index, 3);
}

/* The answer to a registration comes late: work told of more in between. */
static void work_that_overtakes_the_welcome_is_no_lost_state(void **state)
{
    struct world *w = *state;
    struct fake_server *p = &w->peers[0];
    begin(w, 0);
    UNTIL(w, w->works_applied == 1 && p->waiting);
    p->hold_registers = true;
    sync_register(w->sync);
    UNTIL(w, p->held_register);
    p->index = 11;
    answer_work(p, false);
    UNTIL(w, w->applied_index == 11 && p->waiting);
    int works = p->works, beats = p->heartbeats;
    p->index = 10;
    welcome(p, steal(&p->held_register));
    p->index = 11;
    UNTIL(w, p->heartbeats >= beats + 2 && p->waiting);
    assert_int_equal(p->works, works);       /* the request that waits goes on */
    assert_int_equal(p->asked_index, 11);
}

/* After a loss of state the answer to the registration is the new floor. */
static void full_work_older_than_the_welcome_is_not_taken_after_a_loss(void **state)
{
    struct world *w = *state;
    struct fake_server *p = &w->peers[0];
    p->index = 400;
    begin(w, 500);
    UNTIL(w, p->registers == 1);
    p->index = 300;
    UNTIL(w, p->works >= 3);
    assert_int_equal(w->works_applied, 0);
    p->index = 401;
    UNTIL(w, w->works_applied == 1);
    assert_int_equal(w->applied_index, 401);
}

static void full_work_of_a_server_that_lags_is_not_taken(void **state)
{
    struct world *w = *state;
    struct fake_server *p = &w->peers[0];
    p->index = 600;
    begin(w, 500);
    UNTIL(w, p->registers == 1);
    p->index = 400;
    UNTIL(w, p->works >= 3);
    assert_int_equal(w->works_applied, 0);
    p->index = 601;
    UNTIL(w, w->works_applied == 1);
    assert_int_equal(w->applied_index, 601);
}

static void everything_is_asked_for_again_and_not_older_than_the_welcome(void **state)
{
    struct world *w = *state;
    struct fake_server *p = &w->peers[0];
    begin(w, 0);
    UNTIL(w, w->works_applied == 1 && p->waiting);
    p->index = 20;
    int beats = p->heartbeats;
    sync_register(w->sync);
    UNTIL(w, p->registers == 2 && p->heartbeats > beats);
    p->index = 15;                           /* another server, which lags */
    int works = p->works;
    sync_ask_everything(w->sync);
    UNTIL(w, p->works >= works + 2);
    assert_int_equal(p->asked_index, 0);
    assert_int_equal(w->works_applied, 1);
    p->index = 20;
    UNTIL(w, w->works_applied == 2);
    assert_int_equal(w->applied_index, 20);
}

static void the_next_server_is_tried_when_one_is_dead(void **state)
{
    struct world *w = *state;
    peer_open(w, &w->peers[1]);
    begin(w, 0);
    UNTIL(w, w->works_applied == 1);
    int first = w->peers[0].registers ? 0 : 1;
    struct fake_server *other = &w->peers[!first];
    other->index = 20;
    peer_close(&w->peers[first]);
    UNTIL(w, other->heartbeats >= 2 && other->waiting);
    UNTIL(w, w->applied_index == 20);
    assert_int_equal(other->registers, 0);
}

static void it_works_with_servers_that_it_was_told_of(void **state)
{
    struct world *w = *state;
    peer_open(w, &w->peers[1]);
    str_list_clear(&w->servers);
    str_list_add(&w->servers, w->peers[0].address);
    w->tell_servers = true;
    begin(w, 0);
    UNTIL(w, w->learned.n == 2 && w->works_applied);
    peer_close(&w->peers[0]);
    int beats = w->peers[1].heartbeats;
    UNTIL(w, w->peers[1].heartbeats > beats + 2 && w->peers[1].waiting);

    /* What was learned is enough for a new start. */
    sync_close(steal(&w->sync));
    begin(w, 10);
    UNTIL(w, w->peers[1].registers == 1 && w->peers[1].waiting);
}

static void a_server_that_falls_silent_is_left_with_all_that_waits_there(void **state)
{
    struct world *w = *state;
    peer_open(w, &w->peers[1]);
    begin(w, 0);
    UNTIL(w, w->works_applied == 1 && (w->peers[0].waiting || w->peers[1].waiting));
    struct fake_server *first = w->peers[0].waiting ? &w->peers[0] : &w->peers[1];
    struct fake_server *other = first == &w->peers[0] ? &w->peers[1] : &w->peers[0];
    first->silent = true;
    UNTIL(w, other->waiting);

    /* It answers again, and is the favourite: all go back, and registration was not needed for any of it. */
    int works = first->works;
    first->silent = false;
    UNTIL(w, first->works > works);
    int beats = first->heartbeats;
    UNTIL(w, first->heartbeats > beats + 3);
    assert_int_equal(first->registers + other->registers, 1);
}

static void agents_spread_and_few_move_when_a_server_goes(void **state)
{
    enum { AGENTS = 3000, SERVERS = 3 };
    struct str_list three = {0}, two = {0};
    for (int i = 0; i < SERVERS; i++) {
        CLEANUP_FREE char *address = mem_printf("10.0.0.%d:4646", i + 1);
        str_list_add(&three, address);
        if (i)
            str_list_add(&two, address);
    }
    int count[SERVERS] = {0}, moved = 0;
    for (int i = 0; i < AGENTS; i++) {
        struct server_list l;
        CLEANUP_FREE char *node = mem_printf("%012x", i * 7919);
        server_list_init(&l, node, &three, false);
        CLEANUP_FREE char *first = mem_strdup(l.all.v[0]), *second = mem_strdup(l.all.v[1]);
        bool gone = !strcmp(first, "http://10.0.0.1:4646");
        count[first[strlen("http://10.0.0.")] - '1']++;
        assert_true(server_list_learn(&l, &two));
        assert_false(server_list_learn(&l, &two));
        assert_int_equal(l.all.n, 3);          /* the configured one stays, as the last */
        assert_string_equal(l.all.v[2], "http://10.0.0.1:4646");
        assert_string_equal(l.all.v[0], gone ? second : first);
        moved += gone;
        server_list_clear(&l);
    }
    for (int i = 0; i < SERVERS; i++)
        assert_in_range(count[i], AGENTS / SERVERS * 8 / 10, AGENTS / SERVERS * 12 / 10);
    assert_int_equal(moved, count[0]);
    str_list_clear(&three);
    str_list_clear(&two);
}

static void a_server_without_a_leader_is_passed_over(void **state)
{
    struct world *w = *state;
    peer_open(w, &w->peers[1]);
    struct server_list order;
    server_list_init(&order, NODE, &w->servers, false);
    int first = !strstr(order.all.v[0], w->peers[0].address);
    server_list_clear(&order);
    w->peers[first].not_leader = true;
    begin(w, 0);
    UNTIL(w, w->peers[!first].heartbeats >= 1 && w->works_applied == 1);
    assert_int_equal(w->peers[first].registers, 0);
}

static void reports_of_one_turn_go_together_and_one_at_a_time(void **state)
{
    struct world *w = *state;
    struct fake_server *p = &w->peers[0];
    begin(w, 0);
    UNTIL(w, p->waiting && w->works_applied);
    p->hold_reports = true;
    for (int i = 0; i < 100; i++) {
        w->unsent++;
        sync_report(w->sync);
    }
    UNTIL(w, p->held_report);
    w->unsent++;
    sync_report(w->sync);
    int beats = p->heartbeats;
    UNTIL(w, p->heartbeats > beats + 2);
    assert_int_equal(p->reports, 1);
    p->hold_reports = false;
    http_respond_text(steal(&p->held_report), 204, NULL, NULL);
    UNTIL(w, w->acknowledged == 101);
    assert_int_equal(p->reports, 2);
}

static void a_report_whose_answer_is_lost_is_sent_again(void **state)
{
    struct world *w = *state;
    struct fake_server *p = &w->peers[0];
    begin(w, 0);
    UNTIL(w, p->waiting && w->works_applied);
    p->drop_reports = true;
    w->unsent = 1;
    sync_report(w->sync);
    UNTIL(w, p->reports >= 2);
    assert_int_equal(w->acknowledged, 0);
    p->drop_reports = false;
    UNTIL(w, w->acknowledged == 1);
}

static void more_reports_than_fit_follow_each_other(void **state)
{
    struct world *w = *state;
    struct fake_server *p = &w->peers[0];
    begin(w, 0);
    w->unsent = 1234;
    sync_report(w->sync);
    UNTIL(w, w->acknowledged == 1234);
    assert_int_equal(p->reports, 3);
}

static void changed_facts_register_anew_without_new_work(void **state)
{
    struct world *w = *state;
    struct fake_server *p = &w->peers[0];
    begin(w, 0);
    UNTIL(w, p->waiting && p->heartbeats);
    int works = p->works;
    sync_register(w->sync);
    UNTIL(w, p->registers == 2);
    int beats = p->heartbeats;
    UNTIL(w, p->heartbeats > beats + 1);
    assert_int_equal(p->works, works);
    assert_int_equal(w->works_applied, 1);
}

/* Whatever kept the servers from taking them; between two tries they hear that the node lives. */
static void changed_facts_that_were_not_taken_are_sent_again(void **state)
{
    struct world *w = *state;
    struct fake_server *p = &w->peers[0];
    static const int refusals[] = {1, 400, 503, 200};
    begin(w, 0);
    UNTIL(w, p->waiting && p->heartbeats);
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        int registers = p->registers;
        p->refuse_registers = refusals[i];
        sync_register(w->sync);
        UNTIL(w, p->registers == registers + 1);
        int beats = p->heartbeats;
        UNTIL(w, p->registers == registers + 2);
        assert_int_equal(p->heartbeats, beats + 1);
        p->refuse_registers = 0;
        UNTIL(w, p->registers == registers + 3);
        beats = p->heartbeats;
        UNTIL(w, p->heartbeats == beats + 3);
        assert_int_equal(p->registers, registers + 3);
    }
}

static void an_answer_that_cannot_be_read_is_asked_for_again(void **state)
{
    struct world *w = *state;
    struct fake_server *p = &w->peers[0];
    p->nonsense = true;
    begin(w, 0);
    UNTIL(w, p->works >= 3);
    assert_int_equal(w->works_applied, 0);
    p->nonsense = false;
    UNTIL(w, w->works_applied == 1);
}

int main(void)
{
    log_init("test", LOG_FATAL);
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(it_registers_beats_and_waits_for_work),
        T(an_unknown_node_registers_again_and_asks_for_everything),
        T(servers_that_lost_their_state_are_believed_after_registration),
        T(full_work_of_a_server_that_lags_is_not_taken),
        T(work_that_overtakes_the_welcome_is_no_lost_state),
        T(full_work_older_than_the_welcome_is_not_taken_after_a_loss),
        T(everything_is_asked_for_again_and_not_older_than_the_welcome),
        T(the_next_server_is_tried_when_one_is_dead),
        T(it_works_with_servers_that_it_was_told_of),
        T(a_server_that_falls_silent_is_left_with_all_that_waits_there),
        T(agents_spread_and_few_move_when_a_server_goes),
        T(a_server_without_a_leader_is_passed_over),
        T(reports_of_one_turn_go_together_and_one_at_a_time),
        T(a_report_whose_answer_is_lost_is_sent_again),
        T(more_reports_than_fit_follow_each_other),
        T(changed_facts_register_anew_without_new_work),
        T(changed_facts_that_were_not_taken_are_sent_again),
        T(other_authorities_and_removed_servers_are_heard_of_with_a_heartbeat),
        T(an_answer_that_cannot_be_read_is_asked_for_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
