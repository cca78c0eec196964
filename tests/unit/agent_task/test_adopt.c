/* A task outlives its agent: the agent is a process of its own here, and is killed. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../cmocka_all.h"
#include "base/file.h"
#include "base/mem.h"
#include "groups.h"
#include "task_world.h"

/* Starts the task in another process and kills that with SIGKILL once the task runs. */
static void start_and_lose_agent(struct probe *p)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t agent = fork();
    if (agent == 0) {
        struct world w = *p->world;
        uv_loop_init(&w.loop);
        w.env.loop = &w.loop;
        if (drivers_open(&w.env, NULL, &w.drivers, NULL) < 0)
            _exit(1);
        p->world = &w;
        probe_start(p);
        bool started = probe_wait_started(p);
        if (write(fds[1], p->handle, sizeof p->handle) < 0 || !started)
            _exit(1);
        for (;;)
            pause();
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], p->handle, sizeof p->handle), sizeof p->handle);
    close(fds[0]);
    kill(agent, SIGKILL);
    waitpid(agent, NULL, 0);
    assert_true(strlen(p->handle) > 0);
}

static int shim_of(const struct probe *p)
{
    int shim = 0;
    assert_int_equal(sscanf(p->handle, "exec1 shim=%d", &shim), 1);
    return shim;
}

static void running_task_is_adopted_and_ends_with_its_status_and_logs(void **state)
{
    struct probe p;
    probe_init(*state, &p, "i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); sleep 0.005; done; "
               "while [ ! -e go ]; do sleep 0.01; done; echo last; exit 9");
    start_and_lose_agent(&p);
    probe_adopt(&p, p.handle);
    assert_true(probe_wait_started(&p));
    assert_false(p.exited);
    CLEANUP_FREE char *go = mem_printf("%s/task/go", p.dir);
    file_write(go, "", 0, 0644, NULL);
    assert_true(probe_wait_exited(&p));
    assert_int_equal(p.how.code, 9);
    CLEANUP_BUF struct buf log = {0};
    CLEANUP_BUF struct buf expected = {0};
    for (int i = 0; i < 50; i++)
        buf_printf(&expected, "line %d\n", i);
    buf_add_string(&expected, "last\n");
    probe_log(&p, 0, &log);
    assert_string_equal(log.data, expected.data);
    probe_end(&p);
}

static void task_that_ended_meanwhile_gives_its_true_status(void **state)
{
    struct probe p;
    probe_init(*state, &p, "sleep 0.1; exit 21");
    start_and_lose_agent(&p);
    assert_true(world_wait_dead(*state, shim_of(&p)));
    probe_adopt(&p, p.handle);
    assert_true(probe_wait_exited(&p));
    assert_true(p.started && p.how.known);
    assert_int_equal(p.how.code, 21);
    assert_int_equal(p.how.run, 1);
    probe_end(&p);
}

static void task_is_found_without_its_handle(void **state)
{
    struct probe p;
    probe_init(*state, &p, "sleep 60");
    start_and_lose_agent(&p);
    probe_adopt(&p, NULL);
    assert_true(probe_wait_started(&p));
    task_stop(p.task, 0, 5000);
    assert_true(probe_wait_exited(&p));
    assert_int_equal(p.how.signal, SIGTERM);
    probe_end(&p);
}

static void allocation_without_a_trace_is_not_found(void **state)
{
    struct probe p;
    probe_init(*state, &p, "true");
    probe_adopt(&p, NULL);
    assert_false(probe_wait_started(&p));
    assert_int_equal(p.error.code, ERROR_NOT_FOUND);
    probe_end(&p);
}

/* What left the session of a task whose shim was killed is found by its control group alone. */
static void descendant_check(struct world *w, int child)
{
    if (!w->cgroups.n)
        kill(child, SIGKILL);
    assert_true(world_wait_dead(w, child));
}

static void task_ends_with_its_killed_shim_and_is_reported_lost(void **state)
{
    struct probe p;
    probe_init(*state, &p, "setsid sleep 60 & echo $! > child; wait");
    probe_start(&p);
    assert_true(probe_wait_started(&p));
    int child = helper_wait_line(&p, "task/child"), pid = p.pid;
    assert_true(child > 0);
    kill(shim_of(&p), SIGKILL);
    assert_true(probe_wait_exited(&p));
    assert_false(p.how.known);
    assert_string_equal(p.how.reason, "lost: its shim was killed");
    assert_true(world_wait_dead(*state, pid));
    descendant_check(*state, child);
    probe_end(&p);
}

static void killed_shim_is_noticed_at_adoption(void **state)
{
    struct probe p;
    probe_init(*state, &p, "setsid sleep 60 & echo $! > child; wait");
    start_and_lose_agent(&p);
    int child = helper_wait_line(&p, "task/child");
    assert_true(child > 0);
    kill(shim_of(&p), SIGKILL);
    assert_true(world_wait_dead(*state, shim_of(&p)));
    probe_adopt(&p, p.handle);
    assert_true(probe_wait_exited(&p));
    assert_false(p.how.known);
    assert_string_equal(p.how.reason, "lost: its shim was killed");
    descendant_check(*state, child);
    probe_end(&p);
}

static void task_of_an_earlier_boot_is_reported_so(void **state)
{
    struct probe p;
    probe_init(*state, &p, "true");
    probe_adopt(&p, "exec1 shim=1 start=1 boot=another run=4");
    assert_true(probe_wait_exited(&p));
    assert_false(p.how.known);
    assert_int_equal(p.how.run, 4);
    assert_string_equal(p.how.reason, "lost: the host was restarted");
    probe_end(&p);
}

static void shim_that_cannot_be_reached_is_ended(void **state)
{
    struct probe p;
    probe_init(*state, &p, "sleep 60");
    start_and_lose_agent(&p);
    CLEANUP_FREE char *path = mem_printf("%s/shim.sock", p.dir);
    unlink(path);
    probe_adopt(&p, p.handle);
    assert_true(probe_wait_exited(&p));
    assert_false(p.how.known);
    assert_non_null(strstr(p.how.reason, "did not answer"));
    assert_true(world_wait_dead(*state, shim_of(&p)));
    probe_end(&p);
}

static bool all_started(void *arg)
{
    struct probe *p = arg;
    for (int i = 0; i < 200; i++)
        if (!p[i].started)
            return false;
    return true;
}

static bool all_exited(void *arg)
{
    struct probe *p = arg;
    for (int i = 0; i < 200; i++)
        if (!p[i].exited)
            return false;
    return true;
}

static void two_hundred_tasks_start_and_stop_at_once(void **state)
{
    struct probe *p = mem_array(200, sizeof *p);
    for (int i = 0; i < 200; i++) {
        probe_init(*state, &p[i], "exec sleep 60");
        probe_start(&p[i]);
    }
    assert_true(world_wait(*state, all_started, p));
    for (int i = 0; i < 200; i++) {
        assert_int_equal(p[i].error.code, ERROR_NONE);
        assert_true(process_alive(p[i].pid));
        task_stop(p[i].task, 0, 10000);
    }
    assert_true(world_wait(*state, all_exited, p));
    for (int i = 0; i < 200; i++) {
        assert_int_equal(p[i].how.signal, SIGTERM);
        assert_false(process_alive(p[i].pid));
        probe_end(&p[i]);
    }
    free(p);
}

int run_adopt_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(running_task_is_adopted_and_ends_with_its_status_and_logs, world_open, world_close),
        cmocka_unit_test_setup_teardown(task_that_ended_meanwhile_gives_its_true_status, world_open, world_close),
        cmocka_unit_test_setup_teardown(task_is_found_without_its_handle, world_open, world_close),
        cmocka_unit_test_setup_teardown(allocation_without_a_trace_is_not_found, world_open, world_close),
        cmocka_unit_test_setup_teardown(task_ends_with_its_killed_shim_and_is_reported_lost, world_open, world_close),
        cmocka_unit_test_setup_teardown(killed_shim_is_noticed_at_adoption, world_open, world_close),
        cmocka_unit_test_setup_teardown(task_of_an_earlier_boot_is_reported_so, world_open, world_close),
        cmocka_unit_test_setup_teardown(shim_that_cannot_be_reached_is_ended, world_open, world_close),
        cmocka_unit_test_setup_teardown(two_hundred_tasks_start_and_stop_at_once, world_open, world_close),
    };
    return cmocka_run_group_tests_name("agent_adopt", tests, NULL, NULL);
}
