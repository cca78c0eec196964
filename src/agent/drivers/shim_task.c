/* The agent's side of a task that has a shim.
 *
 * The happy path: make the shim's socket, write the spec into a memory file, spawn the shim, and wait for its word.
 * The one connection to it tells everything: that the task runs, that it could not, and, by its end, that the shim has
 * gone and the exit record is complete. When the record is missing then, the shim was killed, and what is left of the
 * task is ended by its control group. */
#include "agent/drivers/shim_task.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/process.h"

#define REAP_AGAIN_MS 5
#define CLEANUP_WAIT_MS 200
#define FD_FIRST_FREE 10             /* above the shim's own numbers, so that none is overwritten on the way */
#define BOOT_ID_SIZE 40

static const struct cgroup_root no_cgroups;

const struct cgroup_root *shim_tasks_cgroups(const struct shim_tasks *s)
{
    return s->env->cgroups ? s->env->cgroups : &no_cgroups;
}

uv_loop_t *shim_task_loop(const struct shim_task *t)
{
    return t->state->env->loop;
}

/* --- what a driver's tasks share --- */

static void handle_free(uv_handle_t *h)
{
    free(h);
}

void shim_tasks_open(struct shim_tasks *s, const struct driver_env *env)
{
    *s = (struct shim_tasks){.env = env, .null_fd = -1, .reap_timer = NEW(uv_timer_t)};
    uv_timer_init(env->loop, s->reap_timer);
    s->reap_timer->data = s;
    uv_unref((uv_handle_t *)s->reap_timer);
    CLEANUP_BUF struct buf boot = {0};
    if (file_read("/proc/sys/kernel/random/boot_id", 4096, &boot, NULL) == 0)
        snprintf(s->boot_id, sizeof s->boot_id, "%.*s", (int)strcspn(boot.data, "\n"), boot.data);
}

void shim_tasks_close(struct shim_tasks *s)
{
    for (size_t i = 0; i < s->n_dying; i++)
        waitpid(s->dying[i], NULL, 0);
    uv_close((uv_handle_t *)s->reap_timer, handle_free);
    if (s->null_fd >= 0)
        close(s->null_fd);
    free(s->dying);
}

const char *shim_tasks_lack(struct shim_tasks *s)
{
    if (s->null_fd < 0)
        s->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (s->null_fd < 0)
        return "/dev/null cannot be opened";
    return access("/proc/self/exe", X_OK) ? "/proc is not mounted" : NULL;
}

/* --- reaping: a shim's last connection closes a moment before the process can be waited for --- */

static void dying_reap(uv_timer_t *timer)
{
    struct shim_tasks *s = timer->data;
    for (size_t i = 0; i < s->n_dying;) {
        if (waitpid(s->dying[i], NULL, WNOHANG) != 0)
            s->dying[i] = s->dying[--s->n_dying];
        else
            i++;
    }
    if (s->n_dying)
        uv_timer_start(timer, dying_reap, REAP_AGAIN_MS, 0);
}

static void shim_reap(struct shim_tasks *s, pid_t pid)
{
    if (waitpid(pid, NULL, WNOHANG) != 0)
        return;
    if (s->n_dying == s->cap_dying) {
        s->cap_dying = s->cap_dying ? s->cap_dying * 2 : 16;
        s->dying = mem_realloc_array(s->dying, s->cap_dying, sizeof *s->dying);
    }
    s->dying[s->n_dying++] = pid;
    uv_timer_start(s->reap_timer, dying_reap, REAP_AGAIN_MS, 0);
}

/* --- handles: "exec1 shim=PID start=TICKS boot=ID run=N" --- */

/* The start time of a process, in clock ticks since boot; 0: it is not there, or dead and not yet reaped. */
static unsigned long long start_ticks(pid_t pid)
{
    CLEANUP_FREE char *path = mem_printf("/proc/%d/stat", (int)pid);
    CLEANUP_BUF struct buf stat = {0};
    if (file_read(path, 4096, &stat, NULL) < 0)
        return 0;
    const char *end = strrchr(stat.data, ')');
    unsigned long long ticks = 0;
    char run_state;
    if (!end || sscanf(end + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                       &run_state, &ticks) != 2 || run_state == 'Z' || run_state == 'X')
        return 0;
    return ticks;
}

struct handle {
    int shim;
    unsigned long long start, run;
    char boot[BOOT_ID_SIZE];
};

static bool handle_parse(const char *text, struct handle *h)
{
    *h = (struct handle){0};
    return text && sscanf(text, "exec1 shim=%d start=%llu boot=%39s run=%llu", &h->shim, &h->start, h->boot, &h->run) == 4;
}

/* --- telling: always from the loop --- */

static void handle_closed(uv_handle_t *h)
{
    struct shim_task *t = h->data;
    if (--t->open_handles)
        return;
    free(t->alloc_id);
    free(t->alloc_dir);
    if (t->freed)
        t->freed(t);
    free(t);
}

static void started_tell(struct shim_task *t, const struct error *err, int pid, int64_t started_at)
{
    if (t->told_started || !t->head.events)
        return;
    t->told_started = true;
    CLEANUP_FREE char *handle = err ? NULL
        : mem_printf("exec1 shim=%d start=%llu boot=%s run=%llu", (int)t->shim, t->shim ? start_ticks(t->shim) : 0,
                     t->state->boot_id, (unsigned long long)t->run);
    t->head.events->started(t->head.arg, err, handle, pid, started_at);
}

/* Everything that is known of a task that is over. An event may free the task: t->head.events is asked each time. */
static void gone_tell(uv_timer_t *timer)
{
    struct shim_task *t = timer->data;
    if (t->failed.code) {
        if (t->not_started && !t->told_started)
            t->not_started(t, &t->failed);
        started_tell(t, &t->failed, 0, 0);
        return;
    }
    started_tell(t, NULL, 0, t->how.started_at);
    if (t->head.events)
        t->head.events->exited(t->head.arg, &t->how);
}

static void gone_later(struct shim_task *t)
{
    t->gone = true;
    uv_timer_start(&t->later, gone_tell, 0, 0);
}

static void control_close(struct shim_task *t)
{
    if (t->control < 0)
        return;
    uv_poll_stop(&t->poll);
    uv_close((uv_handle_t *)&t->poll, handle_closed);
    close(t->control);
    t->control = -1;
}

static void leftovers_end(struct shim_task *t)
{
    cgroup_kill(shim_tasks_cgroups(t->state), t->alloc_id);
    cgroup_remove(shim_tasks_cgroups(t->state), t->alloc_id, CLEANUP_WAIT_MS, NULL);
}

/* The shim is gone: its record tells how the task ended; without one it was lost. */
static void shim_gone(struct shim_task *t, const char *why_lost)
{
    struct error err = {0};
    control_close(t);
    if (t->shim > 0)
        shim_reap(t->state, t->shim);
    if (t->gone)
        return;
    struct error failed = {0};
    uint64_t run = t->run;
    if (shim_exit_read(t->alloc_dir, &t->how, &failed, &err) == 0 && (!run || t->how.run == run)) {
        t->failed = failed;
        gone_later(t);
        return;
    }
    leftovers_end(t);
    if (t->fresh && !t->told_started && !t->failed.code)
        error_set(&t->failed, ERROR_SYSTEM, "%s", why_lost);
    t->how = (struct task_exit){.run = run, .started_at = t->how.started_at};
    snprintf(t->how.reason, sizeof t->how.reason, "%s", why_lost);
    gone_later(t);
}

static void message_handle(struct shim_task *t, const struct shim_message *m)
{
    if (m->kind == SHIM_RUNNING) {
        t->run = m->run;
        t->shim = (pid_t)m->shim_pid;
        t->how.started_at = m->started_at;
        started_tell(t, NULL, m->pid, m->started_at);
    } else if (m->kind == SHIM_PAUSED && t->head.events->paused) {
        t->head.events->paused(t->head.arg, m->code, m->error.code ? &m->error : NULL);
    } else if (m->kind == SHIM_BALLOON_SET && m->error.code) {
        LOG_W("a microVM's balloon stays as it was", "alloc", t->alloc_id, "mb", LOG_I64(m->code), "error", m->error.text);
    } else if (m->kind == SHIM_SNAPSHOT_MADE && t->snapshot_made) {
        t->snapshot_made(t, m->code, m->error.code ? &m->error : NULL);
    } else if (m->kind == SHIM_FAILED && !t->told_started) {
        /* Told when the shim is gone: until then the allocation is taken, and a new start would be refused. */
        t->failed = m->error;
    } else if (m->kind == SHIM_METRICS) {
        t->metrics = m->metrics;
    }
}

static void control_readable(uv_poll_t *poll, int status, int events)
{
    struct shim_task *t = poll->data;
    char bytes[4096];
    while (t->control >= 0 && t->head.events) {
        ssize_t n = recv(t->control, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            shim_gone(t, "lost: its shim was killed");
            return;
        }
        struct shim_message m;
        if (shim_message_decode(bytes, (size_t)n, &m) == 0) {
            message_handle(t, &m);
            shim_message_clear(&m);
        }
    }
}

static void control_watch(struct shim_task *t, int fd)
{
    t->control = fd;
    uv_poll_init(t->state->env->loop, &t->poll, fd);
    t->poll.data = t;
    t->open_handles++;
    uv_poll_start(&t->poll, UV_READABLE, control_readable);
}

void shim_task_init(struct shim_tasks *s, struct shim_task *t, const char *alloc_id, const char *alloc_dir)
{
    t->state = s;
    t->control = -1;
    t->alloc_id = mem_strdup(alloc_id);
    t->alloc_dir = mem_strdup(alloc_dir);
    uv_timer_init(s->env->loop, &t->later);
    t->later.data = t;
    t->open_handles = 1;
}

/* --- the shim's socket --- */

/* Through the folder's descriptor: the path may be longer than a socket's address has room for. */
static int socket_address(const char *alloc_dir, struct sockaddr_un *address, int *dir_fd, struct error *err)
{
    *dir_fd = open(alloc_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*dir_fd < 0)
        return error_set_errno(err, errno, "cannot open the allocation's directory %s", alloc_dir);
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/" SHIM_SOCKET, *dir_fd);
    return 0;
}

int shim_task_connect(const char *alloc_dir, struct error *err)
{
    struct sockaddr_un address;
    int dir_fd;
    if (socket_address(alloc_dir, &address, &dir_fd, err) < 0)
        return -1;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int failed = fd < 0 ? errno : 0;
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        failed = errno;
        close(fd);
        fd = -1;
    }
    close(dir_fd);
    if (failed == ECONNREFUSED || failed == ENOENT)
        return error_set(err, ERROR_NOT_FOUND, "no shim answers in %s", alloc_dir);
    if (failed)
        return error_set_errno(err, failed, "cannot reach the shim in %s", alloc_dir);
    return fd;
}

static int shim_listen(const char *alloc_dir, struct error *err)
{
    struct sockaddr_un address;
    int dir_fd;
    if (socket_address(alloc_dir, &address, &dir_fd, err) < 0)
        return -1;
    unlinkat(dir_fd, SHIM_EXIT_FILE, 0);
    unlinkat(dir_fd, SHIM_EXIT_NEW, 0);
    unlinkat(dir_fd, SHIM_SOCKET, 0);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* Before bind, so that there is no moment at which others could connect. */
    if (fd >= 0)
        fchmod(fd, 0600);
    int result = fd;
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 64) < 0) {
        result = error_set_errno(err, errno, "cannot make the shim's socket in %s", alloc_dir);
        if (fd >= 0)
            close(fd);
    }
    close(dir_fd);
    return result;
}

/* --- start --- */

static int spec_file(const struct shim_spec *spec, struct error *err)
{
    CLEANUP_WIPE struct buf bytes = {0};     /* secrets may be in the environment */
    shim_spec_encode(spec, &bytes);
    int fd = memfd_create("mentat-spec", MFD_CLOEXEC);
    if (fd >= 0 && write(fd, bytes.data, bytes.len) == (ssize_t)bytes.len)
        return fd;
    error_set_errno(err, errno, "cannot hand the task's description to its shim");
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Moves a descriptor out of the way of the shim's fixed numbers. */
static int fd_raise(int fd)
{
    if (fd >= FD_FIRST_FREE || fd < 0)
        return fd;
    int raised = fcntl(fd, F_DUPFD_CLOEXEC, FD_FIRST_FREE);
    close(fd);
    return raised;
}

static int shim_spawn(const struct shim_tasks *s, const char *title, int control, int listen_fd, int spec_fd, int network,
                      pid_t *pid, struct error *err)
{
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    for (int i = 0; i < 3; i++)
        posix_spawn_file_actions_adddup2(&files, s->null_fd, i);
    posix_spawn_file_actions_adddup2(&files, control, SHIM_FD_CONTROL);
    posix_spawn_file_actions_adddup2(&files, listen_fd, SHIM_FD_LISTEN);
    posix_spawn_file_actions_adddup2(&files, spec_fd, SHIM_FD_SPEC);
    posix_spawn_file_actions_adddup2(&files, network, SHIM_FD_NETWORK);
    char *argv[] = {(char *)"mentat-agent", (char *)"shim", (char *)title, NULL};
    char *env[] = {NULL};
    int failed = spawn_clean(pid, "/proc/self/exe", &files, POSIX_SPAWN_SETSID, argv, env);
    posix_spawn_file_actions_destroy(&files);
    return failed ? error_set_errno(err, failed, "cannot start a shim") : 0;
}

int shim_task_start(struct shim_task *t, const struct shim_spec *spec, const char *service, struct error *err)
{
    struct shim_tasks *s = t->state;
    struct shim_spec leased = *spec;         /* borrowed */
    leased.lease_until = t->lease_until;
    t->run = spec->run;
    t->fresh = true;
    const char *lacks = shim_tasks_lack(s);
    if (lacks)
        return error_set(err, ERROR_UNSUPPORTED, "tasks cannot run on this node: %s", lacks);
    CLEANUP_FREE char *title = mem_printf("%s/%s", service, spec->alloc_id);
    struct error none = {0};
    int other = shim_task_connect(spec->alloc_dir, &none);
    if (other >= 0) {
        close(other);
        return error_set(err, ERROR_CONFLICT, "a task of allocation %s is already running here", spec->alloc_id);
    }
    int pair[2] = {-1, -1};
    int spec_fd = fd_raise(spec_file(&leased, err));
    int listen_fd = spec_fd < 0 ? -1 : fd_raise(shim_listen(spec->alloc_dir, err));
    int network = fcntl(spec->vm.port.ready ? spec->vm.port.ready : s->null_fd, F_DUPFD_CLOEXEC, FD_FIRST_FREE);
    int result = -1;
    if (spec_fd >= 0 && listen_fd >= 0) {
        if (network < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
            error_set_errno(err, errno, "cannot start a shim");
        else
            result = shim_spawn(s, title, pair[1] = fd_raise(pair[1]), listen_fd, spec_fd, network, &t->shim, err);
    }
    if (result == 0)
        control_watch(t, pair[0]);
    else if (pair[0] >= 0)
        close(pair[0]);
    if (pair[1] >= 0)
        close(pair[1]);
    if (spec_fd >= 0)
        close(spec_fd);
    if (listen_fd >= 0)
        close(listen_fd);
    if (network >= 0)
        close(network);
    return result;
}

void shim_task_fail(struct shim_task *t, const struct error *err)
{
    t->failed = *err;
    gone_later(t);
}

/* --- adopt --- */

static bool started_before(const char *alloc_dir, const char *handle)
{
    CLEANUP_FREE char *path = mem_printf("%s/" SHIM_EXIT_NEW, alloc_dir);
    return (handle && *handle) || access(path, F_OK) == 0;
}

void shim_task_adopt(struct shim_task *t, const char *handle)
{
    struct shim_tasks *s = t->state;
    const char *alloc_dir = t->alloc_dir;
    struct handle h;
    bool parsed = handle_parse(handle, &h);
    int fd = shim_task_connect(alloc_dir, &t->failed);
    t->failed = (struct error){0};
    if (fd >= 0) {
        control_watch(t, fd);
        return;
    }
    struct error failed;
    if (shim_exit_read(alloc_dir, &t->how, &failed, NULL) == 0) {
        t->run = t->how.run;
        t->failed = failed;
        gone_later(t);
        return;
    }
    if (!started_before(alloc_dir, handle)) {
        error_set(&t->failed, ERROR_NOT_FOUND, "there is no trace of a task in %s", alloc_dir);
        gone_later(t);
        return;
    }
    t->run = h.run;
    if (parsed && strcmp(h.boot, s->boot_id) != 0) {
        shim_gone(t, "lost: the host was restarted");
        return;
    }
    if (parsed && h.shim > 0 && h.start && start_ticks(h.shim) == h.start) {
        kill(h.shim, SIGKILL);
        shim_gone(t, "lost: its shim did not answer and was ended, the task with it");
        return;
    }
    shim_gone(t, "lost: its shim was killed");
}

/* --- a running task --- */

static int shim_send(struct shim_task *t, const struct shim_message *m, struct error *err)
{
    CLEANUP_BUF struct buf b = {0};
    if (t->control < 0 || t->gone)
        return error_set(err, ERROR_CONFLICT, "the task has ended");
    shim_message_encode(m, &b);
    if (send(t->control, b.data, b.len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)b.len)
        return error_set_errno(err, errno, "cannot reach the task's shim");
    return 0;
}

void shim_task_stop(struct task *task, int signal, int64_t timeout_ms)
{
    struct shim_task *t = (struct shim_task *)task;
    struct error err = {0};
    struct shim_message m = {.kind = SHIM_STOP, .signal = signal, .timeout_ms = timeout_ms};
    if (shim_send(t, &m, &err) < 0 && err.code != ERROR_CONFLICT && t->shim > 0 && timeout_ms == 0)
        kill(t->shim, SIGKILL);
}

int shim_task_signal(struct task *task, int signal, struct error *err)
{
    struct shim_task *t = (struct shim_task *)task;
    return shim_send(t, &(struct shim_message){.kind = SHIM_SIGNAL, .signal = signal}, err);
}

int shim_task_secrets_changed(struct task *task, const struct str_list *files, int signal, struct error *err)
{
    struct shim_task *t = (struct shim_task *)task;
    return shim_send(t, &(struct shim_message){.kind = SHIM_SECRETS, .signal = signal, .args = *files}, err);
}

void shim_task_lease(struct task *task, int64_t until_ms)
{
    struct shim_task *t = (struct shim_task *)task;
    struct error err = {0};
    t->lease_until = until_ms;
    /* What cannot be told ends the task early, never late. */
    shim_send(t, &(struct shim_message){.kind = SHIM_LEASE, .lease_until = until_ms}, &err);
}

int shim_task_snapshot(struct shim_task *t, const char *state, const char *memory, struct error *err)
{
    struct shim_message m = {.kind = SHIM_SNAPSHOT};
    str_list_add(&m.args, state);
    str_list_add(&m.args, memory);
    int result = shim_send(t, &m, err);
    str_list_clear(&m.args);
    return result;
}

void shim_task_balloon(struct shim_task *t, int64_t mb)
{
    struct error err = {0};
    if (shim_send(t, &(struct shim_message){.kind = SHIM_BALLOON, .code = (int)mb}, &err) < 0)
        LOG_W("a microVM's balloon stays as it was", "alloc", t->alloc_id, "error", err.text);
}

int shim_task_pause(struct task *task, bool paused, struct error *err)
{
    struct shim_task *t = (struct shim_task *)task;
    return shim_send(t, &(struct shim_message){.kind = SHIM_PAUSE, .code = paused}, err);
}

int shim_task_stats(struct task *task, struct task_stats *out, struct error *err)
{
    struct shim_task *t = (struct shim_task *)task;
    struct cgroup_usage usage;
    if (cgroup_usage(shim_tasks_cgroups(t->state), t->alloc_id, &usage, err) < 0)
        return -1;
    *out = (struct task_stats){
        .cpu_seconds = usage.cpu_seconds, .memory_bytes = usage.memory_bytes, .memory_peak_bytes = usage.memory_peak_bytes,
        .memory_limit_bytes = usage.memory_limit_bytes, .pids = usage.pids,
        .vm = t->metrics.lines ? &t->metrics : NULL,
    };
    return 0;
}

void shim_task_remove(struct task *task)
{
    struct shim_task *t = (struct shim_task *)task;
    if (t->control < 0)
        leftovers_end(t);
}

void shim_task_free(struct task *task)
{
    struct shim_task *t = (struct shim_task *)task;
    if (t->control >= 0 && t->gone)
        shim_reap(t->state, t->shim);
    control_close(t);
    uv_close((uv_handle_t *)&t->later, handle_closed);
}
