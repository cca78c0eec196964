/* Buf: a growing byte buffer for building; cursor: a capped reader for taking apart. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

/* A struct buf may live on the stack, zeroed; `data` is NULL or malloc'ed and always followed by a NUL byte. What a secret one
 * held is overwritten wherever it lets go of memory: when it grows, and at its end; buf_steal hands it over as it is. */
struct buf {
    char *data;
    size_t len;
    size_t cap;
    bool secret;
};

void buf_free(struct buf *b);                    /* frees the data and clears b, but for secret; b itself is the caller's */
static inline void buf_free_cleanup_value(struct buf *b) { buf_free(b); }
#define CLEANUP_BUF __attribute__((cleanup(buf_free_cleanup_value)))   /* CLEANUP_BUF struct buf b = {0}; */

void buf_wipe(struct buf *b);                    /* as buf_free, and its memory is overwritten; reserve first: growing leaves copies */
static inline void buf_wipe_cleanup_value(struct buf *b) { buf_wipe(b); }
#define CLEANUP_WIPE __attribute__((cleanup(buf_wipe_cleanup_value)))
void buf_reserve(struct buf *b, size_t more);    /* makes room for `more` bytes behind len, and the NUL */
void buf_add(struct buf *b, const void *p, size_t n);
void buf_add_string(struct buf *b, const char *s);
void buf_add_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_add_u8(struct buf *b, uint8_t v);
void buf_add_u32(struct buf *b, uint32_t v);     /* little endian */
void buf_add_u64(struct buf *b, uint64_t v);     /* little endian */
void buf_add_varint(struct buf *b, uint64_t v);  /* LEB128, at most 10 bytes */
void buf_clear(struct buf *b);                   /* len = 0, keeps the memory */
void buf_consume(struct buf *b, size_t n);       /* drops the first n bytes */
char *buf_steal(struct buf *b);                  /* the NUL-ended data, now the caller's; never NULL */

/* Cursor: every read is checked; a failed read moves nothing and returns false. Does not own its bytes. */
struct cursor {
    const uint8_t *p;
    const uint8_t *end;
};

static inline struct cursor cursor_of(const void *p, size_t n)
{
    return (struct cursor){.p = p, .end = n ? (const uint8_t *)p + n : p};      /* p may be NULL when n is 0 */
}
static inline size_t cursor_left(const struct cursor *c) { return (size_t)(c->end - c->p); }
bool cursor_u8(struct cursor *c, uint8_t *v);
bool cursor_u32(struct cursor *c, uint32_t *v);
bool cursor_u64(struct cursor *c, uint64_t *v);
bool cursor_varint(struct cursor *c, uint64_t *v);   /* refuses overlong and overflowing forms */
bool cursor_bytes(struct cursor *c, size_t n, const uint8_t **p);
bool cursor_sub(struct cursor *c, size_t n, struct cursor *sub);
