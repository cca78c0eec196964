/* What agents and shims tell each other, what a shim is told at its start, and the record it leaves: whatever is
 * accepted can be written, and reads back as the same. The first byte chooses. */
#include "fuzz.h"

#include <string.h>

#include "agent/shim_protocol.h"

static bool equal(const struct buf *a, const struct buf *b)
{
    return a->len == b->len && (!a->len || !memcmp(a->data, b->data, a->len));
}

static void check_message(const uint8_t *data, size_t size)
{
    struct shim_message m, again;
    CLEANUP_BUF struct buf first = {0}, second = {0};
    if (shim_message_decode(data, size, &m) < 0)
        return;
    shim_message_encode(&m, &first);
    INVARIANT(shim_message_decode(first.data, first.len, &again) == 0);
    shim_message_encode(&again, &second);
    INVARIANT(equal(&first, &second));
    shim_message_clear(&m);
    shim_message_clear(&again);
}

static void check_spec(const uint8_t *data, size_t size)
{
    struct shim_spec s, again;
    CLEANUP_BUF struct buf first = {0}, second = {0};
    if (shim_spec_decode(data, size, &s) < 0)
        return;
    shim_spec_encode(&s, &first);
    INVARIANT(shim_spec_decode(first.data, first.len, &again) == 0);
    shim_spec_encode(&again, &second);
    INVARIANT(equal(&first, &second));
    shim_spec_clear(&s);
    shim_spec_clear(&again);
}

static void check_exit(const uint8_t *data, size_t size)
{
    CLEANUP_FREE char *text = mem_strndup((const char *)data, size);
    char first[SHIM_EXIT_SIZE], second[SHIM_EXIT_SIZE];
    struct task_exit how;
    struct error failed;
    if (shim_exit_parse(text, &how, &failed) < 0)
        return;
    shim_exit_format(first, &how, &failed);
    INVARIANT(shim_exit_parse(first, &how, &failed) == 0);
    shim_exit_format(second, &how, &failed);
    INVARIANT(!strcmp(first, second));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const checks[])(const uint8_t *data, size_t size) = {check_message, check_spec, check_exit};
    if (size)
        checks[data[0] % ARRAY_LEN(checks)](data + 1, size - 1);
    return 0;
}
