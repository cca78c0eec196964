/* A request is one or more pieces; each has a connection of its own: connect, write, end our direction, read to the end.
 * A connection closes later than its request ends, so it is an object of its own. */
#include "agent/ingress/admin.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "agent/ingress/render.h"
#include "base/buf.h"

#define PIECE_MAX 12000              /* below the proxy's tune.bufsize, 16384 */
#define ANSWER_MAX (64u << 20)
#define TIMEOUT_MS 5000

struct connection {
    struct admin *admin;             /* NULL: nobody waits for it any more */
    uv_pipe_t pipe;
    uv_connect_t connect;
    uv_write_t write;
    uv_shutdown_t shutdown;
    struct buf out;
    char in[16384];
};

struct request {
    TAILQ_ENTRY(request) link;
    char *prefix;                    /* of each piece */
    char *text;
    size_t from, len;                /* what was sent of it */
    bool whole;
    struct buf answer;
    admin_done *done;
    void *arg;
};

struct admin {
    uv_loop_t *loop;
    char *directory;
    TAILQ_HEAD(, request) requests;  /* the first is under way when there is a connection */
    struct connection *connection;
    uv_timer_t timer;                /* the limit of the piece under way; or the next beginning */
};

static void begin(uv_timer_t *timer);

static void request_free(struct request *r)
{
    free(r->prefix);
    free(r->text);
    buf_free(&r->answer);
    free(r);
}

static void on_closed(uv_handle_t *h)
{
    struct connection *c = h->data;
    buf_free(&c->out);
    free(c);
}

static void connection_drop(struct admin *a)
{
    struct connection *c = steal(&a->connection);
    if (!c)
        return;
    c->admin = NULL;
    uv_close((uv_handle_t *)&c->pipe, on_closed);
}

/* The first request is over. */
static void finish(struct admin *a, const struct error *err)
{
    struct request *r = TAILQ_FIRST(&a->requests);
    connection_drop(a);
    TAILQ_REMOVE(&a->requests, r, link);
    uv_timer_start(&a->timer, begin, 0, 0);
    r->done(r->arg, err, err ? NULL : r->answer.data ? r->answer.data : "");
    request_free(r);
}

static void fail(struct admin *a, int status, const char *what)
{
    struct error err;
    error_set_errno(&err, status, "%s", what);
    finish(a, &err);
}

static void piece_done(struct admin *a)
{
    struct request *r = TAILQ_FIRST(&a->requests);
    r->from += r->len;
    if (r->text[r->from]) {
        connection_drop(a);
        uv_timer_start(&a->timer, begin, 0, 0);
    } else {
        finish(a, NULL);
    }
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *b)
{
    struct connection *c = h->data;
    *b = uv_buf_init(c->in, sizeof c->in);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
    struct connection *c = s->data;
    if (!c->admin || n == 0)
        return;
    struct request *r = TAILQ_FIRST(&c->admin->requests);
    if (n == UV_EOF)
        piece_done(c->admin);
    else if (n < 0)
        fail(c->admin, (int)n, "the proxy broke off its answer");
    else if (r->answer.len + (size_t)n > ANSWER_MAX)
        fail(c->admin, EMSGSIZE, "the proxy's answer is too long");
    else
        buf_add(&r->answer, b->base, (size_t)n);
}

static void on_write(uv_write_t *w, int status)
{
    struct connection *c = w->data;
    if (c->admin && status < 0)
        fail(c->admin, status, "the proxy took no command");
}

static void on_shutdown(uv_shutdown_t *s, int status)
{
}

static void on_connect(uv_connect_t *connect, int status)
{
    struct connection *c = connect->data;
    if (!c->admin)
        return;
    if (status < 0) {
        fail(c->admin, status, "the proxy cannot be reached");
        return;
    }
    uv_buf_t b = uv_buf_init(c->out.data, (unsigned)c->out.len);
    c->write.data = c;
    uv_write(&c->write, (uv_stream_t *)&c->pipe, &b, 1, on_write);
    uv_shutdown(&c->shutdown, (uv_stream_t *)&c->pipe, on_shutdown);
    uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read);
}

/* How much of the rest goes next: whole lines. */
static size_t piece_length(const struct request *r)
{
    const char *rest = r->text + r->from;
    size_t n = 0;
    while (rest[n] && !r->whole) {
        size_t line = strcspn(rest + n, "\n");
        line += rest[n + line] == '\n';
        if (n && n + line > PIECE_MAX)
            break;
        n += line;
    }
    return r->whole ? strlen(rest) : n;
}

/* Through the folder's descriptor, which is open only until the connection is made (at once, for a unix socket). */
static void connection_start(struct admin *a, struct request *r)
{
    int dir = open(a->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        fail(a, errno, a->directory);
        return;
    }
    struct connection *c = a->connection = NEW(struct connection);
    c->admin = a;
    uv_pipe_init(a->loop, &c->pipe, 0);
    c->pipe.data = c->connect.data = c;
    r->len = piece_length(r);
    buf_add_string(&c->out, r->prefix);
    size_t at = c->out.len;
    buf_add(&c->out, r->text + r->from, r->len);
    while (!r->whole && c->out.len > at && c->out.data[c->out.len - 1] == '\n')
        c->out.len--;                /* an empty command would be answered with a page of help */
    for (size_t i = at; !r->whole && i < c->out.len; i++)
        if (c->out.data[i] == '\n')
            c->out.data[i] = ';';
    buf_add_char(&c->out, '\n');
    CLEANUP_FREE char *path = mem_printf("/proc/self/fd/%d/" RENDER_MASTER, dir);
    uv_pipe_connect(&c->connect, &c->pipe, path, on_connect);
    close(dir);
}

static void on_timeout(uv_timer_t *timer)
{
    struct admin *a = timer->data;
    if (a->connection)
        fail(a, ETIMEDOUT, "the proxy does not answer");
}

static void begin(uv_timer_t *timer)
{
    struct admin *a = timer->data;
    struct request *r = TAILQ_FIRST(&a->requests);
    if (!r || a->connection)
        return;
    uv_timer_start(&a->timer, on_timeout, TIMEOUT_MS, 0);
    connection_start(a, r);
}

static void ask(struct admin *a, int pid, const char *text, bool whole, admin_done *done, void *arg)
{
    struct request *r = NEW(struct request);
    r->prefix = pid ? mem_printf("@!%d;", pid) : mem_strdup("");
    r->text = mem_strdup(text);
    r->whole = whole;
    r->done = done;
    r->arg = arg;
    bool first = TAILQ_EMPTY(&a->requests);
    TAILQ_INSERT_TAIL(&a->requests, r, link);
    if (first && !a->connection)
        uv_timer_start(&a->timer, begin, 0, 0);
}

void admin_ask(struct admin *a, int pid, const char *commands, admin_done *done, void *arg)
{
    ask(a, pid, commands, false, done, arg);
}

void admin_ask_whole(struct admin *a, int pid, const char *text, admin_done *done, void *arg)
{
    ask(a, pid, text, true, done, arg);
}

struct admin *admin_new(uv_loop_t *loop, const char *directory)
{
    struct admin *a = NEW(struct admin);
    a->loop = loop;
    a->directory = mem_strdup(directory);
    TAILQ_INIT(&a->requests);
    uv_timer_init(loop, &a->timer);
    a->timer.data = a;
    return a;
}

void admin_forget(struct admin *a)
{
    struct error err;
    error_set(&err, ERROR_CANCELLED, "the proxy is not asked any more");
    connection_drop(a);
    TAILQ_HEAD(, request) ended = TAILQ_HEAD_INITIALIZER(ended);
    TAILQ_CONCAT(&ended, &a->requests, link);
    for (struct request *r; (r = TAILQ_FIRST(&ended));) {
        TAILQ_REMOVE(&ended, r, link);
        r->done(r->arg, &err, NULL);
        request_free(r);
    }
    if (!a->connection && TAILQ_EMPTY(&a->requests))
        uv_timer_stop(&a->timer);
}

static void on_admin_closed(uv_handle_t *h)
{
    struct admin *a = h->data;
    free(a->directory);
    free(a);
}

void admin_close(struct admin *a)
{
    admin_forget(a);
    uv_close((uv_handle_t *)&a->timer, on_admin_closed);
}
