/* The binary codec: whatever is accepted can be encoded, reads back as the same, and has one form. The first byte
 * chooses the type. */
#include "fuzz.h"

#include <string.h>

#include "model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct type *const types[] = {&agent_work_type, &job_type, &node_type, &event_type, &agent_report_type};
    if (!size)
        return 0;
    const struct type *t = types[data[0] % ARRAY_LEN(types)];
    struct error err = {0};
    void *object = mem_alloc(t->size), *again = mem_alloc(t->size);
    if (!type_decode(t, data + 1, size - 1, object, &err)) {
        CLEANUP_BUF struct buf first = {0};
        CLEANUP_BUF struct buf second = {0};
        CLEANUP_BUF struct buf json = {0};
        type_encode(t, object, &first);
        INVARIANT(!type_decode(t, first.data, first.len, again, &err));
        INVARIANT(type_equal(t, object, again));
        type_encode(t, again, &second);
        INVARIANT(first.len == second.len && (!first.len || !memcmp(first.data, second.data, first.len)));
        type_to_json(t, object, &json);
    }
    type_free(t, object);
    type_free(t, again);
    return 0;
}
