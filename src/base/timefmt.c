#include "base/timefmt.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/tz.h"

static int64_t clock_ms(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t time_now_ms(void)
{
    return clock_ms(CLOCK_REALTIME);
}

int64_t time_monotonic_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC);
}

/* RFC 3339 has the years 0000 to 9999. */
#define TIME_FIRST_MS INT64_C(-62167219200000)
#define TIME_LAST_MS INT64_C(253402300799999)

static char *put_digits(char *p, int64_t v, int n)
{
    for (int i = n; i--; v /= 10)
        p[i] = (char)('0' + v % 10);
    return p + n;
}

/* By hand, since a status read writes tens of thousands of them. */
void time_format(char out[static TIME_TEXT_SIZE], int64_t time_ms)
{
    time_ms = time_ms < TIME_FIRST_MS ? TIME_FIRST_MS : time_ms > TIME_LAST_MS ? TIME_LAST_MS : time_ms;
    int64_t days = time_ms / 86400000, ms = time_ms % 86400000, year;
    if (ms < 0) {
        ms += 86400000;
        days--;
    }
    int month, day;
    date_from_days(days, &year, &month, &day);
    char *p = put_digits(out, year, 4);
    *p++ = '-';
    p = put_digits(p, month, 2);
    *p++ = '-';
    p = put_digits(p, day, 2);
    *p++ = 'T';
    p = put_digits(p, ms / 3600000, 2);
    *p++ = ':';
    p = put_digits(p, ms / 60000 % 60, 2);
    *p++ = ':';
    p = put_digits(p, ms / 1000 % 60, 2);
    *p++ = '.';
    p = put_digits(p, ms % 1000, 3);
    *p++ = 'Z';
    *p = '\0';
}

/* Exactly n digits, no more than limit. */
static bool take_digits(const char **s, int n, int limit, int *v)
{
    *v = 0;
    for (; n; n--, (*s)++) {
        if (!isdigit((unsigned char)**s))
            return false;
        *v = *v * 10 + (**s - '0');
    }
    return *v <= limit;
}

static bool take_char(const char **s, const char *allowed)
{
    return **s && strchr(allowed, **s) && (*s)++;
}

/* "Z" or "+02:00". */
static bool take_offset(const char **s, int *minutes)
{
    int sign = **s == '-' ? -1 : 1, h, m;
    *minutes = 0;
    if (take_char(s, "Zz"))
        return true;
    if (!take_char(s, "+-") || !take_digits(s, 2, 23, &h) || !take_char(s, ":") || !take_digits(s, 2, 59, &m))
        return false;
    *minutes = sign * (h * 60 + m);
    return true;
}

int time_parse(const char *s, int64_t *time_ms)
{
    int year, month, day, h, m, sec, offset, ms = 0;
    if (!take_digits(&s, 4, 9999, &year) || !take_char(&s, "-") || !take_digits(&s, 2, 12, &month) || !month ||
        !take_char(&s, "-") || !take_digits(&s, 2, month_length(year, month), &day) || !day || !take_char(&s, "Tt ") ||
        !take_digits(&s, 2, 23, &h) || !take_char(&s, ":") || !take_digits(&s, 2, 59, &m) || !take_char(&s, ":") ||
        !take_digits(&s, 2, 60, &sec))
        return -1;
    if (take_char(&s, ".")) {
        if (!isdigit((unsigned char)*s))
            return -1;
        for (int unit = 100; isdigit((unsigned char)*s); s++, unit /= 10)
            ms += (*s - '0') * unit;
    }
    if (!take_offset(&s, &offset) || *s)
        return -1;
    int64_t minutes = days_from_date(year, month, day) * 1440 + h * 60 + m - offset;
    int64_t time = (minutes * 60 + sec) * 1000 + ms;
    if (time < TIME_FIRST_MS || time > TIME_LAST_MS)
        return -1;
    *time_ms = time;
    return 0;
}

static const struct {
    const char *name;
    int64_t ms;
} units[] = {{"d", 86400000}, {"h", 3600000}, {"ms", 1}, {"m", 60000}, {"s", 1000}};

int duration_parse(const char *s, int64_t *duration_ms)
{
    int64_t total = 0;
    if (!*s)
        return -1;
    while (*s) {
        if (!isdigit((unsigned char)*s))
            return -1;
        int64_t whole = 0, fraction = 0, scale = 1;
        for (; isdigit((unsigned char)*s); s++)
            if (__builtin_mul_overflow(whole, 10, &whole) || __builtin_add_overflow(whole, *s - '0', &whole))
                return -1;
        if (*s == '.') {
            if (!isdigit((unsigned char)*++s))
                return -1;
            for (; isdigit((unsigned char)*s); s++)
                if (scale < 1000000) {
                    fraction = fraction * 10 + (*s - '0');
                    scale *= 10;
                }
        }
        int64_t unit = 0;
        for (size_t i = 0; i < ARRAY_LEN(units); i++) {
            size_t n = strlen(units[i].name);
            if (!strncmp(s, units[i].name, n)) {
                unit = units[i].ms;
                s += n;
                break;
            }
        }
        int64_t part;
        if (!unit || __builtin_mul_overflow(whole, unit, &part) || __builtin_add_overflow(total, part, &total) ||
            __builtin_add_overflow(total, fraction * unit / scale, &total))
            return -1;
    }
    *duration_ms = total;
    return 0;
}

void duration_format(char out[static TIME_TEXT_SIZE], int64_t duration_ms)
{
    static const struct {
        const char *name;
        int64_t ms;
    } parts[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        int64_t v = duration_ms / parts[i].ms;
        if (!v)
            continue;
        n += (size_t)snprintf(out + n, TIME_TEXT_SIZE - n, "%lld%s", (long long)v, parts[i].name);
        duration_ms %= parts[i].ms;
    }
    if (!n)
        snprintf(out, TIME_TEXT_SIZE, "0s");
}
