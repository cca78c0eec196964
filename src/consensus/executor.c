/* Happy path: submit() queues a job on its lane and wakes the lane's thread; the thread runs work(), moves the job to
 * the finished queue and wakes the loop, which calls done() for all that are finished. */
#include "consensus/executor.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

#include "base/mem.h"

STAILQ_HEAD(job_queue, executor_job);

struct lane {
    struct executor_threads *owner;
    struct job_queue queue;
    pthread_cond_t wake;
    pthread_t thread;
    bool started;
};

struct executor_threads {
    struct executor executor;
    struct lane lanes[EXECUTOR_LANE_COUNT];
    pthread_mutex_t mutex;          /* guards the queues and `closing` */
    struct job_queue finished;
    bool closing;
    uv_async_t async;
    void (*closed)(void *ctx);
    void *ctx;
};

static void *lane_run(void *arg)
{
    struct lane *lane = arg;
    struct executor_threads *e = lane->owner;
    pthread_mutex_lock(&e->mutex);
    for (;;) {
        while (STAILQ_EMPTY(&lane->queue) && !e->closing)
            pthread_cond_wait(&lane->wake, &e->mutex);
        if (e->closing)
            break;
        struct executor_job *job = STAILQ_FIRST(&lane->queue);
        STAILQ_REMOVE_HEAD(&lane->queue, next);
        pthread_mutex_unlock(&e->mutex);
        job->work(job);
        pthread_mutex_lock(&e->mutex);
        STAILQ_INSERT_TAIL(&e->finished, job, next);
        uv_async_send(&e->async);
    }
    pthread_mutex_unlock(&e->mutex);
    return NULL;
}

static void threads_submit(struct executor *executor, enum executor_lane which, struct executor_job *job)
{
    struct executor_threads *e = container_of(executor, struct executor_threads, executor);
    struct lane *lane = &e->lanes[which];
    pthread_mutex_lock(&e->mutex);
    STAILQ_INSERT_TAIL(&lane->queue, job, next);
    pthread_cond_signal(&lane->wake);
    pthread_mutex_unlock(&e->mutex);
    if (lane->started)
        return;
    /* Signals belong to the loop's thread. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int e_create = pthread_create(&lane->thread, NULL, lane_run, lane);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    INVARIANT(e_create == 0);
    lane->started = true;
}

static void threads_finished(uv_async_t *async)
{
    struct executor_threads *e = async->data;
    struct job_queue finished = STAILQ_HEAD_INITIALIZER(finished);
    pthread_mutex_lock(&e->mutex);
    STAILQ_CONCAT(&finished, &e->finished);
    pthread_mutex_unlock(&e->mutex);
    while (!STAILQ_EMPTY(&finished)) {
        struct executor_job *job = STAILQ_FIRST(&finished);
        STAILQ_REMOVE_HEAD(&finished, next);
        job->done(job);
    }
}

struct executor *executor_threads_new(uv_loop_t *loop)
{
    struct executor_threads *e = NEW(struct executor_threads);
    e->executor.submit = threads_submit;
    pthread_mutex_init(&e->mutex, NULL);
    STAILQ_INIT(&e->finished);
    for (int i = 0; i < EXECUTOR_LANE_COUNT; i++) {
        e->lanes[i].owner = e;
        STAILQ_INIT(&e->lanes[i].queue);
        pthread_cond_init(&e->lanes[i].wake, NULL);
    }
    INVARIANT(uv_async_init(loop, &e->async, threads_finished) == 0);
    e->async.data = e;
    return &e->executor;
}

static void threads_closed(uv_handle_t *handle)
{
    struct executor_threads *e = handle->data;
    void (*closed)(void *ctx) = e->closed;
    void *ctx = e->ctx;
    for (int i = 0; i < EXECUTOR_LANE_COUNT; i++)
        pthread_cond_destroy(&e->lanes[i].wake);
    pthread_mutex_destroy(&e->mutex);
    free(e);
    if (closed)
        closed(ctx);
}

void executor_threads_close(struct executor *executor, void (*closed)(void *ctx), void *ctx)
{
    struct executor_threads *e = container_of(executor, struct executor_threads, executor);
    e->closed = closed;
    e->ctx = ctx;
    pthread_mutex_lock(&e->mutex);
    e->closing = true;
    for (int i = 0; i < EXECUTOR_LANE_COUNT; i++)
        pthread_cond_signal(&e->lanes[i].wake);
    pthread_mutex_unlock(&e->mutex);
    for (int i = 0; i < EXECUTOR_LANE_COUNT; i++)
        if (e->lanes[i].started)
            pthread_join(e->lanes[i].thread, NULL);
    uv_close((uv_handle_t *)&e->async, threads_closed);
}
