/* Small texts that people and peers write: addresses, times, durations, base64, patterns. What is accepted can be
 * written, and reads back as the same. */
#include "fuzz.h"

#include <string.h>

#include "base/base64.h"
#include "base/pattern.h"
#include "base/timefmt.h"
#include "net/address.h"

static void check_address(const char *text)
{
    struct address a, again;
    struct error err = {0};
    char written[ADDRESS_TEXT_SIZE];
    if (address_parse(text, -1, &a, &err)) {
        INVARIANT(*err.text);
        return;
    }
    address_is_local(&a);
    address_format(written, &a);
    INVARIANT(!address_parse(written, -1, &again, &err));
    INVARIANT(a.is_unix == again.is_unix && a.port == again.port && !strcmp(a.host, again.host));
}

static void check_times(const char *text)
{
    int64_t time, duration, again;
    char written[TIME_TEXT_SIZE];
    if (!time_parse(text, &time)) {
        time_format(written, time);
        INVARIANT(!time_parse(written, &again) && again == time);
    }
    if (!duration_parse(text, &duration)) {
        INVARIANT(duration >= 0);
        duration_format(written, duration);
        INVARIANT(!duration_parse(written, &again) && again == duration);
    }
}

static void check_base64(const char *text)
{
    CLEANUP_BUF struct buf bytes = {0}, written = {0}, again = {0};
    if (!base64_read(text, &bytes)) {
        INVARIANT(!bytes.len);
        return;
    }
    base64_add(&written, bytes.data, bytes.len);
    INVARIANT(base64_read(written.data ? written.data : "", &again));
    INVARIANT(again.len == bytes.len && (!again.len || !memcmp(again.data, bytes.data, again.len)));
}

static void check_pattern(const char *text)
{
    regex_t regex;
    struct error err = {0};
    if (pattern_compile(text, &regex, &err)) {
        INVARIANT(*err.text);
        return;
    }
    regexec(&regex, text, 0, NULL, 0);
    regfree(&regex);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_FREE char *text = mem_strndup((const char *)data, size);
    check_address(text);
    check_times(text);
    check_base64(text);
    check_pattern(text);
    return 0;
}
