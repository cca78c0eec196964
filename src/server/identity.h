/* Identity: who sends a request, and the rights that routes need. */
#pragma once
#include "base/error.h"
#include "net/http_server.h"

/* One right per kind of harm. RIGHT_UNSET is what a table row has that forgot it: nobody has that right. */
enum right {
    RIGHT_UNSET,
    RIGHT_PUBLIC,       /* whether the server is well, and its description: no state */
    RIGHT_READ,         /* to look at everything but secrets */
    RIGHT_LOGS,         /* to read what tasks wrote */
    RIGHT_SUBMIT,       /* to change jobs, services and allocations */
    RIGHT_EXEC,         /* to run commands inside tasks */
    RIGHT_OPERATE,      /* to change nodes and the cluster */
    RIGHT_AGENT,        /* to speak for a node */
    RIGHT_COUNT
};
const char *right_name(enum right right);

enum identity_kind { IDENTITY_NOBODY, IDENTITY_OPERATOR, IDENTITY_AGENT };

struct identity {
    enum identity_kind kind;
    char name[64];          /* for events and versions: "operator", "agent" */
};

/* Who is behind the connection. For now who reaches the API is its local operator, or an agent where agents speak. */
void identity_of_request(const struct http_request *http, enum right needed, struct identity *who);
/* 0, or -1 with ERROR_UNAUTHENTICATED or ERROR_DENIED. */
int identity_check(const struct identity *who, enum right needed, struct error *err);
