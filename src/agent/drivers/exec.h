/* Exec driver: what its two files share. exec.c runs tasks, exec_session.c commands in them. */
#pragma once
#include <uv.h>

#include "agent/driver.h"

struct exec_state;

struct exec_task {
    struct task head;
    struct exec_state *state;
    char *alloc_id, *alloc_dir;
    uint64_t run;
    pid_t shim;                      /* 0: not known */
    bool fresh;                      /* started, not adopted */
    int control;                     /* to the shim; its end is the shim's end */
    uv_poll_t poll;
    uv_timer_t later;                /* what is known at once is told from the loop */
    unsigned open_handles;
    bool told_started, gone;
    struct error failed;
    struct task_exit how;            /* with `gone` */
};

/* A new connection to the task's shim; ERROR_NOT_FOUND when there is none. */
int exec_shim_connect(const char *alloc_dir, struct error *err);

struct exec_session {
    struct task_exec head;
    int connection;                  /* to the shim; its closing kills the command */
    uv_poll_t poll;
    uv_pipe_t in, out[2];            /* tty: out[0] is the terminal, both ways */
    uv_timer_t timer;                /* after the command's end: output that a process left behind holds open */
    unsigned open_handles, outputs;  /* outputs: not yet at their end */
    bool tty, in_open, out_open[2], ended, paused, told;
    bool closing_in;
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
uv_loop_t *exec_loop(const struct exec_task *t);
