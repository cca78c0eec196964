#include "audit/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/chain.h"
#include "audit/sink.h"
#include "base/file.h"
#include "base/timefmt.h"
#include "model/field.h"

#define LINE_MOST 16384
#define PATH_TOLD 2048

struct audit {
    pthread_mutex_t lock;
    char *dir, *server;
    uint64_t file_bytes;
    unsigned files_most;
    int64_t keep_ms;
    int fd;                      /* -1: none is open */
    unsigned number;             /* of the file */
    uint64_t size;
    char hash[CHAIN_HASH_SIZE];  /* of the last line */
    bool failing;
    struct audit_sink *sink;
};

static char *path_of(const struct audit *a, unsigned number)
{
    CLEANUP_FREE char *name = chain_file_name(number);
    return mem_printf("%s/%s", a->dir, name);
}

/* --- writing --- */

static void add_text(struct buf *line, const char *key, const char *value)
{
    if (!value)
        return;
    buf_printf(line, ",\"%s\":", key);
    json_add_string(line, value);
}

static void begin_line(const struct audit *a, struct buf *line)
{
    char time[TIME_TEXT_SIZE];
    time_format(time, time_now_ms());
    buf_printf(line, "{\"time\":\"%s\"", time);
    add_text(line, "server", a->server);
}

/* All of it or nothing: half a line would break the chain for all that follow. A line that is not written stays open. */
static int append(struct audit *a, struct buf *line, struct error *err)
{
    char hash[CHAIN_HASH_SIZE];
    size_t open = line->len;
    memcpy(hash, a->hash, sizeof hash);
    chain_close_line(line, hash);
    ssize_t n = write(a->fd, line->data, line->len);
    if (n != (ssize_t)line->len) {
        int why = n < 0 ? errno : ENOSPC;
        if (n > 0 && ftruncate(a->fd, (off_t)a->size)) {
            close(a->fd);
            a->fd = -1;
        }
        line->len = open;
        return error_set_errno(err, why, "%s", a->dir);
    }
    memcpy(a->hash, hash, sizeof hash);
    a->size += line->len;
    return 0;
}

static int begin_file(struct audit *a, unsigned number, struct error *err)
{
    CLEANUP_FREE char *path = path_of(a, number);
    CLEANUP_BUF struct buf line = {0};
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(err, errno, "%s", path);
    if (a->fd >= 0) {
        fsync(a->fd);
        close(a->fd);
    }
    a->fd = fd;
    a->number = number;
    a->size = 0;
    begin_line(a, &line);
    add_text(&line, "after", a->hash);
    if (append(a, &line, err) == 0)
        return 0;
    unlink(path);
    close(fd);
    a->fd = -1;
    return -1;
}

/* By their number, and the time of their last line. */
static void remove_old(struct audit *a)
{
    unsigned *numbers;
    size_t count;
    struct error ignored;
    if (chain_files(a->dir, &numbers, &count, &ignored))
        return;
    for (size_t i = 0; i + 1 < count; i++) {
        CLEANUP_FREE char *path = path_of(a, numbers[i]);
        struct stat st;
        bool keep = count - i <= a->files_most && !stat(path, &st) &&
                    (int64_t)st.st_mtim.tv_sec * 1000 + a->keep_ms > time_now_ms();
        if (keep || unlink(path))
            break;
    }
    free(numbers);
}

/* --- where the last one ended --- */

static int note_cut(struct audit *a, uint64_t bytes, struct error *err)
{
    CLEANUP_BUF struct buf line = {0};
    begin_line(a, &line);
    buf_printf(&line, ",\"note\":\"a line of %llu bytes that a crash had cut off was taken away\"", (unsigned long long)bytes);
    return append(a, &line, err);
}

/* The last whole line gives the hash; what is behind it goes. */
static int find_end(struct audit *a, const char *path, struct error *err)
{
    static const char key[] = ",\"hash\":\"";
    char tail[2 * LINE_MOST];
    int fd = a->fd;
    struct stat st;
    if (fstat(fd, &st))
        return error_set_errno(err, errno, "%s", path);
    off_t from = st.st_size > (off_t)sizeof tail ? st.st_size - (off_t)sizeof tail : 0;
    ssize_t n = pread(fd, tail, sizeof tail, from);
    const char *end = n > 0 ? memrchr(tail, '\n', (size_t)n) : NULL;
    size_t hash_at = CHAIN_HASH_SIZE - 1 + 2;
    if (n < 0)
        return error_set_errno(err, errno, "%s", path);
    if (!end || (size_t)(end - tail) < hash_at + sizeof key || memcmp(end - hash_at - sizeof key + 1, key, sizeof key - 1))
        return error_set(err, ERROR_CORRUPT, "%s is not an audit file that this server can go on with; move it away", path);
    memcpy(a->hash, end - hash_at, CHAIN_HASH_SIZE - 1);
    a->hash[CHAIN_HASH_SIZE - 1] = '\0';
    a->size = (uint64_t)from + (uint64_t)(end - tail) + 1;
    uint64_t cut = (uint64_t)st.st_size - a->size;
    if (!cut)
        return 0;
    if (ftruncate(fd, (off_t)a->size))
        return error_set_errno(err, errno, "%s", path);
    return note_cut(a, cut, err);
}

static int go_on(struct audit *a, unsigned number, struct error *err)
{
    CLEANUP_FREE char *path = path_of(a, number);
    a->fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
    a->number = number;
    if (a->fd < 0)
        return error_set_errno(err, errno, "%s", path);
    if (find_end(a, path, err) == 0)
        return 0;
    close(a->fd);
    a->fd = -1;
    return -1;
}

/* A file in which nothing was written before a crash has no number to go on from. */
static int open_last(struct audit *a, struct error *err)
{
    unsigned *numbers;
    size_t count;
    if (chain_files(a->dir, &numbers, &count, err))
        return -1;
    int rc = 0;
    while (count) {
        CLEANUP_FREE char *path = path_of(a, numbers[count - 1]);
        struct stat st;
        if (stat(path, &st) || st.st_size || unlink(path))
            break;
        count--;
    }
    rc = count ? go_on(a, numbers[count - 1], err) : begin_file(a, 1, err);
    free(numbers);
    return rc;
}

int audit_open(struct audit **out, const struct audit_options *o, struct error *err)
{
    struct audit *a = NEW(struct audit);
    *a = (struct audit){.dir = mem_strdup(o->dir), .server = mem_strdup(o->server), .file_bytes = o->file_bytes,
                        .files_most = o->files_most, .keep_ms = o->keep_ms, .fd = -1, .sink = o->sink};
    INVARIANT(pthread_mutex_init(&a->lock, NULL) == 0);
    chain_begin(a->hash);
    *out = a;
    if (dir_make(a->dir, 0700, err) == 0 && open_last(a, err) == 0)
        return 0;
    audit_close(a);
    *out = NULL;
    return error_context(err, "the audit files");
}

void audit_close(struct audit *a)
{
    if (!a)
        return;
    audit_sink_close(a->sink);
    if (a->fd >= 0) {
        fsync(a->fd);
        close(a->fd);
    }
    pthread_mutex_destroy(&a->lock);
    free(a->dir);
    free(a->server);
    free(a);
}

static void add_record(const struct audit_record *r, struct buf *line)
{
    CLEANUP_FREE char *path = r->path ? mem_strndup(r->path, PATH_TOLD) : NULL;
    add_text(line, "request", r->request);
    add_text(line, "kind", r->kind);
    add_text(line, "who", r->who);
    add_text(line, "token", r->token);
    add_text(line, "peer", r->peer);
    add_text(line, "method", r->method);
    add_text(line, "path", path);
    add_text(line, "job", r->job);
    buf_printf(line, ",\"status\":%d", r->status);
    add_text(line, "error", r->error);
    if (r->handed_on)
        buf_add_string(line, ",\"handed_on\":true");
}

/* After a failure the file is looked at anew: its disk may have room again. */
static int make_ready(struct audit *a, struct error *err)
{
    if (a->fd < 0)
        return open_last(a, err);
    if (a->size < a->file_bytes)
        return 0;
    int rc = begin_file(a, a->number + 1, err);
    if (!rc)
        remove_old(a);
    return rc;
}

static void hand_on(struct audit *a, struct buf *line, bool closed)
{
    if (!a->sink)
        return;
    if (!closed)
        buf_add_string(line, "}\n");
    audit_sink_add(a->sink, line->data, line->len - 1);
}

static int write_line(struct audit *a, const struct audit_record *r, const char *note, struct error *err)
{
    CLEANUP_BUF struct buf line = {0};
    pthread_mutex_lock(&a->lock);
    int rc = make_ready(a, err);
    begin_line(a, &line);
    add_text(&line, "note", note);
    if (r)
        add_record(r, &line);
    if (!rc)
        rc = append(a, &line, err);
    hand_on(a, &line, rc == 0);
    a->failing = rc != 0;
    pthread_mutex_unlock(&a->lock);
    return rc;
}

int audit_write(struct audit *a, const struct audit_record *r, struct error *err)
{
    return write_line(a, r, NULL, err);
}

int audit_note(struct audit *a, const char *text, struct error *err)
{
    return write_line(a, NULL, text, err);
}

uint64_t audit_dropped(struct audit *a)
{
    return a && a->sink ? audit_sink_dropped(a->sink) : 0;
}

bool audit_failing(struct audit *a)
{
    pthread_mutex_lock(&a->lock);
    bool failing = a->failing;
    pthread_mutex_unlock(&a->lock);
    return failing;
}
