/* Driver: how an agent runs tasks, whatever they are: processes, containers, microVMs.
 *
 * The happy path of a task: task_start → `started` → … → `exited` → task_remove → task_free.
 * After a new start of the agent: task_adopt with the stored handle instead of task_start; all else is the same.
 * Everything runs on the loop's thread. No event is delivered from inside the call that asks for it. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"
#include "model/model.h"

struct cgroup_root;
struct docker_config;
struct firecracker_config;
struct vm_metrics;

/* What drivers need of their agent. Borrowed: must outlive the drivers. */
struct driver_env {
    uv_loop_t *loop;
    const char *node;                 /* the node's name, for messages */
    const char *data_dir;             /* the agent's own directory */
    struct cgroup_root *cgroups;      /* NULL: tasks run without limits */
    const char *ip;                   /* the host's address at which tasks are reached; NULL: every one */
    const char *volume_root;
    const struct docker_config *docker;  /* NULL: no containers here */
    const struct firecracker_config *firecracker;    /* NULL: no microVMs here */
    void (*changed)(void *ctx);       /* what drivers_probe tells has changed; may be NULL */
    void *ctx;
};

/* What to run, with every ${…} replaced. Borrowed for the length of the call. */
struct task_spec {
    const char *alloc_id;
    const char *service;
    const char *job;
    int64_t replica;
    const char *alloc_dir;            /* absolute; exists; the driver keeps its files in it (the caller deletes it) */
    int64_t lease_until;              /* as in task_lease */
    uint64_t run;                     /* number of this start within the allocation: 1, 2, …; comes back in task_exit */
    const struct config *config;
    const struct kv_list *env;        /* the complete environment */
    const struct resources *resources;
    const struct logs *logs;
    const struct volume_list *volumes;
    const struct alloc_port_list *ports;
    const struct security *security;  /* NULL: the driver's default profile */
    const char *ip;                   /* NULL: the host's */
    const struct str_list *secret_env; /* names of those in env whose values are secrets: never written to a disk; NULL: none */
    const char *secrets_dir;          /* a directory in memory with the task's secrets; NULL: it has none */
    const char *registry_login;       /* for the image: "USER:PASSWORD", or a file as `docker login` writes it; NULL: none */
    const char *adopt;                /* what runs already, and is taken over instead of starting anything; NULL: nothing */
};

/* Tasks whose volumes other nodes have too end in time when no server answers: see runner_lease. */
#define LEASE_STOP_MS 2000            /* between SIGTERM and SIGKILL then */
#define LEASE_OVER_REASON "ended: no server has answered this node for as long as its volumes may be used without (volume_lease)"

/* How a task ended. */
struct task_exit {
    uint64_t run;
    bool known;                       /* false: how it ended was lost (its shim was killed, the host restarted) */
    int code;                         /* 0 … 255; when signal is not 0: 128 + signal */
    int signal;
    bool oom;                         /* it ran out of memory_mb */
    int64_t started_at, finished_at;  /* ms since 1970; 0: unknown */
    char reason[256];                 /* plain words: "exit code 3", "killed by SIGKILL: out of memory (limit 64 MB)" */
};

struct task;                          /* one run of a task, as the agent sees it */

/* All are called on the loop; started and exited at most once each. `arg` is the one given to task_start or task_adopt. */
struct task_events {
    /* err NULL: it runs. handle: text for the agent's store, from which task_adopt finds it again; valid in the call;
     *   pid: its main process, 0 when it has none of its own.
     * err set: nothing runs and nothing is left of it; only task_free remains to be done. From task_adopt,
     *   ERROR_NOT_FOUND means that there is no trace of the task: it never started. */
    void (*started)(void *arg, const struct error *err, const char *handle, int pid, int64_t started_at);
    /* It has ended, with its whole process tree, and its logs are complete. Only after started without err. */
    void (*exited)(void *arg, const struct task_exit *how);
    /* The answer to task_pause. err set: it stands, or goes on, as before. May be NULL where task_pause is not called. */
    void (*paused)(void *arg, bool paused, const struct error *err);
    /* Before `started`, any number of times: what the start is busy with, for people. May be NULL. */
    void (*progress)(void *arg, const char *text);
};

struct task_stats {
    double cpu_seconds;               /* used since the start */
    int64_t memory_bytes, memory_peak_bytes, memory_limit_bytes;    /* limit 0: none */
    int64_t pids;
    const struct vm_metrics *vm;      /* of the task's own, as long as it is; NULL: it is no virtual machine, or said nothing yet */
};

/* A command inside a running task: its cgroup or container, user, environment and working directory. */
struct exec_spec {
    const struct str_list *command;
    bool tty;
    uint16_t rows, cols;              /* with tty; 0: 24 x 80 */
};
struct task_exec;
/* `exited` is the last event, after all output; it comes once, unless exec_free was called before. code is 0 … 255, or
 * 128 + signal; err is set when the command was not started or was lost. */
struct exec_events {
    void (*output)(void *arg, int stream, const void *bytes, size_t n);      /* stream: 1 stdout, 2 stderr; tty: only 1 */
    void (*exited)(void *arg, const struct error *err, int code);
    void (*drained)(void *arg);       /* may be NULL; what was written has gone: see exec_write */
};

/* --- the agent's drivers --- */
struct drivers;
/* Opens every driver of the list (empty or NULL: all that are built in); an unknown name is an error. */
int drivers_open(const struct driver_env *env, const struct str_list *names, struct drivers **out, struct error *err);
/* After every task of it was freed. */
void drivers_close(struct drivers *d);
/* What each driver can do here: name, healthy, version, and why not. Cheap; appends to out. */
void drivers_probe(struct drivers *d, struct driver_info_list *out);
/* What the drivers ask the servers for of the network of microVMs (see node_network); NULL: nothing. */
const char *drivers_network_wanted(struct drivers *d);
/* What the servers say of it. NULL: they are of a release that does not know of it. */
void drivers_network(struct drivers *d, const struct agent_network *table);

/* What a thing of this driver's kind that runs without Mentat would be as a service. done is called once, never from
 * inside; found is valid in the call. */
typedef void driver_described(void *arg, const struct found_container *found, const struct error *err);
int drivers_describe(struct drivers *d, const char *driver, const char *what, driver_described *done, void *arg,
                     struct error *err);

/* --- tasks --- */
/* Asynchronous: `started` tells how it went. Returns NULL with err set only when the driver is not there. */
struct task *task_start(struct drivers *d, const char *driver, const struct task_spec *spec,
                        const struct task_events *events, void *arg, struct error *err);
/* Finds a task that an earlier process of this agent started. handle may be NULL: the earlier process ended before it
 * could store it; then the allocation's directory is enough. A task that ended meanwhile gives started, then exited
 * with its true status. */
struct task *task_adopt(struct drivers *d, const char *driver, const char *alloc_id, const char *alloc_dir,
                        const char *handle, const struct task_events *events, void *arg, struct error *err);
/* The handle of a run that will take over what runs already, to be stored before task_start, so that whoever comes later
 * finds it. The caller frees it; NULL with err when the driver cannot do this. */
char *task_takeover_handle(struct drivers *d, const char *driver, const char *what, uint64_t run, const struct logs *logs,
                           struct error *err);
/* Signal (0: SIGTERM) to the main process, after timeout_ms SIGKILL to the whole tree; `exited` tells when it is over.
 * timeout_ms 0 kills at once. May be repeated with a shorter timeout. Also right before `started`. */
void task_stop(struct task *t, int signal, int64_t timeout_ms);
int task_signal(struct task *t, int signal, struct error *err);
/* Files of its secrets directory were replaced. A task that does not see the directory itself is given them; then comes the
 * signal (0: none). Returns before the task has them. */
int task_secrets_changed(struct task *t, const struct str_list *files, int signal, struct error *err);
/* It runs and is well, as far as anybody looks. May be repeated. */
void task_settled(struct task *t);
/* What can change of a running task by its configuration (FIELD_ADJUSTABLE) becomes so. Harmless when nothing changed. */
void task_adjust(struct task *t, const struct config *config);
/* Lets a task that runs stand still, or go on; `paused` tells. Repeating it does no harm. */
int task_pause(struct task *t, bool paused, struct error *err);
int task_stats(struct task *t, struct task_stats *out, struct error *err);
/* Its own address, on the network of microVMs; the caller's. NULL: it has none. */
char *task_address(struct task *t);
/* By then (monotonic) the task ends by itself, unless this is called again, also when this agent is gone; 0: no such time. For
 * drivers whose tasks cannot do that nothing happens. */
void task_lease(struct task *t, int64_t until_ms);
/* Takes away what the driver keeps outside the allocation's directory. After `exited`; harmless when repeated. */
void task_remove(struct task *t);
/* Lets go of it: no event comes any more. A task that runs goes on running. */
void task_free(struct task *t);

/* --- commands in tasks --- */
struct task_exec *task_exec(struct task *t, const struct exec_spec *spec, const struct exec_events *events, void *arg,
                            struct error *err);
/* Takes a copy. Returns the bytes still waiting to be taken by the command: stop feeding when they are many, go on at
 * `drained` (called when they have fallen to zero). */
size_t exec_write(struct task_exec *x, const void *bytes, size_t n);
void exec_close_stdin(struct task_exec *x);       /* after what was written; with tty: sends end-of-file (^D) */
void exec_resize(struct task_exec *x, uint16_t rows, uint16_t cols);
void exec_pause(struct task_exec *x, bool paused);/* no output events while paused: the reader is slow */
/* Kills the command when it still runs, and frees x. Also needed after `exited`. */
void exec_free(struct task_exec *x);

/* Number of "SIGTERM", "TERM", "15"; -1 when there is none. */
int signal_number(const char *name);
/* "SIGTERM"; "a real-time signal" for those without a name. Static text. */
const char *signal_name(int signal);

/* --- for the drivers themselves --- */
/* A NULL function: the driver cannot do it, and the caller is told so by ERROR_UNSUPPORTED. `open` gives the driver's
 * own state, passed to probe, start and adopt. start and adopt give a task whose head the dispatcher has filled. */
struct driver {
    const char *name;
    size_t task_size, exec_size;      /* structs that begin with struct task, struct task_exec */
    int (*open)(const struct driver_env *env, void **state, struct error *err);
    void (*close)(void *state);
    void (*probe)(void *state, struct driver_info *info);
    void (*start)(void *state, struct task *t, const struct task_spec *spec);
    void (*adopt)(void *state, struct task *t, const char *alloc_id, const char *alloc_dir, const char *handle);
    void (*stop)(struct task *t, int signal, int64_t timeout_ms);
    int (*signal)(struct task *t, int signal, struct error *err);
    int (*secrets_changed)(struct task *t, const struct str_list *files, int signal, struct error *err);
                                      /* NULL: its tasks see the directory */
    void (*settled)(struct task *t);
    void (*adjust)(struct task *t, const struct config *config);
    int (*pause)(struct task *t, bool paused, struct error *err);
    int (*stats)(struct task *t, struct task_stats *out, struct error *err);
    void (*lease)(struct task *t, int64_t until_ms);
    void (*remove)(struct task *t);
    void (*free)(struct task *t);     /* owns the memory of t */
    char *(*takeover_handle)(const char *what, uint64_t run, const struct logs *logs);
    void (*describe)(void *state, const char *what, driver_described *done, void *arg);
    const char *(*network_wanted)(void *state);
    void (*network)(void *state, const struct agent_network *table);
    char *(*address)(struct task *t);
    int (*exec)(struct task *t, struct task_exec *x, const struct exec_spec *spec, struct error *err);
    size_t (*exec_write)(struct task_exec *x, const void *bytes, size_t n);
    void (*exec_close_stdin)(struct task_exec *x);
    void (*exec_resize)(struct task_exec *x, uint16_t rows, uint16_t cols);
    void (*exec_pause)(struct task_exec *x, bool paused);
    void (*exec_free)(struct task_exec *x);   /* owns the memory of x */
};
struct task {
    const struct driver *driver;
    const struct task_events *events;
    void *arg;
    bool again;                       /* with a start that failed: the next one is another one, and is due at once */
};
struct task_exec {
    const struct driver *driver;
    const struct exec_events *events;
    void *arg;
};

extern const struct driver driver_exec, driver_docker, driver_firecracker;
