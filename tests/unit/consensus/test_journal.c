/* Log files, metadata and snapshots on the virtual disk: every torn tail, every flipped bit. */
#include <stdio.h>
#include <string.h>

#include "../../sim/virtual_disk.h"
#include "../cmocka_all.h"
#include "base/log.h"
#include "consensus/journal.h"
#include "consensus/metadata.h"
#include "consensus/snapshot.h"

#define SEGMENT (16 * 1024)
static const struct record_place place = {.cluster_id = 3, .server_id = 4};

struct world {
    struct virtual_disk *virtual;
    struct disk *disk;
};

static int setup(void **state)
{
    struct world *w = NEW(struct world);
    w->virtual = virtual_disk_new(1);
    w->disk = virtual_disk_disk(w->virtual);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    disk_free(w->disk);
    free(w);
    return 0;
}

static size_t text_of(char out[static 64], uint64_t index)
{
    return (size_t)snprintf(out, 64, "entry %llu %.*s", (unsigned long long)index, (int)(index % 13), "0123456789abc");
}

static struct journal *open_journal(struct world *w, struct journal_contents *contents, struct error *err)
{
    struct journal *j = NULL;
    return journal_open(&j, w->disk, &place, SEGMENT, contents, err) < 0 ? NULL : j;
}

/* Writes what was put so far, as one batch. */
static void flush(struct world *w, struct journal_write *write)
{
    if (!write->bytes.len)
        return;
    assert_int_equal(w->disk->op->write(w->disk, write->file, write->bytes.data, write->bytes.len, write->offset), 0);
    assert_int_equal(w->disk->op->sync(w->disk, write->file), 0);
    buf_clear(&write->bytes);
}

static void put(struct world *w, struct journal *j, struct journal_write *write, struct record record)
{
    while (!journal_put(j, write, &record)) {
        if (write->bytes.len)
            flush(w, write);
        else
            assert_int_equal(journal_prepare_file_now(j), 0);
    }
}

static void put_entry(struct world *w, struct journal *j, struct journal_write *write, uint64_t term, uint64_t index)
{
    char text[64];
    size_t len = text_of(text, index);
    put(w, j, write, (struct record){.type = ENTRY_COMMAND, .term = term, .index = index, .len = (uint32_t)len,
                                     .bytes = (const uint8_t *)text});
}

/* Entries first … last, `batch` in each write. */
static void append(struct world *w, uint64_t first, uint64_t last, unsigned batch)
{
    struct journal_contents contents;
    struct error err = {0};
    struct journal *j = open_journal(w, &contents, &err);
    assert_non_null(j);
    struct journal_write write = {0};
    for (uint64_t i = first; i <= last; i++) {
        put_entry(w, j, &write, 1, i);
        if ((i - first + 1) % batch == 0)
            flush(w, &write);
    }
    flush(w, &write);
    buf_free(&write.bytes);
    raft_log_clear(&contents.log);
    journal_free(j);
}

/* Opens; checks that what there is is right; returns how many entries, or -1 when it was refused as damaged. */
static int64_t count(struct world *w, struct error *err)
{
    struct journal_contents contents;
    struct journal *j = open_journal(w, &contents, err);
    if (!j) {
        assert_int_equal(err->code, ERROR_CORRUPT);
        assert_non_null(strstr(err->text, "log-"));
        assert_non_null(strstr(err->text, "offset"));
        return -1;
    }
    for (uint64_t i = contents.log.first; i <= raft_log_last(&contents.log); i++) {
        char text[64];
        size_t len = text_of(text, i);
        const struct entry *e = raft_log_entry(&contents.log, i);
        assert_int_equal(e->len, len);
        assert_memory_equal(e->bytes, text, len);
        assert_int_equal(e->term, 1);
    }
    int64_t n = (int64_t)raft_log_last(&contents.log);
    raft_log_clear(&contents.log);
    journal_free(j);
    return n;
}

static uint8_t *bytes_of(struct world *w, const char *name, size_t *len)
{
    uint8_t *bytes = virtual_disk_bytes(w->virtual, name, len);
    assert_non_null(bytes);
    return bytes;
}

#define FIRST_FILE "log-0000000000000001"

static size_t used_bytes(const uint8_t *bytes, size_t len)
{
    while (len && !bytes[len - 1])
        len--;
    return (len + 7) & ~(size_t)7;
}

static void a_log_cut_at_any_byte_keeps_the_whole_records_before_it(void **state)
{
    struct world *w = *state;
    append(w, 1, 12, 3);
    size_t len;
    uint8_t *bytes = bytes_of(w, FIRST_FILE, &len);
    CLEANUP_FREE uint8_t *image = mem_dup(bytes, len);
    size_t end = used_bytes(image, len);
    int64_t before = -1;
    for (size_t cut = SEGMENT_HEADER_SIZE; cut <= end; cut++) {
        bytes = bytes_of(w, FIRST_FILE, &len);
        memcpy(bytes, image, len);
        memset(bytes + cut, 0, len - cut);
        struct error err = {0};
        int64_t n = count(w, &err);
        assert_true(n >= before);
        before = n;
        /* What was left of a cut record is blank afterwards, and the log goes on. */
        assert_int_equal(count(w, &err), n);
    }
    assert_int_equal(before, 12);
}

static void a_log_goes_on_after_a_torn_tail(void **state)
{
    struct world *w = *state;
    append(w, 1, 10, 5);
    size_t len;
    uint8_t *bytes = bytes_of(w, FIRST_FILE, &len);
    bytes[used_bytes(bytes, len) - 16] ^= 1;   /* in the last record */
    struct error err = {0};
    assert_int_equal(count(w, &err), 9);
    append(w, 10, 20, 1);
    assert_int_equal(count(w, &err), 20);
}

static void in_the_last_write_any_record_may_be_missing(void **state)
{
    struct world *w = *state;
    append(w, 1, 4, 4);
    size_t len;
    uint8_t *bytes = bytes_of(w, FIRST_FILE, &len);
    size_t second = used_bytes(bytes, len);
    append(w, 5, 8, 4);
    bytes = bytes_of(w, FIRST_FILE, &len);
    memset(bytes + second, 0, 64);   /* the first of the second write; three whole ones follow it */
    struct error err = {0};
    assert_int_equal(count(w, &err), 4);
    append(w, 5, 6, 2);
    assert_int_equal(count(w, &err), 6);
}

static void a_flipped_bit_is_refused_or_in_the_last_write_cut_and_never_accepted(void **state)
{
    struct world *w = *state;
    append(w, 1, 4, 2);
    size_t len;
    uint8_t *bytes = bytes_of(w, FIRST_FILE, &len);
    size_t last_write = used_bytes(bytes, len);
    append(w, 5, 6, 2);
    bytes = bytes_of(w, FIRST_FILE, &len);
    CLEANUP_FREE uint8_t *image = mem_dup(bytes, len);
    size_t end = used_bytes(image, len);
    unsigned refused = 0, cut = 0, harmless = 0;
    for (size_t bit = 0; bit < end * 8; bit++) {
        bytes = bytes_of(w, FIRST_FILE, &len);
        memcpy(bytes, image, len);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct error err = {0};
        int64_t n = count(w, &err);
        if (n < 0) {
            refused++;
            assert_true(bit / 8 < last_write);
        } else if (n < 6) {
            cut++;
            assert_true(bit / 8 >= last_write);
            assert_true(n >= 4);
        } else {
            harmless++;
            assert_true(bit / 8 >= 56 && bit / 8 < SEGMENT_HEADER_SIZE);   /* the header's padding */
        }
    }
    assert_true(refused > 0 && cut > 0 && harmless > 0);
}

static void damage_in_a_closed_file_is_refused_everywhere(void **state)
{
    struct world *w = *state;
    append(w, 1, 400, 7);
    size_t len;
    uint8_t *bytes = bytes_of(w, "log-0000000000000002", &len);   /* there is a second one */
    bytes = bytes_of(w, FIRST_FILE, &len);
    CLEANUP_FREE uint8_t *image = mem_dup(bytes, len);
    size_t end = used_bytes(image, len);
    for (size_t at = SEGMENT_HEADER_SIZE; at < end; at += 3) {
        memcpy(bytes, image, len);
        bytes[at] ^= 0x10;
        struct error err = {0};
        assert_int_equal(count(w, &err), -1);
        assert_non_null(strstr(err.text, FIRST_FILE));
    }
    memcpy(bytes, image, len);
    struct error err = {0};
    assert_int_equal(count(w, &err), 400);
}

static void a_file_missing_in_the_middle_is_not_bridged(void **state)
{
    struct world *w = *state;
    append(w, 1, 900, 7);
    size_t len;
    bytes_of(w, "log-0000000000000003", &len);
    assert_int_equal(w->disk->op->unlink(w->disk, "log-0000000000000002"), 0);
    struct journal_contents contents;
    struct error err = {0};
    struct journal *j = open_journal(w, &contents, &err);
    assert_non_null(j);
    assert_true(contents.log.first > 1);   /* storage sees that no snapshot reaches it */
    raft_log_clear(&contents.log);
    journal_free(j);
}

static void truncation_and_reset_are_part_of_the_log(void **state)
{
    struct world *w = *state;
    append(w, 1, 10, 10);
    struct journal_contents contents;
    struct error err = {0};
    struct journal *j = open_journal(w, &contents, &err);
    assert_non_null(j);
    raft_log_clear(&contents.log);
    struct journal_write write = {0};
    put(w, j, &write, (struct record){.type = RECORD_TRUNCATE, .index = 6});
    put_entry(w, j, &write, 1, 6);
    flush(w, &write);
    journal_free(j);
    assert_int_equal(count(w, &err), 6);
    j = open_journal(w, &contents, &err);
    assert_non_null(j);
    raft_log_clear(&contents.log);
    put(w, j, &write, (struct record){.type = RECORD_RESET, .index = 101});
    flush(w, &write);
    put_entry(w, j, &write, 1, 101);
    flush(w, &write);
    buf_free(&write.bytes);
    journal_free(j);
    j = open_journal(w, &contents, &err);
    assert_non_null(j);
    assert_int_equal(contents.log.first, 101);
    assert_int_equal(contents.log.n, 1);
    raft_log_clear(&contents.log);
    journal_free(j);
}

static void another_servers_file_is_refused(void **state)
{
    struct world *w = *state;
    append(w, 1, 3, 1);
    struct journal_contents contents;
    struct journal *j;
    struct error err = {0};
    const struct record_place other = {.cluster_id = 3, .server_id = 5};
    assert_int_equal(journal_open(&j, w->disk, &other, SEGMENT, &contents, &err), -1);
    assert_int_equal(err.code, ERROR_CONFLICT);
}

static void either_copy_of_the_metadata_suffices_and_the_other_is_repaired(void **state)
{
    struct world *w = *state;
    struct metadata m = {.cluster_id = 1, .server_id = 2, .term = 3, .vote = 4};
    struct error err = {0};
    assert_int_equal(metadata_store(w->disk, &m, &err), 0);
    m.term = 9;
    assert_int_equal(metadata_store(w->disk, &m, &err), 0);
    const char *const names[] = {"meta-1", "meta-2"};
    for (int f = 0; f < 2; f++)
        for (size_t bit = 0; bit < 64 * 8; bit++) {
            size_t len;
            bytes_of(w, names[f], &len)[bit / 8] ^= (uint8_t)(1 << bit % 8);
            struct metadata got;
            assert_int_equal(metadata_load(w->disk, &got, &err), 0);
            assert_int_equal(got.term, 9);
            assert_int_equal(got.vote, 4);
            assert_memory_equal(bytes_of(w, "meta-1", &len), bytes_of(w, "meta-2", &len), 64);
        }
    size_t len;
    bytes_of(w, "meta-1", &len)[20] ^= 1;
    bytes_of(w, "meta-2", &len)[20] ^= 1;
    assert_int_equal(metadata_load(w->disk, &m, &err), -1);
    assert_int_equal(err.code, ERROR_CORRUPT);
}

static void metadata_survives_a_power_cut_at_any_operation(void **state)
{
    struct world *w = *state;
    struct error err = {0};
    struct metadata m = {.cluster_id = 1, .server_id = 2, .term = 0};
    assert_int_equal(metadata_store(w->disk, &m, &err), 0);
    for (unsigned i = 0; i < 400; i++) {
        uint64_t before = m.term;
        m.term++;
        virtual_disk_fail_after(w->virtual, 1 + i % 9);
        bool stored = metadata_store(w->disk, &m, &err) == 0;
        virtual_disk_crash(w->virtual);
        assert_int_equal(metadata_load(w->disk, &m, &err), 0);
        assert_true(m.term == before + 1 || (!stored && m.term == before));
    }
}

static void write_snapshot(struct world *w, uint64_t index, const char *text)
{
    struct snapshot s = {.id = {index, 1}, .membership_index = 1, .data = (uint8_t *)(uintptr_t)text,
                         .len = strlen(text)};
    membership_add(&s.membership, 4, "here", true);
    uint64_t bytes;
    assert_int_equal(snapshot_write(w->disk, 3, &s, &bytes), 0);
    snapshot_clear(&s);
}

static void two_snapshots_stay_and_a_damaged_newest_one_is_put_aside(void **state)
{
    struct world *w = *state;
    write_snapshot(w, 10, "ten");
    write_snapshot(w, 20, "twenty");
    write_snapshot(w, 30, "thirty");
    struct snapshot_id ids[8];
    assert_int_equal(snapshot_list(w->disk, ids, 8), 2);
    assert_int_equal(ids[0].index, 30);
    assert_int_equal(ids[1].index, 20);
    struct error err = {0};
    struct snapshot s;
    unsigned damaged;
    const char *name = "snapshot-000000000000001e-0000000000000001";
    size_t len;
    uint8_t *bytes = bytes_of(w, name, &len);
    CLEANUP_FREE uint8_t *image = mem_dup(bytes, len);
    for (size_t bit = 0; bit < len * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct snapshot got;
        assert_int_equal(snapshot_read(w->disk, 3, &ids[0], &got, &err), -1);
        memcpy(bytes, image, len);
    }
    bytes[len - 12] ^= 1;
    assert_int_equal(snapshot_load_newest(w->disk, 3, &s, &damaged, &err), 0);
    assert_int_equal(damaged, 1);
    assert_int_equal(s.id.index, 20);
    assert_int_equal(s.len, 6);
    assert_memory_equal(s.data, "twenty", 6);
    assert_int_equal(s.membership.n, 1);
    assert_string_equal(s.membership.members[0].address, "here");
    snapshot_clear(&s);
    assert_non_null(virtual_disk_bytes(w->virtual, "snapshot-000000000000001e-0000000000000001.damaged", &len));
    assert_int_equal(snapshot_load_newest(w->disk, 5, &s, &damaged, &err), -1);   /* another cluster's */
    assert_int_equal(err.code, ERROR_CONFLICT);
}

int main(void)
{
    log_init("test", LOG_FATAL);
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_log_cut_at_any_byte_keeps_the_whole_records_before_it),
        T(a_log_goes_on_after_a_torn_tail),
        T(in_the_last_write_any_record_may_be_missing),
        T(a_flipped_bit_is_refused_or_in_the_last_write_cut_and_never_accepted),
        T(damage_in_a_closed_file_is_refused_everywhere),
        T(a_file_missing_in_the_middle_is_not_bridged),
        T(truncation_and_reset_are_part_of_the_log),
        T(another_servers_file_is_refused),
        T(either_copy_of_the_metadata_suffices_and_the_other_is_repaired),
        T(metadata_survives_a_power_cut_at_any_operation),
        T(two_snapshots_stay_and_a_damaged_newest_one_is_put_aside),
    };
    return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
