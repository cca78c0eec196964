/* Limits: memory, processes, cpu, and what the control group says of a task. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../cmocka_all.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "groups.h"
#include "task_world.h"

/* The host's rights decide what can be tested: without control groups there are no limits. */
static bool has(struct world *w, unsigned controller)
{
    for (unsigned i = 0; i < w->cgroups.n; i++)
        if (w->cgroups.v[i].controllers & controller)
            return true;
    return false;
}

static void task_beyond_its_memory_is_reported_as_such(void **state)
{
    struct probe p;
    if (!has(*state, CGROUP_MEMORY))
        skip();
    /* The shell keeps what it reads in a variable: twice its memory and more. */
    probe_init(*state, &p, "x=$(head -c 100000000 /dev/zero | tr '\\0' a); echo ${#x}");
    p.resources.memory_mb = 24;
    probe_start(&p);
    assert_true(probe_wait_exited(&p));
    assert_true(p.how.oom);
    assert_int_equal(p.how.code, 137);
    assert_string_equal(p.how.reason, "out of memory: it was killed at its limit of 24 MB");
    probe_end(&p);
}

static void plain_kill_is_not_called_out_of_memory(void **state)
{
    struct probe p;
    probe_init(*state, &p, "kill -9 $$");
    probe_start(&p);
    assert_true(probe_wait_exited(&p));
    assert_false(p.how.oom);
    assert_string_equal(p.how.reason, "killed by SIGKILL");
    probe_end(&p);
}

static void processes_are_limited(void **state)
{
    struct probe p;
    if (!has(*state, CGROUP_PIDS))
        skip();
    probe_init(*state, &p, "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 60 & done; wait");
    p.resources.pids = 4;
    probe_start(&p);
    assert_true(probe_wait_text(&p, "logs/stderr.0.log", "fork"));
    task_stop(p.task, SIGKILL, 0);
    assert_true(probe_wait_exited(&p));
    probe_end(&p);
}

static bool used_wall(void *arg)
{
    struct probe *p = arg;
    return time_now_ms() - p->started_at >= 1000;
}

static void cpu_maximum_holds(void **state)
{
    struct probe p;
    struct task_stats stats;
    struct error err;
    if (!has(*state, CGROUP_CPU) || !has(*state, CGROUP_CPUACCT | CGROUP_CPU))
        skip();
    probe_init(*state, &p, "while :; do :; done");
    p.resources.cpu_max = 0.2;
    probe_start(&p);
    assert_true(probe_wait_started(&p));
    assert_true(world_wait(*state, used_wall, &p));
    assert_int_equal(task_stats(p.task, &stats, &err), 0);
    double wall = (double)(time_now_ms() - p.started_at) / 1000;
    assert_true(stats.cpu_seconds > 0.02);
    assert_true(stats.cpu_seconds < 0.35 * wall + 0.1);
    assert_true(stats.memory_bytes > 0 && stats.memory_peak_bytes >= stats.memory_bytes / 2);
    assert_int_equal(stats.memory_limit_bytes, 64 << 20);
    assert_int_equal(stats.pids, 1);
    task_stop(p.task, 0, 0);
    assert_true(probe_wait_exited(&p));
    probe_end(&p);
}

static void leftover_groups_are_listed_and_reused(void **state)
{
    struct world *w = *state;
    struct str_list ids = {0};
    struct error err;
    struct probe p;
    if (!w->cgroups.n)
        skip();
    probe_init(w, &p, "exit 0");
    assert_int_equal(cgroup_create(&w->cgroups, p.id, &(struct cgroup_limits){.cpus = 1}, &err), 0);
    assert_int_equal(cgroup_list(&w->cgroups, &ids, &err), 0);
    assert_int_equal(ids.n, 1);
    assert_string_equal(ids.v[0], p.id);
    str_list_clear(&ids);
    probe_start(&p);
    assert_true(probe_wait_exited(&p));
    assert_int_equal(p.how.code, 0);
    probe_end(&p);
}

static void tasks_run_without_control_groups_and_the_probe_says_so(void **state)
{
    struct world *w = world_new(CGROUP_OFF);
    struct driver_info_list info = {0};
    struct probe p;
    drivers_probe(w->drivers, &info);
    assert_int_equal(info.n, 1);
    assert_true(info.v[0].healthy);
    assert_non_null(strstr(info.v[0].detail, "limits are not enforced for cpu, memory, pids"));
    while (info.n)
        list_remove((struct list *)(void *)&info, &driver_info_type, 0);
    free(info.v);
    probe_init(w, &p, "exit 2");
    probe_start(&p);
    assert_true(probe_wait_exited(&p));
    assert_int_equal(p.how.code, 2);
    probe_end(&p);
    assert_true(world_clean(w));
}

int run_limit_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(task_beyond_its_memory_is_reported_as_such, world_open, world_close),
        cmocka_unit_test_setup_teardown(plain_kill_is_not_called_out_of_memory, world_open, world_close),
        cmocka_unit_test_setup_teardown(processes_are_limited, world_open, world_close),
        cmocka_unit_test_setup_teardown(cpu_maximum_holds, world_open, world_close),
        cmocka_unit_test_setup_teardown(leftover_groups_are_listed_and_reused, world_open, world_close),
        cmocka_unit_test(tasks_run_without_control_groups_and_the_probe_says_so),
    };
    return cmocka_run_group_tests_name("agent_limits", tests, NULL, NULL);
}
