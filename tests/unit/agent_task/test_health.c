/* Health checks against a little server in the same loop. */
#include <stdio.h>
#include <string.h>

#include "../cmocka_all.h"
#include "agent/health.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "groups.h"
#include "task_world.h"

struct server {
    uv_tcp_t tcp;
    bool closed;
    int port;
    const char *answer;              /* NULL: none, the connection stays silent */
    int asked;
    uv_tcp_t *clients[64];
    int n_clients;
};

struct verdicts {
    int good, bad;
    char reason[512];
    int64_t first_at;
};

static void give(uv_handle_t *h, size_t suggested, uv_buf_t *out)
{
    static char bytes[4096];
    *out = uv_buf_init(bytes, sizeof bytes);
}

static void client_closed(uv_handle_t *h)
{
    free(h);
}

static void client_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
    struct server *s = stream->data;
    if (n < 0) {
        for (int i = 0; i < s->n_clients; i++)
            if ((uv_stream_t *)s->clients[i] == stream)
                s->clients[i] = s->clients[--s->n_clients];
        uv_close((uv_handle_t *)stream, client_closed);
        return;
    }
    if (n == 0)
        return;
    s->asked++;
    if (s->answer) {
        uv_buf_t out = uv_buf_init((char *)s->answer, (unsigned)strlen(s->answer));
        uv_try_write(stream, &out, 1);
    }
}

static void client_accept(uv_stream_t *stream, int status)
{
    struct server *s = stream->data;
    uv_tcp_t *client = NEW(uv_tcp_t);
    uv_tcp_init(stream->loop, client);
    client->data = s;
    uv_accept(stream, (uv_stream_t *)client);
    assert_true(s->n_clients < 64);
    s->clients[s->n_clients++] = client;
    uv_read_start((uv_stream_t *)client, give, client_read);
}

static void server_open(struct world *w, struct server *s, const char *answer, int port)
{
    struct sockaddr_in address;
    int n = sizeof address;
    *s = (struct server){.answer = answer};
    uv_tcp_init(&w->loop, &s->tcp);
    s->tcp.data = s;
    uv_ip4_addr("127.0.0.1", port, &address);
    assert_int_equal(uv_tcp_bind(&s->tcp, (struct sockaddr *)&address, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&s->tcp, 16, client_accept), 0);
    uv_tcp_getsockname(&s->tcp, (struct sockaddr *)&address, &n);
    s->port = ntohs(address.sin_port);
}

static void server_closed(uv_handle_t *h)
{
    ((struct server *)h->data)->closed = true;
}

static bool is_closed(void *arg) { return ((struct server *)arg)->closed; }

static void server_close(struct world *w, struct server *s)
{
    uv_close((uv_handle_t *)&s->tcp, server_closed);
    while (s->n_clients)
        uv_close((uv_handle_t *)s->clients[--s->n_clients], client_closed);
    assert_true(world_wait(w, is_closed, s));
}

static void on_changed(void *arg, bool healthy, const char *reason)
{
    struct verdicts *v = arg;
    if (healthy)
        v->good++;
    else
        v->bad++;
    if (!v->first_at)
        v->first_at = time_monotonic_ms();
    snprintf(v->reason, sizeof v->reason, "%s", reason);
}

static const struct health_events events = {.changed = on_changed};
static bool is_good(void *arg) { return ((struct verdicts *)arg)->good > 0; }
static bool is_bad(void *arg) { return ((struct verdicts *)arg)->bad > 0; }

static struct health http_check(void)
{
    return (struct health){.type = HEALTH_HTTP, .path = (char *)"/healthz", .interval_ms = 60, .timeout_ms = 2000,
                           .healthy = 1, .unhealthy = 3};
}

static struct health_check *check_start(struct world *w, const struct health *health, int port, struct verdicts *v)
{
    *v = (struct verdicts){0};
    return health_start(&w->loop, &(struct health_target){.health = health, .host = "127.0.0.1", .port = port}, &events, v);
}

static void good_answers_make_it_healthy_and_bad_ones_unhealthy(void **state)
{
    struct world *w = *state;
    struct server s;
    struct verdicts v;
    struct health health = http_check();
    server_open(w, &s, "HTTP/1.1 204 No Content\r\n\r\n", 0);
    struct health_check *h = check_start(w, &health, s.port, &v);
    assert_true(world_wait(w, is_good, &v));
    char expected[128];
    snprintf(expected, sizeof expected, "GET http://127.0.0.1:%d/healthz: status 204", s.port);
    assert_string_equal(v.reason, expected);
    s.answer = "HTTP/1.0 503 Busy\r\nContent-Length: 0\r\n\r\n";
    assert_true(world_wait(w, is_bad, &v));
    snprintf(expected, sizeof expected, "GET http://127.0.0.1:%d/healthz: status 503 (3 in a row)", s.port);
    assert_string_equal(v.reason, expected);
    s.answer = "HTTP/1.1 302 Found\r\n\r\n";
    v.good = 0;
    assert_true(world_wait(w, is_good, &v));
    health_stop(h);
    server_close(w, &s);
}

static void refused_connection_is_said(void **state)
{
    struct world *w = *state;
    struct server s;
    struct verdicts v;
    struct health health = http_check();
    server_open(w, &s, NULL, 0);
    int port = s.port;
    server_close(w, &s);
    struct health_check *h = check_start(w, &health, port, &v);
    assert_true(world_wait(w, is_bad, &v));
    char expected[128];
    snprintf(expected, sizeof expected, "GET http://127.0.0.1:%d/healthz: connection refused (3 in a row)", port);
    assert_string_equal(v.reason, expected);
    assert_int_equal(v.good, 0);
    health_stop(h);
}

static void silence_and_nonsense_are_said(void **state)
{
    struct world *w = *state;
    struct server s;
    struct verdicts v;
    struct health health = http_check();
    health.timeout_ms = 50;
    health.unhealthy = 1;
    server_open(w, &s, NULL, 0);
    struct health_check *h = check_start(w, &health, s.port, &v);
    assert_true(world_wait(w, is_bad, &v));
    assert_non_null(strstr(v.reason, ": no answer within 50ms"));
    health_stop(h);
    s.answer = "SSH-2.0-nonsense\r\n";
    h = check_start(w, &health, s.port, &v);
    assert_true(world_wait(w, is_bad, &v));
    assert_non_null(strstr(v.reason, "the answer is not HTTP"));
    assert_string_equal(health_last(h), v.reason);
    health_stop(h);
    server_close(w, &s);
}

static void grace_delays_the_bad_verdict_but_not_the_good_one(void **state)
{
    struct world *w = *state;
    struct server s;
    struct verdicts v;
    struct health health = http_check();
    health.type = HEALTH_TCP;
    health.interval_ms = 20;
    health.unhealthy = 1;
    health.grace_ms = 300;
    server_open(w, &s, NULL, 0);
    int port = s.port;
    int64_t before = time_monotonic_ms();
    struct health_check *h = check_start(w, &health, port, &v);
    assert_true(world_wait(w, is_good, &v));
    assert_true(v.first_at - before < 300);
    health_stop(h);
    server_close(w, &s);
    before = time_monotonic_ms();
    h = check_start(w, &health, port, &v);
    assert_true(world_wait(w, is_bad, &v));
    assert_true(v.first_at - before >= 299);
    health_stop(h);
}

static void command_in_the_task_decides(void **state)
{
    struct world *w = *state;
    struct probe p;
    struct verdicts v = {0};
    struct health health = {.type = HEALTH_EXEC, .interval_ms = 50, .timeout_ms = 5000, .healthy = 1, .unhealthy = 2};
    probe_init(w, &p, "exec sleep 60");
    probe_start(&p);
    assert_true(probe_wait_started(&p));
    str_list_add(&health.command, "/bin/sh");
    str_list_add(&health.command, "-c");
    str_list_add(&health.command, "test ! -e sick || { echo too sick; exit 3; }");
    struct health_check *h = health_start(&w->loop, &(struct health_target){.health = &health, .host = "127.0.0.1",
                                                                            .task = p.task}, &events, &v);
    assert_true(world_wait(w, is_good, &v));
    CLEANUP_FREE char *sick = mem_printf("%s/task/sick", p.dir);
    FILE *f = fopen(sick, "we");
    assert_non_null(f);
    fclose(f);
    assert_true(world_wait(w, is_bad, &v));
    assert_string_equal(v.reason, "command `/bin/sh`: exit code 3: too sick (2 in a row)");
    health_stop(h);
    str_list_clear(&health.command);
    task_stop(p.task, 0, 0);
    assert_true(probe_wait_exited(&p));
    probe_end(&p);
}

int run_health_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(good_answers_make_it_healthy_and_bad_ones_unhealthy, world_open, world_close),
        cmocka_unit_test_setup_teardown(refused_connection_is_said, world_open, world_close),
        cmocka_unit_test_setup_teardown(silence_and_nonsense_are_said, world_open, world_close),
        cmocka_unit_test_setup_teardown(grace_delays_the_bad_verdict_but_not_the_good_one, world_open, world_close),
        cmocka_unit_test_setup_teardown(command_in_the_task_decides, world_open, world_close),
    };
    return cmocka_run_group_tests_name("agent_health", tests, NULL, NULL);
}
