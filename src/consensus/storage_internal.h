/* Storage: what its halves share: storage_open.c (start, recovery) and storage.c (the running raft_io). */
#pragma once
#include <sys/queue.h>

#include "consensus/journal.h"
#include "consensus/snapshot.h"
#include "consensus/storage.h"

/* What waits to be written to the log, in order: the entries of one raft_io.append, or a mark. */
struct storage_item {
    STAILQ_ENTRY(storage_item) next;
    enum record_type mark;              /* 0: entries */
    uint64_t index;                     /* of the first entry; of the mark */
    const struct raft_entry *entries;   /* the library's until the callback */
    unsigned n, encoded;                /* a mark counts as one */
    struct raft_io_append *append;      /* NULL: none */
    struct raft_io_snapshot_put *put;   /* NULL: none */
};

/* The snapshot that is being stored; the library stores one at a time. */
struct storage_put {
    struct executor_job job;
    struct storage *storage;
    struct raft_io_snapshot_put *req;   /* NULL: none under way */
    const struct raft_snapshot *snapshot;
    bool install;                       /* a leader's: it replaces the log */
    bool wait;                          /* for space, tried again at a tick */
    uint64_t bytes;
    int result;
};

struct storage_get {
    struct executor_job job;
    struct storage *storage;
    struct raft_io_snapshot_get *req;
    LIST_ENTRY(storage_get) next;
    struct raft_snapshot *snapshot;
    struct error err;
};

struct storage {
    struct raft_io io;
    struct storage_options options;
    struct disk *disk;
    struct metadata metadata;
    struct journal *journal;
    struct storage_transport *transport;
    raft_io_tick_cb tick;
    raft_io_recv_cb receive;

    /* From storage_open() until raft_io.load() takes it. */
    struct journal_contents contents;
    struct raft_snapshot *loaded;

    STAILQ_HEAD(, storage_item) items;
    struct journal_write write;
    bool writing;                       /* write is under way, or done and being reported */
    bool write_again;                   /* it hit the end of space */
    uint64_t next_index;
    struct storage_put put;
    LIST_HEAD(, storage_get) gets;
    struct snapshot_id snapshots[SNAPSHOTS_KEPT];   /* newest first, index 0: none */

    uint64_t checked_ms;                /* when the disk's space was looked at */
    uint64_t prepare_after_ms;          /* no attempt before */
    bool prepare_failed;
    bool begun;
    bool failed;                        /* fatal() was called: nothing is reported any more */
    struct storage_stats stats;
};

void storage_fatal(struct storage *s, const struct error *err);
int storage_load(struct raft_io *io, raft_term *term, raft_id *voted_for, struct raft_snapshot **snapshot,
                 raft_index *start_index, struct raft_entry **entries, size_t *n);
int storage_bootstrap(struct raft_io *io, const struct raft_configuration *configuration);
void storage_io_set(struct storage *s);   /* the functions of s->io */
