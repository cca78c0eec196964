#include "guest/init.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILES_MAX 65536
#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* --- users --- */

/* An id written as a number, or -1. */
static long number_of(const char *text)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    return *text && !*end && n < 0xffffffffu ? (long)n : -1;
}

static int group_find(const char *name, gid_t *gid, char *why)
{
    long number = number_of(name);
    FILE *f = fopen("/etc/group", "re");
    bool found = number >= 0;
    *gid = found ? (gid_t)number : 0;
    for (struct group *g; !found && f && (g = fgetgrent(f));)
        if (strcmp(g->gr_name, name) == 0) {
            *gid = g->gr_gid;
            found = true;
        }
    if (f)
        fclose(f);
    return found ? 0 : why_set(why, "group `%s` does not exist in the image", name);
}

static void groups_find(const char *name, struct process_user *user)
{
    FILE *f = fopen("/etc/group", "re");
    for (struct group *g; f && (g = fgetgrent(f));)
        for (char **member = g->gr_mem; *member; member++)
            if (strcmp(*member, name) == 0 && user->n_groups < sizeof user->groups / sizeof *user->groups)
                user->groups[user->n_groups++] = g->gr_gid;
    if (f)
        fclose(f);
}

int process_user(const char *text, struct process_user *user, char *why)
{
    char name[256];
    *user = (struct process_user){.home = "/"};
    if (!text || !*text)
        text = "0";
    const char *colon = strchr(text, ':');
    snprintf(name, sizeof name, "%.*s", colon ? (int)(colon - text) : (int)strlen(text), text);
    long number = number_of(name);
    FILE *f = fopen("/etc/passwd", "re");
    bool found = false;
    for (struct passwd *p; !found && f && (p = fgetpwent(f));) {
        if (strcmp(p->pw_name, name) != 0 && (number < 0 || p->pw_uid != (uid_t)number))
            continue;
        found = true;
        user->uid = p->pw_uid;
        user->gid = p->pw_gid;
        user->home = strdup(p->pw_dir);
        groups_find(p->pw_name, user);
    }
    if (f)
        fclose(f);
    if (!found && number < 0)
        return why_set(why, "user `%s` does not exist in the image", name);
    if (!found)
        user->uid = user->gid = (uid_t)number;
    if (colon) {
        user->n_groups = 0;
        return group_find(colon + 1, &user->gid, why);
    }
    return 0;
}

/* --- between fork and exec --- */

struct note { int error; char text[WHY_SIZE]; };

static _Noreturn void child_fail(int fd, const char *what)
{
    struct note note = {.error = errno};
    snprintf(note.text, sizeof note.text, "%s", what);
    if (write(fd, &note, sizeof note) < 0)
        _exit(126);
    _exit(127);
}

static const char *environment_get(const struct drive *d, const char *key)
{
    size_t n = strlen(key);
    for (size_t i = 0; i < d->env.n; i++)
        if (strncmp(d->env.v[i], key, n) == 0 && d->env.v[i][n] == '=')
            return d->env.v[i] + n + 1;
    return NULL;
}

static void environment_set(const struct process *p)
{
    clearenv();
    setenv("PATH", PATH_DEFAULT, 1);
    setenv("HOME", p->user->home, 1);
    for (size_t i = 0; i < p->drive->env.n; i++)
        putenv((char *)p->drive->env.v[i]);
    if (p->tty && !environment_get(p->drive, "TERM"))
        setenv("TERM", "xterm", 1);
}

static void limits_set(void)
{
    struct rlimit none = {0, 0}, files = {FILES_MAX, FILES_MAX};
    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_NOFILE, &files);
}

static _Noreturn void child_run(const struct process *p, int note_fd)
{
    const struct process_user *u = p->user;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setsid();
    if (p->tty && ioctl(p->fds[0], TIOCSCTTY, 0) < 0)
        child_fail(note_fd, "the terminal");
    for (int i = 0; i < 3; i++)
        if (dup2(p->fds[i], i) < 0)
            child_fail(note_fd, "standard files");
    limits_set();
    if (limits_enter() < 0)
        child_fail(note_fd, "its control group");
    if (u->uid && (setgroups(u->n_groups, u->groups) < 0 || setgid(u->gid) < 0 || setuid(u->uid) < 0))
        child_fail(note_fd, "the user");
    if (chdir(p->drive->workdir ? p->drive->workdir : "/") < 0)
        child_fail(note_fd, p->drive->workdir);
    environment_set(p);
    execvp(p->args[0], (char *const *)p->args);
    child_fail(note_fd, p->args[0]);
}

pid_t process_start(const struct process *p, char *why)
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return why_errno(why, "cannot start a process");
    pid_t pid = fork();
    if (pid == 0)
        child_run(p, pipe_fds[1]);
    close(pipe_fds[1]);
    struct note note;
    ssize_t n = 0;
    if (pid > 0)
        while ((n = read(pipe_fds[0], &note, sizeof note)) < 0 && errno == EINTR)
            ;
    close(pipe_fds[0]);
    if (pid < 0)
        return why_errno(why, "cannot start a process");
    if (n == 0)
        return pid;
    waitpid(pid, NULL, 0);
    note.text[sizeof note.text - 1] = 0;
    if (note.error == ENOENT)
        return why_set(why, "`%s` does not exist in the image", note.text);
    if (note.error == ENOEXEC)
        return why_set(why, "`%s` in the image is no program for this machine", note.text);
    return why_set(why, "`%s` in the image: %s", note.text, strerror(note.error));
}
