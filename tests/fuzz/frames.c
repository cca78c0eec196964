/* The engine's frames: any bytes, in any pieces, give the same output, and never more than came in. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "agent/drivers/docker_frames.h"
#include "base/buf.h"

struct seen {
    struct buf bytes[4];             /* by stream */
    size_t frames;
    bool in_frame;
    int stream;
};

static bool on_piece(void *arg, const struct frame_piece *p)
{
    struct seen *s = arg;
    if (p->stream < FRAME_STDOUT || p->stream > FRAME_ENGINE)
        abort();
    if (s->in_frame && p->stream != s->stream)       /* a frame is whole before the next one begins */
        abort();
    s->in_frame = !p->last;
    s->stream = p->stream;
    s->frames += p->last;
    buf_add(&s->bytes[p->stream], p->data, p->len);
    return true;
}

/* Pieces of `step` bytes; 0: all at once. */
static int run(const uint8_t *data, size_t size, size_t step, struct seen *s)
{
    struct frames f = {0};
    int result = 0;
    for (size_t at = 0; at < size && result == 0;) {
        size_t n = step && step < size - at ? step : size - at;
        result = frames_feed(&f, (const char *)data + at, n, on_piece, s, NULL);
        at += n;
    }
    if (result < 0 && frames_feed(&f, "x", 1, on_piece, s, NULL) == 0)       /* broken stays broken */
        abort();
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    struct seen whole = {0}, cut = {0};
    int a = run(data + 1, size - 1, 0, &whole), b = run(data + 1, size - 1, data[0], &cut);
    size_t total = 0;
    if (a != b || whole.frames != cut.frames)
        abort();
    for (int i = 0; i < 4; i++) {
        total += whole.bytes[i].len;
        if (whole.bytes[i].len != cut.bytes[i].len ||
            (whole.bytes[i].len && memcmp(whole.bytes[i].data, cut.bytes[i].data, whole.bytes[i].len)))
            abort();
        buf_free(&whole.bytes[i]);
        buf_free(&cut.bytes[i]);
    }
    if (total + 8 * whole.frames > size - 1)
        abort();
    return 0;
}
