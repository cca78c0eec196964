/* Docker driver: containers that somebody else made.
 *
 * Looked at (docker_describe_begin): the container, its image, and what it uses now, from which docker_describe.c makes a
 * service. Taken over, when such a service is submitted: nothing is made; docker_look finds the container by its id, and
 * here it is compared with what its service may, and the engine's own restart policy is switched off. It has none of
 * Mentat's labels, which cannot be added to a container: that it is ours is in the task's handle alone, which the agent
 * stores with its intent to start. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/drivers/docker.h"
#include "agent/drivers/docker_describe.h"
#include "agent/process_cgroup.h"
#include "base/log.h"
#include "base/mem.h"

/* --- the handle --- */

char *docker_handle(const char *container, uint64_t run, const struct logs *foreign)
{
    return foreign ? mem_printf("docker1 id=%s run=%" PRIu64 " foreign files=%" PRId64 " mb=%" PRId64, container, run,
                                foreign->max_files, foreign->max_mb)
                   : mem_printf("docker1 id=%s run=%" PRIu64, container, run);
}

void docker_handle_read(const char *handle, struct docker_task *t)
{
    char id[80];
    int n = 0;
    if (!handle || sscanf(handle, "docker1 id=%79[0-9a-f] run=%" SCNu64 "%n", id, &t->run, &n) != 2)
        return;
    mem_set_string(&t->container, id);
    t->foreign = sscanf(handle + n, " foreign files=%d mb=%d", &t->log_files, &t->log_mb) == 2;
}

/* --- taking over --- */

static void update_done(void *arg, const struct engine_answer *a)
{
    struct docker_task *t = arg;
    t->call = NULL;
    if (a->err.code && !engine_absent(&a->err) && !t->told_started) {
        struct error err = a->err;
        error_context(&err, "the container's restart policy cannot be switched off");
        docker_start_failed(t, &err);
        return;
    }
    docker_look(t);
}

static void restart_policy_clear(struct docker_task *t)
{
    CLEANUP_FREE char *path = mem_printf("/containers/%s/update", t->container);
    docker_task_call(t, STEP_LOOK, &(struct engine_request){
        .method = HTTP_METHOD_POST, .path = path, .body = "{\"RestartPolicy\":{\"Name\":\"no\",\"MaximumRetryCount\":0}}",
    }, update_done);
}

bool docker_foreign_seen(struct docker_task *t, const struct value *json)
{
    const char *status = value_text(json, "State/Status"), *policy = value_text(json, "HostConfig/RestartPolicy/Name");
    struct error err;
    if (t->fresh && !t->told_started && docker_describe_allowed(json, &t->spec.may, &err) < 0) {
        docker_start_failed(t, &err);
        return false;
    }
    if (status && !strcmp(status, "created")) {
        error_set(&err, ERROR_CONFLICT, "the container %.12s was never started", t->container);
        docker_start_failed(t, &err);
        return false;
    }
    if (policy && *policy && strcmp(policy, "no")) {
        restart_policy_clear(t);
        return false;
    }
    if (status && !strcmp(status, "restarting")) {
        docker_again(t);
        return false;
    }
    return true;
}

/* --- looking at one --- */

struct docker_inquiry {
    LIST_ENTRY(docker_inquiry) entry;
    struct docker *d;
    char *what;
    struct engine_call *call;
    struct value container;
    driver_described *done;
    void *arg;
    uv_timer_t later;                /* an error that was there from the beginning is not told from inside the call */
    struct error err;
};

static void inquiry_closed(uv_handle_t *h)
{
    struct docker_inquiry *q = h->data;
    value_clear(&q->container);
    free(q->what);
    free(q);
}

static void inquiry_end(struct docker_inquiry *q, const struct found_container *found, const struct error *err)
{
    LIST_REMOVE(q, entry);
    q->done(q->arg, found, err);
    uv_close((uv_handle_t *)&q->later, inquiry_closed);
}

static void image_seen(void *arg, const struct engine_answer *a)
{
    struct docker_inquiry *q = arg;
    struct cgroup_usage usage = {0};
    struct found_container found;
    struct error err;
    int pid = (int)value_number(&q->container, "State/Pid");
    q->call = NULL;
    if (a->err.code && a->err.code != ERROR_NOT_FOUND) {
        inquiry_end(q, NULL, &a->err);
        return;
    }
    if (pid > 0)
        process_cgroup_usage(pid, &usage, NULL);
    struct describe_facts facts = {.node = q->d->env->node, .ip = q->d->env->ip, .volume_root = q->d->env->volume_root,
                                   .memory_bytes = usage.memory_bytes};
    if (docker_describe(&q->container, &a->json, &facts, &found, &err) < 0)
        inquiry_end(q, NULL, &err);
    else
        inquiry_end(q, &found, NULL);
    type_clear(&found_container_type, &found);
}

static void container_seen(void *arg, const struct engine_answer *a)
{
    struct docker_inquiry *q = arg;
    struct error err = a->err;
    q->call = NULL;
    const char *image = value_text(&a->json, "Image");
    if (a->err.code == ERROR_NOT_FOUND)
        error_set(&err, ERROR_NOT_FOUND, "there is no container %.64s on node %s", q->what, q->d->env->node);
    else if (!a->err.code && (!image || image[strspn(image, "abcdefghijklmnopqrstuvwxyz0123456789:")]))
        error_set(&err, ERROR_CORRUPT, "the Docker engine's description of the container is not understood");
    struct problem_list problems = {0};
    if (!err.code && value_from_json(a->body->data, a->body->len, &q->container, &problems) < 0)
        error_set(&err, ERROR_CORRUPT, "the Docker engine's answer is not JSON: %s", problems.v[0].message);
    problem_list_clear(&problems);
    if (err.code) {
        inquiry_end(q, NULL, &err);
        return;
    }
    CLEANUP_FREE char *path = mem_printf("/images/%s/json", image);
    q->call = engine_start(q->d->engine, &(struct engine_request){.path = path}, image_seen, q);
}

static void on_later(uv_timer_t *timer)
{
    struct docker_inquiry *q = timer->data;
    inquiry_end(q, NULL, &q->err);
}

void docker_describe_begin(void *state, const char *what, driver_described *done, void *arg)
{
    struct docker_inquiry *q = NEW(struct docker_inquiry);
    *q = (struct docker_inquiry){.d = state, .what = mem_strdup(what), .done = done, .arg = arg};
    LIST_INSERT_HEAD(&q->d->inquiries, q, entry);
    uv_timer_init(q->d->env->loop, &q->later);
    q->later.data = q;
    bool is_name = *what && !what[strspn(what, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")];
    if (!is_name)
        error_set(&q->err, ERROR_INVALID, "`%.64s` is neither the name nor the id of a container", what);
    else if (!engine_up(q->d->engine))
        error_set(&q->err, ERROR_UNAVAILABLE, "%s", engine_trouble(q->d->engine));
    if (q->err.code) {
        uv_timer_start(&q->later, on_later, 0, 0);
        return;
    }
    CLEANUP_FREE char *path = mem_printf("/containers/%s/json", what);
    q->call = engine_start(q->d->engine, &(struct engine_request){.path = path}, container_seen, q);
}

void docker_inquiries_close(struct docker *d)
{
    struct docker_inquiry *q;
    struct error err;
    error_set(&err, ERROR_UNAVAILABLE, "this agent is stopping");
    while ((q = LIST_FIRST(&d->inquiries))) {
        engine_cancel(steal(&q->call));
        inquiry_end(q, NULL, &err);
    }
}
