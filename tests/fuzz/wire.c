/* What servers of a cluster send each other: frames, greetings, messages about the log. Whatever is accepted can be
 * written, and reads back as the same. The first byte chooses. */
#include "fuzz.h"

#include <string.h>

#include "base/mem.h"
#include "consensus/message.h"
#include "consensus/wire.h"

enum { LIMIT = 2048 };

/* Bytes as they come from a peer; then as the content of a good frame, which is not there before it is whole. */
static void check_frames(const uint8_t *data, size_t size)
{
    enum wire_kind kind;
    const uint8_t *content;
    size_t len;
    struct error err = {0};
    enum wire_result result = wire_next(data, size, LIMIT, &kind, &content, &len, &err);
    INVARIANT((result == WIRE_BROKEN) == (*err.text != '\0'));
    if (result == WIRE_FRAME)
        INVARIANT(content >= data && len <= LIMIT && content + len <= data + size);
    CLEANUP_BUF struct buf frame = {0};
    enum wire_kind written = size ? 1 + data[0] % WIRE_PONG : WIRE_PING;
    wire_frame(&frame, written, data, size);
    buf_add(&frame, data, size);
    result = wire_next(frame.data, frame.len, LIMIT, &kind, &content, &len, &err);
    INVARIANT(result == (size > LIMIT ? WIRE_BROKEN : WIRE_FRAME));
    if (size > LIMIT)
        return;
    INVARIANT(kind == written && len == size && (!size || !memcmp(content, data, size)));
    INVARIANT(wire_next(frame.data, frame.len - 1, LIMIT, &kind, &content, &len, &err) == WIRE_MORE);
}

static void check_greeting(const uint8_t *data, size_t size)
{
    struct wire_greeting g, again;
    struct error err = {0};
    CLEANUP_BUF struct buf bytes = {0};
    if (wire_get_greeting(data, size, &g, &err)) {
        INVARIANT(*err.text);
        return;
    }
    wire_put_greeting(&bytes, &g);
    INVARIANT(!wire_get_greeting(bytes.data, bytes.len, &again, &err));
    INVARIANT(g.cluster_id == again.cluster_id && g.from == again.from && g.to == again.to);
    INVARIANT(!strcmp(g.address, again.address) && !strcmp(g.release, again.release));
    INVARIANT(g.command_version == again.command_version && g.knows_you == again.knows_you);
}

static void entries_free(const struct message *m)
{
    if (m->type == MESSAGE_APPEND)
        free((void *)(uintptr_t)m->append.entries);
}

static void check_message(const uint8_t *data, size_t size)
{
    struct message m, again;
    struct error err = {0};
    CLEANUP_BUF struct buf first = {0}, second = {0};
    if (message_decode(data, size, &m, &err)) {
        INVARIANT(*err.text);
        return;
    }
    message_encode(&first, &m);
    INVARIANT(!message_decode(first.data, first.len, &again, &err));
    message_encode(&second, &again);
    INVARIANT(first.len == second.len && !memcmp(first.data, second.data, first.len));
    entries_free(&m);
    entries_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const checks[])(const uint8_t *data, size_t size) = {check_frames, check_greeting, check_message};
    if (size)
        checks[data[0] % ARRAY_LEN(checks)](data + 1, size - 1);
    return 0;
}
