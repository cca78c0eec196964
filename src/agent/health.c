/* One timer per check: it is the pause between probes, and the limit of the one that is under way. A probe's connection
 * is an object of its own, since it closes later than its verdict is known. */
#include "agent/health.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/timefmt.h"

#define QUICK_MS 50
#define ANSWER_MAX (64 << 10)
#define STATUS_LINE_MAX 64
#define OUTPUT_SHOWN 120

struct connection {
    struct health_check *check;      /* NULL: nobody wants to know any more */
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    char *request;
    char line[STATUS_LINE_MAX];      /* the beginning of the answer */
    size_t line_bytes, bytes;
    char piece[4096];
};

struct health_check {
    uv_loop_t *loop;
    enum health_type type;
    int64_t interval_ms, timeout_ms, grace_ms, healthy, unhealthy;
    char *target;                    /* "GET http://127.0.0.1:80/", for reasons */
    char *host, *path;
    int port;
    struct str_list command;
    struct task *task;
    const struct health_events *events;
    void *arg;
    uv_timer_t timer;
    bool probing, seen_good;
    struct connection *connection;
    struct task_exec *exec;
    char output[OUTPUT_SHOWN + 1];
    size_t output_bytes;
    int64_t started_at, counted_at, quick_ms;
    int64_t good_in_row, bad_in_row;
    enum { VERDICT_NONE, VERDICT_GOOD, VERDICT_BAD } verdict;
    char last[384];
};

static void probe_begin(uv_timer_t *timer);

/* --- verdicts --- */

static void verdict_set(struct health_check *h, bool good)
{
    int verdict = good ? VERDICT_GOOD : VERDICT_BAD;
    if ((int)h->verdict == verdict)
        return;
    h->verdict = good ? VERDICT_GOOD : VERDICT_BAD;
    char reason[512];
    if (good || h->bad_in_row < 2)
        snprintf(reason, sizeof reason, "%s", h->last);
    else
        snprintf(reason, sizeof reason, "%s (%lld in a row)", h->last, (long long)h->bad_in_row);
    h->events->changed(h->arg, good, reason);
}

/* Before the first success the pauses grow from 50 ms to the interval; a failure counts when a whole interval has
 * passed since the last that did. */
static int64_t failure_count(struct health_check *h, int64_t now)
{
    bool due = h->seen_good || now - h->counted_at >= h->interval_ms;
    h->good_in_row = 0;
    if (due && now - h->started_at >= h->grace_ms) {
        h->counted_at = now;
        h->bad_in_row++;
    }
    if (h->seen_good || h->verdict == VERDICT_BAD)
        return h->interval_ms;
    int64_t pause = h->quick_ms, left = h->counted_at + h->interval_ms - now;
    h->quick_ms *= 2;
    if (left > 0 && pause > left)
        pause = left;
    return pause < h->interval_ms ? pause : h->interval_ms;
}

static void probe_end(struct health_check *h, bool good, const char *text)
{
    if (!h->probing)
        return;
    h->probing = false;
    snprintf(h->last, sizeof h->last, "%s: %s", h->target, text);
    int64_t now = time_monotonic_ms(), pause = h->interval_ms;
    if (good) {
        h->seen_good = true;
        h->bad_in_row = 0;
        h->good_in_row++;
    } else {
        pause = failure_count(h, now);
    }
    uv_timer_start(&h->timer, probe_begin, (uint64_t)(pause > 0 ? pause : 1), 0);
    /* Last: the event may end the check. */
    if (good && h->good_in_row >= h->healthy)
        verdict_set(h, true);
    else if (!good && h->bad_in_row >= h->unhealthy)
        verdict_set(h, false);
}

/* --- http and tcp --- */

static void connection_closed(uv_handle_t *handle)
{
    struct connection *c = handle->data;
    free(c->request);
    free(c);
}

static void connection_drop(struct connection *c)
{
    if (c->check)
        c->check->connection = NULL;
    c->check = NULL;
    if (!uv_is_closing((uv_handle_t *)&c->tcp))
        uv_close((uv_handle_t *)&c->tcp, connection_closed);
}

static void connection_result(struct connection *c, bool good, const char *text)
{
    if (c->check)
        probe_end(c->check, good, text);
}

static void connection_fail(struct connection *c, int status)
{
    struct health_check *h = c->check;
    connection_drop(c);
    if (h)
        probe_end(h, false, status == UV_EOF ? "the connection was closed without an answer" : uv_strerror(status));
}

static void status_line_judge(struct connection *c)
{
    int status;
    char text[64];
    if (sscanf(c->line, "HTTP/1.%*1[01] %3d", &status) != 1) {
        connection_result(c, false, "the answer is not HTTP");
        return;
    }
    snprintf(text, sizeof text, "status %d", status);
    connection_result(c, status >= 200 && status < 400, text);
}

static void piece_give(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct connection *c = handle->data;
    *out = uv_buf_init(c->piece, sizeof c->piece);
}

/* The verdict is known with the first line; the rest is read so that the task sees a client that listens to the end. */
static void answer_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *data)
{
    struct connection *c = stream->data;
    if (n == 0)
        return;
    bool judged = c->line_bytes >= STATUS_LINE_MAX - 1 || strchr(c->line, '\n');
    if (n < 0) {
        if (judged)
            connection_drop(c);
        else
            connection_fail(c, (int)n);
        return;
    }
    c->bytes += (size_t)n;
    if (!judged) {
        size_t room = STATUS_LINE_MAX - 1 - c->line_bytes, take = (size_t)n < room ? (size_t)n : room;
        memcpy(c->line + c->line_bytes, data->base, take);
        c->line_bytes += take;
        if (c->line_bytes >= STATUS_LINE_MAX - 1 || memchr(c->line, '\n', c->line_bytes))
            status_line_judge(c);
    }
    if (c->bytes > ANSWER_MAX)
        connection_drop(c);
}

static void request_written(uv_write_t *req, int status)
{
    struct connection *c = req->data;
    if (status < 0 && status != UV_ECANCELED)
        connection_fail(c, status);
}

static void connected(uv_connect_t *req, int status)
{
    struct connection *c = req->data;
    if (status < 0 || !c->check) {
        if (status != UV_ECANCELED)
            connection_fail(c, status);
        return;
    }
    if (c->check->type == HEALTH_TCP) {
        struct health_check *h = c->check;
        connection_drop(c);
        probe_end(h, true, "connected");
        return;
    }
    uv_buf_t b = uv_buf_init(c->request, (unsigned)strlen(c->request));
    c->write.data = c;
    status = uv_write(&c->write, (uv_stream_t *)&c->tcp, &b, 1, request_written);
    if (status == 0)
        status = uv_read_start((uv_stream_t *)&c->tcp, piece_give, answer_read);
    if (status < 0)
        connection_fail(c, status);
}

static void connection_begin(struct health_check *h)
{
    struct sockaddr_storage address;
    if (uv_ip4_addr(h->host, h->port, (struct sockaddr_in *)&address) < 0
        && uv_ip6_addr(h->host, h->port, (struct sockaddr_in6 *)&address) < 0) {
        probe_end(h, false, "the address is no IP address");
        return;
    }
    struct connection *c = NEW(struct connection);
    c->check = h;
    h->connection = c;
    if (h->type == HEALTH_HTTP)
        c->request = mem_printf("GET %s HTTP/1.1\r\nHost: %s:%d\r\nUser-Agent: mentat-health\r\nAccept: */*\r\n"
                                "Connection: close\r\n\r\n", h->path, h->host, h->port);
    uv_tcp_init(h->loop, &c->tcp);
    c->tcp.data = c;
    c->connect.data = c;
    int status = uv_tcp_connect(&c->connect, &c->tcp, (struct sockaddr *)&address, connected);
    if (status < 0)
        connection_fail(c, status);
}

/* --- exec --- */

static void exec_output(void *arg, int stream, const void *bytes, size_t n)
{
    struct health_check *h = arg;
    size_t room = OUTPUT_SHOWN - h->output_bytes, take = n < room ? n : room;
    memcpy(h->output + h->output_bytes, bytes, take);
    h->output_bytes += take;
    h->output[h->output_bytes] = 0;
}

static void exec_exited(void *arg, const struct error *err, int code)
{
    struct health_check *h = arg;
    char text[256];
    exec_free(steal(&h->exec));
    h->output[strcspn(h->output, "\r\n")] = 0;
    if (err)
        snprintf(text, sizeof text, "%.250s", err->text);
    else
        snprintf(text, sizeof text, "exit code %d%s%s", code, code && *h->output ? ": " : "", code ? h->output : "");
    probe_end(h, !err && code == 0, text);
}

static const struct exec_events exec_events = {.output = exec_output, .exited = exec_exited};

static void exec_begin(struct health_check *h)
{
    struct error err;
    h->output_bytes = 0;
    h->output[0] = 0;
    h->exec = task_exec(h->task, &(struct exec_spec){.command = &h->command}, &exec_events, h, &err);
    if (!h->exec)
        probe_end(h, false, err.text);
    else
        exec_close_stdin(h->exec);
}

/* --- the check --- */

static void probe_drop(struct health_check *h)
{
    if (h->connection)
        connection_drop(h->connection);
    exec_free(steal(&h->exec));
}

static void probe_late(uv_timer_t *timer)
{
    struct health_check *h = timer->data;
    char limit[TIME_TEXT_SIZE], text[64];
    duration_format(limit, h->timeout_ms);
    snprintf(text, sizeof text, "no answer within %s", limit);
    probe_drop(h);
    probe_end(h, false, text);
}

static void probe_begin(uv_timer_t *timer)
{
    struct health_check *h = timer->data;
    probe_drop(h);
    h->probing = true;
    uv_timer_start(&h->timer, probe_late, (uint64_t)h->timeout_ms, 0);
    if (h->type == HEALTH_EXEC)
        exec_begin(h);
    else
        connection_begin(h);
}

static char *target_text(const struct health_target *t)
{
    switch (t->health->type) {
    case HEALTH_HTTP:
        return mem_printf("GET http://%s:%d%s", t->host, t->port, t->health->path ? t->health->path : "/");
    case HEALTH_TCP:
        return mem_printf("tcp %s:%d", t->host, t->port);
    case HEALTH_EXEC:
        return mem_printf("command `%s`", t->health->command.n ? t->health->command.v[0] : "");
    case HEALTH_NONE:
        break;
    }
    return mem_strdup("no check");
}

struct health_check *health_start(uv_loop_t *loop, const struct health_target *target,
                                  const struct health_events *events, void *arg)
{
    const struct health *health = target->health;
    struct health_check *h = NEW(struct health_check);
    h->loop = loop;
    h->type = health->type;
    h->interval_ms = health->interval_ms > 0 ? health->interval_ms : 1;
    h->timeout_ms = health->timeout_ms > 0 ? health->timeout_ms : 1;
    h->grace_ms = health->grace_ms;
    h->healthy = health->healthy > 0 ? health->healthy : 1;
    h->unhealthy = health->unhealthy > 0 ? health->unhealthy : 1;
    h->target = target_text(target);
    h->host = mem_strdup(target->host);
    h->path = mem_strdup(health->path ? health->path : "/");
    h->port = target->port;
    for (uint32_t i = 0; i < health->command.n; i++)
        str_list_add(&h->command, health->command.v[i]);
    h->task = target->task;
    h->events = events;
    h->arg = arg;
    h->started_at = h->counted_at = time_monotonic_ms();
    h->quick_ms = QUICK_MS;
    uv_timer_init(loop, &h->timer);
    h->timer.data = h;
    if (h->type != HEALTH_NONE)
        uv_timer_start(&h->timer, probe_begin, 0, 0);
    return h;
}

static void check_closed(uv_handle_t *handle)
{
    struct health_check *h = handle->data;
    free(h->target);
    free(h->host);
    free(h->path);
    str_list_clear(&h->command);
    free(h);
}

void health_stop(struct health_check *h)
{
    if (!h)
        return;
    h->probing = false;
    probe_drop(h);
    uv_close((uv_handle_t *)&h->timer, check_closed);
}

const char *health_last(const struct health_check *h)
{
    return h->last;
}
