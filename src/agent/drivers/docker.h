/* Docker driver: what its files share. docker_start.c takes a task from its image to a started container, with
 * docker_network.c for the network of its job; docker_create.c says how the container is made; docker.c takes it on from
 * there to its end. docker_image.c pulls and clears images away, docker_exec.c runs commands in containers, docker_logs.c
 * fetches what containers write, docker_engine.c speaks with the engine, docker_clean.c takes away what is left behind,
 * docker_foreign.c looks at containers that somebody else made, and takes them over. */
#pragma once
#include <sys/queue.h>
#include <uv.h>

#include "agent/driver.h"
#include "agent/drivers/docker_engine.h"
#include "agent/drivers/docker_logs.h"
#include "model/profile.h"

#define LABEL_AGENT "mentat.agent"           /* the agent's data_dir: several agents may share an engine */
#define LABEL_ALLOC "mentat.alloc"
#define LABEL_SERVICE "mentat.service"
#define LABEL_JOB "mentat.job"
#define LABEL_RUN "mentat.run"
#define LABEL_LOG_FILES "mentat.log-max-files"
#define LABEL_LOG_MB "mentat.log-max-mb"

#define DOCKER_MAKE_TIMEOUT_MS 120000        /* for the engine to make something */

struct docker;

/* --- docker_create.c: pure --- */

/* A copy of all that the driver was given for a start. */
struct docker_spec {
    char *alloc_id, *service, *job;
    int64_t replica;
    uint64_t run;
    struct config config;
    struct kv_list env;
    struct resources resources;
    struct logs logs;
    struct volume_list volumes;
    struct alloc_port_list ports;
    char *network;                   /* the id of its job's */
    char *secrets_dir;               /* NULL: it has none */
    char *login;                     /* of the image's registry; NULL: as the agent's configuration has it */
    struct security security;
    struct privileges may;           /* borrows from security */
    const char *profile;             /* its name, for messages */
};
void docker_spec_copy(struct docker_spec *to, const struct task_spec *from);
void docker_spec_clear(struct docker_spec *s);

/* What is known of the image when the container is made. */
struct docker_image {
    char *id;                        /* "sha256:…" */
    char *user;                      /* "" is root */
};
void docker_image_clear(struct docker_image *i);

/* Who the container runs as: "UID" or "UID:GID" or a name; the service's, else the image's. */
const char *docker_user(const struct docker_spec *s, const struct docker_image *image);
/* "mentat-job-NAME", one for each job on a node. */
char *docker_job_network(const char *job);
/* Checks what the profile says of what only the agent sees. user as "UID" or "UID:GID". */
int docker_user_allowed(const struct docker_spec *s, const char *user, struct error *err);
/* Only directories below volume_root, links followed, and below that of the service unless it may use others. */
int docker_volumes_allowed(const struct docker_spec *s, const char *volume_root, struct error *err);
/* The body of POST /containers/create. user NULL: the image's. */
void docker_create_body(const struct docker_spec *s, const struct docker_image *image, const char *user,
                        const char *data_dir, const char *host_ip, bool has_seccomp, struct buf *out);
/* Finds a user's numbers in a tar archive that holds /etc/passwd. */
int docker_passwd_find(const struct buf *tar, const char *name, unsigned *uid, unsigned *gid, struct error *err);

/* --- docker_image.c --- */
struct docker_images;
struct docker_images *docker_images_open(struct docker *d);
void docker_images_close(struct docker_images *i);
/* The engine began to answer: clearing away may go on. */
void docker_images_engine_up(struct docker_images *i);

struct docker_pull;
struct docker_pull_events {
    void (*progress)(void *arg, const char *text);
    void (*done)(void *arg, const struct error *err);
};
/* Several that want the same image with the same login (NULL: the agent's own) share one pull. done comes once, unless
 * cancelled before. */
struct docker_pull *docker_pull_start(struct docker_images *i, const char *image, const char *login,
                                      const struct docker_pull_events *events, void *arg);
void docker_pull_cancel(struct docker_pull *p);
/* A container is made of it, or gone: counts its age from now. */
void docker_image_used(struct docker_images *i, const char *image);
/* "repo:tag" or "repo@digest" apart: name and what the engine takes as `tag`. The caller frees both. */
void docker_reference_split(const char *image, char **name, char **tag);
/* The key of the image's registry in a credentials file: "registry.example.com:5000". The caller frees it. */
char *docker_registry_of(const char *image);

/* --- docker.c --- */
enum docker_step {
    STEP_ENGINE, STEP_IMAGE, STEP_PULL, STEP_NETWORK,    /* nothing was made yet */
    STEP_CREATE, STEP_PASSWD, STEP_START, STEP_LOOK, STEP_CLEAR, STEP_FAIL,
    STEP_UP, STEP_ENDING, STEP_GONE,
};

struct docker_task {
    struct task head;
    LIST_ENTRY(docker_task) entry;
    struct docker *d;
    char *alloc_id, *alloc_dir;
    char *container;                 /* its name, then its id */
    char *job;
    uint64_t run;
    enum docker_step step;
    bool fresh;                      /* started, not adopted */
    bool foreign;                    /* somebody else made its container: it has another name, and no labels of ours */
    bool told_started, waited, asked;
    bool vague;                      /* the engine says that it ended, and knows no more */
    int pid;
    struct docker_spec spec;         /* fresh */
    struct docker_image image;
    char *user;                      /* in numbers */
    struct docker_pull *pull;
    struct docker_gift *gift;        /* new volumes are being given to the container's user */
    struct engine_call *call, *wait, *kill;
    struct docker_logs *logs;
    int log_files, log_mb;
    bool tty;
    uv_timer_t again, stop_timer;
    unsigned open_handles, tries, looks, conflicts, early_ends;
    int stop_signal;                 /* the next one to send; 0: none */
    int64_t stop_deadline;           /* monotonic; when SIGKILL is due */
    bool stopping;
    struct error failed;
    struct task_exit how;
};
LIST_HEAD(docker_task_list, docker_task);

struct docker_removal;
struct docker_ending;
struct docker_inquiry;
LIST_HEAD(docker_removal_list, docker_removal);

struct docker {
    const struct driver_env *env;
    struct engine *engine;
    struct docker_images *images;
    struct docker_task_list tasks;
    struct docker_removal_list removals;
    LIST_HEAD(, docker_ending) endings;          /* of commands */
    struct kv_list networks;         /* of jobs: name, id; "": one of its tasks is at it */
    LIST_HEAD(, docker_inquiry) inquiries;
    struct kv_list suspects;         /* ids of containers that the last sweep found without a task */
    uv_timer_t timer;                /* sweeps; at the end: how long removals are waited for */
    struct engine_call *sweep;
    char *agent;                     /* value of LABEL_AGENT */
    bool closing, last_sweep;
};

/* Goes on with closing the driver when no removal is left. */
void docker_close_when_done(struct docker *d);
/* A call of the task's own, of which there is one at a time. */
struct engine_call *docker_task_call(struct docker_task *t, enum docker_step step, const struct engine_request *r,
                                     engine_done done);
/* Goes back to what its step does: after a delay that grows, or after this one. */
void docker_again(struct docker_task *t);
void docker_again_in(struct docker_task *t, int64_t delay_ms);
void docker_progress(struct docker_task *t, const char *text);
/* Tells it. Nothing is left of the task. */
void docker_start_failed(struct docker_task *t, const struct error *err);
/* Looks what there is of the task, and goes on from that. */
void docker_look(struct docker_task *t);

/* --- docker_start.c: its steps; docker_look may enter at each --- */
void docker_image_begin(struct docker_task *t);
void docker_create_begin(struct docker_task *t);
void docker_passwd_begin(struct docker_task *t);         /* the container is made */
void docker_clear_begin(struct docker_task *t);          /* a container is in the way, or half made */
/* The start failed once a container may be there: it is said only when nothing is left. NULL: once more. */
void docker_fail_begin(struct docker_task *t, const struct error *why);
/* The engine was asked to start this run's container, and may have done it whatever it says. */
bool docker_start_was_sent(const struct docker_task *t);
void docker_gift_abandon(struct docker_task *t);         /* the task is let go of, maybe in the middle */

/* --- docker_network.c --- */
/* Finds or makes the network of the task's job, then goes on to docker_create_begin. */
void docker_network_begin(struct docker_task *t);
void docker_network_again(struct docker_task *t);        /* what was known of it is wrong */
void docker_network_abandon(struct docker_task *t);      /* the task is let go of, maybe in the middle */

/* --- docker_foreign.c --- */
/* The text for the agent's store. foreign: of a container that somebody else made; else NULL. The caller frees it. */
char *docker_handle(const char *container, uint64_t run, const struct logs *foreign);
/* Sets container, run and what is known of a foreign one; nothing when it is none of ours. */
void docker_handle_read(const char *handle, struct docker_task *t);
/* False: the task goes on by itself, or its start has failed. */
bool docker_foreign_seen(struct docker_task *t, const struct value *json);
/* As drivers_describe. */
void docker_describe_begin(void *state, const char *what, driver_described *done, void *arg);
/* Ends what goes on. */
void docker_inquiries_close(struct docker *d);

/* --- docker_clean.c --- */
/* The path of a container's DELETE, with its volumes without a name. The caller frees it. */
char *docker_delete_path(const char *container);
/* After that: a removal that is under way already, or an engine that does not answer, is waited for. */
bool docker_still_there(const struct error *err);
/* Tried until the container is gone; it outlives the task. The volumes of a foreign one stay. */
void docker_remove_container(struct docker *d, const char *container, bool foreign);
/* Removes the networks of jobs without tasks; one that is in use stays. */
void docker_sweep_networks(struct docker *d);
void docker_removals_abandon(struct docker *d);
/* Looks for containers and networks that no task has, now and then every 10 s. */
void docker_sweep_soon(struct docker *d);

/* --- docker_exec.c --- */
struct docker_exec {
    struct task_exec head;
    struct docker *d;
    char *id, *container;
    struct engine_call *call, *resize_call;
    struct stream *stream;
    uv_timer_t timer;
    unsigned open_handles, resize_tries;
    bool tty, paused, closing_in, ended, told, killing;
    uint16_t rows, cols;
    struct buf early;                /* written before the connection was there */
    struct frames *frames;
};
int docker_exec_start(struct task *t, struct task_exec *x, const struct exec_spec *spec, struct error *err);
size_t docker_exec_write(struct task_exec *x, const void *bytes, size_t n);
void docker_exec_close_stdin(struct task_exec *x);
void docker_exec_resize(struct task_exec *x, uint16_t rows, uint16_t cols);
void docker_exec_pause(struct task_exec *x, bool paused);
void docker_exec_free(struct task_exec *x);
/* Lets go of the commands that are being ended. */
void docker_endings_close(struct docker *d);
