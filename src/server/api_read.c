#include <stdlib.h>
#include <string.h>

#include "base/timefmt.h"
#include "model/ingress_rules.h"
#include "server/api.h"
#include "server/api_types.h"
#include "server/page.h"
#include "server/scope.h"

#define EXPLAIN_LIMIT_DEFAULT 50
#define EXPLAIN_LIMIT_MAX 1000

const char *api_watch_param(struct control *c, const struct request *r)
{
    return r->params[0];
}

const char *api_watch_alloc(struct control *c, const struct request *r)
{
    const struct alloc *a = control_find_alloc(c, r, NULL);
    return a ? a->id : NULL;
}

const char *api_watch_node(struct control *c, const struct request *r)
{
    const struct node *n = control_find_node(c, r->params[0], NULL);
    return n ? n->id : NULL;
}

static int unknown(struct error *err, const char *what, const char *name)
{
    return error_set(err, ERROR_NOT_FOUND, "there is no %s %.64s", what, name);
}

static int unknown_service(struct error *err, const char *name)
{
    return error_set(err, ERROR_NOT_FOUND, "there is no service %.64s; `mt services` lists them", name);
}

API_READ(api_jobs)
{
    struct page p;
    page_open(&p, r, &job_summary_type);
    CLEANUP_FREE char *start = page_start(&p);
    const char *after = start;
    bool go = true;
    for (const char *name; go && (name = core_job_next(c->core, after)); after = name) {
        struct job job;
        if (core_job(c->core, name, &job))
            continue;
        struct job_summary s = {.name = mem_strdup(name), .modify_index = core_changed(c->core, CORE_JOB, name)};
        for (uint32_t i = 0; i < job.services.n; i++)
            str_list_add(&s.services, job.services.v[i].name);
        go = page_offer(&p, name, &s);
        type_clear(&job_summary_type, &s);
        type_clear(&job_type, &job);
    }
    page_close(&p, core_index(c->core));
    return 0;
}

API_READ(api_job)
{
    struct job job;
    if (core_job(c->core, r->params[0], &job))
        return unknown(err, "job", r->params[0]);
    type_show_json(&job_type, &job, &r->answer.body);
    type_clear(&job_type, &job);
    return 0;
}

API_READ(api_services)
{
    struct page p;
    page_open(&p, r, &service_status_type);
    CLEANUP_FREE char *start = page_start(&p);
    const char *after = start;
    bool go = true;
    for (const struct service_version *v; go && (v = core_service_next(c->core, after)); after = v->service) {
        struct service_status s;
        if (core_service_status(c->core, v->service, &s))
            continue;
        go = page_offer(&p, v->service, &s);
        type_clear(&service_status_type, &s);
    }
    page_close(&p, core_index(c->core));
    return 0;
}

API_READ(api_service)
{
    const struct service_version *v = core_service(c->core, r->params[0]);
    struct service_detail d = {0};
    if (!v || core_service_status(c->core, r->params[0], &d.status))
        return unknown_service(err, r->params[0]);
    d.current = *v;         /* borrowed */
    core_ingress_problems(c->core, r->params[0], NULL, &d.ingress_problems);
    type_show_json(&service_detail_type, &d, &r->answer.body);
    type_clear(&service_status_type, &d.status);
    list_clear((struct list *)&d.ingress_problems, &ingress_problem_type);
    return 0;
}

API_READ(api_versions)
{
    if (!core_service(c->core, r->params[0]))
        return unknown_service(err, r->params[0]);
    struct service_version_list l = {0};
    core_service_versions(c->core, r->params[0], &l);
    buf_add_string(&r->answer.body, "{\"items\":");
    list_show_json(&service_version_type, (struct list *)&l, &r->answer.body);
    buf_printf(&r->answer.body, ",\"next_cursor\":\"\",\"index\":%llu}", (unsigned long long)core_index(c->core));
    list_clear((struct list *)&l, &service_version_type);
    return 0;
}

struct alloc_refs { const struct alloc **v; size_t n, cap; const char *node_id; };

static bool collect_alloc(void *ctx, const struct alloc *a)
{
    struct alloc_refs *refs = ctx;
    if (refs->node_id && (!a->node_id || strcmp(a->node_id, refs->node_id)))
        return true;
    if (refs->n == refs->cap) {
        refs->cap = refs->cap ? refs->cap * 2 : 64;
        refs->v = mem_realloc_array(refs->v, refs->cap, sizeof *refs->v);
    }
    refs->v[refs->n++] = a;
    return true;
}

static int compare_ids(const void *a, const void *b)
{
    return strcmp((*(const struct alloc *const *)a)->id, (*(const struct alloc *const *)b)->id);
}

/* The allocations of one service or node: few, in no promised order. */
static int page_of_some(struct control *c, struct request *r, const char *service, const char *node, struct page *p,
                        const char *after, struct error *err)
{
    struct alloc_refs refs = {0};
    const struct node *n = node ? control_find_node(c, node, err) : NULL;
    if (node && !n)
        return -1;
    if (service && !core_service(c->core, service) && scope_sees_service(r, service))
        return unknown_service(err, service);          /* to others an empty list, as of one that is there */
    refs.node_id = n ? n->id : NULL;
    if (service)
        core_service_allocs(c->core, service, collect_alloc, &refs);
    else
        core_node_allocs(c->core, n->id, collect_alloc, &refs);
    if (refs.n)
        qsort(refs.v, refs.n, sizeof *refs.v, compare_ids);
    for (size_t i = 0; i < refs.n; i++)
        if ((!after || strcmp(refs.v[i]->id, after) > 0) && !page_offer(p, refs.v[i]->id, refs.v[i]))
            break;
    free(refs.v);
    return 0;
}

API_READ(api_allocs)
{
    const char *service = r->service, *node = request_query(r, "node");
    struct page p;
    page_open(&p, r, &alloc_type);
    CLEANUP_FREE char *start = page_start(&p);
    const char *after = start;
    int rc = 0;
    if (service || node)
        rc = page_of_some(c, r, service, node, &p, after, err);
    else
        for (const struct alloc *a; (a = core_alloc_next(c->core, after)); after = a->id)
            if (!page_offer(&p, a->id, a))
                break;
    page_close(&p, core_index(c->core));
    return rc;
}

API_READ(api_alloc)
{
    const struct alloc *a = control_find_alloc(c, r, err);
    if (!a)
        return -1;
    type_show_json(&alloc_type, a, &r->answer.body);
    return 0;
}

/* Those have a list of their own, in which each sees those of the services that he may read. */
static struct node without_volumes(const struct node *n)
{
    struct node shown = *n;
    shown.volumes = (struct node_volume_list){0};
    return shown;
}

API_READ(api_nodes)
{
    struct page p;
    page_open(&p, r, &node_type);
    CLEANUP_FREE char *start = page_start(&p);
    const char *after = start;
    for (const struct node *n; (n = core_node_next(c->core, after)); after = n->id) {
        struct node shown = without_volumes(n);
        if (!page_offer(&p, n->id, &shown))
            break;
    }
    page_close(&p, core_index(c->core));
    return 0;
}

/* Those of services that he may read. */
static void add_problems(const struct control *c, const struct request *r, struct node *shown)
{
    struct ingress_problem_list problems;
    core_ingress_problems(c->core, NULL, shown->id, &problems);
    for (uint32_t i = 0; i < problems.n; i++) {
        const struct ingress_problem *p = &problems.v[i];
        CLEANUP_FREE char *in_short = p->service || scope_sees_service(r, NULL) ? NULL : ingress_problem_in_short(p->problem);
        if (!p->service || scope_sees_service(r, p->service))
            str_list_add(&shown->ingress_problems, in_short ? in_short : p->problem);
    }
    list_clear((struct list *)&problems, &ingress_problem_type);
}

API_READ(api_node)
{
    const struct node *n = control_find_node(c, r->params[0], err);
    if (!n)
        return -1;
    struct node shown = without_volumes(n);
    add_problems(c, r, &shown);
    type_to_json(&node_type, &shown, &r->answer.body);
    str_list_clear(&shown.ingress_problems);
    return 0;
}

API_READ(api_deployments)
{
    const char *service = r->service;
    struct page p;
    page_open(&p, r, &deployment_type);
    CLEANUP_FREE char *start = page_start(&p);
    const char *after = start;
    for (const struct deployment *d; (d = core_deployment_next(c->core, after)); after = d->id)
        if ((!service || !strcmp(service, d->service)) && !page_offer(&p, d->id, d))
            break;
    page_close(&p, core_index(c->core));
    return 0;
}

API_READ(api_deployment)
{
    const struct deployment *d = core_deployment(c->core, r->params[0]);
    if (!d)
        return unknown(err, "deployment", r->params[0]);
    type_show_json(&deployment_type, d, &r->answer.body);
    return 0;
}

API_READ(api_plan)
{
    struct plan plan = {0};
    if (core_plan(c->core, r->body, time_now_ms(), &plan, err))
        return -1;
    type_show_json(&plan_type, &plan, &r->answer.body);
    type_clear(&plan_type, &plan);
    return 0;
}

API_READ(api_explain)
{
    const char *what = r->qualified;
    uint64_t limit;
    if (request_query_number(r, "limit", EXPLAIN_LIMIT_DEFAULT, EXPLAIN_LIMIT_MAX, &limit, err))
        return -1;
    if (!core_service(c->core, what)) {
        const struct alloc *a = control_find_alloc(c, r, err);
        if (!a && err->code == ERROR_NOT_FOUND)
            return error_set(err, ERROR_NOT_FOUND, "there is no service and no allocation %.64s", r->params[0]);
        if (!a)
            return -1;
        what = a->id;
    }
    return core_explain(c->core, what, (uint32_t)limit, &r->answer.body, err);
}
