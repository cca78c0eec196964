#include "base/base64.h"

#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_add(struct buf *out, const void *p, size_t n)
{
    const uint8_t *in = p;
    buf_reserve(out, (n + 2) / 3 * 4);
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        uint32_t v = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) | (left > 2 ? in[i + 2] : 0);
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63], left > 1 ? digits[v >> 6 & 63] : '=',
                        left > 2 ? digits[v & 63] : '='};
        buf_add(out, four, 4);
    }
}

static int value_of(char c)
{
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

bool base64_read(const char *text, struct buf *out)
{
    size_t n = strlen(text), before = out->len;
    if (n % 4)
        return false;
    for (size_t i = 0; i < n; i += 4) {
        bool last = i + 4 == n;
        int pad = last && text[i + 3] == '=' ? text[i + 2] == '=' ? 2 : 1 : 0;
        uint32_t v = 0;
        for (int k = 0; k < 4; k++) {
            int d = k >= 4 - pad ? 0 : value_of(text[i + (size_t)k]);
            if (d < 0) {
                out->len = before;
                return false;
            }
            v = v << 6 | (uint32_t)d;
        }
        /* Bits behind the end must be zero: one text for each value. */
        if ((pad == 1 && v & 0xff) || (pad == 2 && v & 0xffff)) {
            out->len = before;
            return false;
        }
        uint8_t three[3] = {(uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
        buf_add(out, three, (size_t)(3 - pad));
    }
    return true;
}

void base64_url_add(struct buf *out, const void *p, size_t n)
{
    size_t at = out->len;
    base64_add(out, p, n);
    for (; at < out->len && out->data[at] != '='; at++)
        out->data[at] = out->data[at] == '+' ? '-' : out->data[at] == '/' ? '_' : out->data[at];
    out->len = at;
    if (out->data)
        out->data[at] = '\0';
}
