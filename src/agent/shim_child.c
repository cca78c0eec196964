#include "agent/shim_child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

#define FILES_MAX 65536

/* --- accounts --- */

static int groups_find(const char *name, struct account *a, struct error *err)
{
    FILE *f = fopen("/etc/group", "re");
    if (!f)
        return errno == ENOENT ? 0 : error_set_errno(err, errno, "cannot read /etc/group");
    for (struct group *g; a->n_groups < ACCOUNT_GROUPS_MAX && (g = fgetgrent(f));)
        for (char **member = g->gr_mem; *member; member++)
            if (strcmp(*member, name) == 0 && g->gr_gid != a->gid && a->n_groups < ACCOUNT_GROUPS_MAX)
                a->groups[a->n_groups++] = g->gr_gid;
    fclose(f);
    return 0;
}

int account_find(const char *name, const char *node, struct account *a, struct error *err)
{
    *a = (struct account){0};
    if (!name || !*name)
        return 0;
    FILE *f = fopen("/etc/passwd", "re");
    if (!f)
        return error_set_errno(err, errno, "cannot look up user `%s` in /etc/passwd", name);
    char *end;
    unsigned long number = strtoul(name, &end, 10);
    bool numeric = *end == 0 && number < UINT_MAX;
    CLEANUP_FREE char *found = NULL;
    for (struct passwd *p; !found && (p = fgetpwent(f));) {
        if (strcmp(p->pw_name, name) != 0 && !(numeric && p->pw_uid == number))
            continue;
        a->uid = p->pw_uid;
        a->gid = p->pw_gid;
        found = mem_strdup(p->pw_name);
    }
    fclose(f);
    if (!found && !numeric)
        return error_set(err, ERROR_INVALID, "user `%s` does not exist on node `%s`", name, node);
    if (!found) {
        a->uid = (uid_t)number;
        a->gid = (gid_t)number;
    }
    a->groups[a->n_groups++] = a->gid;
    if (found && groups_find(found, a, err) < 0)
        return -1;
    a->set = true;
    return 0;
}

/* --- between fork and exec: system calls only, and a note to the parent when one fails --- */

enum step { STEP_CGROUP, STEP_TERMINAL, STEP_FILES, STEP_USER, STEP_WORKDIR, STEP_COMMAND, STEP_INTERPRETER };
struct note {
    enum step step;
    int error;
    char text[256];
};

static _Noreturn void child_fail(int fd, enum step step, int error, const char *text)
{
    struct note note = {.step = step, .error = error};
    snprintf(note.text, sizeof note.text, "%s", text);
    if (write(fd, &note, sizeof note) < 0)
        _exit(126);
    _exit(127);
}

static void signals_reset(void)
{
    struct sigaction sa = {.sa_handler = SIG_DFL};
    for (int i = 1; i < NSIG; i++)
        sigaction(i, &sa, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void limits_set(void)
{
    struct rlimit none = {0, 0}, files;
    setrlimit(RLIMIT_CORE, &none);
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return;
    struct rlimit wanted = {FILES_MAX, FILES_MAX};
    if (setrlimit(RLIMIT_NOFILE, &wanted) < 0 && files.rlim_max < FILES_MAX) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static int account_become(const struct account *a)
{
    if (!a->set)
        return 0;
    /* An agent without root can still run tasks as itself. */
    if (geteuid() != 0 && a->uid == geteuid())
        return 0;
    return setgroups(a->n_groups, a->groups) < 0 || setresgid(a->gid, a->gid, a->gid) < 0
        || setresuid(a->uid, a->uid, a->uid) < 0 ? -1 : 0;
}

static const char *env_value(char *const *env, const char *name)
{
    size_t n = strlen(name);
    for (; *env; env++)
        if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
            return *env + n + 1;
    return NULL;
}

/* A terminal needs a name; the task's own environment seldom has one. */
static char *const *env_for_terminal(const struct str_list *env)
{
    if (env_value(env->v, "TERM"))
        return env->v;
    char **with = mem_array((size_t)env->n + 2, sizeof *with);
    memcpy(with, env->v, env->n * sizeof *with);
    with[env->n] = (char *)"TERM=xterm";
    return with;
}

/* Tries every folder of PATH, as the task's user and from its working directory. Returns only on failure. */
static _Noreturn void command_exec(int note_fd, char *const *args, char *const *env)
{
    char path[PATH_MAX];
    int error = ENOENT;
    if (strchr(args[0], '/')) {
        execve(args[0], args, env);
        error = errno;
        if (error == ENOENT && access(args[0], F_OK) == 0)
            child_fail(note_fd, STEP_INTERPRETER, error, args[0]);
        child_fail(note_fd, STEP_COMMAND, error, args[0]);
    }
    for (const char *p = env_value(env, "PATH"); p && *p;) {
        size_t n = strcspn(p, ":");
        int length = n ? snprintf(path, sizeof path, "%.*s/%s", (int)n, p, args[0]) : -1;
        p += n + (p[n] == ':');
        if (length < 0 || length >= (int)sizeof path)
            continue;
        execve(path, args, env);
        if (errno == ENOENT && access(path, F_OK) == 0)
            child_fail(note_fd, STEP_INTERPRETER, errno, path);
        if (errno != ENOENT && errno != ENOTDIR)
            error = errno;
    }
    child_fail(note_fd, STEP_COMMAND, error, args[0]);
}

static _Noreturn void child_run(const struct child_spec *s, int note_fd, const char *workdir, pid_t shim)
{
    struct error err = {0};
    const struct shim_spec *shim_spec = s->shim;
    if (cgroup_join(&shim_spec->cgroups, shim_spec->alloc_id, 0, &err) < 0)
        child_fail(note_fd, STEP_CGROUP, 0, err.text);
    setsid();
    if (s->tty && ioctl(s->fds[0], TIOCSCTTY, 0) < 0)
        child_fail(note_fd, STEP_TERMINAL, errno, "");
    for (int i = 0; i < 3; i++)
        if (dup2(s->fds[i], i) < 0)
            child_fail(note_fd, STEP_FILES, errno, "");
    signals_reset();
    limits_set();
    umask(022);
    /* The allocation's own folder is entered with the agent's rights: the way to it need not be open to the user. */
    if (!shim_spec->workdir && chdir(workdir) < 0)
        child_fail(note_fd, STEP_WORKDIR, errno, workdir);
    if (account_become(s->account) < 0)
        child_fail(note_fd, STEP_USER, errno, shim_spec->user);
    if (shim_spec->workdir && chdir(workdir) < 0)
        child_fail(note_fd, STEP_WORKDIR, errno, workdir);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    /* After the change of user, which clears it. A shim that died before this line is seen by the second question. */
    if (s->main) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != shim)
            _exit(127);
    }
    command_exec(note_fd, s->args->v, s->tty ? env_for_terminal(&shim_spec->env) : shim_spec->env.v);
}

/* --- the parent's side --- */

static int note_explain(const struct note *n, const char *node, struct error *err)
{
    switch (n->step) {
    case STEP_CGROUP:
        return error_set(err, ERROR_SYSTEM, "%s", n->text);
    case STEP_TERMINAL:
        return error_set_errno(err, n->error, "cannot make the terminal the command's own");
    case STEP_FILES:
        return error_set_errno(err, n->error, "cannot set up the command's output");
    case STEP_USER:
        return error_set_errno(err, n->error, "cannot become user `%s` on node `%s`", n->text, node);
    case STEP_WORKDIR:
        if (n->error == ENOENT)
            return error_set(err, ERROR_INVALID, "workdir `%s` does not exist on node `%s`", n->text, node);
        return error_set_errno(err, n->error, "cannot enter workdir `%s` on node `%s`", n->text, node);
    case STEP_INTERPRETER:
        return error_set(err, ERROR_INVALID, "command `%s` cannot run on node `%s`: its interpreter (the #! line, or the "
                         "loader of a dynamic program) does not exist there", n->text, node);
    case STEP_COMMAND:
        break;
    }
    if (n->error == ENOENT || n->error == ENOTDIR)
        return error_set(err, ERROR_INVALID, strchr(n->text, '/') ? "command `%s` does not exist on node `%s`"
                         : "command `%s` is not in the PATH on node `%s`", n->text, node);
    if (n->error == EACCES)
        return error_set(err, ERROR_INVALID, "command `%s` on node `%s` is not executable for the task's user", n->text, node);
    if (n->error == ENOEXEC)
        return error_set(err, ERROR_INVALID, "command `%s` on node `%s` is neither a program for this machine nor a script "
                         "that begins with #!", n->text, node);
    if (n->error == E2BIG)
        return error_set(err, ERROR_INVALID, "the arguments and environment of command `%s` are too long", n->text);
    return error_set_errno(err, n->error, "cannot run command `%s` on node `%s`", n->text, node);
}

static int workdir_make(const struct child_spec *s, char path[static PATH_MAX], struct error *err)
{
    if (s->shim->workdir) {
        snprintf(path, PATH_MAX, "%s", s->shim->workdir);
        return 0;
    }
    snprintf(path, PATH_MAX, "%s/task", s->shim->alloc_dir);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return error_set_errno(err, errno, "cannot make the working directory %s", path);
    if (s->account->set && geteuid() == 0 && chown(path, s->account->uid, s->account->gid) < 0)
        return error_set_errno(err, errno, "cannot give %s to user `%s`", path, s->shim->user);
    return 0;
}

pid_t shim_child_start(const struct child_spec *s, struct error *err)
{
    char workdir[PATH_MAX];
    int note_pipe[2];
    if (workdir_make(s, workdir, err) < 0)
        return -1;
    if (s->tty && s->account->set && fchown(s->fds[0], s->account->uid, (gid_t)-1) < 0 && geteuid() == 0)
        return error_set_errno(err, errno, "cannot give the terminal to user `%s`", s->shim->user);
    if (pipe2(note_pipe, O_CLOEXEC) < 0)
        return error_set_errno(err, errno, "cannot start a process");
    pid_t shim = getpid(), pid = fork();
    if (pid == 0)
        child_run(s, note_pipe[1], workdir, shim);
    int failed = errno;
    close(note_pipe[1]);
    if (pid < 0) {
        close(note_pipe[0]);
        return error_set_errno(err, failed, "cannot start a process");
    }
    struct note note;
    ssize_t n;
    do
        n = read(note_pipe[0], &note, sizeof note);
    while (n < 0 && errno == EINTR);
    close(note_pipe[0]);
    if (n == 0)
        return pid;
    waitpid(pid, NULL, 0);
    if (n != (ssize_t)sizeof note)
        return error_set(err, ERROR_SYSTEM, "the command's process ended before it could start it");
    note.text[sizeof note.text - 1] = 0;
    return note_explain(&note, s->shim->node, err);
}
