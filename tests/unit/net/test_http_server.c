#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "harness.h"

#include "../cmocka_all.h"

#define HOST "Host: x\r\n"
#define CLOSE HOST "Connection: close\r\n"

static struct harness *up(void **state, const struct http_server_options *o)
{
    struct harness *h = *state;
    harness_start(h, o);
    return h;
}

static int setup(void **state)
{
    *state = NEW(struct harness);
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
    if (!strstr(text, part))
        fail_msg("expected \"%s\" in \"%s\"", part, text);
}

static void assert_ask(struct harness *h, const char *request, const char *part)
{
    CLEANUP_FREE char *answer = raw_ask(h, request);
    assert_has(answer, part);
}

static unsigned count_of(const char *text, const char *part)
{
    unsigned n = 0;
    while ((text = strstr(text, part))) {
        n++;
        text += strlen(part);
    }
    return n;
}

static void answers_and_closes_when_asked_to(void **state)
{
    struct harness *h = up(state, NULL);
    CLEANUP_FREE char *a = raw_ask(h, "GET / HTTP/1.1\r\n" CLOSE "\r\n");
    assert_has(a, "HTTP/1.1 200 OK\r\n");
    assert_has(a, "Connection: close\r\n");
    assert_has(a, "Content-Length: 5\r\n");
    assert_has(a, "\r\n\r\nhello");
}

static void keeps_the_connection(void **state)
{
    struct harness *h = up(state, NULL);
    int fd = raw_connect(h);
    for (int i = 0; i < 3; i++) {
        raw_send(fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
        CLEANUP_FREE char *a = raw_read(h, fd, "hello");
        assert_has(a, "200 OK");
    }
    assert_int_equal(http_server_connections(h->server), 1);
    close(fd);
}

static void http_1_0_closes_unless_told(void **state)
{
    struct harness *h = up(state, NULL);
    assert_ask(h, "GET / HTTP/1.0\r\n\r\n", "hello");
    assert_ask(h, "GET /chunks HTTP/1.0\r\n\r\n", "\r\n\r\none,two,three");
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct harness *h = up(state, NULL);
    CLEANUP_FREE char *a = raw_ask(h, "GET /show/1 HTTP/1.1\r\n" HOST "\r\nPOST /echo HTTP/1.1\r\n" HOST
                                      "Content-Length: 3\r\n\r\ntwoGET /show/3 HTTP/1.1\r\n" CLOSE "\r\n");
    const char *one = strstr(a, "[show][1]"), *two = strstr(a, "two"), *three = strstr(a, "[show][3]");
    assert_non_null(one);
    assert_true(two > one && three > two);
}

static void pipelined_requests_wait_for_a_held_one(void **state)
{
    struct harness *h = up(state, NULL);
    int fd = raw_connect(h);
    raw_send(fd, "GET /hold HTTP/1.1\r\n" HOST "\r\nGET /show/2 HTTP/1.1\r\n" CLOSE "\r\n");
    assert_true(harness_wait_count(h, &h->held_count, 1));
    harness_run_ms(h, 20);
    assert_int_equal(h->requests, 1);
    http_respond_text(h->held[0], 200, "text/plain", "first");
    h->held[0] = NULL;
    CLEANUP_FREE char *a = raw_read(h, fd, NULL);
    assert_true(strstr(a, "first") && strstr(a, "[show][2]") > strstr(a, "first"));
    close(fd);
}

static void many_pipelined_requests(void **state)
{
    struct harness *h = up(state, NULL);
    CLEANUP_BUF struct buf all = {0};
    for (int i = 0; i < 2000; i++)
        buf_add_string(&all, "GET / HTTP/1.1\r\n" HOST "\r\n");
    buf_add_string(&all, "GET / HTTP/1.1\r\n" CLOSE "\r\n");
    CLEANUP_FREE char *a = raw_ask(h, all.data);
    assert_int_equal(count_of(a, "hello"), 2001);
}

static void bytes_may_come_one_by_one(void **state)
{
    struct harness *h = up(state, NULL);
    const char *text = "POST /echo HTTP/1.1\r\n" CLOSE "Transfer-Encoding: chunked\r\n\r\n"
                       "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    int fd = raw_connect(h);
    for (const char *p = text; *p; p++) {
        raw_send(fd, (char[2]){*p, '\0'});
        uv_run(&h->loop, UV_RUN_NOWAIT);
    }
    CLEANUP_FREE char *a = raw_read(h, fd, NULL);
    assert_has(a, "\r\n\r\nabcde");
    close(fd);
}

static void streams_in_chunks(void **state)
{
    struct harness *h = up(state, NULL);
    assert_ask(h, "GET /chunks HTTP/1.1\r\n" CLOSE "\r\n",
               "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
               "4\r\none,\r\n4\r\ntwo,\r\n5\r\nthree\r\n0\r\n\r\n");
}

static void head_has_no_body(void **state)
{
    struct harness *h = up(state, NULL);
    CLEANUP_FREE char *a = raw_ask(h, "HEAD / HTTP/1.1\r\n" CLOSE "\r\n");
    assert_has(a, "Content-Length: 5\r\n");
    assert_null(strstr(a, "hello"));
}

static void decodes_path_and_query(void **state)
{
    struct harness *h = up(state, NULL);
    assert_ask(h, "GET /show/a%20b/c%2Fd/?x=1&y&z=a+b%26 HTTP/1.1\r\n" CLOSE "\r\n", "[show][a b][c/d]x=1;y=;z=a b&;");
    assert_ask(h, "GET http://h:1/show/q HTTP/1.1\r\n" CLOSE "\r\n", "[show][q]");
    assert_ask(h, "GET /show/%zz HTTP/1.1\r\n" CLOSE "\r\n", "HTTP/1.1 400");
    assert_ask(h, "GET /show/%00 HTTP/1.1\r\n" CLOSE "\r\n", "HTTP/1.1 400");
    assert_ask(h, "GET /show/%4 HTTP/1.1\r\n" CLOSE "\r\n", "HTTP/1.1 400");
    assert_ask(h, "GET /show/x?a=%f HTTP/1.1\r\n" CLOSE "\r\n", "HTTP/1.1 400");
}

static void continues_before_the_body(void **state)
{
    struct harness *h = up(state, NULL);
    int fd = raw_connect(h);
    raw_send(fd, "POST /echo HTTP/1.1\r\n" CLOSE "Content-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    CLEANUP_FREE char *first = raw_read(h, fd, "\r\n\r\n");
    assert_string_equal(first, "HTTP/1.1 100 Continue\r\n\r\n");
    raw_send(fd, "body");
    CLEANUP_FREE char *a = raw_read(h, fd, NULL);
    assert_has(a, "\r\n\r\nbody");
    close(fd);
}

static void refuses_what_is_malformed(void **state)
{
    static const struct {
        const char *request, *status;
    } cases[] = {
        {"nonsense\r\n\r\n", "400"},
        {"GET /\r\n\r\n", "505"},
        {"GET / HTTP/2.0\r\n" HOST "\r\n", "505"},
        {"GET / HTTP/1.1\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" HOST HOST "\r\n", "400"},
        {"BREW / HTTP/1.1\r\n" HOST "\r\n", "400"},
        {"PROPFIND / HTTP/1.1\r\n" HOST "\r\n", "501"},
        {"CONNECT x:1 HTTP/1.1\r\n" HOST "\r\n", "501"},
        {"GET / HTTP/1.1\n" HOST "\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: x\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" HOST "A: b\rc: d\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" HOST " folded\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" HOST "A: b\r\n\tc\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" HOST "A : b\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" HOST "A\x01: b\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n" HOST "A: b\x01\r\n\r\n", "400"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", "400"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "400"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 3, 3\r\n\r\nabc", "400"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: +3\r\n\r\nabc", "400"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n", "400"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0x3\r\n\r\nabc", "400"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\n", "400"},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n", "501"},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
        {"POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", "400"},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", "400"},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n11111111111111111\r\n\r\n", "400"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nExpect: tea\r\n\r\n", "417"},
    };
    struct harness *h = up(state, NULL);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP_FREE char *a = raw_ask(h, cases[i].request);
        char start[32];
        snprintf(start, sizeof start, "HTTP/1.1 %s ", cases[i].status);
        if (strncmp(a, start, strlen(start)))
            fail_msg("%s\ngave %s", cases[i].request, a);
        if (count_of(a, "Connection: close\r\n") != 1)
            fail_msg("%s\nis answered twice: %s", cases[i].request, a);
    }
    assert_int_equal(h->requests, 0);
}

static void empty_lines_before_a_request_are_ignored(void **state)
{
    struct harness *h = up(state, NULL);
    assert_ask(h, "\r\n\r\nGET / HTTP/1.1\r\n" CLOSE "\r\n", "hello");
}

static char *filled(const char *before, char c, size_t n, const char *after)
{
    struct buf b = {0};
    buf_add_string(&b, before);
    for (size_t i = 0; i < n; i++)
        buf_add_char(&b, c);
    buf_add_string(&b, after);
    return buf_steal(&b);
}

static void limits_are_kept(void **state)
{
    struct harness *h = up(state, &(struct http_server_options){.body_limit = 1000});
    CLEANUP_FREE char *target = filled("GET /", 'a', 9000, " HTTP/1.1\r\n" CLOSE "\r\n");
    CLEANUP_FREE char *target_fits = filled("GET /", 'a', 8000, " HTTP/1.1\r\n" CLOSE "\r\n");
    CLEANUP_FREE char *head = filled("GET / HTTP/1.1\r\n" CLOSE "A: ", 'a', 17000, "\r\n\r\n");
    CLEANUP_FREE char *head_fits = filled("GET / HTTP/1.1\r\n" CLOSE "A: ", 'a', 16000, "\r\n\r\n");
    CLEANUP_FREE char *body_fits = filled("POST /echo HTTP/1.1\r\n" CLOSE "Content-Length: 1000\r\n\r\n", 'b', 1000,
                                          "");
    CLEANUP_FREE char *chunks = filled("POST / HTTP/1.1\r\n" CLOSE "Transfer-Encoding: chunked\r\n\r\n3e9\r\n", 'b',
                                       1001, "\r\n0\r\n\r\n");
    assert_ask(h, target, "HTTP/1.1 414 ");
    assert_ask(h, target_fits, "hello");
    assert_ask(h, head, "HTTP/1.1 431 ");
    assert_ask(h, head_fits, "hello");
    assert_ask(h, body_fits, "bbbb");
    assert_ask(h, chunks, "HTTP/1.1 413 ");
    assert_ask(h, "POST / HTTP/1.1\r\n" CLOSE "Content-Length: 1001\r\n\r\n", "HTTP/1.1 413 ");
    assert_ask(h, "POST / HTTP/1.1\r\n" CLOSE "Content-Length: 100000000\r\nExpect: 100-continue\r\n\r\n",
               "HTTP/1.1 413 ");
    CLEANUP_BUF struct buf many = {0};
    buf_add_string(&many, "GET / HTTP/1.1\r\n" CLOSE);
    for (int i = 0; i < 200; i++)
        buf_add_string(&many, "a: b\r\n");
    buf_add_string(&many, "\r\n");
    assert_ask(h, many.data, "HTTP/1.1 431 ");
    assert_int_equal(h->requests, 3);
}

static void a_huge_body_is_not_read(void **state)
{
    struct harness *h = up(state, NULL);
    int fd = raw_connect(h);
    raw_send(fd, "POST / HTTP/1.1\r\n" HOST "Content-Length: 100000000\r\n\r\n");
    static char block[65536];
    size_t sent = 0;
    for (int i = 0; i < 4000; i++) {
        ssize_t n = send(fd, block, sizeof block, MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        uv_run(&h->loop, UV_RUN_NOWAIT);
    }
    assert_true(sent < 20000000);
    assert_true(raw_closed(h, fd));
    close(fd);
}

static void slow_heads_and_bodies_get_408(void **state)
{
    struct harness *h = up(state, &(struct http_server_options){.header_timeout_ms = 100, .body_timeout_ms = 100});
    assert_ask(h, "GET / HT", "HTTP/1.1 408 ");
    assert_ask(h, "POST / HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nabc", "HTTP/1.1 408 ");
    assert_int_equal(h->requests, 0);
}

static void idle_connections_are_closed_silently(void **state)
{
    struct harness *h = up(state, &(struct http_server_options){.idle_timeout_ms = 100});
    assert_ask(h, "GET / HTTP/1.1\r\n" HOST "\r\n", "hello");
    CLEANUP_FREE char *a = raw_ask(h, "");
    assert_string_equal(a, "");
}

static void a_half_closed_peer_gets_its_answer(void **state)
{
    struct harness *h = up(state, NULL);
    int fd = raw_connect(h);
    raw_send(fd, "GET /hold HTTP/1.1\r\n" HOST "\r\nGET /show/2 HTTP/1.1\r\n" HOST "\r\n");
    shutdown(fd, SHUT_WR);
    assert_true(harness_wait_count(h, &h->held_count, 1));
    harness_run_ms(h, 20);
    http_respond_text(h->held[0], 200, "text/plain", "first");
    h->held[0] = NULL;
    CLEANUP_FREE char *a = raw_read(h, fd, NULL);
    assert_has(a, "first");
    assert_has(a, "[show][2]");
    close(fd);
}

static void a_half_closed_peer_in_a_request_is_closed(void **state)
{
    struct harness *h = up(state, NULL);
    int fd = raw_connect(h);
    raw_send(fd, "POST / HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nabc");
    shutdown(fd, SHUT_WR);
    assert_true(raw_closed(h, fd));
    assert_int_equal(h->requests, 0);
    close(fd);
}

static void an_answer_to_a_dead_connection_is_dropped(void **state)
{
    struct harness *h = up(state, NULL);
    int fd = raw_connect(h);
    raw_send(fd, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    assert_true(harness_wait_count(h, &h->held_count, 1));
    struct linger hard = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
    assert_true(harness_wait_count(h, &h->closed, 1));
    assert_false(http_request_alive(h->held[0]));
    assert_int_equal(http_server_connections(h->server), 0);
    http_respond_text(h->held[0], 200, "text/plain", "nobody");
    h->held[0] = NULL;
}

static void a_follower_that_goes_is_noticed(void **state)
{
    struct harness *h = up(state, NULL);
    int fd = raw_connect(h);
    raw_send(fd, "GET /events HTTP/1.1\r\n" HOST "\r\n");
    CLEANUP_FREE char *a = raw_read(h, fd, "data: 1\n\n");
    assert_has(a, "text/event-stream");
    close(fd);
    assert_true(harness_wait_count(h, &h->closed, 1));
}

static void a_peer_that_stops_reading_is_closed(void **state)
{
    struct harness *h = up(state, &(struct http_server_options){.write_timeout_ms = 300});
    int fd = raw_connect(h);
    raw_send(fd, "GET /flood HTTP/1.1\r\n" HOST "\r\n");
    assert_true(harness_wait_count(h, &h->closed, 1));
    assert_true(h->streamed < 32 * 1024 * 1024);
    close(fd);
}

static void a_peer_that_reads_gets_a_long_stream_whole(void **state)
{
    struct harness *h = up(state, NULL);
    int fd = raw_connect(h);
    raw_send(fd, "GET /flood HTTP/1.1\r\n" CLOSE "\r\n");
    size_t got = 0;
    char last[8] = "";
    static char block[262144];
    for (;;) {
        ssize_t n = recv(fd, block, sizeof block - 1, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            break;
        if (n > 0)
            got += (size_t)n;
        if (n >= 5)
            memcpy(last, block + n - 5, 5);
        uv_run(&h->loop, UV_RUN_NOWAIT);
    }
    assert_true(got > 32 * 1024 * 1024);
    assert_string_equal(last, "0\r\n\r\n");
    assert_true(h->drained > 0);
    close(fd);
}

static void connections_beyond_the_limit_get_503(void **state)
{
    struct harness *h = up(state, &(struct http_server_options){.max_connections = 2});
    int a = raw_connect(h), b = raw_connect(h);
    raw_send(a, "GET / HTTP/1.1\r\n" HOST "\r\n");
    raw_send(b, "GET / HTTP/1.1\r\n" HOST "\r\n");
    free(raw_read(h, a, "hello"));
    free(raw_read(h, b, "hello"));
    assert_ask(h, "", "HTTP/1.1 503 ");
    close(a);
    for (int i = 0; i < 1000 && http_server_connections(h->server) == 2; i++)
        harness_run_ms(h, 5);
    assert_ask(h, "GET / HTTP/1.1\r\n" CLOSE "\r\n", "hello");
    close(b);
}

static void upgrade_hands_over_with_early_bytes(void **state)
{
    struct harness *h = up(state, NULL);
    int fd = raw_connect(h);
    raw_send(fd, "GET /upgrade HTTP/1.1\r\n" HOST "Connection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\nearly");
    CLEANUP_FREE char *a = raw_read(h, fd, "early");
    assert_has(a, "HTTP/1.1 101 Switching Protocols\r\n");
    assert_has(a, "Upgrade: echo\r\n");
    assert_has(a, "\r\n\r\nearly");
    assert_int_equal(http_server_connections(h->server), 0);
    raw_send(fd, "more");
    CLEANUP_FREE char *b = raw_read(h, fd, "more");
    assert_string_equal(b, "more");
    shutdown(fd, SHUT_WR);
    assert_true(raw_closed(h, fd));
    assert_true(harness_wait(h, &h->upgraded_closed));
    assert_true(h->upgraded_eof);
    close(fd);
}

static void upgrade_without_asking_is_refused(void **state)
{
    struct harness *h = up(state, NULL);
    assert_ask(h, "GET /upgrade HTTP/1.1\r\n" CLOSE "\r\n", "HTTP/1.1 400 ");
    /* And who asks for one where there is none goes on with HTTP. */
    assert_ask(h, "GET /show/1 HTTP/1.1\r\n" HOST "Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"
                  "GET /show/2 HTTP/1.1\r\n" CLOSE "\r\n", "[show][2]");
}

static void on_stopped(void *arg)
{
    struct harness *h = arg;
    h->stopped = true;
    h->server = NULL;
}

static void stop_finishes_what_is_open(void **state)
{
    struct harness *h = up(state, NULL);
    int idle = raw_connect(h), busy = raw_connect(h);
    raw_send(idle, "GET / HTTP/1.1\r\n" HOST "\r\n");
    free(raw_read(h, idle, "hello"));
    raw_send(busy, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    assert_true(harness_wait_count(h, &h->held_count, 1));
    http_server_stop(h->server, 5000, on_stopped, h);
    assert_true(raw_closed(h, idle));
    assert_false(h->stopped);
    http_respond_text(h->held[0], 200, "text/plain", "last");
    h->held[0] = NULL;
    CLEANUP_FREE char *a = raw_read(h, busy, NULL);
    assert_has(a, "Connection: close\r\n");
    assert_has(a, "last");
    close(busy);
    close(idle);
    assert_true(harness_wait(h, &h->stopped));
}

static void stop_closes_what_is_open_at_the_deadline(void **state)
{
    struct harness *h = up(state, NULL);
    int fd = raw_connect(h);
    raw_send(fd, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    assert_true(harness_wait_count(h, &h->held_count, 1));
    http_server_stop(h->server, 100, on_stopped, h);
    assert_true(harness_wait(h, &h->stopped));
    assert_int_equal(h->closed, 1);
    /* The request outlives its server. */
    assert_false(http_request_alive(h->held[0]));
    close(fd);
}

static void a_taken_port_is_an_error_with_its_address(void **state)
{
    struct harness *h = up(state, NULL);
    struct error err = {0};
    struct address a = {.host = "127.0.0.1", .port = http_server_port(h->server)};
    assert_int_equal(http_server_listen(h->server, &a, NULL, &err), -1);
    char text[32];
    snprintf(text, sizeof text, "127.0.0.1:%d", a.port);
    assert_has(err.text, text);
    assert_has(err.text, "in use");
}

static void responses_cannot_be_split_by_header_values(void **state)
{
    struct harness *h = up(state, NULL);
    int fd = raw_connect(h);
    raw_send(fd, "GET /hold HTTP/1.1\r\n" CLOSE "\r\n");
    assert_true(harness_wait_count(h, &h->held_count, 1));
    http_respond(h->held[0], 200, &(struct http_header){"X", "a\r\nEvil: b"}, 1, NULL);
    h->held[0] = NULL;
    CLEANUP_FREE char *a = raw_read(h, fd, NULL);
    assert_has(a, "X: aEvil: b\r\n");
    close(fd);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    const struct CMUnitTest tests[] = {
        CASE(answers_and_closes_when_asked_to), CASE(keeps_the_connection), CASE(http_1_0_closes_unless_told),
        CASE(pipelined_requests_are_answered_in_order), CASE(pipelined_requests_wait_for_a_held_one),
        CASE(many_pipelined_requests), CASE(bytes_may_come_one_by_one), CASE(streams_in_chunks),
        CASE(head_has_no_body), CASE(decodes_path_and_query), CASE(continues_before_the_body),
        CASE(refuses_what_is_malformed), CASE(empty_lines_before_a_request_are_ignored), CASE(limits_are_kept),
        CASE(a_huge_body_is_not_read), CASE(slow_heads_and_bodies_get_408),
        CASE(idle_connections_are_closed_silently), CASE(a_half_closed_peer_gets_its_answer),
        CASE(a_half_closed_peer_in_a_request_is_closed), CASE(an_answer_to_a_dead_connection_is_dropped),
        CASE(a_follower_that_goes_is_noticed), CASE(a_peer_that_stops_reading_is_closed),
        CASE(a_peer_that_reads_gets_a_long_stream_whole), CASE(connections_beyond_the_limit_get_503),
        CASE(upgrade_hands_over_with_early_bytes), CASE(upgrade_without_asking_is_refused),
        CASE(stop_finishes_what_is_open), CASE(stop_closes_what_is_open_at_the_deadline),
        CASE(a_taken_port_is_an_error_with_its_address), CASE(responses_cannot_be_split_by_header_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
