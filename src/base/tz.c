#include "base/tz.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"

#define DAY_S 86400
#define ZONE_FOLDER "/usr/share/zoneinfo/"
#define ZONE_FILE_LIMIT (1 << 20)
#define ZONE_HEADER_SIZE 44

/* --- calendar --- */

/* Years begin in March here, so that the leap day is the last of its year: the day of the year is then a plain
 * function of the month (153 days in five months), whatever the year. */
int64_t days_from_date(int64_t year, int month, int day)
{
    int64_t y = month > 2 ? year : year - 1;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

void date_from_days(int64_t days, int64_t *year, int *month, int *day)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t day_of_era = z - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t m = (5 * day_of_year + 2) / 153;
    *day = (int)(day_of_year - (153 * m + 2) / 5 + 1);
    *month = (int)(m < 10 ? m + 3 : m - 9);
    *year = year_of_era + era * 400 + (*month <= 2);
}

static bool is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

int month_length(int64_t year, int month)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return lengths[month - 1] + (month == 2 && is_leap(year));
}

int weekday_from_days(int64_t days)
{
    int64_t d = (days + 4) % 7;      /* 1970-01-01 was a Thursday */
    return (int)(d < 0 ? d + 7 : d);
}

/* --- reading rules --- */

static int bad_rule(const char *text, struct error *err, const char *what)
{
    return error_set(err, ERROR_INVALID, "time zone rule \"%.80s\": %s; write it like \"UTC0\" or "
                     "\"CET-1CEST,M3.5.0,M10.5.0/3\"", text, what);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

static bool read_number(const char **p, int limit, int *out)
{
    if (!is_digit(**p))
        return false;
    int n = 0;
    for (; is_digit(**p); (*p)++) {
        n = n * 10 + (**p - '0');
        if (n > limit)
            return false;
    }
    *out = n;
    return true;
}

/* "CET" or "<+0330>"; at least three characters. */
static bool skip_abbreviation(const char **p)
{
    const char *s = *p;
    size_t n = 0;
    if (*s == '<') {
        for (s++; is_letter(s[n]) || is_digit(s[n]) || s[n] == '+' || s[n] == '-';)
            n++;
        if (s[n] != '>')
            return false;
        *p = s + n + 1;
    } else {
        while (is_letter(s[n]))
            n++;
        *p = s + n;
    }
    return n >= 3;
}

/* [+-]hours[:minutes[:seconds]] */
static bool read_clock(const char **p, int hours_limit, int32_t *seconds)
{
    int sign = **p == '-' ? -1 : 1, h, m = 0, s = 0;
    if (**p == '-' || **p == '+')
        (*p)++;
    if (!read_number(p, hours_limit, &h))
        return false;
    if (**p == ':') {
        (*p)++;
        if (!read_number(p, 59, &m))
            return false;
        if (**p == ':') {
            (*p)++;
            if (!read_number(p, 59, &s))
                return false;
        }
    }
    *seconds = sign * (h * 3600 + m * 60 + s);
    return true;
}

static bool read_date(const char **p, struct tz_date *d)
{
    *d = (struct tz_date){.time_s = 2 * 3600};
    if (**p == 'M') {
        d->kind = TZ_DATE_WEEKDAY;
        (*p)++;
        if (!read_number(p, 12, &d->month) || d->month < 1 || *(*p)++ != '.' || !read_number(p, 5, &d->week)
            || d->week < 1 || *(*p)++ != '.' || !read_number(p, 6, &d->day))
            return false;
    } else if (**p == 'J') {
        d->kind = TZ_DATE_JULIAN;
        (*p)++;
        if (!read_number(p, 365, &d->day) || d->day < 1)
            return false;
    } else {
        d->kind = TZ_DATE_DAY;
        if (!read_number(p, 365, &d->day))
            return false;
    }
    if (**p != '/')
        return true;
    (*p)++;
    return read_clock(p, 167, &d->time_s);   /* a week either way, as tzdata's own rules need (RFC 9636) */
}

int tz_rule_parse(const char *text, struct tz_rule *rule, struct error *err)
{
    *rule = (struct tz_rule){0};
    if (!text)
        return 0;
    const char *p = text;
    int32_t west;
    if (!skip_abbreviation(&p))
        return bad_rule(text, err, "it must begin with an abbreviation of at least three letters");
    if (!read_clock(&p, 24, &west))
        return bad_rule(text, err, "the abbreviation must be followed by the hours west of UTC (0 to 24)");
    rule->standard_s = -west;
    if (!*p)
        return 0;
    if (!skip_abbreviation(&p))
        return bad_rule(text, err, "after the offset comes nothing, or the abbreviation of summer time");
    rule->has_summer = true;
    rule->summer_s = rule->standard_s + 3600;
    if (*p && *p != ',') {
        if (!read_clock(&p, 24, &west))
            return bad_rule(text, err, "the offset of summer time is wrong");
        rule->summer_s = -west;
    }
    const char *dates = *p ? p : ",M3.2.0,M11.1.0";    /* what libc takes when the rule leaves them out */
    if (*dates++ != ',' || !read_date(&dates, &rule->summer_begin) || *dates++ != ','
        || !read_date(&dates, &rule->summer_end) || *dates)
        return bad_rule(text, err, "the dates of summer time must be two, like \",M3.5.0,M10.5.0/3\"");
    return 0;
}

int tz_rule_check(const char *text, struct error *err)
{
    struct tz_rule rule;
    return tz_rule_parse(text, &rule, err);
}

/* --- evaluating rules --- */

/* When the change happens in that year, in seconds of the clock that goes by the offset before it. */
static int64_t date_local_s(const struct tz_date *d, int64_t year)
{
    int64_t day;
    switch (d->kind) {
    case TZ_DATE_WEEKDAY: {
        int64_t first = days_from_date(year, d->month, 1);
        int in_month = (d->day - weekday_from_days(first) + 7) % 7 + 7 * (d->week - 1);
        if (in_month >= month_length(year, d->month))      /* week 5 means the last one */
            in_month -= 7;
        day = first + in_month;
        break;
    }
    case TZ_DATE_JULIAN:
        day = days_from_date(year, 1, 1) + d->day - 1 + (d->day >= 60 && is_leap(year));
        break;
    default:
        day = days_from_date(year, 1, 1) + d->day;
    }
    return day * DAY_S + d->time_s;
}

struct change {
    int64_t at;
    int32_t to;
};

/* Sorted by time; at the same time the end of summer comes first: a rule that ends summer time at the moment at which
 * the next year's begins has summer time for ever. */
static void change_insert(struct change *v, int *n, struct change c, bool begins)
{
    int i = (*n)++;
    for (; i > 0 && (v[i - 1].at > c.at || (v[i - 1].at == c.at && !begins)); i--)
        v[i] = v[i - 1];
    v[i] = c;
}

void tz_rule_span(const struct tz_rule *rule, int64_t time_s, struct tz_span *span)
{
    *span = (struct tz_span){INT64_MIN, INT64_MAX, rule->standard_s, rule->standard_s};
    if (!rule->has_summer)
        return;
    int64_t days = (time_s >= 0 ? time_s : time_s - (DAY_S - 1)) / DAY_S, year;
    int month, day;
    date_from_days(days, &year, &month, &day);
    struct change v[10];
    int n = 0;
    for (int64_t y = year - 2; y <= year + 2; y++) {
        change_insert(v, &n, (struct change){date_local_s(&rule->summer_begin, y) - rule->standard_s, rule->summer_s},
                      true);
        change_insert(v, &n, (struct change){date_local_s(&rule->summer_end, y) - rule->summer_s, rule->standard_s},
                      false);
    }
    int next = 0;
    while (next < n && v[next].at <= time_s)
        next++;
    INVARIANT(next > 0 && next < n);       /* two years lie on either side */
    span->begin = v[next - 1].at;
    span->end = v[next].at;
    span->offset_s = v[next - 1].to;
    span->offset_before_s = next > 1 ? v[next - 2].to : span->offset_s;
}

/* --- the system's tzdata --- */

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Skips one header and its block of data; times are `time_size` bytes wide in it (RFC 9636). */
static bool skip_block(struct cursor *c, size_t time_size)
{
    const uint8_t *h;
    if (!cursor_bytes(c, ZONE_HEADER_SIZE, &h) || memcmp(h, "TZif", 4) != 0 || h[4] < '2')
        return false;
    uint64_t is_ut = big_endian(h + 20), is_std = big_endian(h + 24), leaps = big_endian(h + 28),
             times = big_endian(h + 32), types = big_endian(h + 36), chars = big_endian(h + 40);
    uint64_t size = times * (time_size + 1) + types * 6 + chars + leaps * (time_size + 4) + is_std + is_ut;
    return size <= cursor_left(c) && cursor_bytes(c, (size_t)size, &h);
}

static bool zone_name_ok(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > 100 || name[0] == '/' || name[n - 1] == '/' || strstr(name, "..") || strstr(name, "//"))
        return false;
    for (const char *p = name; *p; p++)
        if (!is_letter(*p) && !is_digit(*p) && !strchr("_+-/", *p))
            return false;
    return true;
}

int tz_rule_find(const char *iana_name, char out[static TZ_RULE_SIZE], struct error *err)
{
    if (strcmp(iana_name, "UTC") == 0) {       /* also on hosts without tzdata */
        strcpy(out, "UTC0");
        return 0;
    }
    if (!zone_name_ok(iana_name))
        return error_set(err, ERROR_INVALID, "\"%.100s\" is not a time zone: write a name like Europe/Berlin, or UTC",
                         iana_name);
    char path[sizeof(ZONE_FOLDER) + 100];
    snprintf(path, sizeof(path), "%s%s", ZONE_FOLDER, iana_name);
    CLEANUP_BUF struct buf file = {0};
    struct error why;
    if (file_read(path, ZONE_FILE_LIMIT, &file, &why))
        return error_set(err, ERROR_NOT_FOUND, "no time zone %s in this machine's tzdata (%s): check the spelling, "
                         "install the package tzdata, or write a POSIX rule", iana_name, why.text);
    struct cursor c = cursor_of(file.data, file.len);
    const uint8_t *footer;
    size_t n;
    if (!skip_block(&c, 4) || !skip_block(&c, 8) || (n = cursor_left(&c)) < 2 || !cursor_bytes(&c, n, &footer)
        || footer[0] != '\n' || footer[n - 1] != '\n')
        return error_set(err, ERROR_CORRUPT, "%s is not a time zone file of version 2 or later", path);
    if (n - 2 == 0 || n - 2 >= TZ_RULE_SIZE)
        return error_set(err, ERROR_UNSUPPORTED, "time zone %s has no rule for the future", iana_name);
    memcpy(out, footer + 1, n - 2);
    out[n - 2] = '\0';
    if (tz_rule_check(out, err))
        return error_context(err, "%s", path);
    return 0;
}
