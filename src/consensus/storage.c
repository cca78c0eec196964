/* Happy path of an append: raft_io.append queues the entries and pumps. pump() encodes what is queued into one write of
 * the log, as much as fits, and submits it; what comes meanwhile waits for the next one (group commit). When it is
 * durable, the callbacks of all entries in it run, in order, and pump() goes on.
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

static void event(struct storage *s)
{
    s->options.callbacks->event(s->options.ctx);
}

/* --- the log --- */

static bool encode_one(struct storage *s, const struct storage_item *item)
{
    struct record record = {.type = (uint8_t)item->mark, .index = item->index};
    if (!item->mark) {
        const struct raft_entry *entry = &item->entries[item->encoded];
        record = (struct record){.type = (uint8_t)entry->type, .term = entry->term, .index = item->index + item->encoded,
                                 .len = (uint32_t)entry->buf.len, .bytes = entry->buf.base};
    }
    if (!journal_put(s->journal, &s->write, &record))
        return false;
    s->stats.log_position += record_size(record.len);
    return true;
}

/* False when a record did not fit. */
static bool encode_items(struct storage *s)
{
    struct storage_item *item;
    STAILQ_FOREACH(item, &s->items, next)
        for (; item->encoded < item->n; item->encoded++) {
            if (s->write.bytes.len >= WRITE_BYTES_MAX)
                return true;
            if (!encode_one(s, item))
                return false;
        }
    return true;
}

static void put_finished(struct storage *s, struct raft_io_snapshot_put *req, int status);

/* Everything encoded so far is durable. Callbacks may queue more. */
static void complete_items(struct storage *s, int status)
{
    struct storage_item *item;
    while (!s->failed && (item = STAILQ_FIRST(&s->items)) && item->encoded == item->n) {
        STAILQ_REMOVE_HEAD(&s->items, next);
        struct storage_item done = *item;
        free(item);
        if (done.append)
            done.append->cb(done.append, status);
        if (done.put)
            put_finished(s, done.put, status);
    }
}

static void submit_write(struct storage *s)
{
    s->write_again = false;
    journal_submit(s->journal, s->options.host->executor, &s->write);
}

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
    complete_items(s, 0);
    s->writing = false;
    pump(s);
    event(s);
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
    event(s);
}

static void pump(struct storage *s)
{
    if (s->failed || !s->begun)
        return;
    if (!s->writing) {
        s->write.done = write_done;
        s->write.ctx = s;
        encode_items(s);
        if (s->write.bytes.len) {
            s->writing = true;
            submit_write(s);
        }
    }
    if (journal_wants_file(s->journal) && (!s->prepare_failed || now_ms(s) >= s->prepare_after_ms))
        journal_prepare_file(s->journal, s->options.host->executor, prepared, s);
}

static struct storage_item *enqueue(struct storage *s, struct storage_item item)
{
    struct storage_item *copy = NEW(struct storage_item);
    *copy = item;
    STAILQ_INSERT_TAIL(&s->items, copy, next);
    return copy;
}

static int io_append(struct raft_io *io, struct raft_io_append *req, const struct raft_entry entries[], unsigned n,
                     raft_io_append_cb cb)
{
    struct storage *s = io->impl;
    req->cb = cb;
    enqueue(s, (struct storage_item){.index = s->next_index, .entries = entries, .n = n, .append = req});
    s->next_index += n;
    s->stats.appends += n;
    pump(s);
    return 0;
}

/* Durable before whatever is appended behind it is, because it stands before that in the log. */
static int io_truncate(struct raft_io *io, raft_index index)
{
    struct storage *s = io->impl;
    enqueue(s, (struct storage_item){.mark = RECORD_TRUNCATE, .index = index, .n = 1});
    s->next_index = index;
    pump(s);
    return 0;
}

/* --- term and vote --- */

static int store_metadata(struct storage *s)
{
    struct error err;
    if (s->failed)
        return RAFT_IOERR;
    if (metadata_store(s->disk, &s->metadata, &err) == 0)
        return 0;
    storage_fatal(s, &err);
    return RAFT_IOERR;
}

static int io_set_term(struct raft_io *io, raft_term term)
{
    struct storage *s = io->impl;
    s->metadata.term = term;
    s->metadata.vote = 0;
    return store_metadata(s);
}

static int io_set_vote(struct raft_io *io, raft_id server_id)
{
    struct storage *s = io->impl;
    s->metadata.vote = server_id;
    return store_metadata(s);
}

/* --- snapshots --- */

static void put_work(struct executor_job *job)
{
    struct storage_put *put = container_of(job, struct storage_put, job);
    struct storage *s = put->storage;
    put->result = snapshot_write(s->disk, s->metadata.cluster_id, put->snapshot, &put->bytes);
}

static void remember_snapshot(struct storage *s, const struct raft_snapshot *snapshot)
{
    memmove(s->snapshots + 1, s->snapshots, sizeof s->snapshots - sizeof s->snapshots[0]);
    s->snapshots[0] = (struct snapshot_id){snapshot->index, snapshot->term};
    s->stats.snapshot_index = snapshot->index;
}

/* The log reaches back to the oldest snapshot that is kept, so that a damaged newest one costs nothing. */
static void remove_old_log(struct storage *s)
{
    uint64_t oldest = s->snapshots[SNAPSHOTS_KEPT - 1].index, newest = s->snapshots[0].index;
    uint64_t trailing = newest > s->options.trailing ? newest - s->options.trailing : 0;
    journal_remove_below(s->journal, s->options.host->executor, (oldest < trailing ? oldest : trailing) + 1);
}

static void put_finished(struct storage *s, struct raft_io_snapshot_put *req, int status)
{
    uint64_t index = s->put.snapshot->index;
    int result = s->put.result;
    s->put.req = NULL;
    s->put.snapshot = NULL;
    req->cb(req, status);
    if (result == 0)
        remove_old_log(s);
    s->options.callbacks->snapshot_written(s->options.ctx, index, s->put.bytes, result);
}

static void put_done(struct executor_job *job)
{
    struct storage_put *put = container_of(job, struct storage_put, job);
    struct storage *s = put->storage;
    if (s->failed)
        return;
    if (put->result < 0 && !is_no_space(put->result)) {
        fatal_errno(s, put->result, "cannot write a snapshot");
        return;
    }
    if (put->result < 0) {
        LOG_W("no space for a snapshot", "directory", s->disk->place, "index", LOG_U64(put->snapshot->index));
        /* The library's log in memory is already the installed snapshot's: it cannot go back, so it waits. */
        put->wait = put->install;
        if (!put->install)
            put_finished(s, put->req, RAFT_NOSPACE);
        event(s);
        return;
    }
    remember_snapshot(s, put->snapshot);
    s->stats.snapshot_bytes = put->bytes;
    if (put->install) {
        s->next_index = put->snapshot->index + 1;
        enqueue(s, (struct storage_item){.mark = RECORD_RESET, .index = s->next_index, .n = 1, .put = put->req});
        pump(s);
    } else {
        put_finished(s, put->req, 0);
    }
    event(s);
}

static void submit_put(struct storage *s)
{
    s->put.wait = false;
    s->put.job = (struct executor_job){.work = put_work, .done = put_done};
    s->options.host->executor->submit(s->options.host->executor, EXECUTOR_BACKGROUND, &s->put.job);
}

static int io_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req,
                           const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb)
{
    struct storage *s = io->impl;
    if (s->put.req)
        return RAFT_BUSY;
    req->cb = cb;
    s->put.req = req;
    s->put.snapshot = snapshot;
    s->put.install = trailing == 0;
    submit_put(s);
    return 0;
}

static void get_work(struct executor_job *job)
{
    struct storage_get *get = container_of(job, struct storage_get, job);
    struct storage *s = get->storage;
    struct snapshot_id newest;
    struct snapshot_id ids[64];
    int n = snapshot_list(s->disk, ids, ARRAY_LEN(ids));
    if (n <= 0) {
        error_set_errno(&get->err, n < 0 ? -n : ENOENT, "no snapshot in %s", s->disk->place);
        return;
    }
    newest = ids[0];
    if (snapshot_read(s->disk, s->metadata.cluster_id, &newest, &get->snapshot, &get->err) < 0)
        get->snapshot = NULL;
}

static void get_finish(struct storage_get *get, int status)
{
    LIST_REMOVE(get, next);
    get->req->cb(get->req, get->snapshot, status);
    free(get);
}

static void get_done(struct executor_job *job)
{
    struct storage_get *get = container_of(job, struct storage_get, job);
    struct storage *s = get->storage;
    if (s->failed)
        return;
    if (!get->snapshot)
        LOG_E("cannot read the snapshot that a follower needs", "error", get->err.text);
    get_finish(get, get->snapshot ? 0 : RAFT_CORRUPT);
    event(s);
}

static int io_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *req, raft_io_snapshot_get_cb cb)
{
    struct storage *s = io->impl;
    struct storage_get *get = NEW(struct storage_get);
    req->cb = cb;
    *get = (struct storage_get){.job = {.work = get_work, .done = get_done}, .storage = s, .req = req};
    LIST_INSERT_HEAD(&s->gets, get, next);
    s->options.host->executor->submit(s->options.host->executor, EXECUTOR_BACKGROUND, &get->job);
    return 0;
}

/* --- the rest of the raft_io --- */

static int io_init(struct raft_io *io, raft_id id, const char *address)
{
    struct storage *s = io->impl;
    return id == s->metadata.server_id ? 0 : RAFT_INVALID;
}

static int io_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb receive)
{
    struct storage *s = io->impl;
    s->tick = tick;
    s->receive = receive;
    return 0;
}

/* The library is unavailable by now: it takes a success as the end of a request, nothing more. */
static void io_close(struct raft_io *io, raft_io_close_cb cb)
{
    struct storage *s = io->impl;
    s->failed = false;
    struct storage_item *item;
    STAILQ_FOREACH(item, &s->items, next)
        item->encoded = item->n;
    struct raft_io_snapshot_put *put = s->put.req;
    STAILQ_FOREACH(item, &s->items, next)
        item->put = NULL;
    complete_items(s, 0);
    s->failed = true;
    s->put.req = NULL;
    if (put)
        put->cb(put, RAFT_CANCELED);
    struct storage_get *get;
    while ((get = LIST_FIRST(&s->gets))) {
        if (get->snapshot)
            snapshot_destroy(steal(&get->snapshot));
        get_finish(get, RAFT_CANCELED);
    }
    cb(io);
}

static int io_send(struct raft_io *io, struct raft_io_send *req, const struct raft_message *message, raft_io_send_cb cb)
{
    struct storage *s = io->impl;
    return s->transport ? s->transport->send(s->transport, req, message, cb) : RAFT_NOCONNECTION;
}

static raft_time io_time(struct raft_io *io)
{
    return now_ms(io->impl);
}

static int io_random(struct raft_io *io, int min, int max)
{
    struct storage *s = io->impl;
    return s->options.host->random(s->options.host, min, max);
}

void storage_io_set(struct storage *s)
{
    s->io = (struct raft_io){
        .version = 2,
        .impl = s,
        .init = io_init,
        .close = io_close,
        .load = storage_load,
        .start = io_start,
        .bootstrap = storage_bootstrap,
        .set_term = io_set_term,
        .set_vote = io_set_vote,
        .send = io_send,
        .append = io_append,
        .truncate = io_truncate,
        .snapshot_put = io_snapshot_put,
        .snapshot_get = io_snapshot_get,
        .time = io_time,
        .random = io_random,
    };
}

/* --- for the owner --- */

struct raft_io *storage_io(struct storage *s) { return &s->io; }
uint64_t storage_server_id(const struct storage *s) { return s->metadata.server_id; }
uint64_t storage_cluster_id(const struct storage *s) { return s->metadata.cluster_id; }
uint64_t storage_snapshot_index(const struct storage *s) { return s->stats.snapshot_index; }
void storage_set_transport(struct storage *s, struct storage_transport *transport) { s->transport = transport; }

void storage_begin(struct storage *s)
{
    s->begun = true;
    pump(s);
}

void storage_free(struct storage *s)
{
    if (s->journal)
        journal_free(s->journal);
    journal_contents_free(&s->contents);
    if (s->loaded)
        snapshot_destroy(s->loaded);
    buf_free(&s->write.bytes);
    free(s);
}

void storage_receive(struct storage *s, struct raft_message *message)
{
    if (s->failed || !s->receive)
        return;
    s->receive(&s->io, message);
    event(s);
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
    if (s->tick && !s->failed)
        s->tick(&s->io);
    event(s);
}

bool storage_busy(const struct storage *s)
{
    return s->writing || !STAILQ_EMPTY(&s->items) || s->put.req;
}

bool storage_waits_for_space(const struct storage *s)
{
    return s->write_again || s->put.wait || (s->prepare_failed && !STAILQ_EMPTY(&s->items));
}

void storage_stats(const struct storage *s, struct storage_stats *out)
{
    *out = s->stats;
    out->log_bytes = journal_bytes_on_disk(s->journal);
}
