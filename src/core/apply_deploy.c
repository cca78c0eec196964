/* Deployments: how they begin, go on, are taken back and end. */
#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "base/random.h"
#include "core/analysis.h"
#include "core/apply.h"
#include "core/beside.h"
#include "core/slots.h"

static void tell(struct core *c, struct deployment_entry *d, enum deployment_state from, const char *reason)
{
    state_touch_deployment(c, d);
    state_event(c, (struct event_text){.kind = "deployment", .subject = d->d.id, .service = d->d.service,
                                       .from = enum_name(deployment_state_names, (int)from),
                                       .to = enum_name(deployment_state_names, (int)d->d.state)}, "%s", reason);
}

static void set_state(struct core *c, struct deployment_entry *d, enum deployment_state state, const char *reason)
{
    enum deployment_state from = d->d.state;
    d->d.state = state;
    mem_set_string(&d->d.reason, reason);
    d->progress_at = c->now;
    tell(c, d, from, reason);
}

void deployment_finish(struct core *c, struct deployment_entry *d, enum deployment_state state, const char *reason)
{
    d->d.finished_at = c->now;
    d->d.standby_until = 0;
    analysis_end(c, d, OUTCOME_NONE);
    set_state(c, d, state, reason);
}

/* --- beginning --- */

static bool has_wanted(struct service_entry *s, uint64_t epoch, bool of_it)
{
    struct alloc_entry *a;
    RB_FOREACH(a, alloc_replica_tree, &s->allocs)
        if (entry_wanted(a) && (a->epoch == epoch) == of_it)
            return true;
    return false;
}

/* What the replicas beside the new ones are, and what is gone back to. */
static void stand_beside(struct service_entry *s, struct deployment_entry *d, const struct version_entry *old)
{
    const struct service *spec = &s->current->v.spec;
    const struct version_entry *stable = state_version(s, s->stable_version);
    const struct version_entry *from = stable && has_wanted(s, stable->epoch, true) ? stable : old;
    if (spec->deploy.strategy == STRATEGY_ROLLING || spec->mode != MODE_SERVICE || spec_stops_first(spec) || !from
        || from->v.spec.mode != MODE_SERVICE || spec_stops_first(&from->v.spec) || from->epoch == d->epoch
        || !has_wanted(s, d->epoch, false))
        return;
    d->beside = true;
    d->from_version = d->d.previous_version = from->v.version;
    d->from_epoch = from->epoch;
    d->d.target_percent = spec->deploy.strategy == STRATEGY_CANARY ? spec->deploy.canary_percent : 100;
}

struct deployment_entry *deployment_begin(struct core *c, struct service_entry *s, const struct version_entry *old,
                                          bool revert)
{
    char id[ID_LEN + 1];
    struct deployment_entry *d = NEW(struct deployment_entry);
    const struct service_version *v = &s->current->v;
    uint64_t salt = 0;
    do
        id_format(id, hash_string(s->name, hash_mix(c->index) + salt++));
    while (state_deployment(c, id));
    d->d = (struct deployment){
        .id = mem_strdup(id), .service = mem_strdup(s->name), .job = mem_strdup(s->job->name), .version = v->version,
        .previous_version = revert ? 0 : s->stable_version, .strategy = v->spec.deploy.strategy,
        .state = DEPLOYMENT_RUNNING, .desired = v->spec.count, .created_at = c->now, .create_index = c->index,
        .modify_index = c->index, .reason = mem_strdup("not all replicas serve yet")};
    d->revert = revert;
    d->progress_at = c->now;
    d->epoch = s->current->epoch;
    if (!revert)
        stand_beside(s, d, old);
    if (!d->beside && has_wanted(s, d->epoch, false))
        d->d.strategy = STRATEGY_ROLLING;          /* whatever its version says: it takes back one that was rolled out */
    state_add_deployment(c, s, d);
    state_event(c, (struct event_text){.kind = "deployment", .subject = d->d.id, .service = s->name, .to = "running"},
                "version %llu is rolled out", (unsigned long long)v->version);
    return d;
}

/* --- ending before its time --- */

static void stop_side(struct core *c, struct service_entry *s, uint64_t epoch, bool of_it, const char *reason)
{
    struct alloc_entry *a;
    RB_FOREACH(a, alloc_replica_tree, &s->allocs)
        if (entry_wanted(a) && (a->epoch == epoch) == of_it)
            alloc_stop(c, a, reason);
}

/* One side stays: the one that has the requests. */
void deployment_supersede(struct core *c, struct deployment_entry *d, bool goes_back)
{
    struct service_entry *s = d->service;
    bool switched = d->d.traffic_percent == 100 && !goes_back;
    stop_side(c, s, d->epoch, !switched, switched ? "a newer version was submitted: its standby is over"
                                         : goes_back ? "its version was taken back"
                                                     : "its version was superseded before it was rolled out");
    if (switched && d->d.state <= DEPLOYMENT_PAUSED) {
        s->stable_version = d->d.version;
        deployment_finish(c, d, DEPLOYMENT_SUCCESSFUL, "a newer version was submitted");
    }
}

const char *deployment_take_back(struct core *c, struct deployment_entry *d, const char *reason)
{
    struct service_entry *s = d->service;
    struct version_entry *to = state_version(s, d->d.previous_version);
    if (!to || to == s->current) {
        deployment_finish(c, d, DEPLOYMENT_FAILED, reason);
        return NULL;
    }
    struct service spec = to->v.spec;      /* shallow: copied by the new version */
    spec.count = s->current->v.spec.count;
    CLEANUP_FREE char *why = mem_printf("reverted to %llu: %.200s", (unsigned long long)to->v.version, reason);
    return service_add_version(c, s, &(struct new_version){.spec = &spec, .why = why, .revert = true,
                                                           .taken_back = reason});
}

/* --- the leader's decisions --- */

static bool set_share(struct core *c, struct deployment_entry *d, const struct decide_deployment *p)
{
    struct service_entry *s = d->service;
    if (beside_deployment(s) != d || p->share <= d->d.traffic_percent || p->share > d->d.target_percent
        || !beside_serves(s, d))
        return false;
    d->d.traffic_percent = p->share;
    d->share_index = c->index;
    d->share_at = d->progress_at = c->now;
    analysis_begin(c, d);
    if (s->current->v.spec.ingress.n) {
        CLEANUP_FREE char *text = mem_printf("version %llu gets %lld %% of the requests", (unsigned long long)d->d.version,
                                             (long long)p->share);
        tell(c, d, d->d.state, text);
    }
    return true;
}

static bool may_pause(const struct deployment_entry *d)
{
    return d->beside && d->d.state == DEPLOYMENT_RUNNING && !d->promoted
           && d->d.traffic_percent == d->d.target_percent;
}

static void pause(struct core *c, struct deployment_entry *d, const char *reason)
{
    if (d->d.strategy == STRATEGY_BLUE_GREEN)
        d->d.standby_until = c->now + d->service->current->v.spec.deploy.standby_secs * 1000;
    analysis_open_window(c, d);
    set_state(c, d, DEPLOYMENT_PAUSED, reason);
}

static void promote(struct core *c, struct deployment_entry *d, const char *reason)
{
    d->promoted = true;
    d->d.standby_until = 0;
    set_state(c, d, DEPLOYMENT_RUNNING, reason);
}

static bool may_succeed(const struct deployment_entry *d)
{
    return !d->beside || (d->d.traffic_percent == 100 && d->d.state == DEPLOYMENT_RUNNING
                          && !has_wanted(d->service, d->epoch, false));
}

/* What the analysis came to. It passed: everything goes to the new version, unless somebody is to say so. */
static void conclude(struct core *c, struct deployment_entry *d, const struct decide_deployment *p, const char *reason)
{
    analysis_end(c, d, (enum analysis_outcome)p->analysis);
    if (p->state == DEPLOYMENT_RUNNING)
        d->d.target_percent = 100;
    set_state(c, d, (enum deployment_state)p->state, reason);
}

/* A canary's begins with its part of the requests, and ends in its pause; a rollout's begins and ends on the way. */
static bool analysis_makes_sense(const struct deployment_entry *d, const struct decide_deployment *p)
{
    enum analysis_outcome now = d->d.analysis.outcome;
    if (p->analysis == OUTCOME_OPEN)
        return !d->beside && now == OUTCOME_NONE && d->d.state == DEPLOYMENT_RUNNING && p->state == DEPLOYMENT_RUNNING;
    return d->d.state == (d->beside ? DEPLOYMENT_PAUSED : DEPLOYMENT_RUNNING) && now == OUTCOME_OPEN && p->analysis > OUTCOME_OPEN
           && p->analysis <= OUTCOME_INCONCLUSIVE;
}

void deployment_change(struct core *c, const struct decide_deployment *p)
{
    struct deployment_entry *d = state_deployment(c, p->id);
    if (!d || d->d.state > DEPLOYMENT_PAUSED || p->state < 0 || p->state > DEPLOYMENT_CANCELLED)
        return;
    if (p->analysis && !analysis_makes_sense(d, p))
        return;
    const char *reason = p->reason ? p->reason : "";
    if (p->healthy > d->d.healthy || (d->held && !p->held))
        d->progress_at = c->now;
    d->held = p->held;
    d->d.desired = p->desired;
    d->d.placed = p->placed;
    d->d.healthy = p->healthy;
    d->d.unhealthy = p->unhealthy;
    state_touch_deployment(c, d);
    if (p->analysis == OUTCOME_OPEN)
        analysis_begin_rollout(c, d);
    else if (p->analysis && (!d->beside || p->analysis == OUTCOME_FAILED))
        analysis_end(c, d, (enum analysis_outcome)p->analysis);
    if (p->state == DEPLOYMENT_REVERTED) {
        deployment_take_back(c, d, reason);
    } else if (p->state == DEPLOYMENT_FAILED || p->state == DEPLOYMENT_CANCELLED) {
        deployment_finish(c, d, (enum deployment_state)p->state, reason);
    } else if (p->analysis && d->beside) {
        conclude(c, d, p, reason);
    } else if (p->state == DEPLOYMENT_SUCCESSFUL && may_succeed(d)) {
        d->service->stable_version = d->d.version;
        d->d.traffic_percent = d->beside ? 100 : 0;
        deployment_finish(c, d, DEPLOYMENT_SUCCESSFUL, reason);
    } else if (p->state == DEPLOYMENT_PAUSED && may_pause(d)) {
        pause(c, d, reason);
    } else if (p->promote && d->beside && !d->promoted && d->d.traffic_percent == 100) {
        promote(c, d, reason);
    } else if (p->set_share ? set_share(c, d, p) : p->state == (int64_t)d->d.state) {
        mem_set_string(&d->d.reason, reason);
    }
}

/* --- what users ask --- */

static struct deployment_entry *find_deployment(struct core *c, const char *service, struct error *err)
{
    struct service_entry *s = service_find(c, service, false, err);
    struct deployment_entry *d = s ? state_running_deployment(s) : NULL;
    if (s && !d)
        error_set(err, ERROR_CONFLICT, "no deployment of service %s is under way", s->name);
    return d;
}

static void by_whom(const struct core *c, const char *what, char *out, size_t size)
{
    snprintf(out, size, "%s%s%.64s", what, c->actor ? " by " : "", c->actor ? c->actor : "");
}

static int promote_canary(struct core *c, struct deployment_entry *d, int64_t percent, struct error *err)
{
    char text[128];
    int64_t to = percent ? percent : 100;
    if (to <= d->d.traffic_percent || to > 100)
        return error_set(err, ERROR_INVALID, "percent must be between %lld, which the canary of service %s is past, and 100",
                         (long long)d->d.traffic_percent + 1, d->d.service);
    d->d.target_percent = to;
    analysis_end(c, d, OUTCOME_NONE);
    by_whom(c, "promoted", text, sizeof(text));
    set_state(c, d, DEPLOYMENT_RUNNING, text);
    return 0;
}

/* It goes on without having been judged. */
static int promote_rollout(struct core *c, struct deployment_entry *d, int64_t percent, struct buf *body, struct error *err)
{
    char text[128];
    if (percent && percent != 100)
        return error_set(err, ERROR_INVALID, "version %llu of service %s is rolled out in batches: only a canary is promoted in steps",
                         (unsigned long long)d->d.version, d->d.service);
    analysis_end(c, d, OUTCOME_INCONCLUSIVE);
    by_whom(c, "promoted", text, sizeof(text));
    set_state(c, d, DEPLOYMENT_RUNNING, text);
    service_answer(c, d->service, d->d.id, body);
    return 0;
}

int apply_service_promote(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_service_promote *p = payload;
    char text[128];
    struct deployment_entry *d = find_deployment(c, p->service, err);
    if (!d)
        return -1;
    if (!d->beside && d->d.analysis.outcome == OUTCOME_OPEN)
        return promote_rollout(c, d, p->percent, body, err);
    if (!d->beside)
        return error_set(err, ERROR_CONFLICT, "version %llu of service %s is rolled out without a pause; there is nothing to "
                         "promote", (unsigned long long)d->d.version, d->d.service);
    if (d->d.state != DEPLOYMENT_PAUSED)
        return error_set(err, ERROR_CONFLICT, "the deployment of service %s has not come to its pause yet: %s", d->d.service,
                         d->d.reason ? d->d.reason : "");
    if (d->d.strategy == STRATEGY_CANARY) {
        if (promote_canary(c, d, p->percent, err))
            return -1;
    } else if (p->percent && p->percent != 100) {
        return error_set(err, ERROR_INVALID, "version %llu of service %s has all requests already: only a canary is promoted "
                         "in steps", (unsigned long long)d->d.version, d->d.service);
    } else {
        by_whom(c, "standby ended", text, sizeof(text));
        promote(c, d, text);
    }
    service_answer(c, d->service, d->d.id, body);
    return 0;
}

int apply_service_abort(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_service *p = payload;
    char text[128];
    struct deployment_entry *d = find_deployment(c, p->service, err);
    if (!d)
        return -1;
    struct service_entry *s = d->service;
    if (!state_version(s, d->d.previous_version))
        return error_set(err, ERROR_CONFLICT, "service %s has no earlier version that worked, to which it could go back; "
                         "`mt stop %s` ends it", s->name, s->name);
    by_whom(c, "aborted", text, sizeof(text));
    service_answer(c, s, deployment_take_back(c, d, text), body);
    return 0;
}
