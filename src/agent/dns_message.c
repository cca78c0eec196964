#include "agent/dns_message.h"

#include <ctype.h>
#include <string.h>

enum { AT_ID = 0, AT_FLAGS = 2, AT_QUESTIONS = 4, AT_ANSWERS = 6, AT_AUTHORITIES = 8, AT_ADDITIONAL = 10 };
enum { FLAG_RESPONSE = 0x8000, FLAG_AUTHORITATIVE = 0x0400, FLAG_CUT = 0x0200, FLAG_DESIRED = 0x0100, FLAG_AVAILABLE = 0x0080,
       OPCODE = 0x7800 };
enum { CLASS_IN = 1, CLASS_ANY = 255 };

#define LABEL_MAX 63
#define POINTER 0xc0                 /* of compression */
#define RECORDS_MOST 8               /* behind the question of a query */
#define RECORD_HEADER 10
#define OPT_SIZE 11
#define QUESTION_NAME 0xc00c

static uint16_t get_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put_u32(uint8_t *p, uint32_t v)
{
    put_u16(p, (uint16_t)(v >> 16));
    put_u16(p + 2, (uint16_t)v);
}

/* --- reading --- */

static char readable(uint8_t c)
{
    return isalnum(c) || c == '-' || c == '_' ? (char)tolower(c) : '?';
}

/* The name of the question: nothing stands before it that a pointer could lead to. */
static bool name_read(const uint8_t *bytes, size_t n, size_t *at, char name[static DNS_NAME_SIZE])
{
    size_t out = 0;
    for (;;) {
        if (*at >= n || bytes[*at] > LABEL_MAX)
            return false;
        size_t length = bytes[(*at)++];
        if (!length)
            break;
        if (length > n - *at || out + length + 1 >= DNS_NAME_SIZE - 1)
            return false;
        if (out)
            name[out++] = '.';
        for (size_t i = 0; i < length; i++)
            name[out++] = readable(bytes[*at + i]);
        *at += length;
    }
    name[out] = 0;
    return true;
}

/* A pointer ends a name, wherever it leads. */
static bool name_skip(const uint8_t *bytes, size_t n, size_t *at)
{
    while (*at < n) {
        uint8_t length = bytes[(*at)++];
        if (length >= POINTER)
            return (*at)++ < n;
        if (length > LABEL_MAX || length > n - *at)
            return false;
        if (!length)
            return true;
        *at += length;
    }
    return false;
}

static bool records_read(const uint8_t *bytes, size_t n, unsigned count, struct dns_query *q)
{
    size_t at = q->end;
    if (count > RECORDS_MOST)
        return false;
    while (count-- > 0) {
        if (!name_skip(bytes, n, &at) || n - at < RECORD_HEADER)
            return false;
        uint16_t type = get_u16(bytes + at), class = get_u16(bytes + at + 2), length = get_u16(bytes + at + 8);
        at += RECORD_HEADER;
        if (length > n - at)
            return false;
        at += length;
        if (type == DNS_OPT) {
            q->extended = true;
            q->size = class < DNS_UDP_SIZE ? DNS_UDP_SIZE : class > DNS_UDP_MOST ? DNS_UDP_MOST : class;
        }
    }
    return true;
}

int dns_query_read(const uint8_t *bytes, size_t n, struct dns_query *q)
{
    *q = (struct dns_query){.size = DNS_UDP_SIZE, .end = DNS_HEADER_SIZE};
    if (n < DNS_HEADER_SIZE || get_u16(bytes + AT_FLAGS) & FLAG_RESPONSE)
        return -1;
    q->id = get_u16(bytes + AT_ID);
    q->flags = get_u16(bytes + AT_FLAGS);
    if (q->flags & OPCODE)
        return DNS_NOT_DONE;
    size_t at = DNS_HEADER_SIZE;
    if (get_u16(bytes + AT_QUESTIONS) != 1 || !name_read(bytes, n, &at, q->name) || n - at < 4)
        return DNS_MALFORMED;
    q->type = get_u16(bytes + at);
    q->class = get_u16(bytes + at + 2);
    q->end = at + 4;
    unsigned records = get_u16(bytes + AT_ANSWERS) + get_u16(bytes + AT_AUTHORITIES) + get_u16(bytes + AT_ADDITIONAL);
    if (!records_read(bytes, n, records, q))
        return DNS_MALFORMED;
    return q->class == CLASS_IN || q->class == CLASS_ANY ? DNS_OK : DNS_REFUSED;
}

bool dns_answers(const uint8_t *answer, size_t n, const uint8_t *query, size_t query_n)
{
    struct dns_query q;
    if (dns_query_read(query, query_n, &q) != DNS_OK || n < q.end || !(get_u16(answer + AT_FLAGS) & FLAG_RESPONSE)
        || get_u16(answer + AT_ID) != q.id || get_u16(answer + AT_QUESTIONS) != 1)
        return false;
    for (size_t i = DNS_HEADER_SIZE; i < q.end; i++)
        if (tolower(answer[i]) != tolower(query[i]))
            return false;
    return true;
}

/* --- writing --- */

static size_t reserved(const struct dns_query *q)
{
    return q->extended ? OPT_SIZE : 0;
}

void dns_answer_begin(struct dns_answer *a, uint8_t *out, size_t size, const uint8_t *query, const struct dns_query *q,
                      enum dns_code code, bool authoritative)
{
    *a = (struct dns_answer){.out = out, .size = size - reserved(q), .n = q->end};
    memcpy(out, query, q->end);
    put_u16(out + AT_FLAGS, (uint16_t)(FLAG_RESPONSE | (q->flags & (OPCODE | FLAG_DESIRED)) | FLAG_AVAILABLE
                                       | (authoritative ? FLAG_AUTHORITATIVE : 0) | code));
    put_u16(out + AT_QUESTIONS, q->end > DNS_HEADER_SIZE);
    memset(out + AT_ANSWERS, 0, 6);
}

/* Room for a record of so many bytes, counted; NULL: there is none. */
static uint8_t *record(struct dns_answer *a, size_t n, bool additional)
{
    if (a->cut || n > a->size - a->n) {
        a->cut |= !additional;
        return NULL;
    }
    uint8_t *at = a->out + a->n;
    a->n += n;
    ++*(additional ? &a->additional : &a->answers);
    return at;
}

static size_t name_size(const char *name)
{
    return name ? strlen(name) + 2 : 2;
}

/* Ours are host names, which have no empty and no long labels. */
static uint8_t *name_put(uint8_t *at, const char *name)
{
    if (!name) {
        put_u16(at, QUESTION_NAME);
        return at + 2;
    }
    while (*name) {
        size_t length = strcspn(name, ".");
        *at++ = (uint8_t)length;
        memcpy(at, name, length);
        at += length;
        name += length + (name[length] == '.');
    }
    *at++ = 0;
    return at;
}

static uint8_t *header_put(uint8_t *at, enum dns_type type, uint16_t class, uint32_t ttl, size_t length)
{
    put_u16(at, (uint16_t)type);
    put_u16(at + 2, class);
    put_u32(at + 4, ttl);
    put_u16(at + 8, (uint16_t)length);
    return at + RECORD_HEADER;
}

void dns_answer_address(struct dns_answer *a, const char *name, uint32_t address, uint32_t ttl_s, bool additional)
{
    uint8_t *at = record(a, name_size(name) + RECORD_HEADER + 4, additional);
    if (at)
        put_u32(header_put(name_put(at, name), DNS_A, CLASS_IN, ttl_s, 4), address);
}

void dns_answer_service(struct dns_answer *a, uint16_t port, const char *target, uint32_t ttl_s)
{
    size_t length = 6 + name_size(target);
    uint8_t *at = record(a, name_size(NULL) + RECORD_HEADER + length, false);
    if (!at)
        return;
    at = header_put(name_put(at, NULL), DNS_SRV, CLASS_IN, ttl_s, length);
    put_u16(at, 0);                  /* priority */
    put_u16(at + 2, 1);              /* weight */
    put_u16(at + 4, port);
    name_put(at + 6, target);
}

size_t dns_answer_end(struct dns_answer *a, const struct dns_query *q)
{
    if (a->cut)
        put_u16(a->out + AT_FLAGS, get_u16(a->out + AT_FLAGS) | FLAG_CUT);
    if (q->extended) {
        uint8_t *at = a->out + a->n;
        *at = 0;
        header_put(at + 1, DNS_OPT, DNS_UDP_MOST, 0, 0);
        a->n += OPT_SIZE;
        a->additional++;
    }
    put_u16(a->out + AT_ANSWERS, a->answers);
    put_u16(a->out + AT_ADDITIONAL, a->additional);
    return a->n;
}
