/* Executor: runs blocking work elsewhere and brings its end back to the loop. Work of one lane runs in order. */
#pragma once
#include <sys/queue.h>
#include <uv.h>

#include "base/error.h"

enum executor_lane {
    EXECUTOR_LOG,          /* writes and syncs of the log: what clients wait for */
    EXECUTOR_BACKGROUND,   /* snapshots, preparing and removing files */
    EXECUTOR_TRANSFER,     /* reading and writing of snapshots on their way between servers */
    EXECUTOR_LANE_COUNT
};

/* Embedded in the owner's own struct, which lives until done() was called. */
struct executor_job {
    void (*work)(struct executor_job *job);   /* on the lane's thread; touches nothing but the job */
    void (*done)(struct executor_job *job);   /* on the loop's thread */
    STAILQ_ENTRY(executor_job) next;
};

/* Implementations put this first. */
struct executor {
    void (*submit)(struct executor *executor, enum executor_lane lane, struct executor_job *job);
};

/* The real one: a thread for each lane, started when first needed. */
struct executor *executor_threads_new(uv_loop_t *loop);
/* Waits for what is under way (a job not begun yet is dropped, without done()), then calls closed on the loop. */
void executor_threads_close(struct executor *executor, void (*closed)(void *ctx), void *ctx);
