/* Images: pulled when a task needs one that is not there, and cleared away when nothing has used one for a while.
 *
 * Only what this agent pulled is ever removed. DATA_DIR/docker-images has a line for each: name, id, time of the last
 * use; a name is noted when a pull brought an image whose id was not there before. When the name means another image by
 * then, somebody else gave it that meaning, and it is forgotten instead. The engine itself refuses to remove what a
 * container uses. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/drivers/docker.h"
#include "agent/drivers/docker_auth.h"
#include "agent/drivers/docker_config.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/timefmt.h"

#define PULL_IDLE_MS 120000
#define PULL_HEAD_MS 60000           /* the engine speaks with the registry before it answers */
#define LINE_MAX_BYTES 65536
#define PROGRESS_EVERY_MS 1000
#define CLEAR_EVERY_MS 600000
#define FILE_MAX_BYTES (4 << 20)

struct layer {
    char id[20];
    int64_t done, total;
    bool complete;
};

struct pull_work;

struct docker_pull {
    LIST_ENTRY(docker_pull) entry;
    struct pull_work *work;
    const struct docker_pull_events *events;
    void *arg;
};

/* One pull of the engine; those who wait for it are in `waiting`. */
struct pull_work {
    LIST_ENTRY(pull_work) entry;
    struct docker_images *images;
    char *login;                     /* NULL: the agent's own */
    char *image, *before;            /* before: the id that the name had, NULL: none */
    struct engine_call *call;
    LIST_HEAD(, docker_pull) waiting;
    struct buf line;
    struct layer *layers;
    size_t n_layers;
    int64_t told_at;
    bool over;                       /* not in the list any more: those who waited are being told */
    struct error err;
};

struct known_image {
    char *name, *id;
    int64_t used_at;
};

struct docker_images {
    struct docker *d;
    char *path;
    struct known_image *v;
    size_t n;
    LIST_HEAD(, pull_work) pulls;
    uv_timer_t timer;
    struct engine_call *clearing;
    size_t clearing_at;
    char *clearing_name;
};

/* --- names --- */

void docker_reference_split(const char *image, char **name, char **tag)
{
    const char *digest = strchr(image, '@'), *end = digest ? digest : image + strlen(image);
    const char *slash = memrchr(image, '/', (size_t)(end - image));
    const char *from = slash ? slash : image, *colon = memchr(from, ':', (size_t)(end - from));
    *name = mem_strndup(image, (size_t)((colon ? colon : end) - image));
    *tag = digest ? mem_strdup(digest + 1) : colon ? mem_strndup(colon + 1, (size_t)(end - colon - 1)) : mem_strdup("latest");
}

char *docker_registry_of(const char *image)
{
    const char *slash = strchr(image, '/');
    size_t n = slash ? (size_t)(slash - image) : 0;
    bool host = slash && (memchr(image, '.', n) || memchr(image, ':', n) || !strncmp(image, "localhost/", n + 1));
    return host ? mem_strndup(image, n) : mem_strdup("https://index.docker.io/v1/");
}

/* --- what this agent pulled --- */

static void known_save(struct docker_images *i)
{
    CLEANUP_BUF struct buf b = {0};
    struct error err;
    for (size_t k = 0; k < i->n; k++)
        buf_printf(&b, "%s %s %" PRId64 "\n", i->v[k].name, i->v[k].id, i->v[k].used_at);
    if (file_write(i->path, b.data ? b.data : "", b.len, 0600, &err) < 0)
        LOG_W("the list of pulled images cannot be kept: these images will not be cleared away", "error", err.text);
}

static struct known_image *known_find(struct docker_images *i, const char *name)
{
    for (size_t k = 0; k < i->n; k++)
        if (!strcmp(i->v[k].name, name))
            return &i->v[k];
    return NULL;
}

static void known_set(struct docker_images *i, const char *name, const char *id, int64_t used_at)
{
    struct known_image *k = known_find(i, name);
    if (!k) {
        i->v = mem_realloc_array(i->v, i->n + 1, sizeof *i->v);
        k = &i->v[i->n++];
        *k = (struct known_image){.name = mem_strdup(name)};
    }
    mem_set_string(&k->id, id);
    k->used_at = used_at;
}

static void known_forget(struct docker_images *i, const char *name)
{
    struct known_image *k = known_find(i, name);
    if (!k)
        return;
    free(k->name);
    free(k->id);
    *k = i->v[--i->n];
    known_save(i);
}

static void known_load(struct docker_images *i)
{
    CLEANUP_BUF struct buf b = {0};
    if (file_read(i->path, FILE_MAX_BYTES, &b, NULL) < 0)
        return;
    char *rest = b.data;
    for (char *line; (line = strsep(&rest, "\n"));) {
        char name[512], id[128];
        int64_t used_at;
        if (sscanf(line, "%511s %127s %" SCNd64, name, id, &used_at) == 3)
            known_set(i, name, id, used_at);
    }
}

void docker_image_used(struct docker_images *i, const char *image)
{
    struct known_image *k = image ? known_find(i, image) : NULL;
    if (!k)
        return;
    k->used_at = time_now_ms();
    known_save(i);
}

/* --- clearing away: one image after the other --- */

static void clear_next(struct docker_images *i);

static void on_timer(uv_timer_t *timer)
{
    struct docker_images *i = timer->data;
    if (!i->clearing && engine_up(i->d->engine)) {
        i->clearing_at = 0;
        clear_next(i);
    }
}

static void clear_again(struct docker_images *i)
{
    int64_t age = i->d->env->docker->image_gc_age_ms;
    uv_timer_start(&i->timer, on_timer, (uint64_t)(age < CLEAR_EVERY_MS ? age / 2 + 1 : CLEAR_EVERY_MS), 0);
}

static void removed(void *arg, const struct engine_answer *a)
{
    struct docker_images *i = arg;
    CLEANUP_FREE char *name = steal(&i->clearing_name);
    i->clearing = NULL;
    if (!a->err.code || a->err.code == ERROR_NOT_FOUND) {
        LOG_I("an image that nothing used was removed", "image", name);
        known_forget(i, name);
    } else {
        /* A container is made of it: that is a use. */
        docker_image_used(i, name);
    }
    clear_next(i);
}

static void looked(void *arg, const struct engine_answer *a)
{
    struct docker_images *i = arg;
    i->clearing = NULL;
    struct known_image *k = known_find(i, i->clearing_name);
    const char *id = value_text(&a->json, "Id");
    if (k && (a->err.code == ERROR_NOT_FOUND || (id && strcmp(id, k->id) != 0))) {
        known_forget(i, k->name);
        k = NULL;
    }
    if (!k || a->err.code) {
        free(steal(&i->clearing_name));
        clear_next(i);
        return;
    }
    CLEANUP_FREE char *path = mem_printf("/images/%s", k->name);
    i->clearing = engine_start(i->d->engine, &(struct engine_request){.method = HTTP_METHOD_DELETE, .path = path}, removed, i);
}

static void clear_next(struct docker_images *i)
{
    int64_t old = time_now_ms() - i->d->env->docker->image_gc_age_ms;
    while (i->clearing_at < i->n && i->v[i->clearing_at].used_at > old)
        i->clearing_at++;
    if (i->clearing_at >= i->n) {
        clear_again(i);
        return;
    }
    i->clearing_name = mem_strdup(i->v[i->clearing_at++].name);
    CLEANUP_FREE char *path = mem_printf("/images/%s/json", i->clearing_name);
    i->clearing = engine_start(i->d->engine, &(struct engine_request){.path = path}, looked, i);
}

void docker_images_engine_up(struct docker_images *i)
{
    if (!i->clearing)
        clear_again(i);
}

/* --- pulling --- */

static struct layer *layer_of(struct pull_work *w, const char *id)
{
    for (size_t k = 0; k < w->n_layers; k++)
        if (!strcmp(w->layers[k].id, id))
            return &w->layers[k];
    if (w->n_layers >= 512)
        return &w->layers[0];
    w->layers = mem_realloc_array(w->layers, w->n_layers + 1, sizeof *w->layers);
    struct layer *l = &w->layers[w->n_layers++];
    *l = (struct layer){0};
    snprintf(l->id, sizeof l->id, "%s", id);
    return l;
}

static void progress_tell(struct pull_work *w)
{
    int64_t now = time_monotonic_ms(), done = 0, total = 0;
    if (now - w->told_at < PROGRESS_EVERY_MS)
        return;
    w->told_at = now;
    size_t complete = 0;
    for (size_t k = 0; k < w->n_layers; k++) {
        complete += w->layers[k].complete;
        done += w->layers[k].complete ? w->layers[k].total : w->layers[k].done;
        total += w->layers[k].total;
    }
    CLEANUP_FREE char *text = total
        ? mem_printf("pulling image %s: %.1f of %.1f MB, %zu of %zu layers", w->image, (double)done / 1e6, (double)total / 1e6,
                     complete, w->n_layers)
        : mem_printf("pulling image %s", w->image);
    struct docker_pull *p, *next;
    for (p = LIST_FIRST(&w->waiting); p; p = next) {
        next = LIST_NEXT(p, entry);
        p->events->progress(p->arg, text);
    }
}

static void line_take(struct pull_work *w, const char *line, size_t len)
{
    struct value json;
    struct problem_list problems = {0};
    if (value_from_json(line, len, &json, &problems) < 0) {
        problem_list_clear(&problems);
        return;
    }
    const char *error = value_text(&json, "error"), *id = value_text(&json, "id"), *status = value_text(&json, "status");
    if (error)
        error_set(&w->err, strstr(error, "no space left on device") ? ERROR_NO_SPACE : ERROR_UNAVAILABLE, "%s", error);
    bool is_layer = id && status && (value_path(&json, "progressDetail") || strstr(status, "complete") || strstr(status, "exists"));
    if (is_layer && !text_has_prefix(status, "Pulling from")) {
        struct layer *l = layer_of(w, id);
        if (!strcmp(status, "Downloading")) {
            l->done = value_number(&json, "progressDetail/current");
            l->total = value_number(&json, "progressDetail/total");
        }
        l->complete = l->complete || !strcmp(status, "Pull complete") || !strcmp(status, "Already exists");
    }
    value_clear(&json);
}

static void on_data(void *arg, const char *data, size_t len)
{
    struct pull_work *w = arg;
    while (len) {
        const char *end = memchr(data, '\n', len);
        size_t n = end ? (size_t)(end - data) + 1 : len;
        if (w->line.len + n <= LINE_MAX_BYTES)
            buf_add(&w->line, data, n);
        if (end) {
            line_take(w, w->line.data, w->line.len);
            buf_clear(&w->line);
        }
        data += n;
        len -= n;
    }
    progress_tell(w);
}

static void work_free(struct pull_work *w)
{
    if (!w->over)
        LIST_REMOVE(w, entry);
    engine_cancel(w->call);
    free(w->image);
    if (w->login)
        explicit_bzero(w->login, strlen(w->login));
    free(w->login);
    free(w->before);
    free(w->layers);
    buf_free(&w->line);
    free(w);
}

static void work_done(struct pull_work *w, const struct error *err)
{
    struct docker_pull *p;
    /* Who starts a pull when told so starts a new one. */
    LIST_REMOVE(w, entry);
    w->over = true;
    while ((p = LIST_FIRST(&w->waiting))) {
        const struct docker_pull_events *events = p->events;
        void *arg = p->arg;
        LIST_REMOVE(p, entry);
        free(p);
        events->done(arg, err);
    }
    work_free(w);
}

static void work_fail(struct pull_work *w, const struct error *why)
{
    struct error err;
    const char *hint = strstr(why->text, "unauthorized") || strstr(why->text, "denied") || strstr(why->text, "no basic auth")
        ? ": the registry wants a login, see docker.auth_file in agent.yaml" : "";
    error_set(&err, why->code, "the image %s cannot be pulled: %.300s%s", w->image, why->text, hint);
    work_done(w, &err);
}

static void after_look(void *arg, const struct engine_answer *a)
{
    struct pull_work *w = arg;
    w->call = NULL;
    const char *id = value_text(&a->json, "Id");
    if (a->err.code || !id) {
        work_fail(w, &a->err);
        return;
    }
    if (!w->before || strcmp(w->before, id) != 0 || known_find(w->images, w->image)) {
        known_set(w->images, w->image, id, time_now_ms());
        known_save(w->images);
    }
    work_done(w, NULL);
}

static void look_start(struct pull_work *w, engine_done done)
{
    CLEANUP_FREE char *path = mem_printf("/images/%s/json", w->image);
    w->call = engine_start(w->images->d->engine, &(struct engine_request){.path = path}, done, w);
}

static void pulled(void *arg, const struct engine_answer *a)
{
    struct pull_work *w = arg;
    w->call = NULL;
    if (w->line.len)
        line_take(w, w->line.data, w->line.len);
    if (a->err.code || w->err.code)
        work_fail(w, a->err.code ? &a->err : &w->err);
    else
        look_start(w, after_look);
}

static void before_look(void *arg, const struct engine_answer *a)
{
    struct pull_work *w = arg;
    w->call = NULL;
    if (a->err.code && a->err.code != ERROR_NOT_FOUND) {
        work_fail(w, &a->err);
        return;
    }
    w->before = mem_strdup(value_text(&a->json, "Id"));
    struct error err;
    CLEANUP_FREE char *name = NULL, *tag = NULL, *registry = docker_registry_of(w->image), *auth = NULL;
    docker_reference_split(w->image, &name, &tag);
    if (w->login ? docker_auth_login(w->login, registry, &auth, &err) < 0
                 : docker_auth_header(w->images->d->env->docker->auth_file, registry, &auth, &err) < 0) {
        work_fail(w, &err);
        return;
    }
    CLEANUP_BUF struct buf path = {0};
    buf_add_string(&path, "/images/create?fromImage=");
    http_add_encoded(&path, name);
    buf_add_string(&path, "&tag=");
    http_add_encoded(&path, tag);
    w->call = engine_start(w->images->d->engine, &(struct engine_request){
        .method = HTTP_METHOD_POST, .path = path.data, .timeout_ms = PULL_HEAD_MS, .idle_ms = PULL_IDLE_MS,
        .registry_auth = auth, .on_data = on_data,
    }, pulled, w);
}

static struct pull_work *work_find(struct docker_images *i, const char *image, const char *login)
{
    struct pull_work *w;
    LIST_FOREACH(w, &i->pulls, entry)
        if (!strcmp(w->image, image) && text_same(w->login, login))
            return w;
    w = NEW(struct pull_work);
    w->images = i;
    w->login = mem_strdup(login);
    w->image = mem_strdup(image);
    LIST_INIT(&w->waiting);
    LIST_INSERT_HEAD(&i->pulls, w, entry);
    look_start(w, before_look);
    return w;
}

struct docker_pull *docker_pull_start(struct docker_images *i, const char *image, const char *login,
                                      const struct docker_pull_events *events, void *arg)
{
    struct docker_pull *p = NEW(struct docker_pull);
    *p = (struct docker_pull){.work = work_find(i, image, login), .events = events, .arg = arg};
    LIST_INSERT_HEAD(&p->work->waiting, p, entry);
    return p;
}

void docker_pull_cancel(struct docker_pull *p)
{
    if (!p)
        return;
    struct pull_work *w = p->work;
    LIST_REMOVE(p, entry);
    free(p);
    if (LIST_EMPTY(&w->waiting) && !w->over)
        work_free(w);
}

/* --- life --- */

struct docker_images *docker_images_open(struct docker *d)
{
    struct docker_images *i = NEW(struct docker_images);
    i->d = d;
    i->path = mem_printf("%s/docker-images", d->env->data_dir);
    LIST_INIT(&i->pulls);
    known_load(i);
    uv_timer_init(d->env->loop, &i->timer);
    i->timer.data = i;
    return i;
}

static void timer_closed(uv_handle_t *h)
{
    free(h->data);
}

void docker_images_close(struct docker_images *i)
{
    struct pull_work *w;
    while ((w = LIST_FIRST(&i->pulls))) {
        struct docker_pull *p;
        while ((p = LIST_FIRST(&w->waiting))) {
            LIST_REMOVE(p, entry);
            free(p);
        }
        work_free(w);
    }
    engine_cancel(i->clearing);
    free(i->clearing_name);
    for (size_t k = 0; k < i->n; k++) {
        free(i->v[k].name);
        free(i->v[k].id);
    }
    free(i->v);
    free(i->path);
    uv_close((uv_handle_t *)&i->timer, timer_closed);
}
