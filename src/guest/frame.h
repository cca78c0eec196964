/* Frames: what a guest and its shim say to each other, over a serial line or a vsock connection.
 *
 * A serial line also carries what the kernel prints, at any byte. So each frame begins with a mark and has a checksum;
 * what is no frame is noise, which the host keeps as the console's text. Numbers are little endian. No byte of a guest
 * is trusted: lengths are bounded, and a frame that does not check is noise.
 *
 * Shared by mentat-init and the agent: plain C, no allocation. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER 16
#define FRAME_DATA_MAX 4096
#define FRAME_MAX (FRAME_HEADER + FRAME_DATA_MAX)
/* Bytes of one stream of a command that may be on their way without having been acknowledged. */
#define FRAME_WINDOW 32768
#define FRAME_SEED_SIZE 64
/* The port at which the host waits for the guest's vsock connection. */
#define FRAME_VSOCK_PORT 4649
/* Secrets in one go, of all pieces together. */
#define FRAME_SECRETS_MAX (16u << 20)
/* What a record of them begins with. */
#define FRAME_SECRETS_FILE 'F'       /* u32 length, then the file's name, NUL, its bytes */
#define FRAME_SECRETS_ENV 'E'        /* u32 length, then "KEY=value", NUL */
/* Why a guest is not held: commands run in it; its processes do not stand still. */
#define FRAME_HELD_BUSY 1
#define FRAME_HELD_RUNS 2
/* The newest kinds of frames that this side knows; told in FRAME_READY. */
#define FRAME_VERSION 1

/* id 0 is the service itself, others are commands that run beside it. */
enum frame_kind {
    /* guest to host */
    FRAME_READY = 'R',               /* u32 version: whatever comes before the first one is the kernel's */
    FRAME_STARTED = 'S',             /* u32 pid, u32 microseconds since mentat-init began, u32 ms since the kernel did */
    FRAME_FAILED = 'F',              /* it (id) cannot be started; text */
    FRAME_OUTPUT = 'O',              /* stream 1 or 2, bytes */
    FRAME_HELD = 'h',                /* u32: 0: it stands still, and says nothing, until GO or IDENTITY; else FRAME_HELD_… */
    FRAME_EXIT = 'X',                /* u32 code, u32 signal, u32 oom; after its last output */
    /* host to guest */
    FRAME_SIGNAL = 'K',              /* u32 signal */
    FRAME_EXEC = 'E',                /* stream 1: more of it follows; u32 tty, u32 rows, u32 cols, words each ended by NUL */
    FRAME_INPUT = 'I',               /* bytes; none: end of file */
    FRAME_RESIZE = 'W',              /* u32 rows, u32 cols */
    FRAME_SECRETS = 'P',             /* a piece of what secrets.c describes; stream 1: more of it follows, once this was taken */
    FRAME_CLOCK = 'C',               /* u32, u32: ms since 1970, the lower half first: it stood still, and goes by this */
    FRAME_HOLD = 'H',                /* say HELD, and nothing behind that */
    FRAME_GO = 'G',                  /* the end of HOLD; u32, u32: as in CLOCK, FRAME_SEED_SIZE random bytes */
    FRAME_IDENTITY = 'N',            /* the end of HOLD in a copy of that guest. stream 1: more of it follows; as in GO, then a config
                                        drive. Answered by STARTED, or FAILED */
    FRAME_BYE = 'B',                 /* the exit of id 0 was taken: switch off */
    /* both ways */
    FRAME_TAKEN = 'A',               /* u32: so many more bytes of input or output of id, or (0) of secrets, were taken */
};

struct frame {
    uint8_t kind, stream;
    uint32_t id;
    const uint8_t *data;
    size_t n;                        /* at most FRAME_DATA_MAX */
};

/* Returns the frame's whole length. */
size_t frame_encode(const struct frame *f, uint8_t out[static FRAME_MAX]);

struct frame_reader {
    uint8_t bytes[FRAME_MAX];
    size_t n;
};
struct frame_events {
    void (*frame)(void *arg, const struct frame *f);
    void (*noise)(void *arg, const void *bytes, size_t n);
};
/* Takes what was received, in pieces of any size. A frame's bytes are valid within the call of `frame`. */
void frame_read(struct frame_reader *r, const void *bytes, size_t n, const struct frame_events *events, void *arg);

uint32_t frame_crc(uint32_t crc, const void *bytes, size_t n);         /* CRC-32; begin with 0 */
/* Number i of the frame's numbers; 0 when it has not so many. */
uint32_t frame_u32(const struct frame *f, unsigned i);
void frame_put_u32(uint8_t *out, uint32_t v);
uint32_t frame_get_u32(const uint8_t *in);
