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

uint64_t analysis_measured(const struct service_entry *s)
{
    const struct deployment_entry *d = beside_deployment(s);
    return d && is_open(d) ? d->share_index : 0;
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
    struct deployment_entry *d = s ? beside_deployment(s) : NULL;
    if (!d || !is_open(d) || !m->measured || m->measured != d->share_index)
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

static void conclude(struct verdict *v, enum analysis_outcome outcome, enum deployment_state state, char *reason)
{
    v->counts.analysis = outcome;
    v->state = state;
    free(v->reason);
    v->reason = reason;
}

static void fail(struct pass *p, struct verdict *v)
{
    const struct deployment_analysis *seen = &p->beside->d.analysis;
    v->counts.analysis = OUTCOME_FAILED;
    if (find_errors(asked(p->beside), seen) == FINDING_WORSE)
        snprintf(v->failure, sizeof(v->failure), "the canary did not pass its analysis: %.1f %% of its %lld requests failed, and "
                 "%.1f %% of those of the version before", percent(seen->canary.errors, seen->canary.requests),
                 (long long)seen->canary.requests, percent(seen->stable.errors, seen->stable.requests));
    else
        snprintf(v->failure, sizeof(v->failure), "the canary did not pass its analysis: 99 %% of its answers took up to %lld ms, "
                 "and those of the version before %lld ms", (long long)seen->canary.p99_ms, (long long)seen->stable.p99_ms);
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

static void wait_for_requests(struct pass *p, struct verdict *v)
{
    const struct analysis *a = asked(p->beside);
    const struct deployment_analysis *seen = &p->beside->d.analysis;
    int64_t until = seen->since + a->timeout_secs * 1000;
    CLEANUP_FREE char *lacking = !has_enough(a, seen) ? mem_printf("it takes %lld requests of each version", (long long)a->min_requests)
        : mem_strdup(!knows_latency(a, seen) ? "no ingress node tells how long requests took, since none has `access_log: true`"
                     : find_errors(a, seen) != FINDING_FINE ? "more of the canary's requests failed, which may still be chance"
                     : "the canary's answers took longer, which may still be chance");
    if (p->d->now >= until) {
        conclude(v, OUTCOME_INCONCLUSIVE, DEPLOYMENT_PAUSED,
                 mem_printf("the canary could not be analysed within %llds: %s; `mt promote %s` goes on, `mt abort %s` goes back",
                            (long long)a->timeout_secs, lacking, p->s->name, p->s->name));
        return;
    }
    pass_wake(p, until);
    free(v->reason);
    v->reason = mem_printf("the analysis of the canary waits: %s; `mt promote %s` goes on without it, `mt abort %s` goes back", lacking,
                           p->s->name, p->s->name);
}

void analysis_judge(struct pass *p, struct verdict *v)
{
    const struct analysis *a = asked(p->beside);
    const struct deployment_analysis *seen = &p->beside->d.analysis;
    int64_t until = seen->since + a->window_secs * 1000;
    if (!is_open(p->beside) || !a->window_secs)
        return;
    bool enough = has_enough(a, seen);
    enum finding errors = seen->stable.requests >= a->min_requests ? find_errors(a, seen) : FINDING_CHANCE;
    enum finding times = enough ? find_times(p->beside) : FINDING_CHANCE;
    if (errors == FINDING_WORSE || times == FINDING_WORSE)
        fail(p, v);
    else if (p->d->now < until)
        pass_wake(p, until);
    else if (enough && knows_latency(a, seen) && errors == FINDING_FINE && times == FINDING_FINE)
        succeed(p, v);
    else
        wait_for_requests(p, v);
}
