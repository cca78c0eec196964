#include "agent/ingress/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/ingress/self_signed.h"
#include "base/file.h"
#include "base/mem.h"

struct files_write {
    uv_work_t work;
    char *directory;
    struct buf config, maps[MAP_COUNT];
    struct error err;
    files_done *done;                /* NULL: cancelled */
    void *arg;
};

/* The old file or the new one, whenever somebody looks. */
static int put(const char *directory, const char *name, const void *bytes, size_t n, struct error *err)
{
    CLEANUP_FREE char *path = mem_printf("%s/%s", directory, name);
    CLEANUP_FREE char *fresh = mem_printf("%s.new", path);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool written = fd >= 0;
    for (size_t from = 0; written && from < n;) {
        ssize_t part = write(fd, (const char *)bytes + from, n - from);
        written = part > 0 || (part < 0 && errno == EINTR);
        from += part > 0 ? (size_t)part : 0;
    }
    int failed = errno;
    if (fd >= 0)
        close(fd);
    if (written && rename(fresh, path) < 0) {
        failed = errno;
        written = false;
    }
    return written ? 0 : error_set_errno(err, failed, "cannot write %s", path);
}

static void run(uv_work_t *work)
{
    struct files_write *f = work->data;
    for (int i = 0; i < MAP_COUNT && !f->err.code; i++)
        put(f->directory, map_files[i], f->maps[i].data, f->maps[i].len, &f->err);
    if (!f->err.code)
        put(f->directory, RENDER_CONFIG, f->config.data, f->config.len, &f->err);
}

static void finish(uv_work_t *work, int status)
{
    struct files_write *f = work->data;
    if (f->done)
        f->done(f->arg, f->err.code ? &f->err : NULL);
    buf_free(&f->config);
    for (int i = 0; i < MAP_COUNT; i++)
        buf_free(&f->maps[i]);
    free(f->directory);
    free(f);
}

struct files_write *files_write(uv_loop_t *loop, const struct layout *l, const struct render_options *o, files_done *done, void *arg)
{
    struct files_write *f = NEW(struct files_write);
    f->directory = mem_strdup(o->directory);
    f->done = done;
    f->arg = arg;
    render_config(l, o, &f->config);
    for (int i = 0; i < MAP_COUNT; i++)
        render_map(&l->maps[i], &f->maps[i]);
    f->work.data = f;
    uv_queue_work(loop, &f->work, run, finish);
    return f;
}

void files_cancel(struct files_write *f)
{
    f->done = NULL;
}

int files_prepare(const char *directory, struct error *err)
{
    CLEANUP_FREE char *jail = mem_printf("%s/" RENDER_JAIL, directory);
    CLEANUP_BUF struct buf no_replica = {0};
    const char *not_found = render_page_not_found();
    render_page_no_replica(&no_replica);
    if (dir_make(directory, 0711, err) < 0 || dir_make(jail, 0755, err) < 0 ||
        put(directory, RENDER_PAGE_NOT_FOUND, not_found, strlen(not_found), err) < 0 ||
        put(directory, RENDER_PAGE_NO_REPLICA, no_replica.data, no_replica.len, err) < 0)
        return -1;
    if (put(directory, RENDER_HANDOVER_MAP, "", 0, err) < 0)
        return -1;
    CLEANUP_FREE char *fallback = mem_printf("%s/" RENDER_FALLBACK, directory);
    return self_signed_make(fallback, err);
}
