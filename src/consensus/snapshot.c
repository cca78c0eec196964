/* File: magic, format, cluster, index, term, membership's index, lengths of membership and data, checksum of these;
 * membership; data; checksum of both. 64-bit little endian. */
#include "consensus/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/random.h"

#define SNAPSHOT_MAGIC 0x70616e53746e4dull   /* "MntSnap" */
#define SNAPSHOT_FORMAT 1
#define SNAPSHOT_HEADER_SIZE 72
#define SNAPSHOT_MAX_FILES 64

void snapshot_file_name(char out[static DISK_NAME_SIZE], const struct snapshot_id *id)
{
    snprintf(out, DISK_NAME_SIZE, "snapshot-%016llx-%016llx", (unsigned long long)id->index,
             (unsigned long long)id->term);
}

struct listing {
    struct snapshot_id *out;
    size_t n, max;
};

static void collect(void *ctx, const char *name)
{
    struct listing *l = ctx;
    unsigned long long index, term;
    int len = 0;
    if (sscanf(name, "snapshot-%16llx-%16llx%n", &index, &term, &len) != 2 || name[len] || len != 42)
        return;
    if (l->n < l->max)
        l->out[l->n++] = (struct snapshot_id){index, term};
}

static int newest_first(const void *a, const void *b)
{
    const struct snapshot_id *x = a, *y = b;
    if (x->index != y->index)
        return x->index > y->index ? -1 : 1;
    return x->term > y->term ? -1 : x->term < y->term;
}

int snapshot_list(struct disk *disk, struct snapshot_id *out, size_t max)
{
    struct snapshot_id all[SNAPSHOT_MAX_FILES];
    struct listing l = {.out = all, .max = ARRAY_LEN(all)};
    int rv = disk->op->list(disk, collect, &l);
    if (rv < 0)
        return rv;
    qsort(all, l.n, sizeof all[0], newest_first);
    size_t n = l.n < max ? l.n : max;
    memcpy(out, all, n * sizeof all[0]);
    return (int)n;
}

static void remove_old(struct disk *disk)
{
    struct snapshot_id ids[SNAPSHOT_MAX_FILES];
    int n = snapshot_list(disk, ids, ARRAY_LEN(ids));
    for (int i = SNAPSHOTS_KEPT; i < n; i++) {
        char name[DISK_NAME_SIZE];
        snapshot_file_name(name, &ids[i]);
        disk->op->unlink(disk, name);
    }
}

static uint64_t body_checksum(const void *membership, size_t membership_len, const void *data, size_t len)
{
    XXH64_state_t *state = XXH64_createState();
    INVARIANT(state);
    XXH64_reset(state, SNAPSHOT_MAGIC);
    XXH64_update(state, membership, membership_len);
    XXH64_update(state, data, len);
    uint64_t h = XXH64_digest(state);
    XXH64_freeState(state);
    return h;
}

int snapshot_write(struct disk *disk, uint64_t cluster_id, const struct snapshot *snapshot, uint64_t *bytes)
{
    CLEANUP_BUF struct buf membership = {0};
    membership_encode(&membership, &snapshot->membership);
    CLEANUP_BUF struct buf header = {0}, end = {0};
    const uint64_t fields[] = {SNAPSHOT_MAGIC, SNAPSHOT_FORMAT, cluster_id, snapshot->id.index, snapshot->id.term,
                               snapshot->membership_index, membership.len, snapshot->len};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        buf_add_u64(&header, fields[i]);
    buf_add_u64(&header, hash_bytes(header.data, header.len, SNAPSHOT_MAGIC));
    INVARIANT(header.len == SNAPSHOT_HEADER_SIZE);
    buf_add_u64(&end, body_checksum(membership.data, membership.len, snapshot->data, snapshot->len));
    const struct disk_piece pieces[] = {{header.data, header.len},
                                        {membership.data, membership.len},
                                        {snapshot->data, snapshot->len},
                                        {end.data, end.len}};
    char name[DISK_NAME_SIZE];
    snapshot_file_name(name, &snapshot->id);
    int rv = disk_write_file(disk, name, pieces, ARRAY_LEN(pieces));
    *bytes = header.len + membership.len + snapshot->len + end.len;
    if (rv == 0)
        remove_old(disk);
    return rv;
}

static int parse(uint8_t *bytes, size_t len, uint64_t cluster_id, struct snapshot *out, struct error *err)
{
    uint64_t magic, format, cluster, membership_len, data_len, checksum;
    struct cursor c = cursor_of(bytes, len);
    if (!cursor_u64(&c, &magic) || !cursor_u64(&c, &format) || !cursor_u64(&c, &cluster) ||
        !cursor_u64(&c, &out->id.index) || !cursor_u64(&c, &out->id.term) || !cursor_u64(&c, &out->membership_index) ||
        !cursor_u64(&c, &membership_len) || !cursor_u64(&c, &data_len) || !cursor_u64(&c, &checksum) ||
        magic != SNAPSHOT_MAGIC || checksum != hash_bytes(bytes, SNAPSHOT_HEADER_SIZE - 8, SNAPSHOT_MAGIC))
        return error_set(err, ERROR_CORRUPT, "its header is damaged");
    if (format != SNAPSHOT_FORMAT)
        return error_set(err, ERROR_UNSUPPORTED, "it was written by a newer release (format %llu)",
                         (unsigned long long)format);
    if (cluster != cluster_id)
        return error_set(err, ERROR_CONFLICT, "it belongs to cluster %llu", (unsigned long long)cluster);
    const uint8_t *membership, *data;
    if (!cursor_bytes(&c, membership_len, &membership) || !cursor_bytes(&c, data_len, &data) ||
        !cursor_u64(&c, &checksum) || cursor_left(&c))
        return error_set(err, ERROR_CORRUPT, "it has the wrong length");
    if (checksum != body_checksum(membership, membership_len, data, data_len))
        return error_set(err, ERROR_CORRUPT, "its content is damaged");
    out->data = bytes + (data - bytes);
    out->len = data_len;
    return membership_decode(membership, membership_len, &out->membership, err);
}

void snapshot_clear_data(struct snapshot *s)
{
    free(s->memory);
    s->memory = s->data = NULL;
    s->len = 0;
}

void snapshot_clear(struct snapshot *s)
{
    membership_clear(&s->membership);
    snapshot_clear_data(s);
    *s = (struct snapshot){0};
}

static int read_file(struct disk *disk, const char *name, uint64_t cluster_id, struct snapshot *out, struct error *err)
{
    *out = (struct snapshot){0};
    CLEANUP_FREE uint8_t *bytes = NULL;
    size_t len = 0;
    int rv = disk_read_file(disk, name, SNAPSHOT_LIMIT, &bytes, &len);
    if (rv < 0)
        return error_set_errno(err, -rv, "cannot read %s/%s", disk->place, name);
    if (parse(bytes, len, cluster_id, out, err) < 0) {
        *out = (struct snapshot){0};
        return error_context(err, "%s/%s", disk->place, name);
    }
    out->memory = steal(&bytes);
    return 0;
}

int snapshot_read(struct disk *disk, uint64_t cluster_id, const struct snapshot_id *id, struct snapshot *out,
                  struct error *err)
{
    char name[DISK_NAME_SIZE];
    snapshot_file_name(name, id);
    if (read_file(disk, name, cluster_id, out, err) < 0)
        return -1;
    if (out->id.index == id->index && out->id.term == id->term)
        return 0;
    snapshot_clear(out);
    return error_set(err, ERROR_CORRUPT, "%s/%s: its name is not its own", disk->place, name);
}

int snapshot_read_incoming(struct disk *disk, uint64_t cluster_id, struct snapshot *out, struct error *err)
{
    return read_file(disk, SNAPSHOT_INCOMING, cluster_id, out, err);
}

int snapshot_accept_incoming(struct disk *disk, const struct snapshot_id *id)
{
    char name[DISK_NAME_SIZE];
    snapshot_file_name(name, id);
    int rv = disk->op->rename(disk, SNAPSHOT_INCOMING, name);
    if (rv == 0)
        rv = disk->op->sync_directory(disk);
    if (rv == 0)
        remove_old(disk);
    return rv;
}

int snapshot_load_newest(struct disk *disk, uint64_t cluster_id, struct snapshot *out, unsigned *damaged,
                         struct error *err)
{
    *out = (struct snapshot){0};
    *damaged = 0;
    struct snapshot_id ids[SNAPSHOT_MAX_FILES];
    int n = snapshot_list(disk, ids, ARRAY_LEN(ids));
    if (n < 0)
        return error_set_errno(err, -n, "cannot list %s", disk->place);
    for (int i = 0; i < n; i++) {
        struct error why = {0};
        if (snapshot_read(disk, cluster_id, &ids[i], out, &why) == 0)
            return 0;
        if (why.code != ERROR_CORRUPT) {
            *err = why;
            return -1;
        }
        LOG_W("a snapshot is damaged; using the one before it", "why", why.text);
        ++*damaged;
        char from[DISK_NAME_SIZE], to[DISK_NAME_SIZE + 16];
        snapshot_file_name(from, &ids[i]);
        snprintf(to, sizeof to, "%s.damaged", from);
        int rv = disk->op->rename(disk, from, to);
        if (rv < 0)
            return error_set_errno(err, -rv, "cannot rename %s/%s", disk->place, from);
    }
    return 0;
}
