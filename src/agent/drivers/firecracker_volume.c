#include "agent/drivers/firecracker_volume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/tool.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#define LABEL_MAX 16
#define TOOL_TIMEOUT_MS 600000
/* e2fsck: 1 repaired, 2 repaired and a mounted system would need a restart. */
#define FSCK_GOOD (1u << 1 | 1u << 2)

static int64_t megabytes(int64_t mb)
{
    return mb << 20;
}

int volume_make(const char *path, int64_t size_mb, const char *label, struct error *err)
{
    CLEANUP_FREE char *fresh = mem_printf("%s.new", path);
    char name[LABEL_MAX + 1];
    snprintf(name, sizeof name, "%s", label);
    unlink(fresh);
    int fd = open(fresh, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(err, errno, "cannot make %s", fresh);
    int result = ftruncate(fd, megabytes(size_mb)) < 0 ? error_set_errno(err, errno, "cannot make %s", fresh) : 0;
    const char *const argv[] = {"mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1",
                                "-L", name, fresh, NULL};
    if (result == 0)
        result = tool_run(&(struct tool){.argv = argv, .timeout_ms = TOOL_TIMEOUT_MS}, NULL, err);
    if (result == 0 && (fsync(fd) < 0 || rename(fresh, path) < 0))
        result = error_set_errno(err, errno, "cannot make %s", path);
    close(fd);
    if (result < 0)
        unlink(fresh);
    return result;
}

/* Without `whole`, a file system that says of itself that it is good is believed. */
static int check(const char *path, bool whole, struct error *err)
{
    const char *const argv[] = {"e2fsck", "-p", path, whole ? "-f" : NULL, NULL};
    int code;
    if (tool_run(&(struct tool){.argv = argv, .timeout_ms = TOOL_TIMEOUT_MS, .good = FSCK_GOOD}, &code, err) < 0)
        return error_context(err, "volume %s is damaged beyond what can be repaired without being asked", path);
    if (code)
        LOG_W("a volume was repaired", "image", path);
    return 0;
}

static int grow(const char *path, int fd, int64_t size_mb, struct error *err)
{
    const char *const argv[] = {"resize2fs", path, NULL};
    if (ftruncate(fd, megabytes(size_mb)) < 0)
        return error_set_errno(err, errno, "cannot let %s grow", path);
    if (check(path, true, err) < 0)
        return -1;
    LOG_I("a volume grows", "image", path, "size_mb", LOG_I64(size_mb));
    return tool_run(&(struct tool){.argv = argv, .timeout_ms = TOOL_TIMEOUT_MS}, NULL, err);
}

/* Backups may read it. */
static bool is_written(long pid, const char *fd)
{
    CLEANUP_FREE char *path = mem_printf("/proc/%ld/fdinfo/%s", pid, fd);
    CLEANUP_BUF struct buf text = {0};
    unsigned flags = 0;
    return file_read(path, 65536, &text, NULL) == 0 && sscanf(text.data, "pos: %*d flags: %o", &flags) == 1
        && (flags & O_ACCMODE) != O_RDONLY;
}

/* A process that has the image open to write, 0: none that this user can see into. The locks of shims end with them, and a
 * monitor that outlived its shim in a jail has none. */
static long image_user(const struct stat *image)
{
    DIR *all = opendir("/proc");
    long user = 0;
    for (struct dirent *e; all && !user && (e = readdir(all));) {
        long pid = strtol(e->d_name, NULL, 10);
        CLEANUP_FREE char *path = mem_printf("/proc/%ld/fd", pid);
        DIR *open_files = pid > 0 ? opendir(path) : NULL;
        for (struct dirent *f; open_files && !user && (f = readdir(open_files));) {
            struct stat st;
            if (fstatat(dirfd(open_files), f->d_name, &st, 0) == 0 && st.st_ino == image->st_ino && st.st_dev == image->st_dev
                && is_written(pid, f->d_name))
                user = pid;
        }
        if (open_files)
            closedir(open_files);
    }
    if (all)
        closedir(all);
    return user;
}

static int check_unused(const char *path, struct error *err)
{
    struct stat st;
    long user = stat(path, &st) == 0 ? image_user(&st) : 0;
    return user ? error_set(err, ERROR_CONFLICT, "the volume %s is in use: process %ld writes to it", path, user) : 0;
}

static int lock(int fd, const char *path, struct error *err)
{
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    return errno == EWOULDBLOCK
        ? error_set(err, ERROR_CONFLICT, "the volume %s is in use by another microVM of this node", path)
        : error_set_errno(err, errno, "cannot lock the volume %s", path);
}

int volume_ready(const char *path, int64_t size_mb, const char *label, struct error *err)
{
    /* Looked at before it is opened here: a tool that is being started elsewhere in the agent would have it open too. */
    if (check_unused(path, err) < 0)
        return -1;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return volume_make(path, size_mb ? size_mb : VOLUME_MB_DEFAULT, label, err);
    if (fd < 0)
        return error_set_errno(err, errno, "cannot open the volume %s", path);
    struct stat st;
    int result = lock(fd, path, err);
    if (result == 0 && fstat(fd, &st) < 0)
        result = error_set_errno(err, errno, "cannot read %s", path);
    if (result == 0 && (check(path, false, err) < 0 || (st.st_size < megabytes(size_mb) && grow(path, fd, size_mb, err) < 0)))
        result = -1;
    close(fd);
    return result;
}

int volume_unlink(const char *path, struct error *err)
{
    if (check_unused(path, err) < 0)
        return -1;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int result = fd < 0 ? error_set_errno(err, errno, "cannot open the volume %s", path) : lock(fd, path, err);
    if (result == 0 && unlink(path) < 0)
        result = error_set_errno(err, errno, "cannot delete the volume %s", path);
    if (fd >= 0)
        close(fd);
    return result;
}
