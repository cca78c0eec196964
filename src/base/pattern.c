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

static int check_repeats(const char *text, struct error *err)
{
    int repeats = 0;
    for (const char *p = text; *p;) {
        if (*p == '[') {
            p = bracket_end(p);
            continue;
        }
        if (*p == '\\') {
            if (p[1] >= '0' && p[1] <= '9')
                return error_set(err, ERROR_INVALID, "pattern \"%.100s\": back references (\\%c) are not supported", text,
                                 p[1]);
            p += p[1] ? 2 : 1;
            continue;
        }
        if (*p == '{') {
            for (const char *q = p + 1; *q && *q != '}'; q += strcspn(q, ",}") + (q[strcspn(q, ",}")] == ','))
                if (strtoul(q, NULL, 10) > PATTERN_MAX_REPEAT)
                    return error_set(err, ERROR_INVALID, "pattern \"%.100s\": repeat at most %d times", text,
                                     PATTERN_MAX_REPEAT);
            if (++repeats > 3)
                return error_set(err, ERROR_INVALID, "pattern \"%.100s\": use {…} at most three times", text);
        }
        p++;
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
