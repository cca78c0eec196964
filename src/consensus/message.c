/* A message is its type (one byte), its term, and its fields in the order of the struct: varints for numbers (64 bits for
 * hashes), a byte of flags for booleans. An entry is term, type, length, bytes. */
#include "consensus/message.h"

#include "base/error.h"

enum { FLAG_PRE = 1, FLAG_TRANSFER = 2, FLAG_GRANTED = 4 };

static void encode_append(struct buf *out, const struct message_append *a)
{
    buf_add_varint(out, a->prev_index);
    buf_add_varint(out, a->prev_term);
    buf_add_varint(out, a->commit);
    buf_add_varint(out, a->round);
    buf_add_varint(out, a->hash_index);
    buf_add_u64(out, a->hash);
    buf_add_varint(out, a->n);
    for (uint32_t i = 0; i < a->n; i++) {
        const struct entry *e = &a->entries[i];
        buf_add_varint(out, e->term);
        buf_add_u8(out, e->type);
        buf_add_varint(out, e->len);
        buf_add(out, e->bytes, e->len);
    }
}

void message_encode(struct buf *out, const struct message *m)
{
    buf_add_u8(out, (uint8_t)m->type);
    buf_add_varint(out, m->term);
    switch (m->type) {
    case MESSAGE_VOTE:
        buf_add_u8(out, (uint8_t)((m->vote.pre ? FLAG_PRE : 0) | (m->vote.transfer ? FLAG_TRANSFER : 0)));
        buf_add_varint(out, m->vote.last_index);
        buf_add_varint(out, m->vote.last_term);
        break;
    case MESSAGE_VOTE_ANSWER:
        buf_add_u8(out, (uint8_t)((m->vote_answer.pre ? FLAG_PRE : 0) | (m->vote_answer.granted ? FLAG_GRANTED : 0)));
        break;
    case MESSAGE_APPEND:
        encode_append(out, &m->append);
        break;
    case MESSAGE_APPEND_ANSWER:
        buf_add_varint(out, m->append_answer.rejected);
        buf_add_varint(out, m->append_answer.hint_index);
        buf_add_varint(out, m->append_answer.hint_term);
        buf_add_varint(out, m->append_answer.match);
        buf_add_varint(out, m->append_answer.round);
        buf_add_varint(out, m->append_answer.hash_index);
        buf_add_u64(out, m->append_answer.hash);
        break;
    case MESSAGE_TAKE_OVER:
        break;
    case MESSAGE_CHUNK:
        buf_add_varint(out, m->chunk.index);
        buf_add_varint(out, m->chunk.last_term);
        buf_add_varint(out, m->chunk.total);
        buf_add_varint(out, m->chunk.offset);
        buf_add_varint(out, m->chunk.len);
        buf_add(out, m->chunk.bytes, m->chunk.len);
        break;
    case MESSAGE_CHUNK_ANSWER:
        buf_add_varint(out, m->chunk_answer.index);
        buf_add_varint(out, m->chunk_answer.offset);
        buf_add_u8(out, m->chunk_answer.verdict);
        break;
    }
}

static bool flags(struct cursor *c, unsigned allowed, unsigned *out)
{
    uint8_t v;
    if (!cursor_u8(c, &v) || (v & ~allowed))
        return false;
    *out = v;
    return true;
}

static bool decode_entry(struct cursor *c, struct entry *e)
{
    uint64_t len;
    const uint8_t *bytes;
    *e = (struct entry){0};
    if (!cursor_varint(c, &e->term) || !cursor_u8(c, &e->type) || !cursor_varint(c, &len) || len > UINT32_MAX ||
        !cursor_bytes(c, (size_t)len, &bytes) || e->term == 0 || e->type < ENTRY_COMMAND || e->type > ENTRY_MEMBERSHIP)
        return false;
    e->len = (uint32_t)len;
    e->bytes = (uint8_t *)(uintptr_t)bytes;
    return true;
}

static bool decode_append(struct cursor *c, struct message_append *a)
{
    uint64_t n;
    /* An entry takes three bytes at least: what cannot be there is not allocated for. */
    if (!cursor_varint(c, &a->prev_index) || !cursor_varint(c, &a->prev_term) || !cursor_varint(c, &a->commit) ||
        !cursor_varint(c, &a->round) || !cursor_varint(c, &a->hash_index) || !cursor_u64(c, &a->hash) ||
        !cursor_varint(c, &n) || n > MESSAGE_ENTRIES_MAX || n * 3 > cursor_left(c) || a->prev_index > UINT64_MAX - n - 1)
        return false;
    struct entry *entries = n ? mem_array((size_t)n, sizeof entries[0]) : NULL;
    for (uint64_t i = 0; i < n; i++) {
        if (decode_entry(c, &entries[i]))
            continue;
        free(entries);
        return false;
    }
    a->entries = entries;
    a->n = (uint32_t)n;
    return true;
}

static bool decode_chunk(struct cursor *c, struct message_chunk *k)
{
    uint64_t len;
    if (!cursor_varint(c, &k->index) || !cursor_varint(c, &k->last_term) || !cursor_varint(c, &k->total) ||
        !cursor_varint(c, &k->offset) || !cursor_varint(c, &len) || len > MESSAGE_CHUNK_BYTES || !k->index ||
        !k->last_term || k->offset > k->total || len > k->total - k->offset ||
        !cursor_bytes(c, (size_t)len, &k->bytes))
        return false;
    k->len = (uint32_t)len;
    return true;
}

static bool decode_body(struct cursor *c, struct message *m)
{
    unsigned f = 0;
    switch (m->type) {
    case MESSAGE_VOTE:
        if (!flags(c, FLAG_PRE | FLAG_TRANSFER, &f) || !cursor_varint(c, &m->vote.last_index) ||
            !cursor_varint(c, &m->vote.last_term))
            return false;
        m->vote.pre = f & FLAG_PRE;
        m->vote.transfer = f & FLAG_TRANSFER;
        return true;
    case MESSAGE_VOTE_ANSWER:
        if (!flags(c, FLAG_PRE | FLAG_GRANTED, &f))
            return false;
        m->vote_answer.pre = f & FLAG_PRE;
        m->vote_answer.granted = f & FLAG_GRANTED;
        return true;
    case MESSAGE_APPEND:
        return decode_append(c, &m->append);
    case MESSAGE_APPEND_ANSWER: {
        struct message_append_answer *a = &m->append_answer;
        return cursor_varint(c, &a->rejected) && cursor_varint(c, &a->hint_index) && cursor_varint(c, &a->hint_term) &&
               cursor_varint(c, &a->match) && cursor_varint(c, &a->round) && cursor_varint(c, &a->hash_index) &&
               cursor_u64(c, &a->hash);
    }
    case MESSAGE_TAKE_OVER:
        return true;
    case MESSAGE_CHUNK:
        return decode_chunk(c, &m->chunk);
    case MESSAGE_CHUNK_ANSWER:
        return cursor_varint(c, &m->chunk_answer.index) && cursor_varint(c, &m->chunk_answer.offset) &&
               cursor_u8(c, &m->chunk_answer.verdict) && m->chunk_answer.verdict <= CHUNK_FAILED;
    }
    return false;
}

int message_decode(const void *bytes, size_t len, struct message *m, struct error *err)
{
    struct cursor c = cursor_of(bytes, len);
    uint8_t type;
    *m = (struct message){0};
    if (!cursor_u8(&c, &type))
        return error_set(err, ERROR_INVALID, "an empty message");
    m->type = type;
    if (type < MESSAGE_VOTE || type > MESSAGE_CHUNK_ANSWER)
        return error_set(err, ERROR_INVALID, "a message of unknown type %u", type);
    if (cursor_varint(&c, &m->term) && m->term && decode_body(&c, m)) {
        if (!cursor_left(&c))
            return 0;
        if (m->type == MESSAGE_APPEND)
            free((void *)(uintptr_t)m->append.entries);
    }
    *m = (struct message){0};
    return error_set(err, ERROR_INVALID, "a malformed message of type %u", type);
}
