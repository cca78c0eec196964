/* Guard: keeps web pages from using an API that trusts whoever reaches it. A browser on the same machine sends what any
 * page tells it to; what a page cannot change are Origin, Host, and the media types that it may send without asking. */
#pragma once
#include "net/address.h"
#include "net/http_server.h"

struct http_guard {
    bool local;                 /* the API is on loopback only: Host must be an address, localhost or one of names */
    char **names;
    size_t count;
};

/* `listen`: where the API listens. */
void http_guard_init(struct http_guard *g, const struct address *listen);
/* A name by which others reach the API, as host or host:port; NULL and what is no name are passed over. */
void http_guard_add(struct http_guard *g, const char *name);
void http_guard_clear(struct http_guard *g);

/* 0, or -1 with the status that refuses the request, and err. any_body: its body need not be JSON. */
int http_guard_check(const struct http_guard *g, const struct http_request *req, bool any_body, int *status,
                     struct error *err);
