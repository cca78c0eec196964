#include "net/http_server.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/http_conn.h"

#define LISTEN_BACKLOG 1024

#define DEFAULT(field, value) do { if (!(field)) (field) = (value); } while (0)

struct http_server *http_server_new(uv_loop_t *loop, const struct http_server_options *options)
{
    /* A write to a closed connection shall be an error, not the end. Programs that start others reset it there. */
    signal(SIGPIPE, SIG_IGN);
    struct http_server *server = NEW(struct http_server);
    server->loop = loop;
    server->options = *options;
    struct http_server_options *o = &server->options;
    DEFAULT(o->max_connections, 10000);
    DEFAULT(o->max_per_address, o->max_connections);
    DEFAULT(o->header_limit, 16 * 1024);
    DEFAULT(o->target_limit, 8 * 1024);
    DEFAULT(o->body_limit, 4 * 1024 * 1024);
    DEFAULT(o->header_timeout_ms, 10 * 1000);
    DEFAULT(o->body_timeout_ms, 10 * 1000);
    DEFAULT(o->body_rate, 1024);
    DEFAULT(o->idle_timeout_ms, 75 * 1000);
    DEFAULT(o->write_timeout_ms, 30 * 1000);
    server->shared = stream_shared_new();
    TAILQ_INIT(&server->conns);
    LIST_INIT(&server->listeners);
    deadlines_init(&server->deadlines, loop);
    return server;
}

int http_server_port(const struct http_server *server)
{
    return server->port;
}

size_t http_server_connections(const struct http_server *server)
{
    return server->conn_count;
}

/* ---- Listening ---- */

static void on_connection(uv_stream_t *uv, int status)
{
    struct listener *l = uv->data;
    if (!status)
        conn_accept(l);
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct listener *l = handle->data;
    struct http_server *server = l->server;
    tls_context_free(l->tls);
    free(l);
    server->open_listeners--;
    http_server_maybe_stopped(server);
}

/* A socket file that nobody answers on is a left-over. */
static int remove_stale(const char *path, struct error *err)
{
    struct stat st;
    if (lstat(path, &st))
        return errno == ENOENT ? 0 : error_set_errno(err, errno, "listening on unix:%s", path);
    if (!S_ISSOCK(st.st_mode))
        return error_set(err, ERROR_EXISTS, "listening on unix:%s: there is a file that is not a socket", path);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set_errno(err, errno, "listening on unix:%s", path);
    int failed = connect(fd, (const struct sockaddr *)&a, sizeof a) ? errno : 0;
    close(fd);
    if (failed != ECONNREFUSED && failed != ENOENT)
        return error_set(err, ERROR_EXISTS, "listening on unix:%s: another process listens there", path);
    unlink(path);
    return 0;
}

static int bind_unix(struct listener *l, const struct address *a, int mode, struct error *err)
{
    int status;
    if (remove_stale(a->host, err))
        return -1;
    if ((status = uv_pipe_bind(&l->uv.pipe, a->host)))
        return error_set_errno(err, status, "listening on unix:%s", a->host);
    if (mode && chmod(a->host, (mode_t)mode))
        return error_set_errno(err, errno, "setting the mode of %s", a->host);
    return 0;
}

static int bind_tcp(struct listener *l, const struct address *a, bool reuse_port, struct error *err)
{
    struct sockaddr_storage sa;
    char text[ADDRESS_TEXT_SIZE];
    address_format(text, a);
    if (address_sockaddr(a, &sa, err) < 0)
        return -1;
    int status = uv_tcp_init_ex(l->server->loop, &l->uv.tcp, sa.ss_family);
    l->uv.handle.data = l;
    if (status) {
        l->uv.handle.type = UV_UNKNOWN_HANDLE;      /* it is not in the loop */
        return error_set_errno(err, status, "listening on %s", text);
    }
    uv_os_fd_t fd;
    int on = 1;
    if (reuse_port && (uv_fileno(&l->uv.handle, &fd) || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on)))
        return error_set_errno(err, errno, "sharing port %d", a->port);
    if ((status = uv_tcp_bind(&l->uv.tcp, (const struct sockaddr *)&sa, 0)))
        return error_set_errno(err, status, "listening on %s", text);
    return 0;
}

static void find_port(struct listener *l)
{
    struct sockaddr_storage sa;
    int len = sizeof sa;
    if (l->uv.handle.type != UV_TCP || uv_tcp_getsockname(&l->uv.tcp, (struct sockaddr *)&sa, &len))
        return;
    l->port = ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port
                                             : ((struct sockaddr_in *)&sa)->sin_port);
    if (!l->server->port)
        l->server->port = l->port;
}

int http_server_listen(struct http_server *server, const struct address *address,
                       const struct http_listen_options *options, struct error *err)
{
    struct listener *l = NEW(struct listener);
    struct http_listen_options o = options ? *options : (struct http_listen_options){0};
    l->server = server;
    server->open_listeners++;
    if (address->is_unix)
        uv_pipe_init(server->loop, &l->uv.pipe, 0);
    l->uv.handle.data = l;
    int failed = address->is_unix ? bind_unix(l, address, o.unix_mode, err)
                                  : bind_tcp(l, address, o.reuse_port, err);
    if (!failed) {
        char text[ADDRESS_TEXT_SIZE];
        address_format(text, address);
        int status = uv_listen(&l->uv.stream, LISTEN_BACKLOG, on_connection);
        if (status)
            failed = error_set_errno(err, status, "listening on %s", text);
    }
    if (failed && l->uv.handle.type == UV_UNKNOWN_HANDLE) {
        server->open_listeners--;
        free(l);
    } else if (failed) {
        uv_close(&l->uv.handle, on_listener_closed);
    } else {
        l->tls = o.tls ? tls_context_hold(o.tls) : NULL;
        LIST_INSERT_HEAD(&server->listeners, l, entry);
        find_port(l);
    }
    return failed;
}

/* ---- Stopping ---- */

static void on_timer_closed(uv_handle_t *handle)
{
    struct http_server *server = container_of((uv_timer_t *)handle, struct http_server, deadlines.timer);
    if (server->on_stopped)
        server->on_stopped(server->stopped_arg);
    stream_shared_release(server->shared);
    free(server);
}

void http_server_maybe_stopped(struct http_server *server)
{
    bool closing = uv_is_closing((uv_handle_t *)&server->deadlines.timer);
    if (!server->stopping || closing || server->open_listeners || !TAILQ_EMPTY(&server->conns))
        return;
    deadline_remove(&server->deadlines, &server->grace);
    deadlines_close(&server->deadlines, on_timer_closed);
}

static void on_grace_over(struct deadline *d)
{
    struct http_server *server = container_of(d, struct http_server, grace);
    struct conn *c;
    TAILQ_FOREACH(c, &server->conns, entry)
        stream_close(c->stream);
}

void http_server_stop(struct http_server *server, int64_t grace_ms, void (*on_stopped)(void *arg), void *arg)
{
    struct listener *l;
    struct conn *c;
    server->on_stopped = on_stopped;
    server->stopped_arg = arg;
    server->stopping = true;
    while ((l = LIST_FIRST(&server->listeners))) {
        LIST_REMOVE(l, entry);
        uv_close(&l->uv.handle, on_listener_closed);
    }
    TAILQ_FOREACH(c, &server->conns, entry)
        if (c->phase == CONN_IDLE || grace_ms <= 0)
            stream_close(c->stream);
    deadline_set(&server->deadlines, &server->grace, grace_ms, on_grace_over);
    http_server_maybe_stopped(server);
}
