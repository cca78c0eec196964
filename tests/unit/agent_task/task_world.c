#include "task_world.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/log_names.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/timefmt.h"

#define PATIENCE_MS 20000        /* times MENTAT_TEST_PATIENCE, as everywhere */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static void tree_remove(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

struct world *world_new(enum cgroup_mode mode)
{
    struct world *w = NEW(struct world);
    uv_loop_init(&w->loop);
    strcpy(w->dir, "/tmp/mentat-task-XXXXXX");
    if (!mkdtemp(w->dir))
        abort();
    chmod(w->dir, 0755);
    snprintf(w->cgroup_name, sizeof w->cgroup_name, "mentat-test-%s", w->dir + strlen("/tmp/mentat-task-"));
    cgroup_open(&w->cgroups, w->cgroup_name, mode);
    w->mode = mode;
    w->env = (struct driver_env){.loop = &w->loop, .node = "n1", .data_dir = w->dir, .cgroups = &w->cgroups};
    struct error err;
    if (drivers_open(&w->env, NULL, &w->drivers, &err) < 0)
        abort();
    return w;
}

static bool no_handles(void *arg)
{
    return !uv_loop_alive(arg);
}

/* What would outlive this program. */
static bool host_clean(struct world *w)
{
    bool clean = true;
    if (*w->mounted)
        umount2(w->mounted, MNT_DETACH);
    cgroup_remove_root(&w->cgroups);
    for (unsigned i = 0; i < w->cgroups.n; i++)
        if (access(w->cgroups.v[i].path, F_OK) == 0) {
            fprintf(stderr, "left: %s\n", w->cgroups.v[i].path);
            clean = false;
        }
    tree_remove(w->dir);
    return clean;
}

bool world_clean(struct world *w)
{
    struct str_list groups = {0};
    bool clean = cgroup_list(&w->cgroups, &groups, NULL) == 0 && groups.n == 0;
    for (uint32_t i = 0; i < groups.n; i++) {
        fprintf(stderr, "left: control group %s\n", groups.v[i]);
        cgroup_kill(&w->cgroups, groups.v[i]);
        cgroup_remove(&w->cgroups, groups.v[i], 2000, NULL);
    }
    str_list_clear(&groups);
    /* With handles in use nothing may be freed under them: a test that failed leaks. */
    if (!world_wait(w, no_handles, &w->loop)) {
        host_clean(w);
        return false;
    }
    drivers_close(w->drivers);
    while (uv_run(&w->loop, UV_RUN_DEFAULT))
        ;
    clean = uv_loop_close(&w->loop) == 0 && clean;
    clean = host_clean(w) && clean;
    cgroup_close(&w->cgroups);
    free(w);
    return clean;
}

bool world_mount(struct world *w, const char *dir, const char *options)
{
    mkdir(dir, 0755);
    if (mount("none", dir, "tmpfs", 0, options) < 0)
        return false;
    snprintf(w->mounted, sizeof w->mounted, "%s", dir);
    return true;
}

int world_open(void **state)
{
    *state = world_new(CGROUP_AUTO);
    return 0;
}

int world_close(void **state)
{
    return world_clean(*state) ? 0 : -1;
}

static void tick(uv_timer_t *timer)
{
}

static void timer_free(uv_handle_t *h)
{
    free(h);
}

bool world_wait(struct world *w, bool (*done)(void *arg), void *arg)
{
    const char *factor = getenv("MENTAT_TEST_PATIENCE");
    int64_t end = time_monotonic_ms() + (int64_t)(PATIENCE_MS * (factor ? strtod(factor, NULL) : 1));
    uv_timer_t *timer = NULL;
    while (!done(arg) && time_monotonic_ms() < end) {
        if (!timer) {
            timer = NEW(uv_timer_t);
            uv_timer_init(&w->loop, timer);
            uv_timer_start(timer, tick, 2, 2);       /* conditions outside the loop are asked again */
            uv_unref((uv_handle_t *)timer);
        }
        if (uv_loop_alive(&w->loop))
            uv_run(&w->loop, UV_RUN_ONCE);
        else
            usleep(2000);
    }
    bool result = done(arg);
    if (timer)
        uv_close((uv_handle_t *)timer, timer_free);
    return result;
}

/* --- tasks --- */

static void on_started(void *arg, const struct error *err, const char *handle, int pid, int64_t started_at)
{
    struct probe *p = arg;
    p->started = true;
    p->pid = pid;
    p->started_at = started_at;
    if (err)
        p->error = *err;
    else
        snprintf(p->handle, sizeof p->handle, "%s", handle);
}

static void on_exited(void *arg, const struct task_exit *how)
{
    struct probe *p = arg;
    p->exited = true;
    p->how = *how;
}

static const struct task_events probe_events = {.started = on_started, .exited = on_exited};

void probe_init(struct world *w, struct probe *p, const char *script)
{
    *p = (struct probe){.world = w, .resources = {.cpus = 0.1, .memory_mb = 64}, .logs = {.max_files = 5, .max_mb = 10}};
    snprintf(p->id, sizeof p->id, "%012x", ++w->next_id);
    snprintf(p->dir, sizeof p->dir, "%s/%s", w->dir, p->id);
    mkdir(p->dir, 0755);
    str_list_add(&p->config.command, "/bin/sh");
    str_list_add(&p->config.args, "-c");
    str_list_add(&p->config.args, script);
    kv_set(&p->env, "GREETING", "hello");
}

void probe_start(struct probe *p)
{
    struct error err;
    struct task_spec spec = {
        .alloc_id = p->id, .service = "web", .alloc_dir = p->dir, .run = 1, .config = &p->config, .env = &p->env,
        .resources = &p->resources, .logs = &p->logs,
    };
    p->task = task_start(p->world->drivers, "exec", &spec, &probe_events, p, &err);
    if (!p->task)
        abort();
}

void probe_adopt(struct probe *p, const char *handle)
{
    struct error err;
    p->started = p->exited = false;
    p->error = (struct error){0};
    p->task = task_adopt(p->world->drivers, "exec", p->id, p->dir, handle, &probe_events, p, &err);
    if (!p->task)
        abort();
}

void probe_detach(struct probe *p)
{
    task_free(p->task);
    p->task = NULL;
}

void probe_end(struct probe *p)
{
    task_remove(p->task);
    task_free(p->task);
    str_list_clear(&p->config.command);
    str_list_clear(&p->config.args);
    kv_clear(&p->env);
    free(p->config.user);
    free(p->config.workdir);
    tree_remove(p->dir);
}

static bool is_started(void *arg) { return ((struct probe *)arg)->started; }
static bool is_exited(void *arg)
{
    struct probe *p = arg;
    return p->exited || (p->started && p->error.code);
}
static bool is_run_exited(void *arg) { return ((struct run *)arg)->exited; }

bool probe_wait_started(struct probe *p)
{
    return world_wait(p->world, is_started, p) && !p->error.code;
}

bool probe_wait_exited(struct probe *p)
{
    return world_wait(p->world, is_exited, p) && p->exited;
}

bool run_wait(struct run *r)
{
    return world_wait(r->world, is_run_exited, r);
}

/* --- commands --- */

static void on_output(void *arg, int stream, const void *bytes, size_t n)
{
    struct run *r = arg;
    buf_add(stream == 1 ? &r->out : &r->err_out, bytes, n);
}

static void on_run_exited(void *arg, const struct error *err, int code)
{
    struct run *r = arg;
    r->exited = true;
    r->code = code;
    if (err)
        r->error = *err;
}

static const struct exec_events run_events = {.output = on_output, .exited = on_run_exited};

void run_start(struct run *r, struct probe *p, bool tty, const char *script)
{
    struct str_list command = {0};
    str_list_add(&command, "/bin/sh");
    str_list_add(&command, "-c");
    str_list_add(&command, script);
    *r = (struct run){.world = p->world};
    r->exec = task_exec(p->task, &(struct exec_spec){.command = &command, .tty = tty, .rows = 30, .cols = 100}, &run_events,
                        r, &r->error);
    str_list_clear(&command);
}

/* --- files and processes --- */

struct text_wait {
    char path[256];
    const char *text;
};

static bool has_text(void *arg)
{
    struct text_wait *t = arg;
    CLEANUP_BUF struct buf b = {0};
    return file_read(t->path, 64 << 20, &b, NULL) == 0 && strstr(b.data, t->text);
}

bool probe_wait_text(struct probe *p, const char *path, const char *text)
{
    struct text_wait t = {.text = text};
    snprintf(t.path, sizeof t.path, "%s/%s", p->dir, path);
    return world_wait(p->world, has_text, &t);
}

void probe_log(struct probe *p, int stream, struct buf *out)
{
    char dir[160], name[LOG_NAME_SIZE];
    struct log_numbers numbers;
    snprintf(dir, sizeof dir, "%s/logs", p->dir);
    buf_clear(out);
    if (log_numbers_find(dir, stream, &numbers) < 0)
        return;
    for (uint64_t i = numbers.first; numbers.n && i <= numbers.last; i++) {
        CLEANUP_BUF struct buf piece = {0};
        log_name_format(name, stream, i, LOG_SUFFIX_DATA);
        CLEANUP_FREE char *path = mem_printf("%s/%s", dir, name);
        if (file_read(path, 64 << 20, &piece, NULL) == 0)
            buf_add(out, piece.data, piece.len);
    }
}

bool process_alive(int pid)
{
    char path[64], text[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    const char *end = n ? strrchr(text, ')') : NULL;
    return end && end[2] != 'Z' && end[2] != 'X';
}

static bool is_dead(void *arg) { return !process_alive(*(int *)arg); }

bool world_wait_dead(struct world *w, int pid)
{
    return world_wait(w, is_dead, &pid);
}

int helper_wait_line(struct probe *p, const char *path)
{
    CLEANUP_FREE char *full = mem_printf("%s/%s", p->dir, path);
    CLEANUP_BUF struct buf b = {0};
    if (!probe_wait_text(p, path, "\n") || file_read(full, 4096, &b, NULL) < 0)
        return -1;
    return atoi(b.data);
}
