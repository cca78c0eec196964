/* Snapshots: taken for people, put back, and taken by a schedule into a directory (backup_dir). */
#pragma once
#include <uv.h>

#include "server/control.h"

/* Appends a snapshot file of the state as it is to out, on a worker, then calls done on the core thread; nothing is applied
 * until then. False: not now, this server takes over a snapshot of its leader. */
bool snapshot_take(struct control *c, struct buf *out, void (*done)(void *ctx), void *ctx);

/* --- by schedule: each server for itself; the newest of the last days stay --- */
struct backups;
struct backups *backups_start(struct control *c);
/* Waits for what is under way (a hook is left to itself); its handles end as the loop runs on. */
void backups_stop(struct backups *b);
/* When the last one was written; 0: never that we know of. */
int64_t backups_last_ms(const struct backups *b);
/* Why the last attempt failed; NULL when it did not. */
const char *backups_failing(const struct backups *b);
/* The files of backup_dir, newest first, as {"items":[…]}. Blocking; any thread. */
int backups_list(const struct server_config *config, struct buf *json, struct error *err);
