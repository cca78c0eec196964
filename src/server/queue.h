/* Queue: messages to one loop from any thread. Bounded; the loop takes all that came in one turn. */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>
#include <uv.h>

/* Embedded in what is sent; the sender gives the object away with it. */
struct queue_item {
    STAILQ_ENTRY(queue_item) link;
};
STAILQ_HEAD(queue_list, queue_item);

struct queue {
    pthread_mutex_t mutex;
    struct queue_list items;
    size_t count, limit;
    bool open;
    uv_async_t async;
    void (*on_item)(void *ctx, struct queue_item *item);
    void (*on_closed)(void *ctx);
    void *ctx;
};

/* Opens for the loop; on_item is called there. At most `limit` items wait. The queue's memory must stay
 * until on_closed. */
void queue_open(struct queue *q, uv_loop_t *loop, size_t limit, void (*on_item)(void *ctx, struct queue_item *item),
                void *ctx);
/* Any thread. False when full or closed: the item is still the sender's. */
bool queue_push(struct queue *q, struct queue_item *item);
/* As queue_push, but never full: for answers, whose number is bounded by that of the requests. */
bool queue_push_answer(struct queue *q, struct queue_item *item);
/* Any thread: how many wait. */
size_t queue_depth(struct queue *q);
/* On the loop's thread: hands over what is still inside, refuses all that comes later, then calls on_closed (may be
 * NULL) from the loop. */
void queue_close(struct queue *q, void (*on_closed)(void *ctx));
