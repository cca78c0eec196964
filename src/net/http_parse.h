/* HTTP parsing: bytes of one connection into heads, body pieces and ends of messages, with limits and strictness
 * beyond the parser library's: no folded headers, bare line feeds or ambiguous lengths. Knows no sockets. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/http.h"

struct http_parse;

enum http_parse_side {
    HTTP_PARSE_REQUESTS,
    HTTP_PARSE_RESPONSES,
};

struct http_parse_limits {
    size_t head;        /* bytes of the first line and the headers */
    size_t target;      /* bytes of a request's target */
};

#define HTTP_HEADER_COUNT_LIMIT 128

/* A complete head; may be taken out of the parser with http_parse_take_head. */
struct http_head {
    enum http_method method;        /* requests */
    int status;                     /* responses */
    char *target;                   /* requests */
    struct http_headers headers;
    int minor_version;
    bool keep_alive;
    bool upgrade;                   /* Connection: upgrade and an Upgrade header (requests); status 101 */
    bool chunked;
    int64_t content_length;         /* -1: not given */
};
void http_head_free(struct http_head *head);

enum http_parse_event {
    HTTP_PARSE_MORE,    /* all bytes are used up */
    HTTP_PARSE_HEAD,    /* a head is complete; body and end follow in further calls */
    HTTP_PARSE_END,     /* the message is complete */
    HTTP_PARSE_FAILED,  /* for good: http_parse_failure */
};

/* on_body gets each piece of the body, from inside http_parse_run. */
struct http_parse *http_parse_new(enum http_parse_side side, const struct http_parse_limits *limits,
                                  void (*on_body)(void *arg, const char *data, size_t len), void *arg);
void http_parse_free(struct http_parse *p);

/* Parses until the next event; *used says how many of the bytes are done with. Call again with the rest. */
enum http_parse_event http_parse_run(struct http_parse *p, const char *data, size_t len, size_t *used);
/* The peer ended its direction: END for a response that lasts until close, MORE between messages, else FAILED. */
enum http_parse_event http_parse_eof(struct http_parse *p);
/* Before the head of a response: it has no body, whatever it says (answer to HEAD). Holds until changed. */
void http_parse_expect_no_body(struct http_parse *p, bool no_body);

/* True once the first byte of a message came, until its end. */
bool http_parse_in_message(const struct http_parse *p);
const struct http_head *http_parse_head(const struct http_parse *p);
void http_parse_take_head(struct http_parse *p, struct http_head *out);
/* The HTTP status that tells a client what was wrong (400, 414, 431, 501, 505), and why. */
int http_parse_failure(const struct http_parse *p, const char **why);
