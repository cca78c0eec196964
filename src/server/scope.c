#include "server/scope.h"

#include <string.h>

#include "base/timefmt.h"
#include "model/namespace.h"
#include "server/api_types.h"

static const struct grant *grant_of(const struct request *r)
{
    return r->who.holder ? &r->who.holder->grant : NULL;
}

/* Nothing to ask: not by a token, or by one whose right is for all services. */
static bool is_open(const struct request *r)
{
    return !grant_of(r) || rights[r->route->right].on == ON_CLUSTER || grant_allows_all(grant_of(r), r->route->right);
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
    int rc = 0;
    for (uint32_t i = 0; i < job->services.n && !rc; i++) {
        CLEANUP_FREE char *name = namespace_qualify(job->namespace, job->services.v[i].name);
        rc = name ? check_service(r, name, err) : 0;
    }
    return rc;
}

static int check_namespace(const struct request *r, const char *namespace, struct error *err)
{
    if (grant_allows_in(grant_of(r), r->route->right, namespace))
        return 0;
    return error_set(err, ERROR_DENIED, "token %s has not the right \"%s\" in namespace %.64s", r->who.name,
                     right_name(r->route->right), namespace);
}

/* Of a job without services, or one that is not there, nothing is to be asked but its namespace. */
static int check_namespace_of(const struct request *r, const char *qualified, struct error *err)
{
    char namespace[NAMESPACE_SIZE];
    return check_namespace(r, namespace_of(qualified, namespace), err);
}

/* What the job has now would be stopped, or changed; one that is not there has none. */
static int check_job(struct control *c, const struct request *r, const char *name, struct error *err)
{
    struct job job;
    if (!name || check_namespace_of(r, name, err))
        return name ? -1 : 0;
    if (core_job(c->core, name, &job))
        return 0;
    int rc = check_services(r, &job, err);
    type_clear(&job_type, &job);
    return rc;
}

static int check_body(struct control *c, const struct request *r, struct error *err)
{
    const struct job *job = r->body;
    CLEANUP_FREE char *name = namespace_qualify(job->namespace, job->name);
    return check_services(r, job, err) || check_job(c, r, name, err) ? -1 : 0;
}

/* By the id of an allocation or deployment: ids are found by trying, so whose it is is not told. */
static int check_by_id(const struct request *r, const char *service, struct error *err)
{
    if (grant_allows_service(grant_of(r), r->route->right, service))
        return 0;
    return error_set(err, ERROR_DENIED, "token %s has not the right \"%s\" on the service of %.64s", r->who.name,
                     right_name(r->route->right), r->params[0]);
}

static int check_alloc(const struct request *r, const struct alloc *a, struct error *err)
{
    return a ? check_by_id(r, a->service, err) : 0;        /* the route itself says that there is none */
}

/* A service by its name, or an allocation; what is neither is not told to who may not read in that namespace. */
static int check_subject(struct control *c, const struct request *r, struct error *err)
{
    const struct alloc *a = core_service(c->core, r->qualified) ? NULL : control_find_alloc(c, r, NULL);
    if (a)
        return check_alloc(r, a, err);
    return core_service(c->core, r->qualified) ? check_service(r, r->qualified, err) : check_namespace_of(r, r->qualified, err);
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
    case SCOPE_ALLOC: return check_alloc(r, control_find_alloc(c, r, NULL), err);
    case SCOPE_DEPLOYMENT: return (d = core_deployment(c->core, name)) ? check_by_id(r, d->service, err) : 0;
    case SCOPE_SUBJECT: return check_subject(c, r, err);
    case SCOPE_SECRET: return check_namespace_of(r, name, err);
    case SCOPE_NAMESPACE: return check_namespace(r, name, err);
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

static int check(struct control *c, const struct request *r, struct error *err)
{
    if (r->who.kind == IDENTITY_AGENT && r->route->right == RIGHT_AGENT && !r->who.any_node)
        return check_node(c, r, err);
    if (r->who.holder && access_holder_check(r->who.holder, time_now_ms(), err))
        return -1;
    return is_open(r) ? 0 : check_objects(c, r, err);
}

/* What has an id is found by it, whatever its namespace; who names one as well means that. */
static int check_asked_namespace(struct control *c, const struct request *r, struct error *err)
{
    if (!r->namespace)
        return 0;
    const struct alloc *a = r->route->scope == SCOPE_ALLOC ? control_find_alloc(c, r, NULL) : NULL;
    const struct deployment *d = r->route->scope == SCOPE_DEPLOYMENT ? core_deployment(c->core, r->params[0]) : NULL;
    const char *service = a ? a->service : d ? d->service : NULL;
    char own[NAMESPACE_SIZE];
    if (!service || request_in_namespace(r, namespace_of(service, own)))
        return 0;
    return error_set(err, ERROR_NOT_FOUND, "there is no %s %.64s in namespace %s", a ? "allocation" : "deployment", r->params[0],
                     r->namespace);
}

int scope_check(struct control *c, const struct request *r, struct error *err)
{
    return check(c, r, err) || check_asked_namespace(c, r, err) ? -1 : 0;
}

/* What names the service in the items of each list. */
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

bool scope_sees_service(const struct request *r, const char *service)
{
    return is_open(r) || (service && *service && grant_allows_service(grant_of(r), r->route->right, service));
}

bool scope_sees_namespace(const struct request *r, const char *namespace)
{
    return is_open(r) || grant_allows_in(grant_of(r), r->route->right, namespace);
}

/* Of a job that runs nothing any more, only who sees every service of the namespace. */
static bool sees_some_service(const struct request *r, const struct job_summary *job)
{
    char namespace[NAMESPACE_SIZE];
    CLEANUP_FREE char *all = namespace_qualify(namespace_of(job->name, namespace), "*");
    if (!job->services.n)
        return grant_allows_service(grant_of(r), r->route->right, all);
    for (uint32_t i = 0; i < job->services.n; i++) {
        CLEANUP_FREE char *service = namespace_qualify(namespace, job->services.v[i]);
        if (grant_allows_service(grant_of(r), r->route->right, service))
            return true;
    }
    return false;
}

/* Whose an item is, where that is not told by a service; what is about the cluster is for all who may read. */
static const char *namespace_of_item(const struct type *type, const void *item, char out[static NAMESPACE_SIZE])
{
    const char *service = service_of(type, item);
    if (service)
        return namespace_of(service, out);
    if (type == &job_summary_type)
        return namespace_of(((const struct job_summary *)item)->name, out);
    if (type == &secret_summary_type)
        return namespace_of(((const struct secret_summary *)item)->name, out);
    return type == &event_type ? event_namespace(item, out) : NULL;
}

/* Which secrets there are is a right of its own, and which tokens and roles, also where it is told that one changed. */
static bool is_kept_secret(const struct request *r, const struct type *type, const void *item, const char *namespace)
{
    const char *kind = type == &event_type ? ((const struct event *)item)->kind : NULL;
    if (!kind || !grant_of(r))
        return false;
    if (!strcmp(kind, "access"))
        return !grant_allows_all(grant_of(r), RIGHT_ACCESS);
    return !strcmp(kind, "secret") && namespace && !grant_allows_in(grant_of(r), RIGHT_SECRETS, namespace);
}

bool scope_sees(const struct request *r, const struct type *type, const void *item)
{
    char own[NAMESPACE_SIZE];
    const char *namespace = namespace_of_item(type, item, own), *service = service_of(type, item);
    if (!request_in_namespace(r, namespace) || is_kept_secret(r, type, item, namespace))
        return false;
    if (is_open(r))
        return true;
    if (type == &job_summary_type)
        return sees_some_service(r, item);
    return service ? grant_allows_service(grant_of(r), r->route->right, service) : !namespace || scope_sees_namespace(r, namespace);
}
