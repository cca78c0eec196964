/* A cluster that is partly full already, then again and again one more service of A replicas, each placed and counted.
 * What is timed is placing and counting, in processor time of the one thread that does it; the nodes are known to the
 * scheduler before, as they are to a running server. The figure is that of the median round. The very first placement,
 * which also builds the index over all nodes, is told apart. */
#include "bench.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/random.h"
#include "core/sched.h"
#include "figure.h"

#define RACKS 25
#define MEASURE_S 1.0

struct options {
    int64_t nodes, allocs;
    bool spread;
};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void print(const char *name, double value, const char *unit, const struct options *o)
{
    figure_print(name, value, unit, "\"nodes\":%lld,\"allocs\":%lld,\"spread\":%s", (long long)o->nodes,
                 (long long)o->allocs, o->spread ? "true" : "false");
}

static void add_nodes(struct sched *s, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        struct node n;
        type_init(&node_type, &n);
        n.id = mem_printf("%012llx", (unsigned long long)i);
        n.name = mem_printf("node-%lld", (long long)i);
        n.arch = mem_strdup("x86_64");
        n.kernel = mem_strdup("6.8.0-45-generic");
        n.cpus = i % 4 ? 8 : 16;
        n.memory_mb = i % 4 ? 32000 : 64000;
        n.disk_mb = 500000;
        struct driver_info *d = list_add((struct list *)&n.drivers, &driver_info_type);
        d->name = mem_strdup("exec");
        d->healthy = true;
        CLEANUP_FREE char *rack = mem_printf("r%lld", (long long)(i % RACKS));
        kv_set(&n.meta, "rack", rack);
        sched_node_set(s, &n);
        type_clear(&node_type, &n);
    }
}

/* Other services' replicas, so that the nodes are between empty and four fifths full. */
static void add_load(struct sched *s, int64_t count)
{
    struct random r = {1};
    for (int64_t i = 0; i < count; i++) {
        double cpus = i % 4 ? 8 : 16;
        int64_t memory_mb = i % 4 ? 32000 : 64000;
        for (uint64_t k = random_below(&r, 9); k-- > 0;) {
            char id[64], node[32], service[32];
            snprintf(id, sizeof(id), "load-%lld-%llu", (long long)i, (unsigned long long)k);
            snprintf(node, sizeof(node), "%012llx", (unsigned long long)i);
            snprintf(service, sizeof(service), "load-%lld", (long long)random_below(&r, (uint64_t)count / 4 + 1));
            struct alloc a = {.id = id, .node_id = node, .service = service,
                              .cpus = cpus * (double)random_below(&r, 11) / 100,
                              .memory_mb = memory_mb * (int64_t)random_below(&r, 11) / 100};
            sched_alloc_add(s, &a);
        }
    }
}

static void make_spec(struct service *spec, bool spread)
{
    type_init(&service_type, spec);
    spec->name = mem_strdup("web");
    spec->driver = DRIVER_EXEC;
    spec->resources.cpus = 0.25;
    spec->resources.memory_mb = 256;
    spec->spread = spread ? mem_strdup("meta.rack") : NULL;
    struct constraint *c = list_add((struct list *)&spec->constraints, &constraint_type);
    c->attribute = mem_strdup("cpu.arch");
    c->op = OP_EQ;
    str_list_add(&c->value, "x86_64");
    struct port *p = list_add((struct list *)&spec->ports, &port_type);
    p->name = mem_strdup("http");
    p->port = 8080;
}

/* One service of `count` replicas. Fills placed (cleared by the caller), gives how many found a place. */
static int64_t place_service(struct sched *s, const struct service *spec, int64_t round, int64_t count,
                             struct alloc *placed)
{
    char service[32];
    int64_t n = 0;
    snprintf(service, sizeof(service), "web-%lld", (long long)round);
    for (int64_t i = 0; i < count; i++) {
        struct sched_request q = {.spec = spec, .service = service, .replica = i,
                                  .seed = hash_mix((uint64_t)(round << 32 | i))};
        struct sched_choice c;
        if (sched_place(s, &q, &c, NULL))
            break;
        struct alloc *a = &placed[n++];
        *a = (struct alloc){.id = mem_printf("%lld-%lld", (long long)round, (long long)i), .service = mem_strdup(service),
                            .node_id = c.node_id, .ports = c.ports, .cpus = c.cpus, .memory_mb = c.memory_mb};
        sched_alloc_add(s, a);
    }
    return n;
}

static void remove_service(struct sched *s, struct alloc *placed, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        sched_alloc_remove(s, &placed[i]);
        type_clear(&alloc_type, &placed[i]);
    }
}

static int measure(const struct options *o)
{
    struct sched *s = sched_new();
    struct service spec;
    struct alloc *placed = mem_array((size_t)o->allocs, sizeof(*placed));
    add_nodes(s, o->nodes);
    add_load(s, o->nodes);
    make_spec(&spec, o->spread);
    double first = now_s();
    int64_t n = place_service(s, &spec, 0, 1, placed), done = 0, wanted = 0;
    print("first_placement_ms", (now_s() - first) * 1e3, "ms", o);
    remove_service(s, placed, n);
    double spent = 0, *rounds = NULL;
    size_t n_rounds = 0;
    for (; spent < MEASURE_S; n_rounds++) {
        double begin = now_s();
        n = place_service(s, &spec, (int64_t)n_rounds + 1, o->allocs, placed);
        rounds = mem_realloc_array(rounds, n_rounds + 1, sizeof(*rounds));
        spent += rounds[n_rounds] = now_s() - begin;
        done += n;
        wanted += o->allocs;
        remove_service(s, placed, n);
    }
    int status = done == wanted ? 0 : 1;
    if (status)
        fprintf(stderr, "mentat-bench: %lld nodes have no room for %lld replicas: give more --nodes or fewer --allocs\n",
                (long long)o->nodes, (long long)o->allocs);
    else
        print("placements_per_second", (double)o->allocs / figure_percentile(rounds, n_rounds, 0.5), "1/s", o);
    free(rounds);
    type_clear(&service_type, &spec);
    free(placed);
    sched_free(s);
    return status;
}

static int run(int argc, char **argv)
{
    static const struct option known[] = {
        {"nodes", required_argument, NULL, 'n'}, {"allocs", required_argument, NULL, 'a'},
        {"spread", no_argument, NULL, 's'}, {0},
    };
    struct options o = {.nodes = 5000, .allocs = 300};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;)
        if (c == 's')
            o.spread = true;
        else if ((c != 'n' && c != 'a') || bench_count(optarg, 1000000, c == 'n' ? &o.nodes : &o.allocs))
            return 2;
    return optind < argc ? 2 : measure(&o);
}

const struct bench bench_scheduler = {
    .name = "scheduler",
    .usage = "[--nodes N] [--allocs A] [--spread]",
    .help = "placements per second in a cluster of N nodes, A replicas a service, in process",
    .run = run,
};
