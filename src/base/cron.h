/* Cron: schedules in the five fields of crontab(5): minute, hour, day of month, month, day of week. Each field is `*`,
 * or a list of numbers, names (JAN-DEC, SUN-SAT) and ranges, with steps (a range or `*`, then /N); 7 is Sunday too.
 * Also @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually. When neither day field begins with `*`, either
 * of the two is enough, as in Vixie cron. Pure. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

int cron_check(const char *expr, struct error *err);
/* Whether it ever comes: 30 February does not. expr is a good one. */
bool cron_comes(const char *expr);

/* The first run after after_ms (both milliseconds since 1970, UTC) by the clock of tz_rule (a POSIX TZ rule, see tz.h;
 * NULL: UTC); INT64_MAX when it never comes (30 February), or when expr or tz_rule is wrong.
 * Where the clock is put forward, the runs of the hour that is left out happen once, right after it; where it is put
 * back, each time of the repeated hour runs once. Schedules whose hour begins with `*` are about the passing of time
 * rather than a time of day: they run by what the clock shows, through both of the repeated hours. */
int64_t cron_next(const char *expr, const char *tz_rule, int64_t after_ms);
