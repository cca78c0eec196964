/* A frame: length of the content and kind (32 bits each), checksum of these and the content (64 bits), content.
 * A greeting: magic, protocol, cluster, from, to, version of commands, flags, address, release. Little endian. */
#include "consensus/wire.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "base/random.h"

#define MAGIC 0x74666152746e4dull     /* "MntRaft" */

static uint64_t checksum(uint32_t len, uint32_t kind, const void *content)
{
    return hash_bytes(len ? content : "", len, MAGIC ^ ((uint64_t)kind << 32 | len));
}

void wire_frame(struct buf *out, enum wire_kind kind, const void *content, size_t len)
{
    buf_add_u32(out, (uint32_t)len);
    buf_add_u32(out, (uint32_t)kind);
    buf_add_u64(out, checksum((uint32_t)len, (uint32_t)kind, content));
}

enum wire_result wire_next(const void *bytes, size_t len, size_t limit, enum wire_kind *kind, const uint8_t **content,
                           size_t *content_len, struct error *err)
{
    struct cursor c = cursor_of(bytes, len);
    uint32_t n, k;
    uint64_t sum;
    if (!cursor_u32(&c, &n) || !cursor_u32(&c, &k) || !cursor_u64(&c, &sum))
        return WIRE_MORE;
    if (k < WIRE_HELLO || k > WIRE_PONG) {
        const uint8_t *b = bytes;
        bool tls = (b[0] == 0x15 || b[0] == 0x16) && b[1] == 3;     /* an alert, or a hello */
        error_set(err, ERROR_INVALID, tls ? "the peer speaks TLS, and this server has none: set tls_cert, tls_key and tls_ca "
                  "on all servers or on none" : "this is not the protocol of mentat servers");
        return WIRE_BROKEN;
    }
    if (n > limit) {
        error_set(err, ERROR_TOO_LARGE, "a frame of %u bytes is more than the %zu that are allowed here", n, limit);
        return WIRE_BROKEN;
    }
    if (!cursor_bytes(&c, n, content))
        return WIRE_MORE;
    if (checksum(n, k, *content) != sum) {
        error_set(err, ERROR_CORRUPT, "a frame is damaged");
        return WIRE_BROKEN;
    }
    *kind = (enum wire_kind)k;
    *content_len = n;
    return WIRE_FRAME;
}

static void put_text(struct buf *out, const char *text)
{
    buf_add_varint(out, strlen(text));
    buf_add_string(out, text);
}

static bool get_text(struct cursor *c, char *out, size_t size)
{
    uint64_t len;
    const uint8_t *bytes;
    if (!cursor_varint(c, &len) || len >= size || !cursor_bytes(c, (size_t)len, &bytes))
        return false;
    for (size_t i = 0; i < len; i++)
        if (bytes[i] < ' ' || bytes[i] > '~')
            return false;
    memcpy(out, bytes, (size_t)len);
    out[len] = '\0';
    return true;
}

void wire_put_greeting(struct buf *out, const struct wire_greeting *g)
{
    buf_add_u64(out, MAGIC);
    buf_add_u32(out, WIRE_PROTOCOL);
    buf_add_u64(out, g->cluster_id);
    buf_add_u64(out, g->from);
    buf_add_u64(out, g->to);
    buf_add_u32(out, g->command_version);
    buf_add_u8(out, g->knows_you);
    put_text(out, g->address);
    put_text(out, g->release);
}

int wire_get_greeting(const void *bytes, size_t len, struct wire_greeting *g, struct error *err)
{
    struct cursor c = cursor_of(bytes, len);
    uint64_t magic;
    uint32_t protocol;
    uint8_t flags;
    *g = (struct wire_greeting){0};
    if (!cursor_u64(&c, &magic) || magic != MAGIC || !cursor_u32(&c, &protocol))
        return error_set(err, ERROR_INVALID, "this is not the greeting of a mentat server");
    if (protocol != WIRE_PROTOCOL)
        return error_set(err, ERROR_UNSUPPORTED, "protocol %u is not spoken here, but %u: update the older of the two "
                         "servers", protocol, WIRE_PROTOCOL);
    /* Behind what is read here, a later release may have more to say. */
    if (!cursor_u64(&c, &g->cluster_id) || !cursor_u64(&c, &g->from) || !cursor_u64(&c, &g->to) ||
        !cursor_u32(&c, &g->command_version) || !cursor_u8(&c, &flags) ||
        !get_text(&c, g->address, sizeof g->address) || !get_text(&c, g->release, sizeof g->release) || !g->from)
        return error_set(err, ERROR_INVALID, "a malformed greeting");
    g->knows_you = flags & 1;
    return 0;
}
