#include "consensus/membership.h"

#include <string.h>

void membership_clear(struct membership *m)
{
    for (size_t i = 0; i < m->n; i++)
        free(m->members[i].address);
    free(m->members);
    *m = (struct membership){0};
}

struct membership membership_copy(const struct membership *m)
{
    struct membership copy = {.members = mem_array(m->n ? m->n : 1, sizeof m->members[0]), .n = m->n};
    for (size_t i = 0; i < m->n; i++) {
        copy.members[i] = m->members[i];
        copy.members[i].address = mem_strdup(m->members[i].address);
    }
    return copy;
}

const struct member *membership_find(const struct membership *m, uint64_t id)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->members[i].id == id)
            return &m->members[i];
    return NULL;
}

const struct member *membership_find_address(const struct membership *m, const char *address)
{
    for (size_t i = 0; i < m->n; i++)
        if (!strcmp(m->members[i].address, address))
            return &m->members[i];
    return NULL;
}

bool membership_is_voter(const struct membership *m, uint64_t id)
{
    const struct member *member = membership_find(m, id);
    return member && member->voter;
}

size_t membership_voters(const struct membership *m)
{
    size_t voters = 0;
    for (size_t i = 0; i < m->n; i++)
        voters += m->members[i].voter;
    return voters;
}

bool membership_equal(const struct membership *a, const struct membership *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (a->members[i].id != b->members[i].id || a->members[i].voter != b->members[i].voter ||
            strcmp(a->members[i].address, b->members[i].address) != 0)
            return false;
    return true;
}

void membership_add(struct membership *m, uint64_t id, const char *address, bool voter)
{
    m->members = mem_realloc_array(m->members, m->n + 1, sizeof m->members[0]);
    m->members[m->n++] = (struct member){.id = id, .address = mem_strdup(address), .voter = voter};
}

void membership_remove(struct membership *m, uint64_t id)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->members[i].id != id)
            continue;
        free(m->members[i].address);
        memmove(&m->members[i], &m->members[i + 1], (m->n - i - 1) * sizeof m->members[0]);
        m->n--;
        return;
    }
}

void membership_promote(struct membership *m, uint64_t id)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->members[i].id == id)
            m->members[i].voter = true;
}

void membership_encode(struct buf *out, const struct membership *m)
{
    buf_add_varint(out, m->n);
    for (size_t i = 0; i < m->n; i++) {
        const struct member *member = &m->members[i];
        buf_add_u64(out, member->id);
        buf_add_u8(out, member->voter);
        buf_add_varint(out, strlen(member->address));
        buf_add_string(out, member->address);
    }
}

static int decode_member(struct cursor *c, struct membership *out)
{
    uint64_t id, len;
    uint8_t voter;
    const uint8_t *bytes;
    if (!cursor_u64(c, &id) || !cursor_u8(c, &voter) || !cursor_varint(c, &len) || len > MEMBER_ADDRESS_MAX ||
        !cursor_bytes(c, (size_t)len, &bytes) || memchr(bytes, 0, (size_t)len) || id == 0 || voter > 1 ||
        membership_find(out, id))
        return -1;
    CLEANUP_FREE char *address = mem_strndup((const char *)bytes, (size_t)len);
    membership_add(out, id, address, voter);
    return 0;
}

int membership_decode(const void *bytes, size_t len, struct membership *out, struct error *err)
{
    struct cursor c = cursor_of(bytes, len);
    uint64_t n;
    int rv = cursor_varint(&c, &n) && n <= MEMBERS_MAX ? 0 : -1;
    for (uint64_t i = 0; rv == 0 && i < n; i++)
        rv = decode_member(&c, out);
    if (rv == 0 && !cursor_left(&c))
        return 0;
    membership_clear(out);
    return error_set(err, ERROR_CORRUPT, "the list of members is malformed");
}
