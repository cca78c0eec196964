#include "net/http_guard.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

#define JSON "application/json"

void http_guard_init(struct http_guard *g, const struct address *listen)
{
    /* No browser reaches a unix socket. */
    *g = (struct http_guard){.local = address_is_local(listen) && !listen->is_unix};
}

void http_guard_add(struct http_guard *g, const char *name)
{
    struct address a;
    struct error ignored;
    if (!name || address_parse(name, 0, &a, &ignored) || a.is_unix || !*a.host)
        return;
    char **names = mem_array(g->count + 1, sizeof *names);
    if (g->count)
        memcpy(names, g->names, g->count * sizeof *names);
    names[g->count++] = mem_strdup(a.host);
    free(g->names);
    g->names = names;
}

void http_guard_clear(struct http_guard *g)
{
    for (size_t i = 0; i < g->count; i++)
        free(g->names[i]);
    free(g->names);
    *g = (struct http_guard){0};
}

/* A name of somebody else's may lead here, and what comes under it is then of the same origin as their page. */
static bool is_own_host(const struct http_guard *g, const char *host)
{
    struct address a;
    struct error ignored;
    struct in6_addr ip;
    if (address_parse(host, 0, &a, &ignored) || a.is_unix)
        return false;
    if (inet_pton(AF_INET, a.host, &ip) == 1 || inet_pton(AF_INET6, a.host, &ip) == 1 || !strcasecmp(a.host, "localhost"))
        return true;
    for (size_t i = 0; i < g->count; i++)
        if (!strcasecmp(g->names[i], a.host))
            return true;
    return false;
}

static bool is_same_origin(const char *origin, const char *host)
{
    const char *rest = strstr(origin, "://");
    return rest && host && !strcasecmp(rest + strlen("://"), host);
}

static bool is_json(const char *type)
{
    size_t n = strlen(JSON);
    return !strncasecmp(type, JSON, n) && (!type[n] || strchr("; \t", type[n]));
}

static bool has_body(const struct http_request *req)
{
    const char *length = http_request_header(req, "Content-Length");
    return (length && strtoull(length, NULL, 10)) || http_request_header(req, "Transfer-Encoding");
}

int http_guard_check(const struct http_guard *g, const struct http_request *req, bool any_body, int *status,
                     struct error *err)
{
    const char *host = http_request_header(req, "Host"), *origin = http_request_header(req, "Origin");
    const char *type = http_request_header(req, "Content-Type");
    bool reads = req->method == HTTP_METHOD_GET || req->method == HTTP_METHOD_HEAD || req->method == HTTP_METHOD_OPTIONS;
    *status = 403;
    if (g->local && host && !is_own_host(g, host))
        return error_set(err, ERROR_DENIED, "Host: \"%.100s\" is not a name of this API, which listens on loopback only: use "
                         "its address or localhost, or set advertise to that name", host);
    if ((!reads || req->wants_upgrade) && origin && !is_same_origin(origin, host))
        return error_set(err, ERROR_DENIED, "Origin: pages of \"%.100s\" may not change anything here", origin);
    *status = 415;
    /* Without a type, too: pages can send such bodies. */
    if (!any_body && (has_body(req) || (!reads && type)) && !(type && is_json(type)))
        return error_set(err, ERROR_INVALID, "the body must be JSON and say so: send Content-Type: " JSON "%s%.100s",
                         type ? ", not " : "", type ? type : "");
    return 0;
}
