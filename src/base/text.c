#include "base/text.h"

#include <stdint.h>
#include <string.h>

#include "base/mem.h"

bool text_same_secret(const char *a, const char *b)
{
    size_t len = strlen(a);
    volatile unsigned char differ = 0;
    if (len != strlen(b))
        return false;
    for (size_t i = 0; i < len; i++)
        differ |= (unsigned char)(a[i] ^ b[i]);
    return !differ;
}

bool text_has_prefix(const char *s, const char *prefix)
{
    return !strncmp(s, prefix, strlen(prefix));
}

bool text_same(const char *a, const char *b)
{
    return !strcmp(a ? a : "", b ? b : "");
}

bool text_is_name(const char *s)
{
    size_t n = strlen(s);
    if (!n || n > 63 || s[0] == '-' || s[n - 1] == '-')
        return false;
    return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

char *text_make_name(const char *s, const char *otherwise)
{
    char name[64];
    size_t n = 0;
    for (; *s && n < sizeof name - 1; s++) {
        char c = *s >= 'A' && *s <= 'Z' ? (char)(*s - 'A' + 'a') : *s;
        bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (letter || (n && name[n - 1] != '-'))
            name[n++] = letter ? c : '-';
    }
    while (n && name[n - 1] == '-')
        n--;
    name[n] = '\0';
    return mem_strdup(n ? name : otherwise);
}

void text_tame(char *s, bool keep_lines)
{
    for (unsigned char *p = (unsigned char *)s; *p; p++) {
        if (*p == '\n' && keep_lines)
            continue;
        if (*p < 0x20 || *p == 0x7f)
            *p = ' ';
        else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
            p[0] = p[1] = ' ';
    }
}

bool text_is_utf8(const void *p, size_t n)
{
    const uint8_t *s = p;
    for (size_t i = 0; i < n;) {
        uint8_t c = s[i];
        size_t more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : (c & 0xf0) == 0xe0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : 4;
        if (more == 4 || n - i <= more)
            return false;
        uint32_t point = more == 0 ? c : c & (0x3fu >> more);
        for (size_t k = 1; k <= more; k++) {
            if ((s[i + k] & 0xc0) != 0x80)
                return false;
            point = point << 6 | (s[i + k] & 0x3f);
        }
        if ((more == 2 && (point < 0x800 || (point >= 0xd800 && point < 0xe000))) ||
            (more == 3 && (point < 0x10000 || point > 0x10ffff)))
            return false;
        i += more + 1;
    }
    return true;
}

unsigned text_distance(const char *a, const char *b)
{
    enum { MAX = 64 };
    unsigned d[MAX + 1][MAX + 1];
    size_t na = strnlen(a, MAX), nb = strnlen(b, MAX);
    for (size_t i = 0; i <= na; i++)
        d[i][0] = (unsigned)i;
    for (size_t j = 0; j <= nb; j++)
        d[0][j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++)
        for (size_t j = 1; j <= nb; j++) {
            unsigned best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[na][nb];
}

const char *text_nearest(const char *s, const char *const *candidates)
{
    const char *nearest = NULL;
    unsigned limit = (unsigned)(strlen(s) + 2) / 3 + 1;   /* one slip in three letters */
    for (; *candidates; candidates++) {
        unsigned distance = text_distance(s, *candidates);
        if (distance < limit) {
            limit = distance;
            nearest = *candidates;
        }
    }
    return nearest;
}
