/* Frames: takes apart the stream in which the engine sends stdout and stderr of a container: a head of 8 bytes (stream,
 * three zeros, length, big endian), then that many bytes, again and again. Pure; any cut of the stream gives the same. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define FRAME_STDOUT 1
#define FRAME_STDERR 2
#define FRAME_ENGINE 3               /* the engine's own words: why the stream ends early */

struct frames {
    uint8_t head[8];
    uint8_t have;                    /* bytes of the head */
    uint32_t left;                   /* bytes of the frame still to come */
    bool broken;
};

struct frame_piece {
    int stream;
    bool last;                       /* the frame is complete with it */
    const char *data;                /* borrowed */
    size_t len;                      /* 0: an empty frame */
};

/* Calls piece for each part of a frame in the bytes; when it gives false, feeding stops for good. Returns -1 when the
 * bytes are no frames. All-zero is the beginning. */
int frames_feed(struct frames *f, const char *data, size_t len,
                bool (*piece)(void *arg, const struct frame_piece *p), void *arg, struct error *err);
