/* A request is one message: the command, its variable, and the far end of its channel with its stdin and stdout. A channel
 * carries a byte to the launcher, which kills, and the status back. */
#include "sandbox/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/process.h"

#define COMMANDS_MOST 64
#define REQUEST_MOST 65536
enum { FD_CHANNEL, FD_INPUT, FD_OUTPUT, FDS };

struct launcher { int fd; };

/* --- the launcher's own process --- */

struct run { pid_t pid; int ended, channel; };          /* ended: a pidfd; channel: -1 when nobody asks any more */

struct service { int fd; struct run runs[COMMANDS_MOST]; size_t n; };

static char **environment_with(const char *variable)
{
    size_t n = 0, own = *variable ? 1 : 0;
    while (environ[n])
        n++;
    char **env = mem_array(n + own + 1, sizeof *env);
    memcpy(env + own, environ, n * sizeof *env);
    if (own)
        env[0] = (char *)(uintptr_t)variable;
    return env;
}

static int spawn(char *command, const char *variable, const int fds[static FDS], pid_t *pid)
{
    char *argv[] = {(char[]){"sh"}, (char[]){"-c"}, command, NULL};
    char **env = environment_with(variable);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, fds[FD_INPUT], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, fds[FD_OUTPUT], STDOUT_FILENO);
    int rc = spawn_clean(pid, "/bin/sh", &files, POSIX_SPAWN_SETPGROUP, argv, env);
    posix_spawn_file_actions_destroy(&files);
    free(env);
    return rc;
}

static void begin(struct service *s, char *request, const int fds[static FDS])
{
    pid_t pid;
    int channel = fds[FD_CHANNEL];
    if (s->n < COMMANDS_MOST && spawn(request, request + strlen(request) + 1, fds, &pid) == 0)
        s->runs[s->n++] = (struct run){.pid = pid, .ended = (int)syscall(SYS_pidfd_open, pid, 0), .channel = channel};
    else
        close(channel);
    close(fds[FD_INPUT]);
    close(fds[FD_OUTPUT]);
}

/* False: the program is gone. */
static bool take_request(struct service *s)
{
    static char request[REQUEST_MOST];
    char control[CMSG_SPACE(FDS * sizeof(int))];
    struct iovec part = {request, sizeof request};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(s->fd, &message, MSG_CMSG_CLOEXEC);
    if (n <= 0)
        return n < 0 && errno == EINTR;
    int fds[FDS];
    const struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    if (c && c->cmsg_len == CMSG_LEN(sizeof fds)) {
        memcpy(fds, CMSG_DATA(c), sizeof fds);
        begin(s, request, fds);
    }
    return true;
}

/* Asked to kill, or not asked after any more. */
static void look_at_channel(struct run *r)
{
    char byte;
    ssize_t n = recv(r->channel, &byte, 1, MSG_DONTWAIT);
    if (n > 0) {
        kill(-r->pid, SIGKILL);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close(r->channel);
        r->channel = -1;
    }
}

static void end(struct service *s, size_t i)
{
    struct run *r = &s->runs[i];
    int status = 0;
    waitpid(r->pid, &status, 0);
    if (r->channel >= 0) {
        send(r->channel, &status, sizeof status, MSG_NOSIGNAL | MSG_DONTWAIT);
        close(r->channel);
    }
    close(r->ended);
    *r = s->runs[--s->n];
}

static _Noreturn void serve(int fd)
{
    struct service s = {.fd = fd};
    prctl(PR_SET_NAME, "mentat-launcher");
    /* Both come to the whole group: the program ends by them, and then this. */
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    for (;;) {
        struct pollfd polls[1 + 2 * COMMANDS_MOST] = {{.fd = fd, .events = POLLIN}};
        size_t n = s.n;
        for (size_t i = 0; i < n; i++) {
            polls[1 + 2 * i] = (struct pollfd){.fd = s.runs[i].ended, .events = POLLIN};
            polls[2 + 2 * i] = (struct pollfd){.fd = s.runs[i].channel, .events = POLLIN};
        }
        if (poll(polls, 1 + 2 * n, -1) < 0)
            continue;
        for (size_t i = n; i-- > 0;) {
            if (polls[2 + 2 * i].revents)
                look_at_channel(&s.runs[i]);
            if (polls[1 + 2 * i].revents)
                end(&s, i);
        }
        if (polls[0].revents && !take_request(&s))
            _exit(0);
    }
}

/* --- the program's side --- */

int launcher_new(struct launcher **out, struct error *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return error_set_errno(err, errno, "the launcher of commands");
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        serve(pair[1]);
    }
    int failed = errno;
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return error_set_errno(err, failed, "the launcher of commands");
    }
    *out = NEW(struct launcher);
    (*out)->fd = pair[0];
    return 0;
}

void launcher_free(struct launcher *l)
{
    if (!l)
        return;
    close(l->fd);
    free(l);
}

static int send_request(const struct launcher *l, const char *text, size_t n, const int fds[static FDS])
{
    char control[CMSG_SPACE(FDS * sizeof(int))] = {0};
    struct iovec part = {(void *)(uintptr_t)text, n};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(FDS * sizeof(int))};
    memcpy(CMSG_DATA(c), fds, FDS * sizeof(int));
    return sendmsg(l->fd, &message, MSG_NOSIGNAL) < 0 ? errno : 0;
}

int launcher_run(struct launcher *l, const struct launch *what, struct error *err)
{
    static const char doing[] = "the launcher of commands";
    CLEANUP_BUF struct buf text = {0};
    int pair[2];
    buf_add(&text, what->command, strlen(what->command) + 1);
    buf_add(&text, what->variable ? what->variable : "", what->variable ? strlen(what->variable) + 1 : 1);
    if (text.len > REQUEST_MOST)
        return error_set(err, ERROR_TOO_LARGE, "a command of more than %d bytes", REQUEST_MOST);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return error_set_errno(err, errno, doing);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int fds[FDS] = {[FD_CHANNEL] = pair[1], [FD_INPUT] = what->input < 0 ? null : what->input,
                    [FD_OUTPUT] = what->output < 0 ? STDOUT_FILENO : what->output};
    int failed = null < 0 ? errno : send_request(l, text.data, text.len, fds);
    close(pair[1]);
    if (null >= 0)
        close(null);
    if (!failed)
        return pair[0];
    close(pair[0]);
    return error_set_errno(err, failed, doing);
}

int launcher_status(int channel, int *status, struct error *err)
{
    ssize_t n = recv(channel, status, sizeof *status, 0);
    return n == (ssize_t)sizeof *status ? 0 : error_set(err, ERROR_SYSTEM, "it could not be started, or nobody saw how it ended");
}

void launcher_kill(int channel)
{
    send(channel, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int launcher_judge(int status, struct error *err)
{
    if (WIFSIGNALED(status))
        return error_set(err, ERROR_SYSTEM, "it was ended by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status) ? error_set(err, ERROR_SYSTEM, "it ended with status %d", WEXITSTATUS(status)) : 0;
}

/* All of it is taken, so that the command is not ended by what nobody reads. */
static void read_line(int fd, char *line, size_t size)
{
    char rest[256];
    size_t have = 0;
    for (ssize_t n = 1; n > 0 || (n < 0 && errno == EINTR);) {
        bool full = have + 1 >= size;
        n = full ? read(fd, rest, sizeof rest) : read(fd, line + have, size - 1 - have);
        have += !full && n > 0 ? (size_t)n : 0;
    }
    line[have] = '\0';
    line[strcspn(line, "\r\n")] = '\0';
}

int launcher_ask(struct launcher *l, const char *command, char *line, size_t size, struct error *err)
{
    int ends[2], status;
    if (pipe2(ends, O_CLOEXEC))
        return error_set_errno(err, errno, "a pipe");
    int channel = launcher_run(l, &(struct launch){.command = command, .input = -1, .output = ends[1]}, err);
    close(ends[1]);
    if (channel >= 0)
        read_line(ends[0], line, size);
    close(ends[0]);
    if (channel < 0)
        return -1;
    int rc = launcher_status(channel, &status, err) ? -1 : launcher_judge(status, err);
    close(channel);
    return rc;
}
