#include "guest/init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DRIVE_DEVICE "/dev/vda"      /* Firecracker numbers drives in the order in which they were added */
#define DEVICE_PATIENCE_MS 5000      /* the kernel finds its devices before it starts us; modules take a moment longer */
#define MODULE_LIST "/modules/order"

int why_set(char *why, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, WHY_SIZE, fmt, ap);
    va_end(ap);
    return -1;
}

int why_errno(char *why, const char *fmt, ...)
{
    int error = errno;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(why, WHY_SIZE, fmt, ap);
    va_end(ap);
    if (n >= 0 && n < WHY_SIZE)
        snprintf(why + n, WHY_SIZE - (size_t)n, ": %s", strerror(error));
    return -1;
}

/* --- the kernel's own file systems, modules --- */

static int module_load(const char *name, char *why)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "/modules/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return why_errno(why, "kernel module %s", name);
    int result = syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST ? why_errno(why, "kernel module %s", name) : 0;
    close(fd);
    return result;
}

static int modules_load(char *why)
{
    FILE *list = fopen(MODULE_LIST, "re");
    if (!list)
        return errno == ENOENT ? 0 : why_errno(why, MODULE_LIST);
    char name[NAME_MAX + 2];
    int result = 0;
    while (result == 0 && fgets(name, sizeof name, list)) {
        name[strcspn(name, "\n")] = 0;
        if (*name)
            result = module_load(name, why);
        /* The memory of the initial file system is the guest's own. */
        char path[PATH_MAX];
        snprintf(path, sizeof path, "/modules/%s", name);
        unlink(path);
    }
    fclose(list);
    return result;
}

int boot_begin(char *why)
{
    mkdir("/dev", 0755);
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    if (mount("dev", "/dev", "devtmpfs", MS_NOSUID, NULL) < 0 && errno != EBUSY)
        return why_errno(why, "cannot mount /dev");
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return why_errno(why, "cannot mount /proc");
    if (mount("sys", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return why_errno(why, "cannot mount /sys");
    return modules_load(why);
}

/* --- the config drive --- */

static int device_open(const char *path)
{
    int64_t end = now_ms() + DEVICE_PATIENCE_MS;
    for (;;) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 || errno != ENOENT || now_ms() >= end)
            return fd;
        usleep(1000);
    }
}

int boot_drive(struct drive *d, char *why)
{
    int fd = device_open(DRIVE_DEVICE);
    if (fd < 0)
        return why_errno(why, "config drive " DRIVE_DEVICE);
    off_t size = lseek(fd, 0, SEEK_END);
    if (size <= 0 || size > DRIVE_MAX) {
        close(fd);
        return why_set(why, "config drive: its size is %lld", (long long)size);
    }
    uint8_t *bytes = malloc((size_t)size);
    size_t n = 0;
    for (ssize_t got = 1; bytes && got > 0 && n < (size_t)size; n += got > 0 ? (size_t)got : 0)
        got = pread(fd, bytes + n, (size_t)size - n, (off_t)n);
    close(fd);
    const char *wrong = n == (size_t)size ? drive_decode(bytes, n, d) : "it cannot be read";
    return wrong ? why_set(why, "config drive: %s", wrong) : 0;
}

/* --- the root --- */

int directories_make(const char *path, char *why)
{
    char part[PATH_MAX];
    snprintf(part, sizeof part, "%s", path);
    for (char *p = part + 1;; p++) {
        if (*p && *p != '/')
            continue;
        char kept = *p;
        *p = 0;
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return why_errno(why, "cannot make the directory %s", part);
        *p = kept;
        if (!kept)
            return 0;
    }
}

/* What an image's file system is written over with. */
static int overlay_mount(const struct drive *d, char *why)
{
    char options[32] = "";
    if (d->overlay_mb)
        snprintf(options, sizeof options, "size=%um", d->overlay_mb);
    int rc = d->overlay_device ? mount(d->overlay_device, "/over", "ext4", MS_NOATIME, NULL)
                               : mount("over", "/over", "tmpfs", MS_NOATIME, options);
    if (rc < 0)
        return why_errno(why, "cannot mount %s to write to", d->overlay_device ? d->overlay_device : "memory");
    mkdir("/over/upper", 0755);
    mkdir("/over/work", 0755);
    if (mount("root", "/root", "overlay", MS_NOATIME, "lowerdir=/image,upperdir=/over/upper,workdir=/over/work") < 0)
        return why_errno(why, "cannot lay a writable file system over the image");
    return 0;
}

static int move_into_root(const char *from, char *why)
{
    char to[64];
    snprintf(to, sizeof to, "/root%s", from);
    if (mkdir(to, 0755) < 0 && errno != EEXIST)
        return why_errno(why, "cannot make %s in the image", from);
    return mount(from, to, NULL, MS_MOVE, NULL) < 0 ? why_errno(why, "cannot move %s into the image", from) : 0;
}

/* What programs expect and images leave out; that one of them cannot be had keeps no service from running. */
static void furnish(void)
{
    static const struct { const char *path, *type, *options; mode_t mode; unsigned long flags; } mounts[] = {
        {"/dev/pts", "devpts", "mode=0620,gid=5,ptmxmode=0666", 0755, MS_NOSUID | MS_NOEXEC},
        {"/dev/shm", "tmpfs", "mode=1777", 01777, MS_NOSUID | MS_NODEV},
        {"/run", "tmpfs", "mode=0755", 0755, MS_NOSUID | MS_NODEV},
        {"/sys/fs/cgroup", "cgroup2", NULL, 0755, MS_NOSUID | MS_NODEV | MS_NOEXEC},
    };
    for (size_t i = 0; i < sizeof mounts / sizeof *mounts; i++) {
        mkdir(mounts[i].path, mounts[i].mode);
        mount(mounts[i].type, mounts[i].path, mounts[i].type, mounts[i].flags, mounts[i].options);
    }
    static const char *const links[][2] = {
        {"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"},
        {"/proc/self/fd/2", "/dev/stderr"},
    };
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
            break;
    mkdir("/etc", 0755);
    if (mkdir("/tmp", 01777) == 0)
        chmod("/tmp", 01777);
    chmod("/dev/ptmx", 0666);
}

static int volume_mount(const struct drive_volume *v, char *why)
{
    int fd = device_open(v->device);
    if (fd >= 0)
        close(fd);
    if (directories_make(v->target, why) < 0)
        return -1;
    if (mount(v->device, v->target, "ext4", MS_NOATIME | MS_NODEV | (v->read_only ? MS_RDONLY : 0), NULL) < 0)
        return why_errno(why, "cannot mount the volume at %s", v->target);
    return 0;
}

int boot_root(const struct drive *d, char *why)
{
    mkdir("/image", 0755);
    mkdir("/over", 0755);
    mkdir("/root", 0755);
    int fd = device_open(d->root_device);
    if (fd >= 0)
        close(fd);
    if (mount(d->root_device, "/image", d->root_type, MS_RDONLY | MS_NOATIME, NULL) < 0)
        return why_errno(why, "cannot mount the image, a %s file system", d->root_type);
    if (overlay_mount(d, why) < 0 || move_into_root("/dev", why) < 0 || move_into_root("/proc", why) < 0
        || move_into_root("/sys", why) < 0)
        return -1;
    unlink("/init");
    if (chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
        return why_errno(why, "cannot make the image the root");
    furnish();
    for (size_t i = 0; i < d->volumes.n; i++)
        if (volume_mount(&d->volumes.v[i], why) < 0)
            return -1;
    return 0;
}

/* --- the service's control group --- */

#define CGROUP "/sys/fs/cgroup"
#define SERVICE_GROUP CGROUP "/service"
#define FREEZE_MS 3000               /* the host waits 5 s for HELD */

static bool grouped;

static int file_put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int result = write(fd, text, strlen(text)) < 0 ? -1 : 0;
    close(fd);
    return result;
}

int boot_limits(const struct drive *d, char *why)
{
    char text[16];
    snprintf(text, sizeof text, "%u", d->pids);
    grouped = mkdir(SERVICE_GROUP, 0755) == 0;
    if (d->pids && (!grouped || file_put(CGROUP "/cgroup.subtree_control", "+pids") < 0
                    || file_put(SERVICE_GROUP "/pids.max", text) < 0))
        return why_errno(why, "this kernel cannot limit processes (CONFIG_CGROUP_PIDS): take resources.pids out");
    return 0;
}

int limits_enter(void)
{
    return grouped ? file_put(SERVICE_GROUP "/cgroup.procs", "0") : 0;
}

/* Reading it arms poll for its next change. */
static bool events_say_frozen(int fd)
{
    char text[128];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    return strstr(text, "frozen 1") != NULL;
}

bool service_freeze(void)
{
    int fd = grouped ? open(SERVICE_GROUP "/cgroup.events", O_RDONLY | O_CLOEXEC) : -1;
    bool asked = fd >= 0 && file_put(SERVICE_GROUP "/cgroup.freeze", "1") == 0, frozen = false;
    int64_t end = now_ms() + FREEZE_MS;
    for (int64_t left = FREEZE_MS; asked && !(frozen = events_say_frozen(fd)) && left > 0; left = end - now_ms())
        poll(&(struct pollfd){.fd = fd, .events = POLLPRI}, 1, (int)left);
    if (fd >= 0)
        close(fd);
    if (asked && !frozen)
        service_thaw();
    return frozen;
}

void service_thaw(void)
{
    file_put(SERVICE_GROUP "/cgroup.freeze", "0");
}

/* --- volumes --- */

/* As mke2fs leaves it: of root, with nothing but lost+found. */
static bool volume_is_new(const char *path)
{
    struct stat st;
    DIR *dir = stat(path, &st) == 0 && st.st_uid == 0 && st.st_gid == 0 ? opendir(path) : NULL;
    bool empty = dir != NULL;
    for (struct dirent *e; empty && (e = readdir(dir));)
        empty = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || !strcmp(e->d_name, "lost+found");
    if (dir)
        closedir(dir);
    return empty;
}

void boot_volumes_give(const struct drive *d, const struct process_user *user)
{
    for (size_t i = 0; i < d->volumes.n; i++) {
        const struct drive_volume *v = &d->volumes.v[i];
        if (!v->read_only && user->uid && volume_is_new(v->target) && chown(v->target, user->uid, user->gid) < 0)
            continue;                /* the program will say what it cannot do */
    }
}

void boot_end(const struct drive *d)
{
    for (size_t i = d->volumes.n; i-- > 0;)
        if (umount2(d->volumes.v[i].target, 0) < 0)
            mount(NULL, d->volumes.v[i].target, NULL, MS_REMOUNT | MS_RDONLY, NULL);
    sync();
}
