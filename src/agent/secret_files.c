#include "agent/secret_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

struct secret_files { char *root; };

static bool is_in_memory(const char *path)
{
    struct statfs st;
    return statfs(path, &st) == 0 && (st.f_type == TMPFS_MAGIC || st.f_type == RAMFS_MAGIC) && access(path, W_OK) == 0;
}

struct secret_files *secret_files_open(const char *base, const char *node_id)
{
    struct secret_files *f = NEW(struct secret_files);
    f->root = mem_printf("%s/mentat-secrets-%s", base ? base : is_in_memory("/run") ? "/run" : "/dev/shm", node_id);
    return f;
}

void secret_files_close(struct secret_files *f, bool all)
{
    if (all)
        dir_remove(f->root);
    free(f->root);
    free(f);
}

char *secret_files_dir(const struct secret_files *f, const char *alloc_id)
{
    return mem_printf("%s/%s", f->root, alloc_id);
}

/* Its parent may be open to all (/dev/shm): what somebody else made there is not used. */
static int make_root(const struct secret_files *f, struct error *err)
{
    struct stat st;
    if (mkdir(f->root, 0711) < 0 && errno != EEXIST)
        return error_set_errno(err, errno, "no directory for secrets: %s", f->root);
    if (lstat(f->root, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 022)
        return error_set(err, ERROR_DENIED, "%s is not a directory of the agent's own", f->root);
    if (!is_in_memory(f->root))
        return error_set(err, ERROR_UNSUPPORTED, "%s is not in memory: set secrets_dir to a directory on a tmpfs", f->root);
    return 0;
}

int secret_files_make(const struct secret_files *f, const char *alloc_id, struct error *err)
{
    CLEANUP_FREE char *dir = secret_files_dir(f, alloc_id);
    secret_files_remove(f, alloc_id);
    if (make_root(f, err) < 0)
        return -1;
    return mkdir(dir, 0700) < 0 ? error_set_errno(err, errno, "no directory for secrets: %s", dir) : 0;
}

static int write_new(int dir, const char *name, const void *p, size_t n)
{
    struct stat st;
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0400);
    int failed = fd < 0 || write(fd, p, n) != (ssize_t)n ? errno ? errno : ENOSPC : 0;
    if (!failed && fstat(dir, &st) == 0 && geteuid() == 0 && fchown(fd, st.st_uid, st.st_gid) < 0)
        failed = errno;
    if (fd >= 0)
        close(fd);
    return failed;
}

int secret_files_write(const struct secret_files *f, const char *alloc_id, const char *name, const void *p, size_t n,
                       struct error *err)
{
    CLEANUP_FREE char *path = secret_files_dir(f, alloc_id), *fresh = mem_printf(".%s.new", name);
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (dir < 0)
        return error_set_errno(err, errno, "%s", path);
    unlinkat(dir, fresh, 0);
    int failed = write_new(dir, fresh, p, n);
    if (!failed && renameat(dir, fresh, dir, name) < 0)
        failed = errno;
    if (failed)
        unlinkat(dir, fresh, 0);
    close(dir);
    return failed ? error_set_errno(err, failed, "%s/%s", path, name) : 0;
}

int secret_dir_give(const char *dir, uid_t uid, gid_t gid, struct error *err)
{
    int failed = 0;
    DIR *d = geteuid() == 0 ? opendir(dir) : NULL;
    if (geteuid() != 0)
        return 0;
    if (!d || fchown(dirfd(d), uid, gid) < 0)
        failed = errno;
    for (struct dirent *e; !failed && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") &&
            fchownat(dirfd(d), e->d_name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
            failed = errno;
    if (d)
        closedir(d);
    return failed ? error_set_errno(err, failed, "cannot give %s to the task's user", dir) : 0;
}

void secret_files_remove(const struct secret_files *f, const char *alloc_id)
{
    CLEANUP_FREE char *dir = secret_files_dir(f, alloc_id);
    dir_remove(dir);
}

void secret_files_each(const struct secret_files *f, void (*fn)(void *ctx, const char *alloc_id), void *ctx)
{
    DIR *d = opendir(f->root);
    for (struct dirent *e; d && (e = readdir(d));)
        if (*e->d_name != '.')
            fn(ctx, e->d_name);
    if (d)
        closedir(d);
}
