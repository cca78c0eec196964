/* add → queue → the thread: opens the way where there is none, sends, takes the next one. A way that breaks is closed and opened
 * again after a pause; the line stays the first one. */
#include "audit/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/timefmt.h"
#include "sandbox/launcher.h"

#define QUEUE_BYTES ((size_t)4 << 20)
#define PAUSE_MS 1000
#define LOOK_MS 100
#define FLUSH_MS 2000
#define PRIORITY "<110>1"            /* log audit, informational */

struct line { STAILQ_ENTRY(line) link; size_t len; char text[]; };

struct audit_sink {
    char *syslog, *command;
    struct launcher *launcher;
    pthread_t thread;
    pthread_mutex_t lock;            /* of what follows */
    pthread_cond_t more;
    STAILQ_HEAD(, line) lines;
    size_t bytes;
    uint64_t dropped;
    bool dropping;                   /* the last one that came was left out */
    bool closing;
    int64_t until_ms;                /* closing: of the flush */
    /* the thread's own */
    int fd, channel;                 /* -1: there is no way */
    bool failing;
};

uint64_t audit_sink_dropped(struct audit_sink *s)
{
    pthread_mutex_lock(&s->lock);
    uint64_t dropped = s->dropped;
    pthread_mutex_unlock(&s->lock);
    return dropped;
}

void audit_sink_add(struct audit_sink *s, const char *text, size_t len)
{
    struct line *line = mem_alloc(sizeof *line + len + 1);
    line->len = len;
    memcpy(line->text, text, len);
    line->text[len] = '\n';
    pthread_mutex_lock(&s->lock);
    bool full = s->bytes + len > QUEUE_BYTES, begins = full && !s->dropping;
    s->dropping = full;
    if (full) {
        s->dropped++;
    } else {
        s->bytes += len;
        STAILQ_INSERT_TAIL(&s->lines, line, link);
        pthread_cond_signal(&s->more);
    }
    pthread_mutex_unlock(&s->lock);
    if (full)
        free(line);
    if (begins)
        LOG_W("the audit sink cannot keep up; lines are left out there");
}

/* --- the ways --- */

static void close_way(struct audit_sink *s)
{
    if (s->fd >= 0)
        close(s->fd);
    if (s->channel >= 0)
        close(s->channel);
    s->fd = s->channel = -1;
}

static int open_syslog(struct audit_sink *s, struct error *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", s->syslog);
    s->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&a, sizeof a))
        return error_set_errno(err, errno, "%s", s->syslog);
    return 0;
}

static int open_command(struct audit_sink *s, struct error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return error_set_errno(err, errno, "audit_command");
    s->fd = ends[1];
    s->channel = launcher_run(s->launcher, &(struct launch){.command = s->command, .input = ends[0], .output = -1}, err);
    close(ends[0]);
    if (s->channel < 0 || fcntl(s->fd, F_SETFL, O_NONBLOCK))
        return error_context(err, "audit_command");
    return 0;
}

static bool time_is_over(struct audit_sink *s)
{
    pthread_mutex_lock(&s->lock);
    bool over = s->closing && time_monotonic_ms() >= s->until_ms;
    pthread_mutex_unlock(&s->lock);
    return over;
}

/* All of it, waiting for room. -1: the way is broken, or the time is over (errno ECANCELED). */
static int send_all(struct audit_sink *s, const char *p, size_t n)
{
    while (n) {
        ssize_t sent = write(s->fd, p, n);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return -1;
        if (sent > 0) {
            p += sent;
            n -= (size_t)sent;
            continue;
        }
        if (time_is_over(s)) {
            errno = ECANCELED;
            return -1;
        }
        struct pollfd room = {.fd = s->fd, .events = POLLOUT};
        poll(&room, 1, LOOK_MS);
    }
    return 0;
}

static int send_line(struct audit_sink *s, const struct line *line, struct error *err)
{
    CLEANUP_BUF struct buf message = {0};
    char host[HOST_NAME_MAX + 1] = "-", time[TIME_TEXT_SIZE];
    if (s->syslog) {
        gethostname(host, sizeof host - 1);
        time_format(time, time_now_ms());
        buf_printf(&message, PRIORITY " %s %s mentat-server %d audit - ", time, host, (int)getpid());
        buf_add(&message, line->text, line->len);
    } else {
        buf_add(&message, line->text, line->len + 1);
    }
    if (send_all(s, message.data, message.len) == 0)
        return 0;
    return error_set_errno(err, errno, s->syslog ? "%s" : "audit_command ended: %s", s->syslog ? s->syslog : s->command);
}

/* --- the thread --- */

static struct line *first(struct audit_sink *s)
{
    pthread_mutex_lock(&s->lock);
    while (STAILQ_EMPTY(&s->lines) && !s->closing)
        pthread_cond_wait(&s->more, &s->lock);
    struct line *line = STAILQ_FIRST(&s->lines);
    pthread_mutex_unlock(&s->lock);
    return line;
}

static void take(struct audit_sink *s, struct line *line)
{
    pthread_mutex_lock(&s->lock);
    STAILQ_REMOVE_HEAD(&s->lines, link);
    s->bytes -= line->len;
    pthread_mutex_unlock(&s->lock);
    free(line);
}

static void tell(struct audit_sink *s, int rc, const struct error *err)
{
    if (rc && !s->failing)
        LOG_W("the audit sink does not take lines; trying again", "error", err->text);
    else if (!rc && s->failing)
        LOG_I("the audit sink takes lines again");
    s->failing = rc != 0;
}

static void pause_before_next(struct audit_sink *s)
{
    for (int ms = 0; ms < PAUSE_MS && !time_is_over(s); ms += LOOK_MS)
        poll(NULL, 0, LOOK_MS);
}

static void *run(void *ctx)
{
    struct audit_sink *s = ctx;
    struct line *line;
    while ((line = first(s)) && !time_is_over(s)) {
        struct error err;
        int rc = s->fd >= 0 ? 0 : s->syslog ? open_syslog(s, &err) : open_command(s, &err);
        if (!rc)
            rc = send_line(s, line, &err);
        if (time_is_over(s) && rc)
            break;
        tell(s, rc, &err);
        if (!rc) {
            take(s, line);
            continue;
        }
        close_way(s);
        pause_before_next(s);
    }
    close_way(s);
    return NULL;
}

int audit_sink_open(struct audit_sink **out, const struct audit_sink_options *o, struct error *err)
{
    if (o->syslog && strlen(o->syslog) >= sizeof ((struct sockaddr_un *)0)->sun_path)
        return error_set(err, ERROR_INVALID, "%s is too long for a socket's name", o->syslog);
    struct audit_sink *s = NEW(struct audit_sink);
    *s = (struct audit_sink){.syslog = o->syslog ? mem_strdup(o->syslog) : NULL, .command = o->command ? mem_strdup(o->command) : NULL,
                             .launcher = o->launcher, .fd = -1, .channel = -1};
    STAILQ_INIT(&s->lines);
    INVARIANT(pthread_mutex_init(&s->lock, NULL) == 0 && pthread_cond_init(&s->more, NULL) == 0);
    INVARIANT(pthread_create(&s->thread, NULL, run, s) == 0);
    *out = s;
    return 0;
}

void audit_sink_close(struct audit_sink *s)
{
    struct line *line;
    uint64_t left = 0;
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    s->until_ms = time_monotonic_ms() + FLUSH_MS;
    pthread_cond_signal(&s->more);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    for (; (line = STAILQ_FIRST(&s->lines)); left++)
        take(s, line);
    if (left)
        LOG_W("the audit sink did not take the last lines", "lines", LOG_U64(left));
    pthread_cond_destroy(&s->more);
    pthread_mutex_destroy(&s->lock);
    free(s->syslog);
    free(s->command);
    free(s);
}
