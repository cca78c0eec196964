#include "consensus/metadata.h"

#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/random.h"

#define METADATA_MAGIC 0x6174654d746e4dull   /* "MntMeta" */
#define METADATA_FORMAT 1
#define METADATA_SIZE 64   /* within one sector: it is torn rarely, and the checksum sees it */

static const char *const names[] = {"meta-1", "meta-2"};

static void encode(struct buf *out, const struct metadata *m)
{
    const uint64_t fields[] = {METADATA_MAGIC, METADATA_FORMAT, m->cluster_id, m->server_id,
                               m->term, m->vote, m->generation};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        buf_add_u64(out, fields[i]);
    buf_add_u64(out, hash_bytes(out->data, out->len, METADATA_MAGIC));
    INVARIANT(out->len == METADATA_SIZE);
}

/* 1: whole, 0: missing, -1: damaged or unreadable, with err set. */
static int read_one(struct disk *disk, const char *name, struct metadata *m, struct error *err)
{
    CLEANUP_FREE uint8_t *bytes = NULL;
    size_t len = 0;
    int rv = disk_read_file(disk, name, 4096, &bytes, &len);
    if (rv == -ENOENT)
        return 0;
    if (rv < 0)
        return error_set_errno(err, -rv, "cannot read %s/%s", disk->place, name);
    uint64_t magic, format, checksum;
    struct cursor c = cursor_of(bytes, len);
    if (len != METADATA_SIZE || !cursor_u64(&c, &magic) || !cursor_u64(&c, &format) ||
        !cursor_u64(&c, &m->cluster_id) || !cursor_u64(&c, &m->server_id) || !cursor_u64(&c, &m->term) ||
        !cursor_u64(&c, &m->vote) || !cursor_u64(&c, &m->generation) || !cursor_u64(&c, &checksum) ||
        checksum != hash_bytes(bytes, METADATA_SIZE - 8, METADATA_MAGIC) || magic != METADATA_MAGIC)
        return error_set(err, ERROR_CORRUPT, "%s/%s is damaged", disk->place, name);
    if (format != METADATA_FORMAT)
        return error_set(err, ERROR_UNSUPPORTED, "%s/%s was written by a newer release (format %llu)", disk->place, name,
                         (unsigned long long)format);
    return 1;
}

/* In place where the file exists (no space is needed then), else made whole. */
static int write_one(struct disk *disk, const char *name, const struct metadata *m, struct error *err)
{
    CLEANUP_BUF struct buf bytes = {0};
    encode(&bytes, m);
    int file = disk->op->open(disk, name, false);
    int rv;
    if (file == -ENOENT) {
        rv = disk_write_file(disk, name, &(struct disk_piece){bytes.data, bytes.len}, 1);
    } else if (file < 0) {
        rv = file;
    } else {
        rv = disk->op->write(disk, file, bytes.data, bytes.len, 0);
        if (rv == 0)
            rv = disk->op->sync(disk, file);
        disk->op->close(disk, file);
    }
    return rv < 0 ? error_set_errno(err, -rv, "cannot write %s/%s", disk->place, name) : 0;
}

int metadata_load(struct disk *disk, struct metadata *m, struct error *err)
{
    struct metadata found[2] = {0};
    struct error errors[2] = {0};
    int state[2];
    for (int i = 0; i < 2; i++)
        state[i] = read_one(disk, names[i], &found[i], &errors[i]);
    *m = (struct metadata){0};
    if (state[0] <= 0 && state[1] <= 0) {
        /* A crash while the directory was made leaves a file missing, never a damaged one. */
        int bad = state[0] < 0 ? 0 : 1;
        if (state[bad] == 0)
            return 0;
        if (errors[bad].code == ERROR_CORRUPT)
            return disk_refuse(disk, err, "%s is damaged, and its copy is no better", names[bad]);
        *err = errors[bad];
        return -1;
    }
    int newer = state[0] > 0 && (state[1] <= 0 || found[0].generation >= found[1].generation) ? 0 : 1;
    *m = found[newer];
    if (state[0] > 0 && state[1] > 0 && found[0].generation == found[1].generation)
        return 0;
    if (state[!newer] < 0) {
        if (errors[!newer].code != ERROR_CORRUPT) {
            *err = errors[!newer];
            return -1;
        }
        LOG_W("repairing a file of the metadata from its copy", "file", names[!newer], "why", errors[!newer].text);
    }
    return write_one(disk, names[!newer], m, err);
}

int metadata_store(struct disk *disk, struct metadata *m, struct error *err)
{
    m->generation++;
    for (int i = 0; i < 2; i++)
        if (write_one(disk, names[i], m, err) < 0)
            return -1;
    return 0;
}
