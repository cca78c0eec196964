#include "../cmocka_all.h"

#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/runner.h"
#include "base/file.h"
#include "base/log.h"
#include "base/timefmt.h"
#include "fake_driver.h"

#define A "aaaaaaaaaaaa"
#define B "bbbbbbbbbbbb"

struct world {
    char dir[64];
    uv_loop_t loop;
    struct store *store;
    struct runner *runner;
    struct agent_work work;
    uint64_t next_index;
    int ended, no_space;
    const char *trouble;
    bool stopped;
};

/* --- the world --- */

static void on_report(void *ctx) { }

static const char *trouble(void *ctx)
{
    return ((struct world *)ctx)->trouble;
}

static void on_no_space(void *ctx)
{
    ((struct world *)ctx)->no_space++;
}

static void on_ended(void *ctx, const char *id)
{
    ((struct world *)ctx)->ended++;
}

static void begin(struct world *w)
{
    struct error err = {0};
    if (store_open(w->dir, &w->loop, &w->store, &err) < 0)
        fail_msg("%s", err.text);
    w->runner = runner_new(&(struct runner_env){
        .loop = &w->loop, .store = w->store, .data_dir = w->dir, .volume_root = w->dir, .node_name = "n1",
        .ip = "127.0.0.1", .gc_age_ms = 3600000, .gc_max_allocs = 100, .gc_max_mb = 100, .trouble = trouble,
        .no_space = on_no_space, .report = on_report,
        .ended = on_ended, .ctx = w,
    });
    if (runner_load(w->runner, &err) < 0)
        fail_msg("%s", err.text);
}

static void end(struct world *w)
{
    runner_close(w->runner);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    store_close(w->store);
    uv_run(&w->loop, UV_RUN_DEFAULT);
}

/* The agent is gone and comes again; `keep` false: and its store is lost. */
static void reopen(struct world *w, bool keep)
{
    end(w);
    if (!keep) {
        CLEANUP_FREE char *path = mem_printf("%s/store.mdb", w->dir);
        unlink(path);
    }
    begin(w);
}

static int setup(void **state)
{
    struct world *w = NEW(struct world);
    strcpy(w->dir, "/tmp/mentat-runner-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    uv_loop_init(&w->loop);
    fake_reset(&w->loop);
    begin(w);
    *state = w;
    return 0;
}

static int delete_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static int teardown(void **state)
{
    struct world *w = *state;
    end(w);
    assert_true(fake.most_alive <= 1);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    type_clear(&agent_work_type, &w->work);
    nftw(w->dir, delete_entry, 16, FTW_DEPTH | FTW_PHYS);
    fake_reset(NULL);
    free(w);
    return 0;
}

static void on_guard(uv_timer_t *t)
{
    fail_msg("nothing happened for ten seconds");
}

/* Turns the loop until the condition holds. */
#define UNTIL(w, condition)                                     \
    do {                                                        \
        uv_timer_t guard_;                                      \
        uv_timer_init(&(w)->loop, &guard_);                     \
        uv_timer_start(&guard_, on_guard, 10000, 0);            \
        while (!(condition))                                    \
            uv_run(&(w)->loop, UV_RUN_ONCE);                    \
        uv_close((uv_handle_t *)&guard_, NULL);                 \
        uv_run(&(w)->loop, UV_RUN_NOWAIT);                      \
    } while (0)

/* Everything that can happen without time passing has happened. */
static void settle(struct world *w)
{
    for (int i = 0; i < 50; i++) {
        uv_run(&w->loop, UV_RUN_NOWAIT);
        usleep(500);
    }
}

/* --- the servers --- */

static struct service *service(struct world *w)
{
    if (w->work.services.n)
        return &w->work.services.v[0].spec;
    struct service_version *v = list_add((struct list *)&w->work.services, &service_version_type);
    v->service = mem_strdup("web");
    v->job = mem_strdup("web");
    v->version = 1;
    type_clear(&service_type, &v->spec);
    type_init(&service_type, &v->spec);
    v->spec.name = mem_strdup("web");
    v->spec.driver = DRIVER_EXEC;
    v->spec.restart = (struct restart){.attempts = 2, .window_ms = 60000, .delay_ms = 5};
    v->spec.health.type = HEALTH_NONE;
    return &v->spec;
}

static struct alloc *want(struct world *w, const char *id)
{
    service(w);
    struct alloc *a = list_add((struct list *)&w->work.allocs, &alloc_type);
    a->id = mem_strdup(id);
    a->service = mem_strdup("web");
    a->job = mem_strdup("web");
    a->version = 1;
    a->desired = DESIRED_RUN;
    a->replica = w->work.allocs.n - 1;
    return a;
}

static void say(struct world *w, bool full)
{
    w->work.full = full;
    w->work.index = ++w->next_index;
    runner_apply(w->runner, &w->work);
}

static enum alloc_state state_of(struct world *w, const char *id)
{
    struct runner_view v;
    struct error err;
    return runner_find(w->runner, id, &v, &err) < 0 ? (enum alloc_state)-1 : v.record->report.state;
}

static const struct alloc_record *record_of(struct world *w, const char *id)
{
    struct runner_view v;
    struct error err;
    if (runner_find(w->runner, id, &v, &err) < 0)
        fail_msg("%s", err.text);
    return v.record;
}

static void expect_reason(struct world *w, const char *id, const char *part)
{
    const char *reason = record_of(w, id)->report.reason;
    if (!reason || !strstr(reason, part))
        fail_msg("reason is \"%s\", not \"%s\"", reason ? reason : "", part);
}

static bool has_dir(struct world *w, const char *id)
{
    CLEANUP_FREE char *dir = mem_printf("%s/allocs/%s", w->dir, id);
    return access(dir, F_OK) == 0;
}

static void run_one(struct world *w)
{
    want(w, A);
    say(w, true);
    UNTIL(w, state_of(w, A) == ALLOC_RUNNING);
}

/* --- the tests --- */

static void a_wanted_allocation_is_started_and_stopped(void **state)
{
    struct world *w = *state;
    struct alloc *a = want(w, A);
    mem_set_string(&service(w)->kill.signal, "SIGINT");
    say(w, true);
    UNTIL(w, state_of(w, A) == ALLOC_RUNNING);
    assert_string_equal(fake_env(fake_find(A), "MENTAT_REPLICA"), "0");
    assert_true(has_dir(w, A));
    a->desired = DESIRED_STOP;
    a->desired_reason = mem_strdup("scaled down");
    say(w, false);
    UNTIL(w, state_of(w, A) == ALLOC_COMPLETE);
    expect_reason(w, A, "scaled down");
    assert_int_equal(fake_find(A)->signal, 2);
    assert_int_equal(fake_find(A)->removes, 1);
    assert_int_equal(w->ended, 1);
    assert_int_equal(fake.starts, 1);
}

static void nothing_is_started_before_the_servers_said_everything(void **state)
{
    struct world *w = *state;
    want(w, A);
    say(w, false);
    settle(w);
    assert_int_equal(fake.starts, 0);
    say(w, true);
    UNTIL(w, state_of(w, A) == ALLOC_RUNNING);
}

static void the_same_work_twice_changes_nothing(void **state)
{
    struct world *w = *state;
    run_one(w);
    for (int i = 0; i < 3; i++)
        say(w, i == 1);
    settle(w);
    assert_int_equal(fake.starts, 1);
    assert_int_equal(state_of(w, A), ALLOC_RUNNING);
}

static void what_is_paused_stays_so_until_it_is_resumed_or_stopped(void **state)
{
    struct world *w = *state;
    struct alloc *a = want(w, A);
    service(w)->health.type = HEALTH_TCP;
    say(w, true);
    UNTIL(w, state_of(w, A) == ALLOC_RUNNING);
    fake_health(fake_find(A), true);
    UNTIL(w, state_of(w, A) == ALLOC_HEALTHY);
    a->paused = true;
    say(w, false);
    UNTIL(w, state_of(w, A) == ALLOC_RUNNING);
    expect_reason(w, A, "paused");
    assert_true(fake_find(A)->paused);
    reopen(w, true);                 /* the next agent knows */
    say(w, true);
    settle(w);
    assert_true(fake_find(A)->paused);
    expect_reason(w, A, "paused");
    a->paused = false;
    say(w, false);
    UNTIL(w, !fake_find(A)->paused);
    fake_health(fake_find(A), true);
    UNTIL(w, state_of(w, A) == ALLOC_HEALTHY);
    a->paused = true;
    say(w, false);
    UNTIL(w, fake_find(A)->paused);
    a->desired = DESIRED_STOP;
    say(w, false);
    UNTIL(w, state_of(w, A) == ALLOC_COMPLETE);
    assert_int_equal(fake.starts, 1);
}

static void a_task_that_fails_is_restarted_then_reported_failed(void **state)
{
    struct world *w = *state;
    run_one(w);
    for (int i = 1; i <= 2; i++) {
        fake_exit(fake_find(A), 7);
        UNTIL(w, fake.starts == i + 1 && state_of(w, A) == ALLOC_RUNNING);
        assert_int_equal(record_of(w, A)->report.restarts, i);
    }
    fake_exit(fake_find(A), 7);
    UNTIL(w, state_of(w, A) == ALLOC_FAILED);
    expect_reason(w, A, "exited with code 7; 2 restarts within 1m are used up");
    assert_int_equal(record_of(w, A)->report.exit_code, 7);
    assert_true(record_of(w, A)->report.exited);
    settle(w);
    assert_int_equal(fake.starts, 3);
}

static void a_task_that_runs_to_completion_is_complete(void **state)
{
    struct world *w = *state;
    service(w)->mode = MODE_TASK;
    run_one(w);
    fake_exit(fake_find(A), 0);
    UNTIL(w, state_of(w, A) == ALLOC_COMPLETE);
    assert_true(record_of(w, A)->report.finished_at > 0);
}

static void a_start_that_fails_follows_the_policy(void **state)
{
    struct world *w = *state;
    fake.fail_start = "/opt/x: no such program";
    want(w, A);
    say(w, true);
    UNTIL(w, state_of(w, A) == ALLOC_FAILED);
    assert_int_equal(fake.starts, 3);
    expect_reason(w, A, "no such program; 2 restarts");
    assert_false(record_of(w, A)->report.exited);
}

static void what_has_shared_volumes_ends_when_no_server_answers(void **state)
{
    struct world *w = *state;
    struct volume *v = list_add_zero((struct list *)&service(w)->volumes, &volume_type);
    v->source = mem_printf("%s/data", w->dir);
    v->target = mem_strdup("/data");
    int64_t sent_at = time_monotonic_ms();
    runner_lease(w->runner, sent_at, 60000);
    run_one(w);
    runner_lease(w->runner, sent_at + 1000, 60000);
    assert_int_equal(fake.lease_until, sent_at + 61000);
    runner_lease(w->runner, time_monotonic_ms(), 50);
    UNTIL(w, !fake_find(A)->alive);
    UNTIL(w, record_of(w, A)->report.reason && strstr(record_of(w, A)->report.reason, "no server answers"));
    assert_int_equal(fake.starts, 1);
    /* Another node may have it since: all that the servers say comes before any start. */
    assert_true(runner_lease(w->runner, time_monotonic_ms(), 60000));
    assert_false(runner_lease(w->runner, time_monotonic_ms(), 60000));
    runner_trouble_changed(w->runner);
    say(w, false);
    settle(w);
    assert_int_equal(fake.starts, 1);
    say(w, true);
    UNTIL(w, state_of(w, A) == ALLOC_RUNNING);
    assert_int_equal(fake.starts, 2);
    runner_lease(w->runner, time_monotonic_ms(), 0);             /* they are shared no more */
    assert_int_equal(fake.lease_until, 0);
}

static void what_has_no_volumes_goes_on_when_no_server_answers(void **state)
{
    struct world *w = *state;
    run_one(w);
    runner_lease(w->runner, time_monotonic_ms() - 1000, 1);
    runner_lease(w->runner, time_monotonic_ms(), 1);
    settle(w);
    usleep(300000);                  /* the time after which others are ended */
    settle(w);
    assert_true(fake_find(A)->alive);
    assert_int_equal(fake.lease_until, 0);
}

static void a_node_in_trouble_starts_nothing_until_it_is_over(void **state)
{
    struct world *w = *state;
    w->trouble = "no space left on device";
    want(w, A);
    say(w, true);
    settle(w);
    assert_int_equal(state_of(w, A), ALLOC_STARTING);
    expect_reason(w, A, "waits: no space left on device");
    assert_int_equal(fake.starts, 0);
    w->trouble = NULL;
    runner_trouble_changed(w->runner);
    UNTIL(w, state_of(w, A) == ALLOC_RUNNING);
}

static void a_start_without_room_is_no_failure_of_the_task(void **state)
{
    struct world *w = *state;
    fake.fail_start = "no space left on device";
    fake.fail_code = ERROR_NO_SPACE;
    want(w, A);
    say(w, true);
    UNTIL(w, w->no_space == 1);
    fake.fail_start = NULL;
    UNTIL(w, state_of(w, A) == ALLOC_RUNNING);
    assert_int_equal(record_of(w, A)->report.restarts, 0);
}

static void what_cannot_be_interpolated_fails_at_once(void **state)
{
    struct world *w = *state;
    kv_set(&service(w)->env, "X", "${port.nowhere}");
    want(w, A);
    say(w, true);
    UNTIL(w, state_of(w, A) == ALLOC_FAILED);
    expect_reason(w, A, "env.X");
    assert_int_equal(fake.starts, 0);
}

static void health_is_reported_both_ways(void **state)
{
    struct world *w = *state;
    service(w)->health.type = HEALTH_TCP;
    run_one(w);
    fake_health(fake_find(A), true);
    assert_int_equal(state_of(w, A), ALLOC_HEALTHY);
    fake_health(fake_find(A), false);
    assert_int_equal(state_of(w, A), ALLOC_UNHEALTHY);
    expect_reason(w, A, "connection refused");
    fake_health(fake_find(A), true);
    assert_int_equal(state_of(w, A), ALLOC_HEALTHY);
    assert_int_equal(fake.starts, 1);
}

static void a_new_generation_restarts_in_place(void **state)
{
    struct world *w = *state;
    run_one(w);
    w->work.allocs.v[0].generation = 1;
    say(w, false);
    say(w, false);
    UNTIL(w, fake.starts == 2 && state_of(w, A) == ALLOC_RUNNING);
    settle(w);
    assert_int_equal(fake.starts, 2);
    assert_int_equal(record_of(w, A)->report.restarts, 0);
    assert_int_equal(record_of(w, A)->generation, 1);
}

static void a_stop_while_starting_ends_it(void **state)
{
    struct world *w = *state;
    fake.hold = true;
    want(w, A);
    say(w, true);
    UNTIL(w, fake.starts == 1);
    fake.deaf = true;
    w->work.allocs.v[0].desired = DESIRED_STOP;
    say(w, false);
    fake.deaf = false;
    fake_answer(fake_find(A));
    UNTIL(w, state_of(w, A) == ALLOC_COMPLETE);
    assert_false(fake_find(A)->alive);
}

static void a_stop_during_the_delay_ends_it(void **state)
{
    struct world *w = *state;
    service(w)->restart.delay_ms = 60000;
    run_one(w);
    fake_exit(fake_find(A), 1);
    UNTIL(w, state_of(w, A) == ALLOC_STARTING);
    expect_reason(w, A, "exited with code 1; restart 1 of 2 in 30s");
    w->work.allocs.v[0].desired = DESIRED_STOP;
    say(w, false);
    assert_int_equal(state_of(w, A), ALLOC_COMPLETE);
    assert_int_equal(fake.starts, 1);
}

static void a_running_task_is_adopted_by_the_next_agent(void **state)
{
    struct world *w = *state;
    run_one(w);
    UNTIL(w, record_of(w, A)->handle != NULL);
    uint64_t seq = record_of(w, A)->report.seq;
    reopen(w, true);
    assert_true(record_of(w, A)->report.seq > seq);
    settle(w);
    assert_int_equal(state_of(w, A), ALLOC_RUNNING);
    say(w, true);
    settle(w);
    assert_int_equal(fake.starts, 1);
    fake_exit(fake_find(A), 3);
    UNTIL(w, fake.starts == 2);
}

static void a_task_that_ended_meanwhile_is_reported_with_its_status(void **state)
{
    struct world *w = *state;
    service(w)->mode = MODE_TASK;
    service(w)->restart.attempts = 0;
    run_one(w);
    end(w);
    fake_exit(fake_find(A), 42);
    int64_t hour_ago = fake_find(A)->how.finished_at -= 3600 * 1000;
    begin(w);
    UNTIL(w, state_of(w, A) == ALLOC_FAILED);
    assert_int_equal(record_of(w, A)->report.exit_code, 42);
    assert_int_equal(record_of(w, A)->report.finished_at, hour_ago);
    assert_int_equal(fake.starts, 1);
}

/* Only the count changed, say: the replica belongs to the new version and goes on. */
static void a_new_version_without_a_restart_is_kept_in_the_store(void **state)
{
    struct world *w = *state;
    run_one(w);
    w->work.services.v[0].version = 2;
    w->work.services.v[0].spec.restart.attempts = 0;
    w->work.services.v[0].spec.config.balloon_mb = 32;
    w->work.allocs.v[0].version = 2;
    say(w, false);
    settle(w);
    assert_int_equal(fake_find(A)->balloon_mb, 32);
    reopen(w, true);
    assert_int_equal(record_of(w, A)->alloc.version, 2);    /* before the servers say anything */
    fake_find(A)->balloon_mb = 0;    /* as if it came while nobody was there */
    say(w, true);
    UNTIL(w, state_of(w, A) == ALLOC_RUNNING);
    assert_int_equal(fake_find(A)->balloon_mb, 32);
    assert_int_equal(fake.starts, 1);
    fake_exit(fake_find(A), 1);
    UNTIL(w, state_of(w, A) == ALLOC_FAILED);               /* by the restart policy of the new version */
}

static void an_agent_killed_before_the_handle_was_stored_does_not_start_twice(void **state)
{
    struct world *w = *state;
    fake.hold = true;
    want(w, A);
    say(w, true);
    UNTIL(w, fake.starts == 1);
    fake.hold = false;
    reopen(w, true);
    say(w, true);
    UNTIL(w, state_of(w, A) == ALLOC_RUNNING);
    settle(w);
    assert_int_equal(fake.starts, 1);
}

static void a_lost_store_does_not_start_a_running_task_twice(void **state)
{
    struct world *w = *state;
    run_one(w);
    reopen(w, false);
    w->work.allocs.v[0].state = ALLOC_RUNNING;
    say(w, true);
    UNTIL(w, state_of(w, A) == ALLOC_RUNNING);
    settle(w);
    assert_int_equal(fake.starts, 1);
}

static void a_run_that_was_intended_and_not_begun_is_begun(void **state)
{
    struct world *w = *state;
    run_one(w);
    fake_exit(fake_find(A), 1);
    fake.hold = true;
    UNTIL(w, fake.starts == 2);
    /* The host never saw the second run: the agent died between its intent and the start. */
    struct fake_run *second = fake.runs;
    fake.runs = second->next;
    if (second->task)
        second->alive = false;
    end(w);
    for (char **e = second->env; *e; e++)
        free(*e);
    free(second->env);
    free(second);
    fake.hold = false;
    begin(w);
    say(w, true);
    UNTIL(w, fake.starts == 3 && state_of(w, A) == ALLOC_RUNNING);
    assert_int_equal(record_of(w, A)->report.restarts, 1);
}

static void what_runs_already_is_taken_over_once_by_the_first_replica(void **state)
{
    struct world *w = *state;
    mem_set_string(&service(w)->adopt, "abc");
    fake.hold = true;
    want(w, A);
    want(w, B);
    say(w, true);
    UNTIL(w, fake.starts == 2);
    assert_string_equal(fake_find(A)->adopts, "abc");
    assert_null(fake_find(B)->adopts);
    /* It is on disk before the driver is asked. */
    assert_string_equal(record_of(w, A)->handle, "takes over abc");
    fake.hold = false;
    reopen(w, true);
    assert_string_equal(record_of(w, A)->handle, "takes over abc");
    say(w, true);
    UNTIL(w, state_of(w, A) == ALLOC_RUNNING && state_of(w, B) == ALLOC_RUNNING);
    fake_exit(fake_find(A), 1);
    UNTIL(w, fake.starts == 3 && state_of(w, A) == ALLOC_RUNNING);
    assert_null(fake_find(A)->adopts);
}

static void what_runs_already_is_looked_for_again_when_a_start_failed(void **state)
{
    struct world *w = *state;
    mem_set_string(&service(w)->adopt, "abc");
    fake.fail_start = "no engine";
    want(w, A);
    say(w, true);
    UNTIL(w, fake.starts == 1);
    fake.fail_start = NULL;
    UNTIL(w, state_of(w, A) == ALLOC_RUNNING);
    assert_string_equal(fake_find(A)->adopts, "abc");
}

static void what_is_not_in_full_work_is_stopped_and_forgotten(void **state)
{
    struct world *w = *state;
    want(w, B);
    run_one(w);
    UNTIL(w, state_of(w, B) == ALLOC_RUNNING);
    list_remove((struct list *)&w->work.allocs, &alloc_type, 0);
    say(w, true);
    UNTIL(w, state_of(w, B) == (enum alloc_state)-1 && !has_dir(w, B));
    assert_false(fake_find(B)->alive);
    assert_int_equal(state_of(w, A), ALLOC_RUNNING);
}

static void a_forgotten_allocation_is_stopped_and_deleted(void **state)
{
    struct world *w = *state;
    run_one(w);
    list_remove((struct list *)&w->work.allocs, &alloc_type, 0);
    str_list_add(&w->work.gone, A);
    say(w, false);
    UNTIL(w, !has_dir(w, A));
    assert_false(fake_find(A)->alive);
    reopen(w, true);
    assert_int_equal(state_of(w, A), (enum alloc_state)-1);
}

static void files_and_tasks_that_nobody_wants_are_found_and_ended(void **state)
{
    struct world *w = *state;
    run_one(w);
    reopen(w, false);
    type_clear(&agent_work_type, &w->work);
    say(w, true);
    UNTIL(w, !fake_find(A)->alive && !has_dir(w, A));
    struct agent_report report = {0};
    runner_collect(w->runner, &report, 10);
    assert_int_equal(report.allocs.n, 0);
    type_clear(&agent_report_type, &report);
}

static void reports_are_collected_until_acknowledged(void **state)
{
    struct world *w = *state;
    run_one(w);
    struct agent_report report = {0}, again = {0}, none = {0};
    runner_collect(w->runner, &report, 10);
    assert_int_equal(report.allocs.n, 1);
    assert_int_equal(report.allocs.v[0].state, ALLOC_RUNNING);
    fake_exit(fake_find(A), 1);
    UNTIL(w, fake.starts == 2 && state_of(w, A) == ALLOC_RUNNING);
    runner_acknowledge(w->runner, &report);
    runner_collect(w->runner, &again, 10);
    assert_int_equal(again.allocs.n, 1);
    assert_true(again.allocs.v[0].seq > report.allocs.v[0].seq);
    runner_acknowledge(w->runner, &again);
    runner_collect(w->runner, &none, 10);
    assert_int_equal(none.allocs.n, 0);
    type_clear(&agent_report_type, &report);
    type_clear(&agent_report_type, &again);
}

static void servers_that_forgot_a_report_get_it_again(void **state)
{
    struct world *w = *state;
    run_one(w);
    struct agent_report report = {0}, again = {0};
    runner_collect(w->runner, &report, 10);
    runner_acknowledge(w->runner, &report);
    say(w, true);                   /* they still say pending */
    runner_collect(w->runner, &again, 10);
    assert_int_equal(again.allocs.n, 1);
    assert_true(again.allocs.v[0].seq > report.allocs.v[0].seq);
    type_clear(&agent_report_type, &report);
    type_clear(&agent_report_type, &again);
}

/* The allocation with a port "raft". */
static struct alloc *want_port(struct world *w, const char *id, int64_t host)
{
    struct alloc *a = want(w, id);
    struct alloc_port *p = list_add((struct list *)&a->ports, &alloc_port_type);
    p->name = mem_strdup("raft");
    p->host = host;
    return a;
}

/* The servers tell of one more replica of the service. */
static void tell_peer(struct world *w, const char *alloc, int64_t replica, const char *ip, int64_t host)
{
    struct service_peers *s = w->work.peers.n ? w->work.peers.v
                                              : list_add((struct list *)&w->work.peers, &service_peers_type);
    mem_set_string(&s->service, "web");
    struct peer *p = list_add((struct list *)&s->peers, &peer_type);
    p->alloc = mem_strdup(alloc);
    p->replica = replica;
    p->ip = mem_strdup(ip);
    struct alloc_port *port = list_add((struct list *)&p->ports, &alloc_port_type);
    port->name = mem_strdup("raft");
    port->host = host;
}

static void peers_are_named_in_their_order(void **state)
{
    struct world *w = *state;
    want_port(w, A, 20000)->replica = 1;
    tell_peer(w, B, 0, "10.0.0.2", 20005);
    tell_peer(w, A, 1, "10.0.0.1", 20000);
    tell_peer(w, "cccccccccccc", 2, "fd00::3", 20001);
    say(w, true);
    UNTIL(w, state_of(w, A) == ALLOC_RUNNING);
    assert_string_equal(fake_env(fake_find(A), "MENTAT_PEERS_RAFT"), "10.0.0.2:20005,127.0.0.1:20000,[fd00::3]:20001");
}

static void a_task_is_always_among_its_peers(void **state)
{
    struct world *w = *state;
    want_port(w, A, 20000)->replica = 1;
    tell_peer(w, B, 0, "10.0.0.2", 20005);
    tell_peer(w, "dddddddddddd", 1, "10.0.0.9", 20009);     /* its replacement on another node */
    tell_peer(w, "cccccccccccc", 2, "10.0.0.3", 20001);
    say(w, true);
    UNTIL(w, state_of(w, A) == ALLOC_RUNNING);
    assert_string_equal(fake_env(fake_find(A), "MENTAT_PEERS_RAFT"), "10.0.0.2:20005,127.0.0.1:20000,10.0.0.3:20001");
}

static void changed_peers_are_for_the_next_start(void **state)
{
    struct world *w = *state;
    want_port(w, A, 20000);
    tell_peer(w, A, 0, "127.0.0.1", 20000);
    say(w, true);
    UNTIL(w, state_of(w, A) == ALLOC_RUNNING);
    tell_peer(w, B, 1, "10.0.0.2", 20005);
    say(w, false);
    settle(w);
    assert_int_equal(fake.starts, 1);
    fake_exit(fake_find(A), 1);
    UNTIL(w, fake.starts == 2);
    assert_string_equal(fake_env(fake_find(A), "MENTAT_PEERS_RAFT"), "127.0.0.1:20000,10.0.0.2:20005");
}

static void services_that_are_not_told_have_no_peers(void **state)
{
    struct world *w = *state;
    want_port(w, A, 20000);
    tell_peer(w, A, 0, "127.0.0.1", 20000);
    say(w, true);
    UNTIL(w, state_of(w, A) == ALLOC_RUNNING);
    list_clear((struct list *)&w->work.peers, &service_peers_type);
    say(w, false);
    fake_exit(fake_find(A), 1);
    UNTIL(w, fake.starts == 2);
    assert_null(fake_env(fake_find(A), "MENTAT_PEERS_RAFT"));
    assert_string_equal(fake_env(fake_find(A), "MENTAT_PORT_RAFT"), "20000");
}

static void on_stopped(void *ctx)
{
    ((struct world *)ctx)->stopped = true;
}

static void stopping_everything_leaves_no_task_and_no_file(void **state)
{
    struct world *w = *state;
    want(w, B);
    run_one(w);
    UNTIL(w, state_of(w, B) == ALLOC_RUNNING);
    runner_stop_all(w->runner, on_stopped, w);
    UNTIL(w, w->stopped);
    assert_false(fake_find(A)->alive || fake_find(B)->alive);
    assert_false(has_dir(w, A) || has_dir(w, B));
}

static void who_does_not_wait_for_the_end_of_tasks_has_them_killed(void **state)
{
    struct world *w = *state;
    run_one(w);
    fake.deaf = true;
    runner_stop_all(w->runner, on_stopped, w);
    UNTIL(w, fake_find(A)->stops == 1);
    assert_true(fake_find(A)->alive);
    runner_kill_all(w->runner);
    UNTIL(w, w->stopped);
    assert_false(fake_find(A)->alive);
    fake.deaf = false;
}

static void what_comes_while_everything_is_stopped_is_stopped_too(void **state)
{
    struct world *w = *state;
    run_one(w);
    reopen(w, false);                                       /* its task runs, and nothing here knows */
    runner_stop_all(w->runner, on_stopped, w);
    w->work.allocs.v[0].state = ALLOC_RUNNING;
    want(w, B);
    say(w, true);
    UNTIL(w, w->stopped);
    assert_false(fake_find(A)->alive);
    assert_null(fake_find(B));
}

int main(void)
{
    log_init("test", LOG_FATAL);
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_wanted_allocation_is_started_and_stopped),
        T(nothing_is_started_before_the_servers_said_everything),
        T(the_same_work_twice_changes_nothing),
        T(what_is_paused_stays_so_until_it_is_resumed_or_stopped),
        T(a_task_that_fails_is_restarted_then_reported_failed),
        T(a_task_that_runs_to_completion_is_complete),
        T(a_start_that_fails_follows_the_policy),
        T(what_has_shared_volumes_ends_when_no_server_answers),
        T(what_has_no_volumes_goes_on_when_no_server_answers),
        T(a_node_in_trouble_starts_nothing_until_it_is_over),
        T(a_start_without_room_is_no_failure_of_the_task),
        T(what_cannot_be_interpolated_fails_at_once),
        T(health_is_reported_both_ways),
        T(a_new_generation_restarts_in_place),
        T(a_stop_while_starting_ends_it),
        T(a_stop_during_the_delay_ends_it),
        T(a_running_task_is_adopted_by_the_next_agent),
        T(a_task_that_ended_meanwhile_is_reported_with_its_status),
        T(a_new_version_without_a_restart_is_kept_in_the_store),
        T(an_agent_killed_before_the_handle_was_stored_does_not_start_twice),
        T(a_lost_store_does_not_start_a_running_task_twice),
        T(a_run_that_was_intended_and_not_begun_is_begun),
        T(what_runs_already_is_taken_over_once_by_the_first_replica),
        T(what_runs_already_is_looked_for_again_when_a_start_failed),
        T(what_is_not_in_full_work_is_stopped_and_forgotten),
        T(a_forgotten_allocation_is_stopped_and_deleted),
        T(files_and_tasks_that_nobody_wants_are_found_and_ended),
        T(reports_are_collected_until_acknowledged),
        T(servers_that_forgot_a_report_get_it_again),
        T(peers_are_named_in_their_order),
        T(a_task_is_always_among_its_peers),
        T(changed_peers_are_for_the_next_start),
        T(services_that_are_not_told_have_no_peers),
        T(who_does_not_wait_for_the_end_of_tasks_has_them_killed),
        T(what_comes_while_everything_is_stopped_is_stopped_too),
        T(stopping_everything_leaves_no_task_and_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
