/* Archives as images of virtual machines: tar (plain, gzip or zstd) of a root file system, OCI layouts and what
 * `docker save` writes, both as one tar file. Nothing is unpacked on the host: what an archive holds is checked and
 * passed on to mksquashfs as it is read. Refused, with the reason: paths with `..`, links that leave the root, devices,
 * entries that go through links, digests that do not fit, what unpacks to more than the limit. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "agent/vm_image_build.h"

bool vm_archive_looks_like(const char *head, size_t n);
/* fd: the archive, of `size` bytes; stays open. */
int vm_archive_build(int fd, int64_t size, int64_t max_mb, const char *built, struct vm_image *out,
                     char content[static SHA256_TEXT_SIZE], struct error *err);
