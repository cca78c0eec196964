/* Health: asks a task again and again whether it is well, by HTTP, TCP or a command, and tells when that changes. */
#pragma once
#include <stdbool.h>
#include <uv.h>

#include "agent/driver.h"
#include "model/model.h"

struct health_target {
    const struct health *health;     /* type, path, command, times; copied */
    const char *host;                /* where the task is reached from this host: "127.0.0.1" */
    int port;                        /* the host's port; http and tcp */
    struct task *task;               /* exec; must outlive the check */
};

struct health_events {
    /* Called on each change, the first verdict included. `reason` is plain words: "GET http://127.0.0.1:23456/healthz:
     * connection refused (3 in a row)", "GET …: status 200". Failures within the grace period are not counted. */
    void (*changed)(void *arg, bool healthy, const char *reason);
};

struct health_check;
/* The first probe goes out at once, failed ones before the first success are repeated faster than the interval (from
 * 50 ms, doubling) so that a task that comes up is seen early; only those at full intervals count against it. */
struct health_check *health_start(uv_loop_t *loop, const struct health_target *target,
                                  const struct health_events *events, void *arg);
/* Ends it; no event comes any more. */
void health_stop(struct health_check *h);
/* What the last probe gave, for status pages; "" before the first. */
const char *health_last(const struct health_check *h);
