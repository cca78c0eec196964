/* Metadata: whose directory this is, the term and the vote. Two files (meta-1, meta-2), both written at each change,
 * one after the other and synced: a crash or damage leaves at least one of them whole. */
#pragma once
#include "consensus/disk.h"

struct metadata {
    uint64_t cluster_id, server_id;   /* 0: the directory is new */
    uint64_t term, vote;
    uint64_t generation;              /* grows with each write */
};

/* Reads the newer of the files and, when they differ, makes them equal again. Without any file *m is all zeros.
 * Refuses when there are files and none is whole. */
int metadata_load(struct disk *disk, struct metadata *m, struct error *err);
/* Counts the generation up, writes, and returns when it is durable. */
int metadata_store(struct disk *disk, struct metadata *m, struct error *err);
