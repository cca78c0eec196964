/* Responses: any bytes, in any pieces, give the same events. */
#include "fuzz.h"

#include "http_common.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    http_fuzz(HTTP_PARSE_RESPONSES, data, size);
    return 0;
}
