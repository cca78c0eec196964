/* Docker driver: a task is a container.
 *
 * The happy path: docker_start.c makes the container and starts it; here it is looked at, and then its end is waited for
 * while its log is followed. A container is named after its allocation and labelled with its run, so that there is never
 * a second one, and so that whoever comes later (a new agent, an agent whose answer was cut off by an engine that went
 * down) finds it by that name and goes on from what it sees: that is STEP_LOOK, and the whole of adoption.
 *
 * The engine may be gone at any moment. Before a container can exist, that fails the start; afterwards the task waits
 * for the engine to return, because until then nobody knows what runs. */
#include "agent/drivers/docker.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/drivers/docker_config.h"
#include "agent/process_cgroup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/timefmt.h"

#define ENGINE_AGAIN_MS 10
#define AGAIN_LEAST_MS 100
#define AGAIN_MOST_MS 2000
#define KILL_AGAIN_MS 2000
#define CREATED_LOOKS 50             /* at a container that an earlier agent may have had started */
#define EARLY_ENDS_MOST 3            /* of waits for a container that still runs, before they are slowed down */
#define WAIT_IDLE_MS 30000           /* then the container is looked at, should the engine have forgotten to tell */
#define CLOSE_WAIT_MS 15000
#define LOG_FILES_DEFAULT 5
#define LOG_MB_DEFAULT 10

static void engine_begin(struct docker_task *t);
static void wait_begin(struct docker_task *t);
static void kill_send(struct docker_task *t);

/* --- telling --- */

static void started_tell(struct docker_task *t, const struct error *err)
{
    if (t->told_started || !t->head.events)
        return;
    t->told_started = true;
    struct logs logs = {.max_files = t->log_files, .max_mb = t->log_mb};
    CLEANUP_FREE char *handle = err ? NULL : docker_handle(t->container, t->run, t->foreign ? &logs : NULL);
    t->head.events->started(t->head.arg, err, handle, t->pid, t->how.started_at);
}

void docker_progress(struct docker_task *t, const char *text)
{
    if (t->head.events && !t->told_started && t->head.events->progress)
        t->head.events->progress(t->head.arg, text);
}

void docker_start_failed(struct docker_task *t, const struct error *err)
{
    struct error copy = *err;
    t->step = STEP_GONE;
    uv_timer_stop(&t->stop_timer);
    started_tell(t, &copy);
}

/* Tries fn again, each time later. */
static void on_again(uv_timer_t *timer)
{
    struct docker_task *t = timer->data;
    switch (t->step) {
    case STEP_ENGINE: engine_begin(t); break;
    case STEP_NETWORK: docker_network_begin(t); break;
    case STEP_LOOK: docker_look(t); break;
    case STEP_CLEAR: docker_clear_begin(t); break;
    case STEP_FAIL: docker_fail_begin(t, NULL); break;
    case STEP_GONE: docker_start_failed(t, &t->failed); break;
    default: break;
    }
}

void docker_again_in(struct docker_task *t, int64_t delay_ms)
{
    uv_timer_start(&t->again, on_again, (uint64_t)delay_ms, 0);
}

void docker_again(struct docker_task *t)
{
    int64_t delay = AGAIN_LEAST_MS << (t->tries < 5 ? t->tries : 5);
    t->tries++;
    if (t->tries == 3)
        docker_progress(t, "waiting for the Docker engine");
    docker_again_in(t, delay < AGAIN_MOST_MS ? delay : AGAIN_MOST_MS);
}

struct engine_call *docker_task_call(struct docker_task *t, enum docker_step step, const struct engine_request *r,
                                     engine_done done)
{
    t->step = step;
    return t->call = engine_start(t->d->engine, r, done, t);
}

/* --- looking: what is there, and what follows from it --- */

static void exit_describe(struct docker_task *t)
{
    struct task_exit *how = &t->how;
    if (!how->known) {
        snprintf(how->reason, sizeof how->reason, t->vague ? "lost: the Docker engine does not know how it ended"
                                                           : "lost: its container was removed");
        return;
    }
    how->signal = how->code > 128 && how->code <= 128 + 64 ? how->code - 128 : 0;
    if (how->oom && how->signal == SIGKILL)
        snprintf(how->reason, sizeof how->reason, "killed by SIGKILL: out of memory");
    else if (how->signal)
        snprintf(how->reason, sizeof how->reason, "killed by %s", signal_name(how->signal));
    else
        snprintf(how->reason, sizeof how->reason, "exit code %d", how->code);
}

static void logs_done(void *arg, const struct error *err)
{
    struct docker_task *t = arg;
    if (err && err->code != ERROR_NOT_FOUND)
        LOG_W("the last of a container's log could not be fetched", "alloc", t->alloc_id, "error", err->text);
    t->step = STEP_GONE;
    if (t->head.events)
        t->head.events->exited(t->head.arg, &t->how);
}

static void logs_open(struct docker_task *t)
{
    if (!t->logs)
        t->logs = docker_logs_open(t->d->engine, t->d->env->loop, t->alloc_dir, t->container, t->tty, t->log_files, t->log_mb,
                                   t->foreign ? time_now_ms() : 0);
}

static void ended(struct docker_task *t)
{
    t->step = STEP_ENDING;
    engine_cancel(steal(&t->wait));
    engine_cancel(steal(&t->kill));
    uv_timer_stop(&t->stop_timer);
    exit_describe(t);
    logs_open(t);
    started_tell(t, NULL);
    if (t->head.events)
        docker_logs_finish(t->logs, logs_done, t);
}

static void up(struct docker_task *t, const struct value *json)
{
    t->step = STEP_UP;
    t->pid = (int)value_number(json, "State/Pid");
    started_tell(t, NULL);           /* before anything that touches files */
    if (!t->head.events)
        return;
    logs_open(t);
    docker_logs_follow(t->logs);
    if (!t->wait)
        wait_begin(t);
    if (t->stopping && !t->kill)
        kill_send(t);
}

static int64_t time_of(const struct value *json, const char *path)
{
    const char *text = value_text(json, path);
    int64_t ms = 0;
    return text && time_parse(text, &ms) == 0 && ms > 0 ? ms : 0;
}

static void exit_read(struct docker_task *t, const struct value *json)
{
    t->how.code = (int)value_number(json, "State/ExitCode") & 0xff;
    t->how.oom = value_true(json, "State/OOMKilled");
    t->how.finished_at = time_of(json, "State/FinishedAt");
    /* An engine that was killed while it started a container says that it exited with 0, but not when. */
    t->vague = !t->how.finished_at;
    t->how.known = !t->vague;
}

static const char *label(const struct value *json, const char *name)
{
    const struct value *labels = value_path(json, "Config/Labels");
    const struct value_entry *e = labels && labels->kind == VALUE_MAP ? value_get(labels, name) : NULL;
    return e ? e->value.text : NULL;
}

static int number_label(const struct value *json, const char *name, int otherwise)
{
    const char *text = label(json, name);
    int n = text ? atoi(text) : 0;
    return n > 0 ? n : otherwise;
}

/* Nobody else's may be taken for ours, whatever its name. */
static bool is_ours(const struct docker_task *t, const struct value *json)
{
    const char *alloc = label(json, LABEL_ALLOC);
    return t->foreign || (alloc && !strcmp(alloc, t->alloc_id));
}

static void nothing_there(struct docker_task *t)
{
    if (t->told_started) {
        ended(t);                    /* with what `wait` told, or nothing */
    } else if (t->fresh && t->foreign) {
        t->foreign = false;          /* it ended and was removed before: this is a replica like others */
        free(steal(&t->container));
        docker_image_begin(t);
    } else if (t->fresh) {
        docker_create_begin(t);
    } else {
        error_set(&t->failed, ERROR_NOT_FOUND, "there is no container of this allocation");
        docker_start_failed(t, &t->failed);
    }
}

/* Made and not started, as the engine says. When it was asked to start it, it may be about to (the agent that asked was
 * killed), or may have done it and forgotten (it was killed itself). */
static void created_seen(struct docker_task *t)
{
    struct error err;
    error_set(&err, ERROR_UNKNOWN_OUTCOME, "the Docker engine was asked to start the container and did not say how that went: "
              "whether it ran is not known");
    bool sent = docker_start_was_sent(t);
    if (sent && !t->fresh && t->looks++ < CREATED_LOOKS)
        docker_again_in(t, AGAIN_LEAST_MS);
    else if (sent)
        docker_fail_begin(t, &err);
    else if (t->fresh)
        docker_passwd_begin(t);
    else
        docker_clear_begin(t);
}

static void container_seen(struct docker_task *t, const struct value *json)
{
    const char *status = value_text(json, "State/Status"), *run = label(json, LABEL_RUN), *job = label(json, LABEL_JOB);
    const char *id = value_text(json, "Id");
    uint64_t number = run ? strtoull(run, NULL, 10) : t->run;
    mem_set_string(&t->container, id);
    if (t->fresh && !t->told_started && number != t->run) {
        docker_clear_begin(t);              /* an earlier run's */
        return;
    }
    t->run = t->how.run = number;
    if (job)
        mem_set_string(&t->job, job);
    t->tty = value_true(json, "Config/Tty");
    if (!t->foreign) {
        t->log_files = number_label(json, LABEL_LOG_FILES, LOG_FILES_DEFAULT);
        t->log_mb = number_label(json, LABEL_LOG_MB, LOG_MB_DEFAULT);
    }
    t->how.started_at = time_of(json, "State/StartedAt");
    if (t->foreign && !docker_foreign_seen(t, json))
        return;
    if (!status || !strcmp(status, "created")) {
        created_seen(t);
    } else if (!strcmp(status, "exited") || !strcmp(status, "dead")) {
        exit_read(t, json);
        ended(t);
    } else if (!strcmp(status, "removing")) {
        docker_again(t);
    } else {
        up(t, json);
    }
}

static void look_done(void *arg, const struct engine_answer *a)
{
    struct docker_task *t = arg;
    struct error err;
    t->call = NULL;
    if (a->err.code == ERROR_NOT_FOUND) {
        nothing_there(t);
    } else if (a->err.code || !value_text(&a->json, "Id")) {
        docker_again(t);
    } else if (!is_ours(t, &a->json)) {
        error_set(&err, ERROR_CONFLICT, "the name mentat-%s is taken by a container that is not Mentat's: remove or rename it",
                  t->alloc_id);
        docker_start_failed(t, &err);
    } else {
        t->tries = 0;
        container_seen(t, &a->json);
    }
}

void docker_look(struct docker_task *t)
{
    CLEANUP_FREE char *path = t->told_started || t->foreign || (!t->fresh && t->container)
        ? mem_printf("/containers/%s/json", t->container) : mem_printf("/containers/mentat-%s/json", t->alloc_id);
    docker_task_call(t, STEP_LOOK, &(struct engine_request){.path = path}, look_done);
}

/* --- a running container --- */

static void wait_done(void *arg, const struct engine_answer *a)
{
    struct docker_task *t = arg;
    t->wait = NULL;
    if (!a->err.code) {
        t->how.known = true;
        t->how.code = (int)value_number(&a->json, "StatusCode") & 0xff;
    }
    if (t->call)
        return;
    bool trusted = !a->err.code || a->err.code == ERROR_NOT_FOUND;
    if (a->err.code == ERROR_TIMEOUT)
        t->early_ends = 0;
    if ((a->err.code && a->err.code != ERROR_TIMEOUT && !trusted) || (trusted && ++t->early_ends > EARLY_ENDS_MOST)) {
        t->step = STEP_LOOK;
        docker_again(t);
    } else {
        docker_look(t);
    }
}

static void wait_begin(struct docker_task *t)
{
    CLEANUP_FREE char *path = mem_printf("/containers/%s/wait", t->container);
    t->wait = engine_start(t->d->engine, &(struct engine_request){
        .method = HTTP_METHOD_POST, .path = path, .idle_ms = WAIT_IDLE_MS,
    }, wait_done, t);
}

/* --- stopping --- */

static void on_stop_timer(uv_timer_t *timer)
{
    kill_send(timer->data);
}

static void kill_done(void *arg, const struct engine_answer *a)
{
    struct docker_task *t = arg;
    t->kill = NULL;
    int64_t left = t->stop_deadline - time_monotonic_ms();
    if (!engine_absent(&a->err) && left > 0)
        t->stop_signal = 0;          /* it was told: now it has its time */
    int64_t delay = t->stop_signal || left <= 0 || left > INT32_MAX ? KILL_AGAIN_MS : left;
    if (t->stop_signal && left > 0 && left < delay)
        delay = left;
    uv_timer_start(&t->stop_timer, on_stop_timer, (uint64_t)delay, 0);
}

static void kill_send(struct docker_task *t)
{
    int signal = time_monotonic_ms() >= t->stop_deadline ? SIGKILL : t->stop_signal;
    if (t->step >= STEP_ENDING || t->step < STEP_LOOK || !t->told_started)
        return;
    if (!signal) {
        uv_timer_start(&t->stop_timer, on_stop_timer, KILL_AGAIN_MS, 0);
        return;
    }
    CLEANUP_FREE char *path = mem_printf("/containers/%s/kill?signal=%d", t->container, signal);
    engine_cancel(steal(&t->kill));
    t->kill = engine_start(t->d->engine, &(struct engine_request){.method = HTTP_METHOD_POST, .path = path}, kill_done, t);
}

static void docker_stop(struct task *task, int signal, int64_t timeout_ms)
{
    struct docker_task *t = (struct docker_task *)task;
    int64_t deadline = time_monotonic_ms() + timeout_ms;
    if (!t->stopping || deadline < t->stop_deadline)
        t->stop_deadline = deadline;
    if (!t->stopping)
        t->stop_signal = signal ? signal : SIGTERM;
    t->stopping = true;
    if (t->step >= STEP_ENDING)
        return;
    if (t->step < STEP_CREATE) {
        docker_network_abandon(t);
        engine_cancel(steal(&t->call));
        docker_pull_cancel(steal(&t->pull));
        error_set(&t->failed, ERROR_CANCELLED, "stopped before it was started");
        t->step = STEP_GONE;
        docker_again_in(t, 0);
    } else {
        kill_send(t);
    }
}

static void signal_done(void *arg, const struct engine_answer *a)
{
    if (a->err.code)
        LOG_W("a signal did not reach its container", "error", a->err.text);
}

static int docker_signal(struct task *task, int signal, struct error *err)
{
    struct docker_task *t = (struct docker_task *)task;
    if (t->step < STEP_LOOK || t->step >= STEP_ENDING)
        return error_set(err, ERROR_CONFLICT, "the task has ended");
    if (!engine_up(t->d->engine))
        return error_set(err, ERROR_UNAVAILABLE, "%s", engine_trouble(t->d->engine));
    CLEANUP_FREE char *path = mem_printf("/containers/%s/kill?signal=%d", t->container, signal);
    engine_start(t->d->engine, &(struct engine_request){.method = HTTP_METHOD_POST, .path = path}, signal_done, NULL);
    return 0;
}

static int docker_stats(struct task *task, struct task_stats *out, struct error *err)
{
    struct docker_task *t = (struct docker_task *)task;
    if (!t->pid || t->step >= STEP_ENDING)
        return error_set(err, ERROR_CONFLICT, "the task has ended");
    struct cgroup_usage usage;
    if (process_cgroup_usage(t->pid, &usage, err) < 0)
        return -1;
    *out = (struct task_stats){
        .cpu_seconds = usage.cpu_seconds, .memory_bytes = usage.memory_bytes, .memory_peak_bytes = usage.memory_peak_bytes,
        .memory_limit_bytes = usage.memory_limit_bytes, .pids = usage.pids,
    };
    return 0;
}

/* --- life of a task --- */

static void docker_remove(struct task *task)
{
    struct docker_task *t = (struct docker_task *)task;
    if (t->step != STEP_GONE || !t->container)
        return;
    docker_image_used(t->d->images, t->spec.config.image);
    CLEANUP_FREE char *container = steal(&t->container);
    docker_remove_container(t->d, container, t->foreign);
}

static void task_closed(uv_handle_t *h)
{
    struct docker_task *t = h->data;
    if (--t->open_handles)
        return;
    docker_spec_clear(&t->spec);
    docker_image_clear(&t->image);
    free(t->alloc_id);
    free(t->alloc_dir);
    free(t->container);
    free(t->job);
    free(t->user);
    free(t);
}

static struct docker_task *task_begin(void *state, struct task *task, const char *alloc_id, const char *alloc_dir)
{
    struct docker_task *t = (struct docker_task *)task;
    t->d = state;
    t->alloc_id = mem_strdup(alloc_id);
    t->alloc_dir = mem_strdup(alloc_dir);
    t->log_files = LOG_FILES_DEFAULT;
    t->log_mb = LOG_MB_DEFAULT;
    uv_timer_init(t->d->env->loop, &t->again);
    uv_timer_init(t->d->env->loop, &t->stop_timer);
    t->again.data = t->stop_timer.data = t;
    t->open_handles = 2;
    LIST_INSERT_HEAD(&t->d->tasks, t, entry);
    return t;
}

static void fail_later(struct docker_task *t)
{
    t->step = STEP_GONE;
    docker_again_in(t, 0);
}

/* Letters that a reference may have: it goes into the path of requests. */
static int reference_check(const char *image, struct error *err)
{
    size_t n = strspn(image, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/:@");
    if (!*image || image[n] || strstr(image, "..") || image[0] == '/' || strstr(image, "//") || strlen(image) > 400)
        return error_set(err, ERROR_INVALID, "config.image: `%.100s` is not the name of an image: NAME, NAME:TAG or "
                         "NAME@sha256:DIGEST, with a registry in front if need be", image);
    return 0;
}

/* A new agent has to hear from the engine first. */
static void engine_begin(struct docker_task *t)
{
    const struct engine *e = t->d->engine;
    /* What was known of an engine that was away may be a second old. */
    if (!t->asked)
        engine_ask(t->d->engine);
    t->asked = true;
    t->step = STEP_ENGINE;
    if (!engine_known(e)) {
        docker_again_in(t, ENGINE_AGAIN_MS);
    } else if (!engine_up(e)) {
        error_set(&t->failed, ERROR_UNAVAILABLE, "%s", engine_trouble(e));
        fail_later(t);
    } else if (t->foreign) {
        docker_look(t);
    } else {
        docker_image_begin(t);
    }
}

static void docker_start(void *state, struct task *task, const struct task_spec *spec)
{
    struct docker_task *t = task_begin(state, task, spec->alloc_id, spec->alloc_dir);
    t->fresh = true;
    t->run = t->how.run = spec->run;
    docker_spec_copy(&t->spec, spec);
    t->job = mem_strdup(t->spec.job);
    if (spec->adopt) {
        t->foreign = true;
        mem_set_string(&t->container, spec->adopt);
        t->log_files = (int)spec->logs->max_files;
        t->log_mb = (int)spec->logs->max_mb;
    }
    reference_check(spec->config->image ? spec->config->image : "", &t->failed);
    if (t->failed.code)
        fail_later(t);
    else
        engine_begin(t);
}

static void docker_adopt(void *state, struct task *task, const char *alloc_id, const char *alloc_dir, const char *handle)
{
    struct docker_task *t = task_begin(state, task, alloc_id, alloc_dir);
    docker_handle_read(handle, t);
    docker_look(t);
}

static void docker_free(struct task *task)
{
    struct docker_task *t = (struct docker_task *)task;
    LIST_REMOVE(t, entry);
    docker_network_abandon(t);
    docker_gift_abandon(t);
    engine_cancel(t->call);
    engine_cancel(t->wait);
    engine_cancel(t->kill);
    docker_pull_cancel(t->pull);
    docker_logs_close(t->logs);
    uv_close((uv_handle_t *)&t->again, task_closed);
    uv_close((uv_handle_t *)&t->stop_timer, task_closed);
}

/* --- the driver --- */

static void engine_changed(void *arg)
{
    struct docker *d = arg;
    kv_clear(&d->networks);
    if (d->closing) {
        docker_close_when_done(d);
        return;
    }
    if (engine_up(d->engine)) {
        docker_images_engine_up(d->images);
        docker_sweep_soon(d);
    }
    if (d->env->changed)
        d->env->changed(d->env->ctx);
}

static int docker_open(const struct driver_env *env, void **state, struct error *err)
{
    if (!env->docker)
        return error_set(err, ERROR_UNSUPPORTED, "no Docker engine is configured");
    struct docker *d = NEW(struct docker);
    d->env = env;
    d->agent = mem_strdup(env->data_dir);
    LIST_INIT(&d->tasks);
    LIST_INIT(&d->removals);
    LIST_INIT(&d->endings);
    LIST_INIT(&d->inquiries);
    uv_timer_init(env->loop, &d->timer);
    d->timer.data = d;
    d->images = docker_images_open(d);
    d->engine = engine_open(env->loop, env->docker->socket, engine_changed, d);
    *state = d;
    return 0;
}

static void docker_probe(void *state, struct driver_info *info)
{
    struct docker *d = state;
    info->healthy = engine_up(d->engine);
    mem_set_string(&info->version, engine_version(d->engine));
    mem_set_string(&info->detail, info->healthy ? NULL : engine_trouble(d->engine));
}

static void driver_closed(uv_handle_t *h)
{
    struct docker *d = h->data;
    kv_clear(&d->networks);
    kv_clear(&d->suspects);
    free(d->agent);
    free(d);
}

static void close_now(uv_timer_t *timer)
{
    struct docker *d = timer->data;
    engine_cancel(steal(&d->sweep));
    docker_removals_abandon(d);
    docker_endings_close(d);
    docker_images_close(d->images);
    engine_close(d->engine);
    uv_close((uv_handle_t *)&d->timer, driver_closed);
}

/* Containers first, then the networks that they were in. */
void docker_close_when_done(struct docker *d)
{
    if (!d->closing || d->sweep || !LIST_EMPTY(&d->removals) || !engine_known(d->engine))
        return;
    if (!d->last_sweep && engine_up(d->engine)) {
        d->last_sweep = true;
        docker_sweep_networks(d);
    } else {
        uv_timer_start(&d->timer, close_now, 0, 0);
    }
}

/* What is being removed is waited for, a while; then it is the next agent's sweep that finds it. */
static void docker_close(void *state)
{
    struct docker *d = state;
    d->closing = true;
    docker_inquiries_close(d);
    engine_cancel(steal(&d->sweep));
    uv_timer_start(&d->timer, close_now, CLOSE_WAIT_MS, 0);
    docker_close_when_done(d);
}

const struct driver driver_docker = {
    .name = "docker",
    .task_size = sizeof(struct docker_task),
    .exec_size = sizeof(struct docker_exec),
    .open = docker_open,
    .close = docker_close,
    .probe = docker_probe,
    .start = docker_start,
    .adopt = docker_adopt,
    .stop = docker_stop,
    .signal = docker_signal,
    .stats = docker_stats,
    .remove = docker_remove,
    .free = docker_free,
    .takeover_handle = docker_handle,
    .describe = docker_describe_begin,
    .exec = docker_exec_start,
    .exec_write = docker_exec_write,
    .exec_close_stdin = docker_exec_close_stdin,
    .exec_resize = docker_exec_resize,
    .exec_pause = docker_exec_pause,
    .exec_free = docker_exec_free,
};
