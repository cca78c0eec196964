/* Process: the proxy's master process as a task of the exec driver: a shim is its parent, keeps its logs, and outlives the
 * agent, which finds it again by the directory. */
#pragma once
#include <uv.h>

#include "agent/cgroup.h"
#include "agent/ingress/ingress_config.h"
#include "base/error.h"

struct process;

struct process_options {
    uv_loop_t *loop;
    const struct ingress_config *config;
    const char *directory;           /* exists */
    const char *node;
    struct cgroup_root *cgroups;
    void (*running)(void *arg);
    /* It does not run: there was none to be found, it could not be started, or it ended. */
    void (*gone)(void *arg, const char *why, bool was_running);
    void *arg;
};

/* Looks whether one runs there; `running` or `gone` tells. Borrows the options' pointers. */
int process_open(const struct process_options *o, struct process **out, struct error *err);
/* After `gone`. */
void process_start(struct process *p);
/* Ends it now, with its connections; `gone` tells when it is over. */
void process_stop(struct process *p);
/* Lets go of it: it goes on when it runs. Its handles end as the loop runs on. */
void process_close(struct process *p);
/* What the proxy complained of last, in one line; the caller's. */
char *process_words(const char *directory);
