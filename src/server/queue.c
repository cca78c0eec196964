#include "server/queue.h"

#include "base/error.h"

static void drain(struct queue *q)
{
    struct queue_list taken = STAILQ_HEAD_INITIALIZER(taken);
    pthread_mutex_lock(&q->mutex);
    STAILQ_CONCAT(&taken, &q->items);
    q->count = 0;
    pthread_mutex_unlock(&q->mutex);
    struct queue_item *item;
    while ((item = STAILQ_FIRST(&taken))) {
        STAILQ_REMOVE_HEAD(&taken, link);
        q->on_item(q->ctx, item);
    }
}

static void on_async(uv_async_t *async)
{
    drain(async->data);
}

void queue_open(struct queue *q, uv_loop_t *loop, size_t limit, void (*on_item)(void *ctx, struct queue_item *item),
                void *ctx)
{
    *q = (struct queue){.limit = limit, .open = true, .on_item = on_item, .ctx = ctx};
    pthread_mutex_init(&q->mutex, NULL);
    STAILQ_INIT(&q->items);
    INVARIANT(uv_async_init(loop, &q->async, on_async) == 0);
    q->async.data = q;
}

static bool push(struct queue *q, struct queue_item *item, bool bounded)
{
    pthread_mutex_lock(&q->mutex);
    bool taken = q->open && (!bounded || q->count < q->limit);
    if (taken) {
        STAILQ_INSERT_TAIL(&q->items, item, link);
        /* Inside the lock, so that it cannot meet a closed handle. Only the first item has to wake the loop. */
        if (q->count++ == 0)
            uv_async_send(&q->async);
    }
    pthread_mutex_unlock(&q->mutex);
    return taken;
}

bool queue_push(struct queue *q, struct queue_item *item)
{
    return push(q, item, true);
}

bool queue_push_answer(struct queue *q, struct queue_item *item)
{
    return push(q, item, false);
}

size_t queue_depth(struct queue *q)
{
    pthread_mutex_lock(&q->mutex);
    size_t count = q->count;
    pthread_mutex_unlock(&q->mutex);
    return count;
}

static void on_async_closed(uv_handle_t *handle)
{
    struct queue *q = handle->data;
    if (q->on_closed)
        q->on_closed(q->ctx);
}

void queue_close(struct queue *q, void (*on_closed)(void *ctx))
{
    pthread_mutex_lock(&q->mutex);
    q->open = false;
    pthread_mutex_unlock(&q->mutex);
    drain(q);
    q->on_closed = on_closed;
    uv_close((uv_handle_t *)&q->async, on_async_closed);
}
