/* Frames in both directions (net/exec_frames.h). Standard input is read while the stream takes it. The exit frame ends the session; a stream that closes before it is an error. However it ends, by a
 * signal too, the terminal is put back. */
#include "cli/exec_session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "net/exec_frames.h"

#define FRAME_LIMIT (1024 * 1024)
#define PIECE (16 * 1024)
#define PENDING_LIMIT (256 * 1024)

struct session {
    uv_loop_t *loop;
    struct stream *stream;
    struct exec_frames in;
    bool tty, exited, closed, paused;
    int open_handles;                /* that are being closed */
    int code, signal;                /* signal: that we were asked to end by */
    struct error error;

    struct termios saved;
    union { uv_stream_t stream; uv_tty_t tty; uv_pipe_t pipe; } input;
    bool has_input;                  /* the handle is open */
    uv_fs_t file_read;               /* standard input is a file */
    bool is_file, reading_file, input_over;
    char piece[PIECE];
    uv_signal_t resize, term, hup;
};

static void send_frame(struct session *s, enum exec_channel channel, const void *p, size_t n)
{
    struct buf frame = {0};
    exec_frame_add(&frame, channel, p, n);
    stream_write_buf(s->stream, &frame);
}

/* --- terminal --- */

bool exec_session_size(unsigned *rows, unsigned *columns)
{
    struct winsize size;
    if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) || !size.ws_row || !size.ws_col)
        return false;
    *rows = size.ws_row;
    *columns = size.ws_col;
    return true;
}

static void on_resize(uv_signal_t *handle, int signum)
{
    struct session *s = handle->data;
    unsigned rows, columns;
    if (!exec_session_size(&rows, &columns) || s->exited)
        return;
    uint8_t p[4] = {(uint8_t)(rows >> 8), (uint8_t)rows, (uint8_t)(columns >> 8), (uint8_t)columns};
    send_frame(s, EXEC_RESIZE, p, sizeof p);
}

static void on_term(uv_signal_t *handle, int signum)
{
    struct session *s = handle->data;
    s->signal = signum;
    stream_close(s->stream);
}

static int make_raw(struct session *s, struct error *err)
{
    struct termios raw;
    if (tcgetattr(STDIN_FILENO, &s->saved))
        return error_set_errno(err, errno, "cannot read the terminal's settings");
    raw = s->saved;
    cfmakeraw(&raw);
    if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw))
        return error_set_errno(err, errno, "cannot make the terminal raw");
    return 0;
}

/* --- standard input --- */

static void input_end(struct session *s)
{
    if (!s->input_over && !s->exited && !s->closed)
        send_frame(s, EXEC_STDIN_CLOSED, "", 0);
    s->input_over = true;
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    struct session *s = handle->data;
    *out = uv_buf_init(s->piece, sizeof s->piece);
}

static void on_input(uv_stream_t *handle, ssize_t n, const uv_buf_t *data)
{
    struct session *s = handle->data;
    if (n < 0) {
        uv_read_stop(handle);
        input_end(s);
    } else if (n > 0) {
        send_frame(s, EXEC_STDIN, data->base, (size_t)n);
        if (stream_pending(s->stream) > PENDING_LIMIT) {
            s->paused = true;
            uv_read_stop(handle);
        }
    }
}

static void read_file(struct session *s);

static void on_file(uv_fs_t *req)
{
    struct session *s = req->data;
    ssize_t n = req->result;
    uv_fs_req_cleanup(req);
    s->reading_file = false;
    if (s->exited || s->closed)
        return;
    if (n <= 0) {
        input_end(s);
        return;
    }
    send_frame(s, EXEC_STDIN, s->piece, (size_t)n);
    s->paused = stream_pending(s->stream) > PENDING_LIMIT;
    if (!s->paused)
        read_file(s);
}

static void read_file(struct session *s)
{
    uv_buf_t room = uv_buf_init(s->piece, sizeof s->piece);
    s->file_read.data = s;
    s->reading_file = uv_fs_read(s->loop, &s->file_read, STDIN_FILENO, &room, 1, -1, on_file) == 0;
    if (!s->reading_file)
        input_end(s);
}

static int open_input(struct session *s, struct error *err)
{
    int rc = 0;
    switch (uv_guess_handle(STDIN_FILENO)) {
    case UV_TTY:
        rc = uv_tty_init(s->loop, &s->input.tty, STDIN_FILENO, 1);
        s->has_input = !rc;
        break;
    case UV_NAMED_PIPE:
        uv_pipe_init(s->loop, &s->input.pipe, 0);
        s->has_input = true;
        rc = uv_pipe_open(&s->input.pipe, STDIN_FILENO);
        break;
    case UV_FILE:
        s->is_file = true;
        break;
    default:
        input_end(s);
    }
    if (s->has_input)
        s->input.stream.data = s;
    if (!rc && s->has_input)
        rc = uv_read_start(&s->input.stream, on_alloc, on_input);
    if (rc)
        return error_set_errno(err, rc, "cannot read standard input");
    if (s->is_file)
        read_file(s);
    return 0;
}

/* --- from the task --- */

static void write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EAGAIN)
            usleep(1000);                /* our output shares its description with a non-blocking input */
        else if (w < 0 && errno != EINTR)
            return;                      /* nobody reads it; the command goes on, and its status counts */
        else if (w > 0)
            p += w, n -= (size_t)w;
    }
}

static bool take_frame(void *arg, uint8_t channel, const uint8_t *p, size_t n)
{
    struct session *s = arg;
    uint32_t code;
    if (channel == EXEC_STDOUT) {
        write_all(STDOUT_FILENO, (const char *)p, n);
    } else if (channel == EXEC_STDERR) {
        write_all(STDERR_FILENO, (const char *)p, n);
    } else if (channel == EXEC_EXIT && n == sizeof code) {
        memcpy(&code, p, sizeof code);
        s->code = (int)ntohl(code);
        s->exited = true;
    }
    return !s->exited;
}

static void on_read(struct stream *stream, void *arg, const char *data, size_t len)
{
    struct session *s = arg;
    if (exec_frames_feed(&s->in, data, len, FRAME_LIMIT, take_frame, s, &s->error))
        stream_close(stream);
}

static void on_eof(struct stream *stream, void *arg)
{
    stream_close(stream);
}

static void on_drain(struct stream *stream, void *arg)
{
    struct session *s = arg;
    if (!s->paused || s->exited)
        return;
    s->paused = false;
    if (s->has_input)
        uv_read_start(&s->input.stream, on_alloc, on_input);
    else if (s->is_file && !s->reading_file && !s->input_over)
        read_file(s);
}

static void on_close(struct stream *stream, void *arg, const struct error *err)
{
    struct session *s = arg;
    s->closed = true;
    if (err && s->error.code == ERROR_NONE)
        s->error = *err;
}

/* --- start and end --- */

static void watch(struct session *s, uv_signal_t *handle, int signum, uv_signal_cb callback)
{
    uv_signal_init(s->loop, handle);
    handle->data = s;
    uv_signal_start(handle, callback, signum);
}

static void on_handle_closed(uv_handle_t *handle)
{
    ((struct session *)handle->data)->open_handles--;
}

static void close_handles(struct session *s)
{
    uv_handle_t *handles[] = {(uv_handle_t *)&s->resize, (uv_handle_t *)&s->term, (uv_handle_t *)&s->hup,
                              s->has_input ? (uv_handle_t *)&s->input : NULL};
    for (size_t i = 0; i < ARRAY_LEN(handles); i++)
        if (handles[i]) {
            uv_close(handles[i], on_handle_closed);
            s->open_handles++;
        }
    if (s->reading_file)
        uv_cancel((uv_req_t *)&s->file_read);      /* one that is under way ends by itself */
    for (int open = 1; open; open = s->open_handles || s->reading_file)
        uv_run(s->loop, UV_RUN_ONCE);
}

int exec_session_run(uv_loop_t *loop, struct stream *stream, bool tty, int *code, struct error *err)
{
    static const struct stream_handlers handlers = {on_read, on_eof, on_drain, on_close};
    struct session s = {.loop = loop, .stream = stream, .tty = tty};
    bool raw = tty && !make_raw(&s, &s.error);
    stream_set_handlers(stream, &handlers, &s);
    watch(&s, &s.resize, SIGWINCH, on_resize);
    watch(&s, &s.term, SIGTERM, on_term);
    watch(&s, &s.hup, SIGHUP, on_term);
    if (s.error.code != ERROR_NONE || open_input(&s, &s.error))
        stream_close(stream);
    else
        stream_read_start(stream);
    while (!s.closed)
        uv_run(loop, UV_RUN_ONCE);
    close_handles(&s);
    if (raw)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &s.saved);
    exec_frames_clear(&s.in);
    if (s.signal) {
        *code = 128 + s.signal;
        return 0;
    }
    if (s.exited) {
        *code = s.code;
        return 0;
    }
    if (s.error.code != ERROR_NONE)
        *err = s.error;
    else
        error_set(err, ERROR_UNAVAILABLE, "the connection to the task ended before the command did");
    return -1;
}
