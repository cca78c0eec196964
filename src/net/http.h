/* HTTP: the pieces of messages that server and client share. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

enum http_method {
    HTTP_METHOD_GET,
    HTTP_METHOD_HEAD,
    HTTP_METHOD_POST,
    HTTP_METHOD_PUT,
    HTTP_METHOD_DELETE,
    HTTP_METHOD_PATCH,
    HTTP_METHOD_OPTIONS,
    HTTP_METHOD_OTHER,          /* answered with 501 before any handler sees it */
};
const char *http_method_name(enum http_method method);
/* GET, HEAD, PUT, DELETE and OPTIONS: doing it twice is as doing it once. */
bool http_method_idempotent(enum http_method method);

/* A name and a value: header, or query parameter. */
struct http_header {
    const char *name;
    const char *value;
};

/* A list that owns its strings. */
struct http_headers {
    struct http_header *items;
    size_t count;
    char *text;
};
/* The first value of that name (any case), or NULL. */
const char *http_headers_get(const struct http_headers *h, const char *name);
/* True when a comma-separated header carries the token (any case): ("Connection", "upgrade"). */
bool http_headers_has_token(const struct http_headers *h, const char *name, const char *token);

const char *http_status_text(int status);

/* Appends s percent-encoded (everything but unreserved characters), for path segments and query values. */
void http_add_encoded(struct buf *out, const char *s);
