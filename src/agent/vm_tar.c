#include "agent/vm_tar.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define BLOCK 512
#define TEXT_MAX 65536               /* of a pax header or a long name */
#define PATH_MAX_BYTES 4000

static int read_whole(struct tar_in *t, void *bytes, size_t n, struct error *err)
{
    size_t have = 0;
    while (have < n) {
        ssize_t got = stream_in_read(t->in, (char *)bytes + have, n - have, err);
        if (got < 0)
            return -1;
        if (got == 0)
            return have ? error_set(err, ERROR_INVALID, "the tar archive is cut off") : 0;
        have += (size_t)got;
    }
    t->at += n;
    return 1;
}

static int skip(struct tar_in *t, uint64_t n, struct error *err)
{
    char bytes[16384];
    while (n) {
        size_t take = n < sizeof bytes ? (size_t)n : sizeof bytes;
        int rc = read_whole(t, bytes, take, err);
        if (rc <= 0)
            return rc < 0 ? -1 : error_set(err, ERROR_INVALID, "the tar archive is cut off");
        n -= take;
    }
    return 0;
}

/* Octal, or binary when the highest bit is set. */
static bool number(const char *field, size_t size, uint64_t *out)
{
    *out = 0;
    if (field[0] & 0x80) {
        if (field[0] & 0x7f)
            return false;
        for (size_t i = 1; i < size; i++) {
            if (*out >> 55)
                return false;
            *out = *out << 8 | (uint8_t)field[i];
        }
        return true;
    }
    size_t i = 0;
    while (i < size && field[i] == ' ')
        i++;
    for (; i < size && field[i] >= '0' && field[i] <= '7'; i++)
        *out = *out << 3 | (uint64_t)(field[i] - '0');
    return i == size || !field[i] || field[i] == ' ';
}

static bool checksum_fits(const char *h)
{
    uint64_t wanted;
    unsigned sum = 0;
    for (int i = 0; i < BLOCK; i++)
        sum += i >= 148 && i < 156 ? ' ' : (uint8_t)h[i];
    return number(h + 148, 8, &wanted) && wanted == sum;
}

static int text_read(struct tar_in *t, uint64_t size, struct buf *out, struct error *err)
{
    if (size > TEXT_MAX)
        return error_set(err, ERROR_INVALID, "a name in the tar archive is too long");
    buf_clear(out);
    CLEANUP_FREE char *bytes = mem_alloc(size + BLOCK);
    uint64_t whole = (size + BLOCK - 1) / BLOCK * BLOCK;
    if (whole && read_whole(t, bytes, whole, err) <= 0)
        return err->code ? -1 : error_set(err, ERROR_INVALID, "the tar archive is cut off");
    buf_add(out, bytes, size);
    return 0;
}

/* Records "LENGTH key=value\n"; size is changed when one says so. */
static int pax_take(const struct buf *text, struct buf *path, struct buf *link, uint64_t *size, bool *has_size, struct error *err)
{
    const char *p = text->data, *end = text->data + text->len;
    while (p && p < end) {
        char *rest;
        unsigned long n = strtoul(p, &rest, 10);
        const char *equals = *rest == ' ' ? memchr(rest, '=', (size_t)(end - rest)) : NULL;
        if (!equals || n > (size_t)(end - p) || p + n <= equals + 1 || p[n - 1] != '\n')
            return error_set(err, ERROR_INVALID, "a pax header in the tar archive is damaged");
        const char *key = rest + 1, *value = equals + 1;
        size_t key_n = (size_t)(equals - key), value_n = (size_t)(p + n - 1 - value);
        struct buf *to = key_n == 4 && !memcmp(key, "path", 4) ? path : key_n == 8 && !memcmp(key, "linkpath", 8) ? link : NULL;
        if (to) {
            buf_clear(to);
            buf_add(to, value, value_n);
        } else if (key_n == 4 && !memcmp(key, "size", 4)) {
            *size = strtoull(value, NULL, 10);
            *has_size = true;
        } else if (key_n > 11 && !memcmp(key, "GNU.sparse.", 11)) {
            return error_set(err, ERROR_INVALID, "the tar archive has sparse files; make it without");
        }
        p += n;
    }
    return 0;
}

/* In place. `climb_root`: where a link may start to climb from; its depth. Returns -1 when it leaves the root. */
static int path_clean(struct buf *path, const char *what, struct error *err)
{
    CLEANUP_FREE char *text = mem_strndup(path->data ? path->data : "", path->len);
    char *rest = NULL;
    if (strlen(text) != path->len || path->len > PATH_MAX_BYTES)
        return error_set(err, ERROR_INVALID, "%s in the archive is no path", what);
    buf_clear(path);
    CLEANUP_FREE char *parts = mem_strdup(text);
    for (char *part = strtok_r(parts, "/", &rest); part; part = strtok_r(NULL, "/", &rest)) {
        if (!strcmp(part, "."))
            continue;
        if (!strcmp(part, ".."))
            return error_set(err, ERROR_INVALID, "%s `%.200s` in the archive climbs with ..", what, text);
        buf_printf(path, "%s%s", path->len ? "/" : "", part);
    }
    buf_add(path, "", 0);
    return 0;
}

/* A symbolic link may be absolute: it is followed in the guest, whose root is this one. */
static int symlink_check(const char *path, const char *target, struct error *err)
{
    long depth = 0;
    for (const char *p = path; (p = strchr(p, '/')); p++)
        depth++;
    if (target[0] == '/')
        depth = 0;
    CLEANUP_FREE char *parts = mem_strdup(target);
    char *rest = NULL;
    for (char *part = strtok_r(parts, "/", &rest); part; part = strtok_r(NULL, "/", &rest)) {
        depth += !strcmp(part, "..") ? -1 : strcmp(part, ".") != 0;
        if (depth < 0)
            return error_set(err, ERROR_INVALID, "the link `%.100s` in the archive leaves the root: %.200s", path, target);
    }
    return 0;
}

static int entry_check(struct tar_in *t, struct tar_entry *e, struct error *err)
{
    CLEANUP_FREE char *shown = mem_strndup(t->path.data ? t->path.data : "", t->path.len);
    switch (e->type) {
    case '0': case '5': case '1': case '2':
        break;
    case '3': case '4':
        return error_set(err, ERROR_INVALID, "`%.200s` in the archive is a device; a guest makes its own", shown);
    case '6':
        return error_set(err, ERROR_INVALID, "`%.200s` in the archive is a pipe; a guest makes its own", shown);
    case 'S':
        return error_set(err, ERROR_INVALID, "the tar archive has sparse files; make it without");
    default:
        return error_set(err, ERROR_INVALID, "`%.200s` in the archive is of the unknown kind %d", shown, e->type);
    }
    if (path_clean(&t->path, "the path", err) < 0 || (e->type == '1' && path_clean(&t->link, "the target of a link", err) < 0))
        return -1;
    e->path = t->path.data ? t->path.data : "";
    e->link = e->type == '1' || e->type == '2' ? (t->link.data ? t->link.data : "") : NULL;
    if (e->link && (!*e->link || strlen(e->link) != t->link.len))
        return error_set(err, ERROR_INVALID, "the link `%.200s` in the archive leads nowhere", e->path);
    if (e->type == '2')
        return symlink_check(e->path, e->link, err);
    return 0;
}

static void name_from_header(const char *h, struct buf *out)
{
    char name[101], prefix[156];
    snprintf(name, sizeof name, "%.100s", h);
    snprintf(prefix, sizeof prefix, "%.155s", h + 345);
    /* GNU's header has other things where ustar has the prefix. */
    bool ustar = memcmp(h + 257, "ustar\0", 6) == 0;
    buf_printf(out, "%s%s%s", ustar ? prefix : "", ustar && *prefix ? "/" : "", name);
}

int tar_in_next(struct tar_in *t, struct tar_entry *e, struct error *err)
{
    CLEANUP_BUF struct buf text = {0};
    uint64_t size = 0, pax_size = 0;
    bool has_size = false;
    err->code = ERROR_NONE;
    if (skip(t, t->left + t->padding, err) < 0)
        return -1;
    t->left = t->padding = 0;
    buf_clear(&t->path);
    buf_clear(&t->link);
    for (;;) {
        char h[BLOCK];
        static const char zeros[BLOCK];
        int rc = read_whole(t, h, sizeof h, err);
        if (rc <= 0 || memcmp(h, zeros, BLOCK) == 0)
            return rc < 0 ? -1 : 0;
        uint64_t mode, uid, gid, mtime;
        if (!checksum_fits(h) || !number(h + 124, 12, &size) || !number(h + 100, 8, &mode) || !number(h + 108, 8, &uid) ||
            !number(h + 116, 8, &gid) || !number(h + 136, 12, &mtime))
            return error_set(err, ERROR_INVALID, "the tar archive is damaged");
        char type = h[156];
        if (type == 'x' || type == 'L' || type == 'K') {
            struct buf *to = type == 'L' ? &t->path : type == 'K' ? &t->link : &text;
            if (text_read(t, size, to, err) < 0)
                return -1;
            if (type == 'x' && pax_take(&text, &t->path, &t->link, &pax_size, &has_size, err) < 0)
                return -1;
            if (type != 'x')
                to->len = strlen(to->data ? to->data : "");
            continue;
        }
        if (type == 'g') {
            if (text_read(t, size, &text, err) < 0)
                return -1;
            continue;
        }
        if (!t->path.len)
            name_from_header(h, &t->path);
        if (!t->link.len)
            buf_printf(&t->link, "%.100s", h + 157);
        type = !type || type == '7' ? '0' : type;
        if (type == '0' && t->path.len && t->path.data[t->path.len - 1] == '/')
            type = '5';
        if (has_size)
            size = pax_size;
        *e = (struct tar_entry){.type = type, .mode = (mode_t)(mode & 07777), .uid = (uid_t)uid, .gid = (gid_t)gid,
                                .mtime = (int64_t)mtime, .size = type == '0' ? size : 0};
        t->left = type == '0' || type == '5' ? size : 0;
        if (t->left > INT64_MAX / 2)
            return error_set(err, ERROR_INVALID, "the tar archive is damaged");
        t->padding = t->left % BLOCK ? BLOCK - t->left % BLOCK : 0;
        t->offset = t->at;
        return entry_check(t, e, err) < 0 ? -1 : 1;
    }
}

ssize_t tar_in_read(struct tar_in *t, void *bytes, size_t n, struct error *err)
{
    if (n > t->left)
        n = (size_t)t->left;
    if (!n)
        return 0;
    ssize_t got = stream_in_read(t->in, bytes, n, err);
    if (got == 0)
        return error_set(err, ERROR_INVALID, "the tar archive is cut off");
    if (got > 0) {
        t->left -= (uint64_t)got;
        t->at += (uint64_t)got;
    }
    return got;
}

void tar_in_clear(struct tar_in *t)
{
    buf_free(&t->path);
    buf_free(&t->link);
}
