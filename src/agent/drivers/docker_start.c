/* Docker driver: from an image to a container that runs, for tasks that are started and not adopted.
 *
 * The happy path: look at the image (pull it), the job's network, create the container, find out who its user is, start
 * it; docker_look then sees it run. Until it is created a failure is told at once, afterwards only when nothing is left
 * of it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/drivers/docker.h"
#include "agent/secret_files.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#define CONFLICTS_MOST 20            /* of names: the engine says one is taken, and nobody has it */

static void start_begin(struct docker_task *t);

/* --- the image --- */

static void image_seen(struct docker_task *t, const struct engine_answer *a);

static void image_after_pull(void *arg, const struct engine_answer *a)
{
    struct docker_task *t = arg;
    t->call = NULL;
    if (a->err.code)
        docker_start_failed(t, &a->err);
    else
        image_seen(t, a);
}

static void pull_done(void *arg, const struct error *err)
{
    struct docker_task *t = arg;
    t->pull = NULL;
    if (err) {
        docker_start_failed(t, err);
        return;
    }
    CLEANUP_FREE char *path = mem_printf("/images/%s/json", t->spec.config.image);
    docker_task_call(t, STEP_IMAGE, &(struct engine_request){.path = path}, image_after_pull);
}

static void pull_progress(void *arg, const char *text)
{
    docker_progress(arg, text);
}

static void pull_begin(struct docker_task *t)
{
    static const struct docker_pull_events events = {.progress = pull_progress, .done = pull_done};
    CLEANUP_FREE char *text = mem_printf("pulling image %s", t->spec.config.image);
    t->step = STEP_PULL;
    docker_progress(t, text);
    t->pull = docker_pull_start(t->d->images, t->spec.config.image, t->spec.login, &events, t);
}

static void image_done(void *arg, const struct engine_answer *a)
{
    struct docker_task *t = arg;
    t->call = NULL;
    if (a->err.code == ERROR_NOT_FOUND && t->spec.config.pull == PULL_NEVER) {
        struct error err;
        error_set(&err, ERROR_NOT_FOUND, "there is no image %s on this node, and config.pull is `never`", t->spec.config.image);
        docker_start_failed(t, &err);
    } else if (a->err.code == ERROR_NOT_FOUND) {
        pull_begin(t);
    } else if (a->err.code) {
        docker_start_failed(t, &a->err);
    } else {
        image_seen(t, a);
    }
}

void docker_image_begin(struct docker_task *t)
{
    if (t->spec.config.pull == PULL_ALWAYS) {
        pull_begin(t);
        return;
    }
    CLEANUP_FREE char *path = mem_printf("/images/%s/json", t->spec.config.image);
    docker_task_call(t, STEP_IMAGE, &(struct engine_request){.path = path}, image_done);
}

static bool is_numeric(const char *user)
{
    return *user && !user[strspn(user, "0123456789:")];
}

static void image_seen(struct docker_task *t, const struct engine_answer *a)
{
    struct error err;
    const char *id = value_text(&a->json, "Id"), *user = value_text(&a->json, "Config/User");
    docker_image_used(t->d->images, t->spec.config.image);
    t->image.id = mem_strdup(id ? id : "");
    t->image.user = mem_strdup(user ? user : "");
    const char *who = docker_user(&t->spec, &t->image);
    if (is_numeric(who))
        t->user = mem_strdup(who);
    else if (!strcmp(who, "root") || !strncmp(who, "root:", 5))
        t->user = mem_strdup("0");
    /* Of other names only the image knows the number: it is asked once the container is there, before it starts. */
    if ((t->user && docker_user_allowed(&t->spec, t->user, &err) < 0) ||
        docker_volumes_allowed(&t->spec, t->d->env->volume_root, &err) < 0)
        docker_start_failed(t, &err);
    else
        docker_network_begin(t);
}

/* --- the note that a start was asked for --- */

/* That the engine is asked to start it is noted first: an engine that was killed in the middle may say later that it was
 * only created, although it ran. */
static char *note_path(const struct docker_task *t)
{
    return mem_printf("%s/docker.start", t->alloc_dir);
}

static int start_note(const struct docker_task *t, struct error *err)
{
    CLEANUP_FREE char *path = note_path(t), *text = mem_printf("%" PRIu64 "\n", t->run);
    /* Not synced: it is for kills, and an agent that waits for a disk here is killed here. */
    return file_put(path, text, strlen(text), 0640, err);
}

static void start_forget(const struct docker_task *t)
{
    CLEANUP_FREE char *path = note_path(t);
    unlink(path);
}

bool docker_start_was_sent(const struct docker_task *t)
{
    CLEANUP_FREE char *path = note_path(t);
    CLEANUP_BUF struct buf text = {0};
    return file_read(path, 64, &text, NULL) == 0 && text.len && strtoull(text.data, NULL, 10) == t->run;
}

/* --- create --- */

static bool names_network(const struct error *err)
{
    return err->code == ERROR_NOT_FOUND && strstr(err->text, "network ");
}

static void create_done(void *arg, const struct engine_answer *a)
{
    struct docker_task *t = arg;
    t->call = NULL;
    bool conflict = a->err.code == ERROR_CONFLICT && ++t->conflicts < CONFLICTS_MOST;
    if (engine_absent(&a->err) || conflict) {
        docker_look(t);               /* it may have been made; or an earlier run's is in the way */
        return;
    }
    const char *id = value_text(&a->json, "Id");
    if (a->err.code || !id) {
        docker_fail_begin(t, &a->err);
        return;
    }
    mem_set_string(&t->container, id);
    docker_passwd_begin(t);
}

void docker_create_begin(struct docker_task *t)
{
    start_forget(t);
    CLEANUP_BUF struct buf body = {0};
    CLEANUP_FREE char *path = mem_printf("/containers/create?name=mentat-%s", t->alloc_id);
    docker_create_body(&t->spec, &t->image, t->spec.config.user, t->d->agent, t->d->env->ip,
                       engine_has_seccomp(t->d->engine), &body);
    docker_task_call(t, STEP_CREATE, &(struct engine_request){
        .method = HTTP_METHOD_POST, .path = path, .body = body.data, .timeout_ms = DOCKER_MAKE_TIMEOUT_MS,
    }, create_done);
}

/* --- who the container's user is --- */

static void passwd_done(void *arg, const struct engine_answer *a)
{
    struct docker_task *t = arg;
    struct error err = a->err;
    unsigned uid, gid;
    t->call = NULL;
    if (engine_absent(&err)) {
        docker_look(t);
        return;
    }
    CLEANUP_FREE char *name = mem_strdup(docker_user(&t->spec, &t->image));
    name[strcspn(name, ":")] = 0;
    struct buf missing = {0};
    if (docker_passwd_find(err.code ? &missing : a->body, name, &uid, &gid, &err) < 0) {
        docker_fail_begin(t, &err);
        return;
    }
    t->user = mem_printf("%u:%u", uid, gid);
    if (docker_user_allowed(&t->spec, t->user, &err) < 0)
        docker_fail_begin(t, &err);
    else
        start_begin(t);
}

void docker_passwd_begin(struct docker_task *t)
{
    if (t->user || (t->spec.may.root && !t->spec.volumes.n && !t->spec.secrets_dir)) {
        start_begin(t);
        return;
    }
    CLEANUP_FREE char *path = mem_printf("/containers/%s/archive?path=/etc/passwd", t->container);
    docker_task_call(t, STEP_PASSWD, &(struct engine_request){.path = path, .raw = true}, passwd_done);
}

/* --- start --- */

static void start_done(void *arg, const struct engine_answer *a)
{
    struct docker_task *t = arg;
    t->call = NULL;
    if (a->err.code == ERROR_UNAVAILABLE)
        start_forget(t);             /* nobody heard it */
    if (!a->err.code || engine_absent(&a->err))
        docker_look(t);
    else if (t->fresh && names_network(&a->err) && !t->waited) {
        t->waited = true;            /* once: the network went with the last container of its job */
        t->failed = (struct error){0};
        docker_clear_begin(t);
    } else
        docker_fail_begin(t, &a->err);
}

static void start_send(struct docker_task *t)
{
    struct error err;
    if (start_note(t, &err) < 0) {
        docker_fail_begin(t, &err);
        return;
    }
    CLEANUP_FREE char *path = mem_printf("/containers/%s/start", t->container);
    docker_task_call(t, STEP_START, &(struct engine_request){
        .method = HTTP_METHOD_POST, .path = path, .timeout_ms = DOCKER_MAKE_TIMEOUT_MS,
    }, start_done);
}

/* A new volume belongs to who uses it. Outlives its task, since the worker cannot be called back. */
struct docker_gift {
    struct docker_task *t;           /* NULL: let go of */
    struct str_list paths;
    unsigned uid, gid;
    uv_work_t work;
};

static void gift_run(uv_work_t *work)
{
    const struct docker_gift *g = work->data;
    for (uint32_t i = 0; i < g->paths.n; i++) {
        const char *path = g->paths.v[i];
        struct stat st;
        /* Two links: no folder in it; as launch_prepare made it. */
        if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == 0 && st.st_gid == 0 && st.st_nlink == 2 &&
            (st.st_mode & 07777) == 0755 && rmdir(path) == 0 && (mkdir(path, 0755) < 0 || chown(path, g->uid, g->gid) < 0))
            LOG_W("a volume cannot be given to its user", "volume", path, "uid", LOG_I64(g->uid), "error", strerror(errno));
    }
}

static void gift_done(uv_work_t *work, int status)
{
    struct docker_gift *g = work->data;
    struct docker_task *t = g->t;
    str_list_clear(&g->paths);
    free(g);
    if (!t)
        return;
    t->gift = NULL;
    start_send(t);
}

void docker_gift_abandon(struct docker_task *t)
{
    if (t->gift)
        t->gift->t = NULL;
    t->gift = NULL;
}

static int give_secrets(const struct docker_task *t, struct error *err)
{
    unsigned uid = 0, gid = 0;
    if (!t->fresh || !t->spec.secrets_dir || !t->user || sscanf(t->user, "%u:%u", &uid, &gid) < 1)
        return 0;
    return secret_dir_give(t->spec.secrets_dir, uid, gid, err);
}

static void start_begin(struct docker_task *t)
{
    unsigned uid = 0, gid = 0;
    struct error err;
    if (give_secrets(t, &err) < 0) {
        docker_fail_begin(t, &err);
        return;
    }
    if (!t->fresh || !t->spec.volumes.n || !t->user || sscanf(t->user, "%u:%u", &uid, &gid) < 1 || !uid) {
        start_send(t);
        return;
    }
    struct docker_gift *g = t->gift = NEW(struct docker_gift);
    *g = (struct docker_gift){.t = t, .uid = uid, .gid = gid};
    for (uint32_t i = 0; i < t->spec.volumes.n; i++)
        str_list_add(&g->paths, t->spec.volumes.v[i].source);
    g->work.data = g;
    t->step = STEP_START;
    uv_queue_work(t->d->env->loop, &g->work, gift_run, gift_done);
}

/* --- in the way, or half made --- */

static void clear_done(void *arg, const struct engine_answer *a)
{
    struct docker_task *t = arg;
    t->call = NULL;
    if (docker_still_there(&a->err)) {
        docker_again(t);
        return;
    }
    if (t->fresh) {
        docker_network_again(t);
        return;
    }
    error_set(&t->failed, ERROR_NOT_FOUND, "its container was made but never started");
    docker_start_failed(t, &t->failed);
}

void docker_clear_begin(struct docker_task *t)
{
    CLEANUP_FREE char *path = docker_delete_path(t->container);
    docker_task_call(t, STEP_CLEAR, &(struct engine_request){.method = HTTP_METHOD_DELETE, .path = path}, clear_done);
}

static void fail_done(void *arg, const struct engine_answer *a)
{
    struct docker_task *t = arg;
    t->call = NULL;
    if (docker_still_there(&a->err))
        docker_again(t);
    else
        docker_start_failed(t, &t->failed);
}

void docker_fail_begin(struct docker_task *t, const struct error *why)
{
    if (why)
        t->failed = *why;
    CLEANUP_FREE char *by_name = mem_printf("mentat-%s", t->alloc_id), *path = docker_delete_path(by_name);
    docker_task_call(t, STEP_FAIL, &(struct engine_request){.method = HTTP_METHOD_DELETE, .path = path}, fail_done);
}
