/* Allocation: the state machine of one allocation on this node. Internal to the runner. */
#pragma once
#include <uthash.h>

#include "agent/health.h"
#include "agent/launch.h"
#include "agent/runner.h"

enum phase {
    PHASE_WAITING,        /* wanted, but not begun: the servers have not spoken yet, or the store refuses */
    PHASE_PREPARING,      /* directories are made and the intent to start is stored */
    PHASE_STARTING,       /* the driver was asked to start */
    PHASE_ADOPTING,       /* the driver was asked to find an earlier run */
    PHASE_UP,             /* the task runs */
    PHASE_PAUSED,         /* it stands still */
    PHASE_BACKOFF,        /* it ended and starts again after a delay */
    PHASE_STOPPING,       /* the driver was asked to stop it */
    PHASE_DEAD,           /* over: complete, failed or lost */
    PHASE_COUNT
};

enum alloc_event {
    EVENT_START,          /* it may start now */
    EVENT_PREPARED,       /* directories are there and the intent is on disk */
    EVENT_REFUSED,        /* preparing failed */
    EVENT_STARTED,
    EVENT_START_FAILED,
    EVENT_EXITED,
    EVENT_HEALTHY,
    EVENT_UNHEALTHY,
    EVENT_TIMER,          /* the delay, or the patience with an unhealthy task, is over */
    EVENT_STOP,           /* not wanted any more */
    EVENT_RESTART,        /* a newer generation is wanted */
    EVENT_CHECKS,         /* its version has other health checks */
    EVENT_PAUSE,          /* it is to stand still */
    EVENT_RESUME,         /* it is to go on */
    EVENT_PAUSED,         /* it stands still; or does not, with err */
    EVENT_RESUMED,        /* it goes on; or does not, with err */
    EVENT_COUNT
};
extern const char *const phase_names[PHASE_COUNT];

/* A version of a service, shared by its allocations. */
struct spec_ref {
    char *key;                       /* "name/version" */
    struct service_version version;
    struct kv_list secrets;          /* the versions that are in force, by the servers' word */
    uint32_t refs;
    UT_hash_handle hh;
};

/* What a stop leads to once the task has ended. */
enum after_stop { AFTER_NOTHING, AFTER_STOP, AFTER_RESTART, AFTER_POLICY };

struct preparation;

struct allocation {
    struct runner *runner;
    struct alloc_record record;
    struct spec_ref *spec;
    enum phase phase;
    enum after_stop after;
    bool gone;                       /* the servers have forgotten it: delete when dead */
    bool orphan;                     /* found, not wanted: never reported */
    struct task *task;
    struct health_check *health;
    struct preparation *preparation;
    struct alloc_secrets *secrets;   /* NULL: its service names none */
    int pid;
    int64_t dead_at;                 /* monotonic */
    char *why;                       /* of a stop that the agent itself began */
    uv_timer_t timer;
    UT_hash_handle hh;
};

/* Feeds one event to the machine. err and how only with the events that have them. */
struct alloc_input {
    enum alloc_event event;
    const struct error *err;
    const struct task_exit *how;
    const char *text;
    const char *handle;
    int pid;
    int64_t started_at;
};
void allocation_step(struct allocation *a, const struct alloc_input *input);
static inline void allocation_event(struct allocation *a, enum alloc_event event)
{
    allocation_step(a, &(struct alloc_input){.event = event});
}

/* Takes over spec's reference. Begins in WAITING. */
struct allocation *allocation_new(struct runner *r, struct spec_ref *spec);
/* Looks for a run of an earlier agent; WAITING → ADOPTING. */
void allocation_adopt(struct allocation *a);
/* Its task, when it has volumes, may use them until then (runner_lease_until); `over`: no longer. */
void allocation_lease(struct allocation *a, bool over);
/* Its task, when it runs, is as its version says. */
void allocation_adjust(struct allocation *a);
/* It is not over, and a volume of it is the directory, above it, or below it. dir: as realpath gives it. */
bool allocation_has_volume(struct allocation *a, const char *dir);
/* Lets go of the task, ends the handles; freed when those are closed. */
void allocation_release(struct allocation *a);
void allocation_save(struct allocation *a);
/* Sets what is reported; does nothing when state and reason are the same. */
void allocation_report(struct allocation *a, enum alloc_state state, const char *reason);
/* Says that its start waits for the end of a trouble of this node. */
void allocation_report_waiting(struct allocation *a, const char *trouble);

/* --- what the machine needs of the runner --- */
const struct runner_env *runner_env(const struct runner *r);
bool runner_may_start(const struct runner *r);
/* Until when tasks may use volumes that other nodes have too, monotonic; 0: not known, since no server has answered yet. */
#define LEASE_NOT_NEEDED INT64_MAX
int64_t runner_lease_until(const struct runner *r);
void runner_spec_release(struct runner *r, struct spec_ref *spec);
void runner_died(struct runner *r, struct allocation *a);        /* a is in DEAD now */
void runner_peers(struct runner *r, const struct allocation *a, struct kv_list *peers);
struct runner_counters *runner_count(struct runner *r);
