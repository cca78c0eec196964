/* Observe: what single commands should do and did, and what is remembered of them. */
#include <stdio.h>
#include <string.h>

#include "world.h"

void known_clear(struct known *k)
{
    struct known_alloc *a, *next_alloc;
    struct known_node *n, *next_node;
    HASH_ITER(hh, k->allocs, a, next_alloc) {
        HASH_DEL(k->allocs, a);
        free(a);
    }
    HASH_ITER(hh, k->nodes, n, next_node) {
        HASH_DEL(k->nodes, n);
        free(n);
    }
}

static const struct command_decide *as_decision(const struct command *c)
{
    return c->kind == COMMAND_DECIDE ? c->payload : NULL;
}

/* --- a decision, against the state that it was made for --- */

static const char *value_of(const struct node *n, const char *attribute)
{
    const char *v = strcmp(attribute, "node.name") == 0 ? n->name : kv_get(&n->meta, "zone");
    return v ? v : "";
}

/* Of those that actions.c makes; out of a broken command may have come others. */
static bool condition_holds(const struct constraint *k, const struct node *n)
{
    if (k->op > OP_NE || strcmp(k->attribute, "meta.zone") != 0)
        return true;
    bool equal = strcmp(value_of(n, k->attribute), k->value.v[0]) == 0;
    return k->op == OP_EQ ? equal : !equal;
}

struct distinct_walk { const struct core *c; const char *attribute, *value; bool found; };

static bool find_value(void *ctx, const struct alloc *a)
{
    struct distinct_walk *walk = ctx;
    const struct node *n = alloc_live(a) ? core_node(walk->c, a->node_id) : NULL;
    walk->found |= n && strcmp(value_of(n, walk->attribute), walk->value) == 0;
    return !walk->found;
}

static bool is_distinct(const struct core *c, const struct command_decide *d, uint32_t i, const struct constraint *k,
                        const struct node *n)
{
    const struct decide_place *p = &d->places.v[i];
    struct distinct_walk walk = {.c = c, .attribute = k->attribute, .value = value_of(n, k->attribute)};
    if (strcmp(k->attribute, "meta.zone") != 0 && strcmp(k->attribute, "node.name") != 0)
        return true;
    core_service_allocs(c, p->service, find_value, &walk);
    for (uint32_t j = 0; j < i && !walk.found; j++) {
        const struct node *other = core_node(c, d->places.v[j].node_id);
        walk.found = strcmp(d->places.v[j].service, p->service) == 0
                     && strcmp(value_of(other, k->attribute), walk.value) == 0;
    }
    return !walk.found;
}

/* Also of an older version, which is kept complete beside a newer one. The caller clears the versions. */
static const struct service *spec_of(const struct core *c, const char *service, uint64_t version,
                                     struct service_version_list *versions)
{
    core_service_versions(c, service, versions);
    for (uint32_t i = 0; i < versions->n; i++)
        if (versions->v[i].version == version)
            return &versions->v[i].spec;
    return &core_service(c, service)->spec;
}

static void check_place(struct world *w, const struct core *c, const struct command_decide *d, uint32_t i)
{
    const struct decide_place *p = &d->places.v[i];
    const struct node *n = core_node(c, p->node_id);
    struct service_version_list versions;
    const struct service *spec = spec_of(c, p->service, p->version, &versions);
    if (!n || n->state != NODE_READY || !n->drivers.v[0].healthy) {
        world_fail(w, "replica %lld of service %s is to be placed on node %s, which is not ready", (long long)p->replica,
                   p->service, n ? n->name : p->node_id);
        list_clear((struct list *)&versions, &service_version_type);
        return;
    }
    for (uint32_t j = 0; j < spec->constraints.n; j++) {
        const struct constraint *k = &spec->constraints.v[j];
        if (!condition_holds(k, n) || (k->op == OP_DISTINCT && !is_distinct(c, d, i, k, n)))
            world_fail(w, "replica %lld of service %s is to be placed on node %s against its constraint of %s",
                       (long long)p->replica, p->service, n->name, k->attribute);
    }
    list_clear((struct list *)&versions, &service_version_type);
}

static void check_priorities(struct world *w, const struct core *c, const struct command_decide *d)
{
    for (uint32_t i = 1; i < d->places.n; i++) {
        const struct service *before = &core_service(c, d->places.v[i - 1].service)->spec;
        const struct service *after = &core_service(c, d->places.v[i].service)->spec;
        if (before->priority < after->priority)
            world_fail(w, "service %s is placed before %s, which has a higher priority", before->name, after->name);
        if (before->priority != after->priority)
            count(w, COUNT_PRIORITIES);
    }
}

void check_decision(struct world *w, const struct core *c, const void *bytes, size_t len)
{
    CLEANUP_COMMAND struct command cmd;
    struct error err;
    INVARIANT(command_decode(bytes, len, &cmd, &err) == 0);
    const struct command_decide *d = as_decision(&cmd);
    for (uint32_t i = 0; i < d->places.n && !world_failed(w); i++)
        check_place(w, c, d, i);
    for (uint32_t i = 0; i < d->services.n; i++)
        if (d->services.v[i].unplaced)
            count(w, COUNT_NO_ROOM);
        else if (d->services.v[i].reason && strstr(d->services.v[i].reason, "waits for service"))
            count(w, COUNT_HELD);
    if (!world_failed(w))
        check_priorities(w, c, d);
}

/* --- what was placed --- */

static void count_kind(struct world *w, const struct service *spec, const struct decide_place *p)
{
    bool distinct = false, fixed = false;
    for (uint32_t i = 0; i < spec->constraints.n; i++)
        distinct |= spec->constraints.v[i].op == OP_DISTINCT;
    for (uint32_t i = 0; i < spec->ports.n; i++)
        fixed |= spec->ports.v[i].host != 0;
    const struct { bool it_is; enum count what; } kinds[] = {
        {true, COUNT_PLACED}, {p->attempt > 0, COUNT_RETRIED}, {spec->mode == MODE_EVERY_NODE, COUNT_EVERY_NODE},
        {spec->schedule, COUNT_RUNS}, {spec->spread, COUNT_SPREAD}, {distinct, COUNT_DISTINCT},
        {spec->affinities.n, COUNT_AFFINITIES}, {fixed, COUNT_STATIC_PORTS}, {spec->volumes.n, COUNT_VOLUMES},
    };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (kinds[i].it_is)
            count(w, kinds[i].what);
}

struct volume_walk { struct world *w; const struct alloc *of; };

static bool find_volume(void *ctx, const struct alloc *a)
{
    struct volume_walk *walk = ctx;
    struct known_alloc *known;
    if (!alloc_live(a) || a->replica != walk->of->replica || a == walk->of)
        return true;
    HASH_FIND_STR(walk->w->known.allocs, a->id, known);
    if (known && known->volume && (!known->every_node || strcmp(a->node_id, walk->of->node_id) == 0))
        world_fail(walk->w, "the volume of replica %lld of service %s is used by %s and %s", (long long)a->replica,
                   a->service, a->id, walk->of->id);
    return true;
}

static void check_demand(struct world *w, const struct service *spec, const struct alloc *a)
{
    bool right = a->ports.n == spec->ports.n;
    for (uint32_t i = 0; i < spec->ports.n && right; i++) {
        int64_t host = a->ports.v[i].host, asked = spec->ports.v[i].host;
        right = asked ? host == asked : host >= 20000 && host <= 32000;
    }
    if (!right || a->cpus != spec->resources.cpus || a->memory_mb != spec->resources.memory_mb)
        world_fail(w, "allocation %s did not get the room and ports that service %s asks for", a->id, a->service);
}

static void observe_place(struct world *w, const struct core *c, const struct decide_place *p, const struct alloc *a)
{
    const struct service_version *v = core_service(c, p->service);
    struct known_alloc *known = NEW(struct known_alloc);
    struct known_node *n;
    strcpy(known->id, a->id);
    HASH_ADD_STR(w->known.allocs, id, known);
    HASH_FIND_STR(w->known.nodes, a->node_id, n);
    if (!n || n->state != NODE_READY)
        world_fail(w, "allocation %s was placed on node %s, which is not ready", a->id, a->node_name);
    if (v->version != p->version)            /* the same decision took the version back */
        return;
    count_kind(w, &v->spec, p);
    check_demand(w, &v->spec, a);
    known->volume = v->spec.volumes.n;
    known->every_node = v->spec.mode == MODE_EVERY_NODE;
    if (known->volume)
        core_service_allocs(c, a->service, find_volume, &(struct volume_walk){w, a});
}

/* A leader's decision that nothing came before is carried out as a whole. */
static void observe_decision(struct world *w, const struct core *c, const struct entry *e, const struct command_decide *d)
{
    uint64_t before = e == w->s.log ? 0 : e[-1].index;
    bool leads = e->origin.asker == ASKER_LEADER, whole = leads && before == e->origin.decided_at;
    if (leads && !whole)
        count(w, COUNT_DECISIONS_OVERTAKEN);
    for (uint32_t i = 0; i < d->places.n; i++) {
        const struct alloc *a = core_alloc(c, d->places.v[i].alloc_id);
        if (a && a->create_index == core_index(c))
            observe_place(w, c, &d->places.v[i], a);
        else if (whole)
            world_fail(w, "replica %lld of service %s was decided and not placed", (long long)d->places.v[i].replica,
                       d->places.v[i].service);
        else
            count(w, COUNT_NOT_PLACED);
    }
    for (uint32_t i = 0; i < d->stops.n && whole; i++) {
        const struct alloc *a = core_alloc(c, d->stops.v[i].alloc_id);
        if (!a || (a->desired != DESIRED_STOP && a->leaving != LEAVING_TO_STOP))
            world_fail(w, "the stop of allocation %s was decided and not done", d->stops.v[i].alloc_id);
    }
    for (uint32_t i = 0; i < d->forget_nodes.n; i++) {
        struct known_node *n;
        HASH_FIND_STR(w->known.nodes, d->forget_nodes.v[i], n);
        if (!n || core_node(c, n->id))
            continue;
        HASH_DEL(w->known.nodes, n);
        free(n);
    }
}

/* --- nodes, as the log alone has them --- */

static void observe_register(struct world *w, const struct entry *e, const char *id)
{
    struct known_node *n;
    HASH_FIND_STR(w->known.nodes, id, n);
    if (!n) {
        n = NEW(struct known_node);
        strcpy(n->id, id);
        HASH_ADD_STR(w->known.nodes, id, n);
        n->state = n->wanted = NODE_READY;
        n->facts = &w->nodes[e->origin.node].facts;
    } else if (n->state == NODE_DOWN) {
        n->state = n->wanted;
    }
}

static void observe_node_state(struct world *w, const struct command_node_state *p)
{
    struct known_node *n;
    HASH_FIND_STR(w->known.nodes, p->node_id, n);
    if (!n)
        return;
    if (p->state != NODE_DOWN)
        n->wanted = p->state;
    if (n->state != NODE_DOWN)
        n->state = p->state;
}

static void observe_remove(struct world *w, const char *id)
{
    struct known_node *n;
    HASH_FIND_STR(w->known.nodes, id, n);
    if (!n)
        return;
    HASH_DEL(w->known.nodes, n);
    free(n);
}

/* --- requests with a key: remembered for a day, by clocks that may differ --- */

#define KEY_SURE_MS (23 * 3600 * 1000LL)
#define KEY_FORGOTTEN_MS (25 * 3600 * 1000LL)

static void observe_key(struct world *w, const struct command *c, const struct core_result *r)
{
    unsigned number;
    if (!c->key || sscanf(c->key, "key-%u", &number) != 1 || number >= KEYS)
        return;
    CLEANUP_BUF struct buf request = {0};
    type_encode(command_payload_type(c->kind), c->payload, &request);
    uint64_t asked = hash_bytes(request.data, request.len, 0);
    uint64_t answer = hash_bytes(r->body.data ? r->body.data : "", r->body.len, (uint64_t)r->error.code);
    struct known_answer *known = &w->known.answers[number];
    int64_t age = c->time - known->time;
    known->unsure |= known->request && age > KEY_SURE_MS && age < KEY_FORGOTTEN_MS;
    if (known->unsure)
        return;
    if (!known->request || age >= KEY_FORGOTTEN_MS) {
        *known = (struct known_answer){.request = asked, .answer = answer, .time = c->time};
    } else if (known->request == asked) {
        count(w, COUNT_REPEATED);
        if (known->answer != answer)
            world_fail(w, "a repeated request got another answer: %s", r->body.data ? r->body.data : r->error.text);
    } else if (r->error.code != ERROR_CONFLICT) {
        world_fail(w, "another request with key %s was not refused", c->key);
    }
}

/* --- events --- */

static bool begins(const char *text, const char *with)
{
    return text && strncmp(text, with, strlen(with)) == 0;
}

static void observe_version(struct world *w, const char *why)
{
    long long from, to;
    if (sscanf(why, "scaled from %lld to %lld", &from, &to) == 2)
        count(w, to > from ? COUNT_SCALED_UP : COUNT_SCALED_DOWN);
    else if (begins(why, "rollback"))
        count(w, COUNT_ROLLBACKS);
}

static void observe_event(struct world *w, const struct event *e)
{
    static const struct { const char *kind, *to, *reason; enum count what; } table[] = {
        {"node", "down", NULL, COUNT_NODES_LOST},
        {"node", NULL, "drained", COUNT_NODES_DRAINED},
        {"node", NULL, "removed", COUNT_NODES_REMOVED},
        {"node", NULL, "forgotten", COUNT_NODES_FORGOTTEN},
        {"deployment", "successful", NULL, COUNT_DEPLOYED},
        {"deployment", "failed", NULL, COUNT_DEPLOY_FAILED},
        {"deployment", "reverted", NULL, COUNT_REVERTED},
        {"deployment", "cancelled", "a newer version", COUNT_SUPERSEDED},
        {"deployment", "paused", NULL, COUNT_PAUSED},
        {"deployment", "running", "promoted", COUNT_PROMOTED},
        {"deployment", NULL, "the canary passed its analysis", COUNT_ANALYSES_PASSED},
        {"deployment", NULL, "the canary did not pass its analysis", COUNT_ANALYSES_FAILED},
        {"deployment", NULL, "the canary could not be analysed", COUNT_ANALYSES_OPEN},
        {"deployment", "successful", "all replicas serve; the new version passed its analysis", COUNT_ROLLOUTS_PASSED},
        {"deployment", NULL, "the new version did not pass its analysis", COUNT_ROLLOUTS_WORSE},
        {"deployment", "successful", "all replicas serve; the new version could not be analysed", COUNT_ROLLOUTS_OPEN},
        {"deployment", "running", "its standby is over", COUNT_STANDBYS},
        {"deployment", "reverted", "aborted", COUNT_ABORTED},
        {"deployment", "reverted", "rolled back", COUNT_ROLLED_BACK},
        {"service", "stopped", NULL, COUNT_STOPPED},
        {"service", NULL, "purged", COUNT_PURGED},
        {"service", NULL, "a due run was skipped", COUNT_RUNS_SKIPPED},
        {"alloc", NULL, "restarted with its service", COUNT_RESTARTED},
        {"alloc", NULL, "restart was asked for", COUNT_ALLOCS_RESTARTED},
        {"alloc", NULL, "to be stopped: stop was asked for", COUNT_ALLOCS_STOPPED},
        {"alloc", NULL, "to be stopped: its replacement serves, and its node drains", COUNT_DRAIN_MOVES},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (strcmp(e->kind, table[i].kind) == 0 && (!table[i].to || (e->to && strcmp(e->to, table[i].to) == 0))
            && (!table[i].reason || begins(e->reason, table[i].reason)))
            count(w, table[i].what);
    int at = 0;
    if (strcmp(e->kind, "service") == 0 && e->reason && sscanf(e->reason, "version %*u: %n", &at) == 0 && at)
        observe_version(w, e->reason + at);
}

/* An analysis ends as the two versions are. */
static void observe_analysis(struct world *w, const struct core *c, const struct event *e)
{
    const struct deployment *d = strcmp(e->kind, "deployment") == 0 ? core_deployment(c, e->subject) : NULL;
    bool passed = d && d->analysis.outcome == OUTCOME_PASSED, failed = d && d->analysis.outcome == OUTCOME_FAILED;
    if (!passed && !failed)
        return;
    enum quality new = quality_of(c, d->service, d->version), stable = quality_of(c, d->service, d->previous_version);
    if (new == QUALITY_UNKNOWN || stable == QUALITY_UNKNOWN)
        return;
    bool worse = new != stable && new != QUALITY_GOOD;
    if (worse == passed)
        world_fail(w, "version %llu of service %s is%s worse than the version before, and %s its analysis", (unsigned long long)d->version,
                   d->service, worse ? "" : " not", passed ? "passed" : "did not pass");
}

static void observe_events(struct world *w, const struct core *c)
{
    struct event_list l = {0};
    core_events(c, core_index(c) - 1, INT64_MAX, UINT32_MAX, &l);
    for (uint32_t i = 0; i < l.n; i++) {
        observe_event(w, &l.v[i]);
        observe_analysis(w, c, &l.v[i]);
    }
    list_clear((struct list *)&l, &event_type);
}

/* --- any command --- */

static void observe(struct world *w, const struct core *c, const struct entry *e, const struct command *cmd,
                    const struct core_result *r)
{
    observe_key(w, cmd, r);
    if (r->error.code)
        return;
    switch (cmd->kind) {
    case COMMAND_NODE_REGISTER:
        observe_register(w, e, ((struct command_node_register *)cmd->payload)->node.id);
        break;
    case COMMAND_NODE_STATE:
        observe_node_state(w, cmd->payload);
        break;
    case COMMAND_NODE_REMOVE:
        observe_remove(w, ((struct command_node *)cmd->payload)->node_id);
        break;
    case COMMAND_DECIDE:
        observe_decision(w, c, e, cmd->payload);
        break;
    default:
        break;
    }
}

void check_applied(struct world *w, const struct core *c, const struct entry *e, const struct core_result *r)
{
    CLEANUP_COMMAND struct command cmd;
    struct error ignored;
    count(w, COUNT_COMMANDS);
    if (r->error.code)
        count(w, COUNT_REFUSED);
    if (command_decode(e->bytes, e->len, &cmd, &ignored) == 0)
        observe(w, c, e, &cmd, r);
    observe_events(w, c);
    if (w->k.check_each)
        check_traffic(w, c, cmd.time);
    if (w->k.check_each)
        check_invariants(w, c);
}
