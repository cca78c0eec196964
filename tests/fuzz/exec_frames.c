/* Frames of a command's connection: any bytes, in any pieces, give the same frames; a frame that is written is read. */
#include "fuzz.h"

#include <string.h>

#include "base/error.h"
#include "net/exec_frames.h"

enum { LIMIT = 300, END_CHANNEL = 9 };

/* What came is written again: the end is part of it. */
static bool on_frame(void *arg, uint8_t channel, const uint8_t *p, size_t n)
{
    exec_frame_add(arg, channel, p, n);
    return channel != END_CHANNEL;
}

/* Pieces of `step` bytes; 0: all at once. */
static int run(const uint8_t *data, size_t size, size_t step, struct buf *seen)
{
    struct exec_frames f = {0};
    struct error err = {0};
    int rc = 0;
    for (size_t at = 0; at < size && !rc;) {
        size_t n = step && step < size - at ? step : size - at;
        rc = exec_frames_feed(&f, (const char *)data + at, n, LIMIT, on_frame, seen, &err);
        at += n;
    }
    INVARIANT((rc < 0) == (*err.text != '\0'));
    exec_frames_clear(&f);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    CLEANUP_BUF struct buf whole = {0}, cut = {0};
    int rc = run(data + 1, size - 1, 0, &whole);
    INVARIANT(run(data + 1, size - 1, data[0], &cut) == rc);
    INVARIANT(whole.len == cut.len && (!whole.len || !memcmp(whole.data, cut.data, whole.len)));
    /* The frames are the input's beginning, byte for byte. */
    INVARIANT(whole.len <= size - 1 && (!whole.len || !memcmp(whole.data, data + 1, whole.len)));
    return 0;
}
