/* Task world: what the tests of tasks stand on. One loop, one folder, one cgroup subtree, and the events of each task. */
#pragma once
#include <stdbool.h>
#include <uv.h>

#include "agent/cgroup.h"
#include "agent/driver.h"
#include "base/buf.h"

struct world {
    uv_loop_t loop;
    char dir[64];
    char cgroup_name[64];
    struct cgroup_root cgroups;
    struct driver_env env;
    struct drivers *drivers;
    enum cgroup_mode mode;
    int next_id;
    char mounted[256];
};

/* One task and what was told of it. */
struct probe {
    struct world *world;
    struct task *task;
    char id[16], dir[128];
    bool started, exited;
    struct error error;              /* of started */
    struct task_exit how;
    char handle[256];
    int pid;
    int64_t started_at;
    struct config config;
    struct kv_list env;
    struct resources resources;
    struct logs logs;
};

struct run {                         /* a command in a task */
    struct world *world;
    struct task_exec *exec;
    struct buf out, err_out;
    bool exited;
    int code;
    struct error error;
};

int world_open(void **state);        /* cmocka setup and teardown; teardown fails when anything is left */
int world_close(void **state);
struct world *world_new(enum cgroup_mode mode);
bool world_clean(struct world *w);   /* no group, no process; ends and frees it */

/* A small file system of its own, gone with the world; false when that is not allowed here. One a world. */
bool world_mount(struct world *w, const char *dir, const char *options);

/* /bin/sh -c SCRIPT, with 64 MB, ready to be changed before probe_start. */
void probe_init(struct world *w, struct probe *p, const char *script);
void probe_start(struct probe *p);
void probe_adopt(struct probe *p, const char *handle);
void probe_detach(struct probe *p);  /* as if the agent had ended */
void probe_end(struct probe *p);     /* task_remove and task_free; deletes the folder */

/* Turns the loop until the condition holds; false after 20 s. */
bool world_wait(struct world *w, bool (*done)(void *arg), void *arg);
bool probe_wait_started(struct probe *p);
bool probe_wait_exited(struct probe *p);
bool run_wait(struct run *r);
void run_start(struct run *r, struct probe *p, bool tty, const char *script);

/* Turns the loop until the file has that text somewhere. path is below the allocation's folder. */
bool probe_wait_text(struct probe *p, const char *path, const char *text);
/* The whole log of a stream, all files in order. */
void probe_log(struct probe *p, int stream, struct buf *out);
bool process_alive(int pid);         /* a zombie is not */
bool world_wait_dead(struct world *w, int pid);
int helper_wait_line(struct probe *p, const char *path);   /* the number in a file once there is one */
