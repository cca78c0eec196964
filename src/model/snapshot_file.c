#include "model/snapshot_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/random.h"
#include "model/table.h"

#define LINE "MENTAT SNAPSHOT "
#define VERSION '1'
#define START (sizeof LINE - 1 + 2)    /* the line, the version's digit, its end */
#define HEAD_MOST 65536u
#define HASH_BYTES 8

static const struct field snapshot_info_fields[] = {
    TIME(snapshot_info, taken_at, 1, .help = "When it was taken."),
    UINT(snapshot_info, index, 2, .help = "Index of the last change that it holds."),
    STRING(snapshot_info, cluster_id, 3, .help = "The cluster that it was taken of."),
    STRING(snapshot_info, server, 4, .help = "Name of the server that took it."),
    STRING(snapshot_info, version, 5, .help = "Release of that server."),
    STRING(snapshot_info, state_hash, 6, .help = "Running hash of all that was applied until then."),
    INT(snapshot_info, nodes, 7, .help = "Nodes in it."),
    INT(snapshot_info, services, 8, .help = "Services in it."),
    INT(snapshot_info, allocs, 9, .help = "Allocations in it, ended ones too."),
    UINT(snapshot_info, state_bytes, 10, .help = "Size of the state."),
    {0},
};
TABLE(snapshot_info, snapshot_info_fields, "What a snapshot holds.");

void snapshot_file_write(const struct snapshot_info *info, const void *state, size_t len, struct buf *out)
{
    CLEANUP_BUF struct buf head = {0};
    size_t begin = out->len;
    type_to_json(&snapshot_info_type, info, &head);
    buf_printf(out, LINE "%c\n", VERSION);
    buf_add_u32(out, (uint32_t)head.len);
    buf_add(out, head.data, head.len);
    buf_add_u64(out, len);
    buf_add(out, state, len);
    buf_add_u64(out, hash_bytes(out->data + begin, out->len - begin, 0));
}

static int read_start(struct cursor *in, struct error *err)
{
    const uint8_t *line;
    if (!cursor_bytes(in, START, &line) || memcmp(line, LINE, sizeof LINE - 1))
        return error_set(err, ERROR_INVALID, "this is not a snapshot that `mt snapshot save` wrote");
    if (line[START - 2] != VERSION || line[START - 1] != '\n')
        return error_set(err, ERROR_UNSUPPORTED, "this snapshot was written by a later release; use that one to read it");
    return 0;
}

static int read_head(struct cursor *in, struct snapshot_info *info, struct error *err)
{
    uint32_t n;
    const uint8_t *text;
    struct problem_list problems = {0};
    bool ok = cursor_u32(in, &n) && n <= HEAD_MOST && n <= cursor_left(in) && cursor_bytes(in, n, &text) &&
              type_from_json(&snapshot_info_type, (const char *)text, n, true, info, &problems) == 0;
    problem_list_clear(&problems);
    return ok ? 0 : error_set(err, ERROR_CORRUPT, "the head of the snapshot is damaged");
}

int snapshot_file_read(const void *bytes, size_t len, struct snapshot_info *info, const void **state, size_t *state_len,
                       struct error *err)
{
    struct cursor in = cursor_of(bytes, len);
    uint64_t n, hash;
    const uint8_t *p;
    *info = (struct snapshot_info){0};
    if (read_start(&in, err))
        return -1;
    /* The hash first: nothing of a damaged file is looked at. */
    struct cursor end = {.p = in.end - HASH_BYTES, .end = in.end};
    if (cursor_left(&in) < HASH_BYTES || !cursor_u64(&end, &hash) || hash != hash_bytes(bytes, len - HASH_BYTES, 0))
        return error_set(err, ERROR_CORRUPT, "the snapshot is damaged, or was cut: its checksum does not fit");
    if (read_head(&in, info, err))
        return -1;
    if (!cursor_u64(&in, &n) || n != cursor_left(&in) - HASH_BYTES || !cursor_bytes(&in, n, &p)) {
        type_clear(&snapshot_info_type, info);
        return error_set(err, ERROR_CORRUPT, "the snapshot is damaged: its sizes do not fit");
    }
    *state = p;
    *state_len = n;
    return 0;
}

int snapshot_file_head(const char *path, struct snapshot_info *info, struct error *err)
{
    CLEANUP_BUF struct buf bytes = {0};
    *info = (struct snapshot_info){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "%s", path);
    buf_reserve(&bytes, START + 4 + HEAD_MOST);
    ssize_t n = read(fd, bytes.data, START + 4 + HEAD_MOST);
    int failure = errno;
    close(fd);
    if (n < 0)
        return error_set_errno(err, failure, "%s", path);
    struct cursor in = cursor_of(bytes.data, (size_t)n);
    return read_start(&in, err) || read_head(&in, info, err) ? error_context(err, "%s", path) : 0;
}
