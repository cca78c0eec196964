#include "server/route.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

static const struct query_param wait_params[] = {
    {"index", "Answer only when there is something newer than this index (X-Mentat-Index of an earlier answer).",
     false},
    {"wait", "How long to wait for it, such as 30s; 60s unless told, 10m at most.", false},
};
static const struct query_param consistency_params[] = {
    {"consistency", "stale: what the server that is asked knows, X-Mentat-Lag says how old; default: the leader's state; "
                    "strong: after it made sure that it still leads.", false},
};
static const struct query_param namespace_params[] = {
    {"namespace", "In which namespace: default unless told; a list takes `*` for all that one may read.", false},
};
static const struct query_param page_params[] = {
    {"prefix", "Only items whose id or name begins so.", false},
    {"limit", "Items in a page: 500 unless told, 1000 at most.", false},
    {"cursor", "next_cursor of the page before.", false},
    {"filter", "field=value[,field!=value]: only items whose top-level fields compare so.", false},
};

bool route_takes_namespace(const struct route *route)
{
    return route->scope != SCOPE_NONE && route->scope != SCOPE_NAMESPACE;
}

const struct query_param *route_query(const struct route *route, size_t n)
{
    for (const struct query_param *p = route->query; p && p->name; p++)
        if (n-- == 0)
            return p;
    if (route_takes_namespace(route) && n-- == 0)
        return namespace_params;
    if (route->query_sets & QUERY_PAGE) {
        if (n < sizeof page_params / sizeof *page_params)
            return &page_params[n];
        n -= sizeof page_params / sizeof *page_params;
    }
    if (route->query_sets & QUERY_WAIT) {
        if (n < sizeof wait_params / sizeof *wait_params)
            return &wait_params[n];
        n -= sizeof wait_params / sizeof *wait_params;
    }
    if (route->query_sets & (QUERY_WAIT | QUERY_CONSISTENCY) && n == 0)
        return consistency_params;
    return NULL;
}

static bool query_known(const struct route *route, const char *name)
{
    const struct query_param *p;
    for (size_t i = 0; (p = route_query(route, i)); i++)
        if (!strcmp(p->name, name))
            return true;
    return false;
}

static int unknown_query(const struct route *route, const char *name, struct error *err)
{
    CLEANUP_BUF struct buf known = {0};
    const struct query_param *p;
    for (size_t i = 0; (p = route_query(route, i)); i++)
        buf_printf(&known, "%s%s", known.len ? ", " : "; known ones: ", p->name);
    return error_set(err, ERROR_INVALID, "unknown query parameter \"%.64s\"%s", name,
                     known.len ? known.data : "; this route has none");
}

int route_check_query(const struct route *route, const struct http_headers *query, struct error *err)
{
    for (size_t i = 0; i < query->count; i++)
        if (!query_known(route, query->items[i].name))
            return unknown_query(route, query->items[i].name, err);
    for (const struct query_param *p = route->query; p && p->name; p++) {
        const char *value = http_headers_get(query, p->name);
        if (p->required && (!value || !*value))
            return error_set(err, ERROR_INVALID, "query parameter \"%s\" is needed: %s", p->name, p->help);
    }
    return 0;
}

/* Compares a path with a pattern. Returns how many segments matched from the left, and all of them when *whole. */
static size_t match(const char *pattern, char *const *segments, size_t count, const char **params, bool *whole)
{
    size_t matched = 0, param = 0;
    const char *p = pattern;
    while (*p == '/') {
        p++;
        size_t len = strcspn(p, "/");
        if (matched == count)
            return *whole = false, matched;
        const char *segment = segments[matched];
        if (*p == '{') {
            if (!*segment)
                return *whole = false, matched;
            INVARIANT(param < ROUTE_PARAM_MAX);
            params[param++] = segment;
        } else if (strlen(segment) != len || memcmp(segment, p, len)) {
            return *whole = false, matched;
        }
        matched++;
        p += len;
    }
    *whole = matched == count;
    return matched;
}

static void add_method(char **allow, enum http_method method)
{
    char *longer = mem_printf("%s%s%s", *allow ? *allow : "", *allow ? ", " : "", http_method_name(method));
    free(*allow);
    *allow = longer;
}

const struct route *route_find(enum http_method method, char *const *segments, size_t count,
                               const char *params[static ROUTE_PARAM_MAX], char **allow, struct error *err)
{
    size_t best = 0;
    const struct route *nearest = NULL;
    *allow = NULL;
    for (const struct route *r = routes; r < routes + route_count; r++) {
        const char *found[ROUTE_PARAM_MAX] = {NULL};
        bool whole;
        size_t matched = match(r->path, segments, count, found, &whole);
        if (whole && (r->method == method || (method == HTTP_METHOD_HEAD && r->method == HTTP_METHOD_GET))) {
            free(*allow);
            *allow = NULL;
            memcpy(params, found, sizeof found);
            return r;
        }
        if (whole)
            add_method(allow, r->method);
        if (matched > best) {
            best = matched;
            nearest = r;
        }
    }
    if (*allow)
        error_set(err, ERROR_INVALID, "this path has no %s; it has %s", http_method_name(method), *allow);
    else if (best > 1)
        error_set(err, ERROR_NOT_FOUND, "no such route; near it is %s %s, and /v1/openapi.json describes all",
                  http_method_name(nearest->method), nearest->path);
    else
        error_set(err, ERROR_NOT_FOUND, "no such route; the API's paths begin with /v1/, and /v1/openapi.json "
                  "describes them");
    return NULL;
}
