/* File: magic, format, cluster, index, term, configuration's index, lengths of configuration and data, checksum of these;
 * configuration; data; checksum of both. 64-bit little endian. */
#include "consensus/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/random.h"
#include "consensus/membership.h"

#define SNAPSHOT_MAGIC 0x70616e53746e4dull   /* "MntSnap" */
#define SNAPSHOT_FORMAT 1
#define SNAPSHOT_HEADER_SIZE 72
#define SNAPSHOT_LIMIT (64ull << 30)
#define SNAPSHOT_MAX_FILES 64

static void file_name(char out[static DISK_NAME_SIZE], const struct snapshot_id *id)
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
    struct listing l = {.out = out, .max = max};
    int rv = disk->op->list(disk, collect, &l);
    if (rv < 0)
        return rv;
    qsort(out, l.n, sizeof out[0], newest_first);
    return (int)l.n;
}

static void remove_old(struct disk *disk)
{
    struct snapshot_id ids[SNAPSHOT_MAX_FILES];
    int n = snapshot_list(disk, ids, ARRAY_LEN(ids));
    for (int i = SNAPSHOTS_KEPT; i < n; i++) {
        char name[DISK_NAME_SIZE];
        file_name(name, &ids[i]);
        disk->op->unlink(disk, name);
    }
}

static uint64_t body_checksum(const struct raft_buffer *configuration, const struct raft_buffer *bufs, unsigned n)
{
    XXH64_state_t *state = XXH64_createState();
    INVARIANT(state);
    XXH64_reset(state, SNAPSHOT_MAGIC);
    XXH64_update(state, configuration->base, configuration->len);
    for (unsigned i = 0; i < n; i++)
        XXH64_update(state, bufs[i].base, bufs[i].len);
    uint64_t h = XXH64_digest(state);
    XXH64_freeState(state);
    return h;
}

int snapshot_write(struct disk *disk, uint64_t cluster_id, const struct raft_snapshot *snapshot, uint64_t *bytes)
{
    CLEANUP_BUF struct buf members = {0};
    membership_encode(&members, &snapshot->configuration);
    struct raft_buffer configuration = {members.data, members.len};
    uint64_t data = 0;
    for (unsigned i = 0; i < snapshot->n_bufs; i++)
        data += snapshot->bufs[i].len;
    CLEANUP_BUF struct buf header = {0}, end = {0};
    const uint64_t fields[] = {SNAPSHOT_MAGIC, SNAPSHOT_FORMAT, cluster_id, snapshot->index, snapshot->term,
                               snapshot->configuration_index, configuration.len, data};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        buf_add_u64(&header, fields[i]);
    buf_add_u64(&header, hash_bytes(header.data, header.len, SNAPSHOT_MAGIC));
    INVARIANT(header.len == SNAPSHOT_HEADER_SIZE);
    buf_add_u64(&end, body_checksum(&configuration, snapshot->bufs, snapshot->n_bufs));

    size_t n = 0;
    CLEANUP_FREE struct disk_piece *pieces = mem_array(snapshot->n_bufs + 3, sizeof pieces[0]);
    pieces[n++] = (struct disk_piece){header.data, header.len};
    pieces[n++] = (struct disk_piece){configuration.base, configuration.len};
    for (unsigned i = 0; i < snapshot->n_bufs; i++)
        pieces[n++] = (struct disk_piece){snapshot->bufs[i].base, snapshot->bufs[i].len};
    pieces[n++] = (struct disk_piece){end.data, end.len};
    char name[DISK_NAME_SIZE];
    file_name(name, &(struct snapshot_id){snapshot->index, snapshot->term});
    int rv = disk_write_file(disk, name, pieces, n);
    *bytes = header.len + configuration.len + data + end.len;
    if (rv == 0)
        remove_old(disk);
    return rv;
}

struct parsed {
    uint64_t index, term, configuration_index;
    struct raft_buffer configuration, data;   /* inside the file's bytes */
};

static int parse(const uint8_t *bytes, size_t len, uint64_t cluster_id, struct parsed *out, struct error *err)
{
    uint64_t magic, format, cluster, configuration_len, data_len, checksum;
    struct cursor c = cursor_of(bytes, len);
    if (!cursor_u64(&c, &magic) || !cursor_u64(&c, &format) || !cursor_u64(&c, &cluster) ||
        !cursor_u64(&c, &out->index) || !cursor_u64(&c, &out->term) || !cursor_u64(&c, &out->configuration_index) ||
        !cursor_u64(&c, &configuration_len) || !cursor_u64(&c, &data_len) || !cursor_u64(&c, &checksum) ||
        magic != SNAPSHOT_MAGIC || checksum != hash_bytes(bytes, SNAPSHOT_HEADER_SIZE - 8, SNAPSHOT_MAGIC))
        return error_set(err, ERROR_CORRUPT, "its header is damaged");
    if (format != SNAPSHOT_FORMAT)
        return error_set(err, ERROR_UNSUPPORTED, "it was written by a newer release (format %llu)",
                         (unsigned long long)format);
    if (cluster != cluster_id)
        return error_set(err, ERROR_CONFLICT, "it belongs to cluster %llu", (unsigned long long)cluster);
    const uint8_t *configuration, *data;
    if (!cursor_bytes(&c, configuration_len, &configuration) || !cursor_bytes(&c, data_len, &data) ||
        !cursor_u64(&c, &checksum) || cursor_left(&c))
        return error_set(err, ERROR_CORRUPT, "it has the wrong length");
    out->configuration = (struct raft_buffer){(void *)(uintptr_t)configuration, configuration_len};
    out->data = (struct raft_buffer){(void *)(uintptr_t)data, data_len};
    if (checksum != body_checksum(&out->configuration, &out->data, 1))
        return error_set(err, ERROR_CORRUPT, "its content is damaged");
    return 0;
}

static void *raft_allocate(size_t size)
{
    void *p = raft_calloc(1, size ? size : 1);
    INVARIANT(p);
    return p;
}

int snapshot_read(struct disk *disk, uint64_t cluster_id, const struct snapshot_id *id, struct raft_snapshot **out,
                  struct error *err)
{
    char name[DISK_NAME_SIZE];
    file_name(name, id);
    CLEANUP_FREE uint8_t *bytes = NULL;
    size_t len = 0;
    int rv = disk_read_file(disk, name, SNAPSHOT_LIMIT, &bytes, &len);
    if (rv < 0)
        return error_set_errno(err, -rv, "cannot read %s/%s", disk->place, name);
    struct parsed p = {0};
    rv = parse(bytes, len, cluster_id, &p, err);
    if (rv == 0 && (p.index != id->index || p.term != id->term))
        rv = error_set(err, ERROR_CORRUPT, "its name is not its own");
    struct raft_snapshot *s = NULL;
    if (rv == 0) {
        s = raft_allocate(sizeof *s);
        s->index = p.index;
        s->term = p.term;
        s->configuration_index = p.configuration_index;
        raft_configuration_init(&s->configuration);
        rv = membership_decode(p.configuration.base, p.configuration.len, &s->configuration, err);
    }
    if (rv < 0) {
        raft_free(s);
        return error_context(err, "%s/%s", disk->place, name);
    }
    s->bufs = raft_allocate(sizeof s->bufs[0]);
    s->n_bufs = 1;
    s->bufs[0] = (struct raft_buffer){raft_allocate(p.data.len), p.data.len};
    memcpy(s->bufs[0].base, p.data.base, p.data.len);
    *out = s;
    return 0;
}

void snapshot_destroy(struct raft_snapshot *snapshot)
{
    raft_configuration_close(&snapshot->configuration);
    for (unsigned i = 0; i < snapshot->n_bufs; i++)
        raft_free(snapshot->bufs[i].base);
    raft_free(snapshot->bufs);
    raft_free(snapshot);
}

int snapshot_load_newest(struct disk *disk, uint64_t cluster_id, struct raft_snapshot **out, unsigned *damaged,
                         struct error *err)
{
    *out = NULL;
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
        file_name(from, &ids[i]);
        snprintf(to, sizeof to, "%s.damaged", from);
        int rv = disk->op->rename(disk, from, to);
        if (rv < 0)
            return error_set_errno(err, -rv, "cannot rename %s/%s", disk->place, from);
    }
    return 0;
}
