#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

void buf_free(struct buf *b)
{
    if (b->secret && b->data)
        explicit_bzero(b->data, b->cap);
    free(b->data);
    *b = (struct buf){.secret = b->secret};
}

void buf_wipe(struct buf *b)
{
    b->secret = true;
    buf_free(b);
}

/* realloc would leave what it moves. */
static char *grow_secret(struct buf *b, size_t cap)
{
    char *data = mem_alloc(cap);
    if (b->data)
        memcpy(data, b->data, b->len);
    struct buf old = *b;
    buf_free(&old);
    return data;
}

void buf_reserve(struct buf *b, size_t more)
{
    size_t need = b->len + more + 1;
    INVARIANT(need > b->len);
    if (need <= b->cap)
        return;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need)
        cap += cap / 2 + 16;
    b->data = b->secret ? grow_secret(b, cap) : mem_realloc(b->data, cap);
    b->cap = cap;
    b->data[b->len] = '\0';
}

void buf_add(struct buf *b, const void *p, size_t n)
{
    buf_reserve(b, n);
    if (n)
        memcpy(b->data + b->len, p, n);
    b->len += n;
    b->data[b->len] = '\0';
}

void buf_add_string(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

void buf_add_char(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    buf_reserve(b, 128);
    size_t room = b->cap - b->len;
    int n = vsnprintf(b->data + b->len, room, fmt, ap);
    va_end(ap);
    INVARIANT(n >= 0);
    if ((size_t)n >= room) {
        buf_reserve(b, (size_t)n);
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
    }
    va_end(again);
    b->len += (size_t)n;
}

void buf_add_u8(struct buf *b, uint8_t v)
{
    buf_add(b, &v, 1);
}

void buf_add_u32(struct buf *b, uint32_t v)
{
    uint8_t bytes[4];
    for (int i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(v >> (8 * i));
    buf_add(b, bytes, sizeof bytes);
}

void buf_add_u64(struct buf *b, uint64_t v)
{
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(v >> (8 * i));
    buf_add(b, bytes, sizeof bytes);
}

void buf_add_varint(struct buf *b, uint64_t v)
{
    uint8_t bytes[10];
    size_t n = 0;
    while (v >= 0x80) {
        bytes[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    bytes[n++] = (uint8_t)v;
    buf_add(b, bytes, n);
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    if (b->data)
        b->data[0] = '\0';
}

void buf_consume(struct buf *b, size_t n)
{
    INVARIANT(n <= b->len);
    if (!n)
        return;
    memmove(b->data, b->data + n, b->len - n + 1);
    b->len -= n;
}

char *buf_steal(struct buf *b)
{
    buf_reserve(b, 0);
    char *data = b->data;
    *b = (struct buf){0};
    return data;
}

bool cursor_bytes(struct cursor *c, size_t n, const uint8_t **p)
{
    if (cursor_left(c) < n)
        return false;
    *p = c->p;
    c->p += n;
    return true;
}

bool cursor_u8(struct cursor *c, uint8_t *v)
{
    const uint8_t *p;
    if (!cursor_bytes(c, 1, &p))
        return false;
    *v = *p;
    return true;
}

bool cursor_u32(struct cursor *c, uint32_t *v)
{
    const uint8_t *p;
    if (!cursor_bytes(c, 4, &p))
        return false;
    *v = 0;
    for (int i = 0; i < 4; i++)
        *v |= (uint32_t)p[i] << (8 * i);
    return true;
}

bool cursor_u64(struct cursor *c, uint64_t *v)
{
    const uint8_t *p;
    if (!cursor_bytes(c, 8, &p))
        return false;
    *v = 0;
    for (int i = 0; i < 8; i++)
        *v |= (uint64_t)p[i] << (8 * i);
    return true;
}

bool cursor_varint(struct cursor *c, uint64_t *v)
{
    uint64_t value = 0;
    const uint8_t *p = c->p;
    for (unsigned shift = 0; shift < 64 && p < c->end; shift += 7) {
        uint8_t byte = *p++;
        if (shift == 63 && byte > 1)
            return false;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            if (shift && !byte)
                return false;
            c->p = p;
            *v = value;
            return true;
        }
    }
    return false;
}

bool cursor_sub(struct cursor *c, size_t n, struct cursor *sub)
{
    const uint8_t *p;
    if (!cursor_bytes(c, n, &p))
        return false;
    *sub = cursor_of(p, n);
    return true;
}
