#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "certs.h"
#include "harness.h"

#include "../cmocka_all.h"

struct fixture {
    struct harness h;
    bool started;
    char dir[32];
    struct authority ca, other_ca;
};

#define LOCAL "DNS:localhost,IP:127.0.0.1"

static int setup(void **state)
{
    struct fixture *f = NEW(struct fixture);
    strcpy(f->dir, "/tmp/tls-test-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    f->ca = authority_make(f->dir, "ca");
    f->other_ca = authority_make(f->dir, "other-ca");
    authority_issue(f->dir, "server", &f->ca, LOCAL, 24);
    authority_issue(f->dir, "client", &f->ca, "DNS:agent.one,URI:mentat:node/1,IP:10.0.0.1,IP:fd00::1", 24);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->started)
        harness_end(&f->h);
    authority_free(&f->ca);
    authority_free(&f->other_ca);
    CLEANUP_FREE char *command = mem_printf("rm -r %s", f->dir);
    int status = system(command);
    free(f);
    return status;
}

struct files {
    char *cert, *key, *ca;
    struct tls_options options;
};

static void files_free(struct files *f)
{
    free(f->cert);
    free(f->key);
    free(f->ca);
}

#define FILES __attribute__((cleanup(files_free))) struct files

static struct files files_of(const struct fixture *f, const char *name, const char *ca,
                             enum tls_client_cert client_cert)
{
    struct files out = {0};
    out.cert = name ? certs_path(f->dir, name, "crt") : NULL;
    out.key = name ? certs_path(f->dir, name, "key") : NULL;
    out.ca = certs_path(f->dir, ca, "crt");
    out.options = (struct tls_options){out.cert, out.key, out.ca, client_cert};
    return out;
}

static struct harness *up(struct fixture *f, const struct http_server_options *o, const char *server,
                          enum tls_client_cert client_cert, const char *client, const char *client_ca)
{
    FILES s = files_of(f, server, "ca", client_cert);
    FILES c = files_of(f, client, client_ca, TLS_CLIENT_CERT_NONE);
    harness_start_with(&f->h, o, &(struct address){.host = "127.0.0.1"}, &s.options, &c.options);
    f->started = true;
    return &f->h;
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("expected \"%s\" in \"%s\"", part, text);
}

static void assert_denied(struct harness *h, const char *part)
{
    struct answer a;
    answer_get(h, &a, "/");
    if (a.err.code != ERROR_DENIED)
        fail_msg("code %s: %s", error_code_name(a.err.code), a.err.text);
    assert_has(a.err.text, "127.0.0.1");
    assert_has(a.err.text, part);
    answer_free(&a);
}

/* ---- Tests ---- */

static void answers_over_tls(void **state)
{
    struct harness *h = up(*state, NULL, "server", TLS_CLIENT_CERT_NONE, NULL, "ca");
    struct answer a;
    for (int i = 0; i < 3; i++) {
        answer_get(h, &a, "/who");
        assert_string_equal(a.err.text, "");
        assert_string_equal(a.body.data, "nobody");
        answer_free(&a);
    }
    assert_int_equal(http_server_connections(h->server), 1);
}

static void large_bodies_go_both_ways(void **state)
{
    struct harness *h = up(*state, NULL, "server", TLS_CLIENT_CERT_NONE, NULL, "ca");
    struct answer a;
    CLEANUP_BUF struct buf body = {0};
    for (int i = 0; i < 300000; i++)
        buf_add(&body, "0123456789", 10);
    struct http_call_options o = answer_options(h, &a, HTTP_METHOD_POST, "/echo");
    o.body = body.data;
    o.body_len = body.len;
    answer_start(&a, &o);
    assert_true(harness_wait(h, &a.done));
    assert_string_equal(a.err.text, "");
    assert_int_equal(a.body.len, body.len);
    assert_memory_equal(a.body.data, body.data, body.len);
    answer_free(&a);
}

static void the_server_knows_its_client(void **state)
{
    struct harness *h = up(*state, NULL, "server", TLS_CLIENT_CERT_REQUIRED, "client", "ca");
    struct answer a;
    answer_get(h, &a, "/who");
    assert_string_equal(a.err.text, "");
    assert_string_equal(a.body.data, "client DNS:agent.one URI:mentat:node/1 IP:10.0.0.1 IP:fd00::1");
    answer_free(&a);
}

static void an_optional_certificate_may_be_missing(void **state)
{
    struct harness *h = up(*state, NULL, "server", TLS_CLIENT_CERT_OPTIONAL, NULL, "ca");
    struct answer a;
    answer_get(h, &a, "/who");
    assert_string_equal(a.body.data, "nobody");
    answer_free(&a);
}

static void a_missing_client_certificate_is_refused(void **state)
{
    struct harness *h = up(*state, NULL, "server", TLS_CLIENT_CERT_REQUIRED, NULL, "ca");
    assert_denied(h, "certificate required");
    assert_int_equal(h->requests, 0);
}

static void a_client_certificate_of_another_ca_is_refused(void **state)
{
    struct fixture *f = *state;
    authority_issue(f->dir, "stranger", &f->other_ca, NULL, 24);
    struct harness *h = up(f, NULL, "server", TLS_CLIENT_CERT_OPTIONAL, "stranger", "ca");
    assert_denied(h, "refused our certificate");
    assert_int_equal(h->requests, 0);
}

static void a_server_of_another_ca_is_refused(void **state)
{
    struct harness *h = up(*state, NULL, "server", TLS_CLIENT_CERT_NONE, NULL, "other-ca");
    assert_denied(h, "certificate is refused");
    assert_int_equal(h->requests, 0);
}

static void an_expired_server_is_refused(void **state)
{
    struct fixture *f = *state;
    authority_issue(f->dir, "expired", &f->ca, LOCAL, -1);
    assert_denied(up(f, NULL, "expired", TLS_CLIENT_CERT_NONE, NULL, "ca"), "expired");
}

static void a_server_of_another_name_is_refused(void **state)
{
    struct fixture *f = *state;
    authority_issue(f->dir, "elsewhere", &f->ca, "DNS:elsewhere,IP:127.0.0.2", 24);
    assert_denied(up(f, NULL, "elsewhere", TLS_CLIENT_CERT_NONE, NULL, "ca"), "mismatch");
}

static void a_host_name_is_verified(void **state)
{
    struct harness *h = up(*state, NULL, "server", TLS_CLIENT_CERT_NONE, NULL, "ca");
    struct answer a;
    char target[64];
    snprintf(target, sizeof target, "https://localhost:%d", http_server_port(h->server));
    struct http_call_options o = answer_options(h, &a, HTTP_METHOD_GET, "/");
    o.target = target;
    answer_start(&a, &o);
    assert_true(harness_wait(h, &a.done));
    assert_string_equal(a.err.text, "");
    answer_free(&a);
}

static void a_reloaded_certificate_serves_new_connections(void **state)
{
    struct fixture *f = *state;
    struct harness *h = up(f, NULL, "server", TLS_CLIENT_CERT_NONE, NULL, "ca");
    struct answer a;
    struct error err = {0};
    CLEANUP_FREE char *path = certs_path(f->dir, "server", "crt");
    /* Broken files change nothing. */
    assert_int_equal(file_write(path, "nonsense", 8, 0600, &err), 0);
    assert_int_equal(tls_context_reload(h->server_tls, &err), -1);
    assert_has(err.text, path);
    answer_get(h, &a, "/");
    assert_int_equal(a.status, 200);
    answer_free(&a);
    authority_issue(f->dir, "server", &f->ca, "DNS:elsewhere", 24);
    assert_int_equal(tls_context_reload(h->server_tls, &err), 0);
    answer_get(h, &a, "/");     /* on the kept connection */
    assert_int_equal(a.status, 200);
    answer_free(&a);
    http_client_close(h->client, NULL, NULL);
    h->client = http_client_new(&h->loop, &(struct http_client_options){.tls = h->client_tls});
    assert_denied(h, "mismatch");
}

static void contexts_name_the_file_that_is_wrong(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    CLEANUP_FREE char *missing = certs_path(f->dir, "missing", "crt");
    CLEANUP_FREE char *cert = certs_path(f->dir, "server", "crt");
    CLEANUP_FREE char *other_key = certs_path(f->dir, "client", "key");
    assert_null(tls_context_new(&(struct tls_options){.ca_file = missing}, &err));
    assert_has(err.text, missing);
    assert_null(tls_context_new(&(struct tls_options){.cert_file = missing}, &err));
    assert_has(err.text, missing);
    assert_null(tls_context_new(&(struct tls_options){.cert_file = cert, .key_file = other_key}, &err));
    assert_has(err.text, "does not belong");
    assert_null(tls_context_new(&(struct tls_options){.client_cert = TLS_CLIENT_CERT_REQUIRED}, &err));
    assert_has(err.text, "CA file");
}

static void a_silent_handshake_is_closed(void **state)
{
    struct harness *h = up(*state, &(struct http_server_options){.header_timeout_ms = 100}, "server",
                           TLS_CLIENT_CERT_NONE, NULL, "ca");
    int fd = raw_connect(h);
    assert_true(raw_closed(h, fd));
    close(fd);
}

static void plain_http_to_a_tls_port_is_closed(void **state)
{
    struct harness *h = up(*state, NULL, "server", TLS_CLIENT_CERT_NONE, NULL, "ca");
    int fd = raw_connect(h);
    raw_send(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(raw_closed(h, fd));
    close(fd);
    /* And the server is well. */
    struct answer a;
    answer_get(h, &a, "/");
    assert_int_equal(a.status, 200);
    answer_free(&a);
}

static void tls_to_a_plain_port_fails_with_a_reason(void **state)
{
    struct fixture *f = *state;
    FILES c = files_of(f, NULL, "ca", TLS_CLIENT_CERT_NONE);
    harness_start_with(&f->h, NULL, &(struct address){.host = "127.0.0.1"}, NULL, &c.options);
    f->started = true;
    struct answer a;
    snprintf(f->h.target, sizeof f->h.target, "https://127.0.0.1:%d", http_server_port(f->h.server));
    answer_get(&f->h, &a, "/");
    assert_int_equal(a.err.code, ERROR_UNAVAILABLE);
    assert_has(a.err.text, "TLS with 127.0.0.1");
    answer_free(&a);
}

struct slow {
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
    s->done = true;
}

static void a_paused_call_holds_its_peer_back(void **state)
{
    struct harness *h = up(*state, NULL, "server", TLS_CLIENT_CERT_NONE, NULL, "ca");
    struct slow s = {0};
    struct http_call *call = http_call_start(h->client, &(struct http_call_options){.target = h->target,
        .path = "/flood", .on_data = slow_data, .on_done = slow_done, .arg = &s});
    while (!s.done) {
        if (s.paused) {
            size_t got = s.got;
            harness_run_ms(h, 1);
            assert_int_equal(s.got, got);
            s.paused = false;
            http_call_resume(call);
        }
        uv_run(&h->loop, UV_RUN_ONCE);
    }
    assert_int_equal(s.got, 32 * 1024 * 1024);
    assert_true(s.pauses > 10 && h->drained > 0);
}

static void stream_read(struct stream *s, void *arg, const char *data, size_t len)
{
    struct answer *a = arg;
    buf_add(&a->early, data, len);
}

static void stream_eof(struct stream *s, void *arg)
{
    stream_close(s);
}

static void stream_closed(struct stream *s, void *arg, const struct error *err)
{
    struct answer *a = arg;
    a->failed = err;
    a->stream_closed = true;
}

static const struct stream_handlers stream_table = {
    .on_read = stream_read, .on_eof = stream_eof, .on_close = stream_closed};

static void on_upgrade(struct http_call *call, struct http_response *res, struct stream *s, void *arg)
{
    struct answer *a = arg;
    a->stream = s;
    a->done = true;
    stream_set_handlers(s, &stream_table, a);
}

static void upgrades_and_ends_properly(void **state)
{
    struct harness *h = up(*state, NULL, "server", TLS_CLIENT_CERT_NONE, NULL, "ca");
    static const struct http_header upgrade = {"Upgrade", "echo"};
    struct answer a;
    struct http_call_options o = answer_options(h, &a, HTTP_METHOD_GET, "/upgrade");
    o.headers = &upgrade;
    o.header_count = 1;
    o.on_upgrade = on_upgrade;
    answer_start(&a, &o);
    assert_true(harness_wait(h, &a.done));
    assert_non_null(a.stream);
    static char block[1000000];
    memset(block, 'u', sizeof block);
    stream_write(a.stream, block, sizeof block);
    stream_read_start(a.stream);
    for (int i = 0; i < 1000 && a.early.len < sizeof block; i++)
        harness_run_ms(h, 5);
    assert_int_equal(a.early.len, sizeof block);
    stream_end(a.stream);
    assert_true(harness_wait(h, &h->upgraded_closed));
    assert_true(h->upgraded_eof);
    /* close_notify came back: no error. */
    assert_true(harness_wait(h, &a.stream_closed));
    assert_false(a.failed);
    answer_free(&a);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    const struct CMUnitTest tests[] = {
        CASE(answers_over_tls), CASE(large_bodies_go_both_ways), CASE(the_server_knows_its_client),
        CASE(an_optional_certificate_may_be_missing), CASE(a_missing_client_certificate_is_refused),
        CASE(a_client_certificate_of_another_ca_is_refused), CASE(a_server_of_another_ca_is_refused),
        CASE(an_expired_server_is_refused), CASE(a_server_of_another_name_is_refused), CASE(a_host_name_is_verified),
        CASE(a_reloaded_certificate_serves_new_connections), CASE(contexts_name_the_file_that_is_wrong),
        CASE(a_silent_handshake_is_closed), CASE(plain_http_to_a_tls_port_is_closed),
        CASE(tls_to_a_plain_port_fails_with_a_reason), CASE(a_paused_call_holds_its_peer_back),
        CASE(upgrades_and_ends_properly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
