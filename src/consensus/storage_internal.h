/* Storage: what its halves share: storage_open.c (start, recovery) and storage.c (the running one). */
#pragma once
#include "consensus/journal.h"
#include "consensus/storage.h"

/* The snapshot that is being stored; one at a time. */
struct storage_put {
    struct executor_job job;
    struct storage *storage;
    struct snapshot snapshot;
    bool under_way;
    bool install;                       /* the incoming one: it replaces the log */
    bool wait;                          /* for space, tried again at a tick */
    uint64_t bytes;
    int result;
};

struct storage {
    struct storage_options options;
    struct disk *disk;
    struct metadata metadata;
    struct journal *journal;
    const struct raft_log *log;

    uint64_t next;                      /* index of the entry that is to be written next */
    uint64_t stored;                    /* durable up to here */
    enum record_type mark;              /* to be written before the next entry; 0: none */
    struct journal_write write;
    uint64_t write_last;                /* the write under way makes the log durable up to here; 0: says nothing */
    bool write_resets;                  /* it holds the mark of an installed snapshot */
    bool writing;                       /* write is under way */
    bool write_again;                   /* it hit the end of space */
    struct storage_put put;
    struct snapshot_id snapshots[SNAPSHOTS_KEPT];   /* newest first, index 0: none */

    uint64_t checked_ms;                /* when the disk's space was looked at */
    uint64_t prepare_after_ms;          /* no attempt before */
    bool prepare_failed;
    bool failed;                        /* fatal() was called: nothing is reported any more */
    struct storage_stats stats;
};

void storage_fatal(struct storage *s, const struct error *err);
