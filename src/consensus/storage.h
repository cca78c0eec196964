/* Storage: term and vote, the log and the snapshots of one server, durable in one directory.
 *
 * An error of the disk is never an answer: it ends in fatal(). Where there is no space it waits, and says so beforehand
 * (storage_has_space), so that new commands can be refused while that is still an honest answer. */
#pragma once
#include "consensus/disk.h"
#include "consensus/executor.h"
#include "consensus/metadata.h"
#include "consensus/raft_log.h"
#include "consensus/snapshot.h"

struct storage;

/* What the storage needs from its surroundings; virtual in the simulator. */
struct storage_host {
    struct disk *disk;
    struct executor *executor;
    uint64_t (*now_ms)(struct storage_host *host);                 /* monotonic */
    uint64_t (*random)(struct storage_host *host, uint64_t limit); /* 0 … limit-1 */
};

struct storage_callbacks {
    /* The log is durable up to this index. */
    void (*stored)(void *ctx, uint64_t index);
    void (*fatal)(void *ctx, const struct error *err);
    /* A snapshot was written (error 0) or could not be (negative errno, no space). */
    void (*snapshot_written)(void *ctx, const struct snapshot_id *id, uint64_t bytes, int error);
    /* The incoming snapshot has taken the place of the log. */
    void (*installed)(void *ctx);
};

struct storage_options {
    struct storage_host *host;
    const struct storage_callbacks *callbacks;
    void *ctx;
    uint64_t server_id, cluster_id;    /* 0: the directory's, or random */
    bool must_join;                    /* an empty directory needs a cluster_id */
    uint64_t segment_bytes;
    uint64_t reserve_bytes;
    unsigned trailing;                 /* entries that stay in memory behind a snapshot */
};

/* What was stored. */
struct storage_contents {
    uint64_t term, vote;
    struct raft_log log;            /* from the snapshot on, and what trails it */
    struct snapshot snapshot;       /* index 0: none */
};
void storage_contents_clear(struct storage_contents *c);

int storage_open(struct storage **out, const struct storage_options *options, struct storage_contents *contents,
                 struct error *err);
/* For a directory without metadata: refuses when there is anything else of a server, whose metadata was lost then. */
int storage_check_empty(struct disk *disk, struct error *err);
/* With no job under way, or none that will still run. */
void storage_free(struct storage *s);
DEFINE_CLEANUP(storage_free, struct storage)

uint64_t storage_server_id(const struct storage *s);
uint64_t storage_cluster_id(const struct storage *s);
struct storage_host *storage_host(struct storage *s);
/* Blocking, before storage_begin: appends an entry behind the log's end, in this term (which becomes the stored one).
 * For the first membership of a cluster and for recovery. Returns 0, or -1 with err. */
int storage_append_now(struct storage *s, struct raft_log *log, uint64_t term, enum entry_type type, const void *bytes,
                       uint32_t len, struct error *err);
/* Likewise, the log's next entry. 1: there is no space, it stays to be written. */
int storage_write_now(struct storage *s, const struct entry *e, struct error *err);
/* Work may begin; nothing is submitted to the executor before. The log is read from whenever there is something to write;
 * it outlives the storage or its last job. */
void storage_begin(struct storage *s, const struct raft_log *log);

/* Blocking. False: fatal() was called. */
bool storage_persist(struct storage *s, uint64_t term, uint64_t vote);
/* The log has new entries. */
void storage_log_grew(struct storage *s);
/* The log's entries from index on go away now, before others take their place. */
void storage_log_truncated(struct storage *s, uint64_t index);

/* Writes a snapshot in the background; takes it over. One at a time. */
void storage_put_snapshot(struct storage *s, struct snapshot *snapshot);
bool storage_puts_snapshot(const struct storage *s);
/* Makes the incoming snapshot, which is whole and synced, the newest one, and the log empty behind it; then installed()
 * is called, and the log in memory must be reset. It must not grow meanwhile. */
void storage_install(struct storage *s, const struct snapshot_id *id);
/* The newest one; index 0: none. */
struct snapshot_id storage_snapshot(const struct storage *s);

/* To be called now and then: another attempt where space was missing. */
void storage_tick(struct storage *s);

/* May so many more bytes of commands be proposed? Looks at the disk at most once a second. */
bool storage_has_space(struct storage *s, uint64_t bytes);
bool storage_busy(const struct storage *s);      /* writes or a snapshot under way or waiting */
bool storage_waits_for_space(const struct storage *s);

struct storage_stats {
    uint64_t snapshot_index, snapshot_bytes;
    uint64_t log_bytes;              /* of files */
    uint64_t log_position;           /* bytes of records ever appended or loaded; grows only */
    uint64_t disk_free_bytes;
    bool no_space;
    uint64_t appends, syncs;
};
void storage_stats(const struct storage *s, struct storage_stats *out);
