/* Paths: a process that sees of the file system only what it needs, where the kernel has Landlock. Files and directories are
 * meant as they are now: what is mounted over one later, or takes its place, is not. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct path_rule {
    const char *path;            /* one that is not there is passed over */
    bool write;                  /* else only to be read */
};

/* From here on, for this thread and those that it begins; no new privileges either. *done: whether the kernel can (with files
 * that are moved to another directory, since Linux 5.19), which a sanitizer's build does not do: its reports are files. -1 with
 * err. */
int paths_restrict(const struct path_rule *rules, size_t count, bool *done, struct error *err);
