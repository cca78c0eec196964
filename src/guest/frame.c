#include "guest/frame.h"

#include <string.h>

static const uint8_t mark[4] = {0xf5, 'M', 'T', 0x01};
enum { AT_KIND = 4, AT_STREAM = 5, AT_LENGTH = 6, AT_ID = 8, AT_CRC = 12 };

void frame_put_u32(uint8_t *out, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(v >> (8 * i));
}

uint32_t frame_get_u32(const uint8_t *in)
{
    return (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

uint32_t frame_u32(const struct frame *f, unsigned i)
{
    return f->n >= 4 * ((size_t)i + 1) ? frame_get_u32(f->data + 4 * (size_t)i) : 0;
}

/* Half a byte at a time: a guest's memory is dear, and a constant table needs no first time. */
uint32_t frame_crc(uint32_t crc, const void *bytes, size_t n)
{
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    crc = ~crc;
    for (const uint8_t *p = bytes; n--; p++) {
        crc ^= *p;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

static uint32_t checksum(const uint8_t *header, const uint8_t *data, size_t n)
{
    return frame_crc(frame_crc(0, header + AT_KIND, AT_CRC - AT_KIND), data, n);
}

size_t frame_encode(const struct frame *f, uint8_t out[static FRAME_MAX])
{
    memcpy(out, mark, sizeof mark);
    out[AT_KIND] = f->kind;
    out[AT_STREAM] = f->stream;
    out[AT_LENGTH] = (uint8_t)f->n;
    out[AT_LENGTH + 1] = (uint8_t)(f->n >> 8);
    frame_put_u32(out + AT_ID, f->id);
    if (f->n)
        memmove(out + FRAME_HEADER, f->data, f->n);
    frame_put_u32(out + AT_CRC, checksum(out, out + FRAME_HEADER, f->n));
    return FRAME_HEADER + f->n;
}

/* How much of what is there is no frame: up to the next byte at which one may begin. */
static size_t noise_length(const struct frame_reader *r)
{
    for (size_t at = 0; at < r->n; at++) {
        size_t have = r->n - at;
        if (memcmp(r->bytes + at, mark, have < sizeof mark ? have : sizeof mark) == 0)
            return at;
    }
    return r->n;
}

static void drop(struct frame_reader *r, size_t n)
{
    memmove(r->bytes, r->bytes + n, r->n - n);
    r->n -= n;
}

static void noise(struct frame_reader *r, size_t n, const struct frame_events *events, void *arg)
{
    if (events->noise)
        events->noise(arg, r->bytes, n);
    drop(r, n);
}

/* Takes one step; returns false when more bytes are needed for the next. */
static int step(struct frame_reader *r, const struct frame_events *events, void *arg)
{
    size_t n = noise_length(r);
    if (n) {
        noise(r, n, events, arg);
        return 1;
    }
    if (r->n < FRAME_HEADER)
        return 0;
    size_t length = (size_t)r->bytes[AT_LENGTH] | (size_t)r->bytes[AT_LENGTH + 1] << 8;
    if (length > FRAME_DATA_MAX) {
        noise(r, 1, events, arg);
        return 1;
    }
    if (r->n < FRAME_HEADER + length)
        return 0;
    struct frame f = {.kind = r->bytes[AT_KIND], .stream = r->bytes[AT_STREAM], .id = frame_get_u32(r->bytes + AT_ID),
                      .data = r->bytes + FRAME_HEADER, .n = length};
    if (checksum(r->bytes, f.data, length) != frame_get_u32(r->bytes + AT_CRC)) {
        noise(r, 1, events, arg);
        return 1;
    }
    events->frame(arg, &f);
    drop(r, FRAME_HEADER + length);
    return 1;
}

void frame_read(struct frame_reader *r, const void *bytes, size_t n, const struct frame_events *events, void *arg)
{
    const uint8_t *p = bytes;
    while (n) {
        size_t take = FRAME_MAX - r->n;
        if (take > n)
            take = n;
        memcpy(r->bytes + r->n, p, take);
        r->n += take;
        p += take;
        n -= take;
        while (r->n && step(r, events, arg))
            ;
    }
}
