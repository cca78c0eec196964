/* Block images of volumes: sparse files with an ext4 file system, made and checked by the host's e2fsprogs. Blocking. */
#pragma once
#include <stdint.h>

#include "base/error.h"

#define VOLUME_MB_DEFAULT 1024

/* A new file system; nothing is there before, and nothing is left when it fails. */
int volume_make(const char *path, int64_t size_mb, const char *label, struct error *err);
/* Makes it when it is missing; checks and repairs it as after a power loss; lets it grow to size_mb (0: as it is, or
 * VOLUME_MB_DEFAULT when new), never shrink. ERROR_CONFLICT while a
 * process has it open to write. */
int volume_ready(const char *path, int64_t size_mb, const char *label, struct error *err);
/* Deletes it; ERROR_CONFLICT while a machine or process has it. */
int volume_unlink(const char *path, struct error *err);
