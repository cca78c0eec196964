/* Disk: the file operations of one directory that the log and the snapshots need, so that tests can put a disk there
 * which loses, tears and reorders what was not synced. Blocking; any thread, but one thread at a time for a file. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"

#define DISK_NAME_SIZE 64

struct disk;

/* All return 0 (or a non-negative value) or a negative errno. Names are plain file names inside the directory. */
struct disk_operations {
    /* A handle for reading and writing; makes the file when `create`. */
    int (*open)(struct disk *disk, const char *name, bool create);
    void (*close)(struct disk *disk, int file);
    int (*size)(struct disk *disk, int file, uint64_t *bytes);
    /* Reads exactly len bytes; -EIO when the file ends before. */
    int (*read)(struct disk *disk, int file, void *p, size_t len, uint64_t offset);
    /* Writes all bytes, or fails with any part of them written. */
    int (*write)(struct disk *disk, int file, const void *p, size_t len, uint64_t offset);
    /* Gives the file this size with its blocks reserved; new bytes read as zeros. */
    int (*allocate)(struct disk *disk, int file, uint64_t bytes);
    /* Content and size are durable when it returns; the file's name only after sync_directory. */
    int (*sync)(struct disk *disk, int file);
    int (*rename)(struct disk *disk, const char *from, const char *to);
    int (*unlink)(struct disk *disk, const char *name);
    int (*list)(struct disk *disk, void (*each)(void *ctx, const char *name), void *ctx);
    int (*sync_directory)(struct disk *disk);
    int (*free_bytes)(struct disk *disk, uint64_t *bytes);
    void (*free)(struct disk *disk);
};

/* Implementations put this first. */
struct disk {
    const struct disk_operations *op;
    const char *place;   /* for messages: the directory's path */
};

/* The real one. Makes the directory, and locks it: a second process is refused. */
int disk_open_directory(struct disk **out, const char *path, struct error *err);
static inline void disk_free(struct disk *disk) { disk->op->free(disk); }
DEFINE_CLEANUP(disk_free, struct disk)

/* For what a server's directory lacks: the text, behind the directory's name and before what can be done. Returns -1. */
int disk_refuse(const struct disk *disk, struct error *err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Whole files. The read one's bytes are the caller's, from malloc. */
int disk_read_file(struct disk *disk, const char *name, uint64_t limit, uint8_t **bytes, size_t *len);
/* By a temporary file, sync, rename, sync of the directory: the old content or the new one, never a mixture.
 * Pieces are written one after another. */
struct disk_piece {
    const void *bytes;
    size_t len;
};
int disk_write_file(struct disk *disk, const char *name, const struct disk_piece *pieces, size_t n);
