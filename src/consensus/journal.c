#include "consensus/journal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "consensus/journal_load.h"

#define MARK_SIZE record_size(0)   /* RECORD_NEXT_FILE; each file keeps room for it */

uint64_t journal_record_max(uint64_t segment_bytes)
{
    return segment_bytes - SEGMENT_HEADER_SIZE - MARK_SIZE;
}

struct journal {
    struct disk *disk;
    struct record_place place;      /* sequence: of the active file */
    uint64_t segment_bytes;         /* of files made from now on */
    struct journal_files files;     /* oldest first; the last one is the active */
    int active;                     /* its handle, -1: none yet */
    uint64_t active_bytes;          /* its size */
    uint64_t end;                   /* where the next record goes */
    uint64_t previous;              /* checksum of the last record */
    bool ended;                     /* the active file has its last record: the next one goes into the next file */
    uint64_t durable;               /* sequence of the file with the newest durable record; 0: none */
    int spare;                      /* the file after it, -1: not prepared */
    uint64_t spare_bytes;
    struct prepare_job *preparing;  /* under way, or NULL */
    struct remove_job *removing;
};

void journal_file_name(char out[static DISK_NAME_SIZE], uint64_t sequence)
{
    snprintf(out, DISK_NAME_SIZE, "log-%016llx", (unsigned long long)sequence);
}

/* Makes the file durable, with its name: records may go in at once. It replaces a leftover without records in one step:
 * at no moment may a number be missing in the row. */
static int make_file(struct disk *disk, const struct record_place *place, uint64_t bytes)
{
    char name[DISK_NAME_SIZE], temporary[DISK_NAME_SIZE + 8];
    journal_file_name(name, place->sequence);
    snprintf(temporary, sizeof temporary, "%s.new", name);
    int rv = disk->op->unlink(disk, temporary);
    if (rv < 0 && rv != -ENOENT)
        return rv;
    int file = disk->op->open(disk, temporary, true);
    if (file < 0)
        return file;
    rv = disk->op->allocate(disk, file, bytes);
    if (rv == 0) {
        uint8_t header[SEGMENT_HEADER_SIZE];
        segment_header_encode(header, &(struct segment_header){*place, bytes});
        rv = disk->op->write(disk, file, header, sizeof header, 0);
    }
    if (rv == 0)
        rv = disk->op->sync(disk, file);
    if (rv == 0)
        rv = disk->op->rename(disk, temporary, name);
    if (rv == 0)
        rv = disk->op->sync_directory(disk);
    if (rv == 0)
        return file;
    disk->op->close(disk, file);
    disk->op->unlink(disk, temporary);
    return rv;
}

int journal_open(struct journal **out, struct disk *disk, const struct record_place *place, uint64_t segment_bytes,
                 struct journal_contents *contents, struct error *err)
{
    CLEANUP(journal_free) struct journal *j = NEW(struct journal);
    j->disk = disk;
    j->place = *place;
    j->segment_bytes = segment_bytes;
    j->active = j->spare = -1;
    struct journal_tail tail = {0};
    contents->torn_bytes = 0;
    raft_log_init(&contents->log);
    if (journal_load(disk, place, contents, &j->files, &tail, err) < 0) {
        raft_log_clear(&contents->log);
        return -1;
    }
    j->place.sequence = tail.sequence;
    j->previous = tail.previous;
    j->end = tail.end;
    j->active_bytes = tail.bytes;
    j->durable = tail.durable;
    if (tail.sequence) {
        char name[DISK_NAME_SIZE];
        journal_file_name(name, tail.sequence);
        j->active = disk->op->open(disk, name, false);
        if (j->active < 0) {
            error_set_errno(err, -j->active, "cannot open %s/%s", disk->place, name);
            raft_log_clear(&contents->log);
            return -1;
        }
    }
    *out = steal(&j);
    return 0;
}

void journal_free(struct journal *j)
{
    if (j->active >= 0)
        j->disk->op->close(j->disk, j->active);
    if (j->spare >= 0)
        j->disk->op->close(j->disk, j->spare);
    free(j->preparing);
    free(j->removing);
    free(j->files.items);
    free(j);
}

static void use_spare(struct journal *j)
{
    if (j->active >= 0)
        j->disk->op->close(j->disk, j->active);
    j->active = j->spare;
    j->active_bytes = j->spare_bytes;
    j->spare = -1;
    j->ended = false;
    j->place.sequence++;
    j->end = SEGMENT_HEADER_SIZE;
    journal_files_add(&j->files, (struct journal_file){.sequence = j->place.sequence, .bytes = j->active_bytes});
}

static void add(struct journal *j, struct journal_write *w, struct record *record)
{
    if (!w->bytes.len) {
        w->disk = j->disk;
        w->journal = j;
        w->sequence = j->place.sequence;
        w->file = j->active;
        w->offset = j->end;
    }
    record->previous = j->previous;
    record->batch = (uint32_t)w->offset;
    record_encode(&w->bytes, &j->place, j->end, record);
    j->previous = record->checksum;
    j->end += record_size(record->len);
}

/* The mark is durable before anything is written into the next file: who finds it knows that there was one. (A file whose
 * rest is too small for it was begun by an earlier release.) */
static void end_file(struct journal *j, struct journal_write *w)
{
    j->ended = true;
    if (j->active_bytes - j->end >= MARK_SIZE)
        add(j, w, &(struct record){.type = RECORD_NEXT_FILE, .index = j->place.sequence + 1});
}

bool journal_put(struct journal *j, struct journal_write *w, struct record *record)
{
    uint64_t size = record_size(record->len);
    if (j->active < 0 || j->ended || size + MARK_SIZE > j->active_bytes - j->end) {
        if (w->bytes.len || j->spare < 0 || size > journal_record_max(j->spare_bytes))
            return false;
        if (j->active >= 0 && !j->ended)
            end_file(j, w);
        if (w->bytes.len)
            return false;
        use_spare(j);
    }
    add(j, w, record);
    struct journal_file *file = &j->files.items[j->files.n - 1];
    if (record->type <= RECORD_ENTRY_LAST && record->index > file->highest)
        file->highest = record->index;
    return true;
}

int journal_write_now(struct journal *j, struct journal_write *w)
{
    int rv = w->disk->op->write(w->disk, w->file, w->bytes.data, w->bytes.len, w->offset);
    if (rv == 0)
        rv = w->disk->op->sync(w->disk, w->file);
    if (rv == 0)
        j->durable = w->sequence;
    buf_free(&w->bytes);
    return rv;
}

static void write_work(struct executor_job *job)
{
    struct journal_write *w = container_of(job, struct journal_write, job);
    w->result = w->disk->op->write(w->disk, w->file, w->bytes.data, w->bytes.len, w->offset);
    if (w->result == 0) {
        w->result = w->disk->op->sync(w->disk, w->file);
        /* After a failed sync nobody knows what is on the disk: no second attempt may pass for a success. */
        if (w->result == -ENOSPC)
            w->result = -EIO;
    }
}

static void write_done(struct executor_job *job)
{
    struct journal_write *w = container_of(job, struct journal_write, job);
    if (w->result == 0)
        w->journal->durable = w->sequence;
    w->done(w->ctx);
}

void journal_submit(struct journal *j, struct executor *executor, struct journal_write *w)
{
    w->job.work = write_work;
    w->job.done = write_done;
    executor->submit(executor, EXECUTOR_LOG, &w->job);
}

bool journal_wants_file(const struct journal *j)
{
    return j->spare < 0 && !j->preparing;
}

struct prepare_job {
    struct executor_job job;
    struct journal *journal;
    struct disk *disk;
    struct record_place place;
    uint64_t bytes;
    int result;
    void (*done)(void *ctx, int result);
    void *ctx;
};

static void prepare_work(struct executor_job *job)
{
    struct prepare_job *p = container_of(job, struct prepare_job, job);
    p->result = make_file(p->disk, &p->place, p->bytes);
}

static int prepared(struct journal *j, uint64_t bytes, int result)
{
    if (result < 0)
        return result;
    j->spare = result;
    j->spare_bytes = bytes;
    return 0;
}

static void prepare_done(struct executor_job *job)
{
    struct prepare_job *p = container_of(job, struct prepare_job, job);
    p->journal->preparing = NULL;
    int result = prepared(p->journal, p->bytes, p->result);
    void (*done)(void *ctx, int result) = p->done;
    void *ctx = p->ctx;
    free(p);
    done(ctx, result);
}

void journal_prepare_file(struct journal *j, struct executor *executor, void (*done)(void *ctx, int result), void *ctx)
{
    INVARIANT(journal_wants_file(j));
    struct prepare_job *p = NEW(struct prepare_job);
    *p = (struct prepare_job){.job = {prepare_work, prepare_done, {0}}, .journal = j, .disk = j->disk,
                              .place = j->place, .bytes = j->segment_bytes, .done = done, .ctx = ctx};
    p->place.sequence++;
    j->preparing = p;
    executor->submit(executor, EXECUTOR_BACKGROUND, &p->job);
}

int journal_prepare_file_now(struct journal *j)
{
    struct record_place place = j->place;
    place.sequence++;
    return prepared(j, j->segment_bytes, make_file(j->disk, &place, j->segment_bytes));
}

struct remove_job {
    struct executor_job job;
    struct journal *journal;
    struct disk *disk;
    size_t n;
    uint64_t sequences[];
};

static void remove_work(struct executor_job *job)
{
    struct remove_job *r = container_of(job, struct remove_job, job);
    for (size_t i = 0; i < r->n; i++) {
        char name[DISK_NAME_SIZE];
        journal_file_name(name, r->sequences[i]);
        int rv = r->disk->op->unlink(r->disk, name);
        if (rv < 0 && rv != -ENOENT)
            LOG_W("cannot remove an old log file", "file", name, "error", strerror(-rv));
    }
}

static void remove_done(struct executor_job *job)
{
    struct remove_job *r = container_of(job, struct remove_job, job);
    r->journal->removing = NULL;
    free(r);
}

/* The file with the newest durable record stays: without one the log would look as if its files had been lost. */
void journal_remove_below(struct journal *j, struct executor *executor, uint64_t index)
{
    size_t n = 0;
    while (n < j->files.n && j->files.items[n].highest < index && j->files.items[n].sequence < j->durable)
        n++;
    if (!n || j->removing)
        return;
    struct remove_job *r = mem_alloc(sizeof *r + n * sizeof r->sequences[0]);
    *r = (struct remove_job){.job = {remove_work, remove_done, {0}}, .journal = j, .disk = j->disk, .n = n};
    for (size_t i = 0; i < n; i++)
        r->sequences[i] = j->files.items[i].sequence;
    j->files.n -= n;
    memmove(j->files.items, j->files.items + n, j->files.n * sizeof j->files.items[0]);
    j->removing = r;
    executor->submit(executor, EXECUTOR_BACKGROUND, &r->job);
}

bool journal_has_file(const struct journal *j)
{
    return j->active >= 0 || j->spare >= 0;
}

uint64_t journal_bytes_on_disk(const struct journal *j)
{
    uint64_t sum = j->spare >= 0 ? j->spare_bytes : 0;
    for (size_t i = 0; i < j->files.n; i++)
        sum += j->files.items[i].bytes;
    return sum;
}
