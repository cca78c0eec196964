/* The list of members, metadata and snapshots of consensus. The first byte chooses; the other files are written from the
 * input and damaged by it: they are refused, or what is read is what was written. */
#include "fuzz.h"

#include <string.h>

#include "../sim/virtual_disk.h"
#include "base/log.h"
#include "consensus/membership.h"
#include "consensus/metadata.h"
#include "consensus/snapshot.h"

#define CLUSTER 7

static void check_members(struct disk *disk, struct virtual_disk *virtual, struct cursor in)
{
    struct membership members = {0}, again = {0};
    CLEANUP_BUF struct buf first = {0}, second = {0};
    struct error err = {0};
    if (membership_decode(in.p, cursor_left(&in), &members, &err)) {
        INVARIANT(*err.text && !members.n);
        return;
    }
    membership_encode(&first, &members);
    INVARIANT(!membership_decode(first.data, first.len, &again, &err));
    membership_encode(&second, &again);
    INVARIANT(first.len == second.len && !memcmp(first.data, second.data, first.len));
    INVARIANT(membership_equal(&members, &again));
    membership_clear(&members);
    membership_clear(&again);
}

/* Each three bytes of the input: where (16 bits), and what is put there. True when something is different then. */
static bool damage(uint8_t *bytes, size_t len, struct cursor *in)
{
    CLEANUP_FREE uint8_t *before = mem_dup(bytes, len);
    const uint8_t *p;
    for (int i = 0; i < 4 && cursor_bytes(in, 3, &p); i++)
        bytes[(size_t)(p[0] << 8 | p[1]) % len] = p[2];
    return memcmp(before, bytes, len) != 0;
}

static void check_metadata(struct disk *disk, struct virtual_disk *virtual, struct cursor in)
{
    uint8_t which;
    struct metadata written = {.cluster_id = CLUSTER, .server_id = 9}, m;
    struct error err = {0};
    if (!cursor_u8(&in, &which) || !cursor_u64(&in, &written.term) || !cursor_u64(&in, &written.vote))
        return;
    INVARIANT(!metadata_store(disk, &written, &err));
    bool good = false;
    for (int i = 0; i < 2; i++) {
        char name[] = {'m', 'e', 't', 'a', '-', (char)('1' + i), '\0'};
        size_t len;
        uint8_t *bytes = virtual_disk_bytes(virtual, name, &len);
        good = !(which & 1 << i && damage(bytes, len, &in)) || good;
    }
    int rc = metadata_load(disk, &m, &err);
    INVARIANT(rc == 0 ? good : !good && err.code == ERROR_CORRUPT);
    if (rc)
        return;
    INVARIANT(m.term == written.term && m.vote == written.vote && m.cluster_id == CLUSTER);
    INVARIANT(!metadata_load(disk, &m, &err));
}

static void check_snapshot(struct disk *disk, struct virtual_disk *virtual, struct cursor in)
{
    static const char name[] = "snapshot-0000000000000005-0000000000000002";
    uint8_t content[16] = "what was applied";
    struct snapshot written = {.id = {5, 2}, .membership_index = 1, .data = content, .len = sizeof content}, read;
    struct error err = {0};
    uint64_t bytes;
    unsigned damaged;
    size_t len;
    membership_add(&written.membership, 9, "10.0.0.1:4648", true);
    INVARIANT(!snapshot_write(disk, CLUSTER, &written, &bytes));
    uint8_t *file = virtual_disk_bytes(virtual, name, &len);
    INVARIANT(len == bytes);
    bool changed = damage(file, len, &in);
    INVARIANT(!snapshot_load_newest(disk, CLUSTER, &read, &damaged, &err));
    INVARIANT(changed ? !read.id.index && damaged == 1 : read.id.index == 5 && !damaged);
    if (!changed) {
        INVARIANT(read.len == sizeof content && !memcmp(read.data, content, sizeof content));
        INVARIANT(membership_equal(&read.membership, &written.membership));
        snapshot_clear(&read);
    }
    membership_clear(&written.membership);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const checks[])(struct disk *disk, struct virtual_disk *virtual, struct cursor in) = {
        check_members, check_metadata, check_snapshot,
    };
    if (!size)
        return 0;
    struct virtual_disk *virtual = virtual_disk_new(1);
    struct disk *disk = virtual_disk_disk(virtual);
    log_init("fuzz", LOG_ERROR);
    checks[data[0] % ARRAY_LEN(checks)](disk, virtual, cursor_of(data + 1, size - 1));
    disk_free(disk);
    return 0;
}
