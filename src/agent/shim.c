/* The happy path: read the spec, make the control group, start the task, tell the agent; then one poll loop writes
 * logs and serves connections until the task has ended and its tree with it; then the exit record, and out.
 *
 * Thousands of these run on a host, so it touches as little memory as it can: no libuv, no TLS, one buffer.
 * What may fail on the way ends the shim with a record that says why; what may fail afterwards (a full disk, an agent
 * that is gone) must not end the task. */
#include "agent/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/shim_internal.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "sandbox/memory.h"

#define STOP_TIMEOUT_MS 10000        /* when the shim itself is sent SIGTERM */
#define STRAGGLER_SCAN_MS 100
#define OUTPUT_REST_MS 5
#define OUTPUT_PIPE_BYTES (1 << 20)  /* what an unprivileged process may ask for by default */
#define PIPE_LINGER_MS 1000          /* output held open by a process that is not of the task's tree */

bool shim_wanted(int argc, char **argv)
{
    return argc >= 2 && strcmp(argv[1], "shim") == 0;
}

/* --- setting up --- */

static int spec_load(struct shim *s)
{
    struct stat st;
    if (fstat(SHIM_FD_SPEC, &st) < 0 || st.st_size <= 0)
        return -1;
    void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, SHIM_FD_SPEC, 0);
    if (bytes == MAP_FAILED)
        return -1;
    int result = shim_spec_decode(bytes, (size_t)st.st_size, &s->spec);
    munmap(bytes, (size_t)st.st_size);
    close(SHIM_FD_SPEC);
    if (!s->spec.vm.port.ready)
        close(SHIM_FD_NETWORK);
    return result;
}

static int signals_block(void)
{
    sigset_t handled;
    sigemptyset(&handled);
    sigaddset(&handled, SIGCHLD);
    sigaddset(&handled, SIGTERM);
    sigprocmask(SIG_BLOCK, &handled, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    return signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* The record's blocks exist before the task does. */
static int exit_prepare(struct shim *s, struct error *err)
{
    char blank[SHIM_EXIT_SIZE];
    memset(blank, '\n', sizeof blank);
    s->exit_fd = open(SHIM_EXIT_NEW, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (s->exit_fd < 0 || pwrite(s->exit_fd, blank, sizeof blank, 0) != (ssize_t)sizeof blank)
        return error_set_errno(err, errno, "cannot write in the allocation's directory %s", s->spec.alloc_dir);
    return 0;
}

static void exit_write(struct shim *s, const struct error *failed)
{
    char text[SHIM_EXIT_SIZE] = "";
    shim_exit_format(text, &s->how, failed);
    size_t n = strlen(text);
    memset(text + n, '\n', sizeof text - n);
    if (s->exit_fd >= 0 && pwrite(s->exit_fd, text, sizeof text, 0) == (ssize_t)sizeof text && fdatasync(s->exit_fd) == 0)
        rename(SHIM_EXIT_NEW, SHIM_EXIT_FILE);
}

static int task_start_main(struct shim *s, struct error *err)
{
    int ends[LOG_STREAM_COUNT] = {-1, -1}, in[2] = {-1, -1};
    if (s->vm ? pipe2(in, O_CLOEXEC) < 0 : (in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
        return error_set_errno(err, errno, "cannot make the task's input");
    for (int i = 0; i < LOG_STREAM_COUNT; i++) {
        int fds[2];
        if (pipe2(fds, O_CLOEXEC) < 0)
            return error_set_errno(err, errno, "cannot make the task's output pipes");
        s->output[i] = fds[0];
        ends[i] = fds[1];
        fcntl(fds[0], F_SETFL, O_NONBLOCK);
    }
    struct child_spec child = {
        .shim = &s->spec, .account = &s->account, .args = &s->spec.args,
        .fds = {in[0], ends[LOG_STDOUT], ends[LOG_STDERR]}, .main = true,
    };
    s->how.started_at = time_now_ms();
    s->pid = shim_child_start(&child, err);
    close(in[0]);
    for (int i = 0; i < LOG_STREAM_COUNT; i++)
        close(ends[i]);
    if (s->pid < 0)
        return -1;
    return s->vm ? vm_start(s, in[1], err) : 0;
}

static int shim_prepare(struct shim *s, struct error *err)
{
    if (chdir(s->spec.alloc_dir) < 0)
        return error_set_errno(err, errno, "cannot enter %s", s->spec.alloc_dir);
    for (int i = 0; i < LOG_STREAM_COUNT; i++)
        log_writer_init(&s->logs[i], "logs", i, s->spec.log_max_files, s->spec.log_max_mb);
    if (exit_prepare(s, err) < 0 || account_find(s->spec.user, s->spec.node, &s->account, err) < 0)
        return -1;
    /* Only where it can matter (and is cheap): out of the service's own group, which systemd ends as a whole. */
    struct cgroup_root v2 = {0};
    for (unsigned i = 0; i < s->spec.cgroups.n; i++)
        if (s->spec.cgroups.v[i].v2)
            v2.v[v2.n++] = s->spec.cgroups.v[i];
    cgroup_join(&v2, CGROUP_SHIMS, 0, NULL);
    if (cgroup_create(&s->spec.cgroups, s->spec.alloc_id, &s->spec.limits, err) < 0)
        return -1;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (s->spec.vm.api && vm_open(s, err) < 0)
        return -1;
    return task_start_main(s, err);
}

/* --- messages --- */

int shim_message_send(int fd, const struct shim_message *m)
{
    CLEANUP_BUF struct buf b = {0};
    shim_message_encode(m, &b);
    return send(fd, b.data, b.len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)b.len ? 0 : -1;
}

static void running_send(struct shim *s, int fd)
{
    shim_message_send(fd, &(struct shim_message){.kind = SHIM_RUNNING, .run = s->spec.run, .pid = s->pid,
                                            .started_at = s->how.started_at, .shim_pid = (uint64_t)getpid()});
    if (s->vm)
        vm_greet(s, fd);
}

void shim_running(struct shim *s)
{
    s->running = true;
    s->start_by = 0;
    for (unsigned i = 0; i < s->n_connections; i++)
        running_send(s, s->connections[i].fd);
}

void shim_kill(struct shim *s)
{
    s->kill_at = 0;
    s->kill_sent = true;
    if (!s->ended)
        kill(s->pid, SIGKILL);
    cgroup_kill(&s->spec.cgroups, s->spec.alloc_id);
}

static void signal_send(struct shim *s, int signal)
{
    if (s->vm)
        vm_signal(s, signal);
    else
        kill(s->pid, signal);
}

static void task_end(struct shim *s, int signal, int64_t timeout_ms)
{
    if (s->ended)
        return;
    if (s->vm)
        vm_pause(s, false, NULL);    /* so that it can end; one that does not go on is killed in time */
    if (timeout_ms <= 0 || !s->running) {
        if (!s->vm || !s->running || !vm_kill_guest(s))
            shim_kill(s);
        return;
    }
    int64_t at = time_monotonic_ms() + timeout_ms;
    if (!s->stop_signal || signal != s->stop_signal)
        signal_send(s, signal ? signal : SIGTERM);
    s->stop_signal = signal ? signal : SIGTERM;
    if (!s->kill_at || at < s->kill_at) {
        s->kill_at = at;
        s->stop_timeout_ms = timeout_ms;
    }
}

/* Nobody has renewed it: the agent is dead, or hears of no server. Somebody else may get the task's volumes soon. */
static void lease_end(struct shim *s)
{
    s->lease_until = 0;
    s->lease_over = true;
    task_end(s, SIGTERM, LEASE_STOP_MS);
}

static void pause_answer(struct shim *s, const struct connection *c, bool paused)
{
    struct shim_message reply = {.kind = SHIM_PAUSED, .code = paused};
    if (!s->vm)
        error_set(&reply.error, ERROR_UNSUPPORTED, "only virtual machines can be paused");
    else if (s->ended || !s->running)
        error_set(&reply.error, ERROR_CONFLICT, "the task does not run");
    else
        vm_pause(s, paused, &reply.error);
    shim_message_send(c->fd, &reply);
}

static void balloon_answer(struct shim *s, const struct connection *c, int mb)
{
    struct shim_message reply = {.kind = SHIM_BALLOON_SET, .code = mb};
    vm_balloon(s, mb, &reply.error);
    shim_message_send(c->fd, &reply);
}

static void exec_start(struct shim *s, struct connection *c, const struct shim_message *m, const int *fds, int n_fds)
{
    struct shim_message reply = {.kind = SHIM_EXEC_FAILED};
    if (n_fds != (m->tty ? 1 : 3) || c->pid || s->ended) {
        error_set(&reply.error, ERROR_CONFLICT, s->ended ? "the task has ended" : "the request is not complete");
        shim_message_send(c->fd, &reply);
        return;
    }
    if (s->vm) {
        if (!vm_exec(s, c, m, fds, &reply.error))
            shim_message_send(c->fd, &reply);
        return;
    }
    struct child_spec child = {
        .shim = &s->spec, .account = &s->account, .args = &m->args, .tty = m->tty,
        .fds = {fds[0], fds[m->tty ? 0 : 1], fds[m->tty ? 0 : 2]},
    };
    pid_t pid = shim_child_start(&child, &reply.error);
    if (pid < 0)
        shim_message_send(c->fd, &reply);
    else
        c->pid = pid;
}

static void message_handle(struct shim *s, struct connection *c, size_t n, const int *fds, int n_fds)
{
    struct shim_message m;
    if (shim_message_decode(s->buffer, n, &m) < 0)
        return;
    if (m.kind == SHIM_SIGNAL && !s->ended)
        signal_send(s, m.signal);
    else if (m.kind == SHIM_STOP)
        task_end(s, m.signal, m.timeout_ms);
    else if (m.kind == SHIM_LEASE && !s->lease_over)
        s->lease_until = m.lease_until;
    else if (m.kind == SHIM_PAUSE)
        pause_answer(s, c, m.code != 0);
    else if (m.kind == SHIM_BALLOON && s->vm && s->running && !s->ended)
        balloon_answer(s, c, m.code);
    else if (m.kind == SHIM_SNAPSHOT && s->vm)
        snapshot_begin(s, &m);
    else if (m.kind == SHIM_EXEC)
        exec_start(s, c, &m, fds, n_fds);
    else if (m.kind == SHIM_SECRETS && s->vm)
        vm_secrets_changed(s, &m);
    else if (m.kind == SHIM_RESIZE && s->vm)
        vm_resize(s, c, &m);
    shim_message_clear(&m);
}

/* Returns false when the other end is gone. */
static bool connection_read(struct shim *s, struct connection *c)
{
    union { struct cmsghdr align; char bytes[CMSG_SPACE(3 * sizeof(int))]; } control;
    struct iovec iov = {.iov_base = s->buffer, .iov_len = sizeof s->buffer};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    int fds[3], n_fds = 0;
    struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
    if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
        n_fds = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(h), (size_t)n_fds * sizeof(int));
    }
    if (n > 0)
        message_handle(s, c, (size_t)n, fds, n_fds);
    for (int i = 0; i < n_fds; i++)
        close(fds[i]);
    return n > 0;
}

static void connection_close(struct shim *s, unsigned i)
{
    if (s->vm)
        vm_exec_end(s, &s->connections[i]);
    else if (s->connections[i].pid)
        kill(-s->connections[i].pid, SIGKILL);
    close(s->connections[i].fd);
    s->connections[i] = s->connections[--s->n_connections];
}

static void connection_accept(struct shim *s)
{
    int fd = accept4(SHIM_FD_LISTEN, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (s->n_connections == CONNECTIONS_MAX) {
        close(fd);
        return;
    }
    s->connections[s->n_connections++] = (struct connection){.fd = fd};
    if (s->running)
        running_send(s, fd);
}

struct connection *shim_connection_of(struct shim *s, pid_t command)
{
    for (unsigned i = 0; i < s->n_connections; i++)
        if (s->connections[i].pid == command)
            return &s->connections[i];
    return NULL;
}

/* --- the end of processes --- */

void shim_describe(struct shim *s, bool oom, int64_t memory_mb)
{
    struct task_exit *h = &s->how;
    char timeout[TIME_TEXT_SIZE];
    h->oom = oom;
    if (h->oom)
        snprintf(h->reason, sizeof h->reason, "out of memory: it was killed at its limit of %lld MB", (long long)memory_mb);
    else if (s->lease_over)
        snprintf(h->reason, sizeof h->reason, LEASE_OVER_REASON);
    else if (s->kill_sent && s->stop_signal && h->signal == SIGKILL) {
        duration_format(timeout, s->stop_timeout_ms);
        snprintf(h->reason, sizeof h->reason, "killed: it did not end within %s of %s", timeout, signal_name(s->stop_signal));
    } else if (h->signal)
        snprintf(h->reason, sizeof h->reason, "killed by %s", signal_name(h->signal));
    else
        snprintf(h->reason, sizeof h->reason, "exit code %d", h->code);
}

static void how_describe(struct shim *s, int status)
{
    struct task_exit *h = &s->how;
    struct cgroup_usage usage;
    h->finished_at = time_now_ms();
    h->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    h->code = h->signal ? 128 + h->signal : WEXITSTATUS(status);
    /* A shell whose child was killed for memory ends with 137 itself. */
    bool oom = !s->kill_sent && h->code == 128 + SIGKILL
        && cgroup_usage(&s->spec.cgroups, s->spec.alloc_id, &usage, NULL) == 0 && usage.oom_kills > 0;
    shim_describe(s, oom, s->spec.limits.memory_mb);
}

static void child_ended(struct shim *s, pid_t pid, int status)
{
    if (pid == s->pid) {
        if (s->vm)
            vm_describe(s, status);
        else
            how_describe(s, status);
        s->ended = true;
        s->kill_at = 0;
        return;
    }
    struct connection *c = s->vm ? NULL : shim_connection_of(s, pid);
    if (c) {
        c->pid = 0;
        shim_message_send(c->fd, &(struct shim_message){
            .kind = SHIM_EXEC_EXITED, .code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status)});
    }
}

/* The parent in /proc/PID/stat; its second field may hold spaces and brackets. */
static pid_t parent_of(const char *pid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return -1;
    text[n] = 0;
    const char *end = strrchr(text, ')');
    int parent;
    return end && sscanf(end + 1, " %*c %d", &parent) == 1 ? parent : -1;
}

/* What left the control group, or never had one: whoever loses its parent becomes the shim's child, so killing the
 * children until there are none ends the tree. */
static void stragglers_kill(void)
{
    DIR *proc = opendir("/proc");
    if (!proc)
        return;
    pid_t self = getpid();
    for (struct dirent *e; (e = readdir(proc));)
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && parent_of(e->d_name) == self)
            kill((pid_t)strtol(e->d_name, NULL, 10), SIGKILL);
    closedir(proc);
}

static void children_reap(struct shim *s)
{
    bool was_ended = s->ended;
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid > 0) {
            child_ended(s, pid, status);
            continue;
        }
        s->childless = pid < 0 && errno == ECHILD;
        break;
    }
    if (!s->ended)
        return;
    if (s->childless) {
        if (!s->childless_at)
            s->childless_at = time_monotonic_ms();
    } else if (!was_ended) {
        cgroup_kill(&s->spec.cgroups, s->spec.alloc_id);
    }
}

/* --- the loop --- */

/* Who writes line after line is left alone for a moment after each look, so that many lines cost one waking, one read and
 * one write: the task's own time on a busy node. The pipe has to hold what comes meanwhile; where it may not, there is no
 * rest. Lines that come one by one are taken at once. */
static void output_pace(struct shim *s, int i)
{
    struct output_pace *p = &s->paces[i];
    int64_t now = time_monotonic_ms();
    bool dense = p->read_at && now - p->read_at <= 2 * OUTPUT_REST_MS;
    p->read_at = now;
    if (dense && !p->roomy)
        p->roomy = fcntl(s->output[i], F_SETPIPE_SZ, OUTPUT_PIPE_BYTES) >= OUTPUT_PIPE_BYTES;
    p->rests_until = dense && p->roomy ? now + OUTPUT_REST_MS : 0;
}

static void output_read(struct shim *s, int i)
{
    const size_t most = sizeof s->buffer / 2;
    ssize_t n = read(s->output[i], s->buffer, most);
    if (n > 0 && n < (ssize_t)most && !s->vm)
        output_pace(s, i);
    if (n > 0 && s->vm) {
        vm_output(s, i, s->buffer, (size_t)n);
    } else if (n > 0) {
        log_writer_add(&s->logs[i], s->buffer, (size_t)n, time_now_ms());
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close(s->output[i]);
        s->output[i] = -1;
    }
}

static bool finished(const struct shim *s)
{
    if (!s->ended || !s->childless)
        return false;
    return (s->output[LOG_STDOUT] < 0 && s->output[LOG_STDERR] < 0)
        || time_monotonic_ms() - s->childless_at >= PIPE_LINGER_MS;
}

static int wait_ms(const struct shim *s)
{
    const int64_t dues[] = {s->ended ? 0 : s->kill_at, s->ended ? 0 : s->lease_until, s->ended ? 0 : s->start_by, s->paces[LOG_STDOUT].rests_until,
                            s->paces[LOG_STDERR].rests_until, s->vm && !s->ended ? vm_due(s) : 0};
    int64_t now = time_monotonic_ms(), wait = s->ended ? STRAGGLER_SCAN_MS : INT64_MAX;
    for (size_t i = 0; i < ARRAY_LEN(dues); i++)
        if (dues[i] && dues[i] - now < wait)
            wait = dues[i] > now ? dues[i] - now : 0;
    return wait == INT64_MAX ? -1 : wait > 60000 ? 60000 : (int)wait;
}

/* What poll is to look at: nothing while it rests. */
static int output_due(struct shim *s, int i)
{
    struct output_pace *p = &s->paces[i];
    if (p->rests_until && p->rests_until <= time_monotonic_ms())
        p->rests_until = 0;
    return p->rests_until ? -1 : s->output[i];
}

static void signals_read(struct shim *s)
{
    struct signalfd_siginfo info;
    while (read(s->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        if (info.ssi_signo == SIGTERM)
            task_end(s, SIGTERM, STOP_TIMEOUT_MS);
    children_reap(s);
}

static void loop_turn(struct shim *s)
{
    struct pollfd p[2 + LOG_STREAM_COUNT + CONNECTIONS_MAX + VM_FDS_MAX];
    unsigned n = 0, n_connections = s->n_connections;
    p[n++] = (struct pollfd){.fd = s->signal_fd, .events = POLLIN};
    p[n++] = (struct pollfd){.fd = SHIM_FD_LISTEN, .events = POLLIN};
    for (int i = 0; i < LOG_STREAM_COUNT; i++)
        p[n++] = (struct pollfd){.fd = output_due(s, i), .events = POLLIN};
    for (unsigned i = 0; i < n_connections; i++)
        p[n++] = (struct pollfd){.fd = s->connections[i].fd, .events = POLLIN};
    unsigned vm_at = n;
    n += s->vm ? vm_poll(s, p + n) : 0;
    int ready = poll(p, n, wait_ms(s));
    if (s->kill_at && time_monotonic_ms() >= s->kill_at && (!s->vm || !vm_kill_guest(s)))
        shim_kill(s);
    if (s->lease_until && !s->ended && time_monotonic_ms() >= s->lease_until)
        lease_end(s);
    if (s->start_by && time_monotonic_ms() >= s->start_by)
        vm_late(s);
    if (s->vm)
        snapshot_tick(s);
    if (ready <= 0) {
        if (s->ended && !s->childless)
            stragglers_kill();
        return;
    }
    for (int i = 0; i < LOG_STREAM_COUNT; i++)
        if (p[2 + i].revents)
            output_read(s, i);
    if (s->vm)
        vm_polled(s, p + vm_at, n - vm_at);
    if (p[0].revents)
        signals_read(s);
    /* From the last: a closed one is replaced by the last. */
    for (unsigned i = n_connections; i-- > 0;)
        if (p[2 + LOG_STREAM_COUNT + i].revents && !connection_read(s, &s->connections[i]))
            connection_close(s, i);
    if (p[1].revents)
        connection_accept(s);
}

int shim_main(void)
{
    static struct shim shim;         /* zero pages: untouched ones take no memory */
    struct shim *s = &shim;
    struct error err = {0};
    s->exit_fd = -1;
    s->connections[s->n_connections++] = (struct connection){.fd = SHIM_FD_CONTROL};
    prctl(PR_SET_NAME, "mentat-shim");
    memory_hide();                   /* the task's environment may hold secrets */
    /* What the agent itself was given and did not mark as its own. */
    close_range(SHIM_FD_NETWORK + 1, ~0U, 0);
    fcntl(SHIM_FD_CONTROL, F_SETFD, FD_CLOEXEC);
    fcntl(SHIM_FD_LISTEN, F_SETFD, FD_CLOEXEC);
    s->signal_fd = signals_block();
    if (spec_load(s) < 0) {
        fprintf(stderr, "mentat-agent shim is started by mentat-agent, never by hand\n");
        return 2;
    }
    s->how.run = s->spec.run;
    s->lease_until = s->spec.lease_until;
    if (shim_prepare(s, &err) < 0) {
        cgroup_remove(&s->spec.cgroups, s->spec.alloc_id, STOP_TIMEOUT_MS, NULL);
        s->how.finished_at = time_now_ms();
        exit_write(s, &err);
        shim_message_send(SHIM_FD_CONTROL, &(struct shim_message){.kind = SHIM_FAILED, .error = err});
        return 1;
    }
    if (!s->vm)
        shim_running(s);
    while (!finished(s))
        loop_turn(s);
    for (int i = 0; i < LOG_STREAM_COUNT; i++)
        log_writer_close(&s->logs[i]);
    if (s->vm)
        vm_close(s);
    cgroup_remove(&s->spec.cgroups, s->spec.alloc_id, STOP_TIMEOUT_MS, NULL);
    exit_write(s, &s->failed);
    if (s->failed.code)
        shim_message_send(SHIM_FD_CONTROL, &(struct shim_message){.kind = SHIM_FAILED, .error = s->failed});
    return 0;
}
