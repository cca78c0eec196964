/* Each strategy with the leader lost at every step: a scenario runs once as it should, and then once for each command that
 * the leader decided and each way of losing it. It must end as the first time, and serve all the while. */
#include <stdio.h>
#include <string.h>

#include "../cmocka_all.h"
#include "base/id.h"
#include "base/random.h"
#include "cluster.h"

#define NODES 6u
#define PROXIES 2u
#define COUNT 4
#define COMMANDS_MOST 2000

enum loss { LOSS_NONE, LOSS_OF_COMMAND, LOSS_AFTER_COMMAND, LOSS_COMMAND_TWICE, LOSS_COUNT };
static const char *const loss_names[] = {"nothing", "the command", "the leader after it", "nothing, but it comes again later"};

/* What users do, in turn, each time that nothing else moves. */
enum act { ACT_END, ACT_SUBMIT, ACT_PROMOTE, ACT_PROMOTE_HALF, ACT_ROLLBACK, ACT_ABORT, ACT_SCALE, ACT_DRAIN, ACT_RESTART };
struct scenario {
    const char *name, *deploy;
    bool bad;                        /* the second version fails */
    enum act acts[4];
    unsigned soon;                   /* the second act comes after so many commands of the leader, not when nothing moves */
    const char *more;                /* of the service */
};
static const struct scenario scenarios[] = {
    {"rolling", "{max_unavailable: 2}", false, {ACT_SUBMIT}},
    {"rolling, failed", "{}", true, {ACT_SUBMIT}},
    {"rolling, superseded", "{}", false, {ACT_SUBMIT, ACT_SUBMIT}, .soon = 3},
    {"rolling, rolled back", "{}", false, {ACT_SUBMIT, ACT_ROLLBACK}, .soon = 3},
    {"rolling, with volumes", "{max_unavailable: 2}", false, {ACT_SUBMIT}, .more = "    volumes: [{source: /v, target: /v}]\n"},
    {"blue-green", "{strategy: blue-green, standby_secs: 60}", false, {ACT_SUBMIT}},
    {"blue-green, promoted", "{strategy: blue-green, standby_secs: 100000}", false, {ACT_SUBMIT, ACT_PROMOTE}},
    {"blue-green, rolled back", "{strategy: blue-green, standby_secs: 100000}", false, {ACT_SUBMIT, ACT_ROLLBACK}},
    {"blue-green, failed", "{strategy: blue-green}", true, {ACT_SUBMIT}},
    {"blue-green, superseded", "{strategy: blue-green, standby_secs: 100000}", false, {ACT_SUBMIT, ACT_SUBMIT, ACT_PROMOTE}},
    {"canary", "{strategy: canary, canary_percent: 25}", false, {ACT_SUBMIT, ACT_PROMOTE_HALF, ACT_PROMOTE}},
    {"canary, aborted", "{strategy: canary, canary_percent: 25}", false, {ACT_SUBMIT, ACT_PROMOTE_HALF, ACT_ABORT}},
    {"canary, failed", "{strategy: canary, canary_percent: 25}", true, {ACT_SUBMIT}},
    {"canary, superseded", "{strategy: canary, canary_percent: 25}", false, {ACT_SUBMIT, ACT_SUBMIT, ACT_PROMOTE}},
    {"scaled down", "{}", false, {ACT_SCALE}},
    {"drained", "{}", false, {ACT_DRAIN}},
    {"restarted", "{}", false, {ACT_RESTART}},
};

/* What a proxy follows: the replicas that it sends requests to, and those that it finishes with. */
struct view { uint64_t index; struct agent_ingress table; };

struct run {
    struct cluster c;
    const struct scenario *s;
    enum loss loss;
    unsigned lose_at, decided, acts;
    unsigned acted_at;               /* commands that were decided before the last act */
    char version;                    /* of what was submitted last */
    struct view views[PROXIES];
    struct buf again;                /* a command that comes once more */
    int again_in;
    char what[128];
};

static void restart_leader(struct run *r)
{
    CLEANUP_BUF struct buf bytes = {0};
    struct error err;
    core_snapshot(r->c.core, &bytes);
    core_free(r->c.core);
    r->c.core = core_new();
    assert_int_equal(core_restore(r->c.core, bytes.data, bytes.len, &err), 0);
    r->c.seed += 1000;
}

static int64_t desired(const struct run *r)
{
    return core_service(r->c.core, "web")->spec.count;
}

/* --- what must hold after every command --- */

static bool is_idle(const struct run *r, const char *alloc)
{
    for (unsigned p = 0; p < PROXIES; p++)
        for (uint32_t i = 0; i < r->views[p].table.routes.n; i++)
            for (uint32_t k = 0; k < r->views[p].table.routes.v[i].targets.n; k++) {
                const struct ingress_target *t = &r->views[p].table.routes.v[i].targets.v[k];
                if (strcmp(t->alloc, alloc) == 0 && !t->leaving)
                    return false;
            }
    return true;
}

static bool check_alloc(void *ctx, const struct alloc *a)
{
    struct run *r = ctx;
    bool stops = a->desired == DESIRED_STOP && alloc_live(a);
    bool restarts = a->generation > 0 && a->state == ALLOC_STARTING;
    if ((stops || restarts) && !is_idle(r, a->id))
        fail_msg("%s: allocation %s is to end although a proxy sends requests to it", r->what, a->id);
    return true;
}

static void check_table(struct run *r)
{
    struct agent_ingress t;
    core_agent_ingress(r->c.core, &t);
    int64_t serving = 0, versions[2] = {0, 0}, weights[2] = {0, 0};
    struct service_status s = cluster_status(&r->c, "web");
    const struct deployment *d = core_deployment(r->c.core, s.deployment);
    for (uint32_t i = 0; i < t.routes.v[0].targets.n; i++) {
        const struct ingress_target *to = &t.routes.v[0].targets.v[i];
        bool new = to->version == d->version;
        if (to->leaving || !to->weight)
            continue;
        assert_int_equal(core_alloc(r->c.core, to->alloc)->desired, DESIRED_RUN);
        serving++;
        versions[new]++;
        weights[new] += to->weight;
    }
    int64_t least = r->s->acts[0] == ACT_RESTART || r->s->more ? desired(r) - 1 : desired(r);
    if (r->acts && serving < least)
        fail_msg("%s: %d replicas take requests, not %d", r->what, (int)serving, (int)least);
    if (d->strategy == STRATEGY_BLUE_GREEN && versions[0] && versions[1])
        fail_msg("%s: two versions take requests", r->what);
    if (d->strategy == STRATEGY_CANARY && d->state == DEPLOYMENT_PAUSED
        && weights[1] * 100 != d->traffic_percent * (weights[0] + weights[1]))
        fail_msg("%s: the canary has %d of %d, not %d %%", r->what, (int)weights[1], (int)(weights[0] + weights[1]),
                 (int)d->traffic_percent);
    type_clear(&service_status_type, &s);
    type_clear(&agent_ingress_type, &t);
}

static void check(struct run *r)
{
    core_service_allocs(r->c.core, "web", check_alloc, r);
    check_table(r);
}

/* --- the leader --- */

static void apply(struct run *r, const struct buf *command)
{
    struct core_result result;
    core_apply(r->c.core, ++r->c.index, command->data, command->len, &result);
    assert_int_equal(result.error.code, ERROR_NONE);
    core_result_clear(&result);
    check(r);
}

static bool decide(struct run *r)
{
    CLEANUP_BUF struct buf command = {0};
    if (r->again.len && --r->again_in == 0) {
        apply(r, &r->again);
        buf_clear(&r->again);
    }
    if (!core_decide(r->c.core, r->c.now, hash_mix(++r->c.seed), &command))
        return false;
    bool here = ++r->decided == r->lose_at;
    if (here && r->loss == LOSS_OF_COMMAND) {
        restart_leader(r);
        return true;
    }
    apply(r, &command);
    if (here && r->loss == LOSS_AFTER_COMMAND)
        restart_leader(r);
    if (here && r->loss == LOSS_COMMAND_TWICE) {
        buf_add(&r->again, command.data, command.len);
        r->again_in = 4;
    }
    return true;
}

/* --- agents and proxies: each moves on by one step, if there is one --- */

struct next { struct run *r; char id[ID_LEN + 1]; enum alloc_state to; };

static bool find_next(void *ctx, const struct alloc *a)
{
    struct next *n = ctx;
    bool bad = n->r->s->bad && a->version == 2;
    enum alloc_state to = !alloc_live(a) ? a->state : a->desired == DESIRED_STOP ? ALLOC_COMPLETE
                          : a->state < ALLOC_STARTING ? ALLOC_STARTING : bad ? ALLOC_FAILED : ALLOC_HEALTHY;
    if (a->generation > 0 && a->state == ALLOC_HEALTHY && a->started_at == 0)
        to = ALLOC_STARTING;
    if (to == a->state)
        return true;
    snprintf(n->id, sizeof(n->id), "%s", a->id);
    n->to = to;
    return false;
}

/* started_at stands for the generation that runs: 0 is the first. */
static bool report_next(struct run *r)
{
    struct next n = {.r = r};
    struct command cmd;
    core_service_allocs(r->c.core, "web", find_next, &n);
    if (!n.id[0])
        return false;
    const struct alloc *a = core_alloc(r->c.core, n.id);
    command_init(&cmd, COMMAND_ALLOC_REPORT, r->c.now, NULL, NULL);
    struct agent_report *p = cmd.payload;
    p->node_id = mem_strdup(a->node_id);
    struct alloc_report *report = list_add_zero((struct list *)&p->allocs, &alloc_report_type);
    *report = (struct alloc_report){.id = mem_strdup(n.id), .seq = ++r->c.report_seq, .state = n.to,
                                    .started_at = a->generation};
    assert_true(cluster_apply(&r->c, &cmd));
    check(r);
    return true;
}

static bool follow_next(struct run *r)
{
    for (unsigned p = 0; p < PROXIES; p++) {
        struct view *v = &r->views[p];
        struct command cmd;
        if (v->index == core_changed(r->c.core, CORE_INGRESS, NULL))
            continue;
        type_clear(&agent_ingress_type, &v->table);
        core_agent_ingress(r->c.core, &v->table);
        v->index = v->table.index;
        command_init(&cmd, COMMAND_INGRESS_REPORT, r->c.now, NULL, NULL);
        struct ingress_report *report = cmd.payload;
        report->node_id = mem_strdup(cluster_node_id(NODES + p));
        report->applied = v->index;
        for (uint32_t i = 0; i < v->table.routes.v[0].targets.n; i++)
            if (v->table.routes.v[0].targets.v[i].leaving)
                str_list_add(&report->idle, v->table.routes.v[0].targets.v[i].alloc);
        assert_true(cluster_apply(&r->c, &cmd));
        check(r);
        return true;
    }
    return false;
}

/* --- users --- */

static void submit(struct run *r)
{
    CLEANUP_FREE char *yaml = mem_printf("    count: %d\n    ports: [{name: http, port: 80}]\n"
                                         "    health: {type: tcp, interval: 1s}\n"
                                         "    ingress: [{host: a.example, port: http}]\n    deploy: %s\n    env: {V: %c}\n%s",
                                         COUNT, r->s->deploy, ++r->version, r->s->more ? r->s->more : "");
    assert_true(cluster_submit(&r->c, "web", yaml));
}

static void act(struct run *r, enum act act)
{
    if (act == ACT_SUBMIT)
        submit(r);
    if (act == ACT_ROLLBACK)
        assert_true(cluster_rollback(&r->c, "web", 0));
    if (act == ACT_ABORT)
        assert_true(cluster_service(&r->c, COMMAND_SERVICE_ABORT, "web"));
    if (act == ACT_RESTART)
        assert_true(cluster_service(&r->c, COMMAND_SERVICE_RESTART, "web"));
    if (act == ACT_SCALE)
        assert_true(cluster_scale(&r->c, "web", COUNT / 2));
    for (unsigned node = 0; act == ACT_DRAIN && node < NODES; node++)
        if (strcmp(cluster_node_id(node), cluster_wanted(&r->c, "web", 0)->node_id) == 0)
            assert_true(cluster_node_state(&r->c, node, NODE_DRAINING));
    if (act == ACT_PROMOTE || act == ACT_PROMOTE_HALF)
        assert_true(cluster_promote(&r->c, "web", act == ACT_PROMOTE ? 0 : 50));
}

/* --- a run --- */

static bool act_next(struct run *r)
{
    if (r->acts == ARRAY_LEN(r->s->acts) || r->s->acts[r->acts] == ACT_END)
        return false;
    r->acted_at = r->decided;
    act(r, r->s->acts[r->acts++]);
    check(r);
    return true;
}

static bool move(struct run *r)
{
    if (r->s->soon && r->acts == 1 && r->decided >= r->acted_at + r->s->soon && act_next(r))
        return true;
    if (decide(r) || report_next(r) || follow_next(r) || act_next(r))
        return true;
    int64_t wake = core_next_wake(r->c.core);
    if (wake > r->c.now + 100000)
        return false;
    r->c.now = wake > r->c.now ? wake : r->c.now + 1;
    return true;
}

static bool add_outcome(void *ctx, const struct alloc *a)
{
    struct buf *out = ctx;
    if (alloc_live(a))
        buf_printf(out, " %lld:v%llu", (long long)a->replica, (unsigned long long)a->version);
    return true;
}

static void outcome_of(struct run *r, struct buf *out)
{
    struct service_status s = cluster_status(&r->c, "web");
    const struct deployment *d = core_deployment(r->c.core, s.deployment);
    buf_printf(out, "%s, %lld %% of version %llu:", deployment_state_names[d->state], (long long)d->traffic_percent,
               (unsigned long long)d->version);
    core_service_allocs(r->c.core, "web", add_outcome, out);
    type_clear(&service_status_type, &s);
}

/* Returns how many commands the leader decided. */
static unsigned run(const struct scenario *s, enum loss loss, unsigned at, struct buf *outcome)
{
    struct run r = {.s = s, .loss = loss, .lose_at = at, .version = 'a'};
    snprintf(r.what, sizeof(r.what), "%s, lost at command %u: %s", s->name, at, loss_names[loss]);
    cluster_init(&r.c, NODES);
    for (unsigned p = 0; p < PROXIES; p++)
        cluster_add_ingress_node(&r.c, NODES + p);
    submit(&r);
    unsigned n = 0;
    while (move(&r))
        if (++n > COMMANDS_MOST)
            fail_msg("%s: it has no end", r.what);
    outcome_of(&r, outcome);
    for (unsigned p = 0; p < PROXIES; p++)
        type_clear(&agent_ingress_type, &r.views[p].table);
    buf_free(&r.again);
    cluster_clear(&r.c);
    return r.decided;
}

static void a_lost_leader_changes_nothing(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(scenarios); i++) {
        CLEANUP_BUF struct buf wanted = {0};
        unsigned commands = run(&scenarios[i], LOSS_NONE, 0, &wanted);
        print_message("%-25s %3u commands: %s\n", scenarios[i].name, commands, wanted.data);
        for (unsigned at = 1; at <= commands; at++)
            for (int loss = LOSS_OF_COMMAND; loss < LOSS_COUNT; loss++) {
                CLEANUP_BUF struct buf outcome = {0};
                run(&scenarios[i], (enum loss)loss, at, &outcome);
                if (strcmp(wanted.data, outcome.data))
                    fail_msg("%s, lost at command %u: %s: %s\ninstead of %s", scenarios[i].name, at, loss_names[loss],
                             outcome.data, wanted.data);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_leader_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
