/* The storage on the virtual disk, with jobs that run when the test says so. */
#include <stdio.h>
#include <string.h>

#include "../../sim/virtual_disk.h"
#include "../cmocka_all.h"
#include "base/log.h"
#include "consensus/storage.h"

#define SEGMENT (64u * 1024)

struct world {
    struct storage_host host;
    struct executor executor;
    STAILQ_HEAD(, executor_job) jobs;
    struct storage *storage;
    struct raft_log log;
    uint64_t stored;
    bool background;            /* jobs of that lane run too */
};

static uint64_t now_ms(struct storage_host *host) { return 1000; }
static uint64_t least(struct storage_host *host, uint64_t limit) { return 0; }

static void submit(struct executor *executor, enum executor_lane lane, struct executor_job *job)
{
    struct world *w = container_of(executor, struct world, executor);
    if (lane == EXECUTOR_LOG || w->background)
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

static void on_snapshot(void *ctx, const struct snapshot_id *id, uint64_t bytes, int error)
{
    assert_int_equal(error, 0);
}

static const struct storage_callbacks callbacks = {.stored = on_stored, .fatal = on_fatal, .snapshot_written = on_snapshot};

static int try_open(struct world *w, struct storage_contents *contents, struct error *err)
{
    struct storage_options options = {.host = &w->host, .callbacks = &callbacks, .ctx = w, .server_id = 1, .cluster_id = 2,
                                      .segment_bytes = SEGMENT, .reserve_bytes = 1, .trailing = 8};
    STAILQ_INIT(&w->jobs);
    return storage_open(&w->storage, &options, contents, err);
}

static void open_storage(struct world *w)
{
    struct storage_contents contents;
    struct error err = {0};
    if (try_open(w, &contents, &err) < 0)
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
    storage_persist(w.storage, 3, 0);
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

/* --- a directory of which files are gone --- */

#define FILES_MOST 16
enum { TERM = 3, VOTE = 7 };

struct image {
    struct { char name[DISK_NAME_SIZE]; uint8_t *bytes; size_t len; } files[FILES_MOST];
    size_t n;
    struct virtual_disk *from;
};

static void take_file(void *ctx, const char *name)
{
    struct image *image = ctx;
    size_t len;
    const uint8_t *bytes = virtual_disk_bytes(image->from, name, &len);
    assert_true(image->n < FILES_MOST);
    snprintf(image->files[image->n].name, DISK_NAME_SIZE, "%s", name);
    image->files[image->n].bytes = mem_dup(bytes, len);
    image->files[image->n++].len = len;
}

static void image_clear(struct image *image)
{
    for (size_t i = 0; i < image->n; i++)
        free(image->files[i].bytes);
}

static struct world world_on(struct virtual_disk *disk)
{
    return (struct world){.host = {.disk = virtual_disk_disk(disk), .now_ms = now_ms, .random = least},
                          .executor.submit = submit, .background = true};
}

static void run_all(struct world *w)
{
    while (!STAILQ_EMPTY(&w->jobs))
        run_one(w);
}

/* What a server's life leaves: entries over several files, snapshots behind some of them, a vote. */
static void live(struct image *image, uint64_t entries, uint64_t snapshot_every)
{
    struct virtual_disk *disk = virtual_disk_new(1);
    struct world w = world_on(disk);
    w.host.executor = &w.executor;
    open_storage(&w);
    assert_true(storage_persist(w.storage, TERM, VOTE));
    CLEANUP_BUF struct buf membership = {0};
    struct membership alone = {0};
    membership_add(&alone, 1, "here:1", true);
    membership_encode(&membership, &alone);
    for (uint64_t i = 1; i <= entries; i++) {
        size_t len = i == 1 ? membership.len : 4000;
        uint8_t *bytes = mem_array(len, 1);
        if (i == 1)
            memcpy(bytes, membership.data, len);
        raft_log_append(&w.log, TERM, i == 1 ? ENTRY_MEMBERSHIP : ENTRY_COMMAND, bytes, (uint32_t)len);
        storage_log_grew(w.storage);
        run_all(&w);
        if (i % snapshot_every == 0) {
            struct snapshot s = {.id = {i, TERM}, .membership_index = 1, .membership = membership_copy(&alone)};
            storage_put_snapshot(w.storage, &s);
            run_all(&w);
        }
    }
    assert_int_equal(w.stored, entries);
    membership_clear(&alone);
    storage_free(w.storage);
    raft_log_clear(&w.log);
    image->from = disk;
    struct disk *d = virtual_disk_disk(disk);
    assert_int_equal(d->op->list(d, take_file, image), 0);
    disk_free(d);
}

static struct virtual_disk *disk_without(const struct image *image, unsigned touched, unsigned part)
{
    struct virtual_disk *disk = virtual_disk_new(1);
    struct disk *d = virtual_disk_disk(disk);
    for (size_t i = 0; i < image->n; i++) {
        size_t len = touched & 1u << i ? image->files[i].len * part / 4 : image->files[i].len;
        if (touched & 1u << i && !part)
            continue;
        int file = d->op->open(d, image->files[i].name, true);
        assert_int_equal(d->op->allocate(d, file, len), 0);
        assert_int_equal(d->op->write(d, file, image->files[i].bytes, len, 0), 0);
        assert_int_equal(d->op->sync(d, file), 0);
        d->op->close(d, file);
    }
    return disk;
}

/* Opens as after a start. Whoever opens has all there was. */
static bool opens_with_all(struct world *w, uint64_t entries)
{
    struct storage_contents c;
    struct error err = {0};
    if (try_open(w, &c, &err) < 0) {
        assert_int_equal(err.code, ERROR_CORRUPT);
        assert_non_null(strstr(err.text, "mt cluster remove"));
        return false;
    }
    assert_int_equal(c.term, TERM);
    assert_int_equal(c.vote, VOTE);
    assert_int_equal(raft_log_last(&c.log), entries);
    assert_true(c.log.first <= c.snapshot.id.index + 1);
    storage_contents_clear(&c);
    storage_free(w->storage);
    return true;
}

static void try_all(uint64_t entries, uint64_t snapshot_every)
{
    struct image image = {0};
    live(&image, entries, snapshot_every);
    unsigned opened = 0, refused = 0, all = (1u << image.n) - 1;
    for (unsigned part = 0; part < 4; part++)       /* of what was touched: nothing, a quarter, half, three quarters */
        for (unsigned touched = 0; touched <= all; touched++) {
            if (touched == all && !part)
                continue;                           /* an empty directory is a new server's */
            struct virtual_disk *disk = disk_without(&image, touched, part);
            struct world w = world_on(disk);
            w.host.executor = &w.executor;
            bool first = opens_with_all(&w, entries), second = opens_with_all(&w, entries);
            assert_int_equal(first, second);
            assert_true(touched || first);
            opened += first;
            refused += !first;
            disk_free(virtual_disk_disk(disk));
        }
    assert_true(opened > 4 && refused > opened);
    image_clear(&image);
}

static void whatever_files_are_gone_or_cut_nothing_is_forgotten_silently(void **state)
{
    try_all(10, 100);       /* one file, no snapshot */
    try_all(50, 100);       /* several */
    try_all(50, 20);        /* all of them behind snapshots, and entries behind these */
    try_all(40, 20);
    try_all(48, 48);        /* entries behind no snapshot: none */
}

int main(void)
{
    log_init("test", LOG_FATAL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_under_way_claims_nothing_that_was_dropped_meanwhile),
        cmocka_unit_test(whatever_files_are_gone_or_cut_nothing_is_forgotten_silently),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
