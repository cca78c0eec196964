/* What users and hardware do, at random. */
#include <stdio.h>
#include <string.h>

#include "model/namespace.h"
#include "world.h"

static void init_ports(struct world *w, struct service *s)
{
    struct port *p = list_add_zero((struct list *)&s->ports, &port_type);
    p->name = mem_strdup("http");
    p->port = 8080;
    if (chance(w, 25))
        p->host = 8000 + (int64_t)random_below(&w->r, 3);
}

static void init_condition(struct world *w, struct service *s)
{
    static const char *const zones[] = {"a", "b", "c"};
    struct constraint *c = list_add((struct list *)&s->constraints, &constraint_type);
    c->attribute = mem_strdup("meta.zone");
    c->op = chance(w, 40) ? OP_DISTINCT : chance(w, 50) ? OP_EQ : OP_NE;
    if (c->op == OP_DISTINCT && chance(w, 50))
        mem_set_string(&c->attribute, "node.name");
    if (c->op != OP_DISTINCT)
        str_list_add(&c->value, zones[random_below(&w->r, 3)]);
}

static void init_placing(struct world *w, struct service *s)
{
    if (chance(w, 30))
        s->spread = mem_strdup(chance(w, 50) ? "node" : "meta.zone");
    if (chance(w, 20))
        init_condition(w, s);
    if (chance(w, 15)) {
        struct affinity *a = list_add((struct list *)&s->affinities, &affinity_type);
        a->attribute = mem_strdup("meta.zone");
        a->op = OP_EQ;
        a->weight = (int64_t)random_below(&w->r, 201) - 100;
        str_list_add(&a->value, "a");
    }
}

static void init_traffic(struct world *w, struct service *s)
{
    static const int64_t standby[] = {0, 30, 600};
    if (s->ports.n && chance(w, 70)) {
        struct ingress *i = list_add((struct list *)&s->ingress, &ingress_type);
        i->host = mem_printf("%s.example", s->name);
        i->path = mem_strdup("/");
        i->port = mem_strdup("http");
    }
    bool fixed = s->ports.n && s->ports.v[0].host;
    if (s->mode == MODE_SERVICE && !s->volumes.n && !fixed && chance(w, 60)) {
        s->deploy.strategy = chance(w, 50) ? STRATEGY_BLUE_GREEN : STRATEGY_CANARY;
        s->deploy.canary_percent = 1 + (int64_t)random_below(&w->r, 100);
        s->deploy.standby_secs = standby[random_below(&w->r, ARRAY_LEN(standby))];
    }
    if (s->deploy.strategy == STRATEGY_BLUE_GREEN || s->mode == MODE_TASK || !s->ingress.n || chance(w, 40))
        return;
    struct analysis *a = &s->deploy.analysis;
    a->window_secs = 1 + (int64_t)random_below(&w->r, 30);
    a->min_requests = 1 + (int64_t)random_below(&w->r, 200);
    a->timeout_secs = a->window_secs + (int64_t)random_below(&w->r, 60);
    a->then = chance(w, 70) ? ANALYSIS_PROMOTE : ANALYSIS_PAUSE;
}

static void init_mode(struct world *w, struct service *s)
{
    s->mode = chance(w, 60) ? MODE_SERVICE : chance(w, 50) ? MODE_EVERY_NODE : MODE_TASK;
    if (s->mode == MODE_EVERY_NODE)
        s->count = 1;
    if (s->mode != MODE_TASK || chance(w, 60))
        return;
    s->schedule = mem_strdup(chance(w, 50) ? "* * * * *" : "*/5 * * * *");
    if (chance(w, 80))
        return;
    s->time_zone = mem_strdup("Europe/Berlin");
    s->time_zone_rule = mem_strdup("CET-1CEST,M3.5.0,M10.5.0/3");
}

/* Every second job is of another namespace, with services of the same names as there are in default. */
#define NAMESPACE "team"

static const char *namespace_of_job(uint32_t number)
{
    return number % 2 ? NAMESPACE : NULL;
}

static char *job_name(uint32_t number)
{
    CLEANUP_FREE char *name = mem_printf("j%u", number);
    return namespace_qualify(namespace_of_job(number), name);
}

static char *service_name(const char *namespace, uint32_t number)
{
    CLEANUP_FREE char *name = mem_printf("s%u", number);
    return namespace_qualify(namespace, name);
}

static void init_service(struct world *w, struct service *s, uint32_t number)
{
    type_clear(&service_type, s);
    type_init(&service_type, s);
    s->name = mem_printf("s%u", number);
    s->driver = DRIVER_EXEC;
    str_list_add(&s->config.command, chance(w, 50) ? "/bin/one" : "/bin/two");
    s->count = (int64_t)random_below(&w->r, w->k.count + 1);
    s->resources.cpus = 0.1 * (double)(1 + random_below(&w->r, 8));
    s->resources.memory_mb = (int64_t)(16 << random_below(&w->r, 5));
    s->priority = 1 + (int64_t)random_below(&w->r, 100);
    s->restart.then = chance(w, 80) ? THEN_RESCHEDULE : THEN_FAIL;
    s->deploy.max_unavailable = 1 + w->k.count / 20 + (int64_t)random_below(&w->r, 3 + w->k.count / 20);
    s->deploy.auto_revert = chance(w, 60);
    init_mode(w, s);
    if (s->mode != MODE_TASK && chance(w, 50))
        init_ports(w, s);
    if (s->ports.n && chance(w, 60)) {
        s->health.type = HEALTH_TCP;
        s->health.port = mem_strdup("http");
    }
    if (chance(w, 15)) {
        struct volume *v = list_add_zero((struct list *)&s->volumes, &volume_type);
        v->source = mem_strdup("/mnt/data");
        v->target = mem_strdup("/data");
    }
    init_placing(w, s);
    if (s->mode != MODE_TASK)
        init_traffic(w, s);
}

/* Job j has the services j*3 … j*3+2 at most; now and then it takes one of another job. */
static void init_job(struct world *w, struct job *job)
{
    uint32_t jobs = (w->k.services + 2) / 3, number = (uint32_t)random_below(&w->r, jobs);
    uint32_t first = number * 3, most = w->k.services - first < 3 ? w->k.services - first : 3;
    uint32_t n = 1 + (uint32_t)random_below(&w->r, most);
    job->name = mem_printf("j%u", number);
    job->namespace = mem_strdup(namespace_of_job(number));
    for (uint32_t i = 0; i < n; i++) {
        const struct service_version *now;
        struct service *s = list_add((struct list *)&job->services, &service_type);
        uint32_t which = chance(w, 2) ? (uint32_t)random_below(&w->r, w->k.services) : first + i;
        CLEANUP_FREE char *name = service_name(job->namespace, which);
        now = core_service(servers_core(w), name);
        if (now && chance(w, 60)) {              /* as it is, or changed a little */
            type_clear(&service_type, s);
            type_copy(&service_type, s, &now->spec);
            mem_set_string(&s->name, namespace_bare(name));
            if (chance(w, 40))
                s->count = s->mode == MODE_EVERY_NODE ? 1 : (int64_t)random_below(&w->r, w->k.count + 1);
            if (chance(w, 40))
                kv_set(&s->env, "X", chance(w, 50) ? "1" : "2");
        } else {
            init_service(w, s, which);
        }
        str_list_clear(&s->after);
        if (i > 0 && chance(w, 10) && !job->services.v[i - 1].schedule)
            str_list_add(&s->after, job->services.v[i - 1].name);
    }
}

/* A request with a key goes out again, word for word, until its answer is seen. */
static void send_with_key(struct world *w, struct command *c)
{
    buf_clear(&w->repeat);
    command_encode(c, &w->repeat);
    servers_command(w, c, (struct origin){.asker = ASKER_CLIENT});
}

static void act_repeat(struct world *w)
{
    struct command c;
    struct error err;
    if (!w->repeat.len)
        return;
    INVARIANT(command_decode(w->repeat.data, w->repeat.len, &c, &err) == 0);
    servers_command(w, &c, (struct origin){.asker = chance(w, 50) ? ASKER_CLIENT : ASKER_NONE});
}

/* There, with or without a quota, or gone again where nothing is in it. */
static void act_namespace(struct world *w)
{
    struct command c;
    if (chance(w, 20)) {
        command_init(&c, COMMAND_NAMESPACE_DELETE, 0, NULL, "sim");
        ((struct command_namespace_delete *)c.payload)->name = mem_strdup(NAMESPACE);
    } else {
        command_init(&c, COMMAND_NAMESPACE_PUT, 0, NULL, "sim");
        struct namespace *n = &((struct command_namespace_put *)c.payload)->namespace;
        n->name = mem_strdup(chance(w, 80) ? NAMESPACE : NAMESPACE_DEFAULT);
        if (chance(w, 40))
            n->quota = (struct quota){.replicas = (int64_t)random_below(&w->r, 3 * w->k.count + 1),
                                      .cpus = 0.1 * (double)random_below(&w->r, 99)};
    }
    servers_command(w, &c, (struct origin){0});
}

void action_submit(struct world *w)
{
    struct command c;
    char key[16];
    snprintf(key, sizeof(key), "key-%u", (unsigned)random_below(&w->r, KEYS));
    bool keyed = chance(w, 15);
    if (!namespace_exists(core_access(servers_core(w)), NAMESPACE))
        act_namespace(w);
    command_init(&c, COMMAND_JOB_SUBMIT, 0, keyed ? key : NULL, "sim");
    init_job(w, &((struct command_job_submit *)c.payload)->job);
    if (keyed)
        send_with_key(w, &c);
    else
        servers_command(w, &c, (struct origin){0});
}

static char *some_service(struct world *w)
{
    uint32_t number = (uint32_t)random_below(&w->r, w->k.services);
    return service_name(namespace_of_job(number / 3), number);
}

static void act_scale(struct world *w)
{
    struct command c;
    command_init(&c, COMMAND_SERVICE_SCALE, 0, NULL, NULL);
    struct command_service_scale *p = c.payload;
    p->service = some_service(w);
    p->count = (int64_t)random_below(&w->r, w->k.count + 1);
    servers_command(w, &c, (struct origin){0});
}

static void act_restart(struct world *w)
{
    struct command c;
    command_init(&c, COMMAND_SERVICE_RESTART, 0, NULL, NULL);
    ((struct command_service *)c.payload)->service = some_service(w);
    servers_command(w, &c, (struct origin){0});
}

static void act_rollback(struct world *w)
{
    struct command c;
    command_init(&c, COMMAND_SERVICE_ROLLBACK, 0, NULL, NULL);
    struct command_service_rollback *p = c.payload;
    p->service = some_service(w);
    p->to_version = random_below(&w->r, 4);
    servers_command(w, &c, (struct origin){0});
}

static void act_promote(struct world *w)
{
    struct command c;
    command_init(&c, COMMAND_SERVICE_PROMOTE, 0, NULL, "sim");
    struct command_service_promote *p = c.payload;
    p->service = some_service(w);
    p->percent = chance(w, 50) ? 0 : (int64_t)random_below(&w->r, 102);
    servers_command(w, &c, (struct origin){0});
}

static void act_abort(struct world *w)
{
    struct command c;
    command_init(&c, COMMAND_SERVICE_ABORT, 0, NULL, "sim");
    ((struct command_service *)c.payload)->service = some_service(w);
    servers_command(w, &c, (struct origin){0});
}

static void act_silence(struct world *w)
{
    struct proxy *p = &w->nodes[random_below(&w->r, w->k.nodes)].proxy;
    p->silent = !p->silent;
}

static void act_delete(struct world *w)
{
    struct command c;
    if (chance(w, 50)) {
        command_init(&c, COMMAND_SERVICE_DELETE, 0, NULL, NULL);
        struct command_service_delete *p = c.payload;
        p->service = some_service(w);
        p->purge = chance(w, 30);
    } else {
        command_init(&c, COMMAND_JOB_DELETE, 0, NULL, NULL);
        struct command_job_delete *p = c.payload;
        p->name = job_name((uint32_t)random_below(&w->r, (w->k.services + 2) / 3));
        p->purge = chance(w, 30);
    }
    servers_command(w, &c, (struct origin){0});
}

/* Down: a leader that does not hear of it, though it lives. */
static void act_node_state(struct world *w)
{
    struct command c;
    uint32_t node = (uint32_t)random_below(&w->r, w->k.nodes);
    command_init(&c, COMMAND_NODE_STATE, 0, NULL, NULL);
    struct command_node_state *p = c.payload;
    p->node_id = mem_strdup(w->nodes[node].facts.id);
    p->state = chance(w, 50) ? NODE_READY : chance(w, 70) ? NODE_DRAINING : chance(w, 70) ? NODE_INELIGIBLE : NODE_DOWN;
    servers_command(w, &c, (struct origin){0});
}

static void act_node_facts(struct world *w)
{
    struct virtual_node *n = &w->nodes[random_below(&w->r, w->k.nodes)];
    if (chance(w, 70))
        kv_set(&n->facts.meta, "zone", chance(w, 50) ? "a" : "b");
    else
        n->facts.drivers.v[0].healthy = !n->facts.drivers.v[0].healthy;
    n->registered = false;
    n->register_at = w->now;
}

static void act_node_remove(struct world *w)
{
    struct command c;
    command_init(&c, COMMAND_NODE_REMOVE, 0, NULL, NULL);
    ((struct command_node *)c.payload)->node_id = mem_strdup(w->nodes[random_below(&w->r, w->k.nodes)].facts.id);
    servers_command(w, &c, (struct origin){0});
}

static void act_node_loss(struct world *w)
{
    uint32_t node = (uint32_t)random_below(&w->r, w->k.nodes);
    if (w->nodes[node].up)
        agent_lose(w, node, chance(w, 50));
    else
        agent_return(w, node);
}

static const struct alloc *some_alloc(struct world *w)
{
    char after[3];
    snprintf(after, sizeof(after), "%02x", (unsigned)random_below(&w->r, 256));
    return core_alloc_next(servers_core(w), after);
}

static void act_alloc(struct world *w)
{
    struct command c;
    const struct alloc *a = some_alloc(w);
    if (!a)
        return;
    command_init(&c, chance(w, 50) ? COMMAND_ALLOC_STOP : COMMAND_ALLOC_RESTART, 0, NULL, NULL);
    ((struct command_alloc *)c.payload)->alloc_id = mem_strdup(a->id);
    servers_command(w, &c, (struct origin){0});
}

/* A command with some bytes wrong: refused, or taken for another one, but never the end of the process. */
static void act_garbage(struct world *w)
{
    CLEANUP_COMMAND struct command c;
    CLEANUP_BUF struct buf bytes = {0};
    command_init(&c, COMMAND_JOB_SUBMIT, servers_now(w), "garbage", "sim");
    init_job(w, &((struct command_job_submit *)c.payload)->job);
    command_encode(&c, &bytes);
    for (uint64_t n = 1 + random_below(&w->r, 4); n > 0; n--)
        bytes.data[10 + random_below(&w->r, bytes.len - 10)] ^= (char)(1 << random_below(&w->r, 8));
    if (chance(w, 30))
        bytes.len = random_below(&w->r, bytes.len);
    servers_propose(w, bytes.data, bytes.len, (struct origin){0});
}

/* The last server of an older release is a new one now: what that does not know is used from here on. */
static void act_upgrade(struct world *w)
{
    struct command c;
    command_init(&c, COMMAND_MEMBER_SET, 0, NULL, NULL);
    ((struct command_member_set *)c.payload)->member = (struct member){
        .id = mem_strdup("11"), .name = mem_strdup("s1"), .address = mem_strdup("10.0.0.1:4646"),
        .raft_address = mem_strdup("10.0.0.1:4648"), .version = mem_strdup("1.0"), .level = COMMAND_LEVEL};
    servers_command(w, &c, (struct origin){0});
}

/* Questions change nothing: if they did, what the leader decides next would tell. */
static void act_ask(struct world *w)
{
    struct core *c = servers_core(w);
    const struct alloc *a = some_alloc(w);
    CLEANUP_FREE char *service = some_service(w);
    CLEANUP_BUF struct buf json = {0};
    struct job job = {0};
    struct plan plan;
    struct error ignored;
    init_job(w, &job);
    if (core_plan(c, &job, servers_now(w), &plan, &ignored) == 0)
        count(w, COUNT_PLANS);
    type_clear(&plan_type, &plan);
    type_clear(&job_type, &job);
    core_explain(c, a && chance(w, 50) ? a->id : service, servers_now(w), &json, &ignored);
}

static const struct {
    void (*run)(struct world *w);
    uint32_t weight;
} actions[] = {
    {action_submit, 20}, {act_upgrade, 3}, {act_scale, 8}, {act_restart, 4}, {act_rollback, 3}, {act_delete, 3}, {act_node_state, 8},
    {act_node_facts, 2}, {act_node_remove, 1}, {act_node_loss, 10}, {act_alloc, 6}, {act_garbage, 1}, {act_repeat, 2},
    {act_ask, 2}, {act_promote, 5}, {act_abort, 2}, {act_silence, 2}, {act_namespace, 2},
};

void action_random(struct world *w)
{
    uint32_t total = 0;
    for (size_t i = 0; i < ARRAY_LEN(actions); i++)
        total += actions[i].weight;
    uint64_t at = random_below(&w->r, total);
    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        if (at < actions[i].weight) {
            actions[i].run(w);
            return;
        }
        at -= actions[i].weight;
    }
}
