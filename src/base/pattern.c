#include "base/pattern.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Behind the bracket expression that begins at p; a ] right after the [ or [^ stands for itself. */
static const char *bracket_end(const char *p)
{
    p++;
    if (*p == '^')
        p++;
    if (*p == ']')
        p++;
    while (*p && *p != ']') {
        if (*p == '[' && p[1] && strchr(":.=", p[1])) {
            const char close[] = {p[1], ']', '\0'};
            const char *end = strstr(p + 2, close);
            if (!end)
                return p + strlen(p);
            p = end + 1;
        }
        p++;
    }
    return *p ? p + 1 : p;
}

/* Length of the {n,m} at p, and the greatest number in it; 0 when there is none. */
static size_t repeat_length(const char *p, unsigned long *most)
{
    *most = 0;
    size_t len = *p == '{' ? 1 + strspn(p + 1, "0123456789,") : 0;
    if (!len || p[len] != '}')
        return 0;
    for (const char *q = p; q < p + len; q += strcspn(q, ",}")) {
        unsigned long n = strtoul(++q, NULL, 10);
        *most = n > *most ? n : *most;
    }
    return len + 1;
}

/* How many parts the pattern has once regcomp has written its repeats out, as it does: x+ as xx*, x{n,m} as m times x.
 * The time and memory it takes grow with the square of that. What is no valid pattern may be counted wrongly. */
struct parts {
    size_t before[PATTERN_MAX_LENGTH + 1];    /* by depth of brackets: in front of the last one */
    size_t last, depth;
};

static void begin_part(struct parts *n, size_t parts)
{
    n->before[n->depth] += n->last;
    n->last = parts;
}

/* p stands on anything but a {n,m}. */
static void count_part(struct parts *n, const char *p)
{
    switch (*p) {
    case '(':
        begin_part(n, 0);
        n->before[++n->depth] = 0;
        break;
    case ')':
        if (!n->depth)
            break;
        begin_part(n, 0);
        n->last = n->before[n->depth--];
        break;
    case '+':
        n->last *= 2;
        break;
    case '*':
    case '?':
        break;
    default:
        begin_part(n, 1);
    }
}

static int check_repeats(const char *text, struct error *err)
{
    struct parts n = {.last = 0};
    for (const char *p = text; *p;) {
        unsigned long most;
        size_t len = repeat_length(p, &most);
        if (*p == '\\' && p[1] >= '0' && p[1] <= '9')
            return error_set(err, ERROR_INVALID, "pattern \"%.100s\": back references (\\%c) are not supported", text, p[1]);
        if (most > PATTERN_MAX_REPEAT)
            return error_set(err, ERROR_INVALID, "pattern \"%.100s\": repeat at most %d times", text, PATTERN_MAX_REPEAT);
        if (len)
            n.last *= most + 1;
        else
            count_part(&n, p);
        if (n.before[n.depth] + n.last > PATTERN_MAX_PARTS)
            return error_set(err, ERROR_INVALID, "pattern \"%.100s\": its repeats make more than %d parts of it; use fewer "
                             "+ and {…}, and none inside another", text, PATTERN_MAX_PARTS);
        p = *p == '[' ? bracket_end(p) : p + (len ? len : *p == '\\' && p[1] ? 2 : 1);
    }
    return 0;
}

int pattern_compile(const char *text, regex_t *regex, struct error *err)
{
    if (strlen(text) > PATTERN_MAX_LENGTH)
        return error_set(err, ERROR_INVALID, "a pattern may have at most %d characters", PATTERN_MAX_LENGTH);
    if (check_repeats(text, err))
        return -1;
    int r = regcomp(regex, text, REG_EXTENDED | REG_NOSUB);
    if (r == 0)
        return 0;
    char why[128];
    regerror(r, regex, why, sizeof(why));
    return error_set(err, ERROR_INVALID, "pattern \"%.100s\": %s", text, why);
}

int pattern_check(const char *text, struct error *err)
{
    regex_t regex;
    if (pattern_compile(text, &regex, err))
        return -1;
    regfree(&regex);
    return 0;
}
