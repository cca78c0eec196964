/* A command in a task over an upgraded connection, in frames (net/exec_frames.h). Happy path: the command starts, the connection is upgraded, stdin frames go in, output frames go out, the
 * exit frame is the last one, the peer closes. */
#include <arpa/inet.h>
#include <string.h>

#include "agent/api_streams.h"
#include "net/exec_frames.h"

#define FRAME_MAX (64 * 1024)
#define PENDING_LIMIT (256 * 1024)
#define EXIT_NOT_STARTED 127

struct exec_request { struct str_list command; };

static const struct field exec_request_fields[] = {
    {.name = "command", .tag = 1, .kind = FIELD_STR_LIST, .offset = offsetof(struct exec_request, command)},
    {0},
};
static const struct type exec_request_type = {
    .name = "exec_request", .size = sizeof(struct exec_request), .fields = exec_request_fields,
};

struct exec_stream {
    struct api_stream head;
    struct stream *stream;
    struct task_exec *exec;
    struct exec_frames in;
    bool paused;
};

static void send_frame(struct exec_stream *x, enum exec_channel channel, const void *p, size_t n)
{
    struct buf b = {0};
    exec_frame_add(&b, channel, p, n);
    stream_write_buf(x->stream, &b);
}

/* --- from the command --- */

static void on_output(void *arg, int stream, const void *bytes, size_t n)
{
    struct exec_stream *x = arg;
    send_frame(x, stream == 2 ? EXEC_STDERR : EXEC_STDOUT, bytes, n);
    if (stream_pending(x->stream) > PENDING_LIMIT && !x->paused) {
        x->paused = true;
        exec_pause(x->exec, true);
    }
}

static void on_exited(void *arg, const struct error *err, int code)
{
    struct exec_stream *x = arg;
    if (err) {
        CLEANUP_FREE char *text = mem_printf("%s\n", err->text);
        send_frame(x, EXEC_STDERR, text, strlen(text));
        code = EXIT_NOT_STARTED;
    }
    uint32_t number = htonl((uint32_t)code);
    send_frame(x, EXEC_EXIT, &number, sizeof(number));
    exec_free(steal(&x->exec));
    stream_end(x->stream);
    stream_read_start(x->stream);
}

static void on_drained(void *arg)
{
    stream_read_start(((struct exec_stream *)arg)->stream);
}

/* --- from the peer --- */

static bool take_frame(void *arg, uint8_t channel, const uint8_t *p, size_t n)
{
    struct exec_stream *x = arg;
    if (!x->exec)
        return true;                 /* it is over: what still comes is not read by anyone */
    switch (channel) {
    case EXEC_STDIN:
        if (exec_write(x->exec, p, n) > PENDING_LIMIT)
            stream_read_stop(x->stream);
        return true;
    case EXEC_RESIZE:
        if (n != 4)
            return false;
        exec_resize(x->exec, (uint16_t)(p[0] << 8 | p[1]), (uint16_t)(p[2] << 8 | p[3]));
        return true;
    case EXEC_STDIN_CLOSED:
        exec_close_stdin(x->exec);
        return true;
    default:
        return false;
    }
}

static void on_read(struct stream *s, void *arg, const char *data, size_t len)
{
    struct exec_stream *x = arg;
    if (exec_frames_feed(&x->in, data, len, FRAME_MAX, take_frame, x, NULL))
        stream_close(s);
}

static void on_eof(struct stream *s, void *arg)
{
    stream_close(s);
}

static void on_drain(struct stream *s, void *arg)
{
    struct exec_stream *x = arg;
    if (x->paused && x->exec) {
        x->paused = false;
        exec_pause(x->exec, false);
    }
}

static void on_close(struct stream *s, void *arg, const struct error *err)
{
    struct exec_stream *x = arg;
    if (x->head.close)
        LIST_REMOVE(&x->head, link);
    if (x->exec)
        exec_free(x->exec);
    exec_frames_clear(&x->in);
    free(x->head.alloc_id);
    free(x);
}

/* The API may be gone before the stream is: it leaves the list now. */
static void exec_close(struct api_stream *s)
{
    LIST_REMOVE(s, link);
    s->close = NULL;
    stream_close(((struct exec_stream *)s)->stream);
}

/* --- the request --- */

static int parse_query(const struct http_request *req, struct exec_spec *spec, struct exec_request *body,
                       struct error *err)
{
    const char *command = http_request_query(req, "command"), *tty = http_request_query(req, "tty");
    const char *rows = http_request_query(req, "rows"), *cols = http_request_query(req, "cols");
    struct problem_list problems = {0};
    CLEANUP_FREE char *json = mem_printf("{\"command\":%s}", command ? command : "[]");
    if (type_from_json(&exec_request_type, json, strlen(json), false, body, &problems) < 0) {
        problem_list_clear(&problems);
        return error_set(err, ERROR_INVALID, "command: must be a JSON array of strings such as [\"ls\",\"-l\"]");
    }
    if (!body->command.n)
        return error_set(err, ERROR_INVALID, "command: is missing; give a JSON array of strings such as [\"ls\",\"-l\"]");
    *spec = (struct exec_spec){
        .command = &body->command, .tty = tty && !strcmp(tty, "true"),
        .rows = (uint16_t)(rows ? strtoul(rows, NULL, 10) : 0), .cols = (uint16_t)(cols ? strtoul(cols, NULL, 10) : 0),
    };
    return 0;
}

static int begin(struct exec_stream *x, struct http_request *req, const struct runner_view *view, struct error *err)
{
    static const struct exec_events events = {.output = on_output, .exited = on_exited, .drained = on_drained};
    struct exec_request body = {0};
    struct exec_spec spec;
    if (!req->wants_upgrade)
        return error_set(err, ERROR_INVALID, "this needs `Connection: Upgrade` and `Upgrade: " EXEC_PROTOCOL "`");
    if (!view->task)
        return error_set(err, ERROR_CONFLICT, "allocation %s does not run (%s)", view->record->alloc.id,
                         alloc_state_names[view->record->report.state]);
    int rc = parse_query(req, &spec, &body, err);
    if (!rc) {
        x->exec = task_exec(view->task, &spec, &events, x, err);
        rc = x->exec ? 0 : -1;
    }
    type_clear(&exec_request_type, &body);
    return rc;
}

void api_exec(struct api_stream_list *list, struct http_request *req, const struct runner_view *view)
{
    static const struct stream_handlers handlers = {
        .on_read = on_read, .on_eof = on_eof, .on_drain = on_drain, .on_close = on_close,
    };
    struct exec_stream *x = NEW(struct exec_stream);
    struct error err = {0};
    if (begin(x, req, view, &err) < 0) {
        http_respond_error(req, &err);
        free(x);
        return;
    }
    x->stream = http_upgrade(req, EXEC_PROTOCOL, NULL, 0);
    if (!x->stream) {
        exec_free(x->exec);
        free(x);
        return;
    }
    x->head = (struct api_stream){.alloc_id = mem_strdup(view->record->alloc.id), .close = exec_close};
    LIST_INSERT_HEAD(list, &x->head, link);
    stream_set_handlers(x->stream, &handlers, x);
    stream_read_start(x->stream);
}
