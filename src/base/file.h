/* File: whole files read and written so that a crash leaves the old one or the new one. Blocking. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

/* Reads a whole file of at most `limit` bytes into out (cleared first), NUL-ended. */
int file_read(const char *path, size_t limit, struct buf *out, struct error *err);
/* Temporary file beside it ("PATH.new"), fsync, rename, fsync of the folder. */
int file_write(const char *path, const void *p, size_t n, int mode, struct error *err);
/* In place and not synced, for what is worth nothing after a crash of the host: whoever reads it bears one that is cut off. */
int file_put(const char *path, const void *p, size_t n, int mode, struct error *err);
/* mkdir -p; fails when path exists and is not a directory. */
int dir_make(const char *path, int mode, struct error *err);
/* MiB that are left on its disk, for others than root. */
int dir_left_mb(const char *path, int64_t *mb, struct error *err);
/* rm -rf, as far as it goes, without leaving the file system that path is on. */
void dir_remove(const char *path);
