/* What a process cannot do any more, each in a process of its own. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../cmocka_all.h"
#include "base/buf.h"
#include "base/file.h"
#include "sandbox/capabilities.h"
#include "sandbox/launcher.h"
#include "sandbox/paths.h"
#include "sandbox/memory.h"
#include "sandbox/syscalls.h"

/* How a child ended that does this: its exit status, or 1000 and the signal. */
static int outcome(int (*work)(void))
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(work());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* --- system calls --- */

static void restrict_calls(void)
{
    struct error err;
    if (syscalls_restrict(&err))
        _exit(99);
}

static void *add_one(void *n)
{
    ++*(int *)n;
    return NULL;
}

static int does_its_work(void)
{
    struct error err;
    CLEANUP_BUF struct buf text = {0};
    pthread_t thread;
    int n = 0;
    restrict_calls();
    if (file_read("/proc/self/status", 65536, &text, &err) || !strstr(text.data, "NoNewPrivs:\t1\n"))
        return 1;
    if (syscalls_can_restrict() && !strstr(text.data, "Seccomp:\t2\n"))
        return 2;
    if (pthread_create(&thread, NULL, add_one, &n) || pthread_join(thread, NULL) || n != 1)
        return 3;
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    return fd < 0 || prctl(PR_SET_NAME, "worker") ? 4 : 0;
}

static int is_refused(long rc)
{
    return rc == -1 && errno == EPERM ? 0 : 1;
}

static int forks(void) { restrict_calls(); return is_refused(fork()); }
static int mounts(void) { restrict_calls(); return is_refused(syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, NULL)); }
static int unshares(void) { restrict_calls(); return is_refused(syscall(SYS_unshare, 0)); }
static int changes_user(void) { restrict_calls(); return is_refused(syscall(SYS_setuid, 0)); }
static int signals_others(void) { restrict_calls(); return is_refused(kill(getppid(), 0)); }
static int listens_to_packets(void) { restrict_calls(); return is_refused(socket(AF_PACKET, SOCK_RAW, 0)); }
static int keeps_a_key(void) { restrict_calls(); return is_refused(syscall(SYS_keyctl, 0, 0, 0, 0, 0)); }
static int makes_itself_readable(void) { restrict_calls(); return is_refused(prctl(PR_SET_DUMPABLE, 1)); }
static int executes(void) { restrict_calls(); execl("/bin/true", "true", NULL); return 1; }
static int traces(void) { restrict_calls(); ptrace(PTRACE_TRACEME, 0, NULL, NULL); return 1; }

/* By the numbers of 32-bit programs, which mean other calls. */
static int calls_as_32_bit(void)
{
    long rc = 20;                /* getpid there */
    restrict_calls();
    __asm__ volatile("int $0x80" : "+a"(rc) : : "memory");
    return 1;
}

static void calls_that_are_not_needed_fail(void **state)
{
    assert_int_equal(outcome(does_its_work), 0);
    if (SANITIZED) {
        assert_false(syscalls_can_restrict());
        return;
    }
    static int (*const refused[])(void) = {
        forks, mounts, unshares, changes_user, signals_others, listens_to_packets, keeps_a_key, makes_itself_readable,
    };
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (outcome(refused[i]))
            fail_msg("case %zu was not refused", i);
    assert_int_equal(outcome(executes), 1000 + SIGSYS);
    assert_int_equal(outcome(traces), 1000 + SIGSYS);
    assert_int_equal(outcome(calls_as_32_bit), 1000 + SIGSYS);
}

/* --- paths --- */

static char *dir;

static int make_dir(void **state)
{
    char text[] = "/tmp/mentat-sandbox-XXXXXX";
    dir = mem_strdup(mkdtemp(text));
    return 0;
}

static int remove_dir(void **state)
{
    dir_remove(dir);
    free(dir);
    return 0;
}

static char *in(const char *name)
{
    return mem_printf("%s/%s", dir, name);
}

static int write_at(const char *name)
{
    CLEANUP_FREE char *path = in(name);
    struct error err;
    return file_write(path, "x", 1, 0600, &err);
}

static int read_at(const char *name)
{
    CLEANUP_FREE char *path = in(name);
    CLEANUP_BUF struct buf text = {0};
    struct error err;
    return file_read(path, 100, &text, &err);
}

#define CANNOT 77

static int sees_its_own_paths_only(void)
{
    CLEANUP_FREE char *own = in("own"), *shown = in("shown"), *from = in("own/a"), *to = in("own/sub/a");
    struct path_rule rules[] = {{own, true}, {shown, false}, {"/nonexistent", true}};
    struct error err;
    bool done;
    if (paths_restrict(rules, ARRAY_LEN(rules), &done, &err))
        return 1;
    if (!done)
        return CANNOT;
    if (write_at("own/a") || read_at("own/a") || rename(from, to))
        return 2;
    if (read_at("shown/file") || !write_at("shown/file") || !write_at("shown/new"))
        return 3;
    if (!read_at("hidden/file") || !write_at("hidden/file"))
        return 4;
    return open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES ? 0 : 5;
}

static void paths_that_are_not_its_own_are_closed(void **state)
{
    static const char *const names[] = {"own", "own/sub", "shown", "hidden"};
    struct error err;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP_FREE char *path = in(names[i]);
        assert_int_equal(dir_make(path, 0700, &err), 0);
    }
    assert_int_equal(write_at("shown/file"), 0);
    assert_int_equal(write_at("hidden/file"), 0);
    int how = outcome(sees_its_own_paths_only);
    if (how == CANNOT)
        print_message("this kernel, or build, has no Landlock: not tested\n");
    else
        assert_int_equal(how, 0);
}

/* --- capabilities --- */

static int loses_capabilities(void)
{
    struct error err;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (capabilities_keep(CAPABILITY(CAP_KILL) | CAPABILITY(CAP_BPF), CAPABILITY(CAP_CHOWN), &err))
        return 1;
    if (syscall(SYS_capget, &header, data) || data[0].effective & ~(uint32_t)CAPABILITY(CAP_KILL) || data[0].effective != data[0].permitted)
        return 2;
    if (geteuid() == 0 && (prctl(PR_CAPBSET_READ, CAP_SYS_BOOT) || prctl(PR_CAPBSET_READ, CAP_CHOWN) != 1))
        return 3;
    return 0;
}

static void capabilities_are_kept_by_list(void **state)
{
    assert_int_equal(outcome(loses_capabilities), 0);
}

/* --- the launcher --- */

static int run_and_wait(struct launcher *l, const char *command, const char *variable, int input)
{
    struct error err;
    int status, channel = launcher_run(l, &(struct launch){command, variable, input, -1}, &err);
    assert_true(channel >= 0);
    if (launcher_status(channel, &status, &err))
        fail_msg("%s", err.text);
    close(channel);
    return status;
}

static void commands_are_started_by_the_launcher(void **state)
{
    struct launcher *l;
    struct error err;
    int pipe_fd[2];
    assert_int_equal(launcher_new(&l, &err), 0);
    assert_int_equal(WEXITSTATUS(run_and_wait(l, "test \"$SAID\" = hello && exit 7", "SAID=hello", -1)), 7);
    assert_int_equal(run_and_wait(l, "test -n \"$PATH\" && test -z \"$(cat)\"", NULL, -1), 0);
    assert_int_equal(pipe(pipe_fd), 0);
    assert_int_equal(write(pipe_fd[1], "line\n", 5), 5);
    close(pipe_fd[1]);
    assert_int_equal(run_and_wait(l, "read x && test \"$x\" = line", NULL, pipe_fd[0]), 0);
    close(pipe_fd[0]);
    char said[8] = "";
    assert_int_equal(launcher_ask(l, "echo said; echo more", said, sizeof said, &err), 0);
    assert_string_equal(said, "said");
    assert_int_equal(launcher_ask(l, "yes 0123456789 | head -c 1000000", said, sizeof said, &err), 0);
    assert_string_equal(said, "0123456");
    assert_int_equal(launcher_ask(l, "echo said; exit 3", said, sizeof said, &err), -1);
    assert_string_equal(err.text, "it ended with status 3");
    int status, channel = launcher_run(l, &(struct launch){"sleep 1000", NULL, -1, -1}, &err);
    launcher_kill(channel);
    assert_int_equal(launcher_status(channel, &status, &err), 0);
    assert_int_equal(WTERMSIG(status), SIGKILL);
    close(channel);
    assert_int_equal(launcher_judge(status, &err), -1);
    assert_string_equal(err.text, "it was ended by signal 9");
    launcher_free(l);
    int end;
    assert_true(wait(&end) > 0);             /* it ends by itself */
    assert_true(WIFEXITED(end));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_that_are_not_needed_fail),
        cmocka_unit_test_setup_teardown(paths_that_are_not_its_own_are_closed, make_dir, remove_dir),
        cmocka_unit_test(capabilities_are_kept_by_list),
        cmocka_unit_test(commands_are_started_by_the_launcher),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
