/* Analysis: a canary is promoted or taken back by the requests that ingress nodes measured. */
#include <string.h>

#include "../cmocka_all.h"
#include "cluster.h"
#include "core/chance.h"
#include "model/latency.h"

#define WEB(analysis) "    count: 4\n    ports: [{name: http, port: 80}]\n    health: {type: tcp, interval: 1s}\n" \
    "    ingress: [{host: a.example, port: http}]\n" \
    "    deploy: {strategy: canary, canary_percent: 25, analysis: {window_secs: 60, " analysis "}}\n"
#define PLAIN WEB("timeout_secs: 600")

/* Version 2's. */
static const struct deployment *canary(struct cluster *c)
{
    const struct deployment *d = NULL, *found = NULL;
    while ((d = core_deployment_next(c->core, d ? d->id : NULL)))
        if (d->version == 2)
            found = d;
    assert_non_null(found);
    return found;
}

static uint64_t measured(struct cluster *c)
{
    struct agent_ingress t;
    core_agent_ingress(c->core, &t);
    uint64_t index = t.routes.v[0].measured;
    type_clear(&agent_ingress_type, &t);
    return index;
}

static void follow(struct cluster *c)
{
    for (unsigned n = 7; n < 9; n++)
        cluster_proxy(c, n, NULL);
    cluster_decide(c);
}

/* Version 2 has its part of the requests beside version 1, and pauses. */
static void begin(struct cluster *c, const char *yaml)
{
    CLEANUP_FREE char *next = mem_printf("%s    env: {A: b}\n", yaml);
    cluster_init(c, 7);
    cluster_add_ingress_node(c, 7);
    cluster_add_ingress_node(c, 8);
    assert_true(cluster_submit(c, "web", yaml));
    cluster_decide(c);
    cluster_report_all(c, "web", ALLOC_HEALTHY);
    follow(c);
    assert_int_equal(measured(c), 0);
    assert_true(cluster_submit(c, "web", next));
    cluster_decide(c);
    cluster_report_all(c, "web", ALLOC_HEALTHY);
    follow(c);
    assert_int_not_equal(measured(c), 0);
    follow(c);
    assert_int_equal(canary(c)->state, DEPLOYMENT_PAUSED);
    assert_int_equal(canary(c)->analysis.outcome, OUTCOME_OPEN);
}

struct seen { int64_t requests, errors, ms; };

static void add_version(struct ingress_measure *m, uint64_t version, const struct seen *seen)
{
    struct version_measure *v = list_add((struct list *)&m->versions, &version_measure_type);
    v->version = version;
    v->requests = seen->requests;
    v->errors = seen->errors;
    if (!seen->ms)
        return;
    struct latency *l = list_add((struct list *)&v->latencies, &latency_type);
    *l = (struct latency){latency_step_ms(latency_step(seen->ms)), seen->requests};
}

struct told { unsigned node; uint64_t index; int64_t since; };

static void tell_at(struct cluster *c, struct told at, struct seen stable, struct seen new)
{
    struct command cmd;
    command_init(&cmd, COMMAND_INGRESS_REPORT, c->now, NULL, NULL);
    struct ingress_report *p = cmd.payload;
    p->node_id = mem_strdup(cluster_node_id(at.node));
    struct ingress_measure *m = list_add((struct list *)&p->measures, &ingress_measure_type);
    m->service = mem_strdup("web");
    m->measured = at.index;
    m->since = at.since;
    add_version(m, 1, &stable);
    add_version(m, 2, &new);
    assert_true(cluster_apply(c, &cmd));
    cluster_decide(c);
}

static void tell(struct cluster *c, struct seen stable, struct seen new)
{
    tell_at(c, (struct told){7, measured(c), 1}, stable, new);
}

static void assert_canary(struct cluster *c, enum deployment_state state, enum analysis_outcome outcome, const char *reason)
{
    const struct deployment *d = canary(c);
    if (d->state != state || d->analysis.outcome != outcome || !strstr(d->reason, reason))
        fail_msg("it is %s, its analysis %s: %s", deployment_state_names[d->state], analysis_outcome_names[d->analysis.outcome],
                 d->reason);
}

static void a_good_canary_is_promoted_when_its_window_is_over(void **state)
{
    struct cluster c;
    begin(&c, PLAIN);
    tell(&c, (struct seen){900, 9, 20}, (struct seen){300, 5, 30});
    cluster_pass(&c, 59999);
    assert_canary(&c, DEPLOYMENT_PAUSED, OUTCOME_OPEN, "gets 25 %");
    cluster_pass(&c, 1);
    assert_canary(&c, DEPLOYMENT_RUNNING, OUTCOME_PASSED, "");
    assert_true(cluster_event(&c, "the canary passed its analysis: of 300 requests 1.7 % failed; it gets all requests"));
    assert_int_equal(canary(&c)->target_percent, 100);
    assert_int_equal(canary(&c)->analysis.stable.p99_ms, 20);
    assert_int_equal(measured(&c), 0);
    cluster_clear(&c);
}

static void it_can_pause_instead(void **state)
{
    struct cluster c;
    begin(&c, WEB("then: pause, max_p99_ratio: 0"));
    tell(&c, (struct seen){900, 0, 0}, (struct seen){300, 0, 0});
    cluster_pass(&c, 60000);
    assert_canary(&c, DEPLOYMENT_PAUSED, OUTCOME_PASSED, "`mt promote web` goes on");
    assert_int_equal(measured(&c), 0);
    cluster_clear(&c);
}

static void errors_take_it_back_at_once(void **state)
{
    struct cluster c;
    begin(&c, PLAIN);
    tell(&c, (struct seen){90, 0, 20}, (struct seen){30, 30, 20});       /* of version 1 too few are known */
    assert_canary(&c, DEPLOYMENT_PAUSED, OUTCOME_OPEN, "gets 25 %");
    tell(&c, (struct seen){120, 12, 20}, (struct seen){40, 10, 20});     /* a quarter for a tenth: chance may do that */
    assert_canary(&c, DEPLOYMENT_PAUSED, OUTCOME_OPEN, "gets 25 %");
    tell(&c, (struct seen){125, 12, 20}, (struct seen){50, 22, 20});
    assert_canary(&c, DEPLOYMENT_REVERTED, OUTCOME_FAILED, "44.0 % of its 50 requests failed, and 9.6 %");
    assert_int_equal(measured(&c), 0);
    cluster_clear(&c);
}

static void what_may_be_chance_is_waited_for(void **state)
{
    struct cluster c;
    begin(&c, PLAIN);
    tell(&c, (struct seen){900, 9, 20}, (struct seen){100, 4, 20});
    cluster_pass(&c, 60000);
    assert_canary(&c, DEPLOYMENT_PAUSED, OUTCOME_OPEN, "waits: more of the canary's requests failed, which may still be chance");
    tell(&c, (struct seen){1800, 18, 20}, (struct seen){200, 4, 20});
    assert_canary(&c, DEPLOYMENT_RUNNING, OUTCOME_PASSED, "");
    cluster_clear(&c);
    begin(&c, PLAIN);
    tell(&c, (struct seen){900, 9, 20}, (struct seen){100, 4, 20});
    cluster_pass(&c, 600000);
    assert_canary(&c, DEPLOYMENT_PAUSED, OUTCOME_INCONCLUSIVE, "could not be analysed within 600s: more of the canary's requests failed");
    cluster_clear(&c);
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    return *seed ^= *seed << 17;
}

static void more(struct chance_count *c, int requests, double errors, uint64_t *seed)
{
    c->of += requests;
    for (int i = 0; i < requests; i++)
        c->hits += (double)(next_random(seed) >> 11) / (double)(UINT64_C(1) << 53) < errors;
}

/* Of `runs` canaries how many are found to be worse, when it is looked after every ten requests of theirs, up to 2000. */
static int found_worse(double stable_errors, double canary_errors, int runs)
{
    uint64_t seed = 88172645463325252u;
    int found = 0;
    for (int run = 0; run < runs; run++) {
        struct chance_count stable = {0}, canary = {0};
        bool worse = false;
        more(&stable, 100, stable_errors, &seed);
        for (int i = 0; i < 200 && !worse; i++) {
            more(&stable, 40, stable_errors, &seed);
            more(&canary, 10, canary_errors, &seed);
            worse = chance_of_difference(stable, canary, 0.01) > 6.9;
        }
        found += worse;
    }
    return found;
}

static void few_good_canaries_are_taken_back(void **state)
{
    assert_in_range(found_worse(0.001, 0.001, 1000), 0, 1);
    assert_in_range(found_worse(0.02, 0.02, 1000), 0, 1);
    assert_in_range(found_worse(0.2, 0.2, 1000), 0, 5);
    assert_in_range(found_worse(0.02, 0.03, 1000), 0, 5);        /* just what is allowed */
    assert_in_range(found_worse(0.001, 0.05, 1000), 995, 1000);
    assert_in_range(found_worse(0.02, 0.10, 1000), 995, 1000);
}

static void chances_are_as_computed_by_hand(void **state)
{
    assert_true(chance_of_more((struct chance_count){100, 1}, 0.01) == 0);
    double six = chance_of_more((struct chance_count){100, 6}, 0.01), seven = chance_of_more((struct chance_count){100, 7}, 0.01);
    assert_true(six > 5.87 && six < 5.89 && seven > 7.80 && seven < 7.82);
    assert_true(chance_of_difference((struct chance_count){0}, (struct chance_count){0}, 0.01) == 0);
    assert_true(chance_of_difference((struct chance_count){1000000000, 10000000}, (struct chance_count){100, 7}, 0) > 7.7);
    double both = chance_of_difference((struct chance_count){100, 0}, (struct chance_count){100, 5}, 0);
    assert_true(both > 3.5 && both < 3.6);               /* 200 ln 2 less 100 times the entropies, of 5 in 200 and in 100 */
}

static void so_does_slowness(void **state)
{
    struct cluster c;
    begin(&c, PLAIN);
    tell(&c, (struct seen){900, 0, 4}, (struct seen){100, 0, 14});       /* what is fast differs by chance */
    assert_canary(&c, DEPLOYMENT_PAUSED, OUTCOME_OPEN, "gets 25 %");
    tell(&c, (struct seen){1000, 0, 4}, (struct seen){110, 0, 15});
    assert_canary(&c, DEPLOYMENT_REVERTED, OUTCOME_FAILED, "took up to 15 ms, and those of the version before 4 ms");
    cluster_clear(&c);
}

static void too_few_requests_are_waited_for_not_for_ever(void **state)
{
    struct cluster c;
    begin(&c, PLAIN);
    tell(&c, (struct seen){900, 0, 20}, (struct seen){99, 0, 20});
    cluster_pass(&c, 60000);
    assert_canary(&c, DEPLOYMENT_PAUSED, OUTCOME_OPEN, "waits: it takes 100 requests of each version");
    cluster_pass(&c, 539999);
    assert_canary(&c, DEPLOYMENT_PAUSED, OUTCOME_OPEN, "waits");
    cluster_pass(&c, 1);
    assert_canary(&c, DEPLOYMENT_PAUSED, OUTCOME_INCONCLUSIVE, "could not be analysed within 600s: it takes 100 requests");
    tell_at(&c, (struct told){7, canary(&c)->modify_index, 1}, (struct seen){900, 0, 20}, (struct seen){100, 0, 20});
    assert_canary(&c, DEPLOYMENT_PAUSED, OUTCOME_INCONCLUSIVE, "could not");
    cluster_clear(&c);
    begin(&c, PLAIN);
    cluster_pass(&c, 60000);
    tell(&c, (struct seen){900, 0, 20}, (struct seen){100, 0, 20});
    assert_canary(&c, DEPLOYMENT_RUNNING, OUTCOME_PASSED, "");
    cluster_clear(&c);
}

static void without_times_only_errors_can_be_judged(void **state)
{
    struct cluster c;
    begin(&c, PLAIN);
    tell(&c, (struct seen){900, 0, 0}, (struct seen){100, 0, 0});
    cluster_pass(&c, 60000);
    assert_canary(&c, DEPLOYMENT_PAUSED, OUTCOME_OPEN, "no ingress node tells how long requests took");
    cluster_clear(&c);
}

static void nodes_add_up_and_old_reports_change_nothing(void **state)
{
    struct cluster c;
    begin(&c, PLAIN);
    uint64_t index = measured(&c);
    tell_at(&c, (struct told){7, index, 5}, (struct seen){100, 1, 20}, (struct seen){30, 1, 20});
    tell_at(&c, (struct told){8, index, 1}, (struct seen){200, 2, 20}, (struct seen){20, 0, 20});
    tell_at(&c, (struct told){7, index, 5}, (struct seen){90, 1, 20}, (struct seen){20, 1, 20});         /* late */
    tell_at(&c, (struct told){7, index - 1, 6}, (struct seen){990, 1, 20}, (struct seen){20, 1, 20});    /* of another table */
    assert_int_equal(canary(&c)->analysis.stable.requests, 300);
    assert_int_equal(canary(&c)->analysis.canary.requests, 50);
    tell_at(&c, (struct told){7, index, 9}, (struct seen){1, 0, 20}, (struct seen){2, 0, 20});           /* its agent began anew */
    tell_at(&c, (struct told){7, index, 5}, (struct seen){110, 1, 20}, (struct seen){30, 1, 20});        /* late, from before */
    tell_at(&c, (struct told){7, index, 9}, (struct seen){6, 0, 20}, (struct seen){2, 0, 20});
    assert_int_equal(canary(&c)->analysis.stable.requests, 306);
    assert_int_equal(canary(&c)->analysis.stable.errors, 3);
    assert_int_equal(canary(&c)->analysis.canary.requests, 52);
    assert_int_equal(canary(&c)->analysis.canary.errors, 1);
    cluster_clear(&c);
}

static void nonsense_is_not_counted(void **state)
{
    struct cluster c;
    begin(&c, PLAIN);
    tell(&c, (struct seen){-1, 0, 20}, (struct seen){10, 11, 20});
    tell(&c, (struct seen){INT64_MAX, 0, 20}, (struct seen){10, -1, 20});
    assert_int_equal(canary(&c)->analysis.stable.requests, 0);
    assert_int_equal(canary(&c)->analysis.canary.requests, 0);
    cluster_clear(&c);
}

static void who_promotes_by_hand_ends_it_and_a_larger_part_begins_anew(void **state)
{
    struct cluster c;
    begin(&c, PLAIN);
    uint64_t first = measured(&c);
    tell(&c, (struct seen){90, 0, 20}, (struct seen){30, 0, 20});
    assert_true(cluster_promote(&c, "web", 50));
    assert_int_equal(measured(&c), 0);
    cluster_decide(&c);
    cluster_report_all(&c, "web", ALLOC_HEALTHY);
    follow(&c);
    follow(&c);
    assert_canary(&c, DEPLOYMENT_PAUSED, OUTCOME_OPEN, "gets 50 %");
    assert_true(measured(&c) > first);
    assert_int_equal(canary(&c)->analysis.stable.requests, 0);
    cluster_clear(&c);
}

/* --- rollouts in batches --- */

#define ROLLING(count, more) "    count: " count "\n    ports: [{name: http, port: 80}]\n    health: {type: tcp, interval: 1s}\n" \
    "    ingress: [{host: a.example, port: http}]\n" \
    "    deploy: {max_unavailable: 2, analysis: {window_secs: 60, timeout_secs: 600}" more "}\n"

/* That stay. */
static unsigned replicas(struct cluster *c, uint64_t version)
{
    unsigned n = 0;
    for (unsigned i = 0; cluster_wanted(c, "web", i); i++)
        n += cluster_wanted(c, "web", i)->version == version && !cluster_wanted(c, "web", i)->leaving;
    return n;
}

/* What starts gets healthy, and proxies follow. */
static void go_on(struct cluster *c)
{
    cluster_report_all(c, "web", ALLOC_HEALTHY);
    follow(c);
}

static void roll(struct cluster *c, const char *yaml, int64_t level)
{
    CLEANUP_FREE char *next = mem_printf("%s    env: {A: b}\n", yaml);
    cluster_init(c, 7);
    cluster_level(c, level);
    cluster_add_ingress_node(c, 7);
    cluster_add_ingress_node(c, 8);
    assert_true(cluster_submit(c, "web", yaml));
    cluster_decide(c);
    go_on(c);
    assert_true(cluster_submit(c, "web", next));
    cluster_decide(c);
    go_on(c);
    go_on(c);
}

static void end_rollout(struct cluster *c)
{
    for (int i = 0; i < 8 && canary(c)->state == DEPLOYMENT_RUNNING; i++) {
        for (unsigned node = 7; node < 9; node++)
            for (unsigned k = 0; cluster_wanted(c, "web", k); k++)
                cluster_proxy(c, node, cluster_wanted(c, "web", k)->leaving ? cluster_wanted(c, "web", k)->id : NULL);
        cluster_decide(c);
        cluster_stop_all(c, "web");
        go_on(c);
    }
}

static void the_first_batch_of_a_rollout_is_watched(void **state)
{
    struct cluster c;
    roll(&c, ROLLING("5", ""), COMMAND_LEVEL);
    assert_int_not_equal(measured(&c), 0);
    assert_canary(&c, DEPLOYMENT_RUNNING, OUTCOME_OPEN, "beside those of the one before: they are watched for 60s");
    assert_int_equal(replicas(&c, 2), 2);
    assert_int_equal(replicas(&c, 1), 5);
    tell(&c, (struct seen){900, 9, 20}, (struct seen){300, 5, 30});
    cluster_pass(&c, 59999);
    assert_int_equal(replicas(&c, 1), 5);
    cluster_pass(&c, 1);
    end_rollout(&c);
    assert_canary(&c, DEPLOYMENT_SUCCESSFUL, OUTCOME_PASSED, "the new version passed its analysis: of 300 requests 1.7 % failed");
    assert_int_equal(replicas(&c, 2), 5);
    assert_int_equal(replicas(&c, 1), 0);
    assert_int_equal(measured(&c), 0);
    cluster_clear(&c);
}

static void a_rollout_that_fails_for_its_users_is_taken_back(void **state)
{
    struct cluster c;
    roll(&c, ROLLING("5", ""), COMMAND_LEVEL);
    tell(&c, (struct seen){900, 9, 20}, (struct seen){100, 50, 30});
    assert_canary(&c, DEPLOYMENT_REVERTED, OUTCOME_FAILED, "the new version did not pass its analysis: 50.0 % of its 100 requests failed");
    assert_int_equal(measured(&c), 0);
    cluster_clear(&c);
    roll(&c, ROLLING("5", ", auto_revert: false"), COMMAND_LEVEL);
    tell(&c, (struct seen){900, 0, 20}, (struct seen){100, 50, 30});
    assert_canary(&c, DEPLOYMENT_FAILED, OUTCOME_FAILED, "did not pass");
    go_on(&c);
    assert_int_equal(replicas(&c, 1), 5);                /* as it is */
    assert_int_equal(replicas(&c, 2), 2);
    cluster_clear(&c);
}

static void a_rollout_is_watched_to_its_end(void **state)
{
    struct cluster c;
    roll(&c, ROLLING("5", ""), COMMAND_LEVEL);
    tell(&c, (struct seen){900, 0, 20}, (struct seen){300, 0, 20});
    cluster_pass(&c, 60000);
    assert_true(replicas(&c, 2) > 2 || replicas(&c, 1) < 5);
    tell(&c, (struct seen){1000, 0, 20}, (struct seen){500, 100, 20});
    assert_canary(&c, DEPLOYMENT_REVERTED, OUTCOME_FAILED, "did not pass");
    cluster_clear(&c);
}

static void a_rollout_without_requests_goes_on_in_the_end(void **state)
{
    struct cluster c;
    roll(&c, ROLLING("1", ""), COMMAND_LEVEL);
    assert_int_equal(replicas(&c, 1), 1);                /* also of a single one there are both */
    assert_int_equal(replicas(&c, 2), 1);
    tell(&c, (struct seen){10, 0, 20}, (struct seen){10, 0, 20});
    cluster_pass(&c, 599999);
    assert_canary(&c, DEPLOYMENT_RUNNING, OUTCOME_OPEN, "it takes 100 requests of each version");
    cluster_pass(&c, 1);
    end_rollout(&c);
    assert_canary(&c, DEPLOYMENT_SUCCESSFUL, OUTCOME_INCONCLUSIVE, "could not be analysed within 600s: it takes 100 requests");
    cluster_clear(&c);
}

static void who_promotes_a_rollout_does_not_wait_for_its_analysis(void **state)
{
    struct cluster c;
    roll(&c, ROLLING("5", ""), COMMAND_LEVEL);
    assert_false(cluster_promote(&c, "web", 50));
    assert_non_null(strstr(c.error.text, "only a canary is promoted in steps"));
    assert_true(cluster_promote(&c, "web", 0));
    assert_int_equal(measured(&c), 0);
    cluster_decide(&c);
    end_rollout(&c);
    assert_canary(&c, DEPLOYMENT_SUCCESSFUL, OUTCOME_INCONCLUSIVE, "all replicas serve");
    cluster_clear(&c);
}

static void who_takes_the_analysis_out_is_not_held(void **state)
{
    struct cluster c;
    roll(&c, ROLLING("5", ""), COMMAND_LEVEL);
    tell(&c, (struct seen){900, 0, 20}, (struct seen){1000, 15, 20});    /* with less allowed, these were worse */
    assert_int_equal(replicas(&c, 1), 5);
    assert_true(cluster_submit(&c, "web", "    count: 5\n    ports: [{name: http, port: 80}]\n    health: {type: tcp, interval: 1s}\n"
                               "    ingress: [{host: a.example, port: http}]\n    deploy: {max_unavailable: 2}\n    env: {A: b}\n"));
    cluster_decide(&c);
    go_on(&c);
    assert_true(replicas(&c, 1) < 5);
    cluster_clear(&c);
}

static void what_an_older_server_does_not_know_is_not_begun(void **state)
{
    struct cluster c;
    roll(&c, ROLLING("5", ""), ROLLING_ANALYSIS_LEVEL - 1);
    assert_int_equal(measured(&c), 0);
    end_rollout(&c);
    assert_canary(&c, DEPLOYMENT_SUCCESSFUL, OUTCOME_NONE, "all replicas serve");
    cluster_clear(&c);
}

static void steps_of_the_histogram_meet(void **state)
{
    int64_t before = -1;
    for (unsigned i = 0; i < LATENCY_STEPS; i++) {
        int64_t ms = latency_step_ms(i);
        assert_true(ms > before);
        assert_int_equal(latency_step(ms), i);
        assert_int_equal(latency_step(before + 1), i);
        before = ms;
    }
    assert_int_equal(before, LATENCY_MS_MAX);
    assert_int_equal(latency_step(INT64_MAX), LATENCY_STEPS - 1);
    assert_int_equal(latency_step(-1), 0);
}

static void percentiles_are_upper_ends(void **state)
{
    struct latency first[] = {{1, 90}, {20, 8}}, more[] = {{1, 8}, {18, 1}, {40, 1}};
    struct latency_list sum = {0}, a = {first, 2}, b = {more, 3};
    assert_int_equal(latency_list_percentile(&sum, 99), 0);
    latency_list_add(&sum, &a);
    assert_int_equal(latency_list_percentile(&sum, 50), 1);
    latency_list_add(&sum, &b);
    assert_int_equal(sum.n, 4);
    assert_true(latency_list_valid(&sum));
    assert_int_equal(latency_list_count(&sum), 108);
    assert_int_equal(latency_list_percentile(&sum, 99), 20);
    assert_int_equal(latency_list_percentile(&sum, 100), 40);
    sum.v[1].ms = 19;                    /* no step */
    assert_false(latency_list_valid(&sum));
    type_clear(&version_measure_type, &(struct version_measure){.latencies = sum});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_canary_is_promoted_when_its_window_is_over),
        cmocka_unit_test(it_can_pause_instead),
        cmocka_unit_test(errors_take_it_back_at_once),
        cmocka_unit_test(what_may_be_chance_is_waited_for),
        cmocka_unit_test(few_good_canaries_are_taken_back),
        cmocka_unit_test(chances_are_as_computed_by_hand),
        cmocka_unit_test(so_does_slowness),
        cmocka_unit_test(too_few_requests_are_waited_for_not_for_ever),
        cmocka_unit_test(without_times_only_errors_can_be_judged),
        cmocka_unit_test(nodes_add_up_and_old_reports_change_nothing),
        cmocka_unit_test(nonsense_is_not_counted),
        cmocka_unit_test(who_promotes_by_hand_ends_it_and_a_larger_part_begins_anew),
        cmocka_unit_test(the_first_batch_of_a_rollout_is_watched),
        cmocka_unit_test(a_rollout_that_fails_for_its_users_is_taken_back),
        cmocka_unit_test(a_rollout_is_watched_to_its_end),
        cmocka_unit_test(a_rollout_without_requests_goes_on_in_the_end),
        cmocka_unit_test(who_promotes_a_rollout_does_not_wait_for_its_analysis),
        cmocka_unit_test(who_takes_the_analysis_out_is_not_held),
        cmocka_unit_test(what_an_older_server_does_not_know_is_not_begun),
        cmocka_unit_test(steps_of_the_histogram_meet),
        cmocka_unit_test(percentiles_are_upper_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
