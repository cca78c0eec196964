#include "core/state.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "core/ingress.h"
#include "core/network.h"
#include "core/order.h"
#include "core/keys.h"
#include "core/peers.h"

static int compare_u64(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int alloc_id_compare(struct alloc_entry *a, struct alloc_entry *b)
{
    return strcmp(a->a.id, b->a.id);
}

/* A replica's allocations stand together, oldest first; in mode every-node a replica is a node. */
static int alloc_replica_compare(struct alloc_entry *a, struct alloc_entry *b)
{
    if (a->a.replica != b->a.replica)
        return a->a.replica < b->a.replica ? -1 : 1;
    int r = strcmp(a->every_node ? a->a.node_id : "", b->every_node ? b->a.node_id : "");
    if (r == 0)
        r = compare_u64(a->a.create_index, b->a.create_index);
    return r ? r : strcmp(a->a.id, b->a.id);
}

static int alloc_node_compare(struct alloc_entry *a, struct alloc_entry *b)
{
    return strcmp(a->a.id, b->a.id);
}

static int alloc_work_compare(struct alloc_entry *a, struct alloc_entry *b)
{
    int r = compare_u64(a->work_index, b->work_index);
    return r ? r : strcmp(a->a.id, b->a.id);
}

static int node_id_compare(struct node_entry *a, struct node_entry *b)
{
    return strcmp(a->n.id, b->n.id);
}

static int node_name_compare(struct node_entry *a, struct node_entry *b)
{
    int r = strcmp(a->n.name, b->n.name);
    return r ? r : strcmp(a->n.id, b->n.id);
}

static int service_compare(struct service_entry *a, struct service_entry *b)
{
    return strcmp(a->name, b->name);
}

static int wake_compare(struct service_entry *a, struct service_entry *b)
{
    if (a->wake_at != b->wake_at)
        return a->wake_at < b->wake_at ? -1 : 1;
    return strcmp(a->name, b->name);
}

static int job_compare(struct job_entry *a, struct job_entry *b)
{
    return strcmp(a->name, b->name);
}

static int deployment_compare(struct deployment_entry *a, struct deployment_entry *b)
{
    return strcmp(a->d.id, b->d.id);
}

static int member_compare(struct member_entry *a, struct member_entry *b)
{
    return strcmp(a->m.id, b->m.id);
}

RB_GENERATE(member_tree, member_entry, by_id, member_compare)
RB_GENERATE(alloc_id_tree, alloc_entry, by_id, alloc_id_compare)
RB_GENERATE(alloc_replica_tree, alloc_entry, by_replica, alloc_replica_compare)
RB_GENERATE(alloc_node_tree, alloc_entry, by_node, alloc_node_compare)
RB_GENERATE(alloc_work_tree, alloc_entry, by_work, alloc_work_compare)
RB_GENERATE(node_id_tree, node_entry, by_id, node_id_compare)
RB_GENERATE(node_name_tree, node_entry, by_name, node_name_compare)
RB_GENERATE(service_tree, service_entry, by_name, service_compare)
RB_GENERATE(wake_tree, service_entry, by_wake, wake_compare)
RB_GENERATE(job_tree, job_entry, by_name, job_compare)
RB_GENERATE(deployment_tree, deployment_entry, by_id, deployment_compare)

/* Keys for searching borrow the text; the search does not write to it. */
struct node_entry *state_node(const struct core *c, const char *id)
{
    struct node_entry key = {.n.id = (char *)id};
    return id ? RB_FIND(node_id_tree, (struct node_id_tree *)&c->nodes, &key) : NULL;
}

struct node_entry *state_node_by_name(const struct core *c, const char *name)
{
    struct node_entry key = {.n.name = (char *)name, .n.id = (char *)""};
    struct node_entry *first = NULL;
    if (!name)
        return NULL;
    struct node_entry *n = RB_NFIND(node_name_tree, (struct node_name_tree *)&c->node_names, &key);
    for (; n && strcmp(n->n.name, name) == 0; n = RB_NEXT(node_name_tree, &c->node_names, n)) {
        if (n->n.state != NODE_DOWN)
            return n;
        first = first ? first : n;
    }
    return first;
}

struct alloc_entry *state_alloc(const struct core *c, const char *id)
{
    struct alloc_entry key = {.a.id = (char *)id};
    return id ? RB_FIND(alloc_id_tree, (struct alloc_id_tree *)&c->allocs, &key) : NULL;
}

struct service_entry *state_service(const struct core *c, const char *name)
{
    struct service_entry key = {.name = (char *)name};
    return name ? RB_FIND(service_tree, (struct service_tree *)&c->services, &key) : NULL;
}

struct job_entry *state_job(const struct core *c, const char *name)
{
    struct job_entry key = {.name = (char *)name};
    return name ? RB_FIND(job_tree, (struct job_tree *)&c->jobs, &key) : NULL;
}

struct deployment_entry *state_deployment(const struct core *c, const char *id)
{
    struct deployment_entry key = {.d.id = (char *)id};
    return id ? RB_FIND(deployment_tree, (struct deployment_tree *)&c->deployments, &key) : NULL;
}

struct member_entry *state_member(const struct core *c, const char *id)
{
    struct member_entry key = {.m.id = (char *)id};
    return id ? RB_FIND(member_tree, (struct member_tree *)&c->members, &key) : NULL;
}

bool state_is_cluster(const struct core *c, const char *name)
{
    for (uint32_t i = 0; i < c->clusters.n; i++)
        if (strcmp(c->clusters.v[i], name) == 0)
            return true;
    return false;
}

struct version_entry *state_version(const struct service_entry *s, uint64_t version)
{
    struct version_entry *v;
    TAILQ_FOREACH_REVERSE(v, &s->versions, version_list_head, link)
        if (v->v.version <= version)
            return v->v.version == version ? v : NULL;
    return NULL;
}

struct deployment_entry *state_running_deployment(const struct service_entry *s)
{
    struct deployment_entry *d = TAILQ_LAST(&s->deployments, deployment_list_head);
    return d && d->d.state <= DEPLOYMENT_PAUSED ? d : NULL;
}

bool alloc_serves(const struct alloc_entry *a)
{
    return a->ok_since != 0 && !a->restarting && !a->a.leaving && !a->a.paused && entry_live(a);
}

/* --- marks --- */

static void changed(struct core *c, enum core_kind kind)
{
    c->changed[kind] = c->index;
    c->changed[CORE_ANY] = c->index;
}

static void forget_status(struct service_entry *s)
{
    if (s->status)
        type_free(&service_status_type, steal(&s->status));
}

void state_set_dirty(struct core *c, struct service_entry *s)
{
    forget_status(s);
    if (s->dirty)
        return;
    s->dirty = true;
    TAILQ_INSERT_TAIL(&c->dirty, s, dirty_link);
}

void state_clear_dirty(struct core *c, struct service_entry *s)
{
    if (!s->dirty)
        return;
    s->dirty = false;
    TAILQ_REMOVE(&c->dirty, s, dirty_link);
}

void state_set_blocked(struct core *c, struct service_entry *s, bool blocked)
{
    if (s->blocked == blocked)
        return;
    s->blocked = blocked;
    if (blocked)
        TAILQ_INSERT_TAIL(&c->blocked, s, blocked_link);
    else
        TAILQ_REMOVE(&c->blocked, s, blocked_link);
}

void state_set_wake(struct core *c, struct service_entry *s, int64_t at)
{
    if (s->wake_at == at)
        return;
    if (s->wake_at != NEVER)
        RB_REMOVE(wake_tree, &c->wakes, s);
    s->wake_at = at;
    if (at != NEVER)
        RB_INSERT(wake_tree, &c->wakes, s);
}

void state_touch_service(struct core *c, struct service_entry *s)
{
    s->modify_index = c->index;
    changed(c, CORE_SERVICE);
    state_set_dirty(c, s);
    ingress_set_changed(c, s);
    network_set_changed(c, s);
    order_wake(c, s);
}

void state_touch_alloc(struct core *c, struct alloc_entry *a)
{
    a->a.modify_index = c->index;
    changed(c, CORE_ALLOC);
    state_touch_service(c, a->service);
}

void state_touch_work(struct core *c, struct alloc_entry *a)
{
    state_touch_alloc(c, a);
    state_send_again(c, a);
}

void state_send_again(struct core *c, struct alloc_entry *a)
{
    if (!a->node) {
        a->work_index = c->index;
        return;
    }
    RB_REMOVE(alloc_work_tree, &a->node->work, a);
    a->work_index = c->index;
    RB_INSERT(alloc_work_tree, &a->node->work, a);
    a->node->work_index = c->index;
    changed(c, CORE_NODE_WORK);
}

void state_touch_node(struct core *c, struct node_entry *n)
{
    n->n.modify_index = c->index;
    changed(c, CORE_NODE);
}

void state_touch_deployment(struct core *c, struct deployment_entry *d)
{
    d->d.modify_index = c->index;
    changed(c, CORE_DEPLOYMENT);
    state_touch_service(c, d->service);
}

void state_touch_ingress(struct core *c)
{
    changed(c, CORE_INGRESS);
}

void state_touch_members(struct core *c)
{
    changed(c, CORE_MEMBER);
}

void state_set_dirty_node(struct core *c, struct node_entry *n)
{
    struct alloc_entry *a;
    RB_FOREACH(a, alloc_node_tree, &n->allocs)
        if (entry_live(a))
            state_set_dirty(c, a->service);
}

void state_set_dirty_every_node(struct core *c)
{
    struct service_entry *s;
    TAILQ_FOREACH(s, &c->every_node, every_link)
        state_set_dirty(c, s);
}

/* --- events --- */

struct event *state_event_slot(struct core *c, uint64_t number)
{
    uint32_t at = (uint32_t)(number % EVENTS_KEPT);
    if (at >= c->event_cap) {
        uint32_t cap = c->event_cap ? c->event_cap : 64;
        while (cap <= at)
            cap *= 2;
        cap = cap < EVENTS_KEPT ? cap : EVENTS_KEPT;
        c->events = mem_realloc_array(c->events, cap, sizeof(*c->events));
        memset(c->events + c->event_cap, 0, (cap - c->event_cap) * sizeof(*c->events));
        c->event_cap = cap;
    }
    return &c->events[at];
}

void state_event(struct core *c, struct event_text e, const char *fmt, ...)
{
    struct event *slot = state_event_slot(c, c->event_count++);
    va_list args;
    char *reason = NULL;
    type_clear(&event_type, slot);
    va_start(args, fmt);
    INVARIANT(vasprintf(&reason, fmt, args) >= 0);
    va_end(args);
    *slot = (struct event){
        .index = c->index, .seq = ++c->event_seq, .time = c->now, .kind = mem_strdup(e.kind),
        .subject = mem_strdup(e.subject), .service = mem_strdup(e.service), .alloc = mem_strdup(e.alloc),
        .node = mem_strdup(e.node), .from = mem_strdup(e.from), .to = mem_strdup(e.to), .reason = reason};
    changed(c, CORE_ANY);
}

void state_event_by_actor(struct core *c, struct event_text e, const char *what)
{
    state_event(c, e, "%s%s%s", what, c->actor ? " by " : "", c->actor ? c->actor : "");
}

/* --- room on nodes --- */

static int64_t port_key(const struct alloc_port *p)
{
    return p->host * 2 + (p->protocol == PROTOCOL_UDP);
}

static void use_ports(struct node_entry *n, const struct alloc_port_list *ports, bool add)
{
    for (uint32_t i = 0; i < ports->n; i++) {
        struct port_use *u;
        int64_t key = port_key(&ports->v[i]);
        HASH_FIND(hh, n->ports, &key, sizeof(key), u);
        if (add && !u) {
            u = NEW(struct port_use);
            u->key = key;
            HASH_ADD(hh, n->ports, key, sizeof(u->key), u);
        }
        if (add) {
            u->n++;
        } else if (u && --u->n == 0) {
            HASH_DEL(n->ports, u);
            free(u);
        }
    }
}

static void take_room(struct core *c, struct alloc_entry *a, bool add)
{
    struct node_entry *n = a->node;
    int sign = add ? 1 : -1;
    n->live += (uint32_t)sign;
    a->service->live[a->every_node] += (uint32_t)sign;
    if (!a->every_node && !a->task)
        n->live_movable += (uint32_t)sign;
    n->used_memory_mb += sign * a->a.memory_mb;
    n->used_disk_mb += sign * a->a.disk_mb;
    n->used_cpus = n->live ? n->used_cpus + sign * a->a.cpus : 0;
    use_ports(n, &a->a.ports, add);
    if (add) {
        sched_alloc_add(c->sched, &a->a);
    } else {
        sched_alloc_remove(c->sched, &a->a);
        c->room = true;
    }
}

#define CPU_EPSILON 1e-6

bool state_node_has_room(const struct node_entry *n, double cpus, int64_t memory_mb, int64_t disk_mb,
                         const struct alloc_port_list *ports)
{
    if (n->used_cpus + cpus > n->n.cpus + CPU_EPSILON || n->used_memory_mb + memory_mb > n->n.memory_mb
        || (disk_mb > 0 && n->used_disk_mb + disk_mb > n->n.disk_mb))
        return false;
    for (uint32_t i = 0; i < ports->n; i++) {
        struct port_use *u;
        int64_t key = port_key(&ports->v[i]);
        HASH_FIND(hh, n->ports, &key, sizeof(key), u);
        if (u)
            return false;
    }
    return true;
}

/* --- nodes --- */

static void list_down(struct core *c, struct node_entry *n)
{
    bool down = n->n.state == NODE_DOWN;
    if (down == n->listed_down)
        return;
    n->listed_down = down;
    if (!down) {
        TAILQ_REMOVE(&c->down_nodes, n, down);
        return;
    }
    /* the last one, but when a snapshot is read, or after clocks were set back */
    struct node_entry *before = TAILQ_LAST(&c->down_nodes, down_list_head);
    while (before && before->n.state_since > n->n.state_since)
        before = TAILQ_PREV(before, down_list_head, down);
    if (before)
        TAILQ_INSERT_AFTER(&c->down_nodes, before, n, down);
    else
        TAILQ_INSERT_HEAD(&c->down_nodes, n, down);
}

void state_add_node(struct core *c, struct node_entry *n)
{
    RB_INIT(&n->allocs);
    RB_INIT(&n->work);
    RB_INSERT(node_id_tree, &c->nodes, n);
    RB_INSERT(node_name_tree, &c->node_names, n);
    sched_node_set(c->sched, &n->n);
    list_down(c, n);
    ingress_node_changed(c, n);
    c->counts.nodes[n->n.state]++;
    c->room = true;
}

static void node_free(struct node_entry *n)
{
    struct port_use *u, *next;
    HASH_ITER(hh, n->ports, u, next) {
        HASH_DEL(n->ports, u);
        free(u);
    }
    while (!STAILQ_EMPTY(&n->gone)) {
        struct gone_entry *g = STAILQ_FIRST(&n->gone);
        STAILQ_REMOVE_HEAD(&n->gone, link);
        free(g->id);
        free(g);
    }
    type_clear(&node_type, &n->n);
    type_clear(&acme_report_type, &n->acme);
    free(n->ingress_problem);
    free(n);
}

void state_remove_node(struct core *c, struct node_entry *n)
{
    INVARIANT(RB_EMPTY(&n->allocs));
    if (n->listed_down)
        TAILQ_REMOVE(&c->down_nodes, n, down);
    n->n.ingress = false;
    ingress_node_changed(c, n);
    if (n->n.network.subnet)
        network_nodes_changed(c);
    RB_REMOVE(node_id_tree, &c->nodes, n);
    RB_REMOVE(node_name_tree, &c->node_names, n);
    sched_node_remove(c->sched, n->n.id);
    c->counts.nodes[n->n.state]--;
    c->room = true;
    changed(c, CORE_NODE);
    changed(c, CORE_NODE_WORK);
    node_free(n);
}

void state_set_node_state(struct core *c, struct node_entry *n, enum node_state state, const char *reason)
{
    enum node_state from = n->n.state;
    c->counts.nodes[from]--;
    c->counts.nodes[state]++;
    n->n.state = state;
    mem_set_string(&n->n.state_reason, reason);
    n->n.state_since = c->now;
    list_down(c, n);
    ingress_node_changed(c, n);
    sched_node_set(c->sched, &n->n);
    state_touch_node(c, n);
    state_set_dirty_node(c, n);
    state_set_dirty_every_node(c);
    c->room = true;                         /* or the reason why there is none is another one now */
    state_event(c, (struct event_text){.kind = "node", .subject = n->n.name, .node = n->n.id,
                                       .from = enum_name(node_state_names, (int)from),
                                       .to = enum_name(node_state_names, (int)state)}, "%s", reason ? reason : "");
}

/* --- services, jobs, versions, deployments --- */

struct service_entry *state_add_service(struct core *c, const char *name)
{
    struct service_entry *s = NEW(struct service_entry);
    s->name = mem_strdup(name);
    TAILQ_INIT(&s->versions);
    TAILQ_INIT(&s->deployments);
    RB_INIT(&s->allocs);
    s->create_index = c->index;
    s->wake_at = NEVER;
    RB_INSERT(service_tree, &c->services, s);
    c->counts.services++;
    return s;
}

static bool is_machine(const struct version_entry *v)
{
    return v->v.spec.driver == DRIVER_FIRECRACKER;
}

static void version_free(struct service_entry *s, struct version_entry *v)
{
    s->machines -= is_machine(v);
    s->job->machines -= is_machine(v);
    TAILQ_REMOVE(&s->versions, v, link);
    type_clear(&service_version_type, &v->v);
    free(v);
}

void state_remove_service(struct core *c, struct service_entry *s)
{
    INVARIANT(RB_EMPTY(&s->allocs));
    state_clear_dirty(c, s);
    state_set_blocked(c, s, false);
    state_set_wake(c, s, NEVER);
    peers_forget(c, s);
    ingress_forget(c, s);
    network_forget(c, s);
    if (s->in_every)
        TAILQ_REMOVE(&c->every_node, s, every_link);
    while (!TAILQ_EMPTY(&s->deployments))
        state_remove_deployment(c, TAILQ_FIRST(&s->deployments));
    while (!TAILQ_EMPTY(&s->versions))
        version_free(s, TAILQ_FIRST(&s->versions));
    state_move_service(c, s, NULL, 0);
    RB_REMOVE(service_tree, &c->services, s);
    c->counts.services--;
    changed(c, CORE_SERVICE);
    forget_status(s);
    free(s->reason);
    free(s->name);
    free(s);
}

struct job_entry *state_add_job(struct core *c, const char *name)
{
    struct job_entry *j = NEW(struct job_entry);
    j->name = mem_strdup(name);
    j->create_index = c->index;
    TAILQ_INIT(&j->services);
    RB_INSERT(job_tree, &c->jobs, j);
    return j;
}

static void remove_job(struct core *c, struct job_entry *j)
{
    RB_REMOVE(job_tree, &c->jobs, j);
    free(j->name);
    free(j);
}

/* A job whose last service leaves is gone. */
void state_move_service(struct core *c, struct service_entry *s, struct job_entry *job, int64_t position)
{
    struct job_entry *old = s->job;
    struct service_entry *next;
    if (old) {
        TAILQ_REMOVE(&old->services, s, in_job);
        old->machines -= s->machines;
    }
    s->job = job;
    s->position = position;
    if (job) {
        job->machines += s->machines;
        TAILQ_FOREACH(next, &job->services, in_job)
            if (next->position > position)
                break;
        if (next)
            TAILQ_INSERT_BEFORE(next, s, in_job);
        else
            TAILQ_INSERT_TAIL(&job->services, s, in_job);
    }
    forget_status(s);
    changed(c, CORE_JOB);
    if (!old || old == job || !TAILQ_EMPTY(&old->services))
        return;
    remove_job(c, old);
}

void state_set_current(struct core *c, struct service_entry *s, struct version_entry *v)
{
    TAILQ_INSERT_TAIL(&s->versions, v, link);
    v->names_peers = spec_names_peers(&v->v.spec);
    s->current = v;
    s->machines += is_machine(v);
    s->job->machines += is_machine(v);
    s->job->ordered |= v->v.spec.after.n > 0;
    s->last_version = v->v.version;
    bool every = v->v.spec.mode == MODE_EVERY_NODE;
    if (every && !s->in_every)
        TAILQ_INSERT_TAIL(&c->every_node, s, every_link);
    else if (!every && s->in_every)
        TAILQ_REMOVE(&c->every_node, s, every_link);
    s->in_every = every;
}

static bool version_in_use(struct service_entry *s, const struct version_entry *v)
{
    struct alloc_entry *a;
    RB_FOREACH(a, alloc_replica_tree, &s->allocs)
        if (entry_live(a) && a->a.version == v->v.version)
            return true;
    return false;
}

void state_trim_versions(struct service_entry *s)
{
    struct version_entry *next;
    for (struct version_entry *v = TAILQ_FIRST(&s->versions); v; v = next) {
        next = TAILQ_NEXT(v, link);
        if (v->v.version + VERSIONS_KEPT > s->last_version)
            return;
        if (v->v.version != s->stable_version && !version_in_use(s, v))
            version_free(s, v);
    }
}

void state_add_deployment(struct core *c, struct service_entry *s, struct deployment_entry *d)
{
    uint32_t n = 0;
    struct deployment_entry *old;
    d->service = s;
    RB_INSERT(deployment_tree, &c->deployments, d);
    TAILQ_INSERT_TAIL(&s->deployments, d, link);
    TAILQ_FOREACH(old, &s->deployments, link)
        n++;
    if (n > DEPLOYMENTS_KEPT)
        state_remove_deployment(c, TAILQ_FIRST(&s->deployments));
    changed(c, CORE_DEPLOYMENT);
}

void state_remove_deployment(struct core *c, struct deployment_entry *d)
{
    TAILQ_REMOVE(&d->service->deployments, d, link);
    RB_REMOVE(deployment_tree, &c->deployments, d);
    changed(c, CORE_DEPLOYMENT);
    type_clear(&deployment_entry_type, d);
    free(d);
}

/* --- allocations --- */

void state_add_alloc(struct core *c, struct alloc_entry *a)
{
    RB_INSERT(alloc_id_tree, &c->allocs, a);
    RB_INSERT(alloc_replica_tree, &a->service->allocs, a);
    RB_INSERT(alloc_node_tree, &a->node->allocs, a);
    RB_INSERT(alloc_work_tree, &a->node->work, a);
    a->service->alloc_count++;
    c->counts.allocs[a->a.state]++;
    if (entry_live(a))
        take_room(c, a, true);
}

static void free_alloc(struct alloc_entry *a)
{
    type_clear(&alloc_entry_type, a);
    free(a);
}

void state_remove_alloc(struct core *c, struct alloc_entry *a, bool tell_agent)
{
    struct node_entry *n = a->node;
    INVARIANT(!entry_live(a));
    if (tell_agent) {
        struct gone_entry *g = NEW(struct gone_entry);
        g->index = c->index;
        g->id = mem_strdup(a->a.id);
        STAILQ_INSERT_TAIL(&n->gone, g, link);
        n->work_index = c->index;
        changed(c, CORE_NODE_WORK);
        if (++n->gone_count > GONE_KEPT) {
            g = STAILQ_FIRST(&n->gone);
            STAILQ_REMOVE_HEAD(&n->gone, link);
            n->gone_floor = g->index;
            n->gone_count--;
            free(g->id);
            free(g);
        }
    }
    RB_REMOVE(alloc_work_tree, &n->work, a);
    RB_REMOVE(alloc_node_tree, &n->allocs, a);
    RB_REMOVE(alloc_replica_tree, &a->service->allocs, a);
    RB_REMOVE(alloc_id_tree, &c->allocs, a);
    a->service->alloc_count--;
    c->counts.allocs[a->a.state]--;
    changed(c, CORE_ALLOC);
    state_touch_service(c, a->service);
    free_alloc(a);
}

static void alloc_event(struct core *c, const struct alloc_entry *a, const char *from, const char *to, const char *reason)
{
    state_event(c, (struct event_text){.kind = "alloc", .subject = a->a.id, .service = a->a.service, .alloc = a->a.id,
                                       .node = a->a.node_id, .from = from, .to = to}, "%s", reason ? reason : "");
}

void state_set_alloc_state(struct core *c, struct alloc_entry *a, enum alloc_state state, const char *reason)
{
    enum alloc_state from = a->a.state;
    bool was_live = entry_live(a);
    struct node_entry *n = a->node;
    if (was_live && state >= ALLOC_COMPLETE)
        take_room(c, a, false);
    c->counts.allocs[from]--;
    c->counts.allocs[state]++;
    a->a.state = state;
    a->a.state_since = c->now;
    mem_set_string(&a->a.reason, reason);
    const struct version_entry *v = state_version(a->service, a->a.version);
    bool checked = v && v->v.spec.health.type != HEALTH_NONE;
    bool ok = state == ALLOC_HEALTHY || (state == ALLOC_RUNNING && !checked);
    if (state >= ALLOC_RUNNING && state <= ALLOC_UNHEALTHY && a->running_since == 0)
        a->running_since = c->now;
    if (state < ALLOC_RUNNING)
        a->running_since = 0;
    if (state < ALLOC_COMPLETE)
        a->ok_since = !ok ? 0 : a->ok_since ? a->ok_since : c->now;
    else
        a->ended_at = c->now;
    if (was_live && !entry_live(a))
        peers_set_changed(c, a->service);
    state_touch_alloc(c, a);
    alloc_event(c, a, enum_name(alloc_state_names, (int)from), enum_name(alloc_state_names, (int)state), reason);
    if (!was_live || entry_live(a) || n->n.state != NODE_DRAINING)
        return;
    /* what stays on a draining node until the last looks again whether it is its turn */
    state_set_dirty_node(c, n);
    if (n->live == 0) {
        mem_set_string(&n->n.state_reason, "drained");
        state_touch_node(c, n);
        state_event(c, event_of_node(n), "drained");
    }
}

void state_set_alloc_reason(struct core *c, struct alloc_entry *a, const char *reason)
{
    const char *state = enum_name(alloc_state_names, (int)a->a.state);
    mem_set_string(&a->a.reason, reason);
    state_touch_alloc(c, a);
    alloc_event(c, a, state, state, reason);
}

void state_stop_alloc(struct core *c, struct alloc_entry *a, const char *reason)
{
    a->a.desired = DESIRED_STOP;
    mem_set_string(&a->a.desired_reason, reason);
    peers_set_changed(c, a->service);
    state_touch_work(c, a);
    const char *state = enum_name(alloc_state_names, (int)a->a.state);
    char *text = mem_printf("to be stopped: %s", reason);
    alloc_event(c, a, state, state, text);
    free(text);
}

void state_leave_alloc(struct core *c, struct alloc_entry *a, enum alloc_leaving to, const char *reason)
{
    a->a.leaving = to;
    if (!a->left_index) {
        a->left_index = c->index;
        a->left_at = c->now;
    }
    if (to == LEAVING_TO_STOP) {
        mem_set_string(&a->a.desired_reason, reason);
        peers_set_changed(c, a->service);
    }
    state_touch_alloc(c, a);
    const char *state = enum_name(alloc_state_names, (int)a->a.state);
    CLEANUP_FREE char *text = mem_printf("takes no new requests, is %s when those under way are finished: %s",
                                         to == LEAVING_TO_STOP ? "stopped" : "restarted", reason);
    alloc_event(c, a, state, state, text);
}

void state_stay_alloc(struct core *c, struct alloc_entry *a)
{
    a->a.leaving = LEAVING_NOT;
    a->left_index = 0;
    a->left_at = 0;
    str_list_clear(&a->idle_at);
    ingress_set_changed(c, a->service);
    network_set_changed(c, a->service);
}

/* --- members, join tokens --- */

void state_remove_member(struct core *c, struct member_entry *m)
{
    RB_REMOVE(member_tree, &c->members, m);
    type_clear(&member_type, &m->m);
    free(m);
}

void state_remove_token(struct core *c, struct token_entry *t)
{
    TAILQ_REMOVE(&c->tokens, t, link);
    type_clear(&join_token_type, &t->t);
    free(t);
}

/* --- all of it --- */

void state_init(struct core *c)
{
    c->sched = sched_new();
    TAILQ_INIT(&c->dirty);
    TAILQ_INIT(&c->blocked);
    TAILQ_INIT(&c->every_node);
    STAILQ_INIT(&c->peers_changed);
    STAILQ_INIT(&c->ingress_changed);
    STAILQ_INIT(&c->network_changed);
    TAILQ_INIT(&c->ingress_nodes);
    TAILQ_INIT(&c->down_nodes);
    TAILQ_INIT(&c->key_order);
    TAILQ_INIT(&c->tokens);
}

void state_clear(struct core *c)
{
    while (!RB_EMPTY(&c->allocs)) {
        struct alloc_entry *a = RB_ROOT(&c->allocs);
        RB_REMOVE(alloc_id_tree, &c->allocs, a);
        RB_REMOVE(alloc_replica_tree, &a->service->allocs, a);
        free_alloc(a);
    }
    while (!RB_EMPTY(&c->services))
        state_remove_service(c, RB_ROOT(&c->services));
    /* None but in a damaged snapshot that broke off between a job and its first service. */
    while (!RB_EMPTY(&c->jobs))
        remove_job(c, RB_ROOT(&c->jobs));
    while (!RB_EMPTY(&c->nodes)) {
        struct node_entry *n = RB_ROOT(&c->nodes);
        RB_REMOVE(node_id_tree, &c->nodes, n);
        node_free(n);
    }
    while (!TAILQ_EMPTY(&c->key_order))
        keys_remove(c, TAILQ_FIRST(&c->key_order));
    while (!TAILQ_EMPTY(&c->tokens))
        state_remove_token(c, TAILQ_FIRST(&c->tokens));
    while (!RB_EMPTY(&c->members))
        state_remove_member(c, RB_ROOT(&c->members));
    str_list_clear(&c->clusters);
    type_clear(&policy_type, &c->policy);
    type_clear(&access_type, &c->access);
    type_clear(&secrets_type, &c->secrets);
    free(c->staging.upload);
    buf_free(&c->staging.bytes);
    for (uint32_t i = 0; i < c->event_cap; i++)
        type_clear(&event_type, &c->events[i]);
    free(c->events);
    sched_free(c->sched);
    *c = (struct core){0};
}

/* The first entry of a list points back into its head. */
#define MOVE_HEAD(list, link)                                              \
    do {                                                                   \
        if (TAILQ_EMPTY(&from->list))                                      \
            TAILQ_INIT(&to->list);                                         \
        else                                                               \
            TAILQ_FIRST(&to->list)->link.tqe_prev = &to->list.tqh_first;   \
    } while (0)

void state_move(struct core *to, struct core *from)
{
    INVARIANT(STAILQ_EMPTY(&from->peers_changed) && STAILQ_EMPTY(&from->ingress_changed)
              && STAILQ_EMPTY(&from->network_changed));
    *to = *from;
    STAILQ_INIT(&to->peers_changed);
    STAILQ_INIT(&to->ingress_changed);
    STAILQ_INIT(&to->network_changed);
    MOVE_HEAD(tokens, link);
    MOVE_HEAD(key_order, link);
    MOVE_HEAD(dirty, dirty_link);
    MOVE_HEAD(blocked, blocked_link);
    MOVE_HEAD(every_node, every_link);
    MOVE_HEAD(down_nodes, down);
    MOVE_HEAD(ingress_nodes, ingress_link);
    free(from);
}
