#include "sandbox/syscalls.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/mem.h"

static const char *const allowed[] = {
    /* files */
    "access", "chmod", "close", "close_range", "copy_file_range", "dup", "dup2", "dup3", "faccessat", "faccessat2",
    "fadvise64", "fallocate", "fchmod", "fchmodat", "fcntl", "fdatasync", "flock", "fstat", "fstatfs", "fsync", "ftruncate",
    "getcwd", "getdents64", "ioctl", "lseek", "lstat", "mkdir", "mkdirat", "newfstatat", "open", "openat", "pipe", "pipe2",
    "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readlink", "readlinkat", "readv", "rename",
    "renameat", "renameat2", "rmdir", "sendfile", "stat", "statfs", "statx", "sync_file_range", "umask", "unlink", "unlinkat",
    "utimensat", "write", "writev",
    /* waiting */
    "clock_getres", "clock_gettime", "clock_nanosleep", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2",
    "epoll_wait", "eventfd2", "gettimeofday", "nanosleep", "poll", "ppoll", "pselect6", "restart_syscall", "select", "time",
    /* the network; socket has a rule of its own */
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom", "recvmmsg",
    "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socketpair",
    /* memory */
    "brk", "madvise", "membarrier", "mincore", "mlock", "mlock2", "mmap", "mprotect", "mremap", "msync", "munlock", "munmap",
    /* threads and signals */
    "exit", "exit_group", "futex", "gettid", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigreturn",
    "rt_sigsuspend", "rt_sigtimedwait", "sched_getaffinity", "sched_getparam", "sched_getscheduler", "sched_yield",
    "set_robust_list", "sigaltstack", "tgkill",
    /* itself */
    "getegid", "geteuid", "getgid", "getpgrp", "getpid", "getppid", "getrandom", "getrlimit", "getrusage", "getuid",
    "prlimit64", "setrlimit", "sysinfo", "times", "uname",
};

/* None of ours asks for these: who does has taken the process over. */
static const char *const deadly[] = {
    "bpf", "execve", "execveat", "finit_module", "init_module", "kexec_load", "process_vm_readv", "process_vm_writev", "ptrace",
};

/* Names and addresses are looked up by the last. */
static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};

/* A name that the library of the build does not know is of no call that its programs make. */
static int add_names(scmp_filter_ctx filter, uint32_t action, const char *const *names, size_t n)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < n; i++) {
        int number = seccomp_syscall_resolve_name(names[i]);
        if (number != __NR_SCMP_ERROR)
            rc = seccomp_rule_add(filter, action, number, 0);
    }
    return rc;
}

/* Threads, but no processes. The flags of clone3 are out of a filter's sight: ENOSYS sends the C library to clone. */
static int add_clone(scmp_filter_ctx filter)
{
    int rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                              SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    return rc ? rc : seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

static int add_rules(scmp_filter_ctx filter)
{
    int rc = add_names(filter, SCMP_ACT_ALLOW, allowed, ARRAY_LEN(allowed));
    if (!rc)
        rc = add_names(filter, SCMP_ACT_KILL_PROCESS, deadly, ARRAY_LEN(deadly));
    for (size_t i = 0; !rc && i < ARRAY_LEN(families); i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]));
    if (!rc)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
    return rc ? rc : add_clone(filter);
}

bool syscalls_can_restrict(void)
{
    return !SANITIZED;
}

int syscalls_restrict(struct error *err)
{
    static const char what[] = "the filter of system calls";
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return error_set_errno(err, errno, what);
    if (!syscalls_can_restrict())
        return 0;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    INVARIANT(filter);
    int rc = add_rules(filter);
    INVARIANT(rc == 0);
    rc = seccomp_load(filter);
    seccomp_release(filter);
    return rc ? error_set_errno(err, rc, what) : 0;
}
