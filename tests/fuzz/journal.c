/* Files of the log, written by a script: records with any type and index, gaps, broken chains, damage, further files.
 * They are refused, or what is read is the same when it is read again, and the log goes on behind it.
 *
 * The script: for each record its type, how, step of the index, step of the term, length; then its bytes. */
#include "fuzz.h"

#include <string.h>

#include "../sim/virtual_disk.h"
#include "base/log.h"
#include "consensus/journal.h"

enum { HEAD = 5, FILES = 4, SEGMENT = 3 * SEGMENT_HEADER_SIZE };
enum how {
    BREAKS_CHAIN = 1,
    NEXT_FILE = 2,
    LEAVES_GAP = 4,
    DAMAGED = 8,
    NEW_BATCH = 16,
    OF_ANOTHER_FILE = 32,
    HEADER_DAMAGED = 64,
    HEADER_FOREIGN = 128,
};

struct writer {
    struct disk *disk;
    struct buf file;                 /* the one under way */
    struct record_place place;
    uint64_t previous, index, term, batch;
};

static void begin_file(struct writer *w, unsigned how)
{
    uint8_t header[SEGMENT_HEADER_SIZE];
    w->place.sequence++;
    struct segment_header h = {.place = w->place, .bytes = SEGMENT};
    h.place.server_id += how & HEADER_FOREIGN ? 1 : 0;
    segment_header_encode(header, &h);
    header[48] ^= how & HEADER_DAMAGED ? 1 : 0;
    buf_clear(&w->file);
    buf_add(&w->file, header, sizeof header);
    w->batch = w->file.len;
}

static void end_file(struct writer *w)
{
    char name[DISK_NAME_SIZE];
    snprintf(name, sizeof name, "log-%016llx", (unsigned long long)w->place.sequence);
    int file = w->disk->op->open(w->disk, name, true);
    INVARIANT(file >= 0);
    INVARIANT(w->disk->op->allocate(w->disk, file, SEGMENT) == 0);
    INVARIANT(w->disk->op->write(w->disk, file, w->file.data, w->file.len, 0) == 0);
    w->disk->op->close(w->disk, file);
}

static void write_record(struct writer *w, const uint8_t head[static HEAD], const uint8_t *bytes, size_t len)
{
    unsigned how = head[1];
    if (w->file.len + record_size(len) + 8 > SEGMENT)
        how |= NEXT_FILE;
    if (how & NEXT_FILE && w->place.sequence < FILES) {
        end_file(w);
        begin_file(w, how);
    }
    if (w->file.len + record_size(len) + 8 > SEGMENT)
        return;
    if (how & LEAVES_GAP)
        buf_add_u64(&w->file, 0);
    if (how & NEW_BATCH)
        w->batch = w->file.len;
    w->index += (uint64_t)(int8_t)head[2];
    w->term += head[3];
    struct record r = {.type = head[0] % (RECORD_NEXT_FILE + 1), .previous = w->previous + (how & BREAKS_CHAIN), .term = w->term,
                       .index = w->index, .batch = (uint32_t)w->batch, .len = (uint32_t)len, .bytes = bytes};
    struct record_place place = w->place;
    place.sequence += how & OF_ANOTHER_FILE ? 1 : 0;
    size_t at = w->file.len;
    record_encode(&w->file, &place, at, &r);
    if (how & DAMAGED)
        w->file.data[at + head[4] % record_size(len)] ^= 1;
    w->previous = r.checksum;
    w->index++;
}

static void write_files(struct disk *disk, struct cursor in)
{
    struct writer w = {.disk = disk, .place = {.cluster_id = 3, .server_id = 4}, .index = 1};
    const uint8_t *head, *bytes;
    begin_file(&w, 0);
    while (cursor_bytes(&in, HEAD, &head)) {
        size_t len = head[4] < cursor_left(&in) ? head[4] : cursor_left(&in);
        INVARIANT(cursor_bytes(&in, len, &bytes));
        write_record(&w, head, bytes, len);
    }
    end_file(&w);
    buf_free(&w.file);
}

static struct journal *open_journal(struct disk *disk, struct journal_contents *contents, struct error *err)
{
    static const struct record_place place = {.cluster_id = 3, .server_id = 4};
    struct journal *j = NULL;
    int rc = journal_open(&j, disk, &place, SEGMENT, contents, err);
    INVARIANT(rc == 0 || (rc < 0 && !j && *err->text));
    return j;
}

/* The first n entries of both. */
static void check_equal(const struct raft_log *a, const struct raft_log *b, size_t n)
{
    INVARIANT(a->first == b->first && a->n >= n && b->n >= n);
    for (uint64_t index = a->first; index < a->first + n; index++) {
        const struct entry *x = raft_log_entry(a, index), *y = raft_log_entry(b, index);
        INVARIANT(x->type == y->type && x->term == y->term && x->len == y->len);
        INVARIANT(!x->len || !memcmp(x->bytes, y->bytes, x->len));
    }
}

static void append(struct journal *j, uint64_t index)
{
    struct journal_write w = {0};
    struct record r = {.type = 1, .term = 1, .index = index, .len = 4, .bytes = (const uint8_t *)"more"};
    while (!journal_put(j, &w, &r))
        INVARIANT((w.bytes.len ? journal_write_now(j, &w) : journal_prepare_file_now(j)) == 0);
    INVARIANT(journal_write_now(j, &w) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct virtual_disk *virtual = virtual_disk_new(1);
    struct disk *disk = virtual_disk_disk(virtual);
    struct journal_contents first, again;
    struct error err = {0};
    log_init("fuzz", LOG_ERROR);
    write_files(disk, cursor_of(data, size));
    struct journal *j = open_journal(disk, &first, &err);
    if (j) {
        journal_free(j);
        j = open_journal(disk, &again, &err);
        INVARIANT(j && !again.torn_bytes && again.log.n == first.log.n);
        check_equal(&first.log, &again.log, first.log.n);
        append(j, raft_log_last(&again.log) + 1);
        raft_log_clear(&again.log);
        journal_free(j);
        j = open_journal(disk, &again, &err);
        INVARIANT(j && again.log.n == first.log.n + 1);
        check_equal(&first.log, &again.log, first.log.n);
        raft_log_clear(&again.log);
        raft_log_clear(&first.log);
        journal_free(j);
    }
    disk_free(disk);
    return 0;
}
