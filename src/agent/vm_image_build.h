/* Building of images of virtual machines: which kind a source is, and how a file system image is made of it. Blocking. */
#pragma once
#include <stdbool.h>
#include <sys/types.h>

#include "agent/vm_image.h"
#include "agent/vm_stream.h"

/* Makes the file `built` of the source, and fills what `out` says of the program (not its path). content: a digest of what
 * is in it, where that is known better than from the file (mksquashfs puts the time into what it makes of a stream); else
 * "". */
int vm_image_build(const char *source, bool directory, int64_t max_mb, const char *built, struct vm_image *out,
                   char content[static SHA256_TEXT_SIZE], struct error *err);

/* A tar stream into mksquashfs: entries are added in any order, but a directory before what is in it. */
struct tar_out;
int tar_out_open(const char *built, struct tar_out **out, struct error *err);
/* type: as in a tar header ('0' file, '5' directory, '2' symbolic, '1' hard link). path: relative, without . and .. */
struct tar_entry {
    char type;
    const char *path, *link;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    int64_t mtime;
    uint64_t size;
};
int tar_out_entry(struct tar_out *t, const struct tar_entry *e, struct error *err);
/* The bytes of the last entry, `size` in all. */
int tar_out_bytes(struct tar_out *t, const void *bytes, size_t n, struct error *err);
/* Ends it, and gives the digest of all that went through it. -1: the image is not whole. err may hold why it was broken
 * off already: then keep is false. */
int tar_out_close(struct tar_out *t, bool keep, char digest[static SHA256_TEXT_SIZE], struct error *err);
