#include "../cmocka_all.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "core/sched.h"
#include "core/sched_constraint.h"
#include "reference.h"

/* --- a small world --- */

static struct node make_node(const char *id, double cpus, int64_t memory_mb)
{
    struct node n;
    type_init(&node_type, &n);
    n.id = mem_strdup(id);
    n.name = mem_printf("name-%s", id);
    n.arch = mem_strdup("x86_64");
    n.kernel = mem_strdup("6.1.0-18-amd64");
    n.kvm = true;
    n.cpus = cpus;
    n.memory_mb = memory_mb;
    n.disk_mb = 100000;
    struct driver_info *d = list_add((struct list *)&n.drivers, &driver_info_type);
    d->name = mem_strdup("exec");
    d->healthy = true;
    d->version = mem_strdup("1.7.0");
    return n;
}

static void add_node(struct sched *s, const char *id, double cpus, int64_t memory_mb, const char *zone)
{
    struct node n = make_node(id, cpus, memory_mb);
    if (zone)
        kv_set(&n.meta, "zone", zone);
    sched_node_set(s, &n);
    type_clear(&node_type, &n);
}

static struct service make_spec(double cpus, int64_t memory_mb)
{
    struct service spec;
    type_init(&service_type, &spec);
    spec.name = mem_strdup("web");
    spec.driver = DRIVER_EXEC;
    spec.resources.cpus = cpus;
    spec.resources.memory_mb = memory_mb;
    return spec;
}

static void add_constraint(struct service *spec, const char *attribute, enum constraint_op op, const char *value)
{
    struct constraint *c = list_add((struct list *)&spec->constraints, &constraint_type);
    c->attribute = mem_strdup(attribute);
    c->op = op;
    if (value)
        str_list_add(&c->value, value);
}

static void add_port(struct service *spec, const char *name, int64_t host, enum protocol protocol)
{
    struct port *p = list_add((struct list *)&spec->ports, &port_type);
    p->name = mem_strdup(name);
    p->port = 80;
    p->host = host;
    p->protocol = protocol;
}

static struct alloc alloc_of(const char *id, const char *service, const struct sched_choice *c)
{
    return (struct alloc){.id = (char *)id, .service = (char *)service, .node_id = c->node_id, .ports = c->ports,
                          .cpus = c->cpus, .memory_mb = c->memory_mb, .disk_mb = c->disk_mb};
}

/* Places and counts it; gives the node's id, "" when there is none. */
static const char *place(struct sched *s, const struct service *spec, const char *alloc_id)
{
    static char node[64];
    struct sched_request q = {.spec = spec, .service = spec->name, .seed = hash_string(alloc_id, 1)};
    struct sched_choice c;
    node[0] = '\0';
    if (sched_place(s, &q, &c, NULL) == 0) {
        snprintf(node, sizeof(node), "%s", c.node_id);
        struct alloc a = alloc_of(alloc_id, spec->name, &c);
        sched_alloc_add(s, &a);
    }
    sched_choice_clear(&c);
    return node;
}

static void assert_reasons(struct sched *s, const struct sched_request *q, const char *expected)
{
    struct sched_choice c;
    struct sched_reason_list why;
    CLEANUP_BUF struct buf text = {0};
    assert_int_equal(sched_place(s, q, &c, &why), -1);
    for (uint32_t i = 0; i < why.n; i++)
        buf_printf(&text, "%s%s (%lld, %s)", i ? "; " : "", why.v[i].text, (long long)why.v[i].nodes, why.v[i].example);
    assert_string_equal(text.data ? text.data : "", expected);
    sched_reason_list_clear(&why);
}

/* --- single behaviours --- */

static void the_fuller_node_is_preferred(void **state)
{
    struct sched *s = sched_new();
    add_node(s, "a", 8, 8192, NULL);
    add_node(s, "b", 8, 8192, NULL);
    add_node(s, "c", 8, 8192, NULL);
    struct service other = make_spec(4, 4096), spec = make_spec(1, 512);
    mem_set_string(&other.name, "other");
    char full[64];
    snprintf(full, sizeof(full), "%s", place(s, &other, "1"));
    assert_string_equal(place(s, &spec, "2"), full);
    type_clear(&service_type, &other);
    type_clear(&service_type, &spec);
    sched_free(s);
}

static void replicas_leave_each_other_alone_on_empty_nodes(void **state)
{
    struct sched *s = sched_new();
    add_node(s, "a", 8, 8192, NULL);
    add_node(s, "b", 8, 8192, NULL);
    struct service spec = make_spec(0.1, 64);
    char first[64];
    snprintf(first, sizeof(first), "%s", place(s, &spec, "1"));
    assert_string_not_equal(place(s, &spec, "2"), first);
    type_clear(&service_type, &spec);
    sched_free(s);
}

static void spread_shares_evenly_over_the_attribute(void **state)
{
    struct sched *s = sched_new();
    for (int i = 0; i < 12; i++) {
        char id[8];
        snprintf(id, sizeof(id), "n%d", i);
        add_node(s, id, 8, 8192, i < 6 ? "a" : i < 10 ? "b" : "c");
    }
    struct service spec = make_spec(0.1, 64);
    mem_set_string(&spec.spread, "meta.zone");
    int zones[3] = {0};
    for (int i = 0; i < 30; i++) {
        char id[8];
        snprintf(id, sizeof(id), "r%d", i);
        int n = atoi(place(s, &spec, id) + 1);
        zones[n < 6 ? 0 : n < 10 ? 1 : 2]++;
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(zones[i], 10);
    type_clear(&service_type, &spec);
    sched_free(s);
}

static void distinct_allows_one_replica_for_each_value(void **state)
{
    struct sched *s = sched_new();
    add_node(s, "a", 8, 8192, "x");
    add_node(s, "b", 8, 8192, "x");
    add_node(s, "c", 8, 8192, "y");
    add_node(s, "d", 8, 8192, NULL);
    struct service spec = make_spec(0.1, 64);
    add_constraint(&spec, "meta.zone", OP_DISTINCT, NULL);
    assert_string_not_equal(place(s, &spec, "1"), "");
    assert_string_not_equal(place(s, &spec, "2"), "");
    assert_string_equal(place(s, &spec, "3"), "");
    struct sched_request q = {.spec = &spec, .service = "web"};
    assert_reasons(s, &q, "another replica has the same meta.zone already (distinct) (3, name-a); "
                          "constraint not met: meta.zone distinct (1, name-d)");
    type_clear(&service_type, &spec);
    sched_free(s);
}

static void every_node_is_counted_under_its_first_reason_with_numbers(void **state)
{
    struct sched *s = sched_new();
    add_node(s, "a", 8, 300, NULL);
    add_node(s, "b", 8, 200, NULL);
    add_node(s, "c", 0.5, 300, NULL);
    struct node down = make_node("d", 8, 8192);
    down.state = NODE_DOWN;
    sched_node_set(s, &down);
    struct service spec = make_spec(1, 512);
    struct sched_request q = {.spec = &spec, .service = "web"};
    assert_reasons(s, &q, "not enough memory: needs 512 MiB, most free is 300 MiB (2, name-a); "
                          "the node is down (1, name-d); not enough cpu: needs 1 cores, most free is 0.5 (1, name-c)");
    q.only_node = "b";
    assert_reasons(s, &q, "not enough memory: needs 512 MiB, most free is 200 MiB (1, name-b)");
    q.only_node = "nowhere";
    assert_reasons(s, &q, "the node is not known (1, nowhere)");
    q.only_node = NULL;
    down.state = NODE_READY;
    sched_node_set(s, &down);
    struct sched_choice c;
    assert_int_equal(sched_place(s, &q, &c, NULL), 0);
    assert_string_equal(c.node_id, "d");
    sched_choice_clear(&c);
    type_clear(&node_type, &down);
    type_clear(&service_type, &spec);
    sched_free(s);
}

static void drivers_must_be_there_and_healthy(void **state)
{
    struct sched *s = sched_new();
    add_node(s, "a", 8, 8192, NULL);
    struct node sick = make_node("b", 8, 8192);
    mem_set_string(&sick.drivers.v[0].name, "docker");
    sick.drivers.v[0].healthy = false;
    mem_set_string(&sick.drivers.v[0].detail, "nobody answers");
    sched_node_set(s, &sick);
    struct service spec = make_spec(1, 512);
    spec.driver = DRIVER_DOCKER;
    struct sched_request q = {.spec = &spec, .service = "web"};
    assert_reasons(s, &q, "driver docker is not there (1, name-a); "
                   "driver docker is not healthy: nobody answers (1, name-b)");
    type_clear(&node_type, &sick);
    type_clear(&service_type, &spec);
    sched_free(s);
}

static void the_previous_node_is_preferred_and_the_failed_one_is_last(void **state)
{
    struct sched *s = sched_new();
    add_node(s, "a", 8, 8192, NULL);
    add_node(s, "b", 8, 8192, NULL);
    struct service spec = make_spec(1, 512);
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct sched_request q = {.spec = &spec, .service = "web", .seed = hash_mix(seed), .prefer_node = "b"};
        struct sched_choice c;
        assert_int_equal(sched_place(s, &q, &c, NULL), 0);
        assert_string_equal(c.node_id, "b");
        sched_choice_clear(&c);
        q.prefer_node = NULL;
        q.avoid_node = "b";
        assert_int_equal(sched_place(s, &q, &c, NULL), 0);
        assert_string_equal(c.node_id, "a");
        sched_choice_clear(&c);
    }
    struct sched_request q = {.spec = &spec, .service = "web", .avoid_node = "b", .only_node = "b"};
    struct sched_choice c;
    assert_int_equal(sched_place(s, &q, &c, NULL), 0);
    assert_string_equal(c.node_id, "b");
    sched_choice_clear(&c);
    type_clear(&service_type, &spec);
    sched_free(s);
}

static void static_ports_are_taken_once_and_dynamic_ones_are_free(void **state)
{
    struct sched *s = sched_new();
    add_node(s, "a", 8, 8192, NULL);
    struct service spec = make_spec(0.1, 64);
    add_port(&spec, "http", 8080, PROTOCOL_TCP);
    add_port(&spec, "one", 0, PROTOCOL_TCP);
    add_port(&spec, "two", 0, PROTOCOL_TCP);
    struct sched_request q = {.spec = &spec, .service = "web", .seed = 5};
    struct sched_choice c;
    assert_int_equal(sched_place(s, &q, &c, NULL), 0);
    assert_int_equal(c.ports.n, 3);
    assert_int_equal(c.ports.v[0].host, 8080);
    assert_string_equal(c.ports.v[1].name, "one");
    for (int i = 1; i < 3; i++)
        assert_in_range(c.ports.v[i].host, 20000, 32000);
    assert_int_not_equal(c.ports.v[1].host, c.ports.v[2].host);
    struct alloc a = alloc_of("1", "web", &c);
    sched_alloc_add(s, &a);
    assert_reasons(s, &q, "host port 8080/tcp is taken (1, name-a)");
    struct sched_request replace = q;
    struct sched_choice again;
    replace.ignore_alloc = "1";
    assert_int_equal(sched_place(s, &replace, &again, NULL), 0);
    /* The seed would choose the same ones: they are avoided while others are free. */
    assert_int_not_equal(again.ports.v[1].host, c.ports.v[1].host);
    sched_choice_clear(&again);
    sched_alloc_remove(s, &a);
    assert_int_equal(sched_place(s, &q, &again, NULL), 0);
    assert_int_not_equal(again.ports.v[1].host, c.ports.v[1].host);
    sched_choice_clear(&again);
    sched_choice_clear(&c);
    spec.ports.v[0].protocol = PROTOCOL_UDP;
    type_clear(&service_type, &spec);
    sched_free(s);
}

static void a_node_runs_out_of_dynamic_ports(void **state)
{
    struct sched *s = sched_new();
    add_node(s, "a", 1000, 8192, NULL);
    struct service spec = make_spec(0.01, 1);
    for (int i = 0; i < 100; i++)
        add_port(&spec, "p", 0, PROTOCOL_TCP);
    for (int i = 0; i < 120; i++) {
        char id[8];
        snprintf(id, sizeof(id), "%d", i);
        assert_string_equal(place(s, &spec, id), "a");
    }
    struct sched_request q = {.spec = &spec, .service = "web"};
    assert_reasons(s, &q, "not enough free ports in 20000-32000 (1, name-a)");
    for (uint32_t i = 0; i < spec.ports.n; i++)
        spec.ports.v[i].protocol = PROTOCOL_UDP;
    assert_string_equal(place(s, &spec, "udp"), "a");
    type_clear(&service_type, &spec);
    sched_free(s);
}

static void explaining_says_the_score_and_its_parts_or_why_not(void **state)
{
    struct sched *s = sched_new();
    add_node(s, "a", 8, 8192, "x");
    struct service spec = make_spec(0.1, 64);
    struct affinity *f = list_add((struct list *)&spec.affinities, &affinity_type);
    f->attribute = mem_strdup("meta.zone");
    str_list_add(&f->value, "x");
    f->op = OP_EQ;
    f->weight = 50;
    struct sched_request q = {.spec = &spec, .service = "web", .prefer_node = "a"};
    CLEANUP_BUF struct buf text = {0};
    bool fits;
    sched_explain_node(s, &q, "a", &fits, &text);
    assert_true(fits);
    assert_string_equal(text.data, "score 5.50: bin packing 0.00, affinity 1.00, was here before 4.50");
    spec.resources.memory_mb = 9000;
    buf_clear(&text);
    sched_explain_node(s, &q, "a", &fits, &text);
    assert_false(fits);
    assert_string_equal(text.data, "not enough memory: needs 9000 MiB, most free is 8192 MiB");
    type_clear(&service_type, &spec);
    sched_free(s);
}

static void microvms_ask_for_their_vcpus_and_memory(void **state)
{
    struct service spec = make_spec(0.1, 64);
    double cpus;
    int64_t memory_mb, disk_mb;
    spec.config.vcpus = 2;
    spec.config.memory_mb = 256;
    sched_demand(&spec, &cpus, &memory_mb, &disk_mb);
    assert_true(fabs(cpus - 0.1) < 1e-9);
    assert_int_equal(memory_mb, 64);
    spec.driver = DRIVER_FIRECRACKER;
    sched_demand(&spec, &cpus, &memory_mb, &disk_mb);
    assert_true(fabs(cpus - 2) < 1e-9);
    assert_int_equal(memory_mb, 256);
    type_clear(&service_type, &spec);
}

static void constraints_compare_numbers_versions_and_texts(void **state)
{
    struct node n = make_node("a", 8, 16384);
    kv_set(&n.meta, "rack", "r-12");
    kv_set(&n.meta, "weight", "1.50");
    const struct { const char *attribute; enum constraint_op op; const char *value; bool expected; } cases[] = {
        {"cpu.cores", OP_GE, "8", true},           {"cpu.cores", OP_GT, "8.0", false},
        {"memory.mb", OP_GT, "9000", true},        {"kernel.version", OP_GE, "6.1", true},
        {"kernel.version", OP_LT, "6.10", true},   {"kernel.version", OP_EQ, "6.1", true},
        {"kernel.version", OP_GT, "6.1.0-9-amd64", true},
        {"driver.exec.version", OP_GE, "v1.7", true}, {"driver.exec", OP_EQ, "true", true},
        {"driver.exec", OP_EXISTS, NULL, true},    {"driver.docker", OP_EXISTS, NULL, false},
        {"driver.docker.version", OP_LT, "99", false}, {"kvm", OP_EQ, "true", true},
        {"meta.rack", OP_MATCHES, "^r-1[0-9]$", true}, {"meta.rack", OP_MATCHES, "^r-2", false},
        {"meta.rack", OP_EXISTS, NULL, true},      {"meta.none", OP_EXISTS, NULL, false},
        {"meta.none", OP_NE, "x", true},           {"meta.none", OP_EQ, "", false},
        {"meta.weight", OP_EQ, "1.5", true},       {"meta.rack", OP_IN, "r-12", true},
        {"node.name", OP_EQ, "name-a", true},      {"cpu.arch", OP_NE, "aarch64", true},
        {"meta.rack", OP_MATCHES, "(a)\\1", false}, {"unheard.of", OP_EQ, "x", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct str_list value = {0};
        if (cases[i].value)
            str_list_add(&value, cases[i].value);
        struct matcher m;
        matcher_init(&m, cases[i].attribute, cases[i].op, &value);
        if (matcher_matches(&m, &n) != cases[i].expected)
            fail_msg("%s %s %s", cases[i].attribute, constraint_op_names[cases[i].op], cases[i].value);
        matcher_clear(&m);
        str_list_clear(&value);
    }
    assert_true(version_compare("1.10.0", "1.9") > 0);
    assert_true(version_compare("1.2", "1.2.0") == 0);
    assert_true(version_compare("5.15.0-100", "5.15.0-99") > 0);
    type_clear(&node_type, &n);
}

/* --- against the reference --- */

#define MANY_NODES 40
#define SERVICES 6

struct world {
    struct sched *s;
    struct reference r;
    struct random random;
    struct service specs[SERVICES];
    int ids;
};

static int64_t below(struct world *w, uint64_t n) { return (int64_t)random_below(&w->random, n); }

static void change_node(struct world *w)
{
    char id[8];
    snprintf(id, sizeof(id), "n%d", (int)below(w, MANY_NODES));
    const struct node *old = reference_node(&w->r, id);
    bool holds = false;
    for (uint32_t i = 0; i < w->r.allocs.n; i++)
        holds |= strcmp(w->r.allocs.v[i].node_id, id) == 0;
    if (old && !holds && below(w, 4) == 0) {
        sched_node_remove(w->s, id);
        reference_node_remove(&w->r, id);
        return;
    }
    struct node n = make_node(id, 1 << below(w, 4), 1024 << below(w, 4));
    const char *const zones[] = {"x", "y", "z"};
    if (below(w, 5))
        kv_set(&n.meta, "zone", zones[below(w, 3)]);
    n.disk_mb = 1000 * below(w, 5);
    if (below(w, 6) == 0)
        n.state = (enum node_state)below(w, 4);
    n.drivers.v[0].healthy = below(w, 12) != 0;
    if (below(w, 12) == 0)
        mem_set_string(&n.drivers.v[0].name, "docker");
    sched_node_set(w->s, &n);
    reference_node_set(&w->r, &n);
    type_clear(&node_type, &n);
}

static void make_random_spec(struct world *w, int k)
{
    struct service *spec = &w->specs[k];
    type_clear(&service_type, spec);
    *spec = make_spec((double)below(w, 8) / 4, 64 * below(w, 16));
    free(spec->name);
    spec->name = mem_printf("s%d", k);
    spec->resources.disk_mb = below(w, 3) ? 0 : 500;
    const char *const attributes[] = {"meta.zone", "node.name", "memory.mb", "cpu.cores"};
    if (below(w, 3) == 0)
        spec->spread = mem_strdup(below(w, 2) ? "node" : attributes[below(w, 4)]);
    if (below(w, 4) == 0)
        add_constraint(spec, attributes[below(w, 4)], OP_DISTINCT, NULL);
    if (below(w, 4) == 0)
        add_constraint(spec, "memory.mb", OP_GE, "2048");
    if (below(w, 4) == 0)
        add_constraint(spec, "node.name", OP_NE, "name-n3");
    for (int64_t i = below(w, 3); i-- > 0;) {
        struct affinity *a = list_add((struct list *)&spec->affinities, &affinity_type);
        a->attribute = mem_strdup(i ? "meta.zone" : "cpu.cores");
        a->op = i ? OP_EQ : OP_GT;
        str_list_add(&a->value, i ? "x" : "2");
        a->weight = below(w, 201) - 100;
    }
    if (below(w, 3) == 0)
        add_port(spec, "static", 8000 + below(w, 2), below(w, 2) ? PROTOCOL_TCP : PROTOCOL_UDP);
    for (int64_t i = below(w, 3); i-- > 0;)
        add_port(spec, "dynamic", 0, PROTOCOL_TCP);
}

static const char *random_node(struct world *w, uint64_t chance)
{
    if (below(w, chance) || !w->r.nodes.n)
        return NULL;
    return w->r.nodes.v[below(w, w->r.nodes.n)].id;
}

static void compare_reasons(struct world *w, const struct sched_reason_list *why, const int64_t *rejected, bool only)
{
    static const struct { int reason; const char *text; } texts[] = {
        {REFERENCE_STATE, "the node is "}, {REFERENCE_DRIVER, "driver "}, {REFERENCE_CONSTRAINT, "constraint "},
        {REFERENCE_PORT, "host port "}, {REFERENCE_DISTINCT, "another replica "}, {REFERENCE_CPU, "not enough cpu"},
        {REFERENCE_MEMORY, "not enough memory"}, {REFERENCE_DISK, "not enough disk"},
        {REFERENCE_DYNAMIC, "not enough free ports"},
    };
    int64_t all = 0;
    for (size_t t = 0; t < ARRAY_LEN(texts); t++) {
        int64_t counted = 0;
        for (uint32_t i = 0; i < why->n; i++)
            if (strncmp(why->v[i].text, texts[t].text, strlen(texts[t].text)) == 0)
                counted += why->v[i].nodes;
        assert_int_equal(counted, rejected[texts[t].reason]);
        all += counted;
    }
    assert_int_equal(all, only ? 1 : w->r.nodes.n);
}

static void place_both(struct world *w)
{
    const struct service *spec = &w->specs[below(w, SERVICES)];
    struct sched_request q = {.spec = spec, .service = spec->name, .seed = random_next(&w->random),
                              .prefer_node = random_node(w, 6), .avoid_node = random_node(w, 6),
                              .only_node = random_node(w, 12)};
    if (w->r.allocs.n && below(w, 4) == 0)
        q.ignore_alloc = w->r.allocs.v[below(w, w->r.allocs.n)].id;
    if (q.prefer_node && q.avoid_node && strcmp(q.prefer_node, q.avoid_node) == 0)
        q.prefer_node = NULL;
    struct sched_choice c;
    struct sched_reason_list why;
    int64_t rejected[REFERENCE_REASONS];
    double score;
    const struct node *expected = reference_place(&w->r, &q, &score, rejected);
    int got = sched_place(w->s, &q, &c, &why);
    assert_int_equal(got, expected ? 0 : -1);
    if (!expected) {
        compare_reasons(w, &why, rejected, q.only_node);
        sched_reason_list_clear(&why);
        return;
    }
    assert_string_equal(c.node_id, expected->id);
    assert_true(fabs(c.score - score) < 1e-6);
    if (!q.ignore_alloc) {
        char id[16];
        snprintf(id, sizeof(id), "a%d", w->ids++);
        struct alloc a = alloc_of(id, spec->name, &c);
        sched_alloc_add(w->s, &a);
        reference_alloc_add(&w->r, &a);
    }
    sched_choice_clear(&c);
}

static void remove_some(struct world *w)
{
    if (!w->r.allocs.n)
        return;
    const struct alloc *a = &w->r.allocs.v[below(w, w->r.allocs.n)];
    CLEANUP_FREE char *id = mem_strdup(a->id);
    sched_alloc_remove(w->s, a);
    reference_alloc_remove(&w->r, id);
}

static void run_world(uint64_t seed, int steps)
{
    struct world w = {.s = sched_new(), .random = {seed}};
    for (int k = 0; k < SERVICES; k++)
        make_random_spec(&w, k);
    for (int i = 0; i < MANY_NODES; i++)
        change_node(&w);
    for (int i = 0; i < steps; i++) {
        int64_t what = below(&w, 20);
        if (what < 13)
            place_both(&w);
        else if (what < 17)
            remove_some(&w);
        else if (what < 19)
            change_node(&w);
        else
            make_random_spec(&w, (int)below(&w, SERVICES));
    }
    for (int k = 0; k < SERVICES; k++)
        type_clear(&service_type, &w.specs[k]);
    reference_clear(&w.r);
    sched_free(w.s);
}

/* MENTAT_SEED=N plays one seed alone. */
static void choices_are_those_of_a_full_scan(void **state)
{
    const char *one = getenv("MENTAT_SEED");
    uint64_t from = one ? strtoull(one, NULL, 10) : 0, to = one ? from + 1 : 400;
    for (uint64_t seed = from; seed < to; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        run_world(seed, 300);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fuller_node_is_preferred),
        cmocka_unit_test(replicas_leave_each_other_alone_on_empty_nodes),
        cmocka_unit_test(spread_shares_evenly_over_the_attribute),
        cmocka_unit_test(distinct_allows_one_replica_for_each_value),
        cmocka_unit_test(every_node_is_counted_under_its_first_reason_with_numbers),
        cmocka_unit_test(drivers_must_be_there_and_healthy),
        cmocka_unit_test(the_previous_node_is_preferred_and_the_failed_one_is_last),
        cmocka_unit_test(static_ports_are_taken_once_and_dynamic_ones_are_free),
        cmocka_unit_test(a_node_runs_out_of_dynamic_ports),
        cmocka_unit_test(explaining_says_the_score_and_its_parts_or_why_not),
        cmocka_unit_test(microvms_ask_for_their_vcpus_and_memory),
        cmocka_unit_test(constraints_compare_numbers_versions_and_texts),
        cmocka_unit_test(choices_are_those_of_a_full_scan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
