/* Snapshot files: snapshot-INDEX-TERM (16 hexadecimal digits each), whole or absent, checksummed; the newest two stay.
 * One that a leader sends is collected in snapshot-incoming, checked, and then gets its name. */
#pragma once
#include "consensus/disk.h"
#include "consensus/membership.h"

#define SNAPSHOTS_KEPT 2
#define SNAPSHOT_INCOMING "snapshot-incoming"
#define SNAPSHOT_LIMIT (64ull << 30)        /* bytes of a file */

struct snapshot_id {
    uint64_t index, term;
};

/* Zeroed: none. */
struct snapshot {
    struct snapshot_id id;                  /* of the last entry whose effects it holds */
    uint64_t membership_index;
    struct membership membership;           /* as of that entry */
    uint8_t *data;                          /* the state */
    size_t len;
    void *memory;                           /* what data points into; from malloc */
};
void snapshot_clear(struct snapshot *s);
void snapshot_clear_data(struct snapshot *s);    /* only the state */
void snapshot_file_name(char out[static DISK_NAME_SIZE], const struct snapshot_id *id);

/* Writes it durably and removes what is older than the newest two. Blocking. Returns 0 or a negative errno. */
int snapshot_write(struct disk *disk, uint64_t cluster_id, const struct snapshot *snapshot, uint64_t *bytes);

int snapshot_read(struct disk *disk, uint64_t cluster_id, const struct snapshot_id *id, struct snapshot *out,
                  struct error *err);
/* Reads and checks the incoming one, whatever its id. */
int snapshot_read_incoming(struct disk *disk, uint64_t cluster_id, struct snapshot *out, struct error *err);
/* The incoming one gets its name, durably; removes what is older than the newest two. Returns 0 or a negative errno. */
int snapshot_accept_incoming(struct disk *disk, const struct snapshot_id *id);

/* The files there are, newest first; at most max. Returns how many, or a negative errno. */
int snapshot_list(struct disk *disk, struct snapshot_id *out, size_t max);

/* The newest that is whole; index 0 when there is none. Damaged ones are put aside as NAME.damaged, and counted. An error
 * is one of reading, not of content. */
int snapshot_load_newest(struct disk *disk, uint64_t cluster_id, struct snapshot *out, unsigned *damaged,
                         struct error *err);
