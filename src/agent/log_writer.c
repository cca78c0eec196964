#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/log_names.h"
#include "agent/logfile.h"

#define INDEX_EVERY_MS 100
#define MAX_BYTES_LEAST 4096

void log_writer_init(struct log_writer *w, const char *dir, enum log_stream stream, int64_t max_files, int64_t max_mb)
{
    *w = (struct log_writer){.dir_fd = -1, .fd = -1, .index_fd = -1, .stream = stream, .dir = dir};
    w->max_files = max_files < 1 ? 1 : max_files > 1000 ? 1000 : (uint32_t)max_files;
    w->max_bytes = max_mb < 1 ? 1 << 20 : (uint64_t)max_mb << 20;
}

static int file_open(struct log_writer *w, const char *suffix, uint64_t *size)
{
    char name[LOG_NAME_SIZE];
    struct stat st;
    log_name_format(name, w->stream, w->number, suffix);
    int fd = openat(w->dir_fd, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd >= 0 && fstat(fd, &st) == 0)
        *size = (uint64_t)st.st_size;
    return fd;
}

static int files_open(struct log_writer *w)
{
    w->fd = file_open(w, LOG_SUFFIX_DATA, &w->bytes);
    if (w->fd < 0)
        return -1;
    w->index_fd = file_open(w, LOG_SUFFIX_INDEX, &w->index_bytes);
    w->last_index_ms = 0;
    return w->index_fd < 0 ? -1 : 0;
}

static void files_close(struct log_writer *w)
{
    if (w->fd >= 0)
        close(w->fd);
    if (w->index_fd >= 0)
        close(w->index_fd);
    w->fd = w->index_fd = -1;
}

static int writer_open(struct log_writer *w)
{
    if (w->fd >= 0 && w->index_fd >= 0)
        return 0;
    files_close(w);
    if (w->dir_fd < 0) {
        if (mkdir(w->dir, 0750) < 0 && errno != EEXIST)
            return -1;
        w->dir_fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (w->dir_fd < 0)
            return -1;
        struct log_numbers numbers;
        if (log_numbers_find(w->dir, w->stream, &numbers) == 0 && numbers.n)
            w->number = numbers.last;
    }
    return files_open(w);
}

static void file_delete(struct log_writer *w, uint64_t number)
{
    char name[LOG_NAME_SIZE];
    log_name_format(name, w->stream, number, LOG_SUFFIX_INDEX);
    unlinkat(w->dir_fd, name, 0);
    log_name_format(name, w->stream, number, LOG_SUFFIX_DATA);
    unlinkat(w->dir_fd, name, 0);
}

/* The oldest goes first, so that the bound holds at every moment, and there is room on a full disk. */
static int writer_rotate(struct log_writer *w)
{
    if (w->number + 1 >= w->max_files)
        file_delete(w, w->number + 1 - w->max_files);
    files_close(w);
    w->number++;
    return files_open(w);
}

static int index_add(struct log_writer *w, int64_t now_ms)
{
    if (w->last_index_ms && now_ms - w->last_index_ms < INDEX_EVERY_MS && now_ms >= w->last_index_ms)
        return 0;
    struct log_index entry = {.time_ms = now_ms, .offset = w->bytes};
    ssize_t n = write(w->index_fd, &entry, sizeof entry);
    if (n != (ssize_t)sizeof entry) {
        if (n > 0 && ftruncate(w->index_fd, (off_t)w->index_bytes) < 0)
            w->error = errno;
        return -1;
    }
    w->index_bytes += sizeof entry;
    w->last_index_ms = now_ms;
    return 0;
}

/* How much of it belongs into the open file: all; up to the last line's end that has room; or, of a line longer than
 * a file, what fits. 0: the next file is due. */
static size_t room_for(const struct log_writer *w, const char *p, size_t n)
{
    uint64_t used = w->bytes + w->index_bytes + sizeof(struct log_index);
    uint64_t room = used < w->max_bytes ? w->max_bytes - used : 0;
    if (n <= room)
        return n;
    const char *end = room ? memrchr(p, '\n', room) : NULL;
    if (end)
        return (size_t)(end - p) + 1;
    return w->bytes ? 0 : room > MAX_BYTES_LEAST ? room : MAX_BYTES_LEAST;
}

/* Returns what was written; less than n when the disk refuses (errno). */
static size_t write_out(struct log_writer *w, const char *p, size_t n, int64_t now_ms)
{
    size_t done = 0;
    while (done < n) {
        if (writer_open(w) < 0)
            return done;
        size_t piece = room_for(w, p + done, n - done);
        if (piece == 0) {
            if (writer_rotate(w) < 0)
                return done;
            continue;
        }
        if (index_add(w, now_ms) < 0)
            return done;
        ssize_t written = write(w->fd, p + done, piece);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return done;
        w->bytes += (uint64_t)written;
        done += (size_t)written;
    }
    return done;
}

static bool note_dropped(struct log_writer *w, int64_t now_ms)
{
    char note[160];
    int n = snprintf(note, sizeof note, "\n[mentat: %llu bytes of output were dropped: %s]\n", (unsigned long long)w->dropped,
                     strerror(w->error));
    size_t written = write_out(w, note, (size_t)n, now_ms);
    if (written == (size_t)n)
        return true;
    /* Half a note would stay in the log for good. */
    if (written && written <= w->bytes && ftruncate(w->fd, (off_t)(w->bytes - written)) == 0)
        w->bytes -= written;
    return false;
}

void log_writer_add(struct log_writer *w, const void *bytes, size_t n, int64_t now_ms)
{
    if (w->dropped) {
        if (!note_dropped(w, now_ms)) {
            w->dropped += n;
            return;
        }
        w->dropped = 0;
    }
    size_t written = write_out(w, bytes, n, now_ms);
    if (written < n) {
        w->error = errno ? errno : ENOSPC;
        w->dropped = n - written;
    }
}

void log_writer_close(struct log_writer *w)
{
    files_close(w);
    if (w->dir_fd >= 0)
        close(w->dir_fd);
    w->dir_fd = -1;
}

/* The entries of the index whose bytes are gone. */
static int index_cut(const char *path, uint64_t bytes)
{
    struct log_index entry;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    off_t at = 0;
    while (pread(fd, &entry, sizeof entry, at) == (ssize_t)sizeof entry && entry.offset < bytes)
        at += (off_t)sizeof entry;
    int result = ftruncate(fd, at);
    close(fd);
    return result;
}

int log_cut(const char *dir, enum log_stream stream, uint64_t number, uint64_t bytes)
{
    struct log_numbers numbers;
    if (log_numbers_find(dir, stream, &numbers) < 0)
        return -1;
    int result = 0;
    for (uint64_t n = numbers.last; numbers.n && n >= numbers.first && n >= number; n--) {
        char name[LOG_NAME_SIZE], path[PATH_MAX], index[PATH_MAX];
        struct stat st;
        log_name_format(name, stream, n, LOG_SUFFIX_DATA);
        snprintf(path, sizeof path, "%s/%s", dir, name);
        log_name_format(name, stream, n, LOG_SUFFIX_INDEX);
        snprintf(index, sizeof index, "%s/%s", dir, name);
        if (n > number) {
            unlink(index);
            result |= unlink(path);
        } else if (stat(path, &st) == 0 && (uint64_t)st.st_size > bytes) {
            result |= truncate(path, (off_t)bytes) < 0 || index_cut(index, bytes) < 0 ? -1 : 0;
        }
        if (n == 0)
            break;
    }
    return result;
}
