/* Snapshots of the control plane, as an operator may bring them: refused, or a state that all can be done with. */
#include "fuzz.h"

#include "core_common.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int64_t now_ms = 1764000000000;
    struct core *c = core_new();
    struct error err = {0};
    if (core_restore(c, data, size, &err))
        INVARIANT(*err.text);
    else if (core_index(c) < UINT64_MAX / 2)
        core_fuzz_use(c, core_index(c) + 1, now_ms);
    core_free(c);
    return 0;
}
