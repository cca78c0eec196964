/* What users ask of jobs and services: new versions, counts, restarts, ends. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "core/apply.h"
#include "core/beside.h"
#include "core/ingress.h"
#include "core/peers.h"
#include "core/quota.h"
#include "model/namespace.h"

static bool restart_needed(const struct core *c, const struct service *before, const struct service *after, bool *changed)
{
    struct change_list changes = {0};
    bool restart = false, in_place = core_level(c) >= CHECKS_IN_PLACE_LEVEL;
    type_diff(&service_type, before, after, &changes);
    *changed = changes.n > 0;
    for (uint32_t i = 0; i < changes.n; i++)
        restart |= changes.v[i].restart || (!in_place && strncmp(changes.v[i].path, "health.", strlen("health.")) == 0
                                            && strcmp(changes.v[i].path, "health.min_running") != 0);
    change_list_clear(&changes);
    return restart;
}

/* Replicas that need not be replaced belong to the new version from now on. */
static void carry_over(struct core *c, struct service_entry *s, uint64_t epoch)
{
    struct alloc_entry *a;
    RB_FOREACH(a, alloc_replica_tree, &s->allocs) {
        if (a->epoch != epoch || !entry_live(a))
            continue;
        a->a.version = s->current->v.version;
        state_touch_work(c, a);
    }
}

static bool schedule_changed(const struct service *a, const struct service *b)
{
    return !text_same(a->schedule, b->schedule) || !text_same(a->time_zone_rule, b->time_zone_rule);
}

static struct version_entry *new_version(struct core *c, const struct service_entry *s, const struct new_version *nv)
{
    struct version_entry *v = NEW(struct version_entry);
    v->v = (struct service_version){
        .service = mem_strdup(s->name), .job = mem_strdup(s->job->name), .version = s->last_version + 1,
        .submitted_at = c->now, .submitted_by = mem_strdup(c->actor), .why = mem_strdup(nv->why),
        .create_index = c->index};
    type_copy(&service_type, &v->v.spec, nv->spec);
    return v;
}

/* Replicas of the version before still stand beside those of the current one, and what is submitted is as they are. */
static bool goes_back_beside(const struct core *c, const struct service_entry *s, const struct deployment_entry *beside,
                             const struct service *spec)
{
    bool ignored;
    const struct version_entry *from = beside ? state_version(s, beside->from_version) : NULL;
    return from && !restart_needed(c, &from->v.spec, spec, &ignored);
}

/* The new version is part of what goes on. */
static void continue_version(struct core *c, struct service_entry *s, uint64_t old_version)
{
    struct deployment_entry *running = state_running_deployment(s);
    carry_over(c, s, s->current->epoch);
    if (s->stable_version == old_version)
        s->stable_version = s->current->v.version;
    if (running)
        running->d.version = s->current->v.version;
}

static void end_deployment(struct core *c, struct deployment_entry *running, const struct new_version *nv)
{
    if (nv->taken_back)
        deployment_finish(c, running, DEPLOYMENT_REVERTED, nv->taken_back);
    else
        deployment_finish(c, running, DEPLOYMENT_CANCELLED, "a newer version was submitted");
}

const char *service_add_version(struct core *c, struct service_entry *s, const struct new_version *nv)
{
    const struct version_entry *old = s->current;
    bool ignored, fresh = !old || s->stopped;
    struct deployment_entry *beside = fresh ? NULL : beside_deployment(s), *running;
    bool back = goes_back_beside(c, s, beside, nv->spec);
    bool restart = !back && (fresh || restart_needed(c, &old->v.spec, nv->spec, &ignored));
    struct version_entry *v = new_version(c, s, nv);
    v->epoch = back ? beside->from_epoch : restart ? v->v.version : old->epoch;
    if (beside && (back || restart))
        deployment_supersede(c, beside, back);
    state_set_current(c, s, v);
    peers_set_changed(c, s);
    if (fresh || schedule_changed(&old->v.spec, nv->spec))
        s->next_run_at = s->run_at = 0;
    s->stopped = s->purge = false;
    mem_set_string(&s->reason, NULL);
    s->unplaced = 0;
    state_event(c, (struct event_text){.kind = "service", .subject = s->name, .service = s->name},
                "version %llu: %s", (unsigned long long)v->v.version, nv->why);
    if (back)
        carry_over(c, s, v->epoch);
    else if (!restart)
        continue_version(c, s, old->v.version);
    if ((restart || back || nv->taken_back) && (running = state_running_deployment(s)))
        end_deployment(c, running, nv);
    struct deployment_entry *d = NULL;
    if (v->v.spec.mode != MODE_TASK && (restart || back))
        d = deployment_begin(c, s, old, nv->revert || back);
    state_trim_versions(s);
    state_touch_service(c, s);
    return d ? d->d.id : NULL;
}

void service_stop(struct core *c, struct service_entry *s, bool purge, const char *reason)
{
    struct deployment_entry *d = state_running_deployment(s);
    if (d)
        deployment_finish(c, d, DEPLOYMENT_CANCELLED, reason);
    s->purge |= purge;
    state_touch_service(c, s);
    if (s->stopped)
        return;
    s->stopped = true;
    s->next_run_at = s->run_at = 0;
    s->unplaced = 0;
    mem_set_string(&s->reason, NULL);
    state_event(c, (struct event_text){.kind = "service", .subject = s->name, .service = s->name, .to = "stopped"},
                "%s", reason);
}

void service_purge_when_empty(struct core *c, struct service_entry *s)
{
    if (!s->purge || s->alloc_count)
        return;
    state_event(c, (struct event_text){.kind = "service", .subject = s->name, .service = s->name},
                "purged: its versions are forgotten");
    state_remove_service(c, s);
}

/* --- submit --- */

int object_admits(const struct type *t, const void *object, struct error *err)
{
    struct problem_list problems = {0};
    type_validate(t, object, "", &problems);
    if (!problems.n)
        return 0;
    error_set(err, ERROR_INVALID, "%s%s%.400s", problems.v[0].path, *problems.v[0].path ? ": " : "", problems.v[0].message);
    problem_list_clear(&problems);
    return -1;
}

int job_admits(const struct core *c, const struct job *job, struct error *err)
{
    if (namespace_admits(c, job->namespace, err))
        return -1;
    for (uint32_t i = 0; i < job->services.n; i++) {
        const struct service *spec = &job->services.v[i];
        const struct service_entry *s = state_service(c, spec->name);
        if (s && !s->stopped && strcmp(s->job->name, job->name) != 0)
            return error_set(err, ERROR_CONFLICT, "service %s belongs to job %s; choose another name, or stop it there "
                             "first", s->name, s->job->name);
        if (policy_admits(c, spec, err) || ingress_admits(c, spec, job->name, err) || secrets_admit(c, spec, err))
            return -1;
    }
    return quota_admits_job(c, job, err);
}

static int check_submit(struct core *c, const struct command_job_submit *p, const struct job *job, struct error *err)
{
    const struct job_entry *j = state_job(c, job->name);
    uint64_t index = core_changed(c, CORE_JOB, job->name);
    if (p->check_index && (j ? j->modify_index : 0) != p->expected_index)
        return error_set(err, ERROR_CONFLICT, "job %s changed meanwhile: its index is %llu, not %llu; look at it again",
                         job->name, (unsigned long long)(j ? index : 0), (unsigned long long)p->expected_index);
    return job_admits(c, job, err);
}

/* Only where there is one: what servers of earlier releases answer must be answered too. */
static void add_namespace(const char *qualified, struct buf *body)
{
    char namespace[NAMESPACE_SIZE];
    if (namespace_has(NULL, qualified))
        return;
    buf_add_string(body, ",\"namespace\":");
    json_add_string(body, namespace_of(qualified, namespace));
}

static void submit_service(struct core *c, struct job_entry *j, const struct service *spec, uint32_t position,
                           struct buf *body)
{
    struct service_entry *s = state_service(c, spec->name);
    const char *deployment = NULL;
    if (!s)
        s = state_add_service(c, spec->name);
    if (s->job != j || s->position != position)
        state_move_service(c, s, j, position);
    bool changed = true;
    if (s->current && !s->stopped)
        restart_needed(c, &s->current->v.spec, spec, &changed);
    if (changed)
        deployment = service_add_version(c, s, &(struct new_version){.spec = spec, .why = "submitted"});
    buf_add_string(body, position ? ",{\"name\":" : "{\"name\":");
    json_add_string(body, namespace_bare(s->name));
    buf_printf(body, ",\"version\":%llu,\"changed\":%s,\"deployment\":", (unsigned long long)s->current->v.version,
               changed ? "true" : "false");
    json_add_string(body, deployment);
    buf_add_char(body, '}');
}

static bool names_service(const struct job *job, const char *name)
{
    for (uint32_t i = 0; i < job->services.n; i++)
        if (strcmp(job->services.v[i].name, name) == 0)
            return true;
    return false;
}

static void submit(struct core *c, const struct job *job, struct buf *body)
{
    struct job_entry *j = state_job(c, job->name);
    struct service_entry *s;
    if (!j)
        j = state_add_job(c, job->name);
    j->modify_index = c->index;
    c->changed[CORE_JOB] = c->index;
    buf_add_string(body, "{\"job\":");
    json_add_string(body, namespace_bare(j->name));
    add_namespace(j->name, body);
    buf_printf(body, ",\"index\":%llu,\"services\":[", (unsigned long long)c->index);
    for (uint32_t i = 0; i < job->services.n; i++)
        submit_service(c, j, &job->services.v[i], i, body);
    buf_add_string(body, "]}");
    TAILQ_FOREACH(s, &j->services, in_job)
        if (!s->stopped && !names_service(job, s->name))
            service_stop(c, s, false, "the job's new file leaves it out");
    state_event_by_actor(c, (struct event_text){.kind = "job", .subject = j->name}, "submitted");
}

/* The file's names are its author's; from here on they are qualified. */
int apply_job_submit(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_job_submit *p = payload;
    struct job job;
    if (object_admits(&job_type, &p->job, err))
        return -1;
    type_copy(&job_type, &job, &p->job);
    job_qualify(&job);
    int rc = check_submit(c, p, &job, err);
    if (!rc)
        submit(c, &job, body);
    type_clear(&job_type, &job);
    return rc;
}

int apply_job_delete(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_job_delete *p = payload;
    struct job_entry *j = state_job(c, p->name);
    struct service_entry *s, *next;
    if (!j)
        return error_set(err, ERROR_NOT_FOUND, "there is no job %s", p->name ? p->name : "");
    j->modify_index = c->index;
    c->changed[CORE_JOB] = c->index;
    state_event(c, (struct event_text){.kind = "job", .subject = j->name}, p->purge ? "stopped and purged" : "stopped");
    for (s = TAILQ_FIRST(&j->services); s; s = next) {
        next = TAILQ_NEXT(s, in_job);      /* the last purge takes the job along */
        service_stop(c, s, p->purge, "the job was stopped");
        service_purge_when_empty(c, s);
    }
    buf_printf(body, "{\"index\":%llu}", (unsigned long long)c->index);
    return 0;
}

/* --- single services --- */

struct service_entry *service_find(struct core *c, const char *name, bool even_stopped, struct error *err)
{
    struct service_entry *s = state_service(c, name);
    if (!s)
        error_set(err, ERROR_NOT_FOUND, "there is no service %s; `mt services` lists them", name ? name : "");
    else if (s->stopped && !even_stopped)
        error_set(err, ERROR_CONFLICT, "service %s is stopped; run its file again first", name);
    else
        return s;
    return NULL;
}

void service_answer(struct core *c, const struct service_entry *s, const char *deployment, struct buf *body)
{
    s->job->modify_index = c->index;
    c->changed[CORE_JOB] = c->index;
    buf_add_string(body, "{\"service\":");
    json_add_string(body, namespace_bare(s->name));
    add_namespace(s->name, body);
    buf_printf(body, ",\"index\":%llu,\"version\":%llu,\"deployment\":", (unsigned long long)c->index,
               (unsigned long long)s->current->v.version);
    json_add_string(body, deployment);
    buf_add_char(body, '}');
}

int apply_service_scale(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_service_scale *p = payload;
    struct service_entry *s = service_find(c, p->service, false, err);
    if (!s)
        return -1;
    const struct field *count = type_field(&service_type, "count");
    if (p->count < 0 || (double)p->count > count->max)
        return error_set(err, ERROR_INVALID, "count must be between 0 and %.0f", count->max);
    if (s->current->v.spec.mode == MODE_EVERY_NODE)
        return error_set(err, ERROR_INVALID, "service %s runs on every node; it cannot be scaled", s->name);
    if (s->current->v.spec.count != p->count) {
        struct service spec = s->current->v.spec;      /* shallow: copied by the new version */
        char why[48];
        snprintf(why, sizeof(why), "scaled from %lld to %lld", (long long)spec.count, (long long)p->count);
        spec.count = p->count;
        if (quota_admits_service(c, &spec, err))
            return -1;
        service_add_version(c, s, &(struct new_version){.spec = &spec, .why = why});
    }
    service_answer(c, s, NULL, body);
    return 0;
}

void service_restart(struct core *c, struct service_entry *s)
{
    s->generation++;
    state_touch_service(c, s);
}

int apply_service_restart(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_service *p = payload;
    struct service_entry *s = service_find(c, p->service, false, err);
    if (!s)
        return -1;
    service_restart(c, s);
    if (s->current->v.spec.schedule)
        s->run_at = c->now;                             /* run it now, apart from its schedule */
    state_event_by_actor(c, (struct event_text){.kind = "service", .subject = s->name, .service = s->name},
                "restart of all replicas was asked for");
    service_answer(c, s, NULL, body);
    return 0;
}

/* A deployment is known by its epoch: versions that needed no restart are part of it. */
static bool version_failed(const struct service_entry *s, const struct version_entry *v)
{
    const struct deployment_entry *d;
    TAILQ_FOREACH(d, &s->deployments, link)
        if (d->epoch == v->epoch && (d->d.state == DEPLOYMENT_FAILED || d->d.state == DEPLOYMENT_REVERTED))
            return true;
    return false;
}

/* The newest version that is another than the current one, not only in its count, and did not fail; NULL: none. */
static struct version_entry *version_to_go_back_to(const struct core *c, struct service_entry *s)
{
    bool differs;
    struct version_entry *v = s->current;
    while ((v = TAILQ_PREV(v, version_list_head, link))) {
        struct service spec = v->v.spec;                /* shallow: only compared */
        if (core_level(c) >= SCALE_STAYS_LEVEL)
            spec.count = s->current->v.spec.count;
        restart_needed(c, &s->current->v.spec, &spec, &differs);
        if (differs && !version_failed(s, v))
            break;
    }
    return v;
}

/* While the replicas of the version before stand beside those of the current one, it is that one. */
static struct version_entry *rollback_target(const struct core *c, struct service_entry *s,
                                             const struct command_service_rollback *p, bool *beside, struct error *err)
{
    const struct deployment_entry *d = beside_deployment(s);
    struct version_entry *to = p->to_version ? state_version(s, p->to_version) : d ? state_version(s, d->from_version) : NULL;
    *beside = to && !p->to_version;
    if (!to && !p->to_version)
        to = version_to_go_back_to(c, s);
    if (!to && !p->to_version)
        error_set(err, ERROR_CONFLICT, "service %s has no older version that did not fail and differs from the current one; "
                  "`mt versions %s` lists them, name the one to go back to", s->name, s->name);
    else if (!to)
        error_set(err, ERROR_NOT_FOUND, "service %s has no version %llu any more; `mt versions %s` lists them", s->name,
                  (unsigned long long)p->to_version, s->name);
    return to;
}

int apply_service_rollback(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_service_rollback *p = payload;
    struct service_entry *s = service_find(c, p->service, true, err);
    bool beside = false;
    struct version_entry *to = s ? rollback_target(c, s, p, &beside, err) : NULL;
    if (!to)
        return -1;
    if (to == s->current && !s->stopped)
        return error_set(err, ERROR_CONFLICT, "version %llu is the current one", (unsigned long long)p->to_version);
    char why[48], taken_back[128];
    struct service spec = to->v.spec;      /* shallow: copied by the new version */
    if (policy_admits(c, &spec, err) || ingress_admits(c, &spec, NULL, err) || secrets_admit(c, &spec, err))
        return -1;
    if (beside || (!p->to_version && core_level(c) >= SCALE_STAYS_LEVEL))
        spec.count = s->current->v.spec.count;          /* what a scaling asked for stays, but who names a version gets all of it */
    if (quota_admits_service(c, &spec, err))
        return -1;
    snprintf(why, sizeof(why), "rollback to %llu", (unsigned long long)to->v.version);
    snprintf(taken_back, sizeof(taken_back), "rolled back%s%.64s", c->actor ? " by " : "", c->actor ? c->actor : "");
    const char *deployment = service_add_version(c, s, &(struct new_version){.spec = &spec, .why = why,
                                                                             .taken_back = beside ? taken_back : NULL});
    service_answer(c, s, deployment, body);
    return 0;
}

int apply_service_delete(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_service_delete *p = payload;
    struct service_entry *s = service_find(c, p->service, true, err);
    if (!s)
        return -1;
    service_answer(c, s, NULL, body);
    service_stop(c, s, p->purge, "stop was asked for");
    service_purge_when_empty(c, s);
    return 0;
}
