/* No server may forget silently what was durable. That files are gone is seen so: a file's last record names the next one;
 * the first file is the first of all, or has records; files have the size that they were made with.
 *
 * The files with the longest unbroken run of numbers up to the highest are the log; older ones are leftovers of a
 * removal that a crash undid in part (whether the run reaches back far enough is the snapshot's question, storage.c).
 *
 * Within the run each file is read from its start. Reading of a file ends at the first offset D without a record that
 * is whole and continues the chain. That is its end, or the start of a torn write, unless something behind D proves
 * that D had been durable: a whole record whose batch began behind D, one at D itself (it does not continue the chain,
 * so one before it is lost), or a record in a later file that does not continue the chain. */
#include "consensus/journal_load.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

struct loader {
    struct disk *disk;
    struct record_place place;
    struct journal_contents *contents;
    bool chained;               /* a record was read: `previous` and the next index must fit from now on */
    bool ended;                 /* the file that was read last says that there is a next one */
    uint64_t previous;
    uint64_t last_good_sequence, last_good_end;   /* where the chain stands */
    struct error *err;
};

void journal_files_add(struct journal_files *files, struct journal_file file)
{
    if (files->n == files->cap) {
        files->cap = files->cap ? files->cap * 2 : 8;
        files->items = mem_realloc_array(files->items, files->cap, sizeof files->items[0]);
    }
    files->items[files->n++] = file;
}

static int damaged(struct loader *l, uint64_t sequence, uint64_t offset, const char *what)
{
    char name[DISK_NAME_SIZE];
    journal_file_name(name, sequence);
    return disk_refuse(l->disk, l->err, "%s is damaged at offset %llu: %s", name, (unsigned long long)offset, what);
}

static int gone(struct loader *l, uint64_t sequence)
{
    char name[DISK_NAME_SIZE];
    journal_file_name(name, sequence);
    return disk_refuse(l->disk, l->err, "the log file %s is missing", name);
}

static void drop_from(struct raft_log *log, uint64_t index)
{
    if (index < log->first)
        raft_log_reset(log, index - 1, 0);
    else
        raft_log_truncate(log, index);
}

/* A record that continues the chain. */
static int take(struct loader *l, uint64_t offset, const struct record *r, struct journal_file *file)
{
    struct raft_log *log = &l->contents->log;
    if (!r->index || r->index > INT64_MAX)
        return damaged(l, file->sequence, offset, "a record has an impossible index");
    switch (r->type) {
    case RECORD_TRUNCATE:
        if (!l->chained)
            raft_log_reset(log, r->index - 1, 0);
        if (r->index > raft_log_last(log) + 1)
            return damaged(l, file->sequence, offset, "it truncates entries that do not exist");
        drop_from(log, r->index);
        break;
    case RECORD_RESET:
        raft_log_reset(log, r->index - 1, 0);
        break;
    case RECORD_NEXT_FILE:
        if (!l->chained || r->index != file->sequence + 1)
            return damaged(l, file->sequence, offset, "the mark of the file's end is at the wrong place");
        l->ended = true;
        break;
    default:
        if (!l->chained)
            raft_log_reset(log, r->index - 1, 0);
        if (r->index != raft_log_last(log) + 1)
            return damaged(l, file->sequence, offset, "an entry has the wrong index");
        raft_log_append(log, r->term, r->type, r->len ? mem_dup(r->bytes, r->len) : NULL, r->len);
        if (r->index > file->highest)
            file->highest = r->index;
        break;
    }
    l->chained = true;
    l->previous = r->checksum;
    return 0;
}

/* Looks for proof that the file was durable up to and at `end`. */
static int check_behind(struct loader *l, const uint8_t *bytes, uint64_t size, uint64_t end)
{
    struct record r;
    if (record_decode(bytes, size, &l->place, end, &r)) {
        if (end == SEGMENT_HEADER_SIZE && l->last_good_sequence)
            return damaged(l, l->last_good_sequence, l->last_good_end, "records are missing before the next file's");
        return damaged(l, l->place.sequence, end, "a record does not follow from the one before it");
    }
    for (uint64_t at = end + 8; at + RECORD_HEADER_SIZE <= size; at += 8)
        if (record_decode(bytes, size, &l->place, at, &r) && r.batch > end)
            return damaged(l, l->place.sequence, end, "a record is unreadable, and newer ones follow it");
    return 0;
}

static int load_records(struct loader *l, const uint8_t *bytes, uint64_t size, struct journal_file *file, uint64_t *end)
{
    uint64_t at = SEGMENT_HEADER_SIZE;
    struct record r;
    while (!l->ended && record_decode(bytes, size, &l->place, at, &r) && (!l->chained || r.previous == l->previous)) {
        if (take(l, at, &r, file) < 0)
            return -1;
        at += record_size(r.len);
    }
    *end = at;
    return check_behind(l, bytes, size, at);
}

/* Overwrites what an interrupted write left behind the end with zeros, durably. */
static int blank_tail(struct loader *l, const uint8_t *bytes, uint64_t size, uint64_t end)
{
    uint64_t last = size;
    while (last > end && !bytes[last - 1])
        last--;
    if (last == end)
        return 0;
    l->contents->torn_bytes = last - end;
    char name[DISK_NAME_SIZE];
    journal_file_name(name, l->place.sequence);
    LOG_W("cut an unfinished write from the end of the log", "file", name, "offset", LOG_U64(end), "bytes",
          LOG_U64(last - end));
    int file = l->disk->op->open(l->disk, name, false);
    int rv = file < 0 ? file : 0;
    CLEANUP_FREE uint8_t *zeros = mem_alloc(last - end);
    if (rv == 0)
        rv = l->disk->op->write(l->disk, file, zeros, last - end, end);
    if (rv == 0)
        rv = l->disk->op->sync(l->disk, file);
    if (file >= 0)
        l->disk->op->close(l->disk, file);
    return rv < 0 ? error_set_errno(l->err, -rv, "cannot repair the end of %s/%s", l->disk->place, name) : 0;
}

struct loaded {
    uint8_t *bytes;
    size_t size;
    uint64_t end;
    bool records;
};

static int load_file(struct loader *l, uint64_t sequence, struct journal_file *file, struct loaded *out)
{
    char name[DISK_NAME_SIZE];
    journal_file_name(name, sequence);
    l->place.sequence = sequence;
    int rv = disk_read_file(l->disk, name, UINT32_MAX, &out->bytes, &out->size);
    if (rv < 0)
        return error_set_errno(l->err, -rv, "cannot read %s/%s", l->disk->place, name);
    struct segment_header header;
    switch (segment_header_decode(out->bytes, out->size, &l->place, &header)) {
    case SEGMENT_HEADER_FOREIGN:
        return error_set(l->err, ERROR_CONFLICT,
                         "%s/%s belongs to another server, cluster or release: server %llu of cluster %llu",
                         l->disk->place, name, (unsigned long long)header.place.server_id,
                         (unsigned long long)header.place.cluster_id);
    case SEGMENT_HEADER_DAMAGED:
        return damaged(l, sequence, 0, "its header is unreadable");     /* files get their name when they are whole */
    case SEGMENT_HEADER_VALID:
        break;
    }
    if (out->size < header.bytes)
        return damaged(l, sequence, out->size, "it ends here, and was longer");
    *file = (struct journal_file){.sequence = sequence, .bytes = header.bytes};
    if (load_records(l, out->bytes, out->size, file, &out->end) < 0)
        return -1;
    out->records = out->end > SEGMENT_HEADER_SIZE;
    return 0;
}

static int load_run(struct loader *l, const uint64_t *sequences, size_t n, struct journal_files *files,
                    struct journal_tail *tail)
{
    CLEANUP_FREE uint8_t *tail_bytes = NULL;
    size_t tail_size = 0;
    for (size_t i = 0; i < n; i++) {
        struct journal_file file = {0};
        struct loaded loaded = {0};
        bool begun = l->ended;      /* nothing says that it was written into: there may be no record yet */
        l->ended = false;
        int rv = load_file(l, sequences[i], &file, &loaded);
        CLEANUP_FREE uint8_t *bytes = loaded.bytes;
        if (rv < 0)
            return -1;
        /* The tail is the last file with records or what follows its end mark; the first one when none has any. */
        if (tail->sequence && !loaded.records && !begun)
            continue;
        journal_files_add(files, file);
        *tail = (struct journal_tail){.sequence = sequences[i], .bytes = file.bytes, .end = loaded.end, .previous = l->previous};
        if (loaded.records) {
            l->last_good_sequence = sequences[i];
            l->last_good_end = loaded.end;
        }
        free(tail_bytes);
        tail_bytes = steal(&bytes);
        tail_size = loaded.size;
    }
    if (l->ended)
        return gone(l, sequences[n - 1] + 1);
    if (!l->last_good_sequence && sequences[0] > 1)
        return gone(l, sequences[0] - 1);
    tail->durable = l->last_good_sequence;
    l->place.sequence = tail->sequence;
    return blank_tail(l, tail_bytes, tail_size, tail->end);
}

struct names {
    uint64_t *sequences;
    size_t n, cap;
};

static void collect(void *ctx, const char *name)
{
    struct names *names = ctx;
    unsigned long long sequence;
    int len = 0;
    if (sscanf(name, "log-%16llx%n", &sequence, &len) != 1 || name[len] || len != 20)
        return;
    if (names->n == names->cap) {
        names->cap = names->cap ? names->cap * 2 : 16;
        names->sequences = mem_realloc_array(names->sequences, names->cap, sizeof names->sequences[0]);
    }
    names->sequences[names->n++] = sequence;
}

static int by_sequence(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Nothing was acknowledged in files behind the tail; new ones are made. From the highest down, each durably, so that a
 * crash leaves no gap in the row. */
static int remove_behind(struct disk *disk, const uint64_t *sequences, size_t n, uint64_t tail)
{
    int rv = 0;
    for (size_t i = n; rv == 0 && i-- > 0 && sequences[i] > tail;) {
        char name[DISK_NAME_SIZE];
        journal_file_name(name, sequences[i]);
        rv = disk->op->unlink(disk, name);
        if (rv == 0)
            rv = disk->op->sync_directory(disk);
    }
    return rv;
}

int journal_load(struct disk *disk, const struct record_place *place, struct journal_contents *contents,
                 struct journal_files *files, struct journal_tail *tail, struct error *err)
{
    struct names names = {0};
    int rv = disk->op->list(disk, collect, &names);
    CLEANUP_FREE uint64_t *sequences = names.sequences;
    if (rv < 0)
        return error_set_errno(err, -rv, "cannot list %s", disk->place);
    if (!names.n)
        return 0;
    qsort(sequences, names.n, sizeof sequences[0], by_sequence);
    size_t first = names.n - 1;
    while (first && sequences[first - 1] + 1 == sequences[first])
        first--;
    /* Kept until the next removal: should the run not reach back far enough, nothing may have been destroyed. */
    for (size_t i = 0; i < first; i++)
        journal_files_add(files, (struct journal_file){.sequence = sequences[i]});
    struct loader l = {.disk = disk, .place = *place, .contents = contents, .err = err};
    if (load_run(&l, sequences + first, names.n - first, files, tail) < 0)
        return -1;
    rv = remove_behind(disk, sequences + first, names.n - first, tail->sequence);
    return rv < 0 ? error_set_errno(err, -rv, "cannot remove an empty log file in %s", disk->place) : 0;
}
