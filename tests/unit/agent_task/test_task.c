/* Tasks, black-box: real shims, real processes, real control groups. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../cmocka_all.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "groups.h"
#include "task_world.h"

static void task_that_ends_normally_reports_code_zero_and_its_output(void **state)
{
    struct probe p;
    probe_init(*state, &p, "echo $GREETING; echo oops >&2; pwd");
    probe_start(&p);
    assert_false(p.started);                      /* never from inside the call */
    assert_true(probe_wait_exited(&p));
    assert_true(p.how.known);
    assert_int_equal(p.how.code, 0);
    assert_int_equal(p.how.run, 1);
    assert_string_equal(p.how.reason, "exit code 0");
    assert_true(p.started_at > 0 && p.how.finished_at >= p.started_at);
    CLEANUP_BUF struct buf log = {0};
    CLEANUP_FREE char *expected = mem_printf("hello\n%s/task\n", p.dir);
    probe_log(&p, 0, &log);
    assert_string_equal(log.data, expected);
    probe_log(&p, 1, &log);
    assert_string_equal(log.data, "oops\n");
    probe_end(&p);
}

static void exit_code_is_reported(void **state)
{
    struct probe p;
    probe_init(*state, &p, "exit 37");
    probe_start(&p);
    assert_true(probe_wait_exited(&p));
    assert_int_equal(p.how.code, 37);
    assert_int_equal(p.how.signal, 0);
    assert_string_equal(p.how.reason, "exit code 37");
    probe_end(&p);
}

static void death_by_signal_is_reported(void **state)
{
    struct probe p;
    probe_init(*state, &p, "kill -SEGV $$");
    probe_start(&p);
    assert_true(probe_wait_exited(&p));
    assert_int_equal(p.how.signal, SIGSEGV);
    assert_int_equal(p.how.code, 128 + SIGSEGV);
    assert_string_equal(p.how.reason, "killed by SIGSEGV");
    probe_end(&p);
}

static void signal_reaches_the_main_process(void **state)
{
    struct probe p;
    struct error err;
    probe_init(*state, &p, "trap 'echo reloaded; exit 5' HUP; echo ready; while :; do sleep 0.02; done");
    probe_start(&p);
    assert_true(probe_wait_text(&p, "logs/stdout.0.log", "ready"));
    assert_int_equal(task_signal(p.task, SIGHUP, &err), 0);
    assert_true(probe_wait_exited(&p));
    assert_int_equal(p.how.code, 5);
    assert_int_equal(task_signal(p.task, SIGHUP, &err), -1);
    assert_int_equal(err.code, ERROR_CONFLICT);
    probe_end(&p);
}

static void stop_sends_the_signal_first(void **state)
{
    struct probe p;
    probe_init(*state, &p, "trap 'exit 3' INT; echo ready; while :; do sleep 0.02; done");
    probe_start(&p);
    assert_true(probe_wait_text(&p, "logs/stdout.0.log", "ready"));
    task_stop(p.task, SIGINT, 15000);
    assert_true(probe_wait_exited(&p));
    assert_int_equal(p.how.code, 3);
    probe_end(&p);
}

static void task_that_ignores_sigterm_is_killed_after_the_timeout(void **state)
{
    struct probe p;
    probe_init(*state, &p, "trap '' TERM; echo ready; while :; do sleep 0.05; done");
    probe_start(&p);
    assert_true(probe_wait_text(&p, "logs/stdout.0.log", "ready"));
    int64_t before = time_monotonic_ms();
    task_stop(p.task, 0, 200);
    assert_true(probe_wait_exited(&p));
    assert_true(time_monotonic_ms() - before >= 190);
    assert_int_equal(p.how.signal, SIGKILL);
    assert_string_equal(p.how.reason, "killed: it did not end within 200ms of SIGTERM");
    probe_end(&p);
}

static void daemonised_tree(void **state, enum cgroup_mode mode)
{
    struct world *w = world_new(mode);
    struct probe p;
    probe_init(w, &p, "setsid sh -c 'setsid sh -c \"echo \\$\\$ > daemon; trap \\\"\\\" TERM; while :; do sleep 0.05; done\" & "
               "exit' & wait; while :; do sleep 0.05; done");
    probe_start(&p);
    int daemon_pid = helper_wait_line(&p, "task/daemon");
    assert_true(daemon_pid > 0);
    assert_true(process_alive(daemon_pid));
    task_stop(p.task, 0, 5000);
    assert_true(probe_wait_exited(&p));
    assert_false(process_alive(daemon_pid));
    probe_end(&p);
    assert_true(world_clean(w));
}

static void daemonised_tree_ends_with_its_task(void **state) { daemonised_tree(state, CGROUP_AUTO); }
static void daemonised_tree_ends_by_the_freezer(void **state) { daemonised_tree(state, CGROUP_V1); }
static void daemonised_tree_ends_without_control_groups(void **state) { daemonised_tree(state, CGROUP_OFF); }

static void start_failure(void **state, void (*change)(struct probe *), const char *text)
{
    struct probe p;
    probe_init(*state, &p, "echo never");
    change(&p);
    probe_start(&p);
    assert_false(probe_wait_exited(&p));
    assert_true(p.started && !p.exited);
    assert_string_equal(p.error.text, text);
    probe_end(&p);
}

static void set_command(struct probe *p, const char *command)
{
    str_list_clear(&p->config.command);
    str_list_add(&p->config.command, command);
}

static void use_missing_command(struct probe *p) { set_command(p, "/no/such/program"); }
static void use_unknown_name(struct probe *p) { set_command(p, "no-such-program"); }
static void use_plain_file(struct probe *p) { set_command(p, "/etc/passwd"); }
static void use_missing_user(struct probe *p) { p->config.user = mem_strdup("nosuchuser"); }
static void use_missing_workdir(struct probe *p) { p->config.workdir = mem_strdup("/no/such/folder"); }
static void use_lost_interpreter(struct probe *p)
{
    CLEANUP_FREE char *path = mem_printf("%s/script", p->dir);
    file_write(path, "#!/no/such/interpreter\n", 23, 0755, NULL);
    set_command(p, path);
}

static void missing_command_is_said(void **state)
{
    start_failure(state, use_missing_command, "command `/no/such/program` does not exist on node `n1`");
    start_failure(state, use_unknown_name, "command `no-such-program` is not in the PATH on node `n1`");
}

static void command_that_is_not_executable_is_said(void **state)
{
    start_failure(state, use_plain_file, "command `/etc/passwd` on node `n1` is not executable for the task's user");
}

static void missing_user_and_workdir_are_said(void **state)
{
    start_failure(state, use_missing_user, "user `nosuchuser` does not exist on node `n1`");
    start_failure(state, use_missing_workdir, "workdir `/no/such/folder` does not exist on node `n1`");
}

static void missing_interpreter_is_said(void **state)
{
    struct probe p;
    probe_init(*state, &p, "");
    use_lost_interpreter(&p);
    probe_start(&p);
    assert_false(probe_wait_exited(&p));
    assert_non_null(strstr(p.error.text, "its interpreter"));
    probe_end(&p);
}

static void task_runs_as_its_user_and_owns_its_folder(void **state)
{
    struct probe p;
    if (geteuid() != 0)
        skip();
    probe_init(*state, &p, "id -un; id -G; touch mine && echo wrote; grep NoNewPrivs /proc/self/status");
    p.config.user = mem_strdup("nobody");
    probe_start(&p);
    assert_true(probe_wait_exited(&p));
    CLEANUP_BUF struct buf log = {0};
    probe_log(&p, 0, &log);
    assert_string_equal(log.data, "nobody\n65534\nwrote\nNoNewPrivs:\t1\n");
    probe_end(&p);
}

static void task_has_no_foreign_descriptor_and_a_clean_start(void **state)
{
    struct probe p;
    probe_init(*state, &p, "ls /proc/self/fd; grep -E 'Sig(Blk|Ign)' /proc/self/status; ulimit -c");
    probe_start(&p);
    assert_true(probe_wait_exited(&p));
    CLEANUP_BUF struct buf log = {0};
    probe_log(&p, 0, &log);
    /* 3 is ls reading the folder. Signals 32 and 33 are libc's own and cannot be reset. */
    assert_non_null(strstr(log.data, "0\n1\n2\n3\nSigBlk:\t0000000000000000\nSigIgn:\t"));
    assert_non_null(strstr(log.data, "0000000\n0\n"));
    probe_end(&p);
}

static void second_start_of_a_running_allocation_is_refused(void **state)
{
    struct probe p, q;
    probe_init(*state, &p, "sleep 60");
    probe_start(&p);
    assert_true(probe_wait_started(&p));
    q = p;
    q.started = q.exited = false;
    probe_start(&q);
    assert_false(probe_wait_started(&q));
    assert_int_equal(q.error.code, ERROR_CONFLICT);
    task_free(q.task);
    assert_false(p.exited);
    task_stop(p.task, 0, 0);
    assert_true(probe_wait_exited(&p));
    probe_end(&p);
}

int run_task_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(task_that_ends_normally_reports_code_zero_and_its_output, world_open, world_close),
        cmocka_unit_test_setup_teardown(exit_code_is_reported, world_open, world_close),
        cmocka_unit_test_setup_teardown(death_by_signal_is_reported, world_open, world_close),
        cmocka_unit_test_setup_teardown(signal_reaches_the_main_process, world_open, world_close),
        cmocka_unit_test_setup_teardown(stop_sends_the_signal_first, world_open, world_close),
        cmocka_unit_test_setup_teardown(task_that_ignores_sigterm_is_killed_after_the_timeout, world_open, world_close),
        cmocka_unit_test(daemonised_tree_ends_with_its_task),
        cmocka_unit_test(daemonised_tree_ends_by_the_freezer),
        cmocka_unit_test(daemonised_tree_ends_without_control_groups),
        cmocka_unit_test_setup_teardown(missing_command_is_said, world_open, world_close),
        cmocka_unit_test_setup_teardown(command_that_is_not_executable_is_said, world_open, world_close),
        cmocka_unit_test_setup_teardown(missing_user_and_workdir_are_said, world_open, world_close),
        cmocka_unit_test_setup_teardown(missing_interpreter_is_said, world_open, world_close),
        cmocka_unit_test_setup_teardown(task_runs_as_its_user_and_owns_its_folder, world_open, world_close),
        cmocka_unit_test_setup_teardown(task_has_no_foreign_descriptor_and_a_clean_start, world_open, world_close),
        cmocka_unit_test_setup_teardown(second_start_of_a_running_allocation_is_refused, world_open, world_close),
    };
    return cmocka_run_group_tests_name("agent_task", tests, NULL, NULL);
}
