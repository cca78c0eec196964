/* Commands in tasks: pipes, terminals, several at once, and their end. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../cmocka_all.h"
#include "base/mem.h"
#include "groups.h"
#include "task_world.h"

static void run_free(struct run *r)
{
    exec_free(r->exec);
    buf_free(&r->out);
    buf_free(&r->err_out);
}

static void task_open(void **state, struct probe *p)
{
    probe_init(*state, p, "exec sleep 60");
    probe_start(p);
    assert_true(probe_wait_started(p));
}

static void task_close(struct probe *p)
{
    task_stop(p->task, 0, 0);
    assert_true(probe_wait_exited(p));
    probe_end(p);
}

static void command_runs_where_the_task_is(void **state)
{
    struct probe p;
    struct run r;
    task_open(state, &p);
    run_start(&r, &p, false, "echo $GREETING; pwd; echo bad >&2; cat; exit 12");
    exec_write(r.exec, "from stdin\n", 11);
    exec_close_stdin(r.exec);
    assert_true(run_wait(&r));
    CLEANUP_FREE char *expected = mem_printf("hello\n%s/task\nfrom stdin\n", p.dir);
    assert_string_equal(r.out.data, expected);
    assert_string_equal(r.err_out.data, "bad\n");
    assert_int_equal(r.code, 12);
    run_free(&r);
    task_close(&p);
}

static bool has_size(void *arg) { return strstr(((struct run *)arg)->out.data ? ((struct run *)arg)->out.data : "", "51 91"); }
static bool has_prompt(void *arg) { return strstr(((struct run *)arg)->out.data ? ((struct run *)arg)->out.data : "", "30 100"); }

static void terminal_has_its_size_and_follows_it(void **state)
{
    struct probe p;
    struct run r;
    task_open(state, &p);
    /* A signal may end the shell's read: it reads again until the line is there. */
    run_start(&r, &p, true, "stty -echo; trap 'stty size' WINCH; stty size; until read line; do :; done; echo got $line; "
              "cat; echo $TERM; exit 4");
    assert_true(world_wait(*state, has_prompt, &r));
    exec_resize(r.exec, 51, 91);
    assert_true(world_wait(*state, has_size, &r));
    exec_write(r.exec, "x\n", 2);
    exec_close_stdin(r.exec);
    assert_true(run_wait(&r));
    assert_non_null(strstr(r.out.data, "got x"));
    assert_non_null(strstr(r.out.data, "xterm"));
    assert_int_equal(r.code, 4);
    run_free(&r);
    task_close(&p);
}

static void command_that_cannot_start_says_why(void **state)
{
    struct probe p;
    struct run r = {.world = *state};
    struct str_list command = {0};
    task_open(state, &p);
    run_start(&r, &p, false, "exec /no/such/thing");
    assert_true(run_wait(&r));
    assert_int_equal(r.code, 127);                /* the shell's own */
    run_free(&r);
    str_list_add(&command, "/no/such/thing");
    static const struct exec_events none;
    struct task_exec *x = task_exec(p.task, &(struct exec_spec){.command = &command}, &none, NULL, &r.error);
    assert_non_null(x);
    exec_free(x);                                 /* before its first event */
    str_list_clear(&command);
    assert_null(task_exec(p.task, &(struct exec_spec){.command = &command}, &none, NULL, &r.error));
    assert_int_equal(r.error.code, ERROR_INVALID);
    task_close(&p);
}

static void command_ends_when_its_client_goes(void **state)
{
    struct probe p;
    struct run r;
    task_open(state, &p);
    run_start(&r, &p, false, "echo $$ > pid; sleep 60");
    int pid = helper_wait_line(&p, "task/pid");
    assert_true(pid > 0);
    run_free(&r);
    assert_true(world_wait_dead(*state, pid));
    assert_false(p.exited);
    task_close(&p);
}

static void command_ends_with_its_task(void **state)
{
    struct probe p;
    struct run r;
    task_open(state, &p);
    run_start(&r, &p, false, "trap '' TERM; echo $$ > pid; sleep 60");
    int pid = helper_wait_line(&p, "task/pid");
    task_stop(p.task, 0, 5000);
    assert_true(run_wait(&r));
    assert_true(r.error.code || r.code == 137);
    assert_true(probe_wait_exited(&p));
    assert_false(process_alive(pid));
    run_free(&r);
    probe_end(&p);
}

static void several_commands_run_at_once_with_much_output(void **state)
{
    struct probe p;
    struct run r[5];
    task_open(state, &p);
    for (int i = 0; i < 5; i++) {
        char script[64];
        snprintf(script, sizeof script, "head -c 3000000 /dev/zero; exit %d", i);
        run_start(&r[i], &p, false, script);
    }
    for (int i = 0; i < 5; i++) {
        assert_true(run_wait(&r[i]));
        assert_int_equal(r[i].out.len, 3000000);
        assert_int_equal(r[i].code, i);
        run_free(&r[i]);
    }
    task_close(&p);
}

static void paused_command_loses_nothing(void **state)
{
    struct probe p;
    struct run r;
    task_open(state, &p);
    run_start(&r, &p, false, "head -c 1000000 /dev/zero; echo done > flag");
    exec_pause(r.exec, true);
    assert_true(process_alive(p.pid));
    exec_pause(r.exec, false);
    assert_true(run_wait(&r));
    assert_int_equal(r.out.len, 1000000);
    run_free(&r);
    task_close(&p);
}

static void command_in_an_ended_task_is_refused(void **state)
{
    struct probe p;
    struct run r;
    probe_init(*state, &p, "exit 0");
    probe_start(&p);
    assert_true(probe_wait_exited(&p));
    run_start(&r, &p, false, "true");
    assert_null(r.exec);
    assert_int_equal(r.error.code, ERROR_NOT_FOUND);
    probe_end(&p);
}

int run_session_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(command_runs_where_the_task_is, world_open, world_close),
        cmocka_unit_test_setup_teardown(terminal_has_its_size_and_follows_it, world_open, world_close),
        cmocka_unit_test_setup_teardown(command_that_cannot_start_says_why, world_open, world_close),
        cmocka_unit_test_setup_teardown(command_ends_when_its_client_goes, world_open, world_close),
        cmocka_unit_test_setup_teardown(command_ends_with_its_task, world_open, world_close),
        cmocka_unit_test_setup_teardown(several_commands_run_at_once_with_much_output, world_open, world_close),
        cmocka_unit_test_setup_teardown(paused_command_loses_nothing, world_open, world_close),
        cmocka_unit_test_setup_teardown(command_in_an_ended_task_is_refused, world_open, world_close),
    };
    return cmocka_run_group_tests_name("agent_session", tests, NULL, NULL);
}
