/* Tasks that have a shim: what the drivers for processes and for virtual machines share. shim_task.c is the agent's side
 * of a shim, shim_session.c that of commands in tasks. A driver's own task begins with struct shim_task; it makes the
 * shim's spec, and takes the functions of here for the rest. */
#pragma once
#include <uv.h>

#include "agent/driver.h"
#include "agent/shim_protocol.h"

#define BOOT_ID_SIZE 40

struct shim_tasks {                  /* of one driver */
    const struct driver_env *env;
    int null_fd;
    char boot_id[BOOT_ID_SIZE];
    /* Shims that have closed their files and are about to be dead. */
    uv_timer_t *reap_timer;
    pid_t *dying;
    size_t n_dying, cap_dying;
};
void shim_tasks_open(struct shim_tasks *s, const struct driver_env *env);
void shim_tasks_close(struct shim_tasks *s);
/* What is missing here that no shim can do without; NULL: nothing is. */
const char *shim_tasks_lack(struct shim_tasks *s);
/* Never NULL: without limits, no groups. */
const struct cgroup_root *shim_tasks_cgroups(const struct shim_tasks *s);

struct shim_task {
    struct task head;
    struct shim_tasks *state;
    char *alloc_id, *alloc_dir;
    uint64_t run;
    pid_t shim;                      /* 0: not known */
    bool fresh;                      /* started, not adopted */
    int64_t lease_until;             /* as in task_lease */
    int control;                     /* to the shim; its end is the shim's end */
    uv_poll_t poll;
    uv_timer_t later;                /* what is known at once is told from the loop */
    unsigned open_handles;
    bool told_started, gone;
    struct error failed;
    struct task_exit how;            /* with `gone` */
    struct vm_metrics metrics;       /* as its shim told last */
    /* Of the driver; may be NULL: it was not started (and `started` will tell err, which this may change); SHIM_SNAPSHOT was
     * answered, err NULL: well. */
    void (*not_started)(struct shim_task *t, struct error *err);
    void (*snapshot_made)(struct shim_task *t, bool on_serial, const struct error *err);
    void (*freed)(struct shim_task *t);          /* of the driver; may be NULL: the memory goes now */
};

void shim_task_init(struct shim_tasks *s, struct shim_task *t, const char *alloc_id, const char *alloc_dir);
/* With t->lease_until as it is then. service: for the shim's title. When it fails, tell it by shim_task_fail. */
int shim_task_start(struct shim_task *t, const struct shim_spec *spec, const char *service, struct error *err);
/* `started` tells the error, from the loop. */
void shim_task_fail(struct shim_task *t, const struct error *err);
void shim_task_adopt(struct shim_task *t, const char *handle);
/* As in struct driver. */
void shim_task_stop(struct task *t, int signal, int64_t timeout_ms);
int shim_task_signal(struct task *t, int signal, struct error *err);
int shim_task_secrets_changed(struct task *t, const struct str_list *files, int signal, struct error *err);
int shim_task_snapshot(struct shim_task *t, const char *state, const char *memory, struct error *err);
void shim_task_balloon(struct shim_task *t, int64_t mb);
int shim_task_pause(struct task *t, bool paused, struct error *err);
int shim_task_stats(struct task *t, struct task_stats *out, struct error *err);
void shim_task_lease(struct task *t, int64_t until_ms);
void shim_task_remove(struct task *t);
void shim_task_free(struct task *t);
uv_loop_t *shim_task_loop(const struct shim_task *t);

/* A new connection to the task's shim; ERROR_NOT_FOUND when there is none. */
int shim_task_connect(const char *alloc_dir, struct error *err);

struct exec_session {
    struct task_exec head;
    int connection;                  /* to the shim; its closing kills the command */
    uv_poll_t poll;
    uv_pipe_t in, out[2];            /* tty: out[0] is the terminal, both ways */
    uv_timer_t timer;                /* after the command's end: output that a process left behind holds open */
    unsigned open_handles, outputs;  /* outputs: not yet at their end */
    bool tty, in_open, out_open[2], ended, paused, told;
    bool closing_in, looked;
    size_t waiting;                  /* bytes given to exec_write and not yet taken */
    int code;
    struct error error;
};
int exec_session_start(struct task *t, struct task_exec *x, const struct exec_spec *spec, struct error *err);
size_t exec_session_write(struct task_exec *x, const void *bytes, size_t n);
void exec_session_close_stdin(struct task_exec *x);
void exec_session_resize(struct task_exec *x, uint16_t rows, uint16_t cols);
void exec_session_pause(struct task_exec *x, bool paused);
void exec_session_free(struct task_exec *x);
