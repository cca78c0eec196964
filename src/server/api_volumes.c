/* Volumes: what the nodes have said that they hold, and who has it now. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/namespace.h"
#include "server/api.h"
#include "server/api_types.h"
#include "server/page.h"
#include "server/proxy.h"

struct volume_ref { char *key; const struct node *node; const struct node_volume *volume; };
struct volume_refs { struct volume_ref *v; size_t n, cap; };

/* Replicas in the order of their numbers. */
static char *key_of(const struct node *n, const struct node_volume *v)
{
    return mem_printf("%s/%010lld %s %s", v->service, (long long)v->replica, n->id, v->name);
}

static void add(struct volume_refs *refs, const struct node *n, const char *service)
{
    for (uint32_t i = 0; i < n->volumes.n; i++) {
        const struct node_volume *v = &n->volumes.v[i];
        if (service && strcmp(v->service, service))
            continue;
        if (refs->n == refs->cap) {
            refs->cap = refs->cap ? refs->cap * 2 : 64;
            refs->v = mem_realloc_array(refs->v, refs->cap, sizeof *refs->v);
        }
        refs->v[refs->n++] = (struct volume_ref){key_of(n, v), n, v};
    }
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct volume_ref *)a)->key, ((const struct volume_ref *)b)->key);
}

struct holder { const struct volume_ref *of; const char *alloc; };

static bool find_holder(void *ctx, const struct alloc *a)
{
    struct holder *h = ctx;
    if (a->replica == h->of->volume->replica && a->node_id && !strcmp(a->node_id, h->of->node->id)
        && a->state < ALLOC_COMPLETE)
        h->alloc = a->id;
    return !h->alloc;
}

static bool offer(struct control *c, struct page *p, const struct volume_ref *ref)
{
    struct holder h = {.of = ref};
    core_service_allocs(c->core, ref->volume->service, find_holder, &h);
    struct volume_view view = {                  /* borrowed */
        .service = ref->volume->service, .replica = ref->volume->replica, .node_id = ref->node->id,
        .node_name = ref->node->name, .name = ref->volume->name, .size_mb = ref->volume->size_mb,
        .used_mb = ref->volume->used_mb, .alloc = (char *)(uintptr_t)h.alloc,
        .state = ref->node->state == NODE_DOWN ? VOLUME_UNREACHABLE : h.alloc ? VOLUME_USED : VOLUME_FREE};
    return page_offer(p, ref->key, &view);
}

API_READ(api_volumes)
{
    const char *service = r->service, *name = request_query(r, "node");
    const struct node *only = name ? control_find_node(c, name, err) : NULL;
    if (name && !only)
        return -1;
    struct volume_refs refs = {0};
    const char *after = NULL;
    for (const struct node *n; (n = core_node_next(c->core, after)); after = n->id)
        if (!only || n == only)
            add(&refs, n, service);
    if (refs.n)
        qsort(refs.v, refs.n, sizeof *refs.v, compare);
    struct page p;
    page_open(&p, r, &volume_view_type);
    CLEANUP_FREE char *start = page_start(&p);
    bool go = true;
    for (size_t i = 0; i < refs.n; i++) {
        if (go && (!start || strcmp(refs.v[i].key, start) > 0))
            go = offer(c, &p, &refs.v[i]);
        free(refs.v[i].key);
    }
    page_close(&p, core_index(c->core));
    free(refs.v);
    return 0;
}

/* --- made and deleted by hand: what the cluster wants is seen here, what the disk holds by the node's agent --- */

/* last: the last one that ran, over or not. */
struct replica_search { int64_t replica; const struct alloc *here, *elsewhere, *last; const char *node_id; bool each; };

static bool find_replica(void *ctx, const struct alloc *a)
{
    struct replica_search *s = ctx;
    bool here = a->node_id && !strcmp(a->node_id, s->node_id);
    if (a->replica != s->replica)
        return true;
    if (a->started_at && (!s->last || a->create_index > s->last->create_index))
        s->last = a;
    if (a->state >= ALLOC_COMPLETE)
        return true;
    if (here)
        s->here = a;
    else if (!s->each)
        s->elsewhere = a;
    return true;
}

/* Looks who lives of the replica, on the node and on others. Those of every node have one each. */
static struct replica_search search(struct control *c, const struct node *n, const struct service_version *v, const char *service,
                                    int64_t replica)
{
    struct replica_search s = {.replica = replica, .node_id = n->id, .each = v && v->spec.mode == MODE_EVERY_NODE};
    core_service_allocs(c->core, service, find_replica, &s);
    return s;
}

static bool wants(struct control *c, const struct service_version *v, int64_t replica)
{
    struct service_status status;
    if (!v || core_service_status(c->core, v->service, &status))
        return false;
    bool stopped = status.state == SERVICE_STOPPED;
    type_clear(&service_status_type, &status);
    return !stopped && (v->spec.mode != MODE_SERVICE || replica < v->spec.count) && spec_has_volume(&v->spec);
}

static bool is_leftover(const struct node_volume *v)
{
    size_t n = strlen(v->name), end = strlen(VOLUME_LEFTOVER);
    return n > end && !strcmp(v->name + n - end, VOLUME_LEFTOVER);
}

/* What a replica that lives elsewhere left behind is not wanted, unless all nodes have the same files. */
static int check_unwanted(struct control *c, const struct node *n, const struct node_volume *v, struct error *err)
{
    const struct service_version *current = core_service(c->core, v->service);
    struct replica_search s = search(c, n, current, v->service, v->replica);
    const struct alloc *user = s.here ? s.here : n->volume_lease_ms ? s.elsewhere : NULL;
    if (is_leftover(v))
        return 0;
    if (user)
        return error_set(err, ERROR_CONFLICT, "allocation %s of %s has volume %s: stop the service first, or scale it to %lld "
                         "replicas", user->id, v->service, v->name, (long long)v->replica);
    if (!s.elsewhere && wants(c, current, v->replica))
        return error_set(err, ERROR_CONFLICT, "service %s wants volume %s for its replica %lld: stop the service first, or scale it "
                         "to %lld replicas", v->service, v->name, (long long)v->replica, (long long)v->replica);
    return 0;
}

static void say_path(struct request *r, const char *service, int64_t replica, int64_t size_mb)
{
    struct buf path = {0};
    buf_add_string(&path, "/v1/volumes/");
    http_add_encoded(&path, r->params[1]);
    buf_add_string(&path, "?service=");
    http_add_encoded(&path, service);
    buf_printf(&path, "&replica=%lld", (long long)replica);
    if (size_mb)
        buf_printf(&path, "&size_mb=%lld", (long long)size_mb);
    free(r->agent_path);
    r->agent_path = buf_steal(&path);
}

static const struct node_volume *find_volume(const struct node *n, const char *name)
{
    for (uint32_t i = 0; i < n->volumes.n; i++)
        if (!strcmp(n->volumes.v[i].name, name))
            return &n->volumes.v[i];
    return NULL;
}

API_READ(api_volume_delete)
{
    const struct node *n = control_find_node(c, r->params[0], err);
    const struct node_volume *v = n ? find_volume(n, r->params[1]) : NULL;
    if (n && !v)
        return error_set(err, ERROR_NOT_FOUND, "node %s has told of no volume %.100s; `mt volumes` lists them by their names", n->name,
                         r->params[1]);
    if (!n || check_unwanted(c, n, v, err))
        return -1;
    say_path(r, v->service, v->replica, 0);
    return proxy_aim(r, n, err);
}

/* The number behind the last slash; -1: none. */
static int64_t replica_of(const char *name)
{
    const char *slash = strchr(name, '/');
    char *end = NULL;
    long long n = slash && slash != name && slash[1] >= '0' && slash[1] <= '9' ? strtoll(slash + 1, &end, 10) : -1;
    return end && !*end && n <= INT32_MAX && (slash[1] != '0' || !slash[2]) ? n : -1;
}

/* A replica has one volume of each source; with a second one it would be left to chance which. */
static int check_new(struct control *c, const struct node *n, const char *name, const char *service, int64_t replica,
                     struct error *err)
{
    const char *after = NULL;
    for (const struct node *other; (other = core_node_next(c->core, after)); after = other->id) {
        const struct node_volume *v = find_volume(other, name);
        if (v && (other == n || (!strcmp(v->service, service) && v->replica == replica)))
            return error_set(err, ERROR_EXISTS, "node %s has a volume %s already, of %s", other->name, name, v->service);
    }
    struct replica_search s = search(c, n, core_service(c->core, service), service, replica);
    const struct alloc *a = s.here ? s.here : s.elsewhere;
    if (a)
        return error_set(err, ERROR_CONFLICT, "replica %lld of %s is on node %s already, as allocation %s", (long long)replica, service,
                         a->node_name ? a->node_name : "-", a->id);
    if (s.last && s.last->node_id && strcmp(s.last->node_id, n->id) && core_node(c->core, s.last->node_id))
        return error_set(err, ERROR_CONFLICT, "replica %lld of %s was on node %s and returns there; a service that is purged is "
                         "placed anew", (long long)replica, service, s.last->node_name ? s.last->node_name : s.last->node_id);
    return 0;
}

static bool has_machines(const struct node *n)
{
    for (uint32_t i = 0; i < n->drivers.n; i++)
        if (!strcmp(n->drivers.v[i].name, driver_kind_names[DRIVER_FIRECRACKER]))
            return true;
    return false;
}

API_READ(api_volume_create)
{
    const struct volume_request *body = r->body;
    const struct node *n = control_find_node(c, r->params[0], err);
    int64_t replica = replica_of(r->params[1]);
    if (!n)
        return -1;
    if (replica < 0)
        return error_set(err, ERROR_INVALID, "volume %.100s: a source below the volume root and the replica's number, such as web/0",
                         r->params[1]);
    if (!namespace_is_qualified_name(body->service))
        return error_set(err, ERROR_INVALID, "service: \"%.64s\" cannot be the name of one", body->service);
    if (!has_machines(n))
        return error_set(err, ERROR_INVALID, "node %s runs no microVMs; volumes of processes and containers are directories, which are "
                         "made as they start", n->name);
    if (check_new(c, n, r->params[1], body->service, replica, err))
        return -1;
    say_path(r, body->service, replica, body->size_mb);
    return proxy_aim(r, n, err);
}
