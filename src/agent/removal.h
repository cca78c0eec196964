/* Removal: deletes and counts the files and control groups of allocations, in the worker pool, one job at a time. */
#pragma once
#include <stdint.h>
#include <uv.h>

#include "agent/cgroup.h"
#include "model/field.h"

struct removal;

/* cgroups may be NULL. Both are borrowed until all jobs have ended. */
struct removal *removal_new(uv_loop_t *loop, const char *data_dir, const struct cgroup_root *cgroups);

/* Deletes DATA_DIR/allocs/ID and the control group ID. A failure is logged; the next scan finds what is left. */
void removal_add(struct removal *r, const char *id);

/* Lists the ids that have a directory or a control group and calls fn for each, from the loop. */
void removal_scan(struct removal *r, void (*fn)(void *ctx, const char *id), void *ctx);

/* Measures the directories of ids, given from the newest to the oldest, and calls fn, from the loop, for each one
 * that lies beyond max_mb. Takes over the list. */
void removal_trim(struct removal *r, struct str_list *ids, int64_t max_mb, void (*fn)(void *ctx, const char *id),
                  void *ctx);

/* Calls fn once every job that was given so far has ended. */
void removal_when_done(struct removal *r, void (*fn)(void *ctx), void *ctx);

/* Drops the jobs that have not begun; frees itself when the running one has ended. No callback comes any more. */
void removal_close(struct removal *r);
