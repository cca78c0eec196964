/* One turn of the loop reads one piece. At the end of a file that has a successor the reader goes on to that; at the end
 * of the last it is done, or waits for the folder to change. The watch is set before the first read, so that nothing
 * falls between. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/log_names.h"
#include "agent/logfile.h"
#include "base/mem.h"

#define PIECE_BYTES (64 << 10)
#define INDEX_GRAIN_MS 100

enum watch { WATCH_NONE, WATCH_ALLOC_DIR, WATCH_LOGS };

struct log_reader {
    char *alloc_dir, *dir;
    struct log_query query;
    const struct log_events *events;
    void *arg;
    uv_timer_t turn;
    uv_fs_event_t watcher;
    enum watch watch;
    unsigned open_handles;
    int fd;                          /* -1: no file so far */
    uint64_t number;
    bool placed, paused, finishing, ended;
    struct log_position begin;
    char *piece;
};

/* --- where to begin --- */

static int file_open(const struct log_reader *r, uint64_t number, const char *suffix)
{
    char name[LOG_NAME_SIZE];
    log_name_format(name, r->query.stream, number, suffix);
    CLEANUP_FREE char *path = mem_printf("%s/%s", r->dir, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static uint64_t fd_size(int fd)
{
    struct stat st;
    return fd >= 0 && fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* Counts line ends of the file backwards. True when the place was found in it. */
static bool tail_in_file(struct log_reader *r, uint64_t number, bool last, int64_t *lines, uint64_t *offset)
{
    int fd = file_open(r, number, LOG_SUFFIX_DATA);
    uint64_t end = fd_size(fd);
    bool found = false, first = last;
    while (end && !found) {
        size_t n = end < PIECE_BYTES ? (size_t)end : PIECE_BYTES;
        ssize_t got = pread(fd, r->piece, n, (off_t)(end - n));
        if (got != (ssize_t)n)
            break;
        for (size_t i = n; i-- > 0 && !found;) {
            /* The very last line's end begins no further line. */
            if (r->piece[i] == '\n' && !first && --*lines == 0) {
                *offset = end - n + i + 1;
                found = true;
            }
            first = false;
        }
        end -= n;
    }
    if (fd >= 0)
        close(fd);
    return found;
}

static struct log_position place_end(const struct log_reader *r, const struct log_numbers *files)
{
    int fd = file_open(r, files->last, LOG_SUFFIX_DATA);
    struct log_position p = {files->last, fd_size(fd)};
    if (fd >= 0)
        close(fd);
    return p;
}

static struct log_position place_tail(struct log_reader *r, const struct log_numbers *files)
{
    int64_t lines = r->query.tail;
    if (lines == 0)
        return place_end(r, files);
    struct log_position p = {files->first, 0};
    bool last = true;
    for (uint64_t number = files->last + 1; number-- > files->first;) {
        if (tail_in_file(r, number, last, &lines, &p.offset)) {
            p.number = number;
            return p;
        }
        last = false;
    }
    return (struct log_position){files->first, 0};
}

/* The first entry of the index at that time or later; false when there is none. */
static bool since_in_file(const struct log_reader *r, uint64_t number, int64_t since_ms, uint64_t *offset)
{
    int fd = file_open(r, number, LOG_SUFFIX_INDEX);
    struct log_index entry;
    uint64_t low = 0, high = fd_size(fd) / sizeof entry;
    bool found = false;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (pread(fd, &entry, sizeof entry, (off_t)(middle * sizeof entry)) != (ssize_t)sizeof entry)
            break;
        if (entry.time_ms >= since_ms) {
            found = true;
            *offset = entry.offset;
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if (fd >= 0)
        close(fd);
    return found;
}

static struct log_position place_since(struct log_reader *r, const struct log_numbers *files)
{
    struct log_position p;
    for (p.number = files->first; p.number <= files->last; p.number++)
        if (since_in_file(r, p.number, r->query.since_ms - INDEX_GRAIN_MS, &p.offset))
            return p;
    return place_end(r, files);
}

/* Over the ends of files; what was rotated away meanwhile is passed over. */
static struct log_position place_from(const struct log_reader *r, const struct log_numbers *files, struct log_position p)
{
    if (p.number < files->first)
        p = (struct log_position){files->first, 0};
    for (; p.number <= files->last; p.number++) {
        int fd = file_open(r, p.number, LOG_SUFFIX_DATA);
        uint64_t size = fd_size(fd);
        if (fd >= 0)
            close(fd);
        if (p.offset <= size)
            return p;
        p.offset -= size;
    }
    return place_end(r, files);
}

static void file_set(struct log_reader *r, struct log_position p)
{
    if (r->fd >= 0)
        close(r->fd);
    r->number = p.number;
    r->fd = file_open(r, p.number, LOG_SUFFIX_DATA);
    if (r->fd >= 0)
        lseek(r->fd, (off_t)p.offset, SEEK_SET);
}

/* False while there is no file at all. */
static bool place_find(struct log_reader *r)
{
    struct log_numbers files;
    if (log_numbers_find(r->dir, r->query.stream, &files) < 0 || !files.n)
        return false;
    struct log_position p = {files.first, 0}, q;
    if (r->query.from)
        p = place_from(r, &files, *r->query.from);
    else if (r->query.tail >= 0)
        p = place_tail(r, &files);
    if (r->query.since_ms > 0 && !r->query.from) {
        q = place_since(r, &files);
        if (q.number > p.number || (q.number == p.number && q.offset > p.offset))
            p = q;
    }
    r->begin = p;
    file_set(r, p);
    return r->fd >= 0;
}

/* --- turns --- */

static void turn(uv_timer_t *timer);

static void turn_soon(struct log_reader *r)
{
    if (!r->paused && !r->ended && r->events)
        uv_timer_start(&r->turn, turn, 0, 0);
}

static void changed(uv_fs_event_t *watcher, const char *name, int events, int status)
{
    struct log_reader *r = watcher->data;
    if (!r->events)
        return;
    if (!uv_is_active((uv_handle_t *)&r->turn))
        turn_soon(r);
}

/* The folder of logs comes with the first byte; until then the allocation's is watched. */
static void watch_set(struct log_reader *r)
{
    if (r->watch == WATCH_LOGS || !r->query.follow)
        return;
    uv_fs_event_stop(&r->watcher);
    r->watch = WATCH_NONE;
    if (uv_fs_event_start(&r->watcher, changed, r->dir, 0) == 0)
        r->watch = WATCH_LOGS;
    else if (uv_fs_event_start(&r->watcher, changed, r->alloc_dir, 0) == 0)
        r->watch = WATCH_ALLOC_DIR;
}

/* Once file N+1 is there, N is complete: what is read after seeing that is all of it. */
static bool next_file(struct log_reader *r)
{
    struct log_numbers files;
    if (log_numbers_find(r->dir, r->query.stream, &files) < 0 || !files.n || files.last <= r->number)
        return false;
    uint64_t next = r->number + 1 < files.first ? files.first : r->number + 1;
    ssize_t n = read(r->fd, r->piece, 1);
    if (n > 0) {
        lseek(r->fd, -1, SEEK_CUR);
        return true;
    }
    file_set(r, (struct log_position){next, 0});
    return r->fd >= 0;
}

static void end_tell(struct log_reader *r, const struct error *err)
{
    r->ended = true;
    uv_timer_stop(&r->turn);
    uv_fs_event_stop(&r->watcher);
    r->events->end(r->arg, err);
}

static void turn(uv_timer_t *timer)
{
    struct log_reader *r = timer->data;
    struct error err;
    bool last_look = r->finishing || !r->query.follow;
    watch_set(r);
    if (!r->placed)
        r->placed = place_find(r);       /* nothing was there at first: all of it is wanted */
    ssize_t n = 0;
    while (r->fd >= 0 && (n = read(r->fd, r->piece, PIECE_BYTES)) == 0 && next_file(r))
        ;
    if (n < 0) {
        error_set_errno(&err, errno, "cannot read the log in %s", r->dir);
        end_tell(r, &err);
    } else if (n > 0) {
        r->events->data(r->arg, r->piece, (size_t)n);
        turn_soon(r);
    } else if (last_look) {
        end_tell(r, NULL);
    }
}

/* --- the reader --- */

struct log_reader *log_reader_open(uv_loop_t *loop, const char *alloc_dir, const struct log_query *query,
                                   const struct log_events *events, void *arg)
{
    struct log_reader *r = NEW(struct log_reader);
    r->alloc_dir = mem_strdup(alloc_dir);
    r->dir = mem_printf("%s/logs", alloc_dir);
    r->query = *query;
    r->events = events;
    r->arg = arg;
    r->fd = -1;
    r->piece = mem_alloc(PIECE_BYTES);
    uv_timer_init(loop, &r->turn);
    uv_fs_event_init(loop, &r->watcher);
    r->turn.data = r->watcher.data = r;
    r->open_handles = 2;
    r->placed = place_find(r);
    if (!r->placed) {
        r->query.tail = -1;
        r->query.since_ms = 0;
    }
    r->query.from = NULL;
    turn_soon(r);
    return r;
}

struct log_position log_reader_begin(const struct log_reader *r)
{
    return r->begin;
}

void log_reader_pause(struct log_reader *r, bool paused)
{
    r->paused = paused;
    if (paused)
        uv_timer_stop(&r->turn);
    else
        turn_soon(r);
}

void log_reader_finish(struct log_reader *r)
{
    r->finishing = true;
    turn_soon(r);
}

static void handle_closed(uv_handle_t *h)
{
    struct log_reader *r = h->data;
    if (--r->open_handles)
        return;
    if (r->fd >= 0)
        close(r->fd);
    free(r->piece);
    free(r->dir);
    free(r->alloc_dir);
    free(r);
}

void log_reader_close(struct log_reader *r)
{
    if (!r)
        return;
    r->events = NULL;
    uv_close((uv_handle_t *)&r->turn, handle_closed);
    uv_close((uv_handle_t *)&r->watcher, handle_closed);
}
