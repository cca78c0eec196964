/* Addresses, deadlines, the guard, many idle connections, and several loops on one port. */
#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "harness.h"
#include "net/deadline.h"
#include "net/http_guard.h"

#include "../cmocka_all.h"

/* ---- Addresses ---- */

static void addresses_are_read_and_written_back(void **state)
{
    static const struct {
        const char *text, *host, *back;
        int port;
        bool local;
    } cases[] = {
        {"127.0.0.1:80", "127.0.0.1", "127.0.0.1:80", 80, true},
        {"127.9.9.9:1", "127.9.9.9", "127.9.9.9:1", 1, true},
        {"10.0.0.1", "10.0.0.1", "10.0.0.1:4646", 4646, false},
        {"[::1]:80", "::1", "[::1]:80", 80, true},
        {"[fd00::1]", "fd00::1", "[fd00::1]:4646", 4646, false},
        {"localhost:0", "localhost", "localhost:0", 0, true},
        {"a.b.example:65535", "a.b.example", "a.b.example:65535", 65535, false},
        {":80", "", ":80", 80, false},
        {"127.example.org:80", "127.example.org", "127.example.org:80", 80, false},
        {"unix:/run/x", "/run/x", "unix:/run/x", 0, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct address a;
        char back[ADDRESS_TEXT_SIZE];
        assert_int_equal(address_parse(cases[i].text, 4646, &a, NULL), 0);
        assert_string_equal(a.host, cases[i].host);
        assert_int_equal(a.port, cases[i].port);
        assert_int_equal(address_is_local(&a), cases[i].local);
        assert_int_equal(address_text_is_local(cases[i].text), cases[i].local);
        address_format(back, &a);
        assert_string_equal(back, cases[i].back);
    }
}

static void wrong_addresses_are_refused_with_their_text(void **state)
{
    static const char *const texts[] = {"a:", "a:x", "a:65536", "a:-1", "a:1:2", "[::1", "[::1]x", "::1", "a b:1",
                                        "a/b:1", "unix:x", "unix:"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct address a;
        struct error err = {0};
        assert_int_equal(address_parse(texts[i], 1, &a, &err), -1);
        assert_int_equal(err.code, ERROR_INVALID);
        assert_non_null(strstr(err.text, texts[i]));
    }
    struct address a;
    assert_int_equal(address_parse("host", -1, &a, NULL), -1);
}

static void a_port_is_free_or_taken(void **state)
{
    struct address a = {.host = "127.0.0.1"}, other = {.host = "127.0.0.2"}, v6 = {.host = "::1"};
    a.port = other.port = address_probe(&a, ADDRESS_TCP);
    assert_true(a.port > 0);
    assert_int_equal(address_probe(&a, ADDRESS_TCP), a.port);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)a.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(address_probe(&a, ADDRESS_TCP), -EADDRINUSE);
    assert_int_equal(address_probe(&other, ADDRESS_TCP), a.port);
    assert_int_equal(address_probe(&a, ADDRESS_UDP), a.port);
    close(fd);
    assert_int_equal(address_probe(&a, ADDRESS_TCP), a.port);
    int v6_port = address_probe(&v6, ADDRESS_TCP);
    assert_true(v6_port > 0 || v6_port == -EADDRNOTAVAIL || v6_port == -EAFNOSUPPORT);      /* a host without IPv6 */
    assert_int_equal(address_probe(&(struct address){.host = "localhost", .port = 80}, ADDRESS_TCP), -EINVAL);
}

/* ---- Deadlines ---- */

struct timed {
    struct deadline deadline;
    unsigned fired;
    uint64_t at;
    struct deadlines *all;
};

static void on_fire(struct deadline *d)
{
    struct timed *t = container_of(d, struct timed, deadline);
    t->fired++;
    t->at = uv_now(t->all->timer.loop);
}

static void deadlines_fire_once_not_early_and_not_when_unset(void **state)
{
    uv_loop_t loop;
    struct deadlines all;
    struct timed t[5] = {0};
    uv_loop_init(&loop);
    deadlines_init(&all, &loop);
    uint64_t start = uv_now(&loop);
    for (int i = 0; i < 5; i++) {
        t[i].all = &all;
        deadline_set(&all, &t[i].deadline, 100 + 100 * i, on_fire);
    }
    deadline_unset(&t[1].deadline);
    deadline_set(&all, &t[2].deadline, 20, on_fire);        /* earlier than before */
    deadline_set(&all, &t[0].deadline, 350, on_fire);       /* later */
    deadline_remove(&all, &t[3].deadline);
    uv_run(&loop, UV_RUN_DEFAULT);      /* ends when no deadline is left */
    static const unsigned fired[] = {1, 0, 1, 0, 1};
    static const uint64_t due[] = {350, 0, 20, 0, 500};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(t[i].fired, fired[i]);
        assert_true(!fired[i] || t[i].at - start >= due[i]);
    }
    deadlines_close(&all, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* ---- Guard ---- */

static int guard_status(const char *listen, bool upgrade, enum http_method method, const char *host, const char *origin,
                        const char *type, const char *length)
{
    struct http_header items[] = {{"Host", host}, {"Origin", origin}, {"Content-Type", type}, {"Content-Length", length}};
    struct http_request req = {.method = method, .wants_upgrade = upgrade};
    struct http_header present[ARRAY_LEN(items)];
    struct address address;
    struct http_guard guard;
    struct error err;
    int status;
    req.headers.items = present;
    for (size_t i = 0; i < ARRAY_LEN(items); i++)
        if (items[i].value)
            present[req.headers.count++] = items[i];
    assert_int_equal(address_parse(listen, 1, &address, &err), 0);
    http_guard_init(&guard, &address);
    http_guard_add(&guard, NULL);
    http_guard_add(&guard, "own.example:4646");
    int rc = http_guard_check(&guard, &req, false, &status, &err);
    http_guard_clear(&guard);
    return rc ? status : 0;
}

static void the_guard_keeps_pages_out(void **state)
{
    static const struct {
        int status;
        const char *listen;
        bool upgrade;
        enum http_method method;
        const char *host, *origin, *type, *length;
    } cases[] = {
        {0, "127.0.0.1", false, HTTP_METHOD_GET, "127.0.0.1:1", "http://a", NULL, NULL},
        {0, "127.0.0.1", false, HTTP_METHOD_POST, "own.example", NULL, NULL, NULL},
        {0, "127.0.0.1", false, HTTP_METHOD_POST, "[::1]:1", "http://[::1]:1", "Application/JSON;charset=utf-8", "2"},
        {0, "127.0.0.1", false, HTTP_METHOD_GET, NULL, NULL, NULL, NULL},
        {0, "0.0.0.0", false, HTTP_METHOD_POST, "other.example", NULL, NULL, NULL},
        {0, "unix:/x", false, HTTP_METHOD_POST, "other.example", NULL, "application/json", "2"},
        {403, "127.0.0.1", false, HTTP_METHOD_GET, "other.example", NULL, NULL, NULL},
        {403, "[::1]", false, HTTP_METHOD_GET, "other.example:1", NULL, NULL, NULL},
        {403, "localhost", false, HTTP_METHOD_GET, "", NULL, NULL, NULL},
        {403, "0.0.0.0", false, HTTP_METHOD_PUT, "other.example", "http://evil.example", NULL, NULL},
        {403, "0.0.0.0", true, HTTP_METHOD_GET, "other.example", "http://evil.example", NULL, NULL},
        {403, "0.0.0.0", false, HTTP_METHOD_POST, NULL, "http://evil.example", NULL, NULL},
        {403, "127.0.0.1", false, HTTP_METHOD_DELETE, "127.0.0.1:1", "null", NULL, NULL},
        {403, "127.0.0.1", false, HTTP_METHOD_PATCH, "127.0.0.1:1", "http://127.0.0.1:12", NULL, NULL},
        {415, "127.0.0.1", false, HTTP_METHOD_POST, "127.0.0.1:1", NULL, NULL, "2"},
        {415, "127.0.0.1", false, HTTP_METHOD_POST, "127.0.0.1:1", NULL, "text/plain", "2"},
        {415, "127.0.0.1", false, HTTP_METHOD_POST, "127.0.0.1:1", NULL, "application/jsonp", "2"},
        {415, "127.0.0.1", false, HTTP_METHOD_POST, "127.0.0.1:1", NULL, "application/x-www-form-urlencoded", "0"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int status = guard_status(cases[i].listen, cases[i].upgrade, cases[i].method, cases[i].host, cases[i].origin,
                                  cases[i].type, cases[i].length);
        if (status != cases[i].status)
            fail_msg("case %zu: %d instead of %d", i, status, cases[i].status);
    }
}

/* ---- Many idle connections ---- */

#define IDLE_COUNT 2000
#define IDLE_BYTES 2048

static void idle_connections_are_cheap(void **state)
{
    struct rlimit files = {0};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max < 2 * IDLE_COUNT + 100 ? files.rlim_max : 2 * IDLE_COUNT + 100;
    setrlimit(RLIMIT_NOFILE, &files);
    int count = files.rlim_cur >= 2 * IDLE_COUNT + 100 ? IDLE_COUNT : ((int)files.rlim_cur - 100) / 2;
    struct harness h;
    harness_start(&h, NULL);
    int *fds = mem_array((size_t)count, sizeof *fds);
    /* One, so that what a loop needs once is there. */
    fds[0] = raw_connect(&h);
    raw_send(fds[0], "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    free(raw_read(&h, fds[0], "hello"));
    size_t before = mallinfo2().uordblks;
    for (int i = 1; i < count; i++) {
        fds[i] = raw_connect(&h);
        raw_send(fds[i], "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        uv_run(&h.loop, UV_RUN_NOWAIT);
    }
    for (int i = 1; i < count; i++)
        free(raw_read(&h, fds[i], "hello"));
    size_t each = (mallinfo2().uordblks - before) / (size_t)(count - 1);
    print_message("%zu bytes for each idle connection\n", each);
    assert_int_equal(http_server_connections(h.server), count);
    assert_true(each < IDLE_BYTES);
    for (int i = 0; i < count; i++)
        close(fds[i]);
    harness_end(&h);
    free(fds);
}

/* ---- Several loops ---- */

#define LOOPS 3
#define CALLS 200

struct worker {
    pthread_t thread;
    uv_loop_t loop;
    uv_async_t stop;
    struct http_server *server;
    unsigned requests;
};

static void on_worker_request(struct http_request *req, void *arg)
{
    struct worker *w = arg;
    w->requests++;
    http_respond_text(req, 200, "text/plain", "worker");
}

static void on_worker_stop(uv_async_t *async)
{
    struct worker *w = async->data;
    http_server_stop(w->server, 1000, NULL, NULL);
    uv_close((uv_handle_t *)async, NULL);
}

static void *worker_run(void *arg)
{
    struct worker *w = arg;
    uv_run(&w->loop, UV_RUN_DEFAULT);
    return NULL;
}

static void several_loops_serve_one_port(void **state)
{
    struct worker workers[LOOPS] = {0};
    struct address address = {.host = "127.0.0.1"};
    struct error err;
    for (int i = 0; i < LOOPS; i++) {
        struct worker *w = &workers[i];
        uv_loop_init(&w->loop);
        uv_async_init(&w->loop, &w->stop, on_worker_stop);
        w->stop.data = w;
        w->server = http_server_new(&w->loop, &(struct http_server_options){.on_request = on_worker_request, .arg = w});
        const struct http_listen_options shared = {.reuse_port = true};
        assert_int_equal(http_server_listen(w->server, &address, &shared, &err), 0);
        address.port = http_server_port(w->server);
    }
    for (int i = 0; i < LOOPS; i++)
        pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]);
    struct harness h;
    harness_start(&h, NULL);
    snprintf(h.target, sizeof h.target, "http://127.0.0.1:%d", address.port);
    struct answer *answers = mem_array(CALLS, sizeof *answers);
    for (int i = 0; i < CALLS; i++) {
        struct http_call_options o = answer_options(&h, &answers[i], HTTP_METHOD_GET, "/");
        answer_start(&answers[i], &o);
    }
    for (int i = 0; i < CALLS; i++) {
        assert_true(harness_wait(&h, &answers[i].done));
        assert_string_equal(answers[i].body.data, "worker");
        answer_free(&answers[i]);
    }
    harness_end(&h);
    free(answers);
    unsigned all = 0;
    for (int i = 0; i < LOOPS; i++) {
        uv_async_send(&workers[i].stop);
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(uv_loop_close(&workers[i].loop), 0);
        assert_true(workers[i].requests > 0);
        all += workers[i].requests;
    }
    assert_int_equal(all, CALLS);
}

int main(int argc, char **argv)
{
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_and_written_back), cmocka_unit_test(a_port_is_free_or_taken),
        cmocka_unit_test(wrong_addresses_are_refused_with_their_text),
        cmocka_unit_test(deadlines_fire_once_not_early_and_not_when_unset),
        cmocka_unit_test(the_guard_keeps_pages_out),
        cmocka_unit_test(idle_connections_are_cheap),
        cmocka_unit_test(several_loops_serve_one_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
