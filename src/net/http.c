#include "net/http.h"

#include <string.h>
#include <strings.h>

#include "base/mem.h"

static const struct {
    const char *name;
    bool idempotent;
} methods[] = {
    [HTTP_METHOD_GET] = {"GET", true},
    [HTTP_METHOD_HEAD] = {"HEAD", true},
    [HTTP_METHOD_POST] = {"POST", false},
    [HTTP_METHOD_PUT] = {"PUT", true},
    [HTTP_METHOD_DELETE] = {"DELETE", true},
    [HTTP_METHOD_PATCH] = {"PATCH", false},
    [HTTP_METHOD_OPTIONS] = {"OPTIONS", true},
    [HTTP_METHOD_OTHER] = {"OTHER", false},
};

static const struct {
    int status;
    const char *text;
} statuses[] = {
    {100, "Continue"}, {101, "Switching Protocols"}, {200, "OK"}, {201, "Created"}, {202, "Accepted"},
    {204, "No Content"}, {206, "Partial Content"}, {301, "Moved Permanently"}, {302, "Found"}, {303, "See Other"},
    {304, "Not Modified"}, {307, "Temporary Redirect"}, {308, "Permanent Redirect"}, {400, "Bad Request"},
    {401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"},
    {406, "Not Acceptable"}, {408, "Request Timeout"}, {409, "Conflict"}, {410, "Gone"}, {411, "Length Required"},
    {412, "Precondition Failed"}, {413, "Content Too Large"}, {414, "URI Too Long"}, {415, "Unsupported Media Type"},
    {417, "Expectation Failed"}, {422, "Unprocessable Content"}, {426, "Upgrade Required"},
    {429, "Too Many Requests"}, {431, "Request Header Fields Too Large"}, {499, "Client Closed Request"},
    {500, "Internal Server Error"}, {501, "Not Implemented"}, {502, "Bad Gateway"}, {503, "Service Unavailable"},
    {504, "Gateway Timeout"}, {505, "HTTP Version Not Supported"}, {507, "Insufficient Storage"},
};

const char *http_method_name(enum http_method method)
{
    return (size_t)method < ARRAY_LEN(methods) ? methods[method].name : "OTHER";
}

bool http_method_idempotent(enum http_method method)
{
    return (size_t)method < ARRAY_LEN(methods) && methods[method].idempotent;
}

const char *http_status_text(int status)
{
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
        if (statuses[i].status == status)
            return statuses[i].text;
    return "Unknown";
}

const char *http_headers_get(const struct http_headers *h, const char *name)
{
    for (size_t i = 0; i < h->count; i++)
        if (!strcasecmp(h->items[i].name, name))
            return h->items[i].value;
    return NULL;
}

static bool list_has_token(const char *list, const char *token)
{
    size_t len = strlen(token);
    while (*list) {
        list += strspn(list, ", \t");
        size_t n = strcspn(list, ",");
        size_t word = n;
        while (word && (list[word - 1] == ' ' || list[word - 1] == '\t'))
            word--;
        if (word == len && !strncasecmp(list, token, len))
            return true;
        list += n;
    }
    return false;
}

bool http_headers_has_token(const struct http_headers *h, const char *name, const char *token)
{
    for (size_t i = 0; i < h->count; i++)
        if (!strcasecmp(h->items[i].name, name) && list_has_token(h->items[i].value, token))
            return true;
    return false;
}

void http_add_encoded(struct buf *out, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '.' || c == '_' || c == '~';
        if (plain)
            buf_add_char(out, (char)c);
        else
            buf_printf(out, "%%%02X", c);
    }
}
