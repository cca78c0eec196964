#include "base/cron.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/tz.h"

#define MINUTE_S 60
#define DAY_S 86400
/* The rarest schedule, 29 February on one weekday, comes again after 40 years at most (around a year like 2100). */
#define SEARCH_YEARS 50
#define LAST_S INT64_C(253402300799)         /* the end of the year 9999 */

struct cron_field {
    const char *name;
    int min, max;
    const char *const *names;                /* NULL-ended; the first one stands for min */
};

enum { FIELD_MINUTE, FIELD_HOUR, FIELD_DAY, FIELD_MONTH, FIELD_WEEKDAY, FIELD_COUNT };

static const char *const month_names[] = {"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV",
                                          "DEC", NULL};
static const char *const weekday_names[] = {"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", NULL};

static const struct cron_field cron_fields[FIELD_COUNT] = {
    [FIELD_MINUTE] = {"minute", 0, 59, NULL},
    [FIELD_HOUR] = {"hour", 0, 23, NULL},
    [FIELD_DAY] = {"day of month", 1, 31, NULL},
    [FIELD_MONTH] = {"month", 1, 12, month_names},
    [FIELD_WEEKDAY] = {"day of week", 0, 7, weekday_names},
};

static const struct { const char *name, *expr; } cron_aliases[] = {
    {"@hourly", "0 * * * *"}, {"@daily", "0 0 * * *"},  {"@midnight", "0 0 * * *"}, {"@weekly", "0 0 * * 0"},
    {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"},
};

struct cron {
    uint64_t bits[FIELD_COUNT];
    bool star[FIELD_COUNT];                  /* the field begins with `*` */
};

/* --- reading --- */

struct reader {
    const char *expr, *p;
    const struct cron_field *field;
    struct error *err;
};

static int bad(struct reader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int bad(struct reader *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char what[256];
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    return error_set(r->err, ERROR_INVALID, "schedule \"%.100s\": %s", r->expr, what);
}

static bool is_blank(char c) { return c == ' ' || c == '\t'; }
static bool is_end(char c) { return c == '\0' || is_blank(c); }

static size_t word_length(const char *p)
{
    size_t n = 0;
    while (!is_end(p[n]) && !strchr(",-/", p[n]))
        n++;
    return n;
}

static int read_plain_number(struct reader *r, const char *what, int *out)
{
    size_t n = word_length(r->p);
    int value = 0;
    for (size_t i = 0; i < n; i++) {
        if (r->p[i] < '0' || r->p[i] > '9' || i >= 4)
            return bad(r, "\"%.*s\" is not a %s", n > 20 ? 20 : (int)n, r->p, what);
        value = value * 10 + (r->p[i] - '0');
    }
    if (n == 0)
        return bad(r, "a %s is missing", what);
    r->p += n;
    *out = value;
    return 0;
}

static int read_value(struct reader *r, int *out)
{
    const struct cron_field *f = r->field;
    size_t n = word_length(r->p);
    for (int i = 0; f->names && f->names[i]; i++)
        if (n == strlen(f->names[i]) && strncasecmp(r->p, f->names[i], n) == 0) {
            r->p += n;
            *out = f->min + i;
            return 0;
        }
    if (read_plain_number(r, f->name, out))
        return -1;
    if (*out < f->min || *out > f->max)
        return bad(r, "%s %d is out of range, it goes from %d to %d", f->name, *out, f->min, f->max);
    return 0;
}

/* One item of a list: `*`, a value or a range, and its step. */
static int read_item(struct reader *r, uint64_t *bits)
{
    const struct cron_field *f = r->field;
    int from = f->min, to = f->max, step = 1;
    bool single = false;
    if (*r->p == '*') {
        r->p++;
    } else {
        if (read_value(r, &from))
            return -1;
        to = from;
        single = *r->p != '-';
        if (!single) {
            r->p++;
            if (read_value(r, &to))
                return -1;
        }
        if (to == 0 && from > 0 && f == &cron_fields[FIELD_WEEKDAY])
            to = 7;                          /* FRI-SUN */
        if (to < from)
            return bad(r, "the %s range %d-%d goes backwards; write two ranges, like %d-%d,%d-%d", f->name, from, to,
                       from, f->max, f->min, to);
    }
    if (*r->p == '/') {
        r->p++;
        if (single)
            return bad(r, "a step needs a range: write %d-%d/… or */… for the %s", from, f->max, f->name);
        if (read_plain_number(r, "step", &step))
            return -1;
        if (step < 1 || step > f->max)
            return bad(r, "step %d of the %s is out of range, it goes from 1 to %d", step, f->name, f->max);
    }
    for (int v = from; v <= to; v += step)
        *bits |= UINT64_C(1) << v;
    return 0;
}

static int read_field(struct reader *r, uint64_t *bits)
{
    for (;; r->p++) {
        if (read_item(r, bits))
            return -1;
        if (is_end(*r->p))
            return 0;
        if (*r->p != ',')
            return bad(r, "\"%c\" is not expected in the %s", *r->p, r->field->name);
    }
}

static int cron_parse(const char *expr, struct cron *cron, struct error *err)
{
    *cron = (struct cron){0};
    struct reader r = {.expr = expr, .p = expr, .err = err};
    while (is_blank(*r.p))
        r.p++;
    if (*r.p == '@') {
        size_t n = strcspn(r.p, " \t"), i = 0;
        while (i < ARRAY_LEN(cron_aliases)
               && (strlen(cron_aliases[i].name) != n || strncasecmp(cron_aliases[i].name, r.p, n) != 0))
            i++;
        if (i == ARRAY_LEN(cron_aliases) || r.p[n + strspn(r.p + n, " \t")])
            return bad(&r, "known words are @hourly, @daily, @weekly, @monthly and @yearly");
        r.p = cron_aliases[i].expr;
    }
    for (int i = 0; i < FIELD_COUNT; i++) {
        r.field = &cron_fields[i];
        if (!*r.p)
            return bad(&r, "the %s is missing; five fields are needed: minute, hour, day of month, month, day of week",
                       r.field->name);
        cron->star[i] = *r.p == '*';
        if (read_field(&r, &cron->bits[i]))
            return -1;
        while (is_blank(*r.p))
            r.p++;
    }
    if (*r.p)
        return bad(&r, "\"%.40s\" is too much; five fields are needed: minute, hour, day of month, month, day of week",
                   r.p);
    if (cron->bits[FIELD_WEEKDAY] & 1 << 7)
        cron->bits[FIELD_WEEKDAY] |= 1;
    return 0;
}

int cron_check(const char *expr, struct error *err)
{
    struct cron cron;
    return cron_parse(expr, &cron, err);
}

/* --- searching --- */

static bool has(const struct cron *c, int field, int value)
{
    return c->bits[field] >> value & 1;
}

static bool day_matches(const struct cron *c, int64_t days, int day)
{
    bool by_day = has(c, FIELD_DAY, day), by_weekday = has(c, FIELD_WEEKDAY, weekday_from_days(days));
    return c->star[FIELD_DAY] || c->star[FIELD_WEEKDAY] ? by_day && by_weekday : by_day || by_weekday;
}

/* The first full minute from from_s on, and before until_s, that the schedule names; both by the local clock. */
static bool next_match(const struct cron *c, int64_t from_s, int64_t until_s, int64_t *out)
{
    int64_t days = (from_s >= 0 ? from_s : from_s - (DAY_S - 1)) / DAY_S;
    int64_t minute = (from_s - days * DAY_S + MINUTE_S - 1) / MINUTE_S;
    while (days * DAY_S + minute * MINUTE_S < until_s) {
        int64_t year;
        int month, day;
        date_from_days(days, &year, &month, &day);
        if (!has(c, FIELD_MONTH, month)) {
            days += month_length(year, month) - day + 1;
            minute = 0;
            continue;
        }
        for (; minute < DAY_S / MINUTE_S && day_matches(c, days, day); minute++) {
            if (!has(c, FIELD_HOUR, (int)(minute / 60))) {
                minute += 59 - minute % 60;
            } else if (has(c, FIELD_MINUTE, (int)(minute % 60))) {
                *out = days * DAY_S + minute * MINUTE_S;
                return *out < until_s;
            }
        }
        days++;
        minute = 0;
    }
    return false;
}

/* Within a stretch of one offset the local clock runs evenly; only where one begins there is something to decide. */
static bool next_in_span(const struct cron *c, const struct tz_span *span, int64_t from_s, int64_t until_s,
                         int64_t *out)
{
    int64_t local = from_s + span->offset_s;
    if (span->begin != INT64_MIN && !c->star[FIELD_HOUR]) {
        int64_t before = span->begin + span->offset_before_s, after = span->begin + span->offset_s, skipped;
        if (before < after && from_s == span->begin && next_match(c, before, after, &skipped)) {
            *out = span->begin;
            return true;
        }
        if (local < before)
            local = before;                  /* what is shown a second time has run already */
    }
    if (!next_match(c, local, until_s + span->offset_s, out))
        return false;
    *out -= span->offset_s;
    return true;
}

bool cron_comes(const char *expr)
{
    struct cron cron;
    int64_t at_s;
    return !cron_parse(expr, &cron, NULL) && next_match(&cron, 0, (int64_t)SEARCH_YEARS * 366 * DAY_S, &at_s);
}

int64_t cron_next(const char *expr, const char *tz_rule, int64_t after_ms)
{
    struct cron cron;
    struct tz_rule rule;
    if (cron_parse(expr, &cron, NULL) || tz_rule_parse(tz_rule, &rule, NULL))
        return INT64_MAX;
    int64_t from_s = after_ms < 0 ? 0 : after_ms / 1000 + 1;
    int64_t last_s = from_s + (int64_t)SEARCH_YEARS * 366 * DAY_S;
    if (last_s > LAST_S)
        last_s = LAST_S;
    while (from_s < last_s) {
        struct tz_span span;
        tz_rule_span(&rule, from_s, &span);
        int64_t until_s = span.end < last_s ? span.end : last_s, at_s;
        if (next_in_span(&cron, &span, from_s, until_s, &at_s))
            return at_s * 1000;
        from_s = until_s;
    }
    return INT64_MAX;
}
