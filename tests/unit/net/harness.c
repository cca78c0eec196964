#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/timefmt.h"

#include "../cmocka_all.h"

#define PATIENCE_MS 10000

/* ---- The handler: the first segment of the path says what to do ---- */

static void on_request_closed(struct http_request *req)
{
    struct harness *h = req->data;
    h->closed++;
    if (req == h->streaming) {
        h->streaming = NULL;
        http_stream_end(req);
    }
}

static void flood(struct http_request *req)
{
    struct harness *h = req->data;
    char block[16384];
    memset(block, 'x', sizeof block);
    while (h->streamed < 32 * 1024 * 1024) {
        h->streamed += sizeof block;
        if (http_stream_write(req, block, sizeof block) > 128 * 1024)
            return;
    }
    h->streaming = NULL;
    http_stream_end(req);
}

static void on_flood_drain(struct http_request *req)
{
    struct harness *h = req->data;
    h->drained++;
    flood(req);
}

static void upgraded_read(struct stream *s, void *arg, const char *data, size_t len)
{
    struct harness *h = arg;
    buf_add(&h->upgraded_in, data, len);
    stream_write(s, data, len);
}

static void upgraded_eof(struct stream *s, void *arg)
{
    struct harness *h = arg;
    h->upgraded_eof = true;
    stream_end(s);
    stream_close(s);
}

static void upgraded_close(struct stream *s, void *arg, const struct error *err)
{
    struct harness *h = arg;
    h->upgraded = NULL;
    h->upgraded_closed = true;
}

static const struct stream_handlers echo_handlers = {
    .on_read = upgraded_read,
    .on_eof = upgraded_eof,
    .on_close = upgraded_close,
};

static void do_hold(struct harness *h, struct http_request *req)
{
    h->held[h->held_count++] = req;
}

static void do_echo(struct harness *h, struct http_request *req)
{
    struct buf body = req->body;
    req->body = (struct buf){0};
    http_respond(req, 200, NULL, 0, &body);
}

static void do_chunks(struct harness *h, struct http_request *req)
{
    http_stream_begin(req, 200, NULL, 0, HTTP_STREAM_FINITE);
    http_stream_write(req, "one,", 4);
    http_stream_write(req, "two,", 4);
    http_stream_write(req, "three", 5);
    http_stream_end(req);
}

static void do_flood(struct harness *h, struct http_request *req)
{
    h->streaming = req;
    req->on_drain = on_flood_drain;
    http_stream_begin(req, 200, NULL, 0, HTTP_STREAM_FINITE);
    flood(req);
}

static void do_events(struct harness *h, struct http_request *req)
{
    h->streaming = req;
    http_stream_begin(req, 200, &(struct http_header){"Content-Type", "text/event-stream"}, 1, HTTP_STREAM_ENDLESS);
    http_stream_write(req, "data: 1\n\n", 9);
}

static void do_upgrade(struct harness *h, struct http_request *req)
{
    h->upgraded = http_upgrade(req, "echo", NULL, 0);
    if (!h->upgraded)
        return;
    stream_set_handlers(h->upgraded, &echo_handlers, h);
    stream_read_start(h->upgraded);
}

static void do_show(struct harness *h, struct http_request *req)
{
    CLEANUP_BUF struct buf out = {0};
    for (size_t i = 0; i < req->segment_count; i++)
        buf_printf(&out, "[%s]", req->segments[i]);
    for (size_t i = 0; i < req->query.count; i++)
        buf_printf(&out, "%s=%s;", req->query.items[i].name, req->query.items[i].value);
    http_respond_text(req, 200, "text/plain", out.data ? out.data : "");
}

static void do_who(struct harness *h, struct http_request *req)
{
    CLEANUP_BUF struct buf out = {0};
    buf_printf(&out, "%s", req->tls && req->tls->common_name ? req->tls->common_name : "nobody");
    for (size_t i = 0; req->tls && i < req->tls->name_count; i++)
        buf_printf(&out, " %s", req->tls->names[i]);
    http_respond_text(req, 200, "text/plain", out.data);
}

static void do_drop(struct harness *h, struct http_request *req)
{
    http_request_drop(req);
}

static void do_big(struct harness *h, struct http_request *req)
{
    struct buf body = {0};
    buf_reserve(&body, 1000000);
    memset(body.data, 'b', 1000000);
    body.len = 1000000;
    http_respond(req, 200, NULL, 0, &body);
}

static const struct {
    const char *name;
    void (*run)(struct harness *h, struct http_request *req);
} habits[] = {
    {"hold", do_hold}, {"echo", do_echo}, {"chunks", do_chunks}, {"flood", do_flood}, {"events", do_events},
    {"upgrade", do_upgrade}, {"show", do_show}, {"who", do_who}, {"drop", do_drop}, {"big", do_big},
};

static void on_request(struct http_request *req, void *arg)
{
    struct harness *h = arg;
    const char *name = req->segment_count ? req->segments[0] : "";
    h->requests++;
    req->data = h;
    req->on_close = on_request_closed;
    for (size_t i = 0; i < ARRAY_LEN(habits); i++)
        if (!strcmp(habits[i].name, name)) {
            habits[i].run(h, req);
            return;
        }
    http_respond_text(req, 200, "text/plain", "hello");
}

/* ---- Start, wait, end ---- */

static void on_patience(uv_timer_t *timer)
{
    struct harness *h = timer->data;
    h->late = true;
}

void harness_start_with(struct harness *h, const struct http_server_options *options, const struct address *address,
                        const struct tls_options *server_tls, const struct tls_options *client_tls)
{
    struct error err = {0};
    memset(h, 0, sizeof *h);
    uv_loop_init(&h->loop);
    uv_timer_init(&h->loop, &h->patience);
    h->patience.data = h;
    struct http_server_options o = options ? *options : (struct http_server_options){0};
    o.on_request = on_request;
    o.arg = h;
    h->server = http_server_new(&h->loop, &o);
    h->server_tls = server_tls ? tls_context_new(server_tls, &err) : NULL;
    assert_string_equal(err.text, "");
    h->client_tls = client_tls ? tls_context_new(client_tls, &err) : NULL;
    assert_string_equal(err.text, "");
    struct http_listen_options lo = {.tls = h->server_tls};
    assert_int_equal(http_server_listen(h->server, address, &lo, &err), 0);
    h->client = http_client_new(&h->loop, &(struct http_client_options){.tls = h->client_tls});
    if (address->is_unix)
        snprintf(h->target, sizeof h->target, "unix:%.100s", address->host);
    else
        snprintf(h->target, sizeof h->target, "%s://127.0.0.1:%d", server_tls ? "https" : "http",
                 http_server_port(h->server));
}

void harness_start(struct harness *h, const struct http_server_options *options)
{
    harness_start_with(h, options, &(struct address){.host = "127.0.0.1"}, NULL, NULL);
}

static void on_stopped(void *arg)
{
    struct harness *h = arg;
    h->server = NULL;
}

void harness_end(struct harness *h)
{
    if (h->server && !h->stopped)
        http_server_stop(h->server, 0, on_stopped, h);
    if (h->client)
        http_client_close(h->client, NULL, NULL);
    if (h->upgraded)
        stream_close(h->upgraded);
    uv_close((uv_handle_t *)&h->patience, NULL);
    uv_run(&h->loop, UV_RUN_DEFAULT);
    for (unsigned i = 0; i < h->held_count; i++)
        if (h->held[i])
            http_respond_text(h->held[i], 200, "text/plain", "too late");
    assert_int_equal(uv_loop_close(&h->loop), 0);
    tls_context_free(h->server_tls);
    tls_context_free(h->client_tls);
    buf_free(&h->upgraded_in);
}

static void patience(struct harness *h, int64_t ms)
{
    h->late = false;
    uv_update_time(&h->loop);
    uv_timer_start(&h->patience, on_patience, (uint64_t)ms, 0);
}

bool harness_wait(struct harness *h, const bool *flag)
{
    patience(h, PATIENCE_MS);
    while (!*flag && !h->late)
        uv_run(&h->loop, UV_RUN_ONCE);
    return *flag;
}

bool harness_wait_count(struct harness *h, const unsigned *count, unsigned n)
{
    patience(h, PATIENCE_MS);
    while (*count < n && !h->late)
        uv_run(&h->loop, UV_RUN_ONCE);
    return *count >= n;
}

void harness_run_ms(struct harness *h, int64_t ms)
{
    patience(h, ms);
    while (!h->late)
        uv_run(&h->loop, UV_RUN_ONCE);
}

/* ---- Raw sockets ---- */

int raw_connect(struct harness *h)
{
    bool is_unix = !strncmp(h->target, "unix:", 5);
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)http_server_port(h->server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    snprintf(un.sun_path, sizeof un.sun_path, "%s", h->target + 5);
    int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(is_unix ? connect(fd, (struct sockaddr *)&un, sizeof un)
                             : connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

void raw_send(int fd, const char *text)
{
    size_t len = strlen(text);
    assert_int_equal(send(fd, text, len, MSG_NOSIGNAL), len);
}

/* Reads what is there: 1 something, 0 nothing yet, -1 closed. */
static int raw_take(int fd, struct buf *out)
{
    char block[65536];
    ssize_t n = recv(fd, block, sizeof block, 0);
    if (n > 0)
        buf_add(out, block, (size_t)n);
    return n > 0 ? 1 : n < 0 && errno == EAGAIN ? 0 : -1;
}

char *raw_read(struct harness *h, int fd, const char *until)
{
    struct buf out = {0};
    int64_t end = time_monotonic_ms() + PATIENCE_MS;
    while (time_monotonic_ms() < end) {
        int got = raw_take(fd, &out);
        if (got < 0 || (until && out.data && strstr(out.data, until)))
            break;
        if (!got) {
            patience(h, 5);
            uv_run(&h->loop, UV_RUN_ONCE);
        }
    }
    return buf_steal(&out);
}

bool raw_closed(struct harness *h, int fd)
{
    int64_t end = time_monotonic_ms() + PATIENCE_MS;
    CLEANUP_BUF struct buf out = {0};
    while (time_monotonic_ms() < end) {
        if (raw_take(fd, &out) < 0)
            return true;
        patience(h, 5);
        uv_run(&h->loop, UV_RUN_ONCE);
    }
    return false;
}

char *raw_ask(struct harness *h, const char *text)
{
    int fd = raw_connect(h);
    raw_send(fd, text);
    char *answer = raw_read(h, fd, NULL);
    close(fd);
    return answer;
}

/* ---- Calls ---- */

static void on_head(struct http_call *call, const struct http_response *res, void *arg)
{
    struct answer *a = arg;
    a->heads++;
}

static void on_done(struct http_call *call, struct http_response *res, const struct error *err, void *arg)
{
    struct answer *a = arg;
    a->done = true;
    a->call = NULL;
    a->status = res ? res->status : 0;
    a->failed = err;
    if (err)
        a->err = *err;
    if (res && res->body.len)
        buf_add(&a->body, res->body.data, res->body.len);
}

struct http_call_options answer_options(struct harness *h, struct answer *a, enum http_method method, const char *path)
{
    *a = (struct answer){.h = h};
    return (struct http_call_options){.method = method, .target = h->target, .path = path, .on_head = on_head,
                                      .on_done = on_done, .arg = a};
}

void answer_start(struct answer *a, const struct http_call_options *o)
{
    a->call = http_call_start(a->h->client, o);
}

void answer_get(struct harness *h, struct answer *a, const char *path)
{
    struct http_call_options o = answer_options(h, a, HTTP_METHOD_GET, path);
    answer_start(a, &o);
    assert_true(harness_wait(h, &a->done));
}

void answer_free(struct answer *a)
{
    buf_free(&a->body);
    buf_free(&a->early);
}
