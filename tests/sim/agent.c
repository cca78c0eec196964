/* Virtual agents: they poll for work, run tasks by their fate, and report over a network that delays, repeats,
 * reorders and loses. A report stays due until its answer came. */
#include <string.h>

#include "world.h"

#define RESEND_MS 5000
#define HEARTBEAT_LOST_MS 20000

static void told_forget(struct virtual_node *n, const char *service)
{
    struct told *t;
    HASH_FIND_STR(n->told, service, t);
    if (!t)
        return;
    HASH_DEL(n->told, t);
    free(t->peers);
    free(t);
}

static void take_peers(struct virtual_node *n, const struct agent_work *work)
{
    for (uint32_t i = 0; i < work->allocs.n; i++)
        if (alloc_live(&work->allocs.v[i]))
            told_forget(n, work->allocs.v[i].service);
    for (uint32_t i = 0; i < work->peers.n; i++) {
        const struct service_peers *s = &work->peers.v[i];
        CLEANUP_BUF struct buf text = {0};
        for (uint32_t k = 0; k < s->peers.n; k++)
            buf_printf(&text, "%s:%lld,", s->peers.v[k].alloc,
                       (long long)(s->peers.v[k].ports.n ? s->peers.v[k].ports.v[0].host : 0));
        struct told *t = NEW(struct told);
        strcpy(t->service, s->service);
        t->peers = mem_strdup(text.data ? text.data : "");
        HASH_ADD_STR(n->told, service, t);
    }
}

void agent_clear(struct virtual_node *n)
{
    while (n->told)
        told_forget(n, n->told->service);
    struct task *t, *next;
    HASH_ITER(hh, n->tasks, t, next) {
        HASH_DEL(n->tasks, t);
        free(t);
    }
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

static void start_task(struct world *w, struct virtual_node *n, const struct alloc *a, const struct agent_work *work)
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
}

static void take_alloc(struct world *w, struct virtual_node *n, const struct alloc *a, const struct agent_work *work)
{
    struct task *t;
    HASH_FIND_STR(n->tasks, a->id, t);
    if (!t && a->desired == DESIRED_RUN && alloc_live(a))
        start_task(w, n, a, work);
    else if (!t && alloc_live(a)) {          /* never started here: say so */
        start_task(w, n, a, work);
        HASH_FIND_STR(n->tasks, a->id, t);
    }
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

static void poll_work(struct world *w, struct virtual_node *n)
{
    struct agent_work work;
    if (core_changed(w->core, CORE_NODE_WORK, n->facts.id) <= n->since && n->since)
        return;
    if (core_agent_work(w->core, n->facts.id, n->since, &work)) {
        n->registered = false;
        return;
    }
    if (work.full)
        forget_unlisted(n, &work);
    take_peers(n, &work);
    for (uint32_t i = 0; i < work.allocs.n; i++)
        take_alloc(w, n, &work.allocs.v[i], &work);
    for (uint32_t i = 0; i < work.gone.n; i++) {
        struct task *t;
        HASH_FIND_STR(n->tasks, work.gone.v[i], t);
        if (t) {
            HASH_DEL(n->tasks, t);
            free(t);
        }
    }
    n->since = work.index;
    type_clear(&agent_work_type, &work);
}

static void enter(struct task *t, enum alloc_state state, int64_t next_at)
{
    t->state = state;
    t->seq++;
    t->sent_at = 0;
    t->next_at = next_at;
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
        enter(t, ALLOC_RUNNING, t->is_task || t->fate == FATE_FAILS || t->checked ? soon(w, 4000) : INT64_MAX);
        break;
    case ALLOC_RUNNING:
    case ALLOC_HEALTHY:
    case ALLOC_UNHEALTHY:
        if (t->fate == FATE_FAILS)
            enter(t, ALLOC_FAILED, INT64_MAX);
        else if (t->is_task)
            enter(t, ALLOC_COMPLETE, INT64_MAX);
        else if (t->fate == FATE_NEVER_HEALTHY && t->checked)
            enter(t, ALLOC_UNHEALTHY, INT64_MAX);
        else if (t->state == ALLOC_HEALTHY && t->fate == FATE_FLAPS)
            enter(t, ALLOC_UNHEALTHY, soon(w, 20000));
        else
            enter(t, ALLOC_HEALTHY, t->fate == FATE_FLAPS && !w->k.calm ? soon(w, 60000) : INT64_MAX);
        break;
    default:
        t->next_at = INT64_MAX;
    }
}

static void send_report(struct world *w, uint32_t node, struct task *t)
{
    struct agent_report payload = {.node_id = w->nodes[node].facts.id};
    struct alloc_report *r = list_add_zero((struct list *)&payload.allocs, &alloc_report_type);
    CLEANUP_BUF struct buf bytes = {0};
    *r = (struct alloc_report){.id = mem_strdup(t->id), .seq = t->seq, .state = t->state, .time = w->now,
                               .started_at = t->started_at, .restarts = t->restarts,
                               .exited = t->state == ALLOC_COMPLETE || t->state == ALLOC_FAILED,
                               .exit_code = t->state == ALLOC_FAILED ? 1 : 0,
                               .reason = mem_strdup(t->state == ALLOC_FAILED ? "exit code 1" : "as its fate says")};
    t->sent_at = w->now;
    command_encode_payload(COMMAND_ALLOC_REPORT, w->now, NULL, NULL, &payload, &bytes);
    list_clear((struct list *)&payload.allocs, &alloc_report_type);
    uint32_t copies = w->k.calm ? 1 : chance(w, 5) ? 0 : chance(w, 5) ? 2 : 1;
    for (uint32_t i = 0; i < copies; i++) {
        int64_t delay = !w->k.calm && chance(w, 10) ? (int64_t)random_below(&w->r, 15000) : (int64_t)random_below(&w->r, 50);
        world_post(w, (struct message){.at = w->now + delay, .node = node, .bytes = mem_dup(bytes.data, bytes.len),
                                       .len = bytes.len, .task = mem_strdup(t->id), .seq = t->seq});
    }
}

void agent_ack(struct world *w, uint32_t node, const char *task, uint64_t seq)
{
    struct task *t;
    HASH_FIND_STR(w->nodes[node].tasks, task, t);
    if (t && seq > t->acked)
        t->acked = seq;
}

static void run_tasks(struct world *w, uint32_t node)
{
    struct task *t, *next;
    HASH_ITER(hh, w->nodes[node].tasks, t, next) {
        if (t->next_at <= w->now)
            move_on(w, t);
        if (w->nodes[node].up && t->seq > t->acked && (!t->sent_at || t->sent_at + RESEND_MS <= w->now))
            send_report(w, node, t);
    }
}

static void register_node(struct world *w, struct virtual_node *n)
{
    struct command c;
    command_init(&c, COMMAND_NODE_REGISTER, w->now, NULL, NULL);
    type_copy(&node_type, &((struct command_node_register *)c.payload)->node, &n->facts);
    n->registered = world_command(w, &c);
}

static void expire(struct world *w, struct virtual_node *n)
{
    struct command c;
    const struct node *known = core_node(w->core, n->facts.id);
    if (!known || known->state == NODE_DOWN || w->now - n->lost_at < HEARTBEAT_LOST_MS)
        return;
    command_init(&c, COMMAND_NODE_STATE, w->now, NULL, NULL);
    *(struct command_node_state *)c.payload = (struct command_node_state){
        .node_id = mem_strdup(n->facts.id), .state = NODE_DOWN, .reason = mem_strdup("no heartbeat")};
    world_command(w, &c);
}

void agents_run(struct world *w)
{
    for (uint32_t i = 0; i < w->k.nodes && !world_failed(w); i++) {
        struct virtual_node *n = &w->nodes[i];
        if (!n->up) {
            run_tasks(w, i);
            expire(w, n);
            continue;
        }
        const struct node *known = core_node(w->core, n->facts.id);
        if (!n->registered || !known || known->state == NODE_DOWN)
            register_node(w, n);
        if (n->registered && (w->k.calm || chance(w, 85)))
            poll_work(w, n);
        run_tasks(w, i);
    }
}

int64_t agents_next(const struct world *w)
{
    int64_t next = INT64_MAX;
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        const struct virtual_node *n = &w->nodes[i];
        const struct node *known = core_node(w->core, n->facts.id);
        if (!n->up) {
            if (known && known->state != NODE_DOWN && n->lost_at + HEARTBEAT_LOST_MS < next)
                next = n->lost_at + HEARTBEAT_LOST_MS;
            continue;
        }
        if (!n->registered || core_changed(w->core, CORE_NODE_WORK, n->facts.id) > n->since)
            return w->now;
        for (const struct task *t = n->tasks; t; t = t->hh.next) {
            int64_t resend = t->seq > t->acked ? t->sent_at + RESEND_MS : INT64_MAX;
            next = t->next_at < next ? t->next_at : next;
            next = resend < next ? resend : next;
        }
    }
    return next;
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

/* It comes back with what it knew, or as an agent that starts from its store and asks for everything. */
void agent_return(struct world *w, uint32_t node)
{
    struct virtual_node *n = &w->nodes[node];
    n->up = true;
    n->registered = false;
    if (!n->tasks || chance(w, 50))
        n->since = 0;
}
