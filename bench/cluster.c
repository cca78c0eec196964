#include "cluster.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "base/timefmt.h"
#include "net/address.h"
#include "server/identity.h"

#define START_MS 120000
#define CALL_MS 30000
#define STOP_MS 60000
#define POLL_MS 5
#define PORTS_FROM 10000
#define PORTS 10000
#define PORTS_EACH 16           /* of processes one after the other */

/* --- waiting --- */

static void on_signal(uv_signal_t *handle, int signum)
{
    ((struct cluster *)handle->data)->cancelled = true;
}

static void on_timer(uv_timer_t *timer)
{
    /* Only wakes the loop. */
}

static int check_programs(struct cluster *c, struct error *err)
{
    char how[48];
    for (size_t i = 0; i < c->child_count; i++) {
        struct child *child = &c->children[i];
        if (!child->name || child_running(child))
            continue;
        child_how_ended(child, how, sizeof how);
        child_show_log(child);
        return error_set(err, ERROR_SYSTEM, "%s %s", child->name, how);
    }
    return 0;
}

int cluster_wait(struct cluster *c, bool (*done)(void *arg), void *arg, int64_t limit_ms, struct error *err)
{
    int64_t until = time_monotonic_ms() + limit_ms;
    /* Programs that end make no event of ours: now and then one has to look. */
    uv_timer_start(&c->timer, on_timer, 100, 100);
    int rc = 0;
    while (!rc && !done(arg)) {
        if (c->cancelled)
            rc = error_set(err, ERROR_CANCELLED, "interrupted");
        else if (time_monotonic_ms() > until)
            rc = error_set(err, ERROR_TIMEOUT, "not within %lld s", (long long)limit_ms / 1000);
        else
            rc = check_programs(c, err);
        if (!rc)
            uv_run(&c->loop, UV_RUN_ONCE);
    }
    uv_timer_stop(&c->timer);
    return rc;
}

static bool never(void *arg)
{
    return false;
}

int cluster_sleep(struct cluster *c, int64_t ms, struct error *err)
{
    struct error over = {0};
    cluster_wait(c, never, NULL, ms, &over);
    if (over.code == ERROR_TIMEOUT)
        return 0;
    *err = over;
    return -1;
}

/* --- requests --- */

struct exchange {
    bool done;
    int status;
    struct buf body;
    struct error error;
};

static void on_done(struct http_call *call, struct http_response *res, const struct error *err, void *arg)
{
    struct exchange *x = arg;
    x->done = true;
    if (err) {
        x->error = *err;
    } else {
        x->status = res->status;
        buf_add(&x->body, res->body.data ? res->body.data : "", res->body.len);
    }
}

static bool exchange_done(void *arg)
{
    return ((struct exchange *)arg)->done;
}

static int call(struct cluster *c, const char *target, enum http_method method, const char *path, const char *body,
                struct buf *answer, struct error *err)
{
    struct exchange x = {0};
    struct http_header headers[2] = {{"Content-Type", "application/json"}};
    struct http_call_options o = {
        .method = method, .target = target, .path = path, .headers = headers, .header_count = body ? 1 : 0, .body = body,
        .body_len = body ? strlen(body) : 0, .response_timeout_ms = CALL_MS, .on_done = on_done, .arg = &x,
    };
    if (text_has_prefix(path, "/v1/agent/") && c->tls)
        headers[o.header_count++] = (struct http_header){HEADER_AGENT, c->agent};
    else if (c->authorization)
        headers[o.header_count++] = (struct http_header){"Authorization", c->authorization};
    struct http_call *call = http_call_start(c->client, &o);
    int rc = cluster_wait(c, exchange_done, &x, 2 * CALL_MS, err);
    if (rc)
        http_call_cancel(call);
    else if (x.error.code)
        rc = error_set(err, x.error.code, "%s", x.error.text);
    else if (x.status >= 300)
        rc = error_set(err, error_code_from_http_status(x.status), "%s %s: %d %.300s", http_method_name(method), path,
                       x.status, x.body.data ? x.body.data : "");
    *answer = x.body;
    return rc;
}

int cluster_call_to(struct cluster *c, const char *target, enum http_method method, const char *path, const char *body,
                    json_t **json, struct error *err)
{
    CLEANUP_BUF struct buf answer = {0};
    int rc = call(c, target, method, path, body, &answer, err);
    if (json)
        *json = NULL;
    if (!rc && json && answer.len && !(*json = json_loadb(answer.data, answer.len, 0, NULL)))
        rc = error_set(err, ERROR_CORRUPT, "the answer to %s is not JSON", path);
    return rc;
}

int cluster_write(struct cluster *c, enum http_method method, const char *path, const char *body, struct error *err)
{
    int64_t until = time_monotonic_ms() + CALL_MS;
    int rc;
    do
        rc = cluster_call(c, method, path, body, NULL, err);
    while (rc && (err->code == ERROR_UNAVAILABLE || err->code == ERROR_UNKNOWN_OUTCOME) && !c->cancelled &&
           !check_programs(c, err) && time_monotonic_ms() < until);
    return rc;
}

int cluster_metric(struct cluster *c, const char *target, const char *name, double *value, struct error *err)
{
    CLEANUP_BUF struct buf text = {0};
    size_t len = strlen(name);
    if (call(c, target, HTTP_METHOD_GET, "/v1/metrics", NULL, &text, err))
        return -1;
    for (const char *line = text.data; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (!strncmp(line, name, len) && line[len] == ' ') {
            *value = strtod(line + len, NULL);
            return 0;
        }
    return error_set(err, ERROR_NOT_FOUND, "there is no metric %s", name);
}

int cluster_call(struct cluster *c, enum http_method method, const char *path, const char *body, json_t **json,
                 struct error *err)
{
    return cluster_call_to(c, c->target, method, path, body, json, err);
}

int cluster_wait_answer(struct cluster *c, const char *target, enum http_method method, const char *path, const char *body,
                        bool (*ready)(const json_t *answer, void *arg), void *arg, struct error *err)
{
    int64_t until = time_monotonic_ms() + START_MS;
    for (;;) {
        json_t *answer = NULL;
        int rc = cluster_call_to(c, target, method, path, body, &answer, err);
        bool over = !rc && ready(answer, arg);
        json_decref(answer);
        if (over)
            return 0;
        if (c->cancelled || check_programs(c, err))
            return -1;
        if (time_monotonic_ms() > until)
            return rc ? rc : error_set(err, ERROR_TIMEOUT, "%s is not as wanted within %d s", path, START_MS / 1000);
        if (cluster_sleep(c, POLL_MS, err))
            return -1;
    }
}

/* --- start --- */

static const char *filesystem_of(const char *path)
{
    static const struct { unsigned long magic; const char *name; } known[] = {
        {0xef53, "ext4"}, {0x58465342, "xfs"}, {0x9123683e, "btrfs"}, {0x01021994, "tmpfs"}, {0x794c7630, "overlayfs"},
        {0x2fc12fc1, "zfs"},
    };
    struct statfs fs;
    if (statfs(path, &fs))
        return "unknown";
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if ((unsigned long)fs.f_type == known[i].magic)
            return known[i].name;
    return "other";
}

static int make_dir(struct cluster *c, const char *parent, struct error *err)
{
    const char *tmp = parent ? parent : getenv("TMPDIR");
    snprintf(c->dir, sizeof c->dir, "%.200s/mentat-bench-XXXXXX", tmp && *tmp == '/' ? tmp : "/var/tmp");
    if (!mkdtemp(c->dir)) {
        int failure = errno;
        c->dir[0] = '\0';
        return error_set_errno(err, failure, "cannot make a temporary directory in %s", tmp ? tmp : "/var/tmp");
    }
    c->filesystem = filesystem_of(c->dir);
    return 0;
}

static int run_as(struct cluster *c, size_t number, const char *name, const char *path, char *const *argv, struct error *err)
{
    struct child *child = &c->children[number];
    *child = (struct child){.name = name, .log_path = mem_printf("%s/%s-%zu.log", c->dir, name, number)};
    if (child_start(child, path, argv, err) == 0)
        return 0;
    child_clear(child);
    *child = (struct child){0};
    return -1;
}

const struct child *cluster_run(struct cluster *c, const char *name, const char *path, char *const *argv, struct error *err)
{
    INVARIANT(c->child_count < CLUSTER_CHILDREN);
    return run_as(c, c->child_count, name, path, argv, err) ? NULL : &c->children[c->child_count++];
}

static int run_configured(struct cluster *c, size_t number, const char *name, struct error *err)
{
    CLEANUP_FREE char *path = child_find_program(name, err);
    CLEANUP_FREE char *config = mem_printf("%s/%s-%zu.yaml", c->dir, name, number);
    char *argv[] = {(char *)(uintptr_t)name, (char *)(uintptr_t)"--config", config, NULL};
    return path ? run_as(c, number, name, path, argv, err) : -1;
}

int cluster_start_server(struct cluster *c, size_t server, struct error *err)
{
    return run_configured(c, server, "mentat-server", err);
}

static const struct child *start_program(struct cluster *c, const char *name, const char *config, struct error *err)
{
    INVARIANT(c->child_count < CLUSTER_CHILDREN);
    CLEANUP_FREE char *path = mem_printf("%s/%s-%zu.yaml", c->dir, name, c->child_count);
    if (file_write(path, config, strlen(config), 0644, err) || run_configured(c, c->child_count, name, err))
        return NULL;
    return &c->children[c->child_count++];
}

static bool node_is_ready(const json_t *answer, void *arg)
{
    const char *state = json_string_value(json_object_get(json_array_get(json_object_get(answer, "items"), 0), "state"));
    return state && !strcmp(state, "ready");
}

static char *target_of(const struct cluster *c, const char *address)
{
    return mem_printf("%s://%s", c->tls ? "https" : "http", address);
}

struct wanted { struct cluster *c; size_t voters; };

/* All vote, and the leader said where it is. */
static bool has_leader(const json_t *answer, void *arg)
{
    const struct wanted *w = arg;
    size_t i, voters = 0;
    json_t *m;
    const char *leader = NULL;
    json_array_foreach(json_object_get(answer, "servers"), i, m) {
        const char *membership = json_string_value(json_object_get(m, "membership"));
        voters += membership && !strcmp(membership, "voter");
        if (json_is_true(json_object_get(m, "leader")))
            leader = json_string_value(json_object_get(m, "address"));
    }
    if (voters != w->voters || !leader)
        return false;
    free(w->c->target);
    w->c->target = target_of(w->c, leader);
    return true;
}

static void make_loop(struct cluster *c, size_t connections)
{
    static const int signals[] = {SIGINT, SIGTERM};
    INVARIANT(uv_loop_init(&c->loop) == 0);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        uv_signal_init(&c->loop, &c->signals[i]);
        c->signals[i].data = c;
        uv_signal_start(&c->signals[i], on_signal, signals[i]);
    }
    uv_timer_init(&c->loop, &c->timer);
    struct http_client_options o = {.keep_per_target = connections, .tls = c->context};
    c->client = http_client_new(&c->loop, &o);
}

/* Below those that the kernel gives to connections: between this look and its use nobody gets it by chance. */
static int free_port(struct cluster *c, struct error *err)
{
    if (!c->port)
        c->port = PORTS_FROM + (int)getpid() * PORTS_EACH % PORTS;
    for (int tries = 0; tries < PORTS; tries++) {
        const struct address a = {.host = "127.0.0.1", .port = c->port};
        c->port = c->port + 1 < PORTS_FROM + PORTS ? c->port + 1 : PORTS_FROM;
        if (address_probe(&a, ADDRESS_TCP) > 0)
            return a.port;
    }
    return error_set(err, ERROR_SYSTEM, "no free port on 127.0.0.1 from %d to %d", PORTS_FROM, PORTS_FROM + PORTS - 1);
}

char *cluster_free_target(struct cluster *c, struct error *err)
{
    int port = free_port(c, err);
    return port < 0 ? NULL : mem_printf("http://127.0.0.1:%d", port);
}

/* --- with TLS and tokens --- */

static int make_authority(struct cluster *c, struct error *err)
{
    if (signer_make(&c->signer, c->dir, err) || signer_issue(&c->signer, "bench", "99.server.mentat", err))
        return -1;
    c->context = cluster_context(c, "bench", err);
    return c->context ? 0 : -1;
}

struct tls_context *cluster_context(const struct cluster *c, const char *name, struct error *err)
{
    CLEANUP_FREE char *ca = signer_file(&c->signer);
    CLEANUP_FREE char *cert = mem_printf("%s/%s.pem", c->dir, name), *key = mem_printf("%s/%s.key", c->dir, name);
    return tls_context_new(&(struct tls_options){.cert_file = cert, .key_file = key, .ca_file = ca}, err);
}

/* Further lines of its configuration. */
static char *equip_server(const struct cluster *c, size_t id, struct error *err)
{
    CLEANUP_FREE char *name = mem_printf("server-%zu", id), *identity = mem_printf("%zu.server.mentat", id);
    CLEANUP_FREE char *ca = signer_file(&c->signer);
    if (signer_issue(&c->signer, name, identity, err))
        return NULL;
    return mem_printf("bind: 127.0.0.1\nserver_id: %zu\naccess: tokens\ntoken_rate: 0\ntls_cert: %s/%s.pem\ntls_key: %s/%s.key\ntls_ca: %s\n", id, c->dir, name,
                      c->dir, name, ca);
}

struct token_files { struct cluster *c; size_t servers; };

/* The first leader writes an administrator's token into its directory. */
static bool has_token(void *arg)
{
    const struct token_files *t = arg;
    for (size_t i = 0; i < t->servers; i++) {
        CLEANUP_FREE char *path = mem_printf("%s/state-%zu/admin-token", t->c->dir, i);
        CLEANUP_BUF struct buf text = {0};
        struct error none;
        if (file_read(path, 4096, &text, &none) || !text.len)
            continue;
        t->c->authorization = mem_printf("Bearer %.*s", (int)strcspn(text.data, "\n"), text.data);
        return true;
    }
    return false;
}

static int wait_token(struct cluster *c, size_t servers, struct error *err)
{
    struct token_files files = {c, servers};
    return cluster_wait(c, has_token, &files, START_MS, err);
}

static int start_servers(struct cluster *c, const struct cluster_options *o, size_t count, struct error *err)
{
    int ports[CLUSTER_SERVERS], raft_ports[CLUSTER_SERVERS];
    CLEANUP_BUF struct buf all = {0};
    INVARIANT(count <= CLUSTER_SERVERS);
    for (size_t i = 0; i < count; i++) {
        if ((ports[i] = free_port(c, err)) < 0 || (raft_ports[i] = free_port(c, err)) < 0)
            return -1;
        buf_printf(&all, "%s\"127.0.0.1:%d\"", i ? ", " : "servers: [", ports[i]);
    }
    buf_add_string(&all, "]\n");
    for (size_t i = 0; i < count; i++) {
        CLEANUP_FREE char *tls = c->tls ? equip_server(c, i + 1, err) : mem_strdup("");
        CLEANUP_FREE char *config = mem_printf("name: bench-%zu\nnew_cluster_policy: open\ndata_dir: %s/state-%zu\nport: %d\n"
                                               "raft_port: %d\n%s%s%s", i, c->dir, i, ports[i], raft_ports[i],
                                               count > 1 ? all.data : "", o->server_config ? o->server_config : "",
                                               tls ? tls : "");
        CLEANUP_FREE char *address = mem_printf("127.0.0.1:%d", ports[i]);
        c->targets[i] = target_of(c, address);
        if (!tls || !start_program(c, "mentat-server", config, err))
            return -1;
    }
    c->target = mem_strdup(c->targets[0]);
    if (c->tls && wait_token(c, count, err))
        return -1;
    struct wanted wanted = {c, count};
    return cluster_wait_answer(c, c->target, HTTP_METHOD_GET, "/v1/cluster", NULL, has_leader, &wanted, err);
}

int cluster_start(struct cluster *c, const struct cluster_options *o, struct error *err)
{
    *c = (struct cluster){.tls = o->tls};
    int rc = make_dir(c, o->parent, err);
    if (!rc && c->tls)
        rc = make_authority(c, err);
    make_loop(c, o->connections);
    if (rc || start_servers(c, o, o->servers ? o->servers : 1, err))
        return -1;
    if (!o->agent)
        return 0;
    int port = free_port(c, err);
    if (port < 0)
        return -1;
    CLEANUP_FREE char *agent = mem_printf(
        "name: bench\ndata_dir: %s/agent\nvolume_root: %s/volumes\nservers: [\"%s\"]\nport: %d\nip: 127.0.0.1\n"
        "cgroup_root: mentat-bench-%d\nstop_tasks_on_exit: true\n",
        c->dir, c->dir, c->target + strlen("http://"), port, (int)getpid());
    c->agent_child = start_program(c, "mentat-agent", agent, err);
    return c->agent_child ? cluster_wait_answer(c, c->target, HTTP_METHOD_GET, "/v1/nodes", NULL, node_is_ready, NULL, err) : -1;
}

/* --- stop --- */

static void stop_program(struct child *child)
{
    if (!child->name)
        return;
    child_signal(child, SIGTERM);
    for (int64_t until = time_monotonic_ms() + STOP_MS; child_running(child); usleep(POLL_MS * 1000))
        if (time_monotonic_ms() > until) {
            fprintf(stderr, "mentat-bench: %s does not end; killing it\n", child->name);
            child_signal(child, SIGKILL);
            until = INT64_MAX;
        }
    child_clear(child);
    *child = (struct child){0};
}

void cluster_stop_server(struct cluster *c, size_t server)
{
    stop_program(&c->children[server]);
}

size_t cluster_leader(const struct cluster *c)
{
    size_t i = 0;
    while (i + 1 < CLUSTER_SERVERS && c->targets[i + 1] && strcmp(c->targets[i], c->target))
        i++;
    return i;
}

void cluster_kill_server(struct cluster *c, size_t server)
{
    child_signal(&c->children[server], SIGKILL);
    stop_program(&c->children[server]);
    mem_set_string(&c->target, c->targets[server ? 0 : 1]);
}

void cluster_stop(struct cluster *c)
{
    http_client_close(c->client, NULL, NULL);
    for (size_t i = 0; i < ARRAY_LEN(c->signals); i++)
        uv_close((uv_handle_t *)&c->signals[i], NULL);
    uv_close((uv_handle_t *)&c->timer, NULL);
    uv_run(&c->loop, UV_RUN_DEFAULT);
    INVARIANT(uv_loop_close(&c->loop) == 0);
    while (c->child_count)
        stop_program(&c->children[--c->child_count]);
    if (c->dir[0])
        dir_remove(c->dir);
    for (size_t i = 0; i < CLUSTER_SERVERS; i++)
        free(c->targets[i]);
    free(c->target);
    free(c->authorization);
    tls_context_free(c->context);
    signer_clear(&c->signer);
}
