/* Happy path: store, drivers, runner (adopts what runs), API, sync; then everything is events. SIGTERM closes sync,
 * API and runner; the loop runs empty; the store is closed last. */
#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "agent/api.h"
#include "agent/own_certificate.h"
#include "agent/cgroup.h"
#include "agent/facts.h"
#include "agent/ingress/ingress.h"
#include "agent/rights.h"
#include "agent/runner.h"
#include "agent/secret_files.h"
#include "agent/secret_source.h"
#include "agent/sync.h"
#include "base/file.h"
#include "base/id.h"
#include "base/open_files.h"
#include "base/random.h"
#include "base/text.h"
#include "join/revoked.h"
#include "sandbox/memory.h"

#define FACTS_INTERVAL_MS 60000
#define TROUBLE_INTERVAL_MS 2000
#define ROOM_BYTES (256 * 1024)
#define OPEN_FILES 65536             /* a few for each task; below what select(2) users would notice, shims reset it */

static const int end_signals[] = {SIGTERM, SIGINT};

struct agent {
    const struct agent_config *config;
    uv_loop_t loop;
    struct store *store;
    struct cgroup_root cgroups;
    struct driver_env *drivers_env;
    struct drivers *drivers;
    struct secret_source *secrets;
    struct secret_files *secret_files;
    struct runner *runner;
    struct agent_api *api;
    struct sync *sync;
    struct ingress_node *ingress;    /* NULL: the node takes no requests from outside */
    struct tls_context *tls;
    struct revocation_list revoked;      /* servers that were removed */
    struct own_certificate *certificate;     /* NULL: files of the operator, or none */
    struct node node, fresh;         /* node: as registered; fresh: being gathered by the worker */
    uint64_t index;
    struct str_list known_servers;   /* as the store had them at the start */
    char *known_cluster;
    char *known_part;                /* of the network of microVMs, that this node had last */
    uv_signal_t signals[ARRAY_LEN(end_signals)];
    uv_timer_t facts_timer;
    uv_work_t facts_work;
    bool gathering, gather_again, ending;
    struct error room, fresh_room;   /* code ERROR_NONE: there is room in data_dir */
    char *trouble;
    char *ip;                        /* what tasks are told; kept when the facts change */
};

/* --- what keeps this node from starting anything --- */

/* The store's own failure comes first, then what the last look at data_dir gave. */
static const char *trouble(void *ctx)
{
    struct agent *a = ctx;
    return a->trouble;
}

/* Tells the runner and, through the facts, the servers. */
static void trouble_update(struct agent *a)
{
    char *text = store_failing(a->store) ? mem_printf("the agent cannot write its state: %s", store_failing(a->store))
               : a->room.code ? mem_printf("the agent cannot write its state: %s", a->room.text) : NULL;
    bool changed = !!text != !!a->trouble;
    free(a->trouble);
    a->trouble = text;
    if (changed && a->runner && !a->ending)
        runner_trouble_changed(a->runner);
}

/* Whether there is room for another task's first files. */
static void room_look(const char *data_dir, struct error *err)
{
    CLEANUP_FREE char *path = mem_printf("%s/room.probe", data_dir);
    err->code = ERROR_NONE;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        error_set_errno(err, errno, "%s", data_dir);
        return;
    }
    int rc = posix_fallocate(fd, 0, ROOM_BYTES);
    if (rc == ENOSPC || rc == EDQUOT || rc == EIO || rc == EROFS)
        error_set_errno(err, rc, "%s", data_dir);
    close(fd);
    unlink(path);
}

/* --- facts --- */

static void on_facts_timer(uv_timer_t *t);
static void facts_check(struct agent *a);

static void complete_facts(struct agent *a, struct node *node)
{
    mem_set_string(&node->id, a->node.id);
    mem_set_string(&node->address, a->node.address);
    if (a->certificate) {
        struct certificate_state own = own_certificate_state(a->certificate);
        type_clear(&certificate_state_type, &node->certificate);
        type_copy(&certificate_state_type, &node->certificate, &own);
    }
    drivers_probe(a->drivers, &node->drivers);
    mem_set_string(&node->network.wanted, drivers_network_wanted(a->drivers));
    /* While nothing can be written no task is to come here. */
    for (uint32_t i = 0; a->trouble && i < node->drivers.n; i++) {
        node->drivers.v[i].healthy = false;
        mem_set_string(&node->drivers.v[i].detail, a->trouble);
    }
}

static void facts_run(uv_work_t *work)
{
    struct agent *a = work->data;
    facts_gather(a->config, &a->fresh);
    room_look(a->config->data_dir, &a->fresh_room);
}

static void facts_timer_set(struct agent *a)
{
    uv_timer_start(&a->facts_timer, on_facts_timer, a->trouble ? TROUBLE_INTERVAL_MS : FACTS_INTERVAL_MS, 0);
}

static void facts_done(uv_work_t *work, int status)
{
    struct agent *a = work->data;
    a->gathering = false;
    if (!a->ending) {
        a->room = a->fresh_room;
        trouble_update(a);
        facts_timer_set(a);
        complete_facts(a, &a->fresh);
        if (!type_equal(&node_type, &a->fresh, &a->node)) {
            LOG_I("the node's facts changed");
            struct node old = a->node;
            a->node = a->fresh;
            a->fresh = old;
            if (a->sync)
                sync_register(a->sync);
        }
    }
    type_clear(&node_type, &a->fresh);
    if (a->gather_again)
        facts_check(a);
}

static void facts_check(struct agent *a)
{
    if (a->gathering || a->ending) {
        a->gather_again = true;
        return;
    }
    a->gathering = true;
    a->gather_again = false;
    type_init(&node_type, &a->fresh);
    a->facts_work.data = a;
    uv_queue_work(&a->loop, &a->facts_work, facts_run, facts_done);
}

static void on_facts_timer(uv_timer_t *t)
{
    facts_check(t->data);
}

static void on_store_change(void *ctx)
{
    struct agent *a = ctx;
    trouble_update(a);
    facts_check(a);
}

static void on_facts_change(void *ctx)
{
    facts_check(ctx);
}

static int on_admits(void *ctx, const struct service *s, struct error *err)
{
    return agent_config_admits(((struct agent *)ctx)->config, s, err);
}

/* A driver began or ceased to work. */
static void on_drivers_change(void *ctx)
{
    struct agent *a = ctx;
    if (a->sync)
        facts_check(a);
}

/* --- between sync, runner and API --- */

static void count_task(void *ctx, const struct runner_view *view)
{
    *(int64_t *)ctx += view->task != NULL;
}

static void on_hello(void *ctx, struct agent_hello *hello)
{
    struct agent *a = ctx;
    runner_each(a->runner, count_task, &hello->tasks);
    type_clear(&node_type, &hello->node);
    type_copy(&node_type, &hello->node, &a->node);
    if (hello->node.network.wanted)
        mem_set_string(&hello->node.network.subnet, a->known_part);
}

static void on_heard(void *ctx, int64_t sent_at_ms)
{
    struct agent *a = ctx;
    if (runner_lease(a->runner, sent_at_ms, a->node.volume_lease_ms))
        sync_ask_everything(a->sync);
}

static void on_work(void *ctx, struct agent_work *work)
{
    struct agent *a = ctx;
    if (work->index != a->index) {
        a->index = work->index;
        CLEANUP_FREE char *text = mem_printf("%" PRIu64, a->index);
        store_put(a->store, STORE_META, "index", text, strlen(text));
    }
    runner_apply(a->runner, work);
}

/* Servers that do not know of addresses would pass over them, each for itself. */
static void on_collect(void *ctx, struct agent_report *report, uint32_t limit)
{
    struct agent *a = ctx;
    runner_collect(a->runner, report, limit);
    for (uint32_t i = 0; !sync_knows_network(a->sync) && i < report->allocs.n; i++)
        mem_set_string(&report->allocs.v[i].address, NULL);
}

static void on_network(void *ctx, const struct agent_network *table)
{
    struct agent *a = ctx;
    const char *part = table ? table->own.subnet : NULL;
    if (part && strcmp(part, a->known_part ? a->known_part : "") != 0) {
        mem_set_string(&a->known_part, part);
        store_put(a->store, STORE_META, "network_part", part, strlen(part));
    }
    drivers_network(a->drivers, table);
}

static void on_acknowledged(void *ctx, const struct agent_report *report)
{
    runner_acknowledge(((struct agent *)ctx)->runner, report);
}

/* One address in a line. */
static void on_servers(void *ctx, const struct str_list *addresses)
{
    struct agent *a = ctx;
    CLEANUP_BUF struct buf text = {0};
    for (uint32_t i = 0; i < addresses->n; i++)
        buf_printf(&text, "%s\n", addresses->v[i]);
    store_put(a->store, STORE_META, "servers", text.data, text.len);
}

static void on_cluster(void *ctx, const char *cluster)
{
    struct agent *a = ctx;
    store_put(a->store, STORE_META, "cluster", cluster, strlen(cluster));
}

static void on_certificate_mark(void *ctx, const char *mark)
{
    struct agent *a = ctx;
    if (a->certificate)
        own_certificate_hear(a->certificate, mark);
}

static void on_certificate_revoked(void *ctx)
{
    struct agent *a = ctx;
    if (a->certificate)
        own_certificate_revoked(a->certificate);
}

static void revoked_read(struct revocation_list *all, char *text)
{
    char *rest = NULL, name[80];
    long long before, until;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (sscanf(line, "%79s %lld %lld", name, &before, &until) != 3)
            continue;
        struct revocation *r = list_add_zero((struct list *)all, &revocation_type);
        *r = (struct revocation){mem_strdup(name), before, until};
    }
}

static bool same_revoked(const struct revocation_list *a, const struct revocation_list *b)
{
    bool same = a->n == b->n;
    for (uint32_t i = 0; same && i < a->n; i++)
        same = type_equal(&revocation_type, &a->v[i], &b->v[i]);
    return same;
}

/* Kept, because after the next start a server that was removed may be the first to speak. */
static void on_revoked(void *ctx, const struct revocation_list *servers)
{
    struct agent *a = ctx;
    if (!a->tls || same_revoked(servers, &a->revoked))
        return;
    CLEANUP_BUF struct buf text = {0};
    list_clear((struct list *)&a->revoked, &revocation_type);
    for (uint32_t i = 0; i < servers->n; i++) {
        const struct revocation *r = &servers->v[i];
        type_copy(&revocation_type, list_add_zero((struct list *)&a->revoked, &revocation_type), r);
        buf_printf(&text, "%s %lld %lld\n", r->name, (long long)r->before, (long long)r->until);
    }
    store_put(a->store, STORE_META, "revoked", text.data ? text.data : "", text.len);
    LOG_I("certificates of servers that were removed are not believed", "servers", LOG_U64(servers->n));
    revoked_use(a->tls, &a->revoked);
}

static void read_servers(struct str_list *out, char *text)
{
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        str_list_add(out, line);
}

static void on_ingress(void *ctx, struct agent_ingress *table)
{
    ingress_follow(((struct agent *)ctx)->ingress, table);
}

static void on_ingress_report(void *ctx, struct ingress_report *report)
{
    ingress_report(((struct agent *)ctx)->ingress, report);
}

static char *on_certificate_wanted(void *ctx)
{
    return ingress_certificate_wanted(((struct agent *)ctx)->ingress);
}

static void on_secret_certificate(void *ctx, const struct secret_value *value)
{
    ingress_certificate(((struct agent *)ctx)->ingress, value);
}

static void on_ingress_needs(void *ctx)
{
    struct agent *a = ctx;
    if (a->sync)
        sync_certificate(a->sync);
}

static void on_ingress_news(void *ctx)
{
    struct agent *a = ctx;
    if (a->sync)
        sync_ingress_report(a->sync);
}

static const struct sync_handlers sync_handlers = {
    .hello = on_hello, .heard = on_heard, .work = on_work, .collect = on_collect, .acknowledged = on_acknowledged, .servers = on_servers,
    .cluster = on_cluster, .certificate_mark = on_certificate_mark, .revoked = on_revoked,
    .certificate_revoked = on_certificate_revoked, .network = on_network,
}, ingress_handlers = {
    .hello = on_hello, .heard = on_heard, .work = on_work, .collect = on_collect, .acknowledged = on_acknowledged, .servers = on_servers,
    .cluster = on_cluster, .certificate_mark = on_certificate_mark, .revoked = on_revoked,
    .certificate_revoked = on_certificate_revoked, .network = on_network, .ingress = on_ingress,
    .ingress_report = on_ingress_report, .certificate_wanted = on_certificate_wanted,
    .certificate = on_secret_certificate,
};

static void on_report(void *ctx)
{
    struct agent *a = ctx;
    if (a->sync)
        sync_report(a->sync);
}

static void on_ended(void *ctx, const char *alloc_id)
{
    struct agent *a = ctx;
    if (a->api)
        agent_api_ended(a->api, alloc_id);
}

/* --- ending --- */

static void close_all(struct agent *a)
{
    for (size_t i = 0; i < ARRAY_LEN(end_signals); i++)
        uv_close((uv_handle_t *)&a->signals[i], NULL);
    uv_close((uv_handle_t *)&a->facts_timer, NULL);
    own_certificate_close(steal(&a->certificate));
    if (a->sync)
        sync_close(steal(&a->sync));
    if (a->api)
        agent_api_close(steal(&a->api));
    if (a->ingress)
        ingress_close(steal(&a->ingress));
    runner_close(steal(&a->runner));
    secret_source_close(steal(&a->secrets));
    drivers_close(steal(&a->drivers));           /* what they still have to do keeps the loop running */
}

static void on_proxy_stopped(void *ctx)
{
    struct agent *a = ctx;
    close_all(a);
    CLEANUP_FREE char *allocs = mem_printf("%s/allocs", a->config->data_dir);
    rmdir(allocs);
    cgroup_remove_root(&a->cgroups);
}

/* The proxy served to the last. */
static void on_all_stopped(void *ctx)
{
    struct agent *a = ctx;
    LOG_I("all tasks have ended");
    if (a->ingress)
        ingress_stop(a->ingress, on_proxy_stopped, a);
    else
        on_proxy_stopped(a);
}

static void on_signal(uv_signal_t *s, int number)
{
    struct agent *a = s->data;
    bool again = a->ending;
    a->ending = true;
    if (!a->runner)
        return;
    if (again && a->config->stop_tasks_on_exit) {
        LOG_I("asked to end again; tasks that still run are killed");
        runner_kill_all(a->runner);
    } else if (a->config->stop_tasks_on_exit) {
        LOG_I("ending; all tasks are stopped first");
        runner_stop_all(a->runner, on_all_stopped, a);
    } else {
        LOG_I("ending; tasks go on");
        close_all(a);
    }
}

/* --- beginning --- */

static int load_meta(void *ctx, const char *key, const void *value, size_t len, struct error *err)
{
    struct agent *a = ctx;
    CLEANUP_FREE char *text = mem_strndup(value, len);
    if (!strcmp(key, "node_id"))
        mem_set_string(&a->node.id, text);
    else if (!strcmp(key, "index"))
        a->index = strtoull(text, NULL, 10);
    else if (!strcmp(key, "servers"))
        read_servers(&a->known_servers, text);
    else if (!strcmp(key, "cluster"))
        mem_set_string(&a->known_cluster, text);
    else if (!strcmp(key, "revoked"))
        revoked_read(&a->revoked, text);
    else if (!strcmp(key, "network_part"))
        mem_set_string(&a->known_part, text);
    return 0;
}

static int begin_node(struct agent *a, struct error *err)
{
    type_init(&node_type, &a->node);
    if (store_load(a->store, STORE_META, load_meta, a, err) < 0)
        return -1;
    if (!a->node.id)
        a->node.id = id_new();
    facts_gather(a->config, &a->node);
    a->ip = mem_strdup(a->node.ip);
    return 0;
}

static int begin_runner(struct agent *a, struct error *err)
{
    const struct agent_config *c = a->config;
    CLEANUP_FREE char *group = mem_printf("%s/%s", c->cgroup_root, c->name);
    cgroup_open(&a->cgroups, group, CGROUP_AUTO);
    if (*a->cgroups.warning)
        LOG_W("limits of tasks do not work fully here", "reason", a->cgroups.warning);
    struct driver_env *env = NEW(struct driver_env);
    *env = (struct driver_env){.loop = &a->loop, .node = c->name, .data_dir = c->data_dir, .cgroups = &a->cgroups,
                                .ip = a->ip, .volume_root = c->volume_root, .docker = &c->docker,
                                .firecracker = &c->firecracker, .changed = on_drivers_change, .ctx = a};
    a->drivers_env = env;
    if (drivers_open(env, &c->drivers, &a->drivers, err) < 0)
        return -1;
    a->secrets = secret_source_new(&a->loop, a->node.id);
    a->secret_files = secret_files_open(c->secrets_dir, a->node.id);
    a->runner = runner_new(&(struct runner_env){
        .loop = &a->loop, .store = a->store, .drivers = a->drivers, .cgroups = &a->cgroups, .secrets = a->secrets,
        .secret_files = a->secret_files,
        .data_dir = c->data_dir, .volume_root = c->volume_root, .node_name = c->name, .ip = a->ip,
        .node_meta = &c->meta, .gc_age_ms = c->gc_age_ms, .gc_max_allocs = c->gc_max_allocs,
        .gc_max_mb = c->gc_max_mb, .trouble = trouble, .admits = on_admits, .no_space = on_facts_change,
        .report = on_report, .ended = on_ended, .ctx = a,
    });
    if (runner_load(a->runner, err) < 0)
        return -1;
    store_on_change(a->store, on_store_change, a);
    store_put(a->store, STORE_META, "node_id", a->node.id, strlen(a->node.id));
    return 0;
}

static void on_old_proxy_stopped(void *ctx)
{
    struct agent *a = ctx;
    LOG_I("the proxy is gone: this node takes no requests from outside any more");
    ingress_close(steal(&a->ingress));
}

/* A node that was one may have a proxy still. */
static int begin_ingress(struct agent *a, struct error *err)
{
    const struct agent_config *c = a->config;
    CLEANUP_FREE char *directory = mem_printf("%s/ingress", c->data_dir);
    if (!c->ingress && access(directory, F_OK) < 0)
        return 0;
    int rc = ingress_open(&(struct ingress_options){
        .loop = &a->loop, .config = &c->proxy, .directory = directory, .node = c->name, .cgroups = &a->cgroups,
        .report = on_ingress_news, .needs_certificate = on_ingress_needs, .ctx = a,
    }, &a->ingress, err);
    if (rc == 0 && !c->ingress)
        ingress_stop(a->ingress, on_old_proxy_stopped, a);
    return rc;
}

static int begin_network(struct agent *a, struct error *err)
{
    const struct agent_config *c = a->config;
    struct agent_api_options options = {.tls = a->tls, .advertise = c->advertise, .runner = a->runner,
                                        .store = a->store, .ingress = &a->ingress, .drivers = a->drivers,
                                        .admits = on_admits, .volume_root = c->volume_root,
                                        .volumes_changed = on_facts_change, .ctx = a};
    if (address_parse(c->bind, (int)c->port, &options.address, err) < 0)
        return error_context(err, "bind");
    if (agent_api_open(&a->loop, &options, &a->api, err) < 0)
        return -1;
    struct address advertised;
    char text[ADDRESS_TEXT_SIZE];
    if (address_parse(c->advertise ? c->advertise : a->node.ip, agent_api_port(a->api), &advertised, err) < 0)
        return error_context(err, "advertise");
    address_format(text, &advertised);
    mem_set_string(&a->node.address, text);
    complete_facts(a, &a->node);
    uint64_t seed;
    random_system(&seed, sizeof(seed));
    a->sync = sync_new(&a->loop, &(struct sync_options){
        .node_id = a->node.id, .servers = &c->servers, .known = &a->known_servers,
        .cluster = c->new_cluster ? NULL : a->known_cluster, .tls = a->tls, .index = c->new_cluster ? 0 : a->index,
        .seed = seed, .handlers = c->ingress ? &ingress_handlers : &sync_handlers, .ctx = a,
    });
    secret_source_use(a->secrets, a->tls, a->sync);
    sync_report(a->sync);
    return 0;
}

static void on_certificate(void *ctx)
{
    struct agent *a = ctx;
    struct error err;
    if (a->ending)
        return;
    a->tls = tls_context_hold(own_certificate_context(a->certificate));
    revoked_use(a->tls, &a->revoked);
    if (begin_network(a, &err) < 0) {
        LOG_E("the agent cannot go on", "error", err.text);
        _exit(1);
    }
}

static const char *current_server(void *ctx)
{
    struct agent *a = ctx;
    return a->sync ? sync_server(a->sync) : NULL;
}

/* With certificates of the cluster it listens, and speaks to servers, once it has one; what runs goes on meanwhile. */
static int begin_tls(struct agent *a, struct error *err)
{
    const struct agent_config *c = a->config;
    if (c->tls == AGENT_TLS_AUTO)
        return own_certificate_open(&(struct own_certificate_options){.loop = &a->loop, .config = c, .ready = on_certificate,
                                 .changed = on_facts_change, .server = current_server, .ctx = a}, &a->certificate, err);
    if (c->tls == AGENT_TLS_FILES)
        a->tls = tls_context_new(&(struct tls_options){.cert_file = c->tls_cert, .key_file = c->tls_key,
                                 .ca_file = c->tls_ca, .client_cert = TLS_CLIENT_CERT_REQUIRED}, err);
    if (a->tls)
        revoked_use(a->tls, &a->revoked);
    return c->tls == AGENT_TLS_FILES && !a->tls ? -1 : begin_network(a, err);
}

static void begin_events(struct agent *a)
{
    for (size_t i = 0; i < ARRAY_LEN(end_signals); i++) {
        uv_signal_init(&a->loop, &a->signals[i]);
        a->signals[i].data = a;
        uv_signal_start(&a->signals[i], on_signal, end_signals[i]);
    }
    uv_timer_init(&a->loop, &a->facts_timer);
    a->facts_timer.data = a;
    facts_timer_set(a);
}

static int begin(struct agent *a, struct error *err)
{
    CLEANUP_FREE char *allocs = mem_printf("%s/allocs", a->config->data_dir);
    if (dir_make(allocs, 0755, err) < 0 || store_open(a->config->data_dir, &a->loop, &a->store, err) < 0)
        return -1;
    return begin_node(a, err) < 0 || begin_runner(a, err) < 0 || begin_ingress(a, err) < 0 || begin_tls(a, err) < 0 ? -1 : 0;
}

int agent_run(const struct agent_config *config, struct error *err)
{
    memory_hide();
    if (rights_keep(err))
        return -1;
    struct agent *a = NEW(struct agent);
    a->config = config;
    signal(SIGPIPE, SIG_IGN);
    open_files_raise(OPEN_FILES);
    INVARIANT(uv_loop_init(&a->loop) == 0);
    int rc = begin(a, err);
    if (!rc) {
        begin_events(a);
        LOG_I("agent started", "node", a->node.id, "name", config->name, "address", a->node.address ? a->node.address : "none yet", "version",
              MENTAT_VERSION);
    } else {
        own_certificate_close(a->certificate);
        if (a->api)
            agent_api_close(a->api);
        if (a->ingress)
            ingress_close(a->ingress);
        if (a->runner)
            runner_close(a->runner);
        if (a->secrets)
            secret_source_close(a->secrets);
        if (a->drivers)
            drivers_close(steal(&a->drivers));
    }
    uv_run(&a->loop, UV_RUN_DEFAULT);
    if (a->store)
        store_close(a->store);
    uv_run(&a->loop, UV_RUN_DEFAULT);
    INVARIANT(uv_loop_close(&a->loop) == 0);
    cgroup_close(&a->cgroups);
    if (a->secret_files)
        secret_files_close(a->secret_files, config->stop_tasks_on_exit);
    tls_context_free(a->tls);
    list_clear((struct list *)&a->revoked, &revocation_type);
    type_clear(&node_type, &a->node);
    str_list_clear(&a->known_servers);
    free(a->known_cluster);
    free(a->known_part);
    free(a->drivers_env);
    free(a->trouble);
    free(a->ip);
    free(a);
    return rc;
}
