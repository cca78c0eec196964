/* Journal: the log's files. Names are log-SEQUENCE (16 hexadecimal digits); each is preallocated, the next one always
 * ahead of need. Encodes on the loop's thread, writes and syncs in jobs; one write is under way at a time. */
#pragma once
#include "consensus/disk.h"
#include "consensus/executor.h"
#include "consensus/raft_log.h"
#include "consensus/record.h"

struct journal;

/* What the files hold. The term before its first entry is not known here. */
struct journal_contents {
    struct raft_log log;
    uint64_t torn_bytes;           /* cut from the tail: a write that a crash interrupted */
};

/* Reads the files (blocking), cuts a torn tail. Refuses, with file and offset, when a record is damaged that had been
 * durable; contents are empty then. place.sequence is not used. */
int journal_open(struct journal **out, struct disk *disk, const struct record_place *place, uint64_t segment_bytes,
                 struct journal_contents *contents, struct error *err);
/* No job may be under way. */
void journal_free(struct journal *j);
DEFINE_CLEANUP(journal_free, struct journal)

/* One write: filled by journal_put, run by journal_submit, then result is 0 or a negative errno and done(ctx) runs.
 * After -ENOSPC it may be submitted again as it is. */
struct journal_write {
    struct executor_job job;
    struct disk *disk;
    struct journal *journal;
    uint64_t sequence;      /* of the file */
    int file;
    uint64_t offset;
    struct buf bytes;
    int result;
    void (*done)(void *ctx);
    void *ctx;
};
/* False when the record does not fit: with bytes in w, into the rest of the file (then submit w first: it may hold the
 * mark that the log goes on in the next file, and nothing else); with w empty, anywhere until the next file is prepared.
 * `record`: term, index, type, len and bytes. */
bool journal_put(struct journal *j, struct journal_write *w, struct record *record);
void journal_submit(struct journal *j, struct executor *executor, struct journal_write *w);
/* The same, blocking, without done(); empties w. Returns 0 or a negative errno. For the start. */
int journal_write_now(struct journal *j, struct journal_write *w);

/* Bytes that a record may have at most in files of this size. */
uint64_t journal_record_max(uint64_t segment_bytes);

/* True when the next file ought to be prepared and nobody does. */
bool journal_wants_file(const struct journal *j);
/* Prepares it in the background; then done(ctx, result): 0 or a negative errno. */
void journal_prepare_file(struct journal *j, struct executor *executor, void (*done)(void *ctx, int result), void *ctx);
/* The same, blocking; for the start. */
int journal_prepare_file_now(struct journal *j);

/* Removes, in the background, the oldest files that hold nothing from `index` on. Errors are not reported: what stays
 * is removed another time. */
void journal_remove_below(struct journal *j, struct executor *executor, uint64_t index);

bool journal_has_file(const struct journal *j);         /* there is one to write into */
uint64_t journal_bytes_on_disk(const struct journal *j);
