/* Start: data directory → consensus → listening sockets → HTTP threads → loop. Stop: waits are answered, HTTP threads
 * finish their requests, consensus writes what is under way, the loop runs out of handles. */
#include "server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "audit/audit.h"
#include "audit/sink.h"
#include "base/file.h"
#include "base/log.h"
#include "base/open_files.h"
#include "core/command.h"
#include "sandbox/launcher.h"
#include "sandbox/memory.h"
#include "server/addresses.h"
#include "server/authority.h"
#include "server/control.h"
#include "server/http_thread.h"
#include "server/server_sandbox.h"
#include "server/vault.h"

struct server {
    const struct server_config *config;
    struct launcher *launcher;
    uv_loop_t loop;
    uv_signal_t signals[2];
    struct address address;              /* that the API listens on */
    struct server_addresses addresses;
    struct control control;
    struct tls_context *tls;             /* of files, or own_tls */
    struct own_tls own_tls;
    struct vault_keys keys;              /* until the control has them */
    struct access_table *access;
    struct audit *audit;
    struct rate_limits *rates;           /* NULL: no tokens are asked for */
    struct http_thread **threads;
    size_t thread_count;
    struct queue stopped;                /* messages of threads that stopped */
    size_t stopped_count;
    bool stopping, restart;
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

#define AUDIT_FILES 16u
#define SYSLOG "/dev/log"

static int open_audit(struct server *s, struct error *err)
{
    const struct server_config *c = s->config;
    struct audit_options o = {.dir = c->audit_dir, .server = c->name, .file_bytes = ((uint64_t)c->audit_mb << 20) / AUDIT_FILES,
                              .files_most = AUDIT_FILES, .keep_ms = c->audit_keep_ms};
    struct audit_sink_options sink = {.syslog = c->audit_sink == AUDIT_SINK_SYSLOG ? SYSLOG : NULL, .command = c->audit_command,
                                      .launcher = s->launcher};
    if (c->audit_sink != AUDIT_SINK_NONE && audit_sink_open(&o.sink, &sink, err))
        return -1;
    return c->audit == AUDIT_OFF ? 0 : audit_open(&s->audit, &o, err);
}

static void open_access(struct server *s)
{
    const struct server_config *c = s->config;
    s->access = access_table_new();
    s->rates = rate_limits_new((const int64_t[RATE_KINDS]){
        [RATE_TOKEN] = c->token_rate, [RATE_ADDRESS] = c->address_rate, [RATE_FAILURE] = c->failure_rate});
}

static int open_tls(struct server *s, struct error *err)
{
    const struct server_config *c = s->config;
    if (c->tls == TLS_AUTO) {
        CLEANUP_FREE char *host = server_addresses_host(c);
        if (own_tls_open(&s->own_tls, c, s->keys.ring, host, err))
            return error_context(err, "tls: auto");
        s->tls = tls_context_hold(s->own_tls.context);
        return 0;
    }
    if (!c->tls_cert)
        return 0;
    /* Where no tokens are asked for, who reaches the API is its operator (see identity.h): then only who the authority
     * knows may connect. */
    struct tls_options options = {.cert_file = c->tls_cert, .key_file = c->tls_key, .ca_file = c->tls_ca,
                                  .client_cert = s->access ? TLS_CLIENT_CERT_OPTIONAL : TLS_CLIENT_CERT_REQUIRED};
    s->tls = tls_context_new(&options, err);
    return s->tls ? 0 : -1;
}

/* Files for what else is open: the log, snapshots, queues. Each connection may need another one, to an agent. */
#define FILES_KEPT 512
#define FILES_PER_CONNECTION 2

/* How many connections a thread may have, so that clients cannot take the last file from the log. */
static size_t connections_each(const struct server_config *c, size_t threads)
{
    size_t wanted = (size_t)c->max_connections;
    size_t files = open_files_raise(wanted * threads * FILES_PER_CONNECTION + FILES_KEPT);
    size_t most = files > 2 * FILES_KEPT ? (files - FILES_KEPT) / (threads * FILES_PER_CONNECTION)
                                         : files / 2 / (threads * FILES_PER_CONNECTION);
    if (most >= wanted)
        return wanted;
    most = most ? most : 1;
    LOG_W("fewer connections than max_connections: the limit of open files is low", "connections",
          LOG_U64(most * threads), "open_files", LOG_U64(files));
    return most;
}

static int open_threads(struct server *s, struct error *err)
{
    struct http_thread_options options = {.config = s->config, .tls = s->tls, .access = s->access, .audit = s->audit, .rates = s->rates, .control = &s->control};
    if (address_parse(s->config->bind, (int)s->config->port, &options.address, err) ||
        address_check_free(&options.address, err))
        return -1;         /* sockets share their port by SO_REUSEPORT, which another server could join unseen */
    size_t count = options.address.is_unix ? 1 : (size_t)s->config->http_threads;
    options.all = s->threads = mem_array(count, sizeof *s->threads);
    options.count = count;
    options.max_connections = connections_each(s->config, count);
    for (size_t i = 0; i < count; i++) {
        if (http_thread_new(&s->threads[i], &options, err))
            return error_context(err, "cannot listen");
        s->thread_count++;
        if (!options.address.is_unix)
            options.address.port = http_thread_port(s->threads[0]);
    }
    s->address = options.address;
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

static void on_restart(void *ctx)
{
    struct server *s = ctx;
    s->restart = true;
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

/* Ends what did not run yet: each thread ends inside its join. */
static void give_up(struct server *s)
{
    for (size_t i = 0; i < s->thread_count; i++)
        http_thread_stop(s->threads[i], 0, NULL, NULL);
    for (size_t i = 0; i < s->thread_count; i++)
        http_thread_join(s->threads[i]);
    s->thread_count = 0;
}

/* The port is taken first, since others are told of it; nothing is served until the state is there. */
static int start(struct server *s, struct error *err)
{
    if (s->config->access == ACCESS_TOKENS)
        open_access(s);
    if (open_audit(s, err) || vault_read_keys(s->config, s->launcher, &s->keys, err) || open_tls(s, err))
        return -1;
    struct control_options options = {.config = s->config, .addresses = &s->addresses, .tls = s->tls, .access = s->access,
                                      .own_tls = s->config->tls == TLS_AUTO ? &s->own_tls : NULL, .keys = &s->keys,
                                      .launcher = s->launcher};
    if (open_threads(s, err) ||
        server_addresses_find(s->config, s->address.is_unix ? 0 : s->address.port, &s->addresses, err) ||
        control_start(&s->control, &s->loop, &options, err)) {
        give_up(s);
        uv_run(&s->loop, UV_RUN_DEFAULT);
        return -1;
    }
    s->control.restart = on_restart;
    s->control.restart_ctx = s;
    queue_open(&s->stopped, &s->loop, SIZE_MAX, on_thread_stopped, s);
    open_signals(s);
    for (size_t i = 0; i < s->thread_count; i++)
        http_thread_run(s->threads[i]);
    char text[ADDRESS_TEXT_SIZE];
    address_format(text, &s->address);
    LOG_I("listening", "address", text, "tls", s->tls ? "true" : "false", "name", s->config->name, "data_dir",
          s->config->data_dir, "version", command_release);
    return 0;
}

static int run_once(const struct server_config *config, struct launcher *launcher, bool *again, struct error *err)
{
    struct server s = {.config = config, .launcher = launcher, .lock_fd = -1};
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
    server_addresses_clear(&s.addresses);
    tls_context_free(s.tls);
    own_tls_close(&s.own_tls);
    vault_clear_keys(&s.keys);
    access_table_free(s.access);
    rate_limits_free(s.rates);
    audit_close(s.audit);
    if (s.lock_fd >= 0)
        close(s.lock_fd);
    int closed = uv_loop_close(&s.loop);
    INVARIANT(closed == 0);
    *again = !rc && s.restart;
    return rc;
}

int server_run(const struct server_config *config, struct error *err)
{
    struct launcher *launcher = NULL;
    bool again = true;
    int rc = 0;
    memory_hide();
    if (config->backup_command || config->cluster_key_command || config->audit_command)
        rc = launcher_new(&launcher, err);
    if (!rc && config->sandbox)
        sandbox_enter(config);
    while (!rc && again)
        rc = run_once(config, launcher, &again, err);
    launcher_free(launcher);
    return rc;
}
