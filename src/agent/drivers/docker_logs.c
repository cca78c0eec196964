/* Happy path: the engine's log is followed from the last entry on that is in the files. Each entry comes as one frame,
 * its time in front: "2026-11-25T17:16:37.729968571Z text". An entry is kept back until it is whole; then it goes to
 * the log file, and after the piece of the answer the new position to its file. When the stream breaks, it begins
 * again ten seconds before the last entry, since stdout and stderr may lie in the engine's log in another order than
 * their times say, and what is known is passed over. */
#include "agent/drivers/docker_logs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/drivers/docker_frames.h"
#include "agent/log_names.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/timefmt.h"

#define POSITION_FILE "docker.logs"
#define TIME_SIZE 40                 /* "2026-11-25T17:16:37.729968571Z" */
#define ENTRY_MAX (1 << 20)          /* the engine cuts at 16 KiB */
#define OVERLAP_MS 10000
#define RETRY_MS 500
#define FINISH_TRIES 20
#define FETCH_IDLE_MS 10000
#define STALLS_MOST 2                /* of these, before the end is told without the rest */

struct position {
    char time[TIME_SIZE];            /* of the last entry; "" before the first */
    uint64_t same;                   /* entries of that very time that are in the files: pieces of a long line share one */
    uint64_t number, bytes;          /* the end of it in the log files */
};

struct stream_state {
    struct log_writer writer;
    struct position at;
    struct buf entry;                /* not whole yet */
    struct buf ready;                /* whole ones of this piece of the answer, to be written at once */
    bool resuming;                   /* entries that are known may still come */
    uint64_t seen_same;
};

struct docker_logs {
    struct engine *engine;
    char *dir, *container, *position_path;
    int position_fd;
    bool tty, finishing, closed;
    unsigned tries;
    struct frames frames;
    struct stream_state streams[LOG_STREAM_COUNT];
    struct engine_call *call;
    struct error broken;             /* the stream's bytes made no sense */
    uv_timer_t timer;
    void (*done)(void *arg, const struct error *err);
    void *arg;
};

/* --- the position --- */

static void position_save(struct docker_logs *l)
{
    char text[512];
    const struct position *o = &l->streams[LOG_STDOUT].at, *e = &l->streams[LOG_STDERR].at;
    int n = snprintf(text, sizeof text, "%s\n%s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n%s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
                     l->container, *o->time ? o->time : "-", o->same, o->number, o->bytes, *e->time ? e->time : "-", e->same,
                     e->number, e->bytes);
    /* Always the whole: padded, so that a longer text of before leaves no rest. */
    memset(text + n, '\n', sizeof text - (size_t)n);
    if (l->position_fd < 0)
        l->position_fd = open(l->position_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    if (l->position_fd < 0 || pwrite(l->position_fd, text, sizeof text, 0) != (ssize_t)sizeof text)
        LOG_W("how far a container's logs were fetched cannot be kept", "container", l->container, "error", strerror(errno));
}

static bool position_load(struct docker_logs *l)
{
    CLEANUP_BUF struct buf b = {0};
    char container[80];
    struct position p[LOG_STREAM_COUNT] = {0};
    if (file_read(l->position_path, 4096, &b, NULL) < 0 ||
        sscanf(b.data, "%79s %39s %" SCNu64 " %" SCNu64 " %" SCNu64 " %39s %" SCNu64 " %" SCNu64 " %" SCNu64, container,
               p[0].time, &p[0].same, &p[0].number, &p[0].bytes, p[1].time, &p[1].same, &p[1].number, &p[1].bytes) != 9 ||
        strcmp(container, l->container) != 0)
        return false;
    for (int i = 0; i < LOG_STREAM_COUNT; i++) {
        l->streams[i].at = p[i];
        if (!strcmp(p[i].time, "-"))
            *l->streams[i].at.time = 0;
    }
    return true;
}

/* The log files as they are now: where a new container's log begins. since_ms: what it wrote before is not fetched. */
static void position_at_end(struct docker_logs *l, const char *logs_dir, int64_t since_ms)
{
    for (int i = 0; i < LOG_STREAM_COUNT; i++) {
        struct log_numbers numbers;
        struct position *at = &l->streams[i].at;
        *at = (struct position){0};
        if (since_ms)
            time_format(at->time, since_ms);
        if (log_numbers_find(logs_dir, (enum log_stream)i, &numbers) < 0 || !numbers.n)
            continue;
        char name[LOG_NAME_SIZE];
        struct stat st;
        log_name_format(name, (enum log_stream)i, numbers.last, LOG_SUFFIX_DATA);
        CLEANUP_FREE char *path = mem_printf("%s/%s", logs_dir, name);
        at->number = numbers.last;
        at->bytes = stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
    }
    position_save(l);
}

/* --- entries --- */

static void ready_write(struct docker_logs *l)
{
    bool moved = false;
    for (int i = 0; i < LOG_STREAM_COUNT; i++) {
        struct stream_state *s = &l->streams[i];
        if (!s->ready.len)
            continue;
        log_writer_add(&s->writer, s->ready.data, s->ready.len, time_now_ms());
        buf_clear(&s->ready);
        s->at.number = s->writer.number;
        s->at.bytes = s->writer.bytes;
        moved = true;
    }
    if (moved)
        position_save(l);
}

/* Known already: fetched before the stream broke. */
static bool entry_known(struct stream_state *s, const char *time)
{
    if (!s->resuming || !*s->at.time)
        return false;
    int order = strcmp(time, s->at.time);
    if (order < 0)
        return true;
    if (order == 0 && s->seen_same < s->at.same) {
        s->seen_same++;
        return true;
    }
    return false;
}

static int entry_take(struct stream_state *s, const char *entry, size_t len, struct error *err)
{
    char time[TIME_SIZE];
    const char *space = memchr(entry, ' ', len < TIME_SIZE ? len : TIME_SIZE);
    if (!space || space == entry || (size_t)(space - entry) >= sizeof time || entry[0] < '0' || entry[0] > '9')
        return error_set(err, ERROR_CORRUPT, "an entry of the engine's log has no time");
    memcpy(time, entry, (size_t)(space - entry));
    time[space - entry] = 0;
    if (entry_known(s, time))
        return 0;
    s->resuming = false;
    if (strcmp(time, s->at.time) == 0) {
        s->at.same++;
    } else {
        snprintf(s->at.time, sizeof s->at.time, "%s", time);
        s->at.same = 1;
    }
    space++;
    buf_add(&s->ready, space, len - (size_t)(space - entry));
    return 0;
}

static bool on_piece(void *arg, const struct frame_piece *p)
{
    struct docker_logs *l = arg;
    if (p->stream == FRAME_ENGINE) {
        LOG_W("the engine ended a container's log", "container", l->container);
        return true;
    }
    struct stream_state *s = &l->streams[p->stream == FRAME_STDERR ? LOG_STDERR : LOG_STDOUT];
    if (s->entry.len + p->len > ENTRY_MAX) {
        error_set(&l->broken, ERROR_CORRUPT, "an entry of the engine's log is longer than %d bytes", ENTRY_MAX);
        return false;
    }
    if (p->last && !s->entry.len) {
        entry_take(s, p->data, p->len, &l->broken);
    } else {
        buf_add(&s->entry, p->data, p->len);
        if (p->last) {
            entry_take(s, s->entry.data, s->entry.len, &l->broken);
            buf_clear(&s->entry);
        }
    }
    return !l->broken.code;
}

/* A terminal's output comes without frames: an entry is a line. */
static void lines_take(struct docker_logs *l, const char *data, size_t len)
{
    struct stream_state *s = &l->streams[LOG_STDOUT];
    const char *end;
    while (len && !l->broken.code && (end = memchr(data, '\n', len))) {
        size_t n = (size_t)(end - data) + 1;
        struct frame_piece p = {.stream = FRAME_STDOUT, .last = true, .data = data, .len = n};
        on_piece(l, &p);
        data += n;
        len -= n;
    }
    if (len && s->entry.len + len <= ENTRY_MAX)
        buf_add(&s->entry, data, len);
}

static void on_retry(uv_timer_t *timer);

static void on_data(void *arg, const char *data, size_t len)
{
    struct docker_logs *l = arg;
    if (l->broken.code)
        return;
    if (l->tty)
        lines_take(l, data, len);
    else if (frames_feed(&l->frames, data, len, on_piece, l, &l->broken) < 0)
        LOG_W("a container's log cannot be read", "container", l->container, "error", l->broken.text);
    ready_write(l);
}

/* --- the stream --- */

static void finish_tell(struct docker_logs *l, const struct error *err)
{
    void (*done)(void *arg, const struct error *err) = l->done;
    l->done = NULL;
    if (done)
        done(l->arg, err);
}

static void on_end(void *arg, const struct engine_answer *a)
{
    struct docker_logs *l = arg;
    struct error err = a->err.code ? a->err : l->broken;
    l->call = NULL;
    if (l->tty && l->finishing && !err.code && l->streams[LOG_STDOUT].entry.len) {
        struct buf *rest = &l->streams[LOG_STDOUT].entry;
        entry_take(&l->streams[LOG_STDOUT], rest->data, rest->len, &err);
        ready_write(l);
    }
    if (err.code == ERROR_TIMEOUT)
        l->tries += FINISH_TRIES / STALLS_MOST - 1;
    if (l->finishing && (!err.code || err.code == ERROR_NOT_FOUND || ++l->tries >= FINISH_TRIES)) {
        finish_tell(l, err.code ? &err : NULL);
        return;
    }
    /* Also after an orderly end while following: the container has ended, or the engine is about to. */
    uv_timer_start(&l->timer, on_retry, RETRY_MS, 0);
}

static void since_format(const struct docker_logs *l, char out[static TIME_SIZE])
{
    int64_t latest = 0, t;
    for (int i = 0; i < LOG_STREAM_COUNT; i++)
        if (*l->streams[i].at.time && time_parse(l->streams[i].at.time, &t) == 0 && t > latest)
            latest = t;
    int64_t from = latest > OVERLAP_MS ? latest - OVERLAP_MS : 0;
    snprintf(out, TIME_SIZE, "%" PRId64 ".%03d000000", from / 1000, (int)(from % 1000));
}

static void fetch(struct docker_logs *l)
{
    char since[TIME_SIZE];
    engine_cancel(steal(&l->call));
    uv_timer_stop(&l->timer);
    since_format(l, since);
    l->frames = (struct frames){0};
    l->broken = (struct error){0};
    for (int i = 0; i < LOG_STREAM_COUNT; i++) {
        buf_clear(&l->streams[i].entry);
        l->streams[i].resuming = true;
        l->streams[i].seen_same = 0;
    }
    CLEANUP_FREE char *path = mem_printf("/containers/%s/logs?stdout=1&stderr=1&timestamps=1&follow=%d&since=%s", l->container,
                                         !l->finishing, since);
    l->call = engine_start(l->engine, &(struct engine_request){
        .path = path, .on_data = on_data, .idle_ms = l->finishing ? FETCH_IDLE_MS : 0,
    }, on_end, l);
}

static void on_retry(uv_timer_t *timer)
{
    struct docker_logs *l = timer->data;
    if (engine_up(l->engine) || l->finishing)
        fetch(l);
    else
        uv_timer_start(&l->timer, on_retry, RETRY_MS, 0);
}

void docker_logs_follow(struct docker_logs *l)
{
    if (!l->call && !uv_is_active((uv_handle_t *)&l->timer))
        fetch(l);
}

void docker_logs_finish(struct docker_logs *l, void (*done)(void *arg, const struct error *err), void *arg)
{
    l->finishing = true;
    l->done = done;
    l->arg = arg;
    l->tries = 0;
    fetch(l);
}

struct docker_logs *docker_logs_open(struct engine *e, uv_loop_t *loop, const char *alloc_dir, const char *container, bool tty,
                                     int64_t max_files, int64_t max_mb, int64_t since_ms)
{
    struct docker_logs *l = NEW(struct docker_logs);
    l->engine = e;
    l->tty = tty;
    l->container = mem_strdup(container);
    l->dir = mem_printf("%s/logs", alloc_dir);
    l->position_path = mem_printf("%s/" POSITION_FILE, alloc_dir);
    l->position_fd = -1;
    uv_timer_init(loop, &l->timer);
    l->timer.data = l;
    if (!position_load(l))
        position_at_end(l, l->dir, since_ms);
    for (int i = 0; i < LOG_STREAM_COUNT; i++) {
        struct position *at = &l->streams[i].at;
        if (log_cut(l->dir, (enum log_stream)i, at->number, at->bytes) < 0)
            LOG_W("the end of a container's log cannot be cut", "container", container, "error", strerror(errno));
        log_writer_init(&l->streams[i].writer, l->dir, (enum log_stream)i, max_files, max_mb);
    }
    return l;
}

static void timer_closed(uv_handle_t *h)
{
    struct docker_logs *l = h->data;
    free(l);
}

void docker_logs_close(struct docker_logs *l)
{
    if (!l)
        return;
    engine_cancel(l->call);
    for (int i = 0; i < LOG_STREAM_COUNT; i++) {
        log_writer_close(&l->streams[i].writer);
        buf_free(&l->streams[i].entry);
        buf_free(&l->streams[i].ready);
    }
    if (l->position_fd >= 0)
        close(l->position_fd);
    free(l->container);
    free(l->dir);
    free(l->position_path);
    uv_close((uv_handle_t *)&l->timer, timer_closed);
}
