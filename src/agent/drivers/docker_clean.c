/* Docker driver: what tasks leave behind. A container is removed when its task is done with. The job's network stays
 * until a sweep finds it without tasks: a task that is restarted every second would else have its network made anew every
 * second, and an engine (20.10) that goes down while it writes a new network's state never starts again. */
#include <string.h>
#include <unistd.h>

#include "agent/drivers/docker.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"

#define AGAIN_MS 2000
#define SWEEP_MS 10000

char *docker_delete_path(const char *container)
{
    return mem_printf("/containers/%s?force=1&v=1", container);
}

bool docker_still_there(const struct error *err)
{
    return err->code && err->code != ERROR_NOT_FOUND;
}

/* --- removals --- */

struct docker_removal {
    LIST_ENTRY(docker_removal) entry;
    struct docker *d;
    char *id, *path;
    bool insist;                     /* a container; a network stays when somebody else's container is in it */
    struct engine_call *call;
    uv_timer_t timer;
};

static void removal_closed(uv_handle_t *h)
{
    struct docker_removal *r = h->data;
    free(r->id);
    free(r->path);
    free(r);
}

static void removal_end(struct docker_removal *r)
{
    LIST_REMOVE(r, entry);
    engine_cancel(steal(&r->call));
    uv_close((uv_handle_t *)&r->timer, removal_closed);
}

static void removal_try(uv_timer_t *timer);

static void removal_done(void *arg, const struct engine_answer *a)
{
    struct docker_removal *r = arg;
    struct docker *d = r->d;
    r->call = NULL;
    if (r->insist ? docker_still_there(&a->err) : engine_absent(&a->err)) {
        uv_timer_start(&r->timer, removal_try, AGAIN_MS, 0);
        return;
    }
    removal_end(r);
    docker_close_when_done(d);
}

static void removal_try(uv_timer_t *timer)
{
    struct docker_removal *r = timer->data;
    r->call = engine_start(r->d->engine, &(struct engine_request){.method = HTTP_METHOD_DELETE, .path = r->path},
                           removal_done, r);
}

static struct docker_removal *removal_add(struct docker *d, const char *id, char *path)
{
    struct docker_removal *r = NEW(struct docker_removal);
    *r = (struct docker_removal){.d = d, .id = mem_strdup(id), .path = path};
    uv_timer_init(d->env->loop, &r->timer);
    r->timer.data = r;
    LIST_INSERT_HEAD(&d->removals, r, entry);
    removal_try(&r->timer);
    return r;
}

void docker_remove_container(struct docker *d, const char *container, bool foreign)
{
    char *path = foreign ? mem_printf("/containers/%s?force=1", container) : docker_delete_path(container);
    removal_add(d, container, path)->insist = true;
}

void docker_removals_abandon(struct docker *d)
{
    struct docker_removal *r;
    while ((r = LIST_FIRST(&d->removals)))
        removal_end(r);
}

/* --- the sweep: containers and networks of ours that no allocation has any more --- */

static bool job_has_tasks(const struct docker *d, const char *job)
{
    const struct docker_task *t;
    LIST_FOREACH(t, &d->tasks, entry)
        if (t->job && !strcmp(t->job, job))
            return true;
    return false;
}

static const char *label_of(const struct value *item, const char *name)
{
    const struct value *labels = value_path(item, "Labels");
    const struct value_entry *e = labels && labels->kind == VALUE_MAP ? value_get(labels, name) : NULL;
    return e ? e->value.text : NULL;
}

/* "/containers/json?all=1" with a filter on our own. */
static char *own_path(const struct docker *d, const char *path)
{
    struct buf filter = {0}, out = {0};
    CLEANUP_FREE char *wanted_label = mem_printf(LABEL_AGENT "=%s", d->agent);
    buf_add_string(&filter, "{\"label\":[");
    json_add_string(&filter, wanted_label);
    buf_add_string(&filter, "]}");
    buf_printf(&out, "%s%cfilters=", path, strchr(path, '?') ? '&' : '?');
    http_add_encoded(&out, filter.data);
    buf_free(&filter);
    return buf_steal(&out);
}

static void networks_swept(void *arg, const struct engine_answer *a)
{
    struct docker *d = arg;
    d->sweep = NULL;
    for (uint32_t i = 0; !a->err.code && a->json.kind == VALUE_LIST && i < a->json.n; i++) {
        const struct value *item = &a->json.entries[i].value;
        const char *job = label_of(item, LABEL_JOB), *id = value_text(item, "Id");
        if (!job || !id || job_has_tasks(d, job))
            continue;
        CLEANUP_FREE char *name = docker_job_network(job);
        kv_remove(&d->networks, name);
        LOG_I("removing a network that no task uses", "network", name);
        removal_add(d, id, mem_printf("/networks/%s", id));
    }
    docker_close_when_done(d);
}

void docker_sweep_networks(struct docker *d)
{
    CLEANUP_FREE char *path = own_path(d, "/networks");
    d->sweep = engine_start(d->engine, &(struct engine_request){.path = path}, networks_swept, d);
}

static bool wanted(const struct docker *d, const char *id, const char *alloc)
{
    const struct docker_task *t;
    const struct docker_removal *r;
    LIST_FOREACH(t, &d->tasks, entry)
        if (!strcmp(t->alloc_id, alloc))
            return true;
    LIST_FOREACH(r, &d->removals, entry)
        if (!strcmp(r->id, id))
            return true;
    return false;
}

static bool has_files(const struct docker *d, const char *alloc)
{
    CLEANUP_FREE char *dir = mem_printf("%s/allocs/%s", d->env->data_dir, alloc);
    return access(dir, F_OK) == 0;
}

/* One whose allocation has files may still be asked for, when the agent's store was lost: if it runs, it is left to the
 * agent, which looks at what has files itself; else it has the time until the next sweep. */
static bool may_be_wanted(struct docker *d, const struct value *item, const char *alloc, struct kv_list *suspects)
{
    const char *id = value_text(item, "Id"), *state = value_text(item, "State");
    if (!has_files(d, alloc))
        return false;
    if (state && !strcmp(state, "running"))
        return true;
    if (kv_get(&d->suspects, id))
        return false;
    kv_set(suspects, id, "");
    return true;
}

static void sweep_done(void *arg, const struct engine_answer *a)
{
    struct docker *d = arg;
    struct kv_list suspects = {0};
    d->sweep = NULL;
    for (uint32_t i = 0; !a->err.code && a->json.kind == VALUE_LIST && i < a->json.n; i++) {
        const struct value *item = &a->json.entries[i].value;
        const char *id = value_text(item, "Id"), *alloc = label_of(item, LABEL_ALLOC);
        if (!id || !alloc || wanted(d, id, alloc) || may_be_wanted(d, item, alloc, &suspects))
            continue;
        LOG_W("removing a container that no allocation has", "container", id, "alloc", alloc);
        docker_remove_container(d, id, false);
    }
    kv_clear(&d->suspects);
    d->suspects = suspects;
    if (!a->err.code)
        docker_sweep_networks(d);
}

static void on_sweep(uv_timer_t *timer)
{
    struct docker *d = timer->data;
    uv_timer_start(&d->timer, on_sweep, SWEEP_MS, 0);
    if (d->sweep || !engine_up(d->engine))
        return;
    CLEANUP_FREE char *path = own_path(d, "/containers/json?all=1");
    d->sweep = engine_start(d->engine, &(struct engine_request){.path = path}, sweep_done, d);
}

void docker_sweep_soon(struct docker *d)
{
    uv_timer_start(&d->timer, on_sweep, 0, 0);
}
