/* Secret files: a directory in memory (tmpfs) for each allocation, with the files that its task gets. Blocking, but short: no
 * disk is touched. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

/* Where containers and microVMs find it. */
#define SECRETS_DIR_INSIDE "/run/secrets"

struct secret_files;
/* base: a directory on a tmpfs; NULL: /run, or /dev/shm where /run is none. node_id keeps agents of one host apart. Never
 * fails: what is missing is told by secret_files_make. */
struct secret_files *secret_files_open(const char *base, const char *node_id);
/* With `all`, the directories of all allocations go too. */
void secret_files_close(struct secret_files *f, bool all);

/* The allocation's directory; the caller frees it. */
char *secret_files_dir(const struct secret_files *f, const char *alloc_id);
/* Makes it anew, empty, for its owner alone. */
int secret_files_make(const struct secret_files *f, const char *alloc_id, struct error *err);
/* Puts a file in place of the one of its name, 0400, for the directory's owner. */
int secret_files_write(const struct secret_files *f, const char *alloc_id, const char *name, const void *p, size_t n,
                       struct error *err);
/* Gives a directory with its files to the task's user; without root, nothing is done. */
int secret_dir_give(const char *dir, uid_t uid, gid_t gid, struct error *err);
/* Nothing when it is not there. */
void secret_files_remove(const struct secret_files *f, const char *alloc_id);
/* Calls fn for each allocation that has a directory; fn may remove it. */
void secret_files_each(const struct secret_files *f, void (*fn)(void *ctx, const char *alloc_id), void *ctx);
