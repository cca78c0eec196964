#include "server/scope.h"

#include <string.h>

#include "base/log.h"
#include "base/timefmt.h"
#include "server/api_types.h"

static const struct grant *grant_of(const struct request *r)
{
    return r->who.holder ? &r->who.holder->grant : NULL;
}

/* Nothing to ask: not by a token, or by one whose right is for all services. */
static bool is_open(const struct request *r)
{
    return !grant_of(r) || !rights[r->route->right].scoped || grant_allows_all(grant_of(r), r->route->right);
}

static int check_service(const struct request *r, const char *service, struct error *err)
{
    if (grant_allows_service(grant_of(r), r->route->right, service))
        return 0;
    return error_set(err, ERROR_DENIED, "token %s has not the right \"%s\" on service %.64s", r->who.name,
                     right_name(r->route->right), service);
}

static int check_services(const struct request *r, const struct job *job, struct error *err)
{
    for (uint32_t i = 0; i < job->services.n; i++)
        if (job->services.v[i].name && check_service(r, job->services.v[i].name, err))
            return -1;
    return 0;
}

/* What the job has now would be stopped, or changed; one that is not there has none. */
static int check_job(struct control *c, const struct request *r, const char *name, struct error *err)
{
    struct job job;
    if (!name || core_job(c->core, name, &job))
        return 0;
    int rc = check_services(r, &job, err);
    type_clear(&job_type, &job);
    return rc;
}

static int check_body(struct control *c, const struct request *r, struct error *err)
{
    const struct job *job = r->body;
    return check_services(r, job, err) || check_job(c, r, job->name, err) ? -1 : 0;
}

static int check_alloc(const struct request *r, const struct alloc *a, struct error *err)
{
    return a ? check_service(r, a->service, err) : 0;      /* the route itself says that there is none */
}

static int check_objects(struct control *c, const struct request *r, struct error *err)
{
    const char *name = r->params[0];
    const struct deployment *d;
    switch (r->route->scope) {
    case SCOPE_SERVICE: return check_service(r, name, err);
    case SCOPE_JOB: return check_job(c, r, name, err);
    case SCOPE_BODY: return check_body(c, r, err);
    case SCOPE_JOB_BODY: return check_job(c, r, name, err) || check_body(c, r, err) ? -1 : 0;
    case SCOPE_ALLOC: return check_alloc(r, control_find_alloc(c, name, NULL), err);
    case SCOPE_DEPLOYMENT: return (d = core_deployment(c->core, name)) ? check_service(r, d->service, err) : 0;
    case SCOPE_SUBJECT:
        return core_service(c->core, name) ? check_service(r, name, err) : check_alloc(r, control_find_alloc(c, name, NULL), err);
    case SCOPE_NONE:
    case SCOPE_LIST: break;
    }
    return 0;
}

/* --- agents --- */

/* The node that an agent's request is about: by the query, or in the body. */
static const char *node_id_of(const struct request *r)
{
    const struct field *f = r->body ? type_field(r->route->request, "node_id") : NULL;
    return f ? *(char *const *)((const char *)r->body + f->offset) : request_query(r, "node");
}

static int check_node(struct control *c, const struct request *r, struct error *err)
{
    const struct agent_hello *hello = r->route->request == &agent_hello_type ? r->body : NULL;
    const char *id = hello ? hello->node.id : node_id_of(r);
    const struct node *n = id ? core_node(c->core, id) : NULL;
    const char *name = hello ? hello->node.name : n ? n->name : NULL;
    if ((!name || !strcmp(name, r->who.name)) && (!n || !strcmp(n->name, r->who.name)))
        return 0;
    return error_set(err, ERROR_DENIED, "the agent of node %s may not speak for node %.64s", r->who.name,
                     n && n->name ? n->name : name);
}

/* --- questions --- */

int scope_check(struct control *c, const struct request *r, struct error *err)
{
    if (r->who.kind == IDENTITY_AGENT && r->route->right == RIGHT_AGENT && !r->who.any_node)
        return check_node(c, r, err);
    if (r->who.holder && access_holder_check(r->who.holder, time_now_ms(), err))
        return -1;
    return is_open(r) ? 0 : check_objects(c, r, err);
}

/* What names the service in the items of each list; events of no service are for all who may read. */
static const char *service_of(const struct type *type, const void *item)
{
    if (type == &service_status_type)
        return ((const struct service_status *)item)->name;
    if (type == &alloc_type)
        return ((const struct alloc *)item)->service;
    if (type == &volume_view_type)
        return ((const struct volume_view *)item)->service;
    if (type == &deployment_type)
        return ((const struct deployment *)item)->service;
    if (type == &event_type)
        return ((const struct event *)item)->service;
    return NULL;
}

bool scope_sees(const struct request *r, const struct type *type, const void *item)
{
    if (is_open(r))
        return true;
    if (type == &job_summary_type) {
        const struct job_summary *job = item;
        for (uint32_t i = 0; i < job->services.n; i++)
            if (grant_allows_service(grant_of(r), r->route->right, job->services.v[i]))
                return true;
        return false;
    }
    const char *service = service_of(type, item);
    return !service || grant_allows_service(grant_of(r), r->route->right, service);
}
