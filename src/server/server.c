/* Start: data directory → consensus → listening sockets → HTTP threads → loop. Stop: waits are answered, HTTP threads
 * finish their requests, consensus writes what is under way, the loop runs out of handles. */
#include "server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "server/control.h"
#include "server/http_thread.h"

struct server {
    const struct server_config *config;
    uv_loop_t loop;
    uv_signal_t signals[2];
    struct control control;
    struct tls_context *tls;
    struct http_thread **threads;
    size_t thread_count;
    struct queue stopped;                /* messages of threads that stopped */
    size_t stopped_count;
    bool stopping;
    int lock_fd;
};

/* One server for a directory, told before anything is read there. */
static int lock_directory(struct server *s, struct error *err)
{
    const char *folder = s->config->data_dir;
    if (dir_make(folder, 0700, err))
        return error_context(err, "data_dir %s cannot be made", folder);
    CLEANUP_FREE char *path = mem_printf("%s/server.lock", folder);
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0)
        return error_set_errno(err, errno, "data_dir %s cannot be written", folder);
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    return error_set(err, ERROR_EXISTS, "another mentat-server runs on data_dir %s; stop it, or give this one another "
                     "data_dir", folder);
}

static int open_tls(struct server *s, struct error *err)
{
    const struct server_config *c = s->config;
    if (!c->tls_cert)
        return 0;
    /* Who reaches the API is its operator (see identity.h), so only who the authority knows may connect. */
    struct tls_options options = {.cert_file = c->tls_cert, .key_file = c->tls_key, .ca_file = c->tls_ca,
                                  .client_cert = TLS_CLIENT_CERT_REQUIRED};
    s->tls = tls_context_new(&options, err);
    return s->tls ? 0 : -1;
}

/* Listening sockets share their port by SO_REUSEPORT, which another server of the same user could join unseen: binding
 * without it first tells whether the port is free. */
static int check_port(const struct address *a, struct error *err)
{
    struct sockaddr_storage sa = {0};
    if (a->is_unix || !a->port ||
        (uv_ip4_addr(a->host, a->port, (struct sockaddr_in *)&sa) &&
         uv_ip6_addr(a->host, a->port, (struct sockaddr_in6 *)&sa)))
        return 0;
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0)
        return error_set_errno(err, errno, "socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    int rc = bind(fd, (struct sockaddr *)&sa, sa.ss_family == AF_INET ? sizeof(struct sockaddr_in)
                                                                       : sizeof(struct sockaddr_in6));
    int problem = errno;
    close(fd);
    if (!rc)
        return 0;
    if (problem == EADDRINUSE)
        return error_set(err, ERROR_EXISTS, "port %d on %s is taken by another program; stop it, or set another port",
                         a->port, a->host);
    return error_set_errno(err, problem, "cannot listen on %s:%d", a->host, a->port);
}

static int open_threads(struct server *s, struct error *err)
{
    struct http_thread_options options = {.config = s->config, .tls = s->tls, .control = &s->control};
    if (address_parse(s->config->bind, (int)s->config->port, &options.address, err) ||
        check_port(&options.address, err))
        return -1;
    size_t count = options.address.is_unix ? 1 : (size_t)s->config->http_threads;
    options.all = s->threads = mem_array(count, sizeof *s->threads);
    options.count = count;
    for (size_t i = 0; i < count; i++) {
        if (http_thread_new(&s->threads[i], &options, err))
            return error_context(err, "cannot listen");
        s->thread_count++;
        if (!options.address.is_unix)
            options.address.port = http_thread_port(s->threads[0]);
    }
    char text[ADDRESS_TEXT_SIZE];
    address_format(text, &options.address);
    LOG_I("listening", "address", text, "tls", s->tls ? "true" : "false", "name", s->config->name, "data_dir",
          s->config->data_dir, "version", MENTAT_VERSION);
    return 0;
}

/* --- stop --- */

static void close_rest(struct server *s)
{
    for (size_t i = 0; i < s->thread_count; i++)
        http_thread_join(s->threads[i]);
    s->thread_count = 0;
    for (int i = 0; i < 2; i++)
        uv_close((uv_handle_t *)&s->signals[i], NULL);
    queue_close(&s->stopped, NULL);
    control_stop(&s->control);
}

static void on_thread_stopped(void *ctx, struct queue_item *item)
{
    struct server *s = ctx;
    free(item);
    if (++s->stopped_count == s->thread_count)
        close_rest(s);
}

/* On the HTTP thread; its loop has ended when the join returns. */
static void tell_stopped(void *ctx)
{
    struct server *s = ctx;
    queue_push_answer(&s->stopped, NEW(struct queue_item));
}

static void stop(struct server *s, int grace_ms)
{
    if (s->stopping)
        return;
    s->stopping = true;
    control_stop_waiting(&s->control);
    for (size_t i = 0; i < s->thread_count; i++)
        http_thread_stop(s->threads[i], grace_ms, tell_stopped, s);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct server *s = handle->data;
    LOG_I("stopping", "signal", number == SIGTERM ? "SIGTERM" : "SIGINT");
    stop(s, (int)s->config->stop_grace_ms);
}

static void open_signals(struct server *s)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    for (int i = 0; i < 2; i++) {
        uv_signal_init(&s->loop, &s->signals[i]);
        s->signals[i].data = s;
        uv_signal_start(&s->signals[i], on_signal, numbers[i]);
    }
}

static int start(struct server *s, struct error *err)
{
    if (open_tls(s, err) || control_start(&s->control, &s->loop, s->config, err))
        return -1;
    queue_open(&s->stopped, &s->loop, SIZE_MAX, on_thread_stopped, s);
    open_signals(s);
    if (open_threads(s, err) == 0) {
        for (size_t i = 0; i < s->thread_count; i++)
            http_thread_run(s->threads[i]);
        return 0;
    }
    /* None of them runs yet: each ends inside its join. */
    for (size_t i = 0; i < s->thread_count; i++)
        http_thread_stop(s->threads[i], 0, NULL, NULL);
    close_rest(s);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    control_free(&s->control);
    return -1;
}

int server_run(const struct server_config *config, struct error *err)
{
    struct server s = {.config = config, .lock_fd = -1};
    signal(SIGPIPE, SIG_IGN);
    INVARIANT(uv_loop_init(&s.loop) == 0);
    int rc = lock_directory(&s, err);
    if (!rc)
        rc = start(&s, err);
    if (!rc) {
        uv_run(&s.loop, UV_RUN_DEFAULT);
        control_free(&s.control);
        LOG_I("stopped");
    }
    free(s.threads);
    tls_context_free(s.tls);
    if (s.lock_fd >= 0)
        close(s.lock_fd);
    int closed = uv_loop_close(&s.loop);
    INVARIANT(closed == 0);
    return rc;
}
