/* Breakout: tries to do what a container must not do, one line for each attempt: "NAME done", or "NAME refused: WHY".
 *   breakout            every attempt
 *   breakout NAME…      these
 * It is put into an image and run under each security profile, and under plain Docker, where the attempts succeed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/if_alg.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORKS 5000
#define TMP_MB 100
#define DOCKER_SOCKETS {"/var/run/docker.sock", "/run/docker.sock", "/docker.sock"}

static int status_of(long rc)
{
    return rc < 0 ? errno : 0;
}

static int write_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    int rc = fd < 0 || write(fd, "x", 1) != 1 ? errno : 0;
    if (fd >= 0)
        close(fd);
    unlink(path);
    return rc;
}

static int try_write_root(void) { return write_file("/written"); }
static int try_write_etc(void) { return write_file("/etc/passwd2"); }
static int try_write_bin(void) { return write_file("/bin/sh2"); }
static int try_be_root(void) { return geteuid() == 0 ? 0 : EPERM; }
static int try_setuid(void) { return status_of(syscall(SYS_setresuid, 0, 0, 0)); }

/* The image has a copy of this program that belongs to root and has the set-user-ID bit. */
static int try_setuid_program(void)
{
    pid_t child = fork();
    if (child == 0) {
        execl("/bin/breakout-setuid", "breakout-setuid", "--euid", (char *)NULL);
        _exit(2);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : EPERM;
}

static int try_capability(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &head, data) < 0)
        return errno;
    return data[0].effective || data[0].permitted || data[1].effective ? 0 : EPERM;
}

static int try_capability_admin(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{.effective = 1u << CAP_SYS_ADMIN, .permitted = 1u << CAP_SYS_ADMIN}};
    return status_of(syscall(SYS_capset, &head, data));
}

static int try_chown(void)
{
    int fd = open("/tmp/owned", O_WRONLY | O_CREAT, 0600);
    int rc = fd < 0 ? errno : status_of(fchown(fd, 1234, 1234));
    unlink("/tmp/owned");
    return rc;
}

static int try_mount(void) { return status_of(mount("none", "/tmp", "tmpfs", 0, "")); }
static int try_umount(void) { return status_of(umount2("/dev/shm", MNT_DETACH)); }
static int try_remount_root(void) { return status_of(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL)); }
static int try_pivot_root(void) { int rc = status_of(syscall(SYS_pivot_root, "/", "/")); return rc == EBUSY || rc == EINVAL ? 0 : rc; }
static int try_chroot(void) { return status_of(chroot("/tmp")); }
static int try_unshare_user(void) { return status_of(unshare(CLONE_NEWUSER)); }
static int try_unshare_mount(void) { return status_of(unshare(CLONE_NEWNS)); }
static int try_unshare_net(void) { return status_of(unshare(CLONE_NEWNET)); }

static int try_clone_user(void)
{
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    return status_of(pid);
}

static int try_clone3_user(void)
{
    struct { uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls; } args = {
        .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0)
        _exit(0);
    return status_of(pid);
}

static int try_setns(void)
{
    int fd = open("/proc/self/ns/uts", O_RDONLY);
    return fd < 0 ? errno : status_of(setns(fd, 0));
}

static pid_t sleeper(void)
{
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    return child;
}

static int with_child(int (*fn)(pid_t child))
{
    pid_t child = sleeper();
    if (child < 0)
        return errno;
    int rc = fn(child);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return rc;
}

static int do_ptrace(pid_t child) { return status_of(ptrace(PTRACE_ATTACH, child, NULL, NULL)); }
static int try_ptrace(void) { return with_child(do_ptrace); }

static int do_vm_readv(pid_t child)
{
    static char here[8];
    struct iovec mine = {here, sizeof here}, theirs = {here, sizeof here};
    return status_of(process_vm_readv(child, &mine, 1, &theirs, 1, 0));
}
static int try_process_vm_readv(void) { return with_child(do_vm_readv); }

static int do_pidfd_getfd(pid_t child)
{
    int fd = (int)syscall(SYS_pidfd_open, child, 0);
    return fd < 0 ? errno : status_of(syscall(438 /* pidfd_getfd */, fd, 1, 0));
}
static int try_pidfd_getfd(void) { return with_child(do_pidfd_getfd); }
static int do_kcmp(pid_t child) { return status_of(syscall(SYS_kcmp, getpid(), child, 1 /* the memory */, 0, 0)); }
static int try_kcmp(void) { return with_child(do_kcmp); }

static int try_keyctl(void) { return status_of(syscall(SYS_keyctl, 0, -3 /* session */, 1)); }
static int try_add_key(void) { return status_of(syscall(SYS_add_key, "user", "breakout", "x", 1, -2 /* process */)); }

static int try_bpf(void)
{
    union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    return status_of(syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof attr));
}

static int try_perf_event_open(void)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE, .size = sizeof attr, .config = PERF_COUNT_SW_CPU_CLOCK};
    return status_of(syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0));
}

static int try_io_uring(void)
{
    uint32_t parameters[64] = {0};
    return status_of(syscall(425 /* io_uring_setup */, 1, parameters));
}

static int try_userfaultfd(void) { return status_of(syscall(SYS_userfaultfd, 0)); }
static int try_fanotify(void) { return status_of(syscall(SYS_fanotify_init, 0, O_RDONLY)); }
static int try_modify_ldt(void) { char bytes[64]; return status_of(syscall(SYS_modify_ldt, 0, bytes, sizeof bytes)); }
static int try_personality(void) { return status_of(personality(ADDR_NO_RANDOMIZE)); }

static int try_vmsplice(void)
{
    int fds[2];
    struct iovec v = {fds, sizeof fds};
    return pipe(fds) < 0 ? errno : status_of(vmsplice(fds[1], &v, 1, 0));
}

static int try_name_to_handle(void)
{
    char room[sizeof(struct file_handle) + 128] = {0};
    struct file_handle *h = (struct file_handle *)(void *)room;
    int mount_id;
    h->handle_bytes = 128;
    return status_of(name_to_handle_at(AT_FDCWD, "/proc/self/mounts", h, &mount_id, 0)) == EPERM ? EPERM : 0;
}

static int try_mknod(void)
{
    int rc = status_of(mknod("/tmp/null", S_IFCHR | 0600, makedev(1, 3)));
    unlink("/tmp/null");
    return rc;
}

static int read_some(const char *path)
{
    static char bytes[8192];
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    if (fd < 0)
        return errno;
    ssize_t n = read(fd, bytes, sizeof bytes);
    int rc = n < 0 ? errno : n == 0 ? ENODATA : 0;
    close(fd);
    return rc;
}

static int try_kcore(void) { return read_some("/proc/kcore"); }
static int try_dev_mem(void) { return read_some("/dev/mem"); }
static int try_kmsg(void) { return read_some("/dev/kmsg"); }
static int try_syslog(void) { char b[16]; return status_of(syscall(SYS_syslog, 3, b, sizeof b)); }
static int try_sysctl(void)
{
    int fd = open("/proc/sys/kernel/core_pattern", O_WRONLY);
    return fd < 0 ? errno : 0;
}
static int try_sysrq(void) { int fd = open("/proc/sysrq-trigger", O_WRONLY); return fd < 0 ? errno : 0; }
static int try_cgroup_write(void)
{
    const char *group = access("/sys/fs/cgroup/cgroup.procs", F_OK) == 0 ? "/sys/fs/cgroup/x" : "/sys/fs/cgroup/pids/x";
    int rc = status_of(mkdir(group, 0700));
    rmdir(group);
    return rc;
}

static int try_disk(void)
{
    DIR *d = opendir("/dev");
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_type == DT_BLK && strncmp(e->d_name, "loop", 4)) {
            char path[300];
            snprintf(path, sizeof path, "/dev/%s", e->d_name);
            return read_some(path);
        }
    return ENOENT;
}

static int try_clock(void)
{
    struct timeval now;
    gettimeofday(&now, NULL);
    return status_of(syscall(SYS_settimeofday, &now, NULL));
}

static int try_hostname(void) { return status_of(sethostname("broken", 6)); }
static int try_module(void) { int rc = status_of(syscall(SYS_init_module, "", 0, "")); return rc == ENOEXEC || rc == EINVAL ? 0 : rc; }
static int try_swapon(void) { int rc = status_of(syscall(SYS_swapon, "/etc/passwd", 0)); return rc == EINVAL ? 0 : rc; }
static int try_iopl(void) { return status_of(syscall(SYS_iopl, 3)); }
static int try_nice(void) { errno = 0; int rc = nice(-5); return rc == -1 && errno ? errno : 0; }

static int socket_of(int family, int type, int protocol)
{
    int fd = socket(family, type, protocol);
    int rc = status_of(fd);
    if (fd >= 0)
        close(fd);
    return rc;
}
static int try_raw_socket(void) { return socket_of(AF_INET, SOCK_RAW, 1); }
static int try_packet_socket(void) { return socket_of(AF_PACKET, SOCK_RAW, 0); }
static int try_alg_socket(void) { return socket_of(AF_ALG, SOCK_SEQPACKET, 0); }
static int try_vsock(void) { return socket_of(AF_VSOCK, SOCK_STREAM, 0); }

static int try_docker_socket(void)
{
    const char *const paths[] = DOCKER_SOCKETS;
    int rc = ENOENT;
    for (size_t i = 0; i < sizeof paths / sizeof *paths && rc; i++) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        snprintf(a.sun_path, sizeof a.sun_path, "%s", paths[i]);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        rc = status_of(connect(fd, (struct sockaddr *)&a, sizeof a));
        close(fd);
    }
    return rc;
}

/* Process 1 is the container's own, or else the host's can be seen. */
static int try_see_processes(void)
{
    char text[64] = "";
    int fd = open("/proc/1/comm", O_RDONLY);
    if (fd >= 0 && read(fd, text, sizeof text - 1) > 0)
        close(fd);
    return strncmp(text, "breakout", 8) && strncmp(text, "sh", 2) ? 0 : ESRCH;
}

/* Calls of the 32-bit kind pass by filters that only know the others. */
static int try_call_32(void)
{
    pid_t child = fork();
    if (child == 0) {
        long rc;
        __asm__ volatile("int $0x80" : "=a"(rc) : "a"(20 /* getpid */) : "memory", "r8", "r9", "r10", "r11");
        _exit(rc > 0 ? 0 : 2);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : EPERM;
}

static int try_forks(void)
{
    static pid_t children[FORKS];
    int n = 0, rc = 0;
    while (n < FORKS && rc == 0) {
        children[n] = sleeper();
        rc = status_of(children[n]);
        n += rc == 0;
    }
    for (int i = 0; i < n; i++)
        kill(children[i], SIGKILL);
    for (int i = 0; i < n; i++)
        waitpid(children[i], NULL, 0);
    return rc;
}

static int try_fill_tmp(void)
{
    static char piece[1 << 20];
    int fd = open("/tmp/filled", O_WRONLY | O_CREAT, 0600), rc = fd < 0 ? errno : 0;
    for (int i = 0; i < TMP_MB && !rc; i++)
        rc = write(fd, piece, sizeof piece) == (ssize_t)sizeof piece ? 0 : errno ? errno : ENOSPC;
    unlink("/tmp/filled");
    return rc;
}

static const struct attempt { const char *name; int (*run)(void); } attempts[] = {
#define ATTEMPT(name) {#name, try_##name}
    ATTEMPT(write_root), ATTEMPT(write_etc), ATTEMPT(write_bin), ATTEMPT(be_root), ATTEMPT(setuid), ATTEMPT(setuid_program),
    ATTEMPT(capability), ATTEMPT(capability_admin), ATTEMPT(chown), ATTEMPT(mount), ATTEMPT(umount), ATTEMPT(remount_root),
    ATTEMPT(pivot_root), ATTEMPT(chroot), ATTEMPT(unshare_user), ATTEMPT(unshare_mount), ATTEMPT(unshare_net),
    ATTEMPT(clone_user), ATTEMPT(clone3_user), ATTEMPT(setns), ATTEMPT(ptrace), ATTEMPT(process_vm_readv),
    ATTEMPT(pidfd_getfd), ATTEMPT(kcmp), ATTEMPT(keyctl), ATTEMPT(add_key), ATTEMPT(bpf), ATTEMPT(perf_event_open),
    ATTEMPT(io_uring), ATTEMPT(userfaultfd), ATTEMPT(fanotify), ATTEMPT(modify_ldt), ATTEMPT(personality),
    ATTEMPT(vmsplice), ATTEMPT(name_to_handle), ATTEMPT(mknod), ATTEMPT(kcore), ATTEMPT(dev_mem), ATTEMPT(kmsg),
    ATTEMPT(syslog), ATTEMPT(sysctl), ATTEMPT(sysrq), ATTEMPT(cgroup_write), ATTEMPT(disk), ATTEMPT(clock),
    ATTEMPT(hostname), ATTEMPT(module), ATTEMPT(swapon), ATTEMPT(iopl), ATTEMPT(nice), ATTEMPT(raw_socket),
    ATTEMPT(packet_socket), ATTEMPT(alg_socket), ATTEMPT(vsock), ATTEMPT(docker_socket), ATTEMPT(see_processes),
    ATTEMPT(call_32), ATTEMPT(forks), ATTEMPT(fill_tmp),
};

/* Each in a process of its own: a success must not help the next one. */
static void attempt_run(const struct attempt *a)
{
    pid_t child = fork();
    if (child == 0)
        _exit(a->run() & 0xff);
    int status;
    if (child < 0 || waitpid(child, &status, 0) < 0)
        printf("%s lost\n", a->name);
    else if (WIFSIGNALED(status))
        printf("%s refused: %s\n", a->name, strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status))
        printf("%s refused: %s\n", a->name, strerror(WEXITSTATUS(status)));
    else
        printf("%s done\n", a->name);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--euid"))
        return geteuid() == 0 ? 0 : 1;
    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
        bool wanted = argc == 1;
        for (int k = 1; k < argc; k++)
            wanted = wanted || !strcmp(argv[k], attempts[i].name);
        if (wanted)
            attempt_run(&attempts[i]);
    }
    return 0;
}
