/* Happy path of an append: pump() encodes what the log in memory has grown by into one write, as much as fits, and submits
 * it; what comes meanwhile waits for the next one (group commit). When it is durable, stored() says so, and pump() goes
 * on. A truncation limits what the write under way may claim, and is written as a mark before any later entry.
 *
 * What may fail: the file is full and the next one is not prepared yet: pump() is called again when it is. There is no
 * space to prepare it: tried again at ticks, nothing is lost, nothing acknowledged. Any other error: fatal(). */
#include "consensus/storage.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "consensus/storage_internal.h"

#define WRITE_BYTES_MAX (1u << 20)
#define SPACE_CHECK_MS 1000

static void pump(struct storage *s);

static bool is_no_space(int rv)
{
    return rv == -ENOSPC || rv == -EDQUOT;
}

static uint64_t now_ms(struct storage *s)
{
    return s->options.host->now_ms(s->options.host);
}

void storage_fatal(struct storage *s, const struct error *err)
{
    if (s->failed)
        return;
    s->failed = true;
    s->options.callbacks->fatal(s->options.ctx, err);
}

static void fatal_errno(struct storage *s, int rv, const char *what)
{
    struct error err;
    error_set_errno(&err, -rv, "%s in %s", what, s->disk->place);
    storage_fatal(s, &err);
}

/* --- the log --- */

static bool put_record(struct storage *s, struct record record)
{
    if (!journal_put(s->journal, &s->write, &record))
        return false;
    s->stats.log_position += record_size(record.len);
    return true;
}

static void entry_too_large(struct storage *s, uint32_t len)
{
    struct error err;
    error_set(&err, ERROR_INVALID, "entry %llu of the log, of %u bytes, does not fit into log files of %llu bytes: use the "
              "size of log files that the other servers use", (unsigned long long)s->next, len,
              (unsigned long long)s->options.segment_bytes);
    storage_fatal(s, &err);
}

/* As much as fits into one write. */
static void encode(struct storage *s)
{
    if (s->mark) {
        if (!put_record(s, (struct record){.type = (uint8_t)s->mark, .index = s->next}))
            return;
        s->write_resets = s->mark == RECORD_RESET;
        s->mark = 0;
    }
    uint64_t last = s->put.install ? 0 : raft_log_last(s->log);
    while (s->next <= last && s->write.bytes.len < WRITE_BYTES_MAX) {
        const struct entry *e = raft_log_entry(s->log, s->next);
        if (record_size(e->len) > journal_record_max(s->options.segment_bytes)) {
            entry_too_large(s, e->len);
            return;
        }
        if (!put_record(s, (struct record){.type = e->type, .term = e->term, .index = s->next, .len = e->len,
                                           .bytes = e->bytes}))
            return;
        s->write_last = s->next++;
        s->stats.appends++;
    }
}

static void submit_write(struct storage *s)
{
    s->write_again = false;
    journal_submit(s->journal, s->options.host->executor, &s->write);
}

static void install_finished(struct storage *s);

static void write_done(void *ctx)
{
    struct storage *s = ctx;
    if (s->failed)
        return;
    if (is_no_space(s->write.result)) {
        s->write_again = true;
        return;
    }
    if (s->write.result < 0) {
        fatal_errno(s, s->write.result, "cannot write the log");
        return;
    }
    s->stats.syncs++;
    buf_clear(&s->write.bytes);
    s->writing = false;
    bool reset = s->write_resets, grew = s->write_last > s->stored;
    s->write_resets = false;
    if (grew)
        s->stored = s->write_last;
    s->write_last = 0;
    if (reset)
        install_finished(s);
    else if (grew)
        s->options.callbacks->stored(s->options.ctx, s->stored);
    pump(s);
}

static void prepared(void *ctx, int result)
{
    struct storage *s = ctx;
    if (s->failed)
        return;
    s->prepare_failed = result < 0;
    if (is_no_space(result)) {
        s->prepare_after_ms = now_ms(s) + SPACE_CHECK_MS;
        LOG_W("no space for the next log file", "directory", s->disk->place);
    } else if (result < 0) {
        fatal_errno(s, result, "cannot prepare a log file");
        return;
    }
    pump(s);
}

static void pump(struct storage *s)
{
    if (s->failed || !s->log)
        return;
    if (!s->writing) {
        s->write.done = write_done;
        s->write.ctx = s;
        encode(s);
        if (s->write.bytes.len) {
            s->writing = true;
            submit_write(s);
        }
    }
    if (journal_wants_file(s->journal) && (!s->prepare_failed || now_ms(s) >= s->prepare_after_ms))
        journal_prepare_file(s->journal, s->options.host->executor, prepared, s);
}

void storage_log_grew(struct storage *s)
{
    pump(s);
}

void storage_log_truncated(struct storage *s, uint64_t index)
{
    if (s->stored >= index)
        s->stored = index - 1;
    if (s->write_last >= index)
        s->write_last = index - 1;
    if (index >= s->next)
        return;   /* never written */
    s->mark = RECORD_TRUNCATE;
    s->next = index;
}

bool storage_persist(struct storage *s, uint64_t term, uint64_t vote)
{
    struct error err;
    if (s->failed)
        return false;
    s->metadata.term = term;
    s->metadata.vote = vote;
    if (metadata_store(s->disk, &s->metadata, &err) == 0)
        return true;
    storage_fatal(s, &err);
    return false;
}

/* --- snapshots --- */

static void put_work(struct executor_job *job)
{
    struct storage_put *put = container_of(job, struct storage_put, job);
    struct storage *s = put->storage;
    put->result = put->install ? snapshot_accept_incoming(s->disk, &put->snapshot.id)
                               : snapshot_write(s->disk, s->metadata.cluster_id, &put->snapshot, &put->bytes);
}

static void remember_snapshot(struct storage *s, const struct snapshot_id *id)
{
    memmove(s->snapshots + 1, s->snapshots, sizeof s->snapshots - sizeof s->snapshots[0]);
    s->snapshots[0] = *id;
    s->stats.snapshot_index = id->index;
}

/* The log reaches back to the oldest snapshot that is kept, so that a damaged newest one costs nothing. */
static void remove_old_log(struct storage *s)
{
    uint64_t oldest = s->snapshots[SNAPSHOTS_KEPT - 1].index, newest = s->snapshots[0].index;
    uint64_t trailing = newest > s->options.trailing ? newest - s->options.trailing : 0;
    journal_remove_below(s->journal, s->options.host->executor, (oldest < trailing ? oldest : trailing) + 1);
}

static void put_finished(struct storage *s)
{
    struct storage_put *put = &s->put;
    struct snapshot_id id = put->snapshot.id;
    snapshot_clear(&put->snapshot);
    put->under_way = false;
    if (put->result == 0)
        remove_old_log(s);
    s->options.callbacks->snapshot_written(s->options.ctx, &id, put->bytes, put->result);
}

static void install_finished(struct storage *s)
{
    s->stored = s->put.snapshot.id.index;
    s->put.under_way = s->put.install = false;
    remove_old_log(s);
    s->options.callbacks->installed(s->options.ctx);
}

static void put_done(struct executor_job *job)
{
    struct storage_put *put = container_of(job, struct storage_put, job);
    struct storage *s = put->storage;
    if (s->failed)
        return;
    if (is_no_space(put->result)) {
        LOG_W("no space for a snapshot", "directory", s->disk->place, "index", LOG_U64(put->snapshot.id.index));
        put->wait = put->install;
        if (!put->install)
            put_finished(s);
        return;
    }
    if (put->result < 0) {
        fatal_errno(s, put->result, "cannot write a snapshot");
        return;
    }
    remember_snapshot(s, &put->snapshot.id);
    if (!put->install) {
        s->stats.snapshot_bytes = put->bytes;
        put_finished(s);
        return;
    }
    /* Whatever is being written belongs to the old log; the mark comes behind it. */
    s->mark = RECORD_RESET;
    s->next = put->snapshot.id.index + 1;
    s->write_last = 0;
    pump(s);
}

static void submit_put(struct storage *s)
{
    s->put.under_way = true;
    s->put.wait = false;
    s->put.job = (struct executor_job){.work = put_work, .done = put_done};
    s->options.host->executor->submit(s->options.host->executor, EXECUTOR_BACKGROUND, &s->put.job);
}

void storage_put_snapshot(struct storage *s, struct snapshot *snapshot)
{
    INVARIANT(!s->put.under_way);
    s->put.snapshot = *snapshot;
    *snapshot = (struct snapshot){0};
    submit_put(s);
}

bool storage_puts_snapshot(const struct storage *s) { return s->put.under_way; }

void storage_install(struct storage *s, const struct snapshot_id *id)
{
    INVARIANT(!s->put.under_way);
    s->put.snapshot = (struct snapshot){.id = *id};
    s->put.install = true;
    submit_put(s);
}

/* --- for the owner --- */

uint64_t storage_server_id(const struct storage *s) { return s->metadata.server_id; }
uint64_t storage_cluster_id(const struct storage *s) { return s->metadata.cluster_id; }
struct storage_host *storage_host(struct storage *s) { return s->options.host; }
struct snapshot_id storage_snapshot(const struct storage *s) { return s->snapshots[0]; }

void storage_begin(struct storage *s, const struct raft_log *log)
{
    s->log = log;
    pump(s);
}

void storage_free(struct storage *s)
{
    if (s->journal)
        journal_free(s->journal);
    snapshot_clear(&s->put.snapshot);
    buf_free(&s->write.bytes);
    free(s);
}

static void check_space(struct storage *s)
{
    uint64_t now = now_ms(s);
    if (s->checked_ms && now - s->checked_ms < SPACE_CHECK_MS)
        return;
    s->checked_ms = now;
    int rv = s->disk->op->free_bytes(s->disk, &s->stats.disk_free_bytes);
    if (rv < 0)
        fatal_errno(s, rv, "cannot ask for the free space");
    if (s->prepare_failed)
        pump(s);
    bool no_space = s->stats.disk_free_bytes < s->options.reserve_bytes || s->prepare_failed;
    if (no_space != s->stats.no_space)
        LOG_W(no_space ? "the disk is full: refusing changes until there is room" : "the disk has room again",
              "directory", s->disk->place, "free_bytes", LOG_U64(s->stats.disk_free_bytes), "reserve_bytes",
              LOG_U64(s->options.reserve_bytes));
    s->stats.no_space = no_space;
}

bool storage_has_space(struct storage *s, uint64_t bytes)
{
    if (s->failed)
        return false;
    check_space(s);
    /* Files of the log that are not prepared yet are paid for by the reserve. */
    return !s->stats.no_space && !s->prepare_failed && !s->write_again && bytes <= s->stats.disk_free_bytes;
}

void storage_tick(struct storage *s)
{
    if (s->failed)
        return;
    if (s->stats.no_space)
        check_space(s);
    if (s->write_again)
        submit_write(s);
    if (s->put.wait)
        submit_put(s);
    pump(s);
}

bool storage_busy(const struct storage *s)
{
    return s->writing || s->mark || (s->log && s->next <= raft_log_last(s->log)) || s->put.under_way;
}

bool storage_waits_for_space(const struct storage *s)
{
    return s->write_again || s->put.wait || (s->prepare_failed && !s->writing);
}

void storage_stats(const struct storage *s, struct storage_stats *out)
{
    *out = s->stats;
    out->log_bytes = journal_bytes_on_disk(s->journal);
}
