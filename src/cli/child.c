#include "cli/child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

#define LOG_LIMIT (64u * 1024 * 1024)
#define LINES_SHOWN 20
#define STATUS_NOT_STARTED 127

static _Noreturn void run_child(const struct child *c, const char *path, char *const *argv, int log_fd, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(STATUS_NOT_STARTED);           /* it died before it could be waited for */
    if (c->log_path) {
        int null_fd = open("/dev/null", O_RDONLY);
        setpgid(0, 0);
        dup2(null_fd, STDIN_FILENO);
        dup2(log_fd, STDOUT_FILENO);
        dup2(log_fd, STDERR_FILENO);
    }
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv(path, argv);
    dprintf(STDERR_FILENO, "cannot start %s: %s\n", path, strerror(errno));
    _exit(STATUS_NOT_STARTED);
}

int child_start(struct child *c, const char *path, char *const *argv, struct error *err)
{
    int log_fd = -1;
    pid_t parent = getpid();
    if (c->log_path) {
        log_fd = open(c->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (log_fd < 0)
            return error_set_errno(err, errno, "cannot make %s", c->log_path);
    }
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        run_child(c, path, argv, log_fd, parent);
    int failure = errno;
    if (log_fd >= 0)
        close(log_fd);
    if (pid < 0)
        return error_set_errno(err, failure, "cannot start %s", c->name);
    c->pid = pid;
    return 0;
}

bool child_running(struct child *c)
{
    if (c->pid && waitpid(c->pid, &c->status, WNOHANG) == c->pid)
        c->pid = 0;
    return c->pid != 0;
}

void child_signal(const struct child *c, int signum)
{
    if (c->pid)
        kill(c->pid, signum);
}

void child_how_ended(const struct child *c, char *out, size_t size)
{
    if (WIFSIGNALED(c->status))
        snprintf(out, size, "was ended by signal %d", WTERMSIG(c->status));
    else
        snprintf(out, size, "ended with status %d", WEXITSTATUS(c->status));
}

void child_show_log(const struct child *c)
{
    CLEANUP_BUF struct buf text = {0};
    struct error err;
    if (!c->log_path || file_read(c->log_path, LOG_LIMIT, &text, &err) || !text.len)
        return;
    const char *p = text.data + text.len;
    for (int lines = 0; p > text.data; p--)
        if (p[-1] == '\n' && lines++ == LINES_SHOWN)
            break;
    fprintf(stderr, "last lines of %s's log:\n%s", c->name, p);
}

void child_clear(struct child *c)
{
    free(c->log_path);
    c->log_path = NULL;
}

char *child_find_program(const char *name, struct error *err)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) {
        if (access("/proc/self", F_OK))
            error_set(err, ERROR_UNSUPPORTED, "/proc is not there, which programs and their tasks need: mount -t proc proc /proc");
        else
            error_set_errno(err, errno, "cannot find out where this program is (/proc/self/exe)");
        return NULL;
    }
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    char *path = mem_printf("%.*s/%s", (int)(slash ? slash - self : 0), self, name);
    if (access(path, X_OK) == 0)
        return path;
    error_set_errno(err, errno, "%s is not there beside mt (%s); install all programs into one directory", name, path);
    free(path);
    return NULL;
}
