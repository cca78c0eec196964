/* Allocation record: all that the agent keeps of one allocation, in memory and in its store. */
#pragma once
#include "model/model.h"

/* A local restart, kept while it lies within the restart policy's window. */
struct restart_mark { int64_t at; };
struct restart_mark_list { struct restart_mark *v; uint32_t n; };

struct alloc_record {
    struct alloc alloc;              /* as the servers want it; its state is theirs, ours is in `report` */
    struct alloc_report report;      /* what we say of it */
    bool acknowledged;               /* the servers have this report */
    char *handle;                    /* the driver's, of the run that is on or was last; NULL: never started */
    int64_t generation;              /* of the servers' wish that the run fulfils */
    bool launched;                   /* a run was begun and its end was not dealt with yet */
    bool paused;                     /* its task was asked to stand still */
    uint64_t runs;                   /* how often it was started */
    struct restart_mark_list restarts;
    struct kv_list secrets;          /* which version of each secret its task has; no values */
    int64_t backoff;                 /* local restarts in a row without a quiet window between: doubles the delay */
};

extern const struct type alloc_record_type;
