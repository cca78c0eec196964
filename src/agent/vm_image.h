/* Images of virtual machines: from what a service names (a static program, a directory, a tar archive, an OCI or
 * docker-save archive, a file system image) to a read-only file system image, built once for each content and shared by
 * every machine that uses it.
 *
 * In DIR: images/HASH (with HASH.json: what the image itself says of its program), sources/KEY (a link from what a source
 * looks like from outside, its path, size and times, to the image that was made of it). Blocking, for workers; calls for
 * the same source wait for each other. */
#pragma once
#include "base/error.h"
#include "model/field.h"

struct vm_images;

struct vm_image {
    char *path;                      /* of the built image */
    const char *type;                /* "squashfs" or "ext4"; static text */
    struct str_list entrypoint, command, env;    /* command: the default arguments of entrypoint */
    char *user, *workdir;            /* NULL: not said */
};
void vm_image_clear(struct vm_image *i);

/* roots: sources must lie below one of these; max_mb: of what is unpacked. Both borrowed. */
struct vm_images *vm_images_open(const char *dir, const struct str_list *roots, int64_t max_mb);
void vm_images_close(struct vm_images *v);
/* Builds it unless it is there. progress (may be NULL) is told before a build begins. */
int vm_image_get(struct vm_images *v, const char *source, struct vm_image *out, struct error *err);
/* Removes images that no machine was started from for so long, and what interrupted builds left. in_use: paths that
 * stay. */
void vm_images_collect(struct vm_images *v, int64_t age_ms);
/* The file below one of the roots, its links followed; *real is the caller's. */
int vm_source_find(const struct str_list *roots, const char *path, char **real, struct error *err);
