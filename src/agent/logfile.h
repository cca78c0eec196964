/* Log files of tasks: written and rotated by the shim or, for containers, by the agent; read and followed by the agent.
 *
 * ALLOC_DIR/logs/stdout.N.log holds the raw bytes, N counting up; at most max_files of max_mb each are kept. Beside it,
 * stdout.N.idx holds pairs (time in ms, offset), at most ten a second, by which `since` finds its place. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"

enum log_stream { LOG_STDOUT, LOG_STDERR };
#define LOG_STREAM_COUNT 2
extern const char *const log_stream_names[];      /* "stdout", "stderr", NULL */

/* --- reading (agent) --- */
/* Byte `offset` of what file `number` and those after it hold. */
struct log_position { uint64_t number, offset; };
struct log_query {
    enum log_stream stream;
    bool follow;
    int64_t tail;                    /* last N lines; negative: all that is kept */
    int64_t since_ms;                /* 0: no matter; else only what was written at that time or later (to 100 ms) */
    const struct log_position *from; /* go on there, whatever tail and since say; NULL: no. Only read in log_reader_open */
};
struct log_events {
    void (*data)(void *arg, const void *bytes, size_t n);
    /* All was delivered (without follow, or after log_reader_finish), or it failed. Last event. */
    void (*end)(void *arg, const struct error *err);
};
struct log_reader;
/* A task without output so far, or without log files, is no error: the log is empty. Data comes from the loop, never
 * from inside this call, in pieces of at most 64 KiB, in order, each byte once, across rotations. What was rotated
 * away before a slow reader came to it is passed over. */
struct log_reader *log_reader_open(uv_loop_t *loop, const char *alloc_dir, const struct log_query *query,
                                   const struct log_events *events, void *arg);
/* Where the data begins. A reader that was cut off after N bytes of it goes on N bytes behind. */
struct log_position log_reader_begin(const struct log_reader *r);
/* No data events while paused: the receiver is slow. */
void log_reader_pause(struct log_reader *r, bool paused);
/* The task has ended: a follower delivers what there is, then ends. */
void log_reader_finish(struct log_reader *r);
/* Also needed after `end`; may be called inside an event. */
void log_reader_close(struct log_reader *r);

/* --- writing (shim, drivers): plain system calls, no allocation --- */
struct log_writer {
    int dir_fd;                      /* ALLOC_DIR/logs, opened with the first byte */
    int fd, index_fd;
    enum log_stream stream;
    uint64_t number;                 /* N of the open file */
    uint64_t bytes, index_bytes;     /* in the open file and its index */
    uint64_t max_bytes;
    uint32_t max_files;
    int64_t last_index_ms;
    uint64_t dropped;                /* bytes lost since the disk is full, not yet noted in the log */
    int error;                       /* errno of that */
    const char *dir;                 /* borrowed */
};
/* Continues after the files that are there. Creates nothing before the first byte. dir: ALLOC_DIR/logs. */
void log_writer_init(struct log_writer *w, const char *dir, enum log_stream stream, int64_t max_files, int64_t max_mb);
/* Never fails and never waits for room: what cannot be written is counted, and the count is noted in the log once
 * there is room again. */
void log_writer_add(struct log_writer *w, const void *bytes, size_t n, int64_t now_ms);
void log_writer_close(struct log_writer *w);
/* Before writing: cuts off what lies behind `bytes` of file `number`, and later files. 0, or -1 with errno. */
int log_cut(const char *dir, enum log_stream stream, uint64_t number, uint64_t bytes);
