/* Snapshot files: snapshot-INDEX-TERM (16 hexadecimal digits each), whole or absent, checksummed; the newest two stay. */
#pragma once
#include <raft.h>

#include "consensus/disk.h"

#define SNAPSHOTS_KEPT 2

struct snapshot_id {
    uint64_t index, term;
};

/* Writes it durably and removes what is older than the newest two. Blocking. Returns 0 or a negative errno. */
int snapshot_write(struct disk *disk, uint64_t cluster_id, const struct raft_snapshot *snapshot, uint64_t *bytes);

/* Reads one; out and everything in it comes from raft_malloc, with a single buffer. */
int snapshot_read(struct disk *disk, uint64_t cluster_id, const struct snapshot_id *id, struct raft_snapshot **out,
                  struct error *err);
void snapshot_destroy(struct raft_snapshot *snapshot);

/* The files there are, newest first; at most max. Returns how many, or a negative errno. */
int snapshot_list(struct disk *disk, struct snapshot_id *out, size_t max);

/* The newest that is whole, NULL when there is none. Damaged ones are put aside as NAME.damaged, and counted. An error is
 * one of reading, not of content. */
int snapshot_load_newest(struct disk *disk, uint64_t cluster_id, struct raft_snapshot **out, unsigned *damaged,
                         struct error *err);
