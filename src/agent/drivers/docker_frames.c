#include "agent/drivers/docker_frames.h"

#include <string.h>

static bool head_take(struct frames *f, const char **data, size_t *len)
{
    size_t wanted = sizeof f->head - f->have, take = *len < wanted ? *len : wanted;
    memcpy(f->head + f->have, *data, take);
    f->have = (uint8_t)(f->have + take);
    *data += take;
    *len -= take;
    return f->have == sizeof f->head;
}

static bool head_valid(const uint8_t *h)
{
    return h[0] <= FRAME_ENGINE && !h[1] && !h[2] && !h[3];
}

static uint32_t head_length(const uint8_t *h)
{
    return (uint32_t)h[4] << 24 | (uint32_t)h[5] << 16 | (uint32_t)h[6] << 8 | h[7];
}

int frames_feed(struct frames *f, const char *data, size_t len,
                bool (*piece)(void *arg, const struct frame_piece *p), void *arg, struct error *err)
{
    while (len && !f->broken) {
        if (f->have < sizeof f->head) {
            if (!head_take(f, &data, &len))
                return 0;
            if (!head_valid(f->head)) {
                f->broken = true;
                break;
            }
            f->left = head_length(f->head);
            if (!len && f->left)
                return 0;
        }
        size_t take = len < f->left ? len : f->left;
        f->left -= (uint32_t)take;
        struct frame_piece p = {.stream = f->head[0] ? f->head[0] : FRAME_STDOUT, .last = !f->left, .data = data, .len = take};
        if (p.last)
            f->have = 0;
        data += take;
        len -= take;
        if (!piece(arg, &p))
            return 0;
    }
    return f->broken ? error_set(err, ERROR_CORRUPT, "the engine's stream of output is damaged") : 0;
}
