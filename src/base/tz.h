/* Tz: time zones as POSIX TZ rules ("CET-1CEST,M3.5.0,M10.5.0/3"). Evaluated here and not by libc, so that the
 * same rule and time give the same answer in every process. A rule knows no history: it says what holds from now on. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define TZ_RULE_SIZE 64

/* When a change happens in a year. */
struct tz_date {
    enum { TZ_DATE_WEEKDAY, TZ_DATE_JULIAN, TZ_DATE_DAY } kind;   /* Mm.w.d; Jn without 29 February; n from 0 */
    int month, week, day;
    int32_t time_s;                       /* from local midnight; may be negative or beyond the day */
};

struct tz_rule {
    int32_t standard_s, summer_s;         /* seconds east of UTC */
    bool has_summer;
    struct tz_date summer_begin, summer_end;
};

/* A stretch of time with one offset; seconds since 1970 in UTC. */
struct tz_span {
    int64_t begin, end;                   /* begin <= t < end; INT64_MIN and INT64_MAX when it has none */
    int32_t offset_s;                     /* seconds east of UTC within it */
    int32_t offset_before_s;              /* of the stretch before it; the same when there is none */
};

/* Reads a rule; NULL is UTC. The error says what is wrong with it. */
int tz_rule_parse(const char *text, struct tz_rule *rule, struct error *err);
int tz_rule_check(const char *text, struct error *err);
/* The stretch that holds time_s, which must lie within the years 0 to 9999. */
void tz_rule_span(const struct tz_rule *rule, int64_t time_s, struct tz_span *span);

/* Reads the rule of an IANA zone ("Europe/Berlin") from the system's tzdata. Blocking I/O: for programs at the edge,
 * never for the core. */
int tz_rule_find(const char *iana_name, char out[static TZ_RULE_SIZE], struct error *err);

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar, and back. month and day count from 1. */
int64_t days_from_date(int64_t year, int month, int day);
void date_from_days(int64_t days, int64_t *year, int *month, int *day);
int month_length(int64_t year, int month);
/* 0 is Sunday. */
int weekday_from_days(int64_t days);
