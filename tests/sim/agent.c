/* Virtual agents: they poll for work, each from one of the servers, which may lag; run tasks by their fate; and report
 * over a network that delays, repeats, reorders and loses. A report stays due until its answer came. */
#include <string.h>

#include "breaks.h"
#include "world.h"

#define RESEND_MS 5000
#define HEARTBEAT_LOST_MS 20000
#define REPORTS_MOST 50

static void forget_tasks(struct virtual_node *n)
{
    struct task *t, *next;
    HASH_ITER(hh, n->tasks, t, next) {
        HASH_DEL(n->tasks, t);
        free(t);
    }
}

void agent_clear(struct virtual_node *n)
{
    forget_tasks(n);
    proxy_clear(&n->proxy);
    free(n->was);
    type_clear(&node_type, &n->facts);
}

static int64_t soon(struct world *w, uint64_t most)
{
    return w->now + 1 + (int64_t)random_below(&w->r, most);
}

static enum fate draw_fate(struct world *w)
{
    if (w->k.calm || chance(w, 75))
        return FATE_GOOD;
    return (enum fate)(1 + random_below(&w->r, FATE_COUNT - 1));
}

/* --- work --- */

static struct task *start_task(struct world *w, struct virtual_node *n, const struct alloc *a,
                               const struct agent_work *work)
{
    struct task *t = NEW(struct task);
    strcpy(t->id, a->id);
    t->fate = draw_fate(w);
    t->generation = a->generation;
    t->next_at = soon(w, 500);
    for (uint32_t i = 0; i < work->services.n; i++) {
        const struct service_version *v = &work->services.v[i];
        if (v->version == a->version && strcmp(v->service, a->service) == 0) {
            t->is_task = v->spec.mode == MODE_TASK;
            t->checked = v->spec.health.type != HEALTH_NONE;
        }
    }
    HASH_ADD_STR(n->tasks, id, t);
    return t;
}

/* One that is to be stopped and was never started here is taken too: only so the servers hear that it ended. */
static void take_alloc(struct world *w, struct virtual_node *n, const struct alloc *a, const struct agent_work *work)
{
    struct task *t;
    HASH_FIND_STR(n->tasks, a->id, t);
    if (!t && alloc_live(a))
        t = start_task(w, n, a, work);
    if (!t || t->state >= ALLOC_COMPLETE)
        return;
    if (a->desired == DESIRED_STOP && !t->stopping) {
        t->stopping = true;
        t->next_at = soon(w, 2000);
    } else if (a->generation > t->generation) {
        t->generation = a->generation;
        t->state = ALLOC_PENDING;
        t->fate = draw_fate(w);
        t->next_at = soon(w, 1000);
    }
}

static void forget_unlisted(struct virtual_node *n, const struct agent_work *work)
{
    struct task *t, *next;
    HASH_ITER(hh, n->tasks, t, next) {
        bool listed = false;
        for (uint32_t i = 0; i < work->allocs.n && !listed; i++)
            listed = strcmp(work->allocs.v[i].id, t->id) == 0;
        if (listed)
            continue;
        HASH_DEL(n->tasks, t);
        free(t);
    }
}

static void take_work(struct world *w, struct virtual_node *n, const struct agent_work *work)
{
    if (work->full)
        forget_unlisted(n, work);
    for (uint32_t i = 0; i < work->allocs.n; i++)
        take_alloc(w, n, &work->allocs.v[i], work);
    for (uint32_t i = 0; i < work->gone.n; i++) {
        struct task *t;
        HASH_FIND_STR(n->tasks, work->gone.v[i], t);
        if (t) {
            HASH_DEL(n->tasks, t);
            free(t);
        }
    }
    n->ask_all &= !work->full;
    n->since = n->floor = work->index;
}

static void next_server(struct world *w, struct virtual_node *n)
{
    n->server = (n->server + 1) % w->s.n;
}

static void poll_work(struct world *w, struct virtual_node *n)
{
    struct agent_work work;
    const struct server *server = &w->s.v[n->server];
    if (!w->k.calm && chance(w, 5))
        next_server(w, n);
    if (!n->ask_all && core_index(server->core) >= n->since
        && core_changed(server->core, CORE_NODE_WORK, n->facts.id) <= n->since)
        return;
    if (core_agent_work(server->core, n->facts.id, n->ask_all ? 0 : n->since, &work)) {
        n->registered = false;
        next_server(w, n);
        return;
    }
    if (server->core != w->s.front && server->applied < w->s.seen)
        count(w, COUNT_LAGGED);
    if (work.full && work.index < n->floor) {
        count(w, COUNT_PASSED_OVER);
        next_server(w, n);
    } else {
        take_work(w, n, &work);
    }
    type_clear(&agent_work_type, &work);
}

/* --- tasks --- */

static void enter(struct task *t, enum alloc_state state, int64_t next_at)
{
    t->state = state;
    t->seq++;
    t->sent_at = 0;
    t->next_at = next_at;
}

static void run_on(struct world *w, struct task *t)
{
    if (t->fate == FATE_FAILS) {
        enter(t, ALLOC_FAILED, INT64_MAX);
    } else if (t->fate == FATE_CRASHES && !w->k.calm) {
        t->restarts++;
        t->started_at = w->now;
        enter(t, ALLOC_STARTING, soon(w, 8000));
        count(w, COUNT_AGENT_RESTARTS);
    } else if (t->is_task) {
        enter(t, ALLOC_COMPLETE, INT64_MAX);
        count(w, COUNT_TASKS);
    } else if (t->fate == FATE_NEVER_HEALTHY && t->checked) {
        enter(t, ALLOC_UNHEALTHY, INT64_MAX);
    } else if (t->state == ALLOC_HEALTHY && t->fate == FATE_FLAPS) {
        enter(t, ALLOC_UNHEALTHY, soon(w, 20000));
    } else if (t->checked) {
        enter(t, ALLOC_HEALTHY, t->fate == FATE_FLAPS && !w->k.calm ? soon(w, 60000) : INT64_MAX);
    } else {
        t->next_at = INT64_MAX;
    }
}

static void move_on(struct world *w, struct task *t)
{
    if (t->stopping) {
        if (t->state == ALLOC_STOPPING || chance(w, 30))
            enter(t, chance(w, 80) ? ALLOC_COMPLETE : ALLOC_FAILED, INT64_MAX);
        else
            enter(t, ALLOC_STOPPING, soon(w, 5000));
        return;
    }
    switch (t->state) {
    case ALLOC_PENDING:
        t->started_at = w->now;
        enter(t, ALLOC_STARTING, soon(w, 300));
        break;
    case ALLOC_STARTING:
        enter(t, ALLOC_RUNNING, soon(w, 4000));
        break;
    case ALLOC_RUNNING:
    case ALLOC_HEALTHY:
    case ALLOC_UNHEALTHY:
        run_on(w, t);
        break;
    default:
        t->next_at = INT64_MAX;
    }
}

/* --- reports --- */

static void add_report(struct agent_report *to, const struct task *t, int64_t now)
{
    struct alloc_report *r = list_add_zero((struct list *)&to->allocs, &alloc_report_type);
    *r = (struct alloc_report){.id = mem_strdup(t->id), .seq = t->seq, .state = t->state, .time = now,
                               .started_at = t->started_at, .restarts = t->restarts,
                               .exited = t->state == ALLOC_COMPLETE || t->state == ALLOC_FAILED,
                               .exit_code = t->state == ALLOC_FAILED ? 1 : 0,
                               .reason = mem_strdup(t->state == ALLOC_FAILED ? "exit code 1" : "as its fate says")};
}

static struct agent_report *copy_report(const struct agent_report *r)
{
    struct agent_report *copy = mem_alloc(sizeof(*copy));
    type_copy(&agent_report_type, copy, r);
    return copy;
}

static void send_report(struct world *w, uint32_t node, struct agent_report *report)
{
    uint32_t copies = w->k.calm ? 1 : chance(w, 5) ? 0 : chance(w, 5) ? 2 : 1;
    if (copies != 1)
        count(w, copies ? COUNT_REPORTS_TWICE : COUNT_REPORTS_LOST);
    for (uint32_t i = 0; i < copies; i++) {
        int64_t delay = !w->k.calm && chance(w, 10) ? (int64_t)random_below(&w->r, 15000) : (int64_t)random_below(&w->r, 50);
        world_post(w, (struct message){.at = w->now + delay, .node = node, .report = copy_report(report)});
    }
}

void agent_delivers(struct world *w, uint32_t node, const struct agent_report *report)
{
    for (uint32_t i = 0; i < report->allocs.n; i++) {
        struct task *t;
        HASH_FIND_STR(w->nodes[node].tasks, report->allocs.v[i].id, t);
        if (t && report->allocs.v[i].seq < t->delivered)
            count(w, COUNT_REPORTS_LATE);
        else if (t)
            t->delivered = report->allocs.v[i].seq;
    }
}

void agent_ack(struct world *w, uint32_t node, const struct agent_report *report)
{
    for (uint32_t i = 0; i < report->allocs.n; i++) {
        struct task *t;
        HASH_FIND_STR(w->nodes[node].tasks, report->allocs.v[i].id, t);
        if (t && report->allocs.v[i].seq > t->acked)
            t->acked = report->allocs.v[i].seq;
    }
}

static void run_tasks(struct world *w, uint32_t node)
{
    struct virtual_node *n = &w->nodes[node];
    struct task *t, *next;
    struct agent_report report = {.node_id = n->facts.id};
    HASH_ITER(hh, n->tasks, t, next) {
        if (t->next_at <= w->now)
            move_on(w, t);
        if (n->up && t->seq > t->acked && (!t->sent_at || t->sent_at + RESEND_MS <= w->now)
            && report.allocs.n < REPORTS_MOST) {
            add_report(&report, t, w->now);
            t->sent_at = w->now;
        }
    }
    if (report.allocs.n)
        send_report(w, node, &report);
    list_clear((struct list *)&report.allocs, &alloc_report_type);
}

/* --- nodes --- */

static bool awaited(struct world *w, const char *id)
{
    const struct node *known = core_node(servers_core(w), id);
    return known && known->state != NODE_DOWN;
}

static void register_node(struct world *w, uint32_t node)
{
    struct virtual_node *n = &w->nodes[node];
    struct command c;
    command_init(&c, COMMAND_NODE_REGISTER, 0, NULL, NULL);
    struct node *facts = &((struct command_node_register *)c.payload)->node;
    type_copy(&node_type, facts, &n->facts);
    facts->cpus *= broken == BREAK_CAPACITY ? 2 : 1;
    n->register_at = w->now + RESEND_MS;
    n->ask_all |= !awaited(w, n->facts.id);      /* they took it for dead, or forgot it */
    servers_command(w, &c, (struct origin){.asker = ASKER_REGISTER, .node = node});
}

void agent_registered(struct world *w, uint32_t node, bool done)
{
    w->nodes[node].registered = done;
}

/* A leader counts silence from when it began to listen. */
static int64_t expires_at(const struct world *w, const struct virtual_node *n)
{
    return (n->lost_at > w->s.led_since ? n->lost_at : w->s.led_since) + HEARTBEAT_LOST_MS;
}

static void expire(struct world *w, const struct virtual_node *n, const char *id)
{
    struct command c;
    if (w->now < expires_at(w, n) || !awaited(w, id))
        return;
    command_init(&c, COMMAND_NODE_STATE, 0, NULL, NULL);
    *(struct command_node_state *)c.payload = (struct command_node_state){
        .node_id = mem_strdup(id), .state = NODE_DOWN, .reason = mem_strdup("no heartbeat")};
    servers_command(w, &c, (struct origin){0});
}

static bool must_register(struct world *w, const struct virtual_node *n)
{
    return !n->registered || !awaited(w, n->facts.id);
}

void agents_run(struct world *w)
{
    for (uint32_t i = 0; i < w->k.nodes && !world_failed(w); i++) {
        struct virtual_node *n = &w->nodes[i];
        if (n->was)
            expire(w, n, n->was);
        if (!n->up) {
            run_tasks(w, i);
            expire(w, n, n->facts.id);
            continue;
        }
        if (must_register(w, n) && n->register_at <= w->now)
            register_node(w, i);
        if (n->registered && (w->k.calm || chance(w, 85)))
            poll_work(w, n);
        run_tasks(w, i);
        proxy_run(w, i);
    }
}

int64_t agents_next(struct world *w)
{
    int64_t next = INT64_MAX;
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        const struct virtual_node *n = &w->nodes[i];
        if ((!n->up && awaited(w, n->facts.id)) || (n->was && awaited(w, n->was)))
            next = expires_at(w, n) < next ? expires_at(w, n) : next;
        if (!n->up)
            continue;
        if (must_register(w, n))
            next = n->register_at < next ? n->register_at : next;
        else if (n->ask_all || core_changed(w->s.v[n->server].core, CORE_NODE_WORK, n->facts.id) > n->since)
            return w->now;
        int64_t proxy = proxy_next(w, n);
        next = proxy < next ? proxy : next;
        for (const struct task *t = n->tasks; t; t = t->hh.next) {
            int64_t resend = t->seq > t->acked ? t->sent_at + RESEND_MS : INT64_MAX;
            next = t->next_at < next ? t->next_at : next;
            next = resend < next ? resend : next;
        }
    }
    return next;
}

bool agents_heard(struct world *w)
{
    for (uint32_t i = 0; i < w->k.nodes; i++)
        for (const struct task *t = w->nodes[i].tasks; t && w->nodes[i].up; t = t->hh.next)
            if (t->seq > t->acked)
                return false;
    for (uint32_t i = 0; i < w->k.nodes; i++)
        if (w->nodes[i].up && w->nodes[i].facts.ingress && w->nodes[i].proxy.version > w->nodes[i].proxy.acked)
            return false;
    return !w->message_count && agents_next(w) > w->now;
}

void agent_lose(struct world *w, uint32_t node, bool tasks_die)
{
    struct virtual_node *n = &w->nodes[node];
    struct task *t;
    n->up = false;
    n->lost_at = w->now;
    for (t = n->tasks; t && tasks_die; t = t->hh.next)
        if (t->state < ALLOC_COMPLETE)
            enter(t, ALLOC_FAILED, INT64_MAX);
}

/* It comes back with what it knew, as an agent that starts from its store and asks for everything, or with a new disk. */
void agent_return(struct world *w, uint32_t node)
{
    struct virtual_node *n = &w->nodes[node];
    n->up = true;
    n->registered = false;
    n->register_at = w->now;
    n->ask_all |= chance(w, 50);
    count(w, COUNT_NODES_BACK);
    if (w->k.calm || (n->was && awaited(w, n->was)) || !chance(w, 15))
        return;
    char id[ID_LEN + 1];
    id_format(id, hash_mix((uint64_t)++n->lives << 32 | (node + 1)));
    free(n->was);
    n->was = n->facts.id;
    n->facts.id = mem_strdup(id);
    forget_tasks(n);
    n->since = n->floor = 0;
    n->ask_all = true;
    uint64_t version = n->proxy.version + 1;     /* answers to what it said before are still on their way */
    proxy_clear(&n->proxy);
    n->proxy.version = n->proxy.acked = version;
    count(w, COUNT_NODES_REBORN);
}
