#include "test_server.h"

#include <stdatomic.h>

#include "base/mem.h"
#include "server/liveness.h"
#include "server/queue.h"

#define SENDERS 4
#define PER_SENDER 20000

struct message {
    struct queue_item item;
    int sender, number;
};

struct receiver {
    struct queue queue;
    int next[SENDERS];
    int received;
    bool in_order, closed;
};

static void on_message(void *ctx, struct queue_item *item)
{
    struct receiver *r = ctx;
    struct message *m = container_of(item, struct message, item);
    r->in_order = r->in_order && m->number == r->next[m->sender]++;
    r->received++;
    free(m);
    if (r->received == SENDERS * PER_SENDER)
        queue_close(&r->queue, NULL);
}

struct sender {
    struct receiver *to;
    int id;
};

static void send_all(void *arg)
{
    struct sender *s = arg;
    for (int i = 0; i < PER_SENDER; i++) {
        struct message *m = NEW(struct message);
        m->sender = s->id;
        m->number = i;
        while (!queue_push(&s->to->queue, &m->item))
            sched_yield();
    }
}

static void messages_of_each_sender_arrive_all_and_in_order(void **state)
{
    uv_loop_t loop;
    uv_loop_init(&loop);
    struct receiver r = {.in_order = true};
    queue_open(&r.queue, &loop, 64, on_message, &r);
    uv_thread_t threads[SENDERS];
    struct sender senders[SENDERS];
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){&r, i};
        uv_thread_create(&threads[i], send_all, &senders[i]);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    for (int i = 0; i < SENDERS; i++)
        uv_thread_join(&threads[i]);
    assert_int_equal(r.received, SENDERS * PER_SENDER);
    assert_true(r.in_order);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void count_message(void *ctx, struct queue_item *item)
{
    struct receiver *r = ctx;
    r->received++;
}

static void note_closed(void *ctx)
{
    ((struct receiver *)ctx)->closed = true;
}

static void a_full_queue_refuses_requests_but_never_answers(void **state)
{
    uv_loop_t loop;
    uv_loop_init(&loop);
    struct receiver r = {0};
    queue_open(&r.queue, &loop, 2, count_message, &r);
    struct queue_item items[4];
    assert_true(queue_push(&r.queue, &items[0]));
    assert_true(queue_push(&r.queue, &items[1]));
    assert_false(queue_push(&r.queue, &items[2]));
    assert_true(queue_push_answer(&r.queue, &items[2]));
    assert_int_equal(queue_depth(&r.queue), 3);
    uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(r.received, 3);
    assert_true(queue_push(&r.queue, &items[3]));
    queue_close(&r.queue, note_closed);
    assert_int_equal(r.received, 4);
    assert_false(queue_push(&r.queue, &items[0]));
    assert_false(queue_push_answer(&r.queue, &items[0]));
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_true(r.closed);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void note_silent(void *ctx, const char *node_id)
{
    char *last = ctx;
    last[0] = node_id[0];
}

static bool keep(void *ctx, const char *node_id)
{
    return node_id[0] == *(char *)ctx;
}

static void a_silent_node_expires_once_and_a_heard_one_does_not(void **state)
{
    struct liveness l = {0};
    char last[2] = "-", kept = 'c';
    liveness_touch(&l, "a", 1000);
    liveness_touch(&l, "b", 1000);
    liveness_touch(&l, "b", 1600);
    assert_int_equal(liveness_expire(&l, 1999, 1000, note_silent, last), 2000);
    assert_string_equal(last, "-");
    assert_int_equal(liveness_expire(&l, 2000, 1000, note_silent, last), 2600);
    assert_string_equal(last, "a");
    assert_int_equal(liveness_silence(&l, "b", 2000), 400);
    assert_int_equal(liveness_silence(&l, "a", 2000), 0);        /* it is not among them any more */
    liveness_touch(&l, "c", 2000);
    liveness_keep(&l, keep, &kept);
    assert_int_equal(liveness_count(&l, 2000, 0).all, 1);
    kept = '-';
    liveness_keep(&l, keep, &kept);
    assert_true(liveness_expire(&l, 9000, 1000, note_silent, last) == INT64_MAX);
    assert_string_equal(last, "a");
    liveness_clear(&l);
}

int test_queue(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_of_each_sender_arrive_all_and_in_order),
        cmocka_unit_test(a_full_queue_refuses_requests_but_never_answers),
        cmocka_unit_test(a_silent_node_expires_once_and_a_heard_one_does_not),
    };
    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
