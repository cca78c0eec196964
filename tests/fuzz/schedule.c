/* Schedules and the rules of time zones: a line of each. Runs come one after the other, in the stretch of time that they
 * are in, and bad ones never. */
#include "fuzz.h"

#include <string.h>

#include "base/cron.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/tz.h"

enum { RUNS = 4 };

static void check_rule(const char *text, int64_t time_s)
{
    struct tz_rule rule;
    struct tz_span span;
    struct error err = {0};
    if (tz_rule_parse(text, &rule, &err)) {
        INVARIANT(err.code == ERROR_INVALID && *err.text);
        return;
    }
    tz_rule_span(&rule, time_s, &span);
    INVARIANT(span.begin <= time_s && time_s < span.end);
    INVARIANT(span.offset_s == rule.standard_s || (rule.has_summer && span.offset_s == rule.summer_s));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Of the years 1970 to 2200, by the input alone. */
    int64_t at = (int64_t)(hash_bytes(data, size, 0) % (230ull * 366 * 86400 * 1000));
    CLEANUP_FREE char *text = mem_strndup((const char *)data, size);
    char *rule = strchr(text, '\n');
    if (rule)
        *rule++ = '\0';
    struct error err = {0};
    bool good = !cron_check(text, &err) && !tz_rule_check(rule, &err);
    INVARIANT(good || *err.text);
    check_rule(rule, at / 1000);
    for (int i = 0; i < RUNS && at < INT64_MAX; i++) {
        int64_t next = cron_next(text, rule, at);
        INVARIANT(good ? next > at : next == INT64_MAX);
        at = next;
    }
    return 0;
}
