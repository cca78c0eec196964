/* What a guest sends, and what it is given: any bytes are taken; what a guest sends is all frames or noise, in whatever
 * pieces it comes; a drive that is accepted can be written and reads back as the same. The first byte chooses. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "guest/drive.h"
#include "guest/frame.h"

struct seen { struct buf bytes; size_t frames; };

static void on_frame(void *arg, const struct frame *f)
{
    struct seen *s = arg;
    uint8_t bytes[FRAME_MAX];
    INVARIANT(f->n <= FRAME_DATA_MAX);
    buf_add(&s->bytes, bytes, frame_encode(f, bytes));
    s->frames++;
}

static void on_noise(void *arg, const void *bytes, size_t n)
{
    buf_add(&((struct seen *)arg)->bytes, bytes, n);
}

static void check_frames(const uint8_t *data, size_t size)
{
    static const struct frame_events events = {.frame = on_frame, .noise = on_noise};
    static struct frame_reader whole, cut;
    struct seen a = {0}, b = {0};
    whole.n = cut.n = 0;
    size_t step = size ? data[0] % 64 + 1u : 1;
    frame_read(&whole, data, size, &events, &a);
    for (size_t at = 0; at < size; at += step)
        frame_read(&cut, data + at, size - at < step ? size - at : step, &events, &b);
    buf_add(&a.bytes, whole.bytes, whole.n);
    buf_add(&b.bytes, cut.bytes, cut.n);
    INVARIANT(a.frames == b.frames && a.bytes.len == size && b.bytes.len == size);
    INVARIANT(!size || (!memcmp(a.bytes.data, data, size) && !memcmp(b.bytes.data, data, size)));
    buf_free(&a.bytes);
    buf_free(&b.bytes);
}

static void check_drive(const uint8_t *data, size_t size)
{
    /* So that what is inside is reached: with the checksum that it should have. */
    CLEANUP_FREE uint8_t *bytes = mem_dup(data, size);
    if (size >= 20 && size - 20 < UINT32_MAX) {
        frame_put_u32(bytes + 12, (uint32_t)(size - 20));
        frame_put_u32(bytes + 16, frame_crc(0, bytes + 20, size - 20));
    }
    struct drive d, again;
    if (drive_decode(bytes, size, &d))
        return;
    size_t n = drive_encode(&d, NULL, 0);
    CLEANUP_FREE uint8_t *first = mem_alloc(n), *second = mem_alloc(n);
    INVARIANT(drive_encode(&d, first, n) == n && !drive_decode(first, n, &again) && drive_encode(&again, second, n) == n);
    INVARIANT(!memcmp(first, second, n));
    drive_clear(&d);
    drive_clear(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size && data[0] % 2)
        check_frames(data + 1, size - 1);
    else if (size)
        check_drive(data + 1, size - 1);
    return 0;
}
