/* Exec frames: what goes both ways over a connection that was upgraded to mentat-exec. A frame is its channel (one
 * byte), the length of its payload (four bytes, big endian), and the payload. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

#define EXEC_PROTOCOL "mentat-exec"

enum exec_channel {
    EXEC_STDIN,              /* client → agent */
    EXEC_STDOUT,
    EXEC_STDERR,
    EXEC_RESIZE,             /* client → agent: rows and columns, 16 bits each, big endian */
    EXEC_EXIT,               /* agent → client, the last one: exit code, 32 bits, big endian */
    EXEC_STDIN_CLOSED,       /* client → agent, no payload */
};

/* Appends a frame. */
void exec_frame_add(struct buf *out, enum exec_channel channel, const void *p, size_t n);

/* Bytes of frames that are not whole yet. Zeroed: empty. */
struct exec_frames {
    struct buf in;
};
void exec_frames_clear(struct exec_frames *f);
/* Takes bytes as they come, and gives each whole frame to on_frame. channel may be any byte. When on_frame returns false
 * f is not touched any more (it may be gone) and the rest is dropped. Returns 0, 1 when on_frame ended it, or -1 with err
 * for a frame longer than limit; after either no more is to be fed. */
int exec_frames_feed(struct exec_frames *f, const char *data, size_t len, size_t limit,
                     bool (*on_frame)(void *arg, uint8_t channel, const uint8_t *p, size_t n), void *arg,
                     struct error *err);
