/* Tar, reading: entry by entry from a stream; ustar, GNU and pax. Nothing in it is trusted. Blocking. */
#pragma once
#include "agent/vm_image_build.h"
#include "agent/vm_stream.h"
#include "base/buf.h"

struct tar_in {
    struct stream_in *in;            /* borrowed */
    uint64_t left, padding;          /* of the current entry's bytes */
    uint64_t offset;                 /* of the bytes of the current entry in the stream */
    uint64_t at;
    struct buf path, link;
};
/* The next entry, with a clean path: no leading /, no . and no ..; "" is the root. 1; 0 at the end; -1. Valid until the next
 * call. Devices, sparse files and paths that climb are errors. */
int tar_in_next(struct tar_in *t, struct tar_entry *e, struct error *err);
/* Bytes of the current entry; 0 at its end. */
ssize_t tar_in_read(struct tar_in *t, void *bytes, size_t n, struct error *err);
void tar_in_clear(struct tar_in *t);
