/* Record: the unit of a log file, as bytes. A file is one header block, then records one after another; each write to it
 * (a batch, synced before the next begins) holds one or more records.
 *
 * What makes damage tellable from a write that a crash cut short:
 *   checksum   over the record, seeded with server, cluster, file and offset: no record is valid anywhere else.
 *   previous   the checksum of the record before it, also across files: a record that vanished is noticed.
 *   batch      offset at which the record's write began: everything before that was durable when it was written. So an
 *              unreadable record followed by a valid one of a later batch is damage; otherwise it is a torn tail. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define RECORD_HEADER_SIZE 48
#define SEGMENT_HEADER_SIZE 4096

enum record_type {
    /* 1 … 15: an entry, with its enum entry_type. */
    RECORD_ENTRY_LAST = 15,
    RECORD_TRUNCATE = 16,   /* entries from `index` on are gone */
    RECORD_RESET = 17,      /* all entries are gone, `index` is the next one (a snapshot replaced them) */
    RECORD_NEXT_FILE = 18,  /* the file's last: the log goes on in the file of the sequence `index`, which exists */
};

struct record {
    uint64_t checksum;
    uint64_t previous;
    uint64_t term;
    uint64_t index;
    uint32_t len;
    uint32_t batch;
    uint8_t type;
    const uint8_t *bytes;   /* not owned */
};

/* Bytes it takes in a file. */
static inline uint64_t record_size(uint64_t len) { return (RECORD_HEADER_SIZE + len + 7) & ~(uint64_t)7; }

/* Whose file it is. */
struct record_place {
    uint64_t cluster_id, server_id;
    uint64_t sequence;      /* of the file */
};

/* Appends r, which will stand at `offset` of the file, and sets r->checksum. */
void record_encode(struct buf *out, const struct record_place *place, uint64_t offset, struct record *r);
/* Reads the record at `offset` of a file's bytes. False when there is none that is whole. */
bool record_decode(const uint8_t *file, uint64_t file_size, const struct record_place *place, uint64_t offset,
                   struct record *r);

struct segment_header {
    struct record_place place;
    uint64_t bytes;         /* size of the file */
};
void segment_header_encode(uint8_t out[static SEGMENT_HEADER_SIZE], const struct segment_header *h);
enum segment_header_state {
    SEGMENT_HEADER_VALID,
    SEGMENT_HEADER_DAMAGED,   /* or never finished */
    SEGMENT_HEADER_FOREIGN,   /* whole, but of another server, cluster, file or format */
};
enum segment_header_state segment_header_decode(const uint8_t *file, uint64_t file_size,
                                                const struct record_place *expected, struct segment_header *h);
