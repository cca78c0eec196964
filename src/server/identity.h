/* Identity: who sends a request, and whether that may use a route at all; scope.h asks about its objects. */
#pragma once
#include "base/error.h"
#include "model/access.h"
#include "net/http_server.h"
#include "server/access_table.h"

/* What a server tells the leader of an agent whose request it hands on; taken from servers alone. */
#define HEADER_AGENT "X-Mentat-Agent"

enum identity_kind {
    IDENTITY_NOBODY,
    IDENTITY_LOCAL,         /* whoever reaches an API that asks for no tokens, and its own host before there is a cluster */
    IDENTITY_TOKEN,
    IDENTITY_AGENT,         /* by its certificate, "DNS:NAME.agent.mentat" */
    IDENTITY_SERVER,        /* by its certificate, "DNS:ID.server.mentat" */
};

struct identity {
    enum identity_kind kind;
    char name[64];                  /* for events, versions and logs: the token's name, the node's; "" for nobody */
    struct access_holder *holder;   /* IDENTITY_TOKEN: held */
    bool any_node;                  /* IDENTITY_AGENT where nothing proves which one */
};

/* Who is behind the request. table NULL: no tokens are asked for, and whoever reaches the API is its local operator, or
 * an agent where agents speak. -1 with err: what it shows is not good. *who is to be cleared in any case. */
int identity_of_request(struct access_table *table, const struct http_request *http, enum right needed, struct identity *who,
                        struct error *err);
/* The request came over loopback, or over a socket of this host. */
bool http_peer_is_own_host(const struct http_request *http);
void identity_clear(struct identity *who);
/* 0, or -1 with ERROR_UNAUTHENTICATED or ERROR_DENIED. */
int identity_check(const struct identity *who, enum right needed, struct error *err);
