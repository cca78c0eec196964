#include "base/timefmt.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"

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

void time_format(char out[static TIME_TEXT_SIZE], int64_t time_ms)
{
    time_t seconds = (time_t)(time_ms / 1000);
    int ms = (int)(time_ms % 1000);
    if (ms < 0) {
        ms += 1000;
        seconds--;
    }
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t n = strftime(out, TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, TIME_TEXT_SIZE - n, ".%03dZ", ms);
}

int time_parse(const char *s, int64_t *time_ms)
{
    struct tm tm = {0};
    int n = 0;
    if (sscanf(s, "%4d-%2d-%2d%*1[Tt ]%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
               &tm.tm_sec, &n) != 6 || !n)
        return -1;
    if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour < 0 || tm.tm_hour > 23 ||
        tm.tm_min < 0 || tm.tm_min > 59 || tm.tm_sec < 0 || tm.tm_sec > 60)
        return -1;
    s += n;
    int64_t ms = 0;
    if (*s == '.') {
        int64_t unit = 100;
        for (s++; isdigit((unsigned char)*s); s++) {
            ms += (*s - '0') * unit;
            unit /= 10;
        }
    }
    int64_t offset = 0;
    if (*s == 'Z' || *s == 'z') {
        s++;
    } else if (*s == '+' || *s == '-') {
        int h, m, used = 0;
        if (sscanf(s + 1, "%2d:%2d%n", &h, &m, &used) != 2 || !used || h < 0 || h > 23 || m < 0 || m > 59)
            return -1;
        offset = (h * 60 + m) * (*s == '-' ? -60 : 60);
        s += 1 + used;
    } else {
        return -1;
    }
    if (*s)
        return -1;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *time_ms = ((int64_t)timegm(&tm) - offset) * 1000 + ms;
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
