/* The storage on the virtual disk, with jobs that run when the test says so. */
#include <string.h>

#include "../../sim/virtual_disk.h"
#include "../cmocka_all.h"
#include "base/log.h"
#include "consensus/storage.h"

struct world {
    struct storage_host host;
    struct executor executor;
    STAILQ_HEAD(, executor_job) jobs;
    struct storage *storage;
    struct raft_log log;
    uint64_t stored;
};

static uint64_t now_ms(struct storage_host *host) { return 1000; }
static uint64_t least(struct storage_host *host, uint64_t limit) { return 0; }

static void submit(struct executor *executor, enum executor_lane lane, struct executor_job *job)
{
    struct world *w = container_of(executor, struct world, executor);
    if (lane == EXECUTOR_LOG)
        STAILQ_INSERT_TAIL(&w->jobs, job, next);
}

static void run_one(struct world *w)
{
    struct executor_job *job = STAILQ_FIRST(&w->jobs);
    assert_non_null(job);
    STAILQ_REMOVE_HEAD(&w->jobs, next);
    job->work(job);
    job->done(job);
}

static void on_stored(void *ctx, uint64_t index)
{
    ((struct world *)ctx)->stored = index;
}

static void on_fatal(void *ctx, const struct error *err)
{
    fail_msg("%s", err->text);
}

static const struct storage_callbacks callbacks = {.stored = on_stored, .fatal = on_fatal};

static void open_storage(struct world *w)
{
    struct storage_options options = {.host = &w->host, .callbacks = &callbacks, .ctx = w, .server_id = 1, .cluster_id = 2,
                                      .segment_bytes = 64 * 1024, .reserve_bytes = 1, .trailing = 8};
    struct storage_contents contents;
    struct error err = {0};
    STAILQ_INIT(&w->jobs);
    if (storage_open(&w->storage, &options, &contents, &err) < 0)
        fail_msg("%s", err.text);
    w->log = contents.log;
    w->stored = raft_log_last(&w->log);
    storage_begin(w->storage, &w->log);
}

static void append(struct world *w, uint64_t term)
{
    raft_log_append(&w->log, term, raft_log_last(&w->log) ? ENTRY_COMMAND : ENTRY_MEMBERSHIP, NULL, 0);
    storage_log_grew(w->storage);
}

static void truncate_from(struct world *w, uint64_t index)
{
    storage_log_truncated(w->storage, index);
    raft_log_truncate(&w->log, index);
}

static void a_write_under_way_claims_nothing_that_was_dropped_meanwhile(void **state)
{
    struct virtual_disk *disk = virtual_disk_new(1);
    struct world w = {.host = {.disk = virtual_disk_disk(disk), .executor = &w.executor, .now_ms = now_ms, .random = least},
                      .executor.submit = submit};
    open_storage(&w);
    append(&w, 1);
    run_one(&w);
    assert_int_equal(w.stored, 1);
    append(&w, 2);      /* submitted */
    append(&w, 2);      /* waits for it */
    truncate_from(&w, 2);
    append(&w, 3);
    append(&w, 3);
    append(&w, 3);
    run_one(&w);        /* the entry of term 2: gone */
    assert_int_equal(w.stored, 1);
    run_one(&w);        /* the mark, and the three of term 3 */
    assert_int_equal(w.stored, 4);
    storage_free(w.storage);
    raft_log_clear(&w.log);

    virtual_disk_crash(disk);
    open_storage(&w);
    assert_int_equal(raft_log_last(&w.log), 4);
    for (uint64_t i = 2; i <= 4; i++)
        assert_int_equal(raft_log_term(&w.log, i), 3);
    storage_free(w.storage);
    raft_log_clear(&w.log);
    disk_free(virtual_disk_disk(disk));
}

int main(void)
{
    log_init("test", LOG_FATAL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_under_way_claims_nothing_that_was_dropped_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
