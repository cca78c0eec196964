/* The happy path: mount what the kernel offers, read the config drive, open the line to the host, build the root file
 * system, set addresses, start the service; then one loop passes its output on and serves commands, until it has ended.
 * Then: kill what is left, unmount, tell the exit status, wait for the host's word, switch off.
 *
 * What fails before the line is open goes to the console; the host finds it in what it kept of that. */
#include "guest/init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BYE_MS 5000                  /* how long the host may take to take the exit status */
#define CONSOLE_EMERGENCIES 1
#define KLOG_LEVEL 8

static struct {
    struct drive drive;
    struct process_user user;
    int signal_fd;
    int out[2];                      /* the service's stdout and stderr; -1: closed */
    pid_t pid;
    bool ended, bye, held;
    uint32_t code, signal, oom;
    unsigned long oom_kills;         /* before the service began */
    int64_t began_us;
    char no_secrets[WHY_SIZE];       /* why the service cannot start without them */
} init;

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t now_ms(void)
{
    return now_us() / 1000;
}

/* A guest's restart is how Firecracker is ended; after switching off, it would go on. */
static _Noreturn void restart(void)
{
    for (;;) {
        reboot(RB_AUTOBOOT);
        pause();
    }
}

/* Processes that the kernel has killed for want of memory. */
static unsigned long oom_kills(void)
{
    char line[128];
    unsigned long n = 0;
    FILE *f = fopen("/proc/vmstat", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "oom_kill %lu", &n) == 1)
            break;
    if (f)
        fclose(f);
    return n;
}

/* Once the service runs, what it has stays; the words are for the console. */
static void on_secrets(const struct frame *f)
{
    char why[WHY_SIZE];
    if (secrets_frame(f, &init.drive, why) == 0)
        return;
    if (init.pid)
        dprintf(STDERR_FILENO, "mentat-init: %s\n", why);
    else
        snprintf(init.no_secrets, sizeof init.no_secrets, "%s", why);
}

static _Noreturn void fail(const char *why);

static void started_tell(uint32_t took_us)
{
    line_send_numbers(FRAME_STARTED, 0, 3, (uint32_t[]){(uint32_t)init.pid, took_us, (uint32_t)now_ms()});
}

static void on_hold(void)
{
    uint32_t not = session_any() || !init.pid || init.ended ? FRAME_HELD_BUSY : service_freeze() ? 0 : FRAME_HELD_RUNS;
    init.held = !not;
    line_send_numbers(FRAME_HELD, 0, 1, &not);
}

static void on_go(const struct frame *f)
{
    char why[WHY_SIZE];
    if (go_frame(f, why) < 0)
        fail(why);
    init.held = false;
    service_thaw();
}

static void on_identity(const struct frame *f)
{
    char why[WHY_SIZE];
    int64_t began_us = now_us();
    int result = identity_frame(f, &init.drive, &init.user, why);
    if (result < 0)
        fail(why);
    if (!result)
        return;
    init.held = false;
    init.oom_kills = oom_kills();
    if (init.drive.resume_signal)
        kill(init.pid, (int)init.drive.resume_signal);
    service_thaw();                  /* the signal is the first that it notices */
    started_tell((uint32_t)(now_us() - began_us));
}

static void on_frame(void *arg, const struct frame *f)
{
    (void)arg;
    if (f->kind == FRAME_SECRETS && init.drive.secrets_dir && !init.ended)
        on_secrets(f);
    else if (f->kind == FRAME_EXEC && f->id && !init.ended)
        session_exec(f, &init.drive, &init.user);
    else if (f->kind == FRAME_SIGNAL && !f->id && init.pid && !init.ended)
        kill(init.pid, (int)frame_u32(f, 0));
    else if (f->kind == FRAME_HOLD)
        on_hold();
    else if (f->kind == FRAME_GO && init.held)
        on_go(f);
    else if (f->kind == FRAME_IDENTITY && init.held)
        on_identity(f);
    else if (f->kind == FRAME_CLOCK)
        clock_set((uint64_t)frame_u32(f, 1) << 32 | frame_u32(f, 0));
    else if (f->kind == FRAME_BYE)
        init.bye = true;
    else
        session_frame(f);
}

static const struct frame_events frame_events = {.frame = on_frame};

/* The host has until BYE_MS to take what was said last. */
static _Noreturn void bye(void)
{
    int64_t end = now_ms() + BYE_MS;
    for (int64_t left = BYE_MS; !init.bye && left > 0 && line_fd() >= 0; left = end - now_ms()) {
        line_write();
        struct pollfd p = {.fd = line_fd(), .events = (short)(POLLIN | (line_waiting() ? POLLOUT : 0))};
        if (poll(&p, 1, (int)left) > 0 && (p.revents & (POLLIN | POLLHUP | POLLERR)))
            line_read(&frame_events, NULL);
    }
    restart();
}

static _Noreturn void fail(const char *why)
{
    if (line_fd() < 0) {
        dprintf(STDERR_FILENO, "mentat-init: %s\n", why);
        restart();
    }
    line_send(FRAME_FAILED, 0, 0, why, strlen(why));
    boot_end(&init.drive);
    bye();
}

/* --- the service --- */

/* Nothing but the line: what would be said waits. */
static void line_turn(void)
{
    struct pollfd p = {.fd = line_fd(), .events = (short)(POLLIN | (line_waiting() ? POLLOUT : 0))};
    if (poll(&p, 1, -1) > 0 && (p.revents & (POLLIN | POLLHUP | POLLERR)))
        line_read(&frame_events, NULL);
    line_write();
}

static void secrets_await(void)
{
    while (!secrets_there() && !*init.no_secrets && line_fd() >= 0)
        line_turn();
}

static void service_start(char *why)
{
    int theirs[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (int i = 0; i < 2; i++) {
        int fds[2];
        if (pipe2(fds, O_CLOEXEC) < 0) {
            why_errno(why, "cannot make pipes");
            fail(why);
        }
        init.out[i] = fds[0];
        theirs[i] = fds[1];
        fcntl(fds[0], F_SETFL, O_NONBLOCK);
    }
    init.oom_kills = oom_kills();
    uint32_t took = (uint32_t)(now_us() - init.began_us);
    init.pid = process_start(&(struct process){.drive = &init.drive, .user = &init.user, .args = init.drive.args.v,
                                               .fds = {null, theirs[0], theirs[1]}}, why);
    close(null);
    close(theirs[0]);
    close(theirs[1]);
    if (init.pid < 0)
        fail(why);
    started_tell(took);
}

static void output_read(int i)
{
    uint8_t bytes[FRAME_DATA_MAX];
    ssize_t n = read(init.out[i], bytes, sizeof bytes);
    if (n > 0) {
        line_send(FRAME_OUTPUT, (uint8_t)(i + 1), 0, bytes, (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close(init.out[i]);
        init.out[i] = -1;
    }
}

static void service_ended(int status)
{
    init.signal = WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : 0;
    init.code = init.signal ? 128 + init.signal : (uint32_t)WEXITSTATUS(status);
    /* A shell whose child was killed for memory ends with 137 itself. */
    init.oom = init.code == 128 + SIGKILL && oom_kills() > init.oom_kills;
    init.ended = true;
    kill(-1, SIGKILL);
}

static void children_reap(void)
{
    struct signalfd_siginfo info;
    while (read(init.signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        /* Ctrl-Alt-Del: the host's other way to ask. */
        if (info.ssi_signo == SIGINT && init.pid && !init.ended)
            kill(init.pid, SIGTERM);
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        uint32_t signal = WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : 0;
        if (pid == init.pid)
            service_ended(status);
        else
            session_ended(pid, signal ? 128 + signal : (uint32_t)WEXITSTATUS(status), signal);
    }
}

static void loop_turn(void)
{
    struct pollfd p[4 + SESSIONS_MAX * SESSION_FDS];
    bool room = line_has_room(4);
    p[0] = (struct pollfd){.fd = init.signal_fd, .events = POLLIN};
    p[1] = (struct pollfd){.fd = line_fd(), .events = (short)(POLLIN | (line_waiting() ? POLLOUT : 0))};
    for (int i = 0; i < 2; i++)
        p[2 + i] = (struct pollfd){.fd = room ? init.out[i] : -1, .events = POLLIN};
    size_t n = session_poll(p + 4);
    if (poll(p, 4 + n, session_wait_ms()) < 0)
        return;
    if (p[1].revents & POLLOUT)
        line_write();
    for (int i = 0; i < 2; i++)
        if (p[2 + i].fd >= 0 && p[2 + i].revents)
            output_read(i);
    session_polled(p + 4, n);
    if (p[0].revents)
        children_reap();
    /* Last: what it brings may change what was polled. */
    if (p[1].revents & (POLLIN | POLLHUP | POLLERR))
        line_read(&frame_events, NULL);
    session_tick();
    line_write();
}

int main(void)
{
    char why[WHY_SIZE];
    sigset_t handled;
    init.began_us = now_us();
    sigemptyset(&handled);
    sigaddset(&handled, SIGCHLD);
    sigaddset(&handled, SIGINT);
    sigprocmask(SIG_BLOCK, &handled, NULL);
    signal(SIGPIPE, SIG_IGN);
    init.signal_fd = signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
    reboot(RB_DISABLE_CAD);
    if (boot_begin(why) < 0 || boot_drive(&init.drive, why) < 0 || line_open(&init.drive, why) < 0)
        fail(why);
    /* The line is shared with the kernel: from here on it only says why it dies. */
    klogctl(KLOG_LEVEL, NULL, CONSOLE_EMERGENCIES);
    line_send_numbers(FRAME_READY, 0, 1, (uint32_t[]){FRAME_VERSION});
    line_write();
    if (boot_root(&init.drive, why) < 0 || boot_limits(&init.drive, why) < 0 || address_set(&init.drive, why) < 0
        || process_user(init.drive.user, &init.user, why) < 0)
        fail(why);
    boot_volumes_give(&init.drive, &init.user);
    if (init.drive.secrets_dir) {
        if (secrets_begin(&init.drive, &init.user, why) < 0)
            fail(why);
        secrets_await();
        if (*init.no_secrets)
            fail(init.no_secrets);
    }
    service_start(why);
    /* All its processes are dead once it has ended, so both streams come to their end. */
    while (!init.ended || init.out[0] >= 0 || init.out[1] >= 0)
        if (init.held && line_fd() >= 0)
            line_turn();
        else
            loop_turn();
    boot_end(&init.drive);
    line_send_numbers(FRAME_EXIT, 0, 3, (uint32_t[]){init.code, init.signal, init.oom});
    bye();
}
