/* Wire: the frames that servers exchange, and their greetings. A connection goes one way: who dialled sends HELLO, gets
 * WELCOME (or REFUSED with a reason, and the end), then sends messages and PINGs, which are answered by PONGs. */
#pragma once
#include "base/buf.h"
#include "base/error.h"

#define WIRE_PROTOCOL 1
#define WIRE_GREETING_MAX 4096      /* bytes of a frame before the greeting is over */
#define WIRE_HEADER_SIZE 16

enum wire_kind {
    WIRE_HELLO = 1,
    WIRE_WELCOME = 2,
    WIRE_REFUSED = 3,   /* a text */
    WIRE_MESSAGE = 4,   /* message.h */
    WIRE_PING = 5,
    WIRE_PONG = 6,
};

/* Appends a frame's header for this content; the content follows it. */
void wire_frame(struct buf *out, enum wire_kind kind, const void *content, size_t len);

enum wire_result { WIRE_FRAME, WIRE_MORE, WIRE_BROKEN };
/* The first frame of `bytes`. WIRE_MORE: it is not there as a whole; WIRE_BROKEN, with err: it is longer than limit, or
 * damaged, or none. *content points into bytes. */
enum wire_result wire_next(const void *bytes, size_t len, size_t limit, enum wire_kind *kind, const uint8_t **content,
                           size_t *content_len, struct error *err);

struct wire_greeting {
    uint64_t cluster_id;
    uint64_t from, to;          /* server ids */
    uint32_t command_version;
    bool knows_you;             /* WELCOME: you are a member, as far as the sender knows */
    char address[520];          /* where the sender is to be dialled */
    char release[64];
};
void wire_put_greeting(struct buf *out, const struct wire_greeting *g);
/* Refuses, with what is wrong in words for the other side's administrator. */
int wire_get_greeting(const void *bytes, size_t len, struct wire_greeting *g, struct error *err);
