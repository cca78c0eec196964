#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/timefmt.h"
#include "core/command.h"
#include "model/namespace.h"
#include "model/release.h"
#include "server/api.h"
#include "server/authority.h"
#include "server/api_types.h"
#include "server/leader.h"
#include "server/time_zone.h"

#define CONTAINER_ID_LEN 64

/* --- jobs --- */

/* What a job needs before it is planned or proposed. Not asked again when it is applied: servers of different releases
 * must come to the same state. */
static int job_prepare(struct request *r, struct job *job, struct error *err)
{
    job_release_check(job, &r->answer.problems);
    if (r->answer.problems.n)
        return error_set(err, ERROR_INVALID, "%s: %s", r->answer.problems.v[0].path, r->answer.problems.v[0].message);
    r->command_level = command_job_level(job);
    return time_zone_resolve(job, &r->answer.problems, err);
}

API_PREPARE(api_plan_prepare)
{
    return job_prepare(r, r->body, err);
}

static int submit(struct request *r, struct error *err)
{
    struct command_job_submit payload = {.job = *(struct job *)r->body};      /* borrowed */
    payload.check_index = request_query(r, "expected_index") != NULL;
    if (request_query_number(r, "expected_index", 0, INT64_MAX, &payload.expected_index, err) ||
        job_prepare(r, &payload.job, err))
        return -1;
    request_command(r, COMMAND_JOB_SUBMIT, &payload);
    return 0;
}

static bool is_bound_to(const struct service *s, const char *node)
{
    for (uint32_t i = 0; i < s->constraints.n; i++) {
        const struct constraint *c = &s->constraints.v[i];
        if (!strcmp(c->attribute, "node.name") && c->op == OP_EQ && c->value.n == 1 && !strcmp(c->value.v[0], node))
            return true;
    }
    return false;
}

API_PREPARE(api_container_adopt)
{
    struct command_job_submit payload = {.job = *(struct job *)r->body, .check_index = true};      /* borrowed; new: index 0 */
    struct service *s = payload.job.services.n == 1 ? payload.job.services.v : NULL;
    const char *id = r->params[1];
    if (strlen(id) != CONTAINER_ID_LEN || strspn(id, "0123456789abcdef") != CONTAINER_ID_LEN)
        return error_set(err, ERROR_INVALID, "`%.64s` is not the full id of a container", id);
    if (!s || s->driver != DRIVER_DOCKER || s->mode != MODE_SERVICE || s->count != 1)
        return error_set(err, ERROR_INVALID, "a container is taken over by a job with one service, of the docker driver, mode "
                         "service and count 1");
    if (!is_bound_to(s, r->params[0]))
        return error_set(err, ERROR_INVALID, "the service has to be bound to the container's node: constraints: [{attribute: "
                         "node.name, value: %.64s}]", r->params[0]);
    if (job_prepare(r, &payload.job, err))
        return -1;
    mem_set_string(&s->adopt, id);
    request_command(r, COMMAND_JOB_SUBMIT, &payload);
    return 0;
}

API_PREPARE(api_job_submit)
{
    return submit(r, err);
}

API_PREPARE(api_job_put)
{
    const struct job *job = r->body;
    const char *name = namespace_bare(r->params[0]);
    if (!job->name || strcmp(job->name, name))
        return error_set(err, ERROR_INVALID, "the body is of job %.64s, the path of job %.64s",
                         job->name ? job->name : "(none)", name);
    return submit(r, err);
}

API_PREPARE(api_job_delete)
{
    struct command_job_delete payload = {.name = (char *)(uintptr_t)r->params[0]};
    if (request_query_bool(r, "purge", &payload.purge, err))
        return -1;
    request_command(r, COMMAND_JOB_DELETE, &payload);
    return 0;
}

/* --- services --- */

static char *borrow(const char *s)
{
    return (char *)(uintptr_t)s;
}

API_PREPARE(api_service_scale)
{
    const struct scale_request *body = r->body;
    struct command_service_scale payload = {.service = borrow(r->params[0]), .count = body->count};
    request_command(r, COMMAND_SERVICE_SCALE, &payload);
    return 0;
}

API_PREPARE(api_service_restart)
{
    struct command_service payload = {.service = borrow(r->params[0])};
    request_command(r, COMMAND_SERVICE_RESTART, &payload);
    return 0;
}

API_PREPARE(api_service_rollback)
{
    const struct rollback_request *body = r->body;
    struct command_service_rollback payload = {.service = borrow(r->params[0]), .to_version = body->version};
    request_command(r, COMMAND_SERVICE_ROLLBACK, &payload);
    return 0;
}

API_PREPARE(api_service_promote)
{
    const struct promote_request *body = r->body;
    struct command_service_promote payload = {.service = borrow(r->params[0]), .percent = body->percent};
    request_command(r, COMMAND_SERVICE_PROMOTE, &payload);
    return 0;
}

API_PREPARE(api_service_abort)
{
    struct command_service payload = {.service = borrow(r->params[0])};
    request_command(r, COMMAND_SERVICE_ABORT, &payload);
    return 0;
}

API_PREPARE(api_service_delete)
{
    struct command_service_delete payload = {.service = borrow(r->params[0])};
    if (request_query_bool(r, "purge", &payload.purge, err))
        return -1;
    request_command(r, COMMAND_SERVICE_DELETE, &payload);
    return 0;
}

/* Takes the service's job out of the state, lets change() work on the service, and makes the command that submits it:
 * refused when somebody else changed the job before it is applied. */
static int change_service(struct control *c, struct request *r, struct error *err,
                          int (*change)(struct request *r, struct service *s, struct error *err))
{
    const struct service_version *v = core_service(c->core, r->params[0]);
    struct command_job_submit payload = {.check_index = true};
    if (!v || core_job(c->core, v->job, &payload.job))
        return error_set(err, ERROR_NOT_FOUND, "there is no service %.64s; `mt services` lists them", r->params[0]);
    payload.expected_index = core_changed(c->core, CORE_JOB, v->job);
    struct service *service = NULL;
    for (uint32_t i = 0; i < payload.job.services.n; i++)
        if (!strcmp(payload.job.services.v[i].name, namespace_bare(r->params[0])))
            service = &payload.job.services.v[i];
    int rc = service ? change(r, service, err)
                     : error_set(err, ERROR_CONFLICT, "service %.64s is stopped; submit its job again", r->params[0]);
    if (!rc) {
        type_validate(&job_type, &payload.job, "", &r->answer.problems);
        if (r->answer.problems.n)
            rc = error_set(err, ERROR_INVALID, "the changed service is not valid: %s: %s", r->answer.problems.v[0].path,
                           r->answer.problems.v[0].message);
    }
    if (!rc)
        rc = job_prepare(r, &payload.job, err);
    if (!rc)
        request_command(r, COMMAND_JOB_SUBMIT, &payload);
    type_clear(&job_type, &payload.job);
    return rc;
}

/* RFC 7396: null takes a key away, objects are merged, everything else replaces. */
static void merge(json_t *target, json_t *patch)
{
    const char *key;
    json_t *value;
    json_object_foreach(patch, key, value) {
        json_t *old = json_object_get(target, key);
        if (json_is_null(value)) {
            json_object_del(target, key);
        } else if (json_is_object(value)) {
            if (!json_is_object(old)) {
                old = json_object();
                json_object_set_new(target, key, old);
            }
            merge(old, value);
        } else {
            json_object_set(target, key, value);
        }
    }
}

static int patch_service(struct request *r, struct service *s, struct error *err)
{
    json_error_t at;
    CLEANUP_BUF struct buf text = {0};
    json_t *patch = json_loadb(r->http->body.data, r->http->body.len, JSON_REJECT_DUPLICATES, &at);
    if (!json_is_object(patch)) {
        json_decref(patch);
        return patch ? error_set(err, ERROR_INVALID, "the body must be a JSON object (a merge patch, RFC 7396)")
                     : error_set(err, ERROR_INVALID, "the body is not JSON: line %d, column %d: %s", at.line, at.column,
                                 at.text);
    }
    json_t *name = json_object_get(patch, "name");
    if (name && (!json_is_string(name) || strcmp(json_string_value(name), s->name))) {
        json_decref(patch);
        return error_set(err, ERROR_INVALID, "name: the name of a service cannot be changed");
    }
    type_to_json(&service_type, s, &text);
    json_t *target = json_loadb(text.data, text.len, 0, NULL);
    INVARIANT(target);
    merge(target, patch);
    char *merged = json_dumps(target, JSON_COMPACT);
    json_decref(target);
    json_decref(patch);
    INVARIANT(merged);
    struct service changed;
    int rc = type_from_json(&service_type, merged, strlen(merged), false, &changed, &r->answer.problems);
    free(merged);
    if (rc)
        return error_set(err, ERROR_INVALID, "the changed service is not valid: %s: %s", r->answer.problems.v[0].path,
                         r->answer.problems.v[0].message);
    type_clear(&service_type, s);
    *s = changed;
    return 0;
}

API_READ(api_service_patch)
{
    return change_service(c, r, err, patch_service);
}

static int deploy_service(struct request *r, struct service *s, struct error *err)
{
    const struct deploy_request *body = r->body;
    if (body->image && s->driver == DRIVER_EXEC)
        return error_set(err, ERROR_INVALID, "image: service %s runs by the exec driver, which has no images", s->name);
    if (body->image)
        mem_set_string(&s->config.image, body->image);
    if (body->strategy)
        s->deploy.strategy = (enum deploy_strategy)(body->strategy - 1);
    for (uint32_t i = 0; i < body->env.n; i++)
        kv_set(&s->env, body->env.v[i].key, body->env.v[i].value);
    return 0;
}

API_READ(api_service_deploy)
{
    return change_service(c, r, err, deploy_service);
}

/* --- allocations and nodes: what people type is looked up first --- */

static int alloc_command(struct control *c, struct request *r, enum command_kind kind, struct error *err)
{
    const struct alloc *a = control_find_alloc(c, r, err);
    if (!a)
        return -1;
    const struct reason_request *body = r->body;
    struct command_alloc payload = {.alloc_id = a->id, .reason = body->reason};
    request_command(r, kind, &payload);
    return 0;
}

API_READ(api_alloc_stop)
{
    return alloc_command(c, r, COMMAND_ALLOC_STOP, err);
}

API_READ(api_alloc_restart)
{
    return alloc_command(c, r, COMMAND_ALLOC_RESTART, err);
}

API_READ(api_alloc_pause)
{
    return alloc_command(c, r, COMMAND_ALLOC_PAUSE, err);
}

API_READ(api_alloc_resume)
{
    return alloc_command(c, r, COMMAND_ALLOC_RESUME, err);
}

static int node_command(struct control *c, struct request *r, enum node_state state, struct error *err)
{
    const struct node *n = control_find_node(c, r->params[0], err);
    if (!n)
        return -1;
    const struct reason_request *body = r->body;
    struct command_node_state payload = {.node_id = n->id, .state = state, .reason = body->reason};
    request_command(r, COMMAND_NODE_STATE, &payload);
    return 0;
}

API_READ(api_node_drain)
{
    return node_command(c, r, NODE_DRAINING, err);
}

API_READ(api_node_enable)
{
    return node_command(c, r, NODE_READY, err);
}

API_READ(api_node_disable)
{
    return node_command(c, r, NODE_INELIGIBLE, err);
}

/* Ends the wait for a node that the leader does not hear, and for no other. */
API_READ(api_node_lost)
{
    const struct node *n = control_find_node(c, r->params[0], err);
    if (!n)
        return -1;
    int64_t silence = liveness_silence(&c->liveness, n->id, time_monotonic_ms());
    if (n->state != NODE_DOWN && silence < leader_silence_ms(c)) {
        char least[TIME_TEXT_SIZE];
        duration_format(least, leader_silence_ms(c));
        return error_set(err, ERROR_CONFLICT, "node %s was heard of within the last %s, or this leader is as young: only a "
                         "node that is silent is lost", n->name, least);
    }
    return node_command(c, r, NODE_DOWN, err);
}

API_READ(api_node_ingress)
{
    const struct node *n = control_find_node(c, r->params[0], err);
    if (!n)
        return -1;
    struct command_node payload = {.node_id = n->id};
    request_command(r, COMMAND_NODE_INGRESS, &payload);
    return 0;
}

API_READ(api_node_delete)
{
    const struct node *n = control_find_node(c, r->params[0], err);
    if (!n)
        return -1;
    bool keep = false;
    if (request_query_bool(r, "keep_certificate", &keep, err))
        return -1;
    struct command_node payload = {.node_id = n->id, .revoked_until = keep ? 0 : authority_revoked_until(c, &n->certificate)};
    request_command(r, COMMAND_NODE_REMOVE, &payload);
    return 0;
}
