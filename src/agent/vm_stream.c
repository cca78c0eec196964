#include "agent/vm_stream.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/mem.h"

#define IN_SIZE (256 * 1024)
#define GZIP_WINDOW (15 + 16)        /* zlib's way to ask for gzip */

enum packing { PLAIN, GZIP, ZSTD };

struct stream_in {
    int fd;
    int64_t at, end;
    int64_t *budget;
    enum packing packing;
    bool member_over;                /* gzip, zstd: between two members */
    z_stream gzip;
    ZSTD_DStream *zstd;
    uint8_t in[IN_SIZE];
    size_t in_at, in_n;
    EVP_MD_CTX *packed, *unpacked;
};

static ssize_t fill(struct stream_in *s, struct error *err)
{
    if (s->in_at < s->in_n)
        return (ssize_t)(s->in_n - s->in_at);
    size_t want = s->end - s->at < IN_SIZE ? (size_t)(s->end - s->at) : IN_SIZE;
    ssize_t n = want ? pread(s->fd, s->in, want, s->at) : 0;
    if (n < 0)
        return error_set_errno(err, errno, "cannot read it");
    if (want && !n)
        return error_set(err, ERROR_INVALID, "it is cut off");
    EVP_DigestUpdate(s->packed, s->in, (size_t)n);
    s->at += n;
    s->in_at = 0;
    s->in_n = (size_t)n;
    return n;
}

struct stream_in *stream_in_open(int fd, int64_t offset, int64_t size, int64_t *budget)
{
    struct stream_in *s = NEW(struct stream_in);
    uint8_t head[4] = {0};
    s->fd = fd;
    s->at = offset;
    s->end = offset + size;
    s->budget = budget;
    s->member_over = true;
    if (size >= 4 && pread(fd, head, sizeof head, offset) == sizeof head)
        s->packing = head[0] == 0x1f && head[1] == 0x8b ? GZIP : memcmp(head, "\x28\xb5\x2f\xfd", 4) == 0 ? ZSTD : PLAIN;
    if (s->packing == GZIP)
        INVARIANT(inflateInit2(&s->gzip, GZIP_WINDOW) == Z_OK);
    if (s->packing == ZSTD)
        INVARIANT((s->zstd = ZSTD_createDStream()) != NULL);
    EVP_MD_CTX **digests[] = {&s->packed, &s->unpacked};
    for (size_t i = 0; i < ARRAY_LEN(digests); i++) {
        *digests[i] = EVP_MD_CTX_new();
        INVARIANT(*digests[i] && EVP_DigestInit_ex(*digests[i], EVP_sha256(), NULL) == 1);
    }
    return s;
}

void stream_in_close(struct stream_in *s)
{
    if (!s)
        return;
    if (s->packing == GZIP)
        inflateEnd(&s->gzip);
    ZSTD_freeDStream(s->zstd);
    EVP_MD_CTX_free(s->packed);
    EVP_MD_CTX_free(s->unpacked);
    free(s);
}

static ssize_t read_plain(struct stream_in *s, void *bytes, size_t n, struct error *err)
{
    ssize_t have = fill(s, err);
    if (have <= 0)
        return have;
    if ((size_t)have < n)
        n = (size_t)have;
    memcpy(bytes, s->in + s->in_at, n);
    s->in_at += n;
    return (ssize_t)n;
}

static ssize_t read_gzip(struct stream_in *s, void *bytes, size_t n, struct error *err)
{
    s->gzip.next_out = bytes;
    s->gzip.avail_out = (unsigned)(n > 1u << 30 ? 1u << 30 : n);
    unsigned wanted = s->gzip.avail_out;
    while (s->gzip.avail_out == wanted) {
        ssize_t have = fill(s, err);
        if (have < 0)
            return -1;
        if (have == 0)
            return s->member_over ? 0 : error_set(err, ERROR_INVALID, "its gzip data is cut off");
        /* Members may follow each other; zeros behind the last one are padding. */
        if (s->member_over && s->in[s->in_at] == 0) {
            s->in_at++;
            continue;
        }
        s->member_over = false;
        s->gzip.next_in = s->in + s->in_at;
        s->gzip.avail_in = (unsigned)have;
        int rc = inflate(&s->gzip, Z_NO_FLUSH);
        s->in_at = s->in_n - s->gzip.avail_in;
        if (rc == Z_STREAM_END) {
            s->member_over = true;
            inflateReset(&s->gzip);
        } else if (rc != Z_OK && rc != Z_BUF_ERROR) {
            return error_set(err, ERROR_INVALID, "its gzip data is damaged");
        }
    }
    return (ssize_t)(wanted - s->gzip.avail_out);
}

static ssize_t read_zstd(struct stream_in *s, void *bytes, size_t n, struct error *err)
{
    ZSTD_outBuffer out = {.dst = bytes, .size = n};
    while (out.pos == 0) {
        ssize_t have = fill(s, err);
        if (have < 0)
            return -1;
        if (have == 0 && s->member_over)
            return 0;
        ZSTD_inBuffer in = {.src = s->in + s->in_at, .size = (size_t)have};
        size_t rc = ZSTD_decompressStream(s->zstd, &out, &in);
        if (ZSTD_isError(rc))
            return error_set(err, ERROR_INVALID, "its zstd data is damaged");
        s->in_at += in.pos;
        s->member_over = rc == 0;
        if (have == 0 && out.pos == 0 && rc)
            return error_set(err, ERROR_INVALID, "its zstd data is cut off");
    }
    return (ssize_t)out.pos;
}

ssize_t stream_in_read(struct stream_in *s, void *bytes, size_t n, struct error *err)
{
    ssize_t got = !n ? 0 : s->packing == GZIP ? read_gzip(s, bytes, n, err) : s->packing == ZSTD ? read_zstd(s, bytes, n, err)
                : read_plain(s, bytes, n, err);
    if (got <= 0)
        return got;
    EVP_DigestUpdate(s->unpacked, bytes, (size_t)got);
    *s->budget -= got;
    if (*s->budget < 0)
        return error_set(err, ERROR_TOO_LARGE, "it unpacks to more than firecracker.image_max_mb of agent.yaml allows");
    return got;
}

void digest_format(EVP_MD_CTX *c, char out[static SHA256_TEXT_SIZE])
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    EVP_DigestFinal_ex(c, digest, NULL);
    for (int i = 0; i < 32; i++) {
        out[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    out[SHA256_TEXT_SIZE - 1] = 0;
}

int stream_in_finish(struct stream_in *s, char packed[static SHA256_TEXT_SIZE], char unpacked[static SHA256_TEXT_SIZE],
                     struct error *err)
{
    CLEANUP_FREE char *bytes = mem_alloc(IN_SIZE);
    ssize_t n;
    while ((n = stream_in_read(s, bytes, IN_SIZE, err)) > 0)
        ;
    if (n < 0)
        return -1;
    /* What lies behind the packed data belongs to the blob all the same. */
    while ((n = fill(s, err)) > 0)
        s->in_at = s->in_n;
    if (n < 0)
        return -1;
    digest_format(s->packed, packed);
    digest_format(s->unpacked, unpacked);
    return 0;
}
