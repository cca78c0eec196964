/* Commands of the log, one after another, each with its length (varint) before it: whatever they are, the state that
 * comes of them is sound. Their times are those of a clock. */
#include "fuzz.h"

#include "core/command.h"
#include "core_common.h"

#define YEAR_MS (366ull * 86400 * 1000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cursor in = cursor_of(data, size), one;
    struct core *c = core_new();
    uint64_t index = 0, len;
    const int64_t begin_ms = 1764000000000;
    int64_t now_ms = begin_ms;
    while (cursor_varint(&in, &len) && cursor_sub(&in, len, &one)) {
        CLEANUP_COMMAND struct command command;
        CLEANUP_BUF struct buf bytes = {0};
        struct error err = {0};
        struct core_result result;
        if (command_decode(one.p, cursor_left(&one), &command, &err)) {
            core_apply(c, ++index, one.p, cursor_left(&one), &result);
            INVARIANT(result.error.code);
        } else {
            now_ms = command.time = begin_ms + (int64_t)((uint64_t)command.time % YEAR_MS);
            command_encode(&command, &bytes);
            core_apply(c, ++index, bytes.data, bytes.len, &result);
        }
        core_result_clear(&result);
    }
    core_fuzz_use(c, index + 1, now_ms);
    core_free(c);
    return 0;
}
