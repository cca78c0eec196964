/* The linker turns the core's calls of these functions (--wrap, in meson.build) to the ones here. */
#include "breaks.h"

#include <stddef.h>
#include <string.h>

#include "core/analysis.h"
#include "core/beside.h"
#include "core/ingress.h"
#include "core/reconcile.h"
#include "core/sched_ports.h"
#include "core/state.h"

enum broken broken;

static const struct { const char *name, *noticed; } breaks[] = {
    [BREAK_CAPACITY] = {"capacity", "over its capacity"},
    [BREAK_RECHECK] = {"recheck", "over its capacity"},
    [BREAK_DEMAND] = {"demand", "did not get the room"},
    [BREAK_PORTS] = {"ports", "is twice on node"},
    [BREAK_STOPS] = {"stops", "was decided and not done"},
    [BREAK_DRAINS] = {"drains", "should be draining"},
    [BREAK_WAKES] = {"wakes", "but a fresh one does"},
    [BREAK_STATE] = {"state", "the state of a"},
    [BREAK_ANSWERS] = {"answers", "two servers differ"},
    [BREAK_LOG] = {"log", "two servers differ"},
    [BREAK_REPORTS] = {"reports", "as the servers believe"},
    [BREAK_LEAVING] = {"leaving", "is to end while it takes requests"},
    [BREAK_IDLE] = {"idle", "is to end while the proxy"},
    [BREAK_SWITCH] = {"switch", "two versions of service"},
    [BREAK_BATCHES] = {"batches", "replicas in the traffic, and may take out"},
    [BREAK_MEASURES] = {"measures", "and passed its analysis"},
};

bool break_on_purpose(const char *name)
{
    for (size_t i = 1; i < ARRAY_LEN(breaks); i++)
        if (strcmp(breaks[i].name, name) == 0)
            broken = (enum broken)i;
    return broken != BREAK_NOTHING;
}

bool break_is_noticed(const char *failure)
{
    return strstr(failure, breaks[broken].noticed) != NULL;
}

/* Each is named twice: as the linker calls the core's own, and as it calls this one. */
#define WRAPPED(type, name, ...) type __real_##name(__VA_ARGS__); type __wrap_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__)

WRAPPED(bool, state_node_has_room, const struct node_entry *n, double cpus, int64_t memory_mb, int64_t disk_mb,
        const struct alloc_port_list *ports)
{
    return broken == BREAK_RECHECK || broken == BREAK_PORTS
           || __real_state_node_has_room(n, cpus, memory_mb, disk_mb, ports);
}

WRAPPED(void, sched_demand, const struct service *spec, double *cpus, int64_t *memory_mb, int64_t *disk_mb)
{
    __real_sched_demand(spec, cpus, memory_mb, disk_mb);
    if (broken == BREAK_DEMAND)
        *cpus = 0;
}

WRAPPED(void, port_choose, const struct port_set *s, const struct port_list *ports,
        const struct alloc_port_list *free_anyway, uint64_t seed, struct alloc_port_list *out)
{
    __real_port_choose(s, ports, free_anyway, seed, out);
    for (uint32_t i = 0; i < out->n && broken == BREAK_PORTS; i++)
        out->v[i].host = PORT_DYNAMIC_FIRST;
}

WRAPPED(void, state_stop_alloc, struct core *c, struct alloc_entry *a, const char *reason)
{
    if (broken != BREAK_STOPS)
        __real_state_stop_alloc(c, a, reason);
}

WRAPPED(void, state_set_node_state, struct core *c, struct node_entry *n, enum node_state state, const char *reason)
{
    if (broken != BREAK_DRAINS || state != NODE_DRAINING)
        __real_state_set_node_state(c, n, state, reason);
}

WRAPPED(void, state_set_blocked, struct core *c, struct service_entry *s, bool blocked)
{
    __real_state_set_blocked(c, s, blocked && broken != BREAK_WAKES);
}

WRAPPED(void, state_add_deployment, struct core *c, struct service_entry *s, struct deployment_entry *d)
{
    static int64_t outside;
    if (broken == BREAK_STATE)
        d->progress_at += ++outside;
    __real_state_add_deployment(c, s, d);
}

WRAPPED(struct service_entry *, state_add_service, struct core *c, const char *name)
{
    static unsigned outside;
    if (broken == BREAK_ANSWERS && ++outside % 3 == 0)
        state_event(c, (struct event_text){.kind = "service", .subject = name, .service = name}, "a third one");
    return __real_state_add_service(c, name);
}

WRAPPED(bool, ingress_must_leave, const struct core *c, const struct alloc_entry *a)
{
    return broken != BREAK_LEAVING && __real_ingress_must_leave(c, a);
}

WRAPPED(bool, ingress_has_left, const struct core *c, const struct alloc_entry *a, int64_t now, int64_t *until)
{
    return __real_ingress_has_left(c, a, now, until) || (broken == BREAK_IDLE && a->left_index);
}

WRAPPED(const struct deployment_entry *, beside_shares, const struct service_entry *s)
{
    return broken == BREAK_SWITCH ? NULL : __real_beside_shares(s);
}

WRAPPED(void, deploy_replace, struct pass *p)
{
    const struct service *spec = p->want.spec;
    struct service larger = *spec;       /* shallow */
    larger.deploy.max_unavailable = spec->count;
    p->want.spec = broken == BREAK_BATCHES ? &larger : spec;
    __real_deploy_replace(p);
    p->want.spec = spec;
}

WRAPPED(void, analysis_take, struct core *c, const struct node_entry *n, const struct ingress_measure *m)
{
    for (uint32_t i = 0; i < m->versions.n && broken == BREAK_MEASURES; i++)
        m->versions.v[i].errors = 0;
    __real_analysis_take(c, n, m);
}
