/* What a monitor says of itself: any bytes, in any pieces, give the same values, and values only grow. The first byte says
 * how long the pieces are. */
#include "fuzz.h"

#include <string.h>

#include "agent/vm_metrics.h"
#include "base/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    size_t piece = (size_t)data[0] + 1;
    struct vm_metrics_reader at_once = {0}, in_pieces = {0};
    struct vm_metrics a = {0}, b = {0};
    unsigned lines = vm_metrics_read(&at_once, data + 1, size - 1, &a), other = 0;
    for (size_t at = 1; at < size; at += piece) {
        struct vm_metrics before = b;
        other += vm_metrics_read(&in_pieces, data + at, size - at < piece ? size - at : piece, &b);
        for (int i = 0; i < VM_METRIC_COUNT; i++)
            INVARIANT(vm_metric_rows[i].kind != VM_SUM || b.v[i] >= before.v[i]);
    }
    INVARIANT(lines == other && lines == a.lines);
    INVARIANT(!memcmp(&a, &b, sizeof a));
    return 0;
}
