#include "net/exec_frames.h"

#include <arpa/inet.h>
#include <string.h>

#define HEAD 5

void exec_frame_add(struct buf *out, enum exec_channel channel, const void *p, size_t n)
{
    uint32_t len = htonl((uint32_t)n);
    buf_add_u8(out, (uint8_t)channel);
    buf_add(out, &len, sizeof len);
    buf_add(out, p, n);
}

void exec_frames_clear(struct exec_frames *f)
{
    buf_free(&f->in);
}

int exec_frames_feed(struct exec_frames *f, const char *data, size_t len, size_t limit,
                     bool (*on_frame)(void *arg, uint8_t channel, const uint8_t *p, size_t n), void *arg,
                     struct error *err)
{
    buf_add(&f->in, data, len);
    size_t used = 0;
    while (f->in.len - used >= HEAD) {
        const uint8_t *p = (const uint8_t *)f->in.data + used;
        uint32_t n;
        memcpy(&n, p + 1, sizeof n);
        n = ntohl(n);
        if (n > limit)
            return error_set(err, ERROR_CORRUPT, "a frame of %u bytes is more than the %zu that are allowed", n, limit);
        if (f->in.len - used - HEAD < n)
            break;
        if (!on_frame(arg, p[0], p + HEAD, n))
            return 1;
        used += HEAD + n;
    }
    buf_consume(&f->in, used);
    return 0;
}
