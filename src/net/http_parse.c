/* The one file that knows which parser library is used: llhttp where there is one, else http-parser.
 *
 * The end of each head is found here, by its empty line, and the library gets exactly the head first. Thus limits are
 * checked on the raw bytes, and HEAD is reported at a place in the input that does not depend on the library. */
#include "net/http_parse.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

#ifdef HAVE_LLHTTP
#include <llhttp.h>
typedef llhttp_t parser_t;
typedef llhttp_settings_t parser_settings_t;
#else
#define http_method http_parser_method      /* the library's enum has the name of ours */
#include <http_parser.h>
#undef http_method
typedef http_parser parser_t;
typedef http_parser_settings parser_settings_t;
#endif

enum phase {
    PHASE_HEAD,
    PHASE_BODY,
    PHASE_FAILED,
};

struct http_parse {
    parser_t parser;
    enum http_parse_side side;
    struct http_parse_limits limits;
    void (*on_body)(void *arg, const char *data, size_t len);
    void *arg;
    enum phase phase;
    bool started;           /* the first byte of a message came */
    bool head_done, message_done;
    bool no_body;
    bool eof_ok;            /* a response without a length: the end of the connection is its end */
    /* The raw head so far. */
    size_t head_bytes;
    size_t line_bytes;      /* of the current line, without its end */
    char last;
    bool first_line;
    /* Its parts: "target\0" and "name\0value\0"…, with offsets of the beginnings. */
    struct buf text;
    size_t target_len;
    uint32_t starts[HTTP_HEADER_COUNT_LIMIT * 2];
    size_t header_count;
    enum { PART_NONE, PART_TARGET, PART_NAME, PART_VALUE } part;
    struct http_head head;
    int failed_status;
    const char *why;
};

static int fail(struct http_parse *p, int status, const char *why)
{
    if (!p->failed_status) {
        p->failed_status = status;
        p->why = why;
    }
    p->phase = PHASE_FAILED;
    return -1;
}

/* ---- Callbacks of the library ---- */

static void end_part(struct http_parse *p)
{
    if (p->part == PART_VALUE) {
        while (p->text.len > p->starts[p->header_count * 2 - 1] &&
               (p->text.data[p->text.len - 1] == ' ' || p->text.data[p->text.len - 1] == '\t'))
            p->text.len--;
    }
    if (p->part != PART_NONE)
        buf_add_char(&p->text, '\0');
    p->part = PART_NONE;
}

static int on_target(parser_t *parser, const char *at, size_t len)
{
    struct http_parse *p = parser->data;
    p->part = PART_TARGET;
    buf_add(&p->text, at, len);
    p->target_len += len;
    return 0;
}

static int on_name(parser_t *parser, const char *at, size_t len)
{
    struct http_parse *p = parser->data;
    if (p->head_done)
        return 0;       /* trailers are not used */
    if (p->part != PART_NAME) {
        /* A name right after a name: the value between them was empty. */
        end_part(p);
        if (p->header_count == HTTP_HEADER_COUNT_LIMIT)
            return fail(p, 431, "too many headers");
        p->starts[p->header_count++ * 2] = (uint32_t)p->text.len;
        p->starts[p->header_count * 2 - 1] = 0;
        p->part = PART_NAME;
    }
    buf_add(&p->text, at, len);
    return 0;
}

static int on_value(parser_t *parser, const char *at, size_t len)
{
    struct http_parse *p = parser->data;
    if (p->head_done)
        return 0;
    if (p->part != PART_VALUE) {
        end_part(p);
        p->starts[p->header_count * 2 - 1] = (uint32_t)p->text.len;
        p->part = PART_VALUE;
    }
    buf_add(&p->text, at, len);
    return 0;
}

static int check_headers(struct http_parse *p);

/* A response without a body, whatever its headers say. */
static bool is_bodyless(const struct http_parse *p)
{
    int status = p->head.status;
    return p->side == HTTP_PARSE_RESPONSES && (p->no_body || status / 100 == 1 || status == 204 || status == 304);
}

static enum http_method method_of(const char *name)
{
    for (enum http_method m = 0; m < HTTP_METHOD_OTHER; m++)
        if (!strcmp(http_method_name(m), name))
            return m;
    return HTTP_METHOD_OTHER;
}

static void build_headers(struct http_parse *p)
{
    struct http_headers *h = &p->head.headers;
    char *text = buf_steal(&p->text);
    h->text = text;
    h->count = p->header_count;
    h->items = h->count ? mem_array(h->count, sizeof *h->items) : NULL;
    for (size_t i = 0; i < h->count; i++) {
        uint32_t value = p->starts[i * 2 + 1];
        h->items[i].name = text + p->starts[i * 2];
        h->items[i].value = value ? text + value : "";
    }
    if (p->side == HTTP_PARSE_REQUESTS)
        p->head.target = mem_strndup(text, p->target_len);
}

static int on_headers_complete(parser_t *parser)
{
    struct http_parse *p = parser->data;
    end_part(p);
    build_headers(p);
    p->head_done = true;
    struct http_head *head = &p->head;
#ifdef HAVE_LLHTTP
    if (p->side == HTTP_PARSE_REQUESTS)
        head->method = method_of(llhttp_method_name((llhttp_method_t)parser->method));
    head->keep_alive = llhttp_should_keep_alive(parser);
#else
    if (p->side == HTTP_PARSE_REQUESTS)
        head->method = method_of(http_method_str((enum http_parser_method)parser->method));
    head->keep_alive = http_should_keep_alive(parser);
#endif
    if (parser->http_major != 1)
        return fail(p, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    head->minor_version = parser->http_minor;
    head->status = p->side == HTTP_PARSE_RESPONSES ? parser->status_code : 0;
    head->upgrade = p->side == HTTP_PARSE_RESPONSES ? head->status == 101
                    : http_headers_has_token(&head->headers, "Connection", "upgrade") &&
                      http_headers_get(&head->headers, "Upgrade");
    if (check_headers(p))
        return -1;
    return is_bodyless(p) ? 1 : 0;
}

static int on_body(parser_t *parser, const char *at, size_t len)
{
    struct http_parse *p = parser->data;
    p->on_body(p->arg, at, len);
    return 0;
}

static int on_message_complete(parser_t *parser)
{
    struct http_parse *p = parser->data;
    p->message_done = true;
#ifdef HAVE_LLHTTP
    return HPE_PAUSED;
#else
    http_parser_pause(parser, 1);
    return 0;
#endif
}

static const parser_settings_t settings = {
    .on_url = on_target,
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* ---- The library, called ---- */

static const char *library_execute(struct http_parse *p, const char *data, size_t len, size_t *used)
{
#ifdef HAVE_LLHTTP
    llhttp_errno_t e = len ? llhttp_execute(&p->parser, data, len) : llhttp_finish(&p->parser);
    *used = len;
    if (e == HPE_OK)
        return NULL;
    if (len && (e == HPE_PAUSED || e == HPE_PAUSED_UPGRADE))
        *used = (size_t)(llhttp_get_error_pos(&p->parser) - data);
    if (e == HPE_PAUSED)
        llhttp_resume(&p->parser);
    if (e == HPE_PAUSED_UPGRADE)
        llhttp_resume_after_upgrade(&p->parser);
    return e == HPE_PAUSED || e == HPE_PAUSED_UPGRADE ? NULL : llhttp_get_error_reason(&p->parser);
#else
    *used = http_parser_execute(&p->parser, &settings, data, len);
    enum http_errno e = HTTP_PARSER_ERRNO(&p->parser);
    if (e == HPE_PAUSED) {
        http_parser_pause(&p->parser, 0);
        return NULL;
    }
    return e == HPE_OK ? NULL : http_errno_description(e);
#endif
}

static void library_init(struct http_parse *p)
{
#ifdef HAVE_LLHTTP
    llhttp_init(&p->parser, p->side == HTTP_PARSE_REQUESTS ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
#else
    http_parser_init(&p->parser, p->side == HTTP_PARSE_REQUESTS ? HTTP_REQUEST : HTTP_RESPONSE);
#endif
    p->parser.data = p;
}

/* ---- Strictness of our own ---- */

/* RFC 9110, token. The library lets a space before the colon pass, which others take as part of the name. */
static bool is_token(const char *s)
{
    if (!*s)
        return false;
    for (; *s; s++)
        if (!strchr("!#$%&'*+-.^_`|~", *s) && !(*s >= '0' && *s <= '9') && !((*s | 0x20) >= 'a' && (*s | 0x20) <= 'z'))
            return false;
    return true;
}

static int check_headers(struct http_parse *p)
{
    struct http_head *head = &p->head;
    size_t lengths = 0, encodings = 0, hosts = 0;
    head->content_length = -1;
    for (size_t i = 0; i < head->headers.count; i++) {
        const struct http_header *h = &head->headers.items[i];
        if (!is_token(h->name))
            return fail(p, 400, "a header's name has a wrong character");
        if (!strcasecmp(h->name, "Content-Length")) {
            size_t digits = strspn(h->value, "0123456789");
            if (!digits || digits > 18 || h->value[digits])
                return fail(p, 400, "Content-Length is not a number");
            head->content_length = (int64_t)strtoll(h->value, NULL, 10);
            lengths++;
        } else if (!strcasecmp(h->name, "Transfer-Encoding")) {
            if (strcasecmp(h->value, "chunked"))
                return fail(p, 501, "the only Transfer-Encoding understood is chunked");
            head->chunked = true;
            encodings++;
        } else if (!strcasecmp(h->name, "Host")) {
            hosts++;
        }
    }
    if (lengths > 1 || encodings > 1 || (lengths && encodings))
        return fail(p, 400, "the length of the body is given more than once");
    if (encodings && head->minor_version == 0)
        return fail(p, 400, "HTTP/1.0 has no Transfer-Encoding");
    if (p->side == HTTP_PARSE_REQUESTS && (hosts > 1 || (!hosts && head->minor_version > 0)))
        return fail(p, 400, "exactly one Host header is needed");
    p->eof_ok = p->side == HTTP_PARSE_RESPONSES && !lengths && !encodings && !is_bodyless(p);
    return 0;
}

/* How many of the bytes belong to the head; *complete when its empty line is among them. -1: refused. */
static ptrdiff_t scan_head(struct http_parse *p, const char *data, size_t len, bool *complete)
{
    for (size_t i = 0; i < len; i++) {
        char c = data[i];
        if (++p->head_bytes > p->limits.head)
            return p->first_line && p->side == HTTP_PARSE_REQUESTS ? fail(p, 414, "the request's target is too long")
                                                                   : fail(p, 431, "the headers are too long");
        if (p->last == '\r' && c != '\n')
            return fail(p, 400, "a carriage return stands alone");
        if (c == '\n') {
            if (p->last != '\r')
                return fail(p, 400, "a line ends without carriage return");
            p->last = c;
            if (!p->line_bytes && !p->first_line) {
                *complete = true;
                return (ptrdiff_t)i + 1;
            }
            /* Empty lines before a message are ignored, as RFC 9112 wants. */
            p->first_line = p->first_line && !p->line_bytes;
            p->line_bytes = 0;
            continue;
        }
        if (((unsigned char)c < 0x20 && c != '\r' && c != '\t') || c == 0x7f)
            return fail(p, 400, "a control character is in the head");
        if (!p->line_bytes && !p->first_line && (c == ' ' || c == '\t'))
            return fail(p, 400, "a header is folded over lines");
        p->last = c;
        if (c != '\r')
            p->line_bytes++;
        /* Method and version take at most 32 bytes beside the target. */
        if (p->first_line && p->side == HTTP_PARSE_REQUESTS && p->line_bytes > p->limits.target + 32)
            return fail(p, 414, "the request's target is too long");
    }
    return (ptrdiff_t)len;
}

static void begin_message(struct http_parse *p)
{
    http_head_free(&p->head);
    p->phase = PHASE_HEAD;
    p->started = p->head_done = p->message_done = p->eof_ok = false;
    p->head_bytes = p->line_bytes = p->target_len = p->header_count = 0;
    p->last = 0;
    p->first_line = true;
    p->part = PART_NONE;
    buf_free(&p->text);
}

struct http_parse *http_parse_new(enum http_parse_side side, const struct http_parse_limits *limits,
                                  void (*body)(void *arg, const char *data, size_t len), void *arg)
{
    struct http_parse *p = NEW(struct http_parse);
    p->side = side;
    p->limits = *limits;
    p->on_body = body;
    p->arg = arg;
    library_init(p);
    begin_message(p);
    return p;
}

void http_parse_free(struct http_parse *p)
{
    if (!p)
        return;
    http_head_free(&p->head);
    buf_free(&p->text);
    free(p);
}

void http_head_free(struct http_head *head)
{
    free(head->target);
    free(head->headers.items);
    free(head->headers.text);
    *head = (struct http_head){.content_length = -1};
}

/* ---- Running ---- */

static enum http_parse_event execute(struct http_parse *p, const char *data, size_t len, size_t *used)
{
    const char *why = library_execute(p, data, len, used);
    if (why || p->failed_status) {
        fail(p, 400, why ? why : "not HTTP");
        return HTTP_PARSE_FAILED;
    }
    return HTTP_PARSE_MORE;
}

static enum http_parse_event run_head(struct http_parse *p, const char *data, size_t len, size_t *used)
{
    bool complete = false;
    ptrdiff_t n = scan_head(p, data, len, &complete);
    if (n < 0)
        return HTTP_PARSE_FAILED;
    p->started = p->started || !p->first_line || p->line_bytes;
    if (n && execute(p, data, (size_t)n, used) == HTTP_PARSE_FAILED)
        return HTTP_PARSE_FAILED;
    if (*used != (size_t)n || p->head_done != complete) {
        fail(p, 400, "not HTTP/1.1");
        return HTTP_PARSE_FAILED;
    }
    if (!complete)
        return HTTP_PARSE_MORE;
    p->phase = PHASE_BODY;
    return HTTP_PARSE_HEAD;
}

enum http_parse_event http_parse_run(struct http_parse *p, const char *data, size_t len, size_t *used)
{
    *used = 0;
    if (p->phase == PHASE_FAILED)
        return HTTP_PARSE_FAILED;
    if (p->phase == PHASE_HEAD)
        return run_head(p, data, len, used);
    if (!p->message_done && len && execute(p, data, len, used) == HTTP_PARSE_FAILED)
        return HTTP_PARSE_FAILED;
    if (!p->message_done)
        return HTTP_PARSE_MORE;
    begin_message(p);
    return HTTP_PARSE_END;
}

enum http_parse_event http_parse_eof(struct http_parse *p)
{
    if (p->phase == PHASE_HEAD && !p->started)
        return HTTP_PARSE_MORE;
    if (p->phase == PHASE_BODY && p->eof_ok) {
        begin_message(p);
        return HTTP_PARSE_END;
    }
    fail(p, 400, "the connection ended in the middle of a message");
    return HTTP_PARSE_FAILED;
}

void http_parse_expect_no_body(struct http_parse *p, bool no_body)
{
    p->no_body = no_body;
}

bool http_parse_in_message(const struct http_parse *p)
{
    return p->started;
}

const struct http_head *http_parse_head(const struct http_parse *p)
{
    return &p->head;
}

void http_parse_take_head(struct http_parse *p, struct http_head *out)
{
    *out = p->head;
    p->head = (struct http_head){.content_length = -1};
}

int http_parse_failure(const struct http_parse *p, const char **why)
{
    *why = p->why;
    return p->failed_status;
}
