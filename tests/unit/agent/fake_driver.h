/* Fake driver: task_… and health_… as the runner calls them, over tasks that live in the test. */
#pragma once
#include <stdbool.h>

#include "agent/driver.h"

/* One run, as the host sees it; it outlives the agent's struct task. */
struct fake_run {
    char alloc_id[16];
    uint64_t run;
    bool paused;
    int64_t balloon_mb;
    bool alive, exited;              /* alive: the process is there */
    struct task_exit how;
    struct fake_task *task;          /* whoever holds it; NULL after the agent let go */
    int stops, removes, signal;
    bool healthy_known, healthy;
    char **env;
    char *adopts;                    /* what it took over; NULL: it was made */
    struct fake_run *next;
};

struct fake_host {
    uv_loop_t *loop;
    struct fake_run *runs;           /* the newest first */
    int starts, most_alive;          /* most_alive: of one allocation at the same time; must never be 2 */
    bool hold;                       /* starts are not answered by themselves */
    bool deaf;                       /* stops do not end the task, unless they do not wait */
    const char *fail_start;          /* text: every start fails with it */
    enum error_code fail_code;
    int64_t lease_until;             /* as task_lease said last */
};
extern struct fake_host fake;

void fake_reset(uv_loop_t *loop);
struct fake_run *fake_find(const char *alloc_id);            /* the newest run; NULL */
void fake_answer(struct fake_run *r);                        /* a held start succeeds */
void fake_exit(struct fake_run *r, int code);                /* ends by itself; told when somebody holds it */
void fake_health(struct fake_run *r, bool healthy);
const char *fake_env(const struct fake_run *r, const char *key);
