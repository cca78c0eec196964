#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

int file_read(const char *path, size_t limit, struct buf *out, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "%s", path);
    buf_clear(out);
    int rc = 0;
    for (;;) {
        buf_reserve(out, 4096);
        ssize_t n = read(fd, out->data + out->len, out->cap - out->len - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            rc = error_set_errno(err, errno, "%s", path);
            break;
        }
        out->len += (size_t)n;
        out->data[out->len] = '\0';
        if (out->len > limit) {
            rc = error_set(err, ERROR_TOO_LARGE, "%s: larger than %zu bytes", path, limit);
            break;
        }
        if (!n)
            break;
    }
    close(fd);
    return rc;
}

static int sync_parent(const char *path)
{
    CLEANUP_FREE char *dir = mem_strdup(path);
    char *slash = strrchr(dir, '/');
    if (slash)
        *(slash == dir ? slash + 1 : slash) = '\0';
    int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = fsync(fd);
    close(fd);
    return rc;
}

static int write_all(int fd, const char *at, size_t n)
{
    while (n) {
        ssize_t put = write(fd, at, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -1;
        at += put;
        n -= (size_t)put;
    }
    return 0;
}

int file_put(const char *path, const void *p, size_t n, int mode, struct error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    int rc = fd < 0 || write_all(fd, p, n) < 0 ? error_set_errno(err, errno, "cannot write %s", path) : 0;
    if (fd >= 0)
        close(fd);
    return rc;
}

int file_write(const char *path, const void *p, size_t n, int mode, struct error *err)
{
    CLEANUP_FREE char *temporary = mem_printf("%s.new", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0)
        return error_set_errno(err, errno, "%s", temporary);
    if (write_all(fd, p, n) < 0 || fsync(fd) < 0)
        goto fail;
    close(fd);
    fd = -1;
    if (rename(temporary, path) < 0)
        goto fail;
    if (sync_parent(path) < 0)
        return error_set_errno(err, errno, "%s", path);
    return 0;
fail:
    error_set_errno(err, errno, "%s", path);
    if (fd >= 0)
        close(fd);
    unlink(temporary);
    return -1;
}

int dir_make(const char *path, int mode, struct error *err)
{
    CLEANUP_FREE char *dir = mem_strdup(path);
    for (char *p = dir + 1;; p++) {
        if (*p && *p != '/')
            continue;
        char c = *p;
        *p = '\0';
        if (mkdir(dir, (mode_t)mode) < 0 && errno != EEXIST)
            return error_set_errno(err, errno, "%s", dir);
        if (!c)
            break;
        *p = c;
    }
    struct stat st;
    if (stat(path, &st) < 0)
        return error_set_errno(err, errno, "%s", path);
    if (!S_ISDIR(st.st_mode))
        return error_set(err, ERROR_INVALID, "%s: exists and is not a directory", path);
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    remove(path);
    return 0;
}

int dir_left_mb(const char *path, int64_t *mb, struct error *err)
{
    struct statvfs st;
    if (statvfs(path, &st) < 0)
        return error_set_errno(err, errno, "%s", path);
    *mb = (int64_t)(st.f_bavail * st.f_frsize >> 20);
    return 0;
}

void dir_remove(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}
