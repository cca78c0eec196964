/* Snapshot file: the state of the control plane at one index as a file that people keep: a line that says what it is, a
 * head in JSON, the state's bytes, and a hash over all of it. */
#pragma once
#include "model/field.h"

struct snapshot_info {
    int64_t taken_at;
    uint64_t index;                  /* of the last change that it holds */
    char *cluster_id, *server;       /* server: name of the one that took it */
    char *version;                   /* its release */
    char *state_hash;                /* running hash of all that was applied */
    int64_t nodes, services, allocs;
    uint64_t state_bytes;
};
extern const struct type snapshot_info_type;

/* Appends the file to out. */
void snapshot_file_write(const struct snapshot_info *info, const void *state, size_t len, struct buf *out);
/* Checks the whole file. state points into bytes; info is the caller's to clear. -1: ERROR_INVALID (not a snapshot),
 * ERROR_UNSUPPORTED (of a later release) or ERROR_CORRUPT (cut or damaged), and info is zero. */
int snapshot_file_read(const void *bytes, size_t len, struct snapshot_info *info, const void **state, size_t *state_len,
                       struct error *err);
/* Reads only the head of a file on disk, unchecked, for lists. Blocking. */
int snapshot_file_head(const char *path, struct snapshot_info *info, struct error *err);
