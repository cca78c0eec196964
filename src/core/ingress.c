#include "core/ingress.h"

#include <string.h>
#include <strings.h>

#include "base/random.h"
#include "base/text.h"
#include "core/acme.h"
#include "core/analysis.h"
#include "core/apply.h"
#include "core/beside.h"
#include "core/command.h"
#include "core/ingress_right.h"
#include "model/ingress_rules.h"
#include "model/namespace.h"
#include "model/secret.h"

#define WEIGHT_EVEN 100
#define WEIGHT_MOST 256
#define PARTS_TOLD 16                  /* of one report's problem */

void ingress_set_changed(struct core *c, struct service_entry *s)
{
    if (s->ingress_changed || !s->current || (!s->current->v.spec.ingress.n && !s->ingress_hash))
        return;
    s->ingress_changed = true;
    STAILQ_INSERT_TAIL(&c->ingress_changed, s, ingress_link);
}

void ingress_forget(struct core *c, struct service_entry *s)
{
    if (s->ingress_hash)
        state_touch_ingress(c);
    if (!s->ingress_changed)
        return;
    s->ingress_changed = false;
    STAILQ_REMOVE(&c->ingress_changed, s, service_entry, ingress_link);
}

/* Of its paths, the longest takes the requests: who could add one to a host of others would have what is sent there. */
static bool same_host(const struct ingress *a, const struct ingress *b)
{
    return a->protocol == PROTOCOL_HTTP && b->protocol == PROTOCOL_HTTP && a->host && b->host && !strcasecmp(a->host, b->host);
}

/* What another namespace has is not told by name. */
static int refuse_same_way(const struct service *spec, const struct ingress *way, const struct service_entry *other,
                           struct error *err)
{
    bool ours = namespace_same(spec->name, other->name);
    CLEANUP_FREE char *who = ours ? mem_printf("service %s of job %s", other->name, other->job->name)
                                  : mem_strdup("a service of another namespace");
    if (way->protocol == PROTOCOL_TCP)
        return error_set(err, ERROR_CONFLICT, "ingress of service %s: %s has port %lld already; give it another one, or take it "
                         "out there first", spec->name, who, (long long)way->listen);
    if (!ours)
        return error_set(err, ERROR_CONFLICT, "ingress of service %s: %s has host %.200s already, and a host is of one "
                         "namespace with all its paths; give it another one, or take it out there first", spec->name, who, way->host);
    return error_set(err, ERROR_CONFLICT, "ingress of service %s: %s has host %.200s with path %.100s already; give it another "
                     "one, or take it out there first", spec->name, who, way->host, way->path ? way->path : "/");
}

int ingress_admits(const struct core *c, const struct service *spec, const char *job, struct error *err)
{
    struct service_entry *s;
    if (!spec->ingress.n)
        return 0;
    RB_FOREACH(s, service_tree, (struct service_tree *)&c->services) {
        const struct ingress_list *ways = &s->current->v.spec.ingress;
        if (s->stopped || strcmp(s->name, spec->name) == 0 || (job && strcmp(s->job->name, job) == 0))
            continue;
        for (uint32_t i = 0; i < spec->ingress.n; i++)
            for (uint32_t k = 0; k < ways->n; k++)
                if (ingress_same_way(&spec->ingress.v[i], &ways->v[k])
                    || (!namespace_same(spec->name, s->name) && same_host(&spec->ingress.v[i], &ways->v[k])))
                    return refuse_same_way(spec, &ways->v[k], s, err);
    }
    return 0;
}

/* --- ingress nodes --- */

static bool is_live(const struct node_entry *n)
{
    return n->n.state != NODE_DOWN;
}

static void wake_waiting(struct core *c)
{
    struct service_entry *s;
    RB_FOREACH(s, service_tree, &c->services)
        if (s->ingress_waits)
            state_set_dirty(c, s);
}

void ingress_node_changed(struct core *c, struct node_entry *n)
{
    if (n->n.ingress != n->in_ingress) {
        n->in_ingress = n->n.ingress;
        if (n->in_ingress)
            TAILQ_INSERT_TAIL(&c->ingress_nodes, n, ingress_link);
        else
            TAILQ_REMOVE(&c->ingress_nodes, n, ingress_link);
        if (n->acme.challenges.n)
            state_touch_ingress(c);
        wake_waiting(c);
    } else if (n->in_ingress) {
        wake_waiting(c);
    }
}

bool ingress_followed(const struct core *c, uint64_t index)
{
    const struct node_entry *n;
    uint64_t newest = c->changed[CORE_INGRESS];
    index = index < newest ? index : newest;       /* what changed nothing in the table need not be followed */
    TAILQ_FOREACH(n, &c->ingress_nodes, ingress_link)
        if (is_live(n) && n->ingress_applied < index)
            return false;
    return true;
}

static const struct alloc_port *find_port(const struct alloc_entry *a, const char *name)
{
    for (uint32_t i = 0; i < a->a.ports.n; i++)
        if (strcmp(a->a.ports.v[i].name, name) == 0)
            return &a->a.ports.v[i];
    return NULL;
}

static bool has_port(const struct alloc_entry *a)
{
    const struct ingress_list *ways = &a->service->current->v.spec.ingress;
    for (uint32_t i = 0; i < ways->n; i++)
        if (find_port(a, ways->v[i].port))
            return true;
    return false;
}

bool ingress_in_force(const struct core *c, const struct alloc_entry *a, int64_t now, int64_t *until)
{
    if (!has_port(a))
        return true;
    if (!a->entered_index)
        return false;
    *until = a->entered_at + a->service->current->v.spec.deploy.health_timeout_secs * 1000;
    return ingress_followed(c, a->entered_index) || now >= *until;
}

static bool is_idle_at(const struct alloc_entry *a, const struct node_entry *n)
{
    for (uint32_t i = 0; i < a->idle_at.n; i++)
        if (strcmp(a->idle_at.v[i], n->n.id) == 0)
            return true;
    return false;
}

bool ingress_has_left(const struct core *c, const struct alloc_entry *a, int64_t now, int64_t *until)
{
    const struct version_entry *v = state_version(a->service, a->a.version);
    const struct node_entry *n;
    if (!a->left_index)
        return false;
    *until = a->left_at + (v ? v : a->service->current)->v.spec.kill.timeout_ms;
    if (now >= *until)
        return true;
    TAILQ_FOREACH(n, &c->ingress_nodes, ingress_link)
        if (is_live(n) && !is_idle_at(a, n))
            return false;
    return true;
}

bool ingress_must_leave(const struct core *c, const struct alloc_entry *a)
{
    const struct node_entry *n;
    TAILQ_FOREACH(n, &c->ingress_nodes, ingress_link)
        if (is_live(n))
            return a->entered_index && !a->left_index && entry_live(a);
    return false;
}

static bool note_idle(struct core *c, const struct node_entry *n, const struct ingress_report *p, const char *id)
{
    struct alloc_entry *a = state_alloc(c, id);
    if (!a || !a->left_index || a->left_index > p->applied)
        return false;
    if (is_idle_at(a, n))
        return false;
    str_list_add(&a->idle_at, n->n.id);
    return true;
}

static bool was_told(const char *before, const char *part)
{
    bool told = false;
    for (char *service, *other; ingress_problem_next(&before, &service, &other); free(service), free(other))
        told |= !strcmp(other, part);
    return told;
}

/* An event for each service, since who may look at one may not look at all. */
static void tell_problem(struct core *c, const struct node_entry *n, const char *before, const char *now)
{
    struct event_text what = event_of_node(n);
    bool apart = core_level(c) >= INGRESS_APART_LEVEL;
    int told = 0;
    if (!now || !apart)
        state_event(c, what, "ingress: %s", now ? now : "it follows again");
    for (char *service, *part; now && apart && ingress_problem_next(&now, &service, &part); free(service), free(part)) {
        CLEANUP_FREE char *text = ingress_problem_in_short(part);
        what.service = service;
        if (told < PARTS_TOLD && !was_told(before ? before : "", part) && ++told)
            state_event(c, what, "ingress: %s", text);
    }
}

static void take_problem(struct core *c, struct node_entry *n, const char *now)
{
    if (text_same(now, n->ingress_problem))
        return;
    tell_problem(c, n, n->ingress_problem, now);
    mem_set_string(&n->ingress_problem, now);
    state_touch_node(c, n);
}

/* Late, repeated and reordered reports do no harm: a proxy does not go back to an older table, and what has no connection
 * and gets none stays so. */
int apply_ingress_report(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct ingress_report *p = payload;
    struct node_entry *n = state_node(c, p->node_id);
    if (!n)
        return error_set(err, ERROR_NOT_FOUND, "there is no node %s; register first", p->node_id ? p->node_id : "");
    if (!n->n.ingress)
        return error_set(err, ERROR_CONFLICT, "node %s did not register as one with ingress", n->n.name);
    if (p->applied > c->index)
        return error_set(err, ERROR_CONFLICT, "table %llu is not known here; fetch the table anew",
                         (unsigned long long)p->applied);
    bool news = p->applied > n->ingress_applied;
    if (news)
        n->ingress_applied = p->applied;
    for (uint32_t i = 0; i < p->idle.n; i++)
        news |= note_idle(c, n, p, p->idle.v[i]);
    for (uint32_t i = 0; i < p->measures.n; i++)
        analysis_take(c, n, &p->measures.v[i]);
    acme_take(c, n, &p->acme);
    take_problem(c, n, p->problem);
    acme_follow(c);
    if (news)
        wake_waiting(c);
    return 0;
}

/* --- the table --- */

/* What is told to leave stays in there until it has ended: what it finishes, the proxy must not cut. */
static bool is_target(const struct alloc_entry *a)
{
    return entry_live(a) && (a->left_index || (a->a.desired == DESIRED_RUN && alloc_serves(a))) && has_port(a);
}

/* What each replica weighs: of the new version and of the older one that it stands beside. percent: the new one's part while
 * both have one; else 0. */
struct weights { const struct deployment_entry *beside; int64_t new, old, percent; };

static int64_t distance(int64_t a, int64_t b)
{
    return a > b ? a - b : b - a;
}

/* The pair of weights whose share is nearest to what is asked. Of the requests n * w are one side's, m * v the other's:
 * so the share is off by |n*w*(100 - percent) - m*v*percent| of 100 * (n*w + m*v). */
static void nearest_pair(int64_t n, int64_t m, int64_t percent, int64_t *w, int64_t *v)
{
    int64_t best_off = INT64_MAX, best_all = 1;
    for (int64_t i = 1; i <= WEIGHT_MOST; i++) {
        int64_t k = (2 * n * i * (100 - percent) + m * percent) / (2 * m * percent);
        k = k < 1 ? 1 : k > WEIGHT_MOST ? WEIGHT_MOST : k;
        int64_t off = distance(n * i * (100 - percent), m * k * percent), all = n * i + m * k;
        if (best_off != INT64_MAX && (double)off * (double)best_all >= (double)best_off * (double)all)
            continue;
        best_off = off;
        best_all = all;
        *w = i;
        *v = k;
    }
}

/* A side without a replica that serves leaves everything to the other. */
static struct weights weigh(struct service_entry *s)
{
    struct weights w = {.beside = beside_shares(s), .new = WEIGHT_EVEN, .old = WEIGHT_EVEN};
    struct alloc_entry *a;
    int64_t new = 0, old = 0;
    if (!w.beside)
        return w;
    RB_FOREACH(a, alloc_replica_tree, &s->allocs)
        if (is_target(a) && !a->left_index)
            ++*(a->epoch == w.beside->epoch ? &new : &old);
    int64_t percent = w.beside->d.traffic_percent;
    if (!new || !old)
        return w;
    if (percent > 0 && percent < 100) {
        nearest_pair(new, old, percent, &w.new, &w.old);
        w.percent = percent;
    } else {
        w.new = percent ? WEIGHT_EVEN : 0;
        w.old = percent ? 0 : WEIGHT_EVEN;
    }
    return w;
}

static bool is_new(const struct weights *w, const struct alloc_entry *a)
{
    return w->beside && a->epoch == w->beside->epoch;
}

static int64_t weight_of(const struct weights *w, const struct alloc_entry *a)
{
    if (a->left_index)
        return 0;
    return is_new(w, a) ? w->new : w->old;
}

static void add_target(struct ingress_route *to, const struct weights *w, const struct alloc_entry *a)
{
    const struct alloc_port *port = find_port(a, to->ingress.port);
    if (!port)                            /* of a version before the port was there */
        return;
    struct ingress_target *t = list_add_zero((struct list *)&to->targets, &ingress_target_type);
    *t = (struct ingress_target){.alloc = mem_strdup(a->a.id), .version = a->a.version, .ip = mem_strdup(a->a.ip),
                                 .port = port->host, .weight = weight_of(w, a),
                                 .leaving = a->left_index != 0, .canary = to->canary_percent && is_new(w, a)};
}

/* A stopped service has its part until its last replica has left. */
static bool has_part(struct service_entry *s)
{
    struct alloc_entry *a;
    if (!s->current->v.spec.ingress.n || !s->stopped)
        return s->current->v.spec.ingress.n > 0;
    RB_FOREACH(a, alloc_replica_tree, &s->allocs)
        if (is_target(a))
            return true;
    return false;
}

/* Nodes ask for a certificate by the qualified name of its secret. */
static void add_certificate(const struct core *c, struct ingress_route *to)
{
    const struct secret *s = to->ingress.certificate ? secrets_find_for(&c->secrets, to->service, to->ingress.certificate) : NULL;
    to->certificate_version = s ? secret_version(s, 0)->version : 0;
    if (s)
        mem_set_string(&to->ingress.certificate, s->name);
}

static void add_part(const struct core *c, struct service_entry *s, struct agent_ingress *out)
{
    const struct ingress_list *ways = &s->current->v.spec.ingress;
    struct alloc_entry *a;
    if (!has_part(s))
        return;
    struct weights w = weigh(s);
    for (uint32_t i = 0; i < ways->n; i++) {
        struct ingress_route *to = list_add_zero((struct list *)&out->routes, &ingress_route_type);
        to->service = mem_strdup(s->name);
        to->job = mem_strdup(s->job->name);
        to->measured = analysis_measured(s);
        to->canary_percent = ways->v[i].sticky_header ? w.percent : 0;
        type_copy(&ingress_type, &to->ingress, &ways->v[i]);
        add_certificate(c, to);
        RB_FOREACH(a, alloc_replica_tree, &s->allocs)
            if (is_target(a))
                add_target(to, &w, a);
    }
}

static uint64_t part_hash(const struct core *c, struct service_entry *s)
{
    CLEANUP_BUF struct buf bytes = {0};
    struct agent_ingress part = {0};
    add_part(c, s, &part);
    type_encode(&agent_ingress_type, &part, &bytes);
    bool some = part.routes.n > 0;
    type_clear(&agent_ingress_type, &part);
    return some ? hash_bytes(bytes.data, bytes.len, 0) | 1 : 0;
}

/* Since when each replica is in the table. */
static void mark_entries(struct core *c, struct service_entry *s)
{
    struct alloc_entry *a;
    bool part = has_part(s);
    RB_FOREACH(a, alloc_replica_tree, &s->allocs) {
        bool in = part && is_target(a);
        if (in == (a->entered_index != 0))
            continue;
        a->entered_index = in ? c->index : 0;
        a->entered_at = in ? c->now : 0;
    }
}

void ingress_tell(struct core *c)
{
    struct service_entry *s;
    while ((s = STAILQ_FIRST(&c->ingress_changed))) {
        STAILQ_REMOVE_HEAD(&c->ingress_changed, ingress_link);
        s->ingress_changed = false;
        uint64_t hash = part_hash(c, s);
        if (hash == s->ingress_hash)
            continue;
        s->ingress_hash = hash;
        mark_entries(c, s);
        state_touch_ingress(c);
    }
}

void ingress_rebuild(struct core *c)
{
    struct service_entry *s;
    RB_FOREACH(s, service_tree, &c->services)
        s->ingress_hash = part_hash(c, s);
}

void core_agent_ingress(const struct core *c, struct agent_ingress *out)
{
    struct service_entry *s;
    *out = (struct agent_ingress){.index = c->changed[CORE_INGRESS]};
    RB_FOREACH(s, service_tree, (struct service_tree *)&c->services)
        if (s->ingress_hash)
            add_part(c, s, out);
    acme_add_challenges(c, out);
}

/* --- what does not work --- */

/* problem is the list's from then on. */
static void add_problem(struct ingress_problem_list *out, const char *node, const char *service, char *problem)
{
    struct ingress_problem *p = list_add_zero((struct list *)out, &ingress_problem_type);
    *p = (struct ingress_problem){.node = mem_strdup(node), .problem = problem, .service = mem_strdup(service)};
}

static bool serves_host(const struct service_entry *s, const char *host)
{
    const struct ingress_list *ways = &s->current->v.spec.ingress;
    for (uint32_t i = 0; i < ways->n && !s->stopped; i++)
        if (ways->v[i].tls && ways->v[i].host && !strcmp(ways->v[i].host, host))
            return true;
    return false;
}

const char *ingress_service_of_host(const struct core *c, const char *host)
{
    struct service_entry *s;
    RB_FOREACH(s, service_tree, (struct service_tree *)&c->services)
        if (serves_host(s, host))
            return s->name;
    return NULL;
}

/* s NULL: of any. Of one service's own is told nothing of others. */
static void add_problems_of_node(const struct core *c, const struct node_entry *n, const struct service_entry *s,
                                 struct ingress_problem_list *out)
{
    const char *at = n->ingress_problem ? n->ingress_problem : "";
    for (char *service, *part; ingress_problem_next(&at, &service, &part); free(service), free(part))
        if (!s || !service || !strcmp(service, s->name))
            add_problem(out, n->n.name, service, s ? ingress_problem_in_short(part) : mem_strdup(part));
    for (uint32_t i = 0; i < n->acme.certificates.n; i++) {
        const struct acme_certificate *a = &n->acme.certificates.v[i];
        if (!a->problem || (s && !serves_host(s, a->host)))
            continue;
        const char *of = s ? s->name : ingress_service_of_host(c, a->host);
        add_problem(out, n->n.name, of ? of : "", mem_printf("certificate for %s: %s", a->host, a->problem));
    }
}

void core_ingress_problems(const struct core *c, const char *service, const char *node_id, struct ingress_problem_list *out)
{
    const struct service_entry *s = service ? state_service(c, service) : NULL;
    const struct node_entry *n;
    struct node_entry *e;
    bool any = false;
    *out = (struct ingress_problem_list){0};
    if (service && (!s || s->stopped || !s->current->v.spec.ingress.n))
        return;
    TAILQ_FOREACH(n, &c->ingress_nodes, ingress_link) {
        if (!is_live(n))
            continue;
        any = true;
        if (!node_id || !strcmp(n->n.id, node_id))
            add_problems_of_node(c, n, s, out);
    }
    RB_FOREACH(e, node_id_tree, (struct node_id_tree *)&c->nodes)
        if (e->ingress_refused && is_live(e) && (!node_id || !strcmp(e->n.id, node_id)))
            add_problem(out, e->n.name, NULL, mem_printf(INGRESS_REFUSED, e->n.name));
    if (s && !any && !out->n)
        add_problem(out, "", NULL, mem_strdup("no node takes requests from outside: set `ingress: true` in the agent.yaml of those that are to"));
}
