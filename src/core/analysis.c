#include "core/analysis.h"

#include <stdio.h>
#include <string.h>

#include "core/chance.h"
#include "core/ingress.h"
#include "core/reconcile.h"
#include "model/latency.h"

#define COUNT_MAX (INT64_C(1) << 40)     /* of a version, by one node: sums of many are far from overflowing */
#define VERSIONS_MAX 16
#define P99_NOISE_MS 10                  /* by so much more it may always take: what is fast differs by chance */
#define SURE 6.9                         /* see chance.h: who is no worse is found to be with one in a thousand */

static const struct analysis *asked(const struct deployment_entry *d)
{
    return &d->service->current->v.spec.deploy.analysis;
}

static bool is_open(const struct deployment_entry *d)
{
    return d->d.analysis.outcome == OUTCOME_OPEN;
}

void analysis_end(struct core *c, struct deployment_entry *d, enum analysis_outcome outcome)
{
    if (!is_open(d))
        return;
    d->d.analysis.outcome = outcome;
    list_clear((struct list *)&d->measures, &node_measure_type);
    ingress_set_changed(c, d->service);
}

void analysis_begin(struct core *c, struct deployment_entry *d)
{
    int64_t percent = d->d.traffic_percent;
    bool wanted = d->d.strategy == STRATEGY_CANARY && asked(d)->window_secs && percent > 0 && percent < 100;
    list_clear((struct list *)&d->measures, &node_measure_type);
    d->d.analysis = (struct deployment_analysis){.outcome = wanted ? OUTCOME_OPEN : OUTCOME_NONE};
    ingress_set_changed(c, d->service);
}

void analysis_open_window(struct core *c, struct deployment_entry *d)
{
    if (is_open(d))
        d->d.analysis.since = c->now;
}

void analysis_begin_rollout(struct core *c, struct deployment_entry *d)
{
    const struct version_entry *from = state_version(d->service, d->d.previous_version);
    if (!from)
        return;
    d->from_epoch = from->epoch;
    d->share_index = c->index;
    d->d.analysis = (struct deployment_analysis){.outcome = OUTCOME_OPEN, .since = c->now};
    ingress_set_changed(c, d->service);
}

static struct deployment_entry *measured(const struct service_entry *s)
{
    struct deployment_entry *d = s->stopped ? NULL : state_running_deployment(s);
    return d && is_open(d) ? d : NULL;
}

uint64_t analysis_measured(const struct service_entry *s)
{
    const struct deployment_entry *d = measured(s);
    return d ? d->share_index : 0;
}

/* --- what the nodes measured --- */

static struct node_measure *of_node(struct deployment_entry *d, const char *id)
{
    for (uint32_t i = 0; i < d->measures.n; i++)
        if (strcmp(d->measures.v[i].node, id) == 0)
            return &d->measures.v[i];
    struct node_measure *m = list_add((struct list *)&d->measures, &node_measure_type);
    m->node = mem_strdup(id);
    return m;
}

static void add_side(struct side_measure *to, const struct side_measure *more)
{
    to->requests += more->requests;
    to->errors += more->errors;
    latency_list_add(&to->latencies, &more->latencies);
}

static bool makes_sense(const struct version_measure *v)
{
    return v->requests >= 0 && v->requests <= COUNT_MAX && v->errors >= 0 && v->errors <= v->requests
           && latency_list_valid(&v->latencies);
}

/* A deployment whose service is changed on the way, without new replicas, has its new ones under several versions. */
static void take_versions(const struct deployment_entry *d, const struct ingress_measure *m, struct node_measure *to)
{
    for (uint32_t i = 0; i < m->versions.n && i < VERSIONS_MAX; i++) {
        const struct version_measure *v = &m->versions.v[i];
        const struct version_entry *known = state_version(d->service, v->version);
        if (!known || !makes_sense(v))
            continue;
        struct side_measure part = {.requests = v->requests, .errors = v->errors, .latencies = v->latencies};
        if (known->epoch == d->epoch)
            add_side(&to->canary, &part);
        else if (known->epoch == d->from_epoch)
            add_side(&to->stable, &part);
    }
}

static void sum_side(const struct deployment_entry *d, size_t offset, struct side_measure *sum)
{
    for (uint32_t i = 0; i < d->measures.n; i++)
        add_side(sum, (const void *)((const char *)&d->measures.v[i] + offset));
}

static struct analysis_side shown(const struct deployment_entry *d, size_t now, size_t before)
{
    struct side_measure sum = {0};
    sum_side(d, now, &sum);
    sum_side(d, before, &sum);
    struct analysis_side side = {.requests = sum.requests, .errors = sum.errors,
                                 .p99_ms = latency_list_percentile(&sum.latencies, 99)};
    type_clear(&side_measure_type, &sum);
    return side;
}

void analysis_take(struct core *c, const struct node_entry *n, const struct ingress_measure *m)
{
    struct service_entry *s = m->service ? state_service(c, m->service) : NULL;
    struct deployment_entry *d = s ? measured(s) : NULL;
    if (!d || !m->measured || m->measured != d->share_index)
        return;
    struct node_measure *known = of_node(d, n->n.id), fresh = {.since = m->since};
    take_versions(d, m, &fresh);
    bool again = m->since == known->since;
    if (m->since < known->since || (again && fresh.canary.requests + fresh.stable.requests
                                             <= known->canary.requests + known->stable.requests)) {
        type_clear(&node_measure_type, &fresh);
        return;
    }
    if (!again) {                         /* its agent began anew: what it said before stands */
        add_side(&known->canary_before, &known->canary);
        add_side(&known->stable_before, &known->stable);
    }
    type_clear(&side_measure_type, &known->canary);
    type_clear(&side_measure_type, &known->stable);
    known->since = m->since;
    known->canary = fresh.canary;
    known->stable = fresh.stable;
    d->d.analysis.canary = shown(d, offsetof(struct node_measure, canary), offsetof(struct node_measure, canary_before));
    d->d.analysis.stable = shown(d, offsetof(struct node_measure, stable), offsetof(struct node_measure, stable_before));
    state_touch_deployment(c, d);
    state_set_dirty(c, s);
}

/* --- judging --- */

static double percent(int64_t part, int64_t of)
{
    return of ? 100.0 * (double)part / (double)of : 0;
}

enum finding { FINDING_FINE, FINDING_CHANCE /* worse, which may be chance */, FINDING_WORSE };

static enum finding find_errors(const struct analysis *a, const struct deployment_analysis *seen)
{
    struct chance_count stable = {seen->stable.requests, seen->stable.errors}, canary = {seen->canary.requests, seen->canary.errors};
    if (percent(canary.hits, canary.of) <= percent(stable.hits, stable.of) + a->max_error_rate_increase)
        return FINDING_FINE;
    return chance_of_difference(stable, canary, a->max_error_rate_increase / 100) > SURE ? FINDING_WORSE : FINDING_CHANCE;
}

static int64_t longer_than(const struct deployment_entry *d, int64_t ms)
{
    int64_t n = 0;
    for (uint32_t i = 0; i < d->measures.n; i++)
        n += latency_list_beyond(&d->measures.v[i].canary.latencies, ms) + latency_list_beyond(&d->measures.v[i].canary_before.latencies, ms);
    return n;
}

/* 99 % of its answers should come within this time: of those that take longer there are one in a hundred, or less. */
static enum finding find_times(const struct deployment_entry *d)
{
    const struct analysis *a = asked(d);
    const struct deployment_analysis *seen = &d->d.analysis;
    int64_t canary = seen->canary.p99_ms, stable = seen->stable.p99_ms;
    double most = a->max_p99_ratio * (double)stable;
    int64_t limit = most > (double)(stable + P99_NOISE_MS) ? (int64_t)most : stable + P99_NOISE_MS;
    if (a->max_p99_ratio <= 0 || canary <= limit)
        return FINDING_FINE;
    struct chance_count slow = {longer_than(d, -1), longer_than(d, limit)};
    return chance_of_more(slow, 0.01) > SURE ? FINDING_WORSE : FINDING_CHANCE;
}

static bool has_enough(const struct analysis *a, const struct deployment_analysis *seen)
{
    return seen->canary.requests >= a->min_requests && seen->stable.requests >= a->min_requests;
}

static bool knows_latency(const struct analysis *a, const struct deployment_analysis *seen)
{
    return a->max_p99_ratio <= 0 || (seen->canary.p99_ms && seen->stable.p99_ms);
}

static int64_t window_ends(const struct deployment_entry *d)
{
    return d->d.analysis.since + asked(d)->window_secs * 1000;
}

static int64_t waiting_ends(const struct deployment_entry *d)
{
    return d->d.analysis.since + asked(d)->timeout_secs * 1000;
}

static void conclude(struct verdict *v, enum analysis_outcome outcome, enum deployment_state state, char *reason)
{
    v->counts.analysis = outcome;
    v->state = state;
    free(v->reason);
    v->reason = reason;
}

static const char *who(const struct deployment_entry *d)
{
    return d->beside ? "the canary" : "the new version";
}

/* Of the requests that there are so far. */
struct findings { bool enough; enum finding errors, times; };

static struct findings find(const struct deployment_entry *d)
{
    const struct analysis *a = asked(d);
    const struct deployment_analysis *seen = &d->d.analysis;
    struct findings f = {.enough = has_enough(a, seen), .errors = FINDING_CHANCE, .times = FINDING_CHANCE};
    if (seen->stable.requests >= a->min_requests)
        f.errors = find_errors(a, seen);
    if (f.enough)
        f.times = find_times(d);
    return f;
}

static bool are_worse(const struct findings *f)
{
    return f->errors == FINDING_WORSE || f->times == FINDING_WORSE;
}

static bool are_fine(const struct deployment_entry *d, const struct findings *f)
{
    return f->enough && knows_latency(asked(d), &d->d.analysis) && f->errors == FINDING_FINE && f->times == FINDING_FINE;
}

static void fail(const struct pass *p, struct verdict *v, const struct findings *f)
{
    const struct deployment_entry *d = p->deployment;
    const struct deployment_analysis *seen = &d->d.analysis;
    v->counts.analysis = OUTCOME_FAILED;
    if (f->errors == FINDING_WORSE)
        snprintf(v->failure, sizeof(v->failure), "%s did not pass its analysis: %.1f %% of its %lld requests failed, and "
                 "%.1f %% of those of the version before", who(d), percent(seen->canary.errors, seen->canary.requests),
                 (long long)seen->canary.requests, percent(seen->stable.errors, seen->stable.requests));
    else
        snprintf(v->failure, sizeof(v->failure), "%s did not pass its analysis: 99 %% of its answers took up to %lld ms, "
                 "and those of the version before %lld ms", who(d), (long long)seen->canary.p99_ms, (long long)seen->stable.p99_ms);
}

/* What an analysis waits for whose window is over. The caller's. */
static char *lacking(const struct deployment_entry *d, const struct findings *f)
{
    const struct analysis *a = asked(d);
    if (!f->enough)
        return mem_printf("it takes %lld requests of each version", (long long)a->min_requests);
    if (!knows_latency(a, &d->d.analysis))
        return mem_strdup("no ingress node tells how long requests took, since none has `access_log: true`");
    return mem_printf(f->errors != FINDING_FINE ? "more of %s's requests failed, which may still be chance"
                                                : "%s's answers took longer, which may still be chance", who(d));
}

static void succeed(struct pass *p, struct verdict *v)
{
    const struct deployment_analysis *seen = &p->beside->d.analysis;
    bool goes_on = asked(p->beside)->then == ANALYSIS_PROMOTE;
    CLEANUP_FREE char *found = mem_printf("the canary passed its analysis: of %lld requests %.1f %% failed",
                                          (long long)seen->canary.requests,
                                          percent(seen->canary.errors, seen->canary.requests));
    conclude(v, OUTCOME_PASSED, goes_on ? DEPLOYMENT_RUNNING : DEPLOYMENT_PAUSED,
             goes_on ? mem_printf("%s; it gets all requests", found)
                     : mem_printf("%s: `mt promote %s` goes on, `mt abort %s` goes back", found, p->s->name, p->s->name));
}

static void wait_for_requests(struct pass *p, struct verdict *v, const struct findings *f)
{
    const struct analysis *a = asked(p->beside);
    int64_t until = waiting_ends(p->beside);
    CLEANUP_FREE char *what = lacking(p->beside, f);
    if (p->d->now >= until) {
        conclude(v, OUTCOME_INCONCLUSIVE, DEPLOYMENT_PAUSED,
                 mem_printf("the canary could not be analysed within %llds: %s; `mt promote %s` goes on, `mt abort %s` goes back",
                            (long long)a->timeout_secs, what, p->s->name, p->s->name));
        return;
    }
    pass_wake(p, until);
    free(v->reason);
    v->reason = mem_printf("the analysis of the canary waits: %s; `mt promote %s` goes on without it, `mt abort %s` goes back", what,
                           p->s->name, p->s->name);
}

void analysis_judge(struct pass *p, struct verdict *v)
{
    int64_t until = window_ends(p->beside);
    if (!is_open(p->beside) || !asked(p->beside)->window_secs)
        return;
    struct findings f = find(p->beside);
    if (are_worse(&f))
        fail(p, v, &f);
    else if (p->d->now < until)
        pass_wake(p, until);
    else if (are_fine(p->beside, &f))
        succeed(p, v);
    else
        wait_for_requests(p, v, &f);
}

/* --- rollouts in batches --- */

/* Of the version before, with which the new one is compared. */
static bool any_serves(const struct pass *p, const struct version_entry *from)
{
    for (uint32_t i = 0; i < p->slots.alloc_count; i++)
        if (p->slots.allocs[i]->epoch == from->epoch && entry_wanted(p->slots.allocs[i]) && alloc_serves(p->slots.allocs[i]))
            return true;
    return false;
}

/* It is to be analysed, and that has not begun. */
static bool is_ahead(const struct pass *p, const struct deployment_entry *d)
{
    const struct version_entry *from = state_version(p->s, d->d.previous_version);
    return d->d.analysis.outcome == OUTCOME_NONE && spec_takes_web(p->want.spec)
           && core_level(p->d->c) >= ROLLING_ANALYSIS_LEVEL && from && from->epoch != d->epoch && any_serves(p, from);
}

/* Until when the window lasts; after that as long as what was found is not fine, but no longer than timeout_secs. */
static int64_t holds_until(const struct deployment_entry *d, int64_t now)
{
    if (now < window_ends(d))
        return window_ends(d);
    struct findings f = find(d);
    return are_fine(d, &f) ? now : waiting_ends(d);
}

bool analysis_holds(struct pass *p)
{
    const struct deployment_entry *d = TAILQ_LAST(&p->s->deployments, deployment_list_head);
    if (!d || d->beside || d->epoch != p->want.epoch)
        return false;
    if (d->d.state == DEPLOYMENT_FAILED)
        return d->d.analysis.outcome == OUTCOME_FAILED;
    if (d->d.state != DEPLOYMENT_RUNNING || !asked(d)->window_secs)
        return false;
    if (!is_open(d))
        return is_ahead(p, d);
    int64_t until = holds_until(d, p->d->now);
    if (p->d->now < until)
        pass_wake(p, until);
    return p->d->now < until;
}

/* All new replicas that there are count. */
static bool batch_counts(struct pass *p)
{
    bool any = false;
    for (uint32_t i = 0; i < p->slots.n; i++) {
        const struct slot *slot = &p->slots.v[i];
        if (!slot->desired || !slot->fresh)
            continue;
        if (!pass_counts(p, slot->fresh))
            return false;
        any = true;
    }
    return any;
}

static void end_rollout(const struct deployment_entry *d, const struct findings *f, struct verdict *v)
{
    const struct analysis_side *new = &d->d.analysis.canary;
    bool fine = are_fine(d, f);
    CLEANUP_FREE char *what = fine ? NULL : lacking(d, f);
    v->counts.analysis = fine ? OUTCOME_PASSED : OUTCOME_INCONCLUSIVE;
    v->reason = fine ? mem_printf("all replicas serve; the new version passed its analysis: of %lld requests %.1f %% failed",
                                  (long long)new->requests, percent(new->errors, new->requests))
                     : mem_printf("all replicas serve; the new version could not be analysed within %llds: %s",
                                  (long long)asked(d)->timeout_secs, what);
}

static char *waits_for_what(const struct pass *p, const struct findings *f)
{
    const struct deployment_entry *d = p->deployment;
    CLEANUP_FREE char *what = p->d->now < window_ends(d) ? mem_printf("they are watched for %llds", (long long)asked(d)->window_secs)
                                                         : lacking(d, f);
    return mem_printf("the first replicas of the new version serve beside those of the one before: %s; `mt promote %s` goes on at once, "
                      "`mt abort %s` goes back", what, p->s->name, p->s->name);
}

void analysis_judge_rollout(struct pass *p, struct verdict *v)
{
    const struct deployment_entry *d = p->deployment;
    v->settled &= !p->holds;
    if (!asked(d)->window_secs)
        return;
    if (!is_open(d)) {
        if (p->holds && batch_counts(p))
            v->counts.analysis = OUTCOME_OPEN;
        return;
    }
    struct findings f = find(d);
    if (are_worse(&f))
        fail(p, v, &f);
    else if (v->settled)
        end_rollout(d, &f, v);
    else if (p->holds)
        v->reason = waits_for_what(p, &f);
}
