/* Binary: the codec of the log, the snapshots and the agents' stores. A field is varint(tag << 3 | wire), then its
 * value; lists repeat their tag, maps are lists of {1: key, 2: value}. Signed numbers are zigzag. */
#include <string.h>

#include "model/field.h"
#include "model/scalar.h"

enum wire { WIRE_VARINT, WIRE_FIXED64, WIRE_BYTES };
enum { KV_KEY = 1, KV_VALUE = 2, VARINT_MAX = 10, DEPTH_MAX = 32 };

/* --- encoding --- */
static void put_varint(struct buf *out, uint64_t v)
{
    buf_reserve(out, VARINT_MAX);
    char *p = out->data + out->len;
    while (v >= 0x80) {
        *p++ = (char)(v | 0x80);
        v >>= 7;
    }
    *p++ = (char)v;
    *p = '\0';
    out->len = (size_t)(p - out->data);
}

static void put_key(struct buf *out, uint64_t tag, enum wire wire)
{
    put_varint(out, tag << 3 | wire);
}

static void put_text(struct buf *out, uint64_t tag, const char *s)
{
    size_t n = strlen(s);
    put_key(out, tag, WIRE_BYTES);
    put_varint(out, n);
    buf_add(out, s, n);
}

/* Writes a length before the bytes that were put behind `start`. Most are short: one byte is reserved beforehand. */
static void close_length(struct buf *out, size_t start)
{
    uint64_t n = out->len - start - 1;
    size_t more = 0;
    for (uint64_t v = n >> 7; v; v >>= 7)
        more++;
    if (more) {
        buf_reserve(out, more);
        memmove(out->data + start + 1 + more, out->data + start + 1, n + 1);
        out->len += more;
    }
    char *p = out->data + start;
    for (; n >= 0x80; n >>= 7)
        *p++ = (char)(n | 0x80);
    *p = (char)n;
}

static void put_object(struct buf *out, uint64_t tag, const struct type *t, const void *object, bool even_empty)
{
    size_t before = out->len;
    put_key(out, tag, WIRE_BYTES);
    size_t start = out->len;
    buf_add_char(out, 0);
    type_encode(t, object, out);
    if (out->len == start + 1 && !even_empty)
        out->len = before;
    else
        close_length(out, start);
}

static void put_map(struct buf *out, uint64_t tag, const struct kv_list *l)
{
    for (uint32_t i = 0; i < l->n; i++) {
        put_key(out, tag, WIRE_BYTES);
        size_t start = out->len;
        buf_add_char(out, 0);
        put_text(out, KV_KEY, l->v[i].key);
        put_text(out, KV_VALUE, l->v[i].value);
        close_length(out, start);
    }
}

static void put_scalar(struct buf *out, const struct field *f, const void *value)
{
    if (scalar_is_zero(f, value))
        return;
    switch (f->kind) {
    case FIELD_STRING: put_text(out, f->tag, *(char *const *)value); break;
    case FIELD_FLOAT: {
        uint64_t bits;
        memcpy(&bits, value, sizeof bits);
        put_key(out, f->tag, WIRE_FIXED64);
        buf_add_u64(out, bits);
        break;
    }
    case FIELD_BOOL:
        put_key(out, f->tag, WIRE_VARINT);
        put_varint(out, 1);
        break;
    case FIELD_ENUM:
        put_key(out, f->tag, WIRE_VARINT);
        put_varint(out, (uint64_t)*(const unsigned *)value);
        break;
    case FIELD_UINT:
        put_key(out, f->tag, WIRE_VARINT);
        put_varint(out, *(const uint64_t *)value);
        break;
    default: {
        int64_t v = *(const int64_t *)value;
        put_key(out, f->tag, WIRE_VARINT);
        put_varint(out, (uint64_t)v << 1 ^ (uint64_t)(v >> 63));
    }
    }
}

void type_encode(const struct type *t, const void *object, struct buf *out)
{
    for (const struct field *f = t->fields; f->name; f++) {
        const void *value = field_value(f, object);
        switch (f->kind) {
        case FIELD_OBJECT: put_object(out, f->tag, f->type, value, false); break;
        case FIELD_LIST: {
            const struct list *l = value;
            for (size_t i = 0; i < l->n; i++)
                put_object(out, f->tag, f->type, (const char *)l->v + i * f->type->size, true);
            break;
        }
        case FIELD_STR_LIST: {
            const struct str_list *l = value;
            for (uint32_t i = 0; i < l->n; i++)
                put_text(out, f->tag, l->v[i]);
            break;
        }
        case FIELD_MAP: put_map(out, f->tag, value); break;
        default: put_scalar(out, f, value);
        }
    }
}

/* --- decoding --- */
struct record {
    uint64_t tag;
    enum wire wire;
    uint64_t number;        /* VARINT, FIXED64 */
    struct cursor bytes;    /* BYTES */
};

static bool read_record(struct cursor *c, struct record *r)
{
    uint64_t key;
    if (!cursor_varint(c, &key))
        return false;
    r->tag = key >> 3;
    r->wire = (enum wire)(key & 7);
    switch (r->wire) {
    case WIRE_VARINT: return cursor_varint(c, &r->number);
    case WIRE_FIXED64: return cursor_u64(c, &r->number);
    case WIRE_BYTES: return cursor_varint(c, &r->number) && cursor_sub(c, r->number, &r->bytes);
    }
    return false;
}

static char *read_text(const struct cursor *c)
{
    size_t n = cursor_left(c);
    return memchr(c->p, 0, n) ? NULL : mem_strndup((const char *)c->p, n);
}

static bool decode_object(const struct type *t, struct cursor *c, void *object, int depth);

/* Keys have to ascend, which is how they are written: so equal maps have equal bytes, and reading stays linear. */
static bool decode_pair(struct cursor *c, struct kv_list *l)
{
    struct record r;
    CLEANUP_FREE char *key = NULL;
    CLEANUP_FREE char *value = NULL;
    while (cursor_left(c)) {
        if (!read_record(c, &r))
            return false;
        char **slot = r.tag == KV_KEY ? &key : r.tag == KV_VALUE ? &value : NULL;
        if (!slot)
            continue;
        if (*slot || r.wire != WIRE_BYTES || !(*slot = read_text(&r.bytes)))
            return false;
    }
    if (!key || !value || (l->n && strcmp(l->v[l->n - 1].key, key) >= 0))
        return false;
    kv_set(l, key, value);
    return true;
}

static bool decode_bytes(const struct field *f, struct cursor *c, void *slot, int depth)
{
    switch (f->kind) {
    case FIELD_STRING: {
        char *s = read_text(c);
        free(*(char **)slot);
        *(char **)slot = s;
        return s != NULL;
    }
    case FIELD_OBJECT: return decode_object(f->type, c, slot, depth + 1);
    case FIELD_LIST: {
        void *item = list_add_zero(slot, f->type);
        return decode_object(f->type, c, item, depth + 1);
    }
    case FIELD_STR_LIST: {
        CLEANUP_FREE char *s = read_text(c);
        if (s)
            str_list_add(slot, s);
        return s != NULL;
    }
    case FIELD_MAP: return decode_pair(c, slot);
    default: return false;
    }
}

static bool decode_number(const struct field *f, uint64_t v, void *slot)
{
    switch (f->kind) {
    case FIELD_BOOL:
        *(bool *)slot = v != 0;
        return v <= 1;
    case FIELD_UINT: *(uint64_t *)slot = v; return true;
    case FIELD_ENUM:
        for (uint64_t i = 0; f->names[i]; i++)
            if (i == v) {
                *(int *)slot = (int)v;
                return true;
            }
        return false;
    case FIELD_INT:
    case FIELD_DURATION:
    case FIELD_SIZE_MB:
    case FIELD_TIME: *(int64_t *)slot = (int64_t)(v >> 1 ^ -(v & 1)); return true;
    default: return false;
    }
}

static bool decode_double(const struct field *f, uint64_t bits, void *slot)
{
    if (f->kind != FIELD_FLOAT)
        return false;
    double v;
    memcpy(&v, &bits, sizeof v);
    *(double *)slot = v;
    return v - v == 0;   /* neither infinite nor a NaN: those have no JSON */
}

static bool decode_object(const struct type *t, struct cursor *c, void *object, int depth)
{
    if (depth > DEPTH_MAX)
        return false;
    const struct field *f = t->fields;
    struct record r;
    while (cursor_left(c)) {
        if (!read_record(c, &r))
            return false;
        /* Tags mostly come in the table's order, so the search goes on from the last one. */
        const struct field *from = f;
        while (f->name && f->tag != r.tag)
            f++;
        if (!f->name)
            for (f = t->fields; f != from && f->tag != r.tag; f++)
                ;
        if (f->tag != r.tag || !f->name)
            continue;
        void *slot = field_slot(f, object);
        bool ok = r.wire == WIRE_BYTES    ? decode_bytes(f, &r.bytes, slot, depth)
                  : r.wire == WIRE_VARINT ? decode_number(f, r.number, slot)
                                          : decode_double(f, r.number, slot);
        if (!ok)
            return false;
    }
    return true;
}

int type_decode(const struct type *t, const void *bytes, size_t len, void *object, struct error *err)
{
    struct cursor c = cursor_of(bytes, len);
    memset(object, 0, t->size);
    if (decode_object(t, &c, object, 1))
        return 0;
    size_t at = len - cursor_left(&c);
    type_clear(t, object);
    return error_set(err, ERROR_CORRUPT, "malformed %s: the record that ends at byte %zu of %zu is damaged", t->name, at, len);
}
