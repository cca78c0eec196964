/* Many agents at once: the agent's own conversation with the servers (agent/sync.h), a thousand times in one process. Each
 * round a service that runs everywhere is submitted, and the time taken until every agent was told its part: with all
 * servers, then with the leader killed in the moment before. */
#include "bench.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "agent/sync.h"
#include "base/log.h"
#include "base/open_files.h"
#include "cluster.h"
#include "figure.h"

#define SERVERS 3
#define WAIT_MS 60000
#define HEARTBEAT_MS 1000
#define GRACE_MS 5000            /* silent for so long, a node counts as lost */
#define SERVER_CONFIG "heartbeat: 1s\nnode_grace: 5s\nlog_level: error\n"

struct options {
    int64_t count;
    bool tls;
    const char *dir;
};

struct agents_bench;
struct virtual_agent {
    struct agents_bench *bench;
    struct sync *sync;
    struct tls_context *tls;     /* NULL: plain */
    size_t number;
    bool told;                   /* what this round brings it */
};

struct agents_bench {
    const struct options *options;
    struct cluster cluster;
    struct virtual_agent *agents;
    size_t told;
    char service[16];            /* of this round */
};

/* --- one agent --- */

static void on_hello(void *ctx, struct agent_hello *hello)
{
    const struct virtual_agent *a = ctx;
    struct node *n = &hello->node;
    n->name = mem_printf("n%zu", a->number);
    n->address = mem_strdup("127.0.0.1:1");
    n->ip = mem_strdup("127.0.0.1");
    n->version = mem_strdup(MENTAT_VERSION);
    n->arch = mem_strdup("x86_64");
    n->kernel = mem_strdup("6.1.0");
    n->cpus = 8;
    n->memory_mb = n->disk_mb = 32768;
    struct driver_info *exec = list_add((struct list *)(void *)&n->drivers, &driver_info_type);
    exec->name = mem_strdup("exec");
    exec->healthy = true;
}

static void on_work(void *ctx, struct agent_work *work)
{
    struct virtual_agent *a = ctx;
    for (uint32_t i = 0; i < work->allocs.n && !a->told; i++)
        if (!strcmp(work->allocs.v[i].service, a->bench->service)) {
            a->told = true;
            a->bench->told++;
        }
}

static void on_collect(void *ctx, struct agent_report *report, uint32_t limit)
{
}

static void on_acknowledged(void *ctx, const struct agent_report *report)
{
}

static const struct sync_handlers handlers = {
    .hello = on_hello, .work = on_work, .collect = on_collect, .acknowledged = on_acknowledged,
};

static int equip(struct agents_bench *b, struct virtual_agent *a, struct error *err)
{
    char name[32], identity[48];
    snprintf(name, sizeof name, "agent-%zu", a->number);
    snprintf(identity, sizeof identity, "n%zu.agent.mentat", a->number);
    if (signer_issue(&b->cluster.signer, name, identity, err))
        return -1;
    a->tls = cluster_context(&b->cluster, name, err);
    return a->tls ? 0 : -1;
}

static int agents_make(struct agents_bench *b, struct error *err)
{
    for (size_t i = 0; i < (size_t)b->options->count; i++) {
        b->agents[i] = (struct virtual_agent){.bench = b, .number = i};
        if (b->options->tls && equip(b, &b->agents[i], err))
            return -1;
    }
    return 0;
}

static void agents_start(struct agents_bench *b)
{
    struct str_list servers = {.v = b->cluster.targets, .n = SERVERS};
    for (size_t i = 0; i < (size_t)b->options->count; i++) {
        struct virtual_agent *a = &b->agents[i];
        char id[24];
        snprintf(id, sizeof id, "%012zx", i);
        a->sync = sync_new(&b->cluster.loop, &(struct sync_options){
            .node_id = id, .servers = &servers, .tls = a->tls, .seed = i + 1, .handlers = &handlers, .ctx = a});
    }
}

static void agents_stop(struct agents_bench *b)
{
    for (size_t i = 0; i < (size_t)b->options->count; i++) {
        if (b->agents[i].sync)
            sync_close(b->agents[i].sync);
        tls_context_free(b->agents[i].tls);
    }
}

/* --- rounds --- */

static bool all_registered(void *arg)
{
    struct agents_bench *b = arg;
    for (size_t i = 0; i < (size_t)b->options->count; i++)
        if (!sync_registered(b->agents[i].sync))
            return false;
    return true;
}

static bool all_told(void *arg)
{
    struct agents_bench *b = arg;
    return b->told == (size_t)b->options->count;
}

static void print(const struct agents_bench *b, const char *name, double value, const char *unit)
{
    figure_print(name, value, unit, "\"agents\":%lld,\"servers\":%d,\"tls\":%s", (long long)b->options->count, SERVERS,
                 b->options->tls ? "true" : "false");
}

/* Submits a service for every node, and waits until each agent knows of it. */
static int tell_all(struct agents_bench *b, const char *service, struct error *err)
{
    snprintf(b->service, sizeof b->service, "%s", service);
    b->told = 0;
    for (size_t i = 0; i < (size_t)b->options->count; i++)
        b->agents[i].told = false;
    CLEANUP_FREE char *body = mem_printf(
        "{\"name\":\"%s\",\"services\":[{\"name\":\"%s\",\"driver\":\"exec\",\"mode\":\"every-node\",\"config\":{\"command\":"
        "[\"/usr/bin/program\"]},\"resources\":{\"cpus\":0.1,\"memory_mb\":16}}]}", service, service);
    if (cluster_write(&b->cluster, HTTP_METHOD_POST, "/v1/jobs", body, err))
        return -1;
    return cluster_wait(&b->cluster, all_told, b, WAIT_MS, err);
}

static int measure_round(struct agents_bench *b, const char *service, const char *name, struct error *err)
{
    uint64_t start = uv_hrtime();
    if (tell_all(b, service, err))
        return error_context(err, "%zu of %lld agents were told of %s", b->told, (long long)b->options->count, service);
    print(b, name, (double)(uv_hrtime() - start) / 1e6, "ms");
    return 0;
}

/* Nodes that a leader took for lost: agents whose heartbeats did not come for so long. */
static int count_lost(struct agents_bench *b, struct error *err)
{
    json_t *answer = NULL, *node;
    size_t i, lost = 0;
    if (cluster_sleep(&b->cluster, GRACE_MS + 2 * HEARTBEAT_MS, err) ||
        cluster_call(&b->cluster, HTTP_METHOD_GET, "/v1/nodes?limit=100000", NULL, &answer, err))
        return -1;
    json_array_foreach(json_object_get(answer, "items"), i, node) {
        const char *state = json_string_value(json_object_get(node, "state"));
        lost += !state || strcmp(state, "ready") || json_integer_value(json_object_get(node, "modify_index")) >
                                                       json_integer_value(json_object_get(node, "create_index"));
    }
    if (i != (size_t)b->options->count)
        error_set(err, ERROR_INTERNAL, "%zu nodes are known", i);
    json_decref(answer);
    if (i != (size_t)b->options->count)
        return -1;
    print(b, "agents_lost", (double)lost, "nodes");
    return 0;
}

static int measure(struct agents_bench *b, struct error *err)
{
    if (agents_make(b, err))
        return -1;
    uint64_t start = uv_hrtime();
    agents_start(b);
    if (cluster_wait(&b->cluster, all_registered, b, WAIT_MS, err))
        return error_context(err, "the agents' registration");
    print(b, "agents_register_ms", (double)(uv_hrtime() - start) / 1e6, "ms");
    if (measure_round(b, "first", "agents_told_ms", err))
        return -1;
    cluster_kill_server(&b->cluster, cluster_leader(&b->cluster));
    if (measure_round(b, "second", "agents_told_after_leader_kill_ms", err))
        return -1;
    return count_lost(b, err);
}

static int parse(int argc, char **argv, struct options *o)
{
    static const struct option names[] = {{"count", required_argument, NULL, 'n'}, {"dir", required_argument, NULL, 'd'},
                                          {"tls", no_argument, NULL, 't'}, {0}};
    int c;
    *o = (struct options){.count = 1000};
    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1)
        if (c == 'd')
            o->dir = optarg;
        else if (c == 't')
            o->tls = true;
        else if (c != 'n' || bench_count(optarg, 100000, &o->count))
            return -1;
    return optind < argc ? -1 : 0;
}

static int run(int argc, char **argv)
{
    struct options options;
    struct error err = {0};
    if (parse(argc, argv, &options))
        return 2;
    struct agents_bench b = {.options = &options};
    log_init("bench", LOG_ERROR);            /* a thousand agents say that their server is gone */
    b.agents = mem_alloc((size_t)options.count * sizeof *b.agents);
    open_files_raise((size_t)options.count * 8);
    int rc = cluster_start(&b.cluster, &(struct cluster_options){.parent = options.dir, .server_config = SERVER_CONFIG,
                                                                .servers = SERVERS, .tls = options.tls}, &err);
    if (!rc)
        rc = measure(&b, &err);
    agents_stop(&b);
    cluster_stop(&b.cluster);
    free(b.agents);
    if (rc)
        fprintf(stderr, "mentat-bench: agents: %s\n", err.text);
    return rc ? 1 : 0;
}

const struct bench bench_agents = {
    .name = "agents",
    .usage = "[--count AGENTS] [--tls] [--dir DIR]",
    .help = "how fast many agents learn of news, before and after the leader is killed, and how many are taken for lost",
    .run = run,
};
