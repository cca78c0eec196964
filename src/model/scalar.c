#include "model/scalar.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/timefmt.h"

static bool is_decimal(const char *s)
{
    if (*s == '-' || *s == '+')
        s++;
    size_t n = strspn(s, "0123456789");
    return n && !s[n] && (n == 1 || *s != '0');
}

static bool parse_int(const char *s, int64_t *v)
{
    if (!is_decimal(s))
        return false;
    errno = 0;
    *v = strtoll(s, NULL, 10);
    return !errno;
}

static bool parse_uint(const char *s, uint64_t *v)
{
    if (!is_decimal(s) || *s == '-')
        return false;
    errno = 0;
    *v = strtoull(s, NULL, 10);
    return !errno;
}

static bool parse_float(const char *s, double *v)
{
    size_t sign = *s == '-' || *s == '+';
    if (!strspn(s + sign, "0123456789") || s[strspn(s, "+-.eE0123456789")])
        return false;
    char *end;
    *v = strtod(s, &end);
    return !*end && isfinite(*v);
}

static bool parse_bool(const char *s, bool *v)
{
    *v = !strcmp(s, "true");
    return *v || !strcmp(s, "false");
}

/* "256", "256MB", "1GiB". MB and MiB are the same here, as with docker. */
static bool parse_size(const char *s, int64_t *v)
{
    static const struct {
        const char *unit;
        int64_t mb;
    } units[] = {{"", 1},       {"m", 1},       {"mb", 1},      {"mib", 1},        {"g", 1024},
                 {"gb", 1024},  {"gib", 1024},  {"t", 1 << 20}, {"tb", 1 << 20},   {"tib", 1 << 20}};
    char number[24];
    size_t digits = strspn(s, "0123456789");
    if (!digits || digits >= sizeof number)
        return false;
    memcpy(number, s, digits);
    number[digits] = '\0';
    s += digits;
    s += strspn(s, " ");
    int64_t whole;
    if (!parse_int(number, &whole))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (!strcasecmp(s, units[i].unit))
            return !__builtin_mul_overflow(whole, units[i].mb, v);
    return false;
}

static void add_names(const struct field *f, struct buf *out)
{
    buf_add_string(out, "one of ");
    for (int i = enum_first(f), first = i; f->names[i]; i++)
        buf_printf(out, "%s%s", i > first ? ", " : "", f->names[i]);
}

void scalar_describe(const struct field *f, struct buf *out)
{
    switch (f->kind) {
    case FIELD_BOOL: buf_add_string(out, "true or false"); break;
    case FIELD_INT: buf_add_string(out, "a whole number"); break;
    case FIELD_UINT: buf_add_string(out, "a whole number, not negative"); break;
    case FIELD_FLOAT: buf_add_string(out, "a number"); break;
    case FIELD_STRING: buf_add_string(out, f->flags & FIELD_BOOL_TEXT ? "true or false" : "a text"); break;
    case FIELD_ENUM: add_names(f, out); break;
    case FIELD_DURATION: buf_add_string(out, "a duration such as 500ms, 10s, 5m or 1h"); break;
    case FIELD_SIZE_MB: buf_add_string(out, "a size such as 256 (MiB), 256MB or 1GiB"); break;
    case FIELD_TIME: buf_add_string(out, "a time such as 2026-01-31T12:00:00Z"); break;
    case FIELD_OBJECT: buf_add_string(out, "a map of keys and values"); break;
    case FIELD_LIST: buf_add_string(out, "a list"); break;
    case FIELD_STR_LIST:
        buf_add_string(out, f->flags & FIELD_SCALAR_OK ? "a text or a list of texts" : "a list of texts");
        break;
    case FIELD_MAP: buf_add_string(out, "a map of names and texts"); break;
    }
}

static bool parse(const struct field *f, const char *text, void *slot)
{
    switch (f->kind) {
    case FIELD_BOOL: {
        bool v;
        return parse_bool(text, &v) && (*(bool *)slot = v, true);
    }
    case FIELD_INT: {
        int64_t v;
        return parse_int(text, &v) && (*(int64_t *)slot = v, true);
    }
    case FIELD_UINT: {
        uint64_t v;
        return parse_uint(text, &v) && (*(uint64_t *)slot = v, true);
    }
    case FIELD_FLOAT: {
        double v;
        return parse_float(text, &v) && (*(double *)slot = v, true);
    }
    case FIELD_STRING: {
        bool v;
        if (f->flags & FIELD_BOOL_TEXT && !parse_bool(text, &v))
            return false;
        mem_set_string(slot, text);
        return true;
    }
    case FIELD_ENUM: {
        int v = enum_value(f->names, text);
        return v >= enum_first(f) && (*(int *)slot = v, true);
    }
    case FIELD_DURATION: return !duration_parse(text, slot);
    case FIELD_SIZE_MB: {
        int64_t v;
        return parse_size(text, &v) && (*(int64_t *)slot = v, true);
    }
    case FIELD_TIME: return !time_parse(text, slot);
    default: return false;
    }
}

int scalar_parse(const struct field *f, const char *text, void *slot, struct error *err)
{
    if (parse(f, text, slot))
        return 0;
    CLEANUP_BUF struct buf wanted = {0};
    scalar_describe(f, &wanted);
    return error_set(err, ERROR_INVALID, "wanted %s, found `%.80s`", wanted.data, text);
}

void scalar_format_limit(const struct field *f, double limit, struct buf *out)
{
    if (f->kind == FIELD_DURATION) {
        int64_t ms = (int64_t)limit;
        scalar_format(f, &ms, out);
    } else {
        number_format(limit, out);
    }
}

int scalar_check_range(const struct field *f, const void *slot, struct error *err)
{
    double v;
    switch (f->kind) {
    case FIELD_INT:
    case FIELD_DURATION:
    case FIELD_SIZE_MB: v = (double)*(const int64_t *)slot; break;
    case FIELD_FLOAT: v = *(const double *)slot; break;
    default: return 0;
    }
    if ((f->min == 0 && f->max == 0) || (v >= f->min && v <= f->max))
        return 0;
    CLEANUP_BUF struct buf text = {0};
    buf_add_string(&text, "must be ");
    scalar_format_limit(f, f->min, &text);
    buf_add_string(&text, " to ");
    scalar_format_limit(f, f->max, &text);
    buf_add_string(&text, ", is ");
    scalar_format(f, slot, &text);
    return error_set(err, ERROR_INVALID, "%s", text.data);
}

void number_format(double v, struct buf *out)
{
    /* Most numbers here have few decimals: v == n / 1000 exactly means that n's digits, with the point set, read back
     * as v, because both are the double nearest to that decimal. */
    double scaled = round(v * 1000);
    if (fabs(scaled) < 1e15 && scaled / 1000 == v) {
        int64_t n = (int64_t)scaled;
        buf_printf(out, "%s%" PRId64, n < 0 ? "-" : "", (n < 0 ? -n : n) / 1000);
        int fraction = (int)((n < 0 ? -n : n) % 1000), digits = 3;
        for (; fraction && fraction % 10 == 0; fraction /= 10)
            digits--;
        if (fraction)
            buf_printf(out, ".%0*d", digits, fraction);
        return;
    }
    char text[40];
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, v);
        if (strtod(text, NULL) == v)
            break;
    }
    buf_add_string(out, text);
}

void scalar_format(const struct field *f, const void *slot, struct buf *out)
{
    char text[TIME_TEXT_SIZE];
    switch (f->kind) {
    case FIELD_BOOL: buf_add_string(out, *(const bool *)slot ? "true" : "false"); break;
    case FIELD_INT:
    case FIELD_SIZE_MB: buf_printf(out, "%" PRId64, *(const int64_t *)slot); break;
    case FIELD_UINT: buf_printf(out, "%" PRIu64, *(const uint64_t *)slot); break;
    case FIELD_FLOAT: number_format(*(const double *)slot, out); break;
    case FIELD_STRING:
        if (*(char *const *)slot)
            buf_add_string(out, *(char *const *)slot);
        break;
    case FIELD_ENUM: buf_add_string(out, enum_name(f->names, *(const int *)slot)); break;
    case FIELD_DURATION:
        duration_format(text, *(const int64_t *)slot);
        buf_add_string(out, text);
        break;
    case FIELD_TIME:
        if (*(const int64_t *)slot) {
            time_format(text, *(const int64_t *)slot);
            buf_add_string(out, text);
        }
        break;
    default: break;
    }
}

bool scalar_is_zero(const struct field *f, const void *slot)
{
    switch (f->kind) {
    case FIELD_BOOL: return !*(const bool *)slot;
    case FIELD_FLOAT: return *(const double *)slot == 0;
    case FIELD_STRING: return !*(char *const *)slot;
    case FIELD_ENUM: return !*(const int *)slot;
    default: return !*(const int64_t *)slot;
    }
}

bool scalar_equal(const struct field *f, const void *a, const void *b)
{
    switch (f->kind) {
    case FIELD_BOOL: return *(const bool *)a == *(const bool *)b;
    case FIELD_FLOAT: return *(const double *)a == *(const double *)b;
    case FIELD_ENUM: return *(const int *)a == *(const int *)b;
    case FIELD_STRING: {
        const char *x = *(char *const *)a, *y = *(char *const *)b;
        return x && y ? !strcmp(x, y) : x == y;
    }
    default: return *(const int64_t *)a == *(const int64_t *)b;
    }
}
