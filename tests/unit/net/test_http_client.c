#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "harness.h"

#include "../cmocka_all.h"

static int setup(void **state)
{
    struct harness *h = NEW(struct harness);
    harness_start(h, NULL);
    *state = h;
    return 0;
}

static int teardown(void **state)
{
    harness_end(*state);
    free(*state);
    return 0;
}

static void assert_has(const char *text, const char *part)
{
    if (!text || !strstr(text, part))
        fail_msg("expected \"%s\" in \"%s\"", part, text ? text : "(nothing)");
}

/* A peer with a script: accepts on a raw socket, so that its answers can be anything. */
struct peer {
    int listening, fd;
    char target[64];
};

static void peer_listen(struct peer *p)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    p->fd = -1;
    p->listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(p->listening, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(p->listening, 8), 0);
    getsockname(p->listening, (struct sockaddr *)&in, &len);
    snprintf(p->target, sizeof p->target, "http://127.0.0.1:%d", ntohs(in.sin_port));
}

static void peer_accept(struct harness *h, struct peer *p)
{
    for (int i = 0; i < 1000 && (p->fd = accept(p->listening, NULL, NULL)) < 0; i++)
        harness_run_ms(h, 5);
    assert_true(p->fd >= 0);
    fcntl(p->fd, F_SETFL, O_NONBLOCK);
}

static void peer_close(struct peer *p)
{
    if (p->fd >= 0)
        close(p->fd);
    close(p->listening);
}

/* One GET that this peer answers with these bytes, and then closes when told to. */
static void peer_answers(struct harness *h, struct answer *a, const char *bytes, bool closes)
{
    struct peer p;
    peer_listen(&p);
    struct http_call_options o = answer_options(h, a, HTTP_METHOD_GET, "/x");
    o.target = p.target;
    answer_start(a, &o);
    peer_accept(h, &p);
    free(raw_read(h, p.fd, "\r\n\r\n"));
    raw_send(p.fd, bytes);
    if (closes)
        shutdown(p.fd, SHUT_WR);
    assert_true(harness_wait(h, &a->done));
    peer_close(&p);
}

static void gets_an_answer(void **state)
{
    struct answer a;
    answer_get(*state, &a, "/");
    assert_int_equal(a.status, 200);
    assert_false(a.failed);
    assert_string_equal(a.body.data, "hello");
    assert_int_equal(a.heads, 1);
    answer_free(&a);
}

static void sends_a_body(void **state)
{
    struct harness *h = *state;
    struct answer a;
    struct http_call_options o = answer_options(h, &a, HTTP_METHOD_POST, "/echo");
    CLEANUP_BUF struct buf body = {0};
    for (int i = 0; i < 300000; i++)
        buf_add(&body, "0123456789", 10);
    o.body = body.data;
    o.body_len = body.len;
    answer_start(&a, &o);
    assert_true(harness_wait(h, &a.done));
    assert_int_equal(a.body.len, body.len);
    assert_memory_equal(a.body.data, body.data, body.len);
    answer_free(&a);
}

static void head_ends_without_body(void **state)
{
    struct harness *h = *state;
    struct answer a;
    struct http_call_options o = answer_options(h, &a, HTTP_METHOD_HEAD, "/");
    for (int i = 0; i < 2; i++) {
        answer_start(&a, &o);
        assert_true(harness_wait(h, &a.done));
        assert_false(a.failed);
        assert_int_equal(a.body.len, 0);
        a.done = false;
    }
    assert_int_equal(http_server_connections(h->server), 1);
    answer_get(h, &a, "/");
    assert_string_equal(a.body.data, "hello");
    answer_free(&a);
}

static void reuses_a_connection(void **state)
{
    struct harness *h = *state;
    for (int i = 0; i < 5; i++) {
        struct answer a;
        answer_get(h, &a, i % 2 ? "/chunks" : "/");
        assert_string_equal(a.body.data, i % 2 ? "one,two,three" : "hello");
        answer_free(&a);
    }
    assert_int_equal(http_server_connections(h->server), 1);
}

static void calls_at_once_use_connections_of_their_own(void **state)
{
    struct harness *h = *state;
    struct answer a[4];
    for (int i = 0; i < 4; i++) {
        struct http_call_options o = answer_options(h, &a[i], HTTP_METHOD_GET, "/hold");
        answer_start(&a[i], &o);
    }
    assert_true(harness_wait_count(h, &h->held_count, 4));
    for (int i = 0; i < 4; i++) {
        http_respond_text(h->held[i], 200, "text/plain", "held");
        h->held[i] = NULL;
    }
    for (int i = 0; i < 4; i++) {
        assert_true(harness_wait(h, &a[i].done));
        assert_string_equal(a[i].body.data, "held");
        answer_free(&a[i]);
    }
}

static void a_refused_connection_names_address_and_cause(void **state)
{
    struct harness *h = *state;
    struct peer p;
    struct answer a;
    peer_listen(&p);
    peer_close(&p);
    struct http_call_options o = answer_options(h, &a, HTTP_METHOD_GET, "/x");
    o.target = p.target;
    answer_start(&a, &o);
    assert_false(a.done);
    assert_true(harness_wait(h, &a.done));
    assert_int_equal(a.err.code, ERROR_UNAVAILABLE);
    assert_has(a.err.text, strstr(p.target, "127"));
    assert_has(a.err.text, "connection refused");
}

static void bad_targets_fail_later_with_a_reason(void **state)
{
    static const char *const targets[] = {"ftp://x", "http://", "https://x:1", "http://x:99999", "http://a/b",
                                          "unix:relative", "http://[::1", "127.0.0.1:80", ""};
    struct harness *h = *state;
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        struct answer a;
        struct http_call_options o = answer_options(h, &a, HTTP_METHOD_GET, "/");
        o.target = targets[i];
        answer_start(&a, &o);
        assert_false(a.done);
        assert_true(harness_wait(h, &a.done));
        if (a.err.code != ERROR_INVALID)
            fail_msg("%s gave %s", targets[i], a.err.text);
    }
}

static void a_missing_socket_is_unavailable(void **state)
{
    struct harness *h = *state;
    struct answer a;
    struct http_call_options o = answer_options(h, &a, HTTP_METHOD_GET, "/");
    o.target = "unix:/nonexistent/socket";
    answer_start(&a, &o);
    assert_true(harness_wait(h, &a.done));
    assert_int_equal(a.err.code, ERROR_UNAVAILABLE);
    assert_has(a.err.text, "no such file");
}

static void localhost_tries_both_families(void **state)
{
    struct harness *h = *state;
    struct answer a;
    char target[64];
    struct http_call_options o = answer_options(h, &a, HTTP_METHOD_GET, "/");
    snprintf(target, sizeof target, "http://localhost:%d", http_server_port(h->server));
    o.target = target;
    answer_start(&a, &o);
    assert_true(harness_wait(h, &a.done));
    assert_int_equal(a.status, 200);
    answer_free(&a);
    /* Nobody listens on this one: both are tried, and the last reason is told. */
    struct peer p;
    peer_listen(&p);
    peer_close(&p);
    snprintf(target, sizeof target, "http://localhost:%s", strrchr(p.target, ':') + 1);
    o = answer_options(h, &a, HTTP_METHOD_GET, "/");
    o.target = target;
    answer_start(&a, &o);
    assert_true(harness_wait(h, &a.done));
    assert_int_equal(a.err.code, ERROR_UNAVAILABLE);
}

static void understands_what_peers_answer(void **state)
{
    static const struct {
        const char *bytes;
        bool closes;
        int status;
        enum error_code code;
        const char *body;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", false, 200, 0, "abc"},
        {"HTTP/1.1 200 OK\r\n\r\nuntil close", true, 200, 0, "until close"},
        {"HTTP/1.0 200 OK\r\n\r\nuntil close", true, 200, 0, "until close"},
        {"HTTP/1.1 204 No Content\r\n\r\n", false, 204, 0, NULL},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, 304, 0, NULL},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false, 200, 0, "ok"},
        {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
         false, 404, 0, NULL},
        {"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", false, 200, 0, "x"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
         false, 200, 0, "abc"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcEXTRA", false, 200, 0, "abc"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", true, 200, ERROR_UNKNOWN_OUTCOME, NULL},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true, 200, ERROR_UNKNOWN_OUTCOME, NULL},
        {"", true, 0, ERROR_UNKNOWN_OUTCOME, NULL},
        {"HTTP/1.1 2", true, 0, ERROR_UNKNOWN_OUTCOME, NULL},
        {"SSH-2.0-OpenSSH\r\n", true, 0, ERROR_CORRUPT, NULL},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", false, 0, ERROR_CORRUPT, NULL},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
         false, 0, ERROR_CORRUPT, NULL},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", false, 200, ERROR_CORRUPT, NULL},
        {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
         false, 101, ERROR_CORRUPT, NULL},
    };
    struct harness *h = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct answer a;
        peer_answers(h, &a, cases[i].bytes, cases[i].closes);
        bool right = a.status == cases[i].status && a.err.code == cases[i].code &&
                     (!cases[i].body || (a.body.data && !strcmp(a.body.data, cases[i].body)));
        if (!right)
            fail_msg("%s\ngave status %d, error %s, body %s", cases[i].bytes, a.status, a.err.text, a.body.data);
        answer_free(&a);
    }
}

static void a_kept_connection_that_was_closed_is_replaced(void **state)
{
    struct harness *h = *state;
    struct peer p;
    struct answer a;
    peer_listen(&p);
    struct http_call_options o = answer_options(h, &a, HTTP_METHOD_GET, "/x");
    o.target = p.target;
    answer_start(&a, &o);
    peer_accept(h, &p);
    free(raw_read(h, p.fd, "\r\n\r\n"));
    raw_send(p.fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_true(harness_wait(h, &a.done));
    /* Closed in the moment in which the next call is made: the loop did not run between. */
    close(p.fd);
    a.done = false;
    answer_start(&a, &o);
    peer_accept(h, &p);
    free(raw_read(h, p.fd, "\r\n\r\n"));
    raw_send(p.fd, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    assert_true(harness_wait(h, &a.done));
    assert_int_equal(a.status, 201);
    /* What may not be repeated is not. */
    o.method = HTTP_METHOD_POST;
    close(p.fd);
    a.done = false;
    answer_start(&a, &o);
    assert_true(harness_wait(h, &a.done));
    assert_int_equal(a.err.code, ERROR_UNKNOWN_OUTCOME);
    p.fd = -1;
    peer_close(&p);
}

static void timeouts_name_the_phase(void **state)
{
    struct harness *h = *state;
    struct peer p;
    struct answer a;
    struct http_call_options o = answer_options(h, &a, HTTP_METHOD_GET, "/hold");
    o.response_timeout_ms = 50;
    answer_start(&a, &o);
    assert_true(harness_wait(h, &a.done));
    assert_int_equal(a.err.code, ERROR_TIMEOUT);
    assert_has(a.err.text, "no answer in time");
    peer_listen(&p);
    o = answer_options(h, &a, HTTP_METHOD_GET, "/");
    o.target = p.target;
    o.idle_timeout_ms = 50;
    answer_start(&a, &o);
    peer_accept(h, &p);
    raw_send(p.fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc");
    assert_true(harness_wait(h, &a.done));
    assert_int_equal(a.err.code, ERROR_TIMEOUT);
    assert_has(a.err.text, "stopped in the middle");
    peer_close(&p);
    answer_free(&a);
}

static void answers_beyond_the_limit_are_refused(void **state)
{
    struct harness *h = *state;
    struct answer a;
    struct http_call_options o = answer_options(h, &a, HTTP_METHOD_GET, "/big");
    o.response_limit = 999999;
    answer_start(&a, &o);
    assert_true(harness_wait(h, &a.done));
    assert_int_equal(a.err.code, ERROR_TOO_LARGE);
    answer_free(&a);
    o = answer_options(h, &a, HTTP_METHOD_GET, "/big");
    o.response_limit = 1000000;
    answer_start(&a, &o);
    assert_true(harness_wait(h, &a.done));
    assert_int_equal(a.body.len, 1000000);
    answer_free(&a);
}

/* ---- Cancelling ---- */

static void cancel_in_data(struct http_call *call, const char *data, size_t len, void *arg)
{
    struct answer *a = arg;
    a->pieces++;
    http_call_cancel(call);
}

static void cancel_in_head(struct http_call *call, const struct http_response *res, void *arg)
{
    struct answer *a = arg;
    a->heads++;
    http_call_cancel(call);
}

static void cancels_in_every_phase(void **state)
{
    struct harness *h = *state;
    struct answer a;
    struct http_call_options o = answer_options(h, &a, HTTP_METHOD_GET, "/hold");
    /* Before it is connected. */
    answer_start(&a, &o);
    http_call_cancel(a.call);
    /* Before it failed. */
    o.target = "nonsense";
    answer_start(&a, &o);
    http_call_cancel(a.call);
    /* While it looks the name up. */
    o.target = "http://name.invalid:80";
    answer_start(&a, &o);
    http_call_cancel(a.call);
    /* Waiting for the answer. */
    o.target = h->target;
    unsigned before = h->held_count;
    answer_start(&a, &o);
    assert_true(harness_wait_count(h, &h->held_count, before + 1));
    http_call_cancel(a.call);
    harness_run_ms(h, 30);
    /* In its callbacks. */
    o.path = "/flood";
    o.on_head = cancel_in_head;
    answer_start(&a, &o);
    assert_true(harness_wait_count(h, &a.heads, 1));
    assert_true(harness_wait_count(h, &h->closed, 1));
    o.on_head = NULL;
    o.on_data = cancel_in_data;
    h->streamed = 0;
    answer_start(&a, &o);
    assert_true(harness_wait_count(h, &a.pieces, 1));
    assert_true(harness_wait_count(h, &h->closed, 2));
    assert_int_equal(a.pieces, 1);
    assert_false(a.done);
}

/* ---- Backpressure ---- */

struct slow {
    struct harness *h;
    struct http_call *call;
    size_t got;
    unsigned pauses;
    bool done, paused;
};

static void slow_data(struct http_call *call, const char *data, size_t len, void *arg)
{
    struct slow *s = arg;
    assert_false(s->paused);
    s->got += len;
    if (s->got / 1000000 > s->pauses) {
        s->pauses++;
        s->paused = true;
        http_call_pause(call);
    }
}

static void slow_done(struct http_call *call, struct http_response *res, const struct error *err, void *arg)
{
    struct slow *s = arg;
    assert_null(err);
    assert_false(s->paused);
    s->done = true;
}

static void a_paused_call_holds_its_peer_back(void **state)
{
    struct harness *h = *state;
    struct slow s = {.h = h};
    struct http_call *call = http_call_start(h->client, &(struct http_call_options){.target = h->target,
        .path = "/flood", .on_data = slow_data, .on_done = slow_done, .arg = &s});
    while (!s.done) {
        if (s.paused) {
            size_t got = s.got;
            harness_run_ms(h, 1);
            assert_int_equal(s.got, got);
            s.paused = false;
            http_call_resume(call);
            assert_int_equal(s.got, got);
        }
        uv_run(&h->loop, UV_RUN_ONCE);
    }
    assert_int_equal(s.got, 32 * 1024 * 1024);
    assert_true(s.pauses > 10 && h->drained > 0);
}

/* ---- Upgrade ---- */

static void stream_read(struct stream *s, void *arg, const char *data, size_t len)
{
    struct answer *a = arg;
    buf_add(&a->early, data, len);
}

static void stream_closed(struct stream *s, void *arg, const struct error *err)
{
    struct answer *a = arg;
    a->stream = NULL;
    a->stream_closed = true;
}

static void stream_eof(struct stream *s, void *arg)
{
    stream_close(s);
}

static const struct stream_handlers stream_table = {
    .on_read = stream_read,
    .on_eof = stream_eof,
    .on_close = stream_closed,
};

static void on_upgrade(struct http_call *call, struct http_response *res, struct stream *s, void *arg)
{
    struct answer *a = arg;
    a->status = res->status;
    a->stream = s;
    a->done = true;
    stream_set_handlers(s, &stream_table, a);
}

static const struct http_header upgrade_header = {"Upgrade", "echo"};

static bool wait_bytes(struct harness *h, const struct buf *b, size_t n)
{
    for (int i = 0; i < 2000 && b->len < n; i++)
        harness_run_ms(h, 5);
    return b->len == n;
}

static void upgrades_to_a_duplex_stream(void **state)
{
    struct harness *h = *state;
    struct answer a;
    struct http_call_options o = answer_options(h, &a, HTTP_METHOD_GET, "/upgrade");
    o.headers = &upgrade_header;
    o.header_count = 1;
    o.on_upgrade = on_upgrade;
    answer_start(&a, &o);
    assert_true(harness_wait(h, &a.done));
    assert_int_equal(a.status, 101);
    stream_write(a.stream, "ping", 4);
    stream_read_start(a.stream);
    assert_true(wait_bytes(h, &a.early, 4));
    static char block[1000000];
    memset(block, 'u', sizeof block);
    stream_write(a.stream, block, sizeof block);
    assert_true(wait_bytes(h, &a.early, 4 + sizeof block));
    stream_end(a.stream);
    assert_true(harness_wait(h, &h->upgraded_closed));
    assert_true(harness_wait(h, &a.stream_closed));
    answer_free(&a);
}

static void bytes_after_the_head_of_an_upgrade_come_first(void **state)
{
    struct harness *h = *state;
    struct peer p;
    struct answer a;
    peer_listen(&p);
    struct http_call_options o = answer_options(h, &a, HTTP_METHOD_GET, "/x");
    o.target = p.target;
    o.headers = &upgrade_header;
    o.header_count = 1;
    o.on_upgrade = on_upgrade;
    answer_start(&a, &o);
    peer_accept(h, &p);
    CLEANUP_FREE char *request = raw_read(h, p.fd, "\r\n\r\n");
    assert_has(request, "Connection: upgrade\r\n");
    raw_send(p.fd, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nfirst");
    assert_true(harness_wait(h, &a.done));
    raw_send(p.fd, ",second");
    assert_int_equal(a.early.len, 0);
    stream_read_start(a.stream);
    assert_int_equal(a.early.len, 0);
    assert_true(wait_bytes(h, &a.early, 12));
    assert_string_equal(a.early.data, "first,second");
    peer_close(&p);
    assert_true(harness_wait(h, &a.stream_closed));
    answer_free(&a);
}

static void a_refused_upgrade_is_an_answer(void **state)
{
    struct harness *h = *state;
    struct answer a;
    struct http_call_options o = answer_options(h, &a, HTTP_METHOD_GET, "/");
    o.headers = &upgrade_header;
    o.header_count = 1;
    o.on_upgrade = on_upgrade;
    answer_start(&a, &o);
    assert_true(harness_wait(h, &a.done));
    assert_int_equal(a.status, 200);
    assert_null(a.stream);
    answer_free(&a);
}

static void closing_the_client_in_a_callback_ends_all(struct http_call *call, struct http_response *res,
                                                      const struct error *err, void *arg)
{
    struct answer *a = arg;
    a->done = true;
    http_client_close(a->h->client, NULL, NULL);
    a->h->client = NULL;
}

static void the_client_may_be_closed_in_a_callback(void **state)
{
    struct harness *h = *state;
    struct answer a, other;
    struct http_call_options o = answer_options(h, &other, HTTP_METHOD_GET, "/hold");
    answer_start(&other, &o);
    o = answer_options(h, &a, HTTP_METHOD_GET, "/");
    o.on_done = closing_the_client_in_a_callback_ends_all;
    answer_start(&a, &o);
    assert_true(harness_wait(h, &a.done));
    assert_false(other.done);
}

/* ---- Unix sockets ---- */

static void works_over_a_unix_socket(void **state)
{
    struct harness h;
    struct address address = {.is_unix = true};
    char dir[] = "/tmp/net-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    snprintf(address.host, sizeof address.host, "%s/s", dir);
    /* What a killed server leaves. */
    harness_start_with(&h, NULL, &address, NULL, NULL);
    struct answer a;
    answer_get(&h, &a, "/");
    assert_string_equal(a.body.data, "hello");
    answer_free(&a);
    struct error err = {0};
    assert_int_equal(http_server_listen(h.server, &address, NULL, &err), -1);
    assert_has(err.text, "another process listens");
    harness_end(&h);
    unlink(address.host);
    /* A left-over is replaced; a file is not. */
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un { sa_family_t family; char path[108]; } un = {.family = AF_UNIX};
    snprintf(un.path, sizeof un.path, "%.100s", address.host);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    close(fd);
    harness_start_with(&h, NULL, &address, NULL, NULL);
    harness_end(&h);
    fd = open(address.host, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    harness_start(&h, NULL);
    assert_int_equal(http_server_listen(h.server, &address, NULL, &err), -1);
    assert_has(err.text, "not a socket");
    harness_end(&h);
    unlink(address.host);
    rmdir(dir);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    const struct CMUnitTest tests[] = {
        CASE(gets_an_answer), CASE(sends_a_body), CASE(head_ends_without_body), CASE(reuses_a_connection),
        CASE(calls_at_once_use_connections_of_their_own), CASE(a_refused_connection_names_address_and_cause),
        CASE(bad_targets_fail_later_with_a_reason), CASE(a_missing_socket_is_unavailable),
        CASE(localhost_tries_both_families), CASE(understands_what_peers_answer),
        CASE(a_kept_connection_that_was_closed_is_replaced), CASE(timeouts_name_the_phase),
        CASE(answers_beyond_the_limit_are_refused), CASE(cancels_in_every_phase),
        CASE(a_paused_call_holds_its_peer_back), CASE(upgrades_to_a_duplex_stream),
        CASE(bytes_after_the_head_of_an_upgrade_come_first), CASE(a_refused_upgrade_is_an_answer),
        CASE(the_client_may_be_closed_in_a_callback), cmocka_unit_test(works_over_a_unix_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
