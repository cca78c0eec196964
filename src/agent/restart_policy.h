/* Restart policy: what follows when a task has ended. Pure. */
#pragma once
#include "agent/alloc_record.h"
#include "base/buf.h"

enum restart_verdict {
    RESTART_AGAIN,        /* start again after delay_ms */
    RESTART_COMPLETE,     /* done: the allocation is complete */
    RESTART_FAILED,       /* beyond the policy: the servers decide what follows */
};

struct restart_decision {
    enum restart_verdict verdict;
    int64_t delay_ms;
    int64_t number;       /* of this restart within the window, from 1 */
};

/* Decides after a run that began at started_ms and ended at now_ms, and notes a restart in the record (marks, backoff,
 * report.restarts). clean: the program ended by itself with code 0. */
struct restart_decision restart_decide(struct alloc_record *r, const struct service *spec, bool clean,
                                       int64_t started_ms, int64_t now_ms);

/* Adds what follows to why it ended: "; restart 2 of 3 in 4s", "; 3 restarts within 1m are used up". */
void restart_describe(const struct restart_decision *d, const struct service *spec, struct buf *out);
