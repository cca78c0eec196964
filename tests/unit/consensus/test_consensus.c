/* The seam on a real directory and a real loop: what a server sees of it. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../cmocka_all.h"
#include "base/log.h"
#include "consensus/consensus.h"

struct world {
    char directory[64];
    uv_loop_t loop;
    struct consensus *consensus;
    struct consensus_options options;
    struct buf state;            /* what was applied, one line a command */
    uint64_t applied_index;
    unsigned restores, snapshots, answers, local;
    enum consensus_outcome outcome;
    uint64_t index;
    enum consensus_role role;
    bool stopped;
    struct error restore_error;
};

static void on_apply(void *ctx, uint64_t index, const void *bytes, size_t len, void *request)
{
    struct world *w = ctx;
    assert_true(index > w->applied_index);
    w->applied_index = index;
    if (len < 100) {
        buf_add(&w->state, bytes, len);
        buf_add_char(&w->state, '\n');
    }
    w->local += request != NULL;
}

static void on_snapshot(void *ctx, struct buf *out)
{
    struct world *w = ctx;
    w->snapshots++;
    buf_add(out, w->state.data, w->state.len);
}

static void *on_read_state(void *ctx, const void *bytes, size_t len, struct error *err)
{
    struct world *w = ctx;
    if (w->restore_error.code) {
        *err = w->restore_error;
        return NULL;
    }
    return mem_strndup(bytes, len);
}

static void *on_use_state(void *ctx, uint64_t index, void *state)
{
    struct world *w = ctx;
    w->restores++;
    w->applied_index = index;
    buf_clear(&w->state);
    buf_add_string(&w->state, state);
    return state;       /* copied */
}

static void on_free_state(void *ctx, void *state)
{
    free(state);
}

static void on_role(void *ctx, enum consensus_role role)
{
    ((struct world *)ctx)->role = role;
}

static void on_fatal(void *ctx, const struct error *err)
{
    fail_msg("fatal: %s", err->text);
}

static const struct consensus_callbacks callbacks = {
    .apply = on_apply, .snapshot = on_snapshot, .read_state = on_read_state, .use_state = on_use_state,
    .free_state = on_free_state, .role_changed = on_role, .fatal = on_fatal,
};

static void on_done(void *ctx, void *request, enum consensus_outcome outcome, uint64_t index)
{
    struct world *w = ctx;
    w->answers++;
    if (request && request != w)
        *(enum consensus_outcome *)request = outcome;
    w->outcome = outcome;
    w->index = index;
}

static int setup(void **state)
{
    struct world *w = NEW(struct world);
    strcpy(w->directory, "/tmp/mentat-consensus-XXXXXX");
    assert_non_null(mkdtemp(w->directory));
    assert_int_equal(uv_loop_init(&w->loop), 0);
    w->options = (struct consensus_options){.loop = &w->loop, .directory = w->directory, .address = "127.0.0.1:1",
                                            .bootstrap = true, .callbacks = &callbacks, .ctx = w,
                                            .segment_bytes = 64 * 1024, .reserve_bytes = 1};
    *state = w;
    return 0;
}

static void start(struct world *w)
{
    struct error err = {0};
    if (consensus_start(&w->consensus, &w->options, &err) < 0)
        fail_msg("%s", err.text);
    while (w->role != CONSENSUS_LEADER)
        uv_run(&w->loop, UV_RUN_ONCE);
}

static void on_stopped(void *ctx)
{
    ((struct world *)ctx)->stopped = true;
}

static void stop(struct world *w)
{
    w->stopped = false;
    consensus_stop(w->consensus, on_stopped, w);
    while (!w->stopped)
        uv_run(&w->loop, UV_RUN_ONCE);
    w->consensus = NULL;
    w->role = CONSENSUS_STARTING;
    w->applied_index = 0;
    buf_clear(&w->state);
}

static int teardown(void **state)
{
    struct world *w = *state;
    if (w->consensus)
        stop(w);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", w->directory);
    assert_int_equal(system(command), 0);
    buf_free(&w->state);
    free(w);
    return 0;
}

static void wait_answers(struct world *w, unsigned n)
{
    while (w->answers < n)
        uv_run(&w->loop, UV_RUN_ONCE);
}

static void propose(struct world *w, const char *text)
{
    unsigned n = w->answers + 1;
    consensus_propose(w->consensus, text, strlen(text), on_done, w);
    assert_int_equal(w->answers, n - 1);
    wait_answers(w, n);
}

static void a_committed_command_is_applied_and_answered_with_its_index(void **state)
{
    struct world *w = *state;
    start(w);
    propose(w, "one");
    assert_int_equal(w->outcome, CONSENSUS_COMMITTED);
    assert_int_equal(w->index, w->applied_index);
    assert_string_equal(w->state.data, "one\n");
    assert_int_equal(w->local, 1);
    consensus_barrier(w->consensus, on_done, NULL);
    wait_answers(w, 2);
    assert_int_equal(w->outcome, CONSENSUS_COMMITTED);
    assert_int_equal(w->index, w->applied_index);
}

static void a_restart_applies_the_same_commands_again(void **state)
{
    struct world *w = *state;
    start(w);
    propose(w, "one");
    propose(w, "two");
    uint64_t index = w->applied_index;
    struct consensus_stats before, after;
    consensus_stats(w->consensus, &before);
    stop(w);
    start(w);
    assert_string_equal(w->state.data, "one\ntwo\n");
    assert_int_equal(w->applied_index, index);
    assert_int_equal(w->local, 2);   /* none of the second life's is local */
    consensus_stats(w->consensus, &after);
    assert_int_equal(before.server_id, after.server_id);
    assert_int_equal(before.cluster_id, after.cluster_id);
    propose(w, "three");
    assert_true(w->applied_index > index);
}

static void proposals_of_one_turn_share_a_sync(void **state)
{
    struct world *w = *state;
    start(w);
    struct consensus_stats before, after;
    consensus_stats(w->consensus, &before);
    for (int i = 0; i < 100; i++)
        consensus_propose(w->consensus, "x", 1, on_done, NULL);
    wait_answers(w, 100);
    consensus_stats(w->consensus, &after);
    assert_int_equal(after.syncs - before.syncs, 1);
    assert_int_equal(after.proposals - before.proposals, 100);
    assert_int_equal(after.pending, 0);
}

static void snapshots_bound_the_log_and_restore_the_state(void **state)
{
    struct world *w = *state;
    w->options.snapshot_after_bytes = 128 * 1024;
    w->options.trailing_entries = 4;
    start(w);
    char big[8000];
    memset(big, 'b', sizeof big);
    propose(w, "first");
    for (int i = 0; i < 120; i++) {
        consensus_propose(w->consensus, big, sizeof big, on_done, NULL);
        wait_answers(w, (unsigned)i + 2);
    }
    propose(w, "last");
    struct consensus_stats s;
    consensus_stats(w->consensus, &s);
    assert_true(w->snapshots >= 3);
    assert_true(s.snapshot_index > 0);
    assert_true(s.log_bytes < 600 * 1024);   /* about a megabyte was written */
    uint64_t index = w->applied_index;
    stop(w);
    start(w);
    assert_int_equal(w->restores, 1);
    assert_int_equal(w->applied_index, index);
    assert_string_equal(w->state.data, "first\nlast\n");
}

static void take_snapshot(struct world *w)
{
    struct consensus_stats before, now;
    consensus_stats(w->consensus, &before);
    consensus_snapshot_soon(w->consensus);
    do {
        uv_run(&w->loop, UV_RUN_ONCE);
        consensus_stats(w->consensus, &now);
    } while (now.snapshot_index == before.snapshot_index);
}

static void a_snapshot_can_be_asked_for_on_an_idle_server(void **state)
{
    struct world *w = *state;
    start(w);
    propose(w, "one");
    take_snapshot(w);
    struct consensus_stats s;
    consensus_stats(w->consensus, &s);
    assert_true(s.snapshot_bytes > 0);
    assert_int_equal(w->snapshots, 1);
}

static void a_held_state_does_not_change_while_commands_are_committed(void **state)
{
    struct world *w = *state;
    start(w);
    propose(w, "one");
    struct consensus_stats before, now;
    consensus_stats(w->consensus, &before);
    assert_true(consensus_hold_state(w->consensus));
    assert_true(consensus_hold_state(w->consensus));
    unsigned answers = w->answers;
    consensus_propose(w->consensus, "two", 3, on_done, NULL);
    do {
        uv_run(&w->loop, UV_RUN_ONCE);
        consensus_stats(w->consensus, &now);
    } while (now.commit_index == before.commit_index);
    consensus_release_state(w->consensus);
    uv_run(&w->loop, UV_RUN_NOWAIT);
    assert_string_equal(w->state.data, "one\n");
    assert_int_equal(w->answers, answers);
    consensus_release_state(w->consensus);
    wait_answers(w, answers + 1);
    assert_string_equal(w->state.data, "one\ntwo\n");
}

static void flip_a_byte(struct world *w, const char *name, off_t at)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", w->directory, name);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    char c;
    assert_int_equal(pread(fd, &c, 1, at), 1);
    c ^= 4;
    assert_int_equal(pwrite(fd, &c, 1, at), 1);
    close(fd);
}

static void a_damaged_newest_snapshot_costs_nothing(void **state)
{
    struct world *w = *state;
    w->options.trailing_entries = 1;
    w->options.segment_bytes = 16 * 1024;
    start(w);
    char big[4000];
    memset(big, 'b', sizeof big);
    char newest[64];
    for (int i = 0; i < 4; i++) {
        propose(w, "line");
        propose(w, "more");
        for (int k = 0; k < 10; k++) {   /* several files between the snapshots, so that old ones are removed */
            unsigned n = w->answers + 1;
            consensus_propose(w->consensus, big, sizeof big, on_done, NULL);
            wait_answers(w, n);
        }
        take_snapshot(w);
        struct consensus_stats s;
        consensus_stats(w->consensus, &s);
        snprintf(newest, sizeof newest, "snapshot-%016llx-%016llx", (unsigned long long)s.snapshot_index,
                 (unsigned long long)s.term);
    }
    propose(w, "end");
    CLEANUP_FREE char *before = mem_strdup(w->state.data);
    uint64_t index = w->applied_index;
    stop(w);
    flip_a_byte(w, newest, 90);
    start(w);
    assert_string_equal(w->state.data, before);
    assert_int_equal(w->applied_index, index);
    assert_int_equal(w->restores, 1);
}

static void a_damaged_log_refuses_the_start_with_file_and_offset(void **state)
{
    struct world *w = *state;
    start(w);
    propose(w, "one");
    propose(w, "two");
    stop(w);
    flip_a_byte(w, "log-0000000000000001", 4096 + 60);
    struct error err = {0};
    assert_int_equal(consensus_start(&w->consensus, &w->options, &err), -1);
    assert_int_equal(err.code, ERROR_CORRUPT);
    assert_non_null(strstr(err.text, "log-0000000000000001 is damaged at offset 4096"));
    w->consensus = NULL;
}

static void a_directory_in_use_is_refused(void **state)
{
    struct world *w = *state;
    start(w);
    struct consensus *second;
    struct error err = {0};
    assert_int_equal(consensus_start(&second, &w->options, &err), -1);
    assert_int_equal(err.code, ERROR_CONFLICT);
    assert_non_null(strstr(err.text, "in use"));
}

static void the_directory_of_another_cluster_or_server_is_refused(void **state)
{
    struct world *w = *state;
    w->options.cluster_id = 7;
    w->options.server_id = 8;
    start(w);
    stop(w);
    struct error err = {0};
    w->options.cluster_id = 9;
    assert_int_equal(consensus_start(&w->consensus, &w->options, &err), -1);
    assert_non_null(strstr(err.text, "belongs to cluster 7, not to 9"));
    w->options.cluster_id = 7;
    w->options.server_id = 9;
    assert_int_equal(consensus_start(&w->consensus, &w->options, &err), -1);
    assert_non_null(strstr(err.text, "belongs to server 8, not to 9"));
    w->consensus = NULL;
}

static void below_the_reserve_proposals_are_refused_and_reads_are_not(void **state)
{
    struct world *w = *state;
    w->options.reserve_bytes = UINT64_MAX;
    start(w);
    propose(w, "one");
    assert_int_equal(w->outcome, CONSENSUS_NO_SPACE);
    assert_int_equal(w->state.len, 0);
    struct consensus_stats s;
    consensus_stats(w->consensus, &s);
    assert_true(s.no_space);
    assert_true(s.disk_free_bytes > 0);
    consensus_barrier(w->consensus, on_done, NULL);
    wait_answers(w, 2);
    assert_int_equal(w->outcome, CONSENSUS_COMMITTED);
}

static void a_command_that_is_too_large_is_refused(void **state)
{
    struct world *w = *state;
    w->options.max_command_bytes = 10;
    start(w);
    propose(w, "12345678901");
    assert_int_equal(w->outcome, CONSENSUS_TOO_LARGE);
    propose(w, "1234567890");
    assert_int_equal(w->outcome, CONSENSUS_COMMITTED);
}

static void too_many_waiting_proposals_are_refused(void **state)
{
    struct world *w = *state;
    w->options.max_pending = 2;
    start(w);
    for (int i = 0; i < 3; i++)
        consensus_propose(w->consensus, "x", 1, on_done, NULL);
    uv_run(&w->loop, UV_RUN_NOWAIT);
    assert_int_equal(w->answers, 1);
    assert_int_equal(w->outcome, CONSENSUS_BUSY);
    wait_answers(w, 3);
    assert_int_equal(w->outcome, CONSENSUS_COMMITTED);
}

static void stopping_answers_everything_and_keeps_what_was_under_way(void **state)
{
    struct world *w = *state;
    start(w);
    struct consensus_stats before;
    consensus_stats(w->consensus, &before);
    consensus_propose(w->consensus, "one", 3, on_done, NULL);
    while (!w->answers) {
        struct consensus_stats s;
        consensus_stats(w->consensus, &s);
        if (s.appends > before.appends)
            break;
        uv_run(&w->loop, UV_RUN_NOWAIT);
    }
    enum consensus_outcome second = CONSENSUS_COMMITTED;
    consensus_propose(w->consensus, "two", 3, on_done, &second);
    stop(w);
    assert_int_equal(w->answers, 2);
    assert_int_equal(second, CONSENSUS_UNKNOWN);
    assert_int_equal(w->outcome, CONSENSUS_COMMITTED);
    start(w);
    assert_string_equal(w->state.data, "one\n");
}

static void a_state_that_cannot_be_restored_refuses_the_start(void **state)
{
    struct world *w = *state;
    start(w);
    propose(w, "one");
    take_snapshot(w);
    stop(w);
    error_set(&w->restore_error, ERROR_CORRUPT, "no sense");
    struct error err = {0};
    assert_int_equal(consensus_start(&w->consensus, &w->options, &err), -1);
    assert_non_null(strstr(err.text, "no sense"));
    w->consensus = NULL;
}

static void without_bootstrap_an_empty_directory_waits_as_follower(void **state)
{
    struct world *w = *state;
    w->options.bootstrap = false;
    struct error err = {0};
    assert_int_equal(consensus_start(&w->consensus, &w->options, &err), 0);
    while (w->role == CONSENSUS_STARTING)
        uv_run(&w->loop, UV_RUN_ONCE);
    assert_int_equal(w->role, CONSENSUS_FOLLOWER);
    propose(w, "one");
    assert_int_equal(w->outcome, CONSENSUS_NOT_LEADER);
    assert_int_equal(consensus_members(w->consensus, NULL, 0), 0);
}

static void on_changed(void *ctx, void *request, const struct error *err)
{
    *(struct error *)request = err ? *err : (struct error){0};
    ((struct world *)ctx)->answers++;
}

static void a_server_without_listen_is_alone_and_says_so(void **state)
{
    struct world *w = *state;
    w->options.release = "1.2.3";
    w->options.command_version = 7;
    start(w);
    struct error err = {0};
    consensus_add(w->consensus, 99, "127.0.0.1:2", on_changed, &err);
    assert_int_equal(w->answers, 0);
    wait_answers(w, 1);
    assert_int_equal(err.code, ERROR_UNSUPPORTED);
    struct consensus_member m;
    assert_int_equal(consensus_members(w->consensus, &m, 1), 1);
    assert_true(m.self && m.leader && m.connected);
    assert_int_equal(m.membership, CONSENSUS_VOTER);
    assert_string_equal(m.release, "1.2.3");
    assert_int_equal(consensus_self(w->consensus), CONSENSUS_VOTER);
    assert_int_equal(consensus_command_version(w->consensus), 7);
    assert_true(consensus_lease_ms(w->consensus) > 0);
}

int main(void)
{
    log_init("test", LOG_ERROR);
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_committed_command_is_applied_and_answered_with_its_index),
        T(a_restart_applies_the_same_commands_again),
        T(a_server_without_listen_is_alone_and_says_so),
        T(proposals_of_one_turn_share_a_sync),
        T(snapshots_bound_the_log_and_restore_the_state),
        T(a_snapshot_can_be_asked_for_on_an_idle_server),
        T(a_held_state_does_not_change_while_commands_are_committed),
        T(a_damaged_newest_snapshot_costs_nothing),
        T(a_damaged_log_refuses_the_start_with_file_and_offset),
        T(a_directory_in_use_is_refused),
        T(the_directory_of_another_cluster_or_server_is_refused),
        T(below_the_reserve_proposals_are_refused_and_reads_are_not),
        T(a_command_that_is_too_large_is_refused),
        T(too_many_waiting_proposals_are_refused),
        T(stopping_answers_everything_and_keeps_what_was_under_way),
        T(a_state_that_cannot_be_restored_refuses_the_start),
        T(without_bootstrap_an_empty_directory_waits_as_follower),
    };
    return cmocka_run_group_tests_name("consensus", tests, NULL, NULL);
}
