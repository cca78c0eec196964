#include "consensus/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"

struct disk_directory {
    struct disk disk;
    int fd;
    char *path;
};

static struct disk_directory *directory_of(struct disk *disk)
{
    return container_of(disk, struct disk_directory, disk);
}

static int directory_open(struct disk *disk, const char *name, bool create)
{
    int fd = openat(directory_of(disk)->fd, name, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600);
    return fd < 0 ? -errno : fd;
}

static void directory_close(struct disk *disk, int file)
{
    close(file);
}

static int directory_size(struct disk *disk, int file, uint64_t *bytes)
{
    struct stat st;
    if (fstat(file, &st) < 0)
        return -errno;
    *bytes = (uint64_t)st.st_size;
    return 0;
}

static int directory_read(struct disk *disk, int file, void *p, size_t len, uint64_t offset)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(file, (char *)p + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        done += (size_t)n;
    }
    return 0;
}

static int directory_write(struct disk *disk, int file, const void *p, size_t len, uint64_t offset)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(file, (const char *)p + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        done += (size_t)n;
    }
    return 0;
}

static int directory_allocate(struct disk *disk, int file, uint64_t bytes)
{
    int e;
    do
        e = posix_fallocate(file, 0, (off_t)bytes);
    while (e == EINTR);
    return -e;
}

static int directory_sync(struct disk *disk, int file)
{
    return fdatasync(file) < 0 ? -errno : 0;
}

static int directory_rename(struct disk *disk, const char *from, const char *to)
{
    int fd = directory_of(disk)->fd;
    return renameat(fd, from, fd, to) < 0 ? -errno : 0;
}

static int directory_unlink(struct disk *disk, const char *name)
{
    return unlinkat(directory_of(disk)->fd, name, 0) < 0 ? -errno : 0;
}

static int directory_list(struct disk *disk, void (*each)(void *ctx, const char *name), void *ctx)
{
    /* A second description: readdir moves the offset, which the locked one would share. */
    int fd = openat(directory_of(disk)->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        int e = errno;
        close(fd);
        return -e;
    }
    struct dirent *entry;
    errno = 0;
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.' && strlen(entry->d_name) < DISK_NAME_SIZE)
            each(ctx, entry->d_name);
    int e = errno;
    closedir(dir);
    return -e;
}

static int directory_sync_directory(struct disk *disk)
{
    return fsync(directory_of(disk)->fd) < 0 ? -errno : 0;
}

static int directory_free_bytes(struct disk *disk, uint64_t *bytes)
{
    struct statvfs st;
    if (fstatvfs(directory_of(disk)->fd, &st) < 0)
        return -errno;
    *bytes = (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}

static void directory_free(struct disk *disk)
{
    struct disk_directory *d = directory_of(disk);
    close(d->fd);
    free(d->path);
    free(d);
}

static const struct disk_operations directory_operations = {
    .open = directory_open,
    .close = directory_close,
    .size = directory_size,
    .read = directory_read,
    .write = directory_write,
    .allocate = directory_allocate,
    .sync = directory_sync,
    .rename = directory_rename,
    .unlink = directory_unlink,
    .list = directory_list,
    .sync_directory = directory_sync_directory,
    .free_bytes = directory_free_bytes,
    .free = directory_free,
};

/* The new folders' own names are durable too, where we may read their parents. */
static void sync_parents(int fd)
{
    struct stat here, above;
    int at = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fstat(fd, &here) < 0)
        here.st_ino = 0;
    while (at >= 0 && fstat(at, &above) == 0 && (above.st_ino != here.st_ino || above.st_dev != here.st_dev)) {
        fsync(at);
        here = above;
        int next = openat(at, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = next;
    }
    if (at >= 0)
        close(at);
}

int disk_open_directory(struct disk **out, const char *path, struct error *err)
{
    if (dir_make(path, 0700, err) < 0)
        return -1;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "cannot open %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int e = errno;
        close(fd);
        if (e == EWOULDBLOCK)
            return error_set(err, ERROR_CONFLICT, "%s is in use by another server process", path);
        return error_set_errno(err, e, "cannot lock %s", path);
    }
    sync_parents(fd);
    struct disk_directory *d = NEW(struct disk_directory);
    d->fd = fd;
    d->path = mem_strdup(path);
    d->disk = (struct disk){.op = &directory_operations, .place = d->path};
    *out = &d->disk;
    return 0;
}

int disk_read_file(struct disk *disk, const char *name, uint64_t limit, uint8_t **bytes, size_t *len)
{
    int file = disk->op->open(disk, name, false);
    if (file < 0)
        return file;
    uint64_t size;
    int rv = disk->op->size(disk, file, &size);
    if (rv == 0 && size > limit)
        rv = -EFBIG;
    CLEANUP_FREE uint8_t *p = NULL;
    if (rv == 0) {
        p = mem_alloc(size + 1);
        rv = disk->op->read(disk, file, p, size, 0);
    }
    disk->op->close(disk, file);
    if (rv < 0)
        return rv;
    *bytes = steal(&p);
    *len = size;
    return 0;
}

static int write_pieces(struct disk *disk, const char *name, const struct disk_piece *pieces, size_t n)
{
    int file = disk->op->open(disk, name, true);
    if (file < 0)
        return file;
    uint64_t offset = 0;
    int rv = 0;
    for (size_t i = 0; i < n && rv == 0; i++) {
        rv = disk->op->write(disk, file, pieces[i].bytes, pieces[i].len, offset);
        offset += pieces[i].len;
    }
    if (rv == 0)
        rv = disk->op->sync(disk, file);
    disk->op->close(disk, file);
    return rv;
}

int disk_write_file(struct disk *disk, const char *name, const struct disk_piece *pieces, size_t n)
{
    char temporary[DISK_NAME_SIZE + 8];
    snprintf(temporary, sizeof temporary, "%s.new", name);
    /* A longer leftover of an earlier attempt would show behind the new content. */
    int rv = disk->op->unlink(disk, temporary);
    if (rv < 0 && rv != -ENOENT)
        return rv;
    rv = write_pieces(disk, temporary, pieces, n);
    if (rv == 0)
        rv = disk->op->rename(disk, temporary, name);
    if (rv == 0)
        rv = disk->op->sync_directory(disk);
    else
        disk->op->unlink(disk, temporary);   /* gives its space back; a leftover does no harm */
    return rv;
}

int disk_refuse(const struct disk *disk, struct error *err, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return error_set(err, ERROR_CORRUPT, "%s: %s. The server does not go on, since it would forget what it promised. If other "
                     "servers are left, `mt cluster remove` it there, empty the directory and let it join again; else begin "
                     "with an empty one and `mt snapshot restore`", disk->place, text);
}
