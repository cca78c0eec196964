/* Runner: brings what the servers want of this node and what runs on it together, one state machine per allocation. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "agent/alloc_record.h"
#include "agent/driver.h"
#include "agent/store.h"
#include "base/error.h"
#include "model/model.h"

struct runner;
struct secret_source;
struct secret_files;

/* Borrowed for the runner's life. */
struct runner_env {
    uv_loop_t *loop;
    struct store *store;
    struct drivers *drivers;
    struct cgroup_root *cgroups;     /* NULL: none */
    struct secret_source *secrets;         /* NULL, and so secret_files: no task gets any */
    struct secret_files *secret_files;
    const char *data_dir, *volume_root;
    const char *node_name, *ip;
    const struct kv_list *node_meta;
    int64_t gc_age_ms, gc_max_allocs, gc_max_mb;
    const char *(*trouble)(void *ctx);   /* why nothing can be started on this node now; NULL: it can */
    int (*admits)(void *ctx, const struct service *s, struct error *err);      /* whether this node may run it; may be NULL */
    void (*no_space)(void *ctx);     /* a start failed for want of room: trouble is likely */
    void (*report)(void *ctx);       /* there is something to collect */
    void (*ended)(void *ctx, const char *alloc_id);      /* it is dead, its logs are complete */
    void *ctx;
};

struct runner *runner_new(const struct runner_env *env);

/* Reads the store and adopts what it names. Nothing is started until the servers have said what they want. */
int runner_load(struct runner *r, struct error *err);

/* The servers' word. Safe to repeat. After the first full one, tasks that nobody wants are looked for and stopped. */
void runner_apply(struct runner *r, const struct agent_work *work);

/* Servers have answered what was sent at that time (monotonic). lease_ms: for so long from then on, tasks may use volumes that
 * other nodes have too; then they are ended. 0: there are none such. True when a lease was over: other nodes may have the volumes
 * since, so nothing starts before runner_apply was given full work, which the caller has to ask for. */
bool runner_lease(struct runner *r, int64_t sent_at_ms, int64_t lease_ms);

/* trouble() came or went: what waited for its end starts. */
void runner_trouble_changed(struct runner *r);

/* For sync: reports that the servers do not have, and that they have them now. */
void runner_collect(struct runner *r, struct agent_report *report, uint32_t limit);
void runner_acknowledge(struct runner *r, const struct agent_report *report);

/* Stops every task, then removes all files and control groups of allocations, then calls done. */
void runner_stop_all(struct runner *r, void (*done)(void *ctx), void *ctx);
/* After runner_stop_all: does not wait for kill timeouts any more. */
void runner_kill_all(struct runner *r);
/* Lets go of everything: tasks go on. Handles end as the loop runs on. */
void runner_close(struct runner *r);

/* --- looking --- */
struct runner_view {
    const struct alloc_record *record;
    const struct service *spec;
    struct task *task;               /* NULL: nothing runs */
    const char *phase;
    int pid;
    const char *health;              /* what the last check gave; "" */
};
/* By id or unique beginning of it. */
int runner_find(struct runner *r, const char *id, struct runner_view *view, struct error *err);
/* Calls fn for each allocation. */
void runner_each(struct runner *r, void (*fn)(void *ctx, const struct runner_view *view), void *ctx);
/* Id of an allocation that is not over and has a volume there (allocation_has_volume), NULL: none. */
const char *runner_volume_user(struct runner *r, const char *dir);
/* The allocation's directory; the caller frees it. */
char *runner_alloc_dir(const struct runner *r, const char *alloc_id);

struct runner_counters { uint64_t starts, start_failures, exits, restarts, removed; };
const struct runner_counters *runner_counters(const struct runner *r);
