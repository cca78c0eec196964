/* DNS messages, as far as a server of names in one zone needs them: reads queries, writes answers. Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DNS_NAME_SIZE 256            /* of a name as text, with its end */
#define DNS_HEADER_SIZE 12
#define DNS_UDP_SIZE 512             /* of an answer to a client that does not say that it takes more */
#define DNS_UDP_MOST 1232            /* to one that does: what no network takes apart */
#define DNS_TCP_MOST 65535

enum dns_type { DNS_A = 1, DNS_AAAA = 28, DNS_SRV = 33, DNS_OPT = 41, DNS_ANY = 255 };
enum dns_code { DNS_OK = 0, DNS_MALFORMED = 1, DNS_FAILED = 2, DNS_NO_NAME = 3, DNS_NOT_DONE = 4, DNS_REFUSED = 5 };

struct dns_query {
    uint16_t id, flags, type, class;
    char name[DNS_NAME_SIZE];        /* in lower case, without the last dot; bytes that no host name has are '?' */
    size_t end;                      /* of the question, in the message */
    bool extended;                   /* it came with EDNS */
    uint16_t size;                   /* that its sender takes by UDP */
};

/* DNS_OK; another code: what it is to be answered with (then q has what could be read); -1: it is not to be answered at
 * all, as it is no query. */
int dns_query_read(const uint8_t *bytes, size_t n, struct dns_query *q);
/* True when these bytes answer that query: the same id and question. */
bool dns_answers(const uint8_t *answer, size_t n, const uint8_t *query, size_t query_n);

/* --- writing: begin, any number of records (those of the answer first), end --- */
struct dns_answer { uint8_t *out; size_t size, n; uint16_t answers, additional; bool cut; };
/* size: of out, and what the client takes. query: the message that q was read from. */
void dns_answer_begin(struct dns_answer *a, uint8_t *out, size_t size, const uint8_t *query, const struct dns_query *q,
                      enum dns_code code, bool authoritative);
/* name NULL: that of the question. What has no room is left out, and the answer says so. */
void dns_answer_address(struct dns_answer *a, const char *name, uint32_t address, uint32_t ttl_s, bool additional);
void dns_answer_service(struct dns_answer *a, uint16_t port, const char *target, uint32_t ttl_s);
/* Returns its length. */
size_t dns_answer_end(struct dns_answer *a, const struct dns_query *q);
