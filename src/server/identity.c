#include "server/identity.h"

#include <stdio.h>

static const char *const right_names[RIGHT_COUNT] = {
    [RIGHT_UNSET] = "unset", [RIGHT_PUBLIC] = "public", [RIGHT_READ] = "read", [RIGHT_LOGS] = "logs",
    [RIGHT_SUBMIT] = "submit", [RIGHT_EXEC] = "exec", [RIGHT_OPERATE] = "operate", [RIGHT_AGENT] = "agent",
};

#define BIT(right) (1u << (right))

/* What each kind may do. */
static const unsigned rights_of[] = {
    [IDENTITY_NOBODY] = BIT(RIGHT_PUBLIC),
    [IDENTITY_OPERATOR] = BIT(RIGHT_PUBLIC) | BIT(RIGHT_READ) | BIT(RIGHT_LOGS) | BIT(RIGHT_SUBMIT) | BIT(RIGHT_EXEC) |
                          BIT(RIGHT_OPERATE),
    [IDENTITY_AGENT] = BIT(RIGHT_PUBLIC) | BIT(RIGHT_AGENT),
};

const char *right_name(enum right right)
{
    return right < RIGHT_COUNT ? right_names[right] : "unset";
}

void identity_of_request(const struct http_request *http, enum right needed, struct identity *who)
{
    who->kind = needed == RIGHT_AGENT ? IDENTITY_AGENT : IDENTITY_OPERATOR;
    snprintf(who->name, sizeof who->name, "%s", who->kind == IDENTITY_AGENT ? "agent" : "operator");
}

int identity_check(const struct identity *who, enum right needed, struct error *err)
{
    if (needed != RIGHT_UNSET && rights_of[who->kind] & BIT(needed))
        return 0;
    if (who->kind == IDENTITY_NOBODY)
        return error_set(err, ERROR_UNAUTHENTICATED, "this needs the right \"%s\": say who you are",
                         right_name(needed));
    return error_set(err, ERROR_DENIED, "%s has not the right \"%s\"", who->name, right_name(needed));
}
