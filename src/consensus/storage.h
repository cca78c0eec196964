/* Storage: our struct raft_io. The disk half is here; sending is the transport's (storage_set_transport).
 *
 * The library gets no input or output error to see: one ends in fatal(). Where there is no space it waits, and says so
 * beforehand (storage_has_space), so that new commands can be refused while that is still an honest answer. */
#pragma once
#include <raft.h>

#include "consensus/disk.h"
#include "consensus/executor.h"
#include "consensus/metadata.h"

struct storage;

/* What the storage needs from its surroundings; virtual in the simulator. */
struct storage_host {
    struct disk *disk;
    struct executor *executor;
    uint64_t (*now_ms)(struct storage_host *host);                 /* monotonic */
    int (*random)(struct storage_host *host, int min, int max);    /* min … max-1 */
};

struct storage_callbacks {
    /* Something happened, and the library was called back: look at what changed. */
    void (*event)(void *ctx);
    void (*fatal)(void *ctx, const struct error *err);
    /* A snapshot was written (error 0) or could not be (negative errno, no space). */
    void (*snapshot_written)(void *ctx, uint64_t index, uint64_t bytes, int error);
};

struct storage_options {
    struct storage_host *host;
    const struct storage_callbacks *callbacks;
    void *ctx;
    uint64_t server_id, cluster_id;    /* 0: the directory's, or random */
    uint64_t segment_bytes;
    uint64_t reserve_bytes;
    unsigned trailing;
};

/* Reads metadata, log and newest snapshot; raft_init() and raft_start() take them from here. */
int storage_open(struct storage **out, const struct storage_options *options, struct error *err);
/* After the raft_io was closed (or never used), with no job under way or none that will still run. Closing the raft_io
 * completes what waits without doing it, so that the library, closed by then, lets go of it. */
void storage_free(struct storage *s);
DEFINE_CLEANUP(storage_free, struct storage)

struct raft_io *storage_io(struct storage *s);
uint64_t storage_server_id(const struct storage *s);
uint64_t storage_cluster_id(const struct storage *s);
/* Work may begin; nothing is submitted to the executor before. */
void storage_begin(struct storage *s);
/* Nothing was ever stored but the ids: it may be bootstrapped. */
bool storage_is_pristine(const struct storage *s);
/* Index of the newest snapshot, 0: none. */
uint64_t storage_snapshot_index(const struct storage *s);

/* The transport takes messages off the library's hands: the contract of raft_io.send. Without one all messages fail. */
struct storage_transport {
    int (*send)(struct storage_transport *transport, struct raft_io_send *req, const struct raft_message *message,
                raft_io_send_cb cb);
};
void storage_set_transport(struct storage *s, struct storage_transport *transport);
/* Hands a received message to the library (which takes over what it points to). */
void storage_receive(struct storage *s, struct raft_message *message);

/* To be called every tick period (of raft_io.start, or longer when nothing depends on it): the library's clock, and
 * another attempt where space was missing. */
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
