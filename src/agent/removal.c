#include "agent/removal.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"

#define CGROUP_WAIT_MS 1000

enum job_kind { JOB_DELETE, JOB_SCAN, JOB_TRIM, JOB_MARK };

struct job {
    enum job_kind kind;
    struct str_list ids;             /* DELETE, TRIM: what to do; SCAN: what was found */
    int64_t max_mb;
    void (*fn)(void *ctx, const char *id);
    void (*done)(void *ctx);
    void *ctx;
    TAILQ_ENTRY(job) link;
};

struct removal {
    uv_loop_t *loop;
    char *data_dir;
    const struct cgroup_root *cgroups;
    TAILQ_HEAD(job_queue, job) jobs;
    struct job *running;
    bool closed;
    uv_work_t work;
};

/* --- the worker's side --- */

static int delete_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

static void delete_id(struct removal *r, const char *id)
{
    struct error err;
    CLEANUP_FREE char *dir = mem_printf("%s/allocs/%s", r->data_dir, id);
    if (nftw(dir, delete_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) < 0 && errno != ENOENT) {
        error_set_errno(&err, errno, "%s", dir);
        LOG_W("an allocation's files cannot be deleted", "alloc", id, "error", err.text);
    }
    if (!r->cgroups)
        return;
    cgroup_kill(r->cgroups, id);
    if (cgroup_remove(r->cgroups, id, CGROUP_WAIT_MS, &err) < 0)
        LOG_W("a control group cannot be removed", "alloc", id, "error", err.text);
}

static void scan(struct removal *r, struct str_list *found)
{
    CLEANUP_FREE char *path = mem_printf("%s/allocs", r->data_dir);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (id_valid(e->d_name))
            str_list_add(found, e->d_name);
    if (dir)
        closedir(dir);
    struct str_list groups = {0};
    if (r->cgroups && !cgroup_list(r->cgroups, &groups, NULL))
        for (uint32_t i = 0; i < groups.n; i++)
            if (id_valid(groups.v[i]))
                str_list_add(found, groups.v[i]);
    str_list_clear(&groups);
}

static _Thread_local int64_t measured_bytes;

static int measure_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    if (type == FTW_F)
        measured_bytes += (int64_t)st->st_blocks * 512;
    return 0;
}

/* Leaves in ids those that are to go. */
static void trim(struct removal *r, struct str_list *ids, int64_t max_mb)
{
    struct str_list beyond = {0};
    int64_t total = 0;
    for (uint32_t i = 0; i < ids->n; i++) {
        CLEANUP_FREE char *dir = mem_printf("%s/allocs/%s", r->data_dir, ids->v[i]);
        measured_bytes = 0;
        nftw(dir, measure_entry, 16, FTW_PHYS | FTW_MOUNT);
        total += measured_bytes;
        if (total >> 20 > max_mb)
            str_list_add(&beyond, ids->v[i]);
    }
    str_list_clear(ids);
    *ids = beyond;
}

static void run(uv_work_t *work)
{
    struct removal *r = work->data;
    struct job *j = r->running;
    if (j->kind == JOB_DELETE)
        for (uint32_t i = 0; i < j->ids.n; i++)
            delete_id(r, j->ids.v[i]);
    else if (j->kind == JOB_SCAN)
        scan(r, &j->ids);
    else if (j->kind == JOB_TRIM)
        trim(r, &j->ids, j->max_mb);
}

/* --- the loop's side --- */

static void job_free(struct job *j)
{
    str_list_clear(&j->ids);
    free(j);
}

static void next(struct removal *r);

static void finish(uv_work_t *work, int status)
{
    struct removal *r = work->data;
    struct job *j = r->running;      /* stays set: a callback may close us */
    for (uint32_t i = 0; j->fn && i < j->ids.n && !r->closed; i++)
        j->fn(j->ctx, j->ids.v[i]);
    if (!r->closed && j->done)
        j->done(j->ctx);
    job_free(j);
    r->running = NULL;
    if (!r->closed) {
        next(r);
        return;
    }
    free(r->data_dir);
    free(r);
}

static void next(struct removal *r)
{
    if (r->running || !(r->running = TAILQ_FIRST(&r->jobs)))
        return;
    TAILQ_REMOVE(&r->jobs, r->running, link);
    uv_queue_work(r->loop, &r->work, run, finish);
}

static struct job *add(struct removal *r, enum job_kind kind)
{
    struct job *j = NEW(struct job);
    j->kind = kind;
    TAILQ_INSERT_TAIL(&r->jobs, j, link);
    return j;
}

struct removal *removal_new(uv_loop_t *loop, const char *data_dir, const struct cgroup_root *cgroups)
{
    struct removal *r = NEW(struct removal);
    r->loop = loop;
    r->data_dir = mem_strdup(data_dir);
    r->cgroups = cgroups;
    r->work.data = r;
    TAILQ_INIT(&r->jobs);
    return r;
}

void removal_add(struct removal *r, const char *id)
{
    /* Those that come while a job runs share the next one. */
    struct job *j = TAILQ_LAST(&r->jobs, job_queue);
    if (!j || j->kind != JOB_DELETE)
        j = add(r, JOB_DELETE);
    str_list_add(&j->ids, id);
    next(r);
}

void removal_scan(struct removal *r, void (*fn)(void *ctx, const char *id), void *ctx)
{
    struct job *j = add(r, JOB_SCAN);
    j->fn = fn;
    j->ctx = ctx;
    next(r);
}

void removal_trim(struct removal *r, struct str_list *ids, int64_t max_mb, void (*fn)(void *ctx, const char *id),
                  void *ctx)
{
    struct job *j = add(r, JOB_TRIM);
    j->ids = *ids;
    *ids = (struct str_list){0};
    j->max_mb = max_mb;
    j->fn = fn;
    j->ctx = ctx;
    next(r);
}

void removal_when_done(struct removal *r, void (*fn)(void *ctx), void *ctx)
{
    struct job *j = add(r, JOB_MARK);
    j->done = fn;
    j->ctx = ctx;
    next(r);
}

void removal_close(struct removal *r)
{
    struct job *j;
    while ((j = TAILQ_FIRST(&r->jobs))) {
        TAILQ_REMOVE(&r->jobs, j, link);
        job_free(j);
    }
    r->closed = true;
    if (r->running)
        return;
    free(r->data_dir);
    free(r);
}
