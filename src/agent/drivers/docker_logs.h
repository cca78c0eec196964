/* Docker logs: brings what a container writes from the engine into the allocation's log files, stdout and stderr apart,
 * each line once, whatever ends meanwhile: agent, engine or container.
 *
 * How far it has come stands in ALLOC_DIR/docker.logs: for each stream the engine's time of the last entry, and where
 * in the log files its end is. What was written beyond that place is cut off before it is fetched again. */
#pragma once
#include "agent/drivers/docker_engine.h"
#include "agent/logfile.h"

struct docker_logs;

/* container: its full id. tty: its output is one plain stream. alloc_dir exists. since_ms: of a container whose log was
 * never fetched, only what is newer; 0: all. */
struct docker_logs *docker_logs_open(struct engine *e, uv_loop_t *loop, const char *alloc_dir, const char *container, bool tty,
                                     int64_t max_files, int64_t max_mb, int64_t since_ms);
/* Follows the running container, until finish or close; begins anew by itself when the engine went away. */
void docker_logs_follow(struct docker_logs *l);
/* The container has ended: fetches what is missing, then calls done once; err: what is missing is lost. */
void docker_logs_finish(struct docker_logs *l, void (*done)(void *arg, const struct error *err), void *arg);
/* No callback comes any more. */
void docker_logs_close(struct docker_logs *l);
