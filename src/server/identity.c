#include "server/identity.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "base/timefmt.h"

#define BIT(right) (1u << (right))
#define BEARER "Bearer "

/* What one may by what one is; tokens have roles. Servers ask each other how they stand, join, and hand on what has an
 * identity of its own. */
static const unsigned rights_of[] = {
    [IDENTITY_NOBODY] = BIT(RIGHT_PUBLIC),
    [IDENTITY_LOCAL] = ~(BIT(RIGHT_UNSET) | BIT(RIGHT_AGENT)),
    [IDENTITY_TOKEN] = BIT(RIGHT_PUBLIC) | BIT(RIGHT_SELF),
    [IDENTITY_AGENT] = BIT(RIGHT_PUBLIC) | BIT(RIGHT_SELF) | BIT(RIGHT_AGENT),
    [IDENTITY_SERVER] = BIT(RIGHT_PUBLIC) | BIT(RIGHT_SELF) | BIT(RIGHT_READ) | BIT(RIGHT_CLUSTER),
};

static void be(struct identity *who, enum identity_kind kind, const char *name)
{
    *who = (struct identity){.kind = kind};
    snprintf(who->name, sizeof who->name, "%s", name);
}

bool http_peer_is_own_host(const struct http_request *http)
{
    return text_has_prefix(http->peer, "127.") || text_has_prefix(http->peer, "[::1]") || !strcmp(http->peer, "unix");
}

static int by_token(struct access_table *table, const char *authorization, struct identity *who, struct error *err)
{
    if (!text_has_prefix(authorization, BEARER))
        return error_set(err, ERROR_UNAUTHENTICATED, "Authorization: write \"Bearer\" and the token");
    struct access_holder *h = access_table_find(table, authorization + strlen(BEARER), time_now_ms(), err);
    if (!h)
        return -1;
    be(who, IDENTITY_TOKEN, h->name);
    who->holder = h;
    return 0;
}

int identity_of_request(struct access_table *table, const struct http_request *http, enum right needed, struct identity *who,
                        struct error *err)
{
    char name[TLS_NAME_SIZE];
    const char *authorization = http_request_header(http, "Authorization"), *agent = http_request_header(http, HEADER_AGENT);
    be(who, IDENTITY_NOBODY, "");
    if (!table) {
        bool speaks = needed == RIGHT_AGENT;
        be(who, speaks ? IDENTITY_AGENT : IDENTITY_LOCAL, speaks ? "agent" : "operator");
        who->any_node = speaks;
    } else if (authorization) {
        return by_token(table, authorization, who, err);
    } else if (tls_peer_role(http->tls, "server", name)) {
        if (agent && text_is_name(agent))
            be(who, IDENTITY_AGENT, agent);
        else
            be(who, IDENTITY_SERVER, name);
    } else if (tls_peer_role(http->tls, "agent", name)) {
        be(who, IDENTITY_AGENT, name);
    } else if (!access_table_in_cluster(table) && http_peer_is_own_host(http)) {
        be(who, IDENTITY_LOCAL, "operator");
    }
    return 0;
}

void identity_clear(struct identity *who)
{
    access_holder_free(who->holder);
    *who = (struct identity){0};
}

int identity_check(const struct identity *who, enum right needed, struct error *err)
{
    if (needed != RIGHT_UNSET && (rights_of[who->kind] & BIT(needed) || (who->holder && grant_allows(&who->holder->grant, needed))))
        return 0;
    if (who->kind == IDENTITY_NOBODY)
        return error_set(err, ERROR_UNAUTHENTICATED, "this needs the right \"%s\": say who you are, with a token (mt login, "
                         "--token, MENTAT_TOKEN)", right_name(needed));
    return error_set(err, ERROR_DENIED, "%s has not the right \"%s\"", who->name, right_name(needed));
}
