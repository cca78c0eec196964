/* Commands in tasks. The agent makes the pipes or the terminal, hands the command's ends to the shim over a connection
 * of its own, and the shim runs the command where the task is. Output ends, the exit code arrives, `exited` is told;
 * closing the connection kills the command. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/drivers/shim_task.h"
#include "base/mem.h"

#define OUTPUT_LINGER_MS 500
#define ROWS_DEFAULT 24
#define COLS_DEFAULT 80
#define END_OF_FILE "\x04"

struct write_job {
    uv_write_t req;
    size_t n;
    char bytes[];
};

/* --- descriptors --- */

struct ends {
    int ours[3], theirs[3];
    int n;                           /* 3, or 1 for a terminal */
};

static void ends_close(int *fds, int n)
{
    for (int i = 0; i < n; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static int terminal_open(struct ends *e, uint16_t rows, uint16_t cols, struct error *err)
{
    e->n = 1;
    e->theirs[0] = -1;
    e->ours[0] = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    int unlock = 0;
    if (e->ours[0] >= 0 && ioctl(e->ours[0], TIOCSPTLCK, &unlock) == 0)
        e->theirs[0] = ioctl(e->ours[0], TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (e->theirs[0] < 0) {
        error_set_errno(err, errno, "cannot open a terminal");
        ends_close(e->ours, 1);
        return -1;
    }
    struct winsize size = {.ws_row = rows ? rows : ROWS_DEFAULT, .ws_col = cols ? cols : COLS_DEFAULT};
    ioctl(e->theirs[0], TIOCSWINSZ, &size);
    return 0;
}

static int pipes_open(struct ends *e, struct error *err)
{
    e->n = 3;
    for (int i = 0; i < 3; i++) {
        int fds[2];
        if (pipe2(fds, O_CLOEXEC) < 0) {
            error_set_errno(err, errno, "cannot make pipes for the command");
            ends_close(e->ours, i);
            ends_close(e->theirs, i);
            return -1;
        }
        e->ours[i] = fds[i == 0];
        e->theirs[i] = fds[i != 0];
    }
    return 0;
}

static int request_send(int fd, const struct exec_spec *spec, const struct ends *e, struct error *err)
{
    CLEANUP_BUF struct buf b = {0};
    shim_message_encode(&(struct shim_message){.kind = SHIM_EXEC, .tty = spec->tty, .args = *spec->command}, &b);
    if (b.len > SHIM_MESSAGE_MAX)
        return error_set(err, ERROR_TOO_LARGE, "the command is longer than %d bytes", SHIM_MESSAGE_MAX);
    union { struct cmsghdr align; char bytes[CMSG_SPACE(3 * sizeof(int))]; } control = {0};
    size_t fds_size = (size_t)e->n * sizeof(int);
    struct iovec iov = {.iov_base = b.data, .iov_len = b.len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(fds_size)};
    struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(fds_size);
    memcpy(CMSG_DATA(h), e->theirs, fds_size);
    if (sendmsg(fd, &msg, MSG_NOSIGNAL) < 0)
        return error_set_errno(err, errno, "cannot ask the task's shim to run the command");
    return 0;
}

/* --- handles --- */

static void handle_closed(uv_handle_t *h)
{
    struct exec_session *x = h->data;
    if (--x->open_handles == 0 && !x->head.events)
        free(x);
}

static void handle_add(struct exec_session *x, uv_handle_t *h)
{
    h->data = x;
    x->open_handles++;
}

static void connection_close(struct exec_session *x)
{
    if (x->connection < 0)
        return;
    uv_poll_stop(&x->poll);
    uv_close((uv_handle_t *)&x->poll, handle_closed);
    close(x->connection);
    x->connection = -1;
}

static void in_close(struct exec_session *x)
{
    if (x->in_open)
        uv_close((uv_handle_t *)&x->in, handle_closed);
    x->in_open = false;
}

static void out_close(struct exec_session *x, int i)
{
    if (!x->out_open[i])
        return;
    x->out_open[i] = false;
    x->outputs--;
    uv_close((uv_handle_t *)&x->out[i], handle_closed);
}

static void exited_tell(struct exec_session *x)
{
    if (x->told || !x->head.events)
        return;
    x->told = true;
    uv_timer_stop(&x->timer);
    in_close(x);
    connection_close(x);
    for (int i = 0; i < 2; i++)
        out_close(x, i);
    x->head.events->exited(x->head.arg, x->error.code ? &x->error : NULL, x->code);
}

/* Time alone does not say that no output is there: an agent that was held up itself looks once more. */
static void linger_over(uv_timer_t *timer)
{
    struct exec_session *x = timer->data;
    if (x->looked) {
        exited_tell(x);
        return;
    }
    x->looked = true;
    uv_timer_start(timer, linger_over, 1, 0);
}

static void maybe_exited(struct exec_session *x)
{
    if (!x->ended || x->told)
        return;
    if (x->outputs == 0)
        exited_tell(x);
    else if (!x->paused) {
        x->looked = false;
        uv_timer_start(&x->timer, linger_over, OUTPUT_LINGER_MS, 0);
    }
}

/* --- events --- */

static void connection_readable(uv_poll_t *poll, int status, int events)
{
    struct exec_session *x = poll->data;
    char bytes[4096];
    struct shim_message m;
    while (x->connection >= 0) {
        ssize_t n = recv(x->connection, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            if (!x->ended)
                error_set(&x->error, ERROR_CANCELLED, "the task ended");
            x->ended = true;
            connection_close(x);
        } else if (shim_message_decode(bytes, (size_t)n, &m) == 0) {
            if (m.kind == SHIM_EXEC_EXITED || m.kind == SHIM_EXEC_FAILED) {
                x->ended = true;
                x->code = m.code;
                x->error = m.error;
            }
            shim_message_clear(&m);
        }
        maybe_exited(x);
    }
}

static void buffer_give(uv_handle_t *h, size_t suggested, uv_buf_t *out)
{
    *out = uv_buf_init(mem_alloc(suggested), (unsigned)suggested);
}

static void output_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *data)
{
    struct exec_session *x = stream->data;
    int i = (uv_pipe_t *)stream == &x->out[1];
    if (n > 0 && x->head.events) {
        x->head.events->output(x->head.arg, i + 1, data->base, (size_t)n);
    } else if (n < 0) {
        /* A terminal whose last user is gone answers EIO. */
        out_close(x, i);
        maybe_exited(x);
    }
    free(data->base);
}

static void written(uv_write_t *req, int status)
{
    struct write_job *job = container_of(req, struct write_job, req);
    struct exec_session *x = req->data;
    x->waiting -= job->n;
    free(job);
    if (!x->head.events)
        return;
    if (x->waiting == 0 && x->closing_in)
        in_close(x);
    if (x->waiting == 0 && x->head.events->drained && !x->told)
        x->head.events->drained(x->head.arg);
}

static uv_stream_t *input_stream(struct exec_session *x)
{
    if (x->tty)
        return x->out_open[0] ? (uv_stream_t *)&x->out[0] : NULL;
    return x->in_open && !x->closing_in ? (uv_stream_t *)&x->in : NULL;
}

/* --- the driver's functions --- */

int exec_session_start(struct task *task, struct task_exec *exec, const struct exec_spec *spec, struct error *err)
{
    struct shim_task *t = (struct shim_task *)task;
    struct exec_session *x = (struct exec_session *)exec;
    struct ends e;
    int connection = shim_task_connect(t->alloc_dir, err);
    if (connection < 0)
        return -1;
    if ((spec->tty ? terminal_open(&e, spec->rows, spec->cols, err) : pipes_open(&e, err)) < 0) {
        close(connection);
        return -1;
    }
    int result = request_send(connection, spec, &e, err);
    ends_close(e.theirs, e.n);
    if (result < 0) {
        ends_close(e.ours, e.n);
        close(connection);
        return -1;
    }
    uv_loop_t *loop = shim_task_loop(t);
    x->tty = spec->tty;
    x->connection = connection;
    uv_poll_init(loop, &x->poll, connection);
    handle_add(x, (uv_handle_t *)&x->poll);
    uv_poll_start(&x->poll, UV_READABLE, connection_readable);
    uv_timer_init(loop, &x->timer);
    handle_add(x, (uv_handle_t *)&x->timer);
    for (int i = 0; i < (x->tty ? 1 : 2); i++) {
        uv_pipe_init(loop, &x->out[i], 0);
        handle_add(x, (uv_handle_t *)&x->out[i]);
        uv_pipe_open(&x->out[i], e.ours[x->tty ? 0 : i + 1]);
        x->out_open[i] = true;
        x->outputs++;
        uv_read_start((uv_stream_t *)&x->out[i], buffer_give, output_read);
    }
    if (!x->tty) {
        uv_pipe_init(loop, &x->in, 0);
        handle_add(x, (uv_handle_t *)&x->in);
        uv_pipe_open(&x->in, e.ours[0]);
        x->in_open = true;
    }
    return 0;
}

size_t exec_session_write(struct task_exec *exec, const void *bytes, size_t n)
{
    struct exec_session *x = (struct exec_session *)exec;
    uv_stream_t *stream = input_stream(x);
    if (!stream || n == 0)
        return x->waiting;
    struct write_job *job = mem_alloc(sizeof *job + n);
    memcpy(job->bytes, bytes, n);
    job->n = n;
    job->req.data = x;
    uv_buf_t b = uv_buf_init(job->bytes, (unsigned)n);
    if (uv_write(&job->req, stream, &b, 1, written) < 0)
        free(job);
    else
        x->waiting += n;
    return x->waiting;
}

void exec_session_close_stdin(struct task_exec *exec)
{
    struct exec_session *x = (struct exec_session *)exec;
    if (x->tty) {
        exec_session_write(exec, END_OF_FILE, strlen(END_OF_FILE));
        return;
    }
    x->closing_in = true;
    if (x->waiting == 0)
        in_close(x);
}

void exec_session_resize(struct task_exec *exec, uint16_t rows, uint16_t cols)
{
    struct exec_session *x = (struct exec_session *)exec;
    uv_os_fd_t fd;
    struct winsize size = {.ws_row = rows, .ws_col = cols};
    if (x->tty && x->out_open[0] && uv_fileno((uv_handle_t *)&x->out[0], &fd) == 0)
        ioctl(fd, TIOCSWINSZ, &size);
    if (!x->tty || x->connection < 0)
        return;
    /* A terminal in a guest is not this one. */
    CLEANUP_BUF struct buf b = {0};
    shim_message_encode(&(struct shim_message){.kind = SHIM_RESIZE, .rows = rows, .cols = cols}, &b);
    if (send(x->connection, b.data, b.len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return;                      /* the next one comes through, or the command has ended */
}

void exec_session_pause(struct task_exec *exec, bool paused)
{
    struct exec_session *x = (struct exec_session *)exec;
    if (x->paused == paused)
        return;
    x->paused = paused;
    if (paused)
        uv_timer_stop(&x->timer);
    for (int i = 0; i < 2; i++) {
        if (x->out_open[i] && paused)
            uv_read_stop((uv_stream_t *)&x->out[i]);
        else if (x->out_open[i])
            uv_read_start((uv_stream_t *)&x->out[i], buffer_give, output_read);
    }
    if (!paused)
        maybe_exited(x);
}

void exec_session_free(struct task_exec *exec)
{
    struct exec_session *x = (struct exec_session *)exec;
    connection_close(x);
    in_close(x);
    for (int i = 0; i < 2; i++)
        out_close(x, i);
    uv_close((uv_handle_t *)&x->timer, handle_closed);
}
