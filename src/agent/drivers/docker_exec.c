/* Commands in containers. The engine makes an exec and hands over its connection; output comes in frames, or raw from a
 * terminal; the end of it is the end of the command, whose exit code the engine then tells.
 *
 * Closing the connection does not end a command, and the engine has no call that does. So its process is killed by its
 * pid, when that is still a process of this container. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/drivers/docker.h"
#include "agent/drivers/docker_frames.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#define ROWS_DEFAULT 24
#define COLS_DEFAULT 80
#define END_OF_FILE "\x04"
#define RESIZE_TRIES 20
#define RESIZE_AGAIN_MS 25
#define EXIT_TRIES 200
#define EXIT_AGAIN_MS 10
#define ENDING_TRIES 100
#define ENDING_AGAIN_MS 20

/* --- ending a command: outlives its session --- */

struct docker_ending {
    LIST_ENTRY(docker_ending) entry;
    struct docker *d;
    char *exec, *container;
    struct engine_call *call;
    uv_timer_t timer;
    unsigned tries;
};

static void ending_closed(uv_handle_t *h)
{
    struct docker_ending *e = h->data;
    free(e->exec);
    free(e->container);
    free(e);
}

static void ending_free(struct docker_ending *e)
{
    LIST_REMOVE(e, entry);
    engine_cancel(e->call);
    uv_close((uv_handle_t *)&e->timer, ending_closed);
}

/* The pid may have been given to another process since: its control group names the container it is in. */
static void process_kill(const char *container, int pid)
{
    CLEANUP_FREE char *path = mem_printf("/proc/%d/cgroup", pid);
    CLEANUP_BUF struct buf groups = {0};
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return;
    if (file_read(path, 65536, &groups, NULL) == 0 && strstr(groups.data, container))
        syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
    close(fd);
}

static void ending_ask(uv_timer_t *timer);

static void ending_seen(void *arg, const struct engine_answer *a)
{
    struct docker_ending *e = arg;
    int pid = (int)value_number(&a->json, "Pid");
    e->call = NULL;
    /* A command may write before the engine has noted its pid. */
    if (!a->err.code && pid <= 1 && value_true(&a->json, "Running") && ++e->tries < ENDING_TRIES) {
        uv_timer_start(&e->timer, ending_ask, ENDING_AGAIN_MS, 0);
        return;
    }
    if (!a->err.code && pid > 1 && value_true(&a->json, "Running"))
        process_kill(e->container, pid);
    ending_free(e);
}

static void ending_ask(uv_timer_t *timer)
{
    struct docker_ending *e = timer->data;
    CLEANUP_FREE char *path = mem_printf("/exec/%s/json", e->exec);
    e->call = engine_start(e->d->engine, &(struct engine_request){.path = path}, ending_seen, e);
}

static void command_end(const struct docker_exec *x)
{
    if (!x->id || x->told || x->d->closing)
        return;
    struct docker_ending *e = NEW(struct docker_ending);
    *e = (struct docker_ending){.d = x->d, .exec = mem_strdup(x->id), .container = mem_strdup(x->container)};
    uv_timer_init(x->d->env->loop, &e->timer);
    e->timer.data = e;
    LIST_INSERT_HEAD(&x->d->endings, e, entry);
    ending_ask(&e->timer);
}

void docker_endings_close(struct docker *d)
{
    struct docker_ending *e;
    while ((e = LIST_FIRST(&d->endings)))
        ending_free(e);
}

/* --- its end --- */

static void handle_closed(uv_handle_t *h)
{
    struct docker_exec *x = h->data;
    if (--x->open_handles || x->head.events)
        return;
    free(x->id);
    free(x->container);
    free(x->frames);
    buf_free(&x->early);
    free(x);
}

static void exited_tell(struct docker_exec *x, const struct error *err, int code)
{
    if (x->told || !x->head.events)
        return;
    x->told = true;
    x->head.events->exited(x->head.arg, err, code);
}

static void code_ask(struct docker_exec *x);

static void on_timer(uv_timer_t *timer);

static void code_seen(void *arg, const struct engine_answer *a)
{
    struct docker_exec *x = arg;
    x->call = NULL;
    if (a->err.code) {
        exited_tell(x, &a->err, 0);
    } else if (value_true(&a->json, "Running") && ++x->resize_tries < EXIT_TRIES) {
        /* The output's end is a moment ahead of the process's own. */
        uv_timer_start(&x->timer, on_timer, EXIT_AGAIN_MS, 0);
    } else if (value_true(&a->json, "Running")) {
        struct error err;
        command_end(x);
        error_set(&err, ERROR_CANCELLED, "the command closed its output and went on: it was ended");
        exited_tell(x, &err, 0);
    } else {
        exited_tell(x, NULL, (int)value_number(&a->json, "ExitCode") & 0xff);
    }
}

static void code_ask(struct docker_exec *x)
{
    CLEANUP_FREE char *path = mem_printf("/exec/%s/json", x->id);
    x->call = engine_start(x->d->engine, &(struct engine_request){.path = path}, code_seen, x);
}

static void output_over(struct docker_exec *x)
{
    if (x->ended)
        return;
    x->ended = true;
    x->resize_tries = 0;
    uv_timer_stop(&x->timer);
    engine_cancel(steal(&x->resize_call));
    if (x->head.events)
        code_ask(x);
}

/* --- the connection --- */

static bool on_piece(void *arg, const struct frame_piece *p)
{
    struct docker_exec *x = arg;
    if (p->len && x->head.events)
        x->head.events->output(x->head.arg, p->stream == FRAME_STDERR ? 2 : 1, p->data, p->len);
    return x->head.events != NULL;
}

static void on_read(struct stream *s, void *arg, const char *data, size_t len)
{
    struct docker_exec *x = arg;
    struct error err = {0};
    if (!x->head.events)
        return;
    if (x->tty)
        x->head.events->output(x->head.arg, 1, data, len);
    else if (frames_feed(x->frames, data, len, on_piece, x, &err) < 0) {
        exited_tell(x, &err, 0);
        stream_close(s);
    }
}

static void on_eof(struct stream *s, void *arg)
{
    output_over(arg);
    stream_close(s);
}

static void on_drain(struct stream *s, void *arg)
{
    struct docker_exec *x = arg;
    if (x->head.events && x->head.events->drained && !x->told)
        x->head.events->drained(x->head.arg);
}

static void on_close(struct stream *s, void *arg, const struct error *err)
{
    struct docker_exec *x = arg;
    x->stream = NULL;
    if (!x->ended)
        output_over(x);
    handle_closed((uv_handle_t *)&x->timer);     /* the stream counts as one of the handles */
}

static const struct stream_handlers stream_handlers = {
    .on_read = on_read, .on_eof = on_eof, .on_drain = on_drain, .on_close = on_close,
};

static void resize_send(struct docker_exec *x);

static void on_timer(uv_timer_t *timer)
{
    struct docker_exec *x = timer->data;
    if (x->ended)
        code_ask(x);
    else
        resize_send(x);
}

static void resized(void *arg, const struct engine_answer *a)
{
    struct docker_exec *x = arg;
    x->resize_call = NULL;
    /* The command may not have begun yet. */
    if (a->err.code && ++x->resize_tries < RESIZE_TRIES && !x->ended)
        uv_timer_start(&x->timer, on_timer, RESIZE_AGAIN_MS, 0);
}

static void resize_send(struct docker_exec *x)
{
    CLEANUP_FREE char *path = mem_printf("/exec/%s/resize?h=%u&w=%u", x->id, x->rows, x->cols);
    engine_cancel(steal(&x->resize_call));
    x->resize_call = engine_start(x->d->engine, &(struct engine_request){.method = HTTP_METHOD_POST, .path = path}, resized, x);
}

static void connected(void *arg, struct stream *stream)
{
    struct docker_exec *x = arg;
    x->call = NULL;
    x->stream = stream;
    x->open_handles++;
    stream_set_handlers(stream, &stream_handlers, x);
    if (!x->paused)
        stream_read_start(stream);
    if (x->early.len)
        stream_write_buf(stream, &x->early);
    if (x->closing_in)
        stream_end(stream);
    if (x->tty)
        resize_send(x);
}

static void start_failed(void *arg, const struct engine_answer *a)
{
    struct docker_exec *x = arg;
    struct error err = a->err;
    x->call = NULL;
    x->ended = true;
    if (!err.code)
        error_set(&err, ERROR_CORRUPT, "the Docker engine did not hand over the command's connection");
    exited_tell(x, &err, 0);
}

static void created(void *arg, const struct engine_answer *a)
{
    struct docker_exec *x = arg;
    const char *id = value_text(&a->json, "Id");
    x->call = NULL;
    if (a->err.code || !id) {
        start_failed(x, a);
        return;
    }
    x->id = mem_strdup(id);
    CLEANUP_FREE char *path = mem_printf("/exec/%s/start", id);
    x->call = engine_start(x->d->engine, &(struct engine_request){
        .method = HTTP_METHOD_POST, .path = path, .on_upgrade = connected,
        .body = x->tty ? "{\"Detach\":false,\"Tty\":true}" : "{\"Detach\":false,\"Tty\":false}",
    }, start_failed, x);
}

/* --- the driver's functions --- */

int docker_exec_start(struct task *task, struct task_exec *exec, const struct exec_spec *spec, struct error *err)
{
    struct docker_task *t = (struct docker_task *)task;
    struct docker_exec *x = (struct docker_exec *)exec;
    if (!t->container || t->step < STEP_LOOK || t->step >= STEP_ENDING)
        return error_set(err, ERROR_CONFLICT, "the task does not run");
    if (!engine_up(t->d->engine))
        return error_set(err, ERROR_UNAVAILABLE, "%s", engine_trouble(t->d->engine));
    x->d = t->d;
    x->tty = spec->tty;
    x->rows = spec->rows ? spec->rows : ROWS_DEFAULT;
    x->cols = spec->cols ? spec->cols : COLS_DEFAULT;
    x->container = mem_strdup(t->container);
    x->frames = NEW(struct frames);
    uv_timer_init(t->d->env->loop, &x->timer);
    x->timer.data = x;
    x->open_handles = 1;
    CLEANUP_BUF struct buf body = {0};
    buf_printf(&body, "{\"AttachStdin\":true,\"AttachStdout\":true,\"AttachStderr\":true,\"Tty\":%s,", x->tty ? "true" : "false");
    if (x->tty && engine_api(t->d->engine) >= 42)
        buf_printf(&body, "\"ConsoleSize\":[%u,%u],", x->rows, x->cols);
    buf_add_string(&body, "\"Cmd\":[");
    for (uint32_t i = 0; i < spec->command->n; i++) {
        buf_add_string(&body, i ? "," : "");
        json_add_string(&body, spec->command->v[i]);
    }
    buf_add_string(&body, x->tty ? "],\"Env\":[\"TERM=xterm\"]}" : "]}");
    CLEANUP_FREE char *path = mem_printf("/containers/%s/exec", t->container);
    x->call = engine_start(t->d->engine, &(struct engine_request){.method = HTTP_METHOD_POST, .path = path, .body = body.data},
                           created, x);
    return 0;
}

size_t docker_exec_write(struct task_exec *exec, const void *bytes, size_t n)
{
    struct docker_exec *x = (struct docker_exec *)exec;
    if (x->ended || x->closing_in || x->told)
        return 0;
    if (!x->stream) {
        buf_add(&x->early, bytes, n);
        return x->early.len;
    }
    stream_write(x->stream, bytes, n);
    return stream_pending(x->stream);
}

void docker_exec_close_stdin(struct task_exec *exec)
{
    struct docker_exec *x = (struct docker_exec *)exec;
    if (x->tty) {
        docker_exec_write(exec, END_OF_FILE, strlen(END_OF_FILE));
        return;
    }
    if (!x->closing_in && x->stream && !x->ended)
        stream_end(x->stream);
    x->closing_in = true;
}

void docker_exec_resize(struct task_exec *exec, uint16_t rows, uint16_t cols)
{
    struct docker_exec *x = (struct docker_exec *)exec;
    x->rows = rows;
    x->cols = cols;
    if (x->tty && x->stream && !x->ended) {
        x->resize_tries = 0;
        resize_send(x);
    }
}

void docker_exec_pause(struct task_exec *exec, bool paused)
{
    struct docker_exec *x = (struct docker_exec *)exec;
    if (x->paused == paused)
        return;
    x->paused = paused;
    if (x->stream && paused)
        stream_read_stop(x->stream);
    else if (x->stream)
        stream_read_start(x->stream);
}

void docker_exec_free(struct task_exec *exec)
{
    struct docker_exec *x = (struct docker_exec *)exec;
    engine_cancel(steal(&x->call));
    engine_cancel(steal(&x->resize_call));
    command_end(x);
    x->ended = true;
    if (x->stream)
        stream_close(x->stream);
    uv_close((uv_handle_t *)&x->timer, handle_closed);
}
