/* Route: one row of the API. From the table come dispatch, the access check, the OpenAPI document and
 * docs/http-api.md. */
#pragma once
#include "base/buf.h"
#include "core/core.h"
#include "model/field.h"
#include "net/http.h"
#include "server/identity.h"

struct request;
struct control;

struct query_param {
    const char *name;
    const char *help;
    bool required;
};

/* Sets of query parameters that many routes share. */
enum query_set { QUERY_WAIT = 1 << 0, QUERY_PAGE = 1 << 1, QUERY_CONSISTENCY = 1 << 2 };

/* Which server answers. */
enum place {
    PLACE_LEADER,       /* the leader; reads that wait, or may be stale, any */
    PLACE_MEMBER,       /* any that is in contact with the leader */
    PLACE_HERE,         /* the one that is asked, whatever it knows */
};

/* When a change is answered: when the leader has it, or all servers that are in contact with it have; by SPREAD_SOON also when
 * they take long. */
enum spread { SPREAD_NOT, SPREAD_SOON, SPREAD_SURE };

/* How a route names what it is about. A route whose right can be narrowed to services or to namespaces has one. Those with
 * names know the query parameter `namespace`; names are qualified when anything else sees them (model/namespace.h). */
enum scope {
    SCOPE_NONE,
    SCOPE_SERVICE,      /* the first parameter is a service */
    SCOPE_JOB,          /* it is a job: all its services */
    SCOPE_BODY,         /* the body is a job: its services, and those that the job of its name has now */
    SCOPE_JOB_BODY,     /* both */
    SCOPE_ALLOC,        /* the first parameter is an allocation */
    SCOPE_DEPLOYMENT,
    SCOPE_SUBJECT,      /* a service or an allocation */
    SCOPE_SECRET,       /* the first parameter is a secret */
    SCOPE_NAMESPACE,    /* it is a namespace */
    SCOPE_LIST,         /* what may not be seen is left out: scope_sees */
};

#define READ_NOT_YET 1
#define READ_LATER 2        /* it ends the request itself, by control_answer */

enum body_rule { BODY_NONE, BODY_REQUIRED, BODY_OPTIONAL };

struct route {
    enum http_method method;
    const char *path;                /* "/v1/services/{service}/scale" */
    enum right right;
    enum scope scope;
    enum place place;
    enum spread spread;
    int64_t limit_ms;                /* how long a request may wait for a leader and its answer; 0: LIMIT_MS_DEFAULT */
    const char *help;                /* one sentence */
    unsigned query_sets;
    const struct query_param *query; /* its own ones, ended by one without name; may be NULL */
    enum body_rule body;
    const struct type *request;      /* of the body; NULL with a body: read by prepare itself */
    const struct type *response;     /* NULL: nothing, or what content_type says */
    bool positions;                  /* index may also be an event's id: read by prepare itself */
    bool list;                       /* response is the type of the items of a page */
    const char *content_type;        /* NULL: application/json */
    bool secret;                     /* body or answer hold a secret: wiped after use; reading it is written down */

    /* Waiting reads: what a wait looks at, narrowed to what this gives (NULL: any). An unknown name ends the wait. */
    enum core_kind watch;
    const char *(*watch_name)(struct control *c, const struct request *r);

    /* HTTP thread, before anything else: checks input, may write request->command or, in routes without read and
     * write, the answer. */
    int (*prepare)(struct request *r, struct error *err);
    /* Core thread: fills the answer from the state. READ_NOT_YET puts it back to wait, unless request->expired; see also
     * READ_LATER. */
    int (*read)(struct control *c, struct request *r, struct error *err);
    /* Core thread: the command to propose, for routes whose prepare did not make it. */
    int (*write)(struct control *c, struct request *r, struct error *err);
    /* Core thread: neither read nor command; ends the request itself by control_answer, now or later. */
    void (*run)(struct control *c, struct request *r);
    /* Core thread, after the command was applied without error; may replace the answer. */
    void (*applied)(struct control *c, struct request *r);
    /* HTTP thread: instead of sending the answer as it is (streams, proxies); errors too. */
    void (*respond)(struct request *r);
};

extern const struct route routes[];
extern const size_t route_count;

#define ROUTE_PARAM_MAX 2

/* Finds the row. params are pointers to the path's decoded segments. Returns NULL with err: NOT_FOUND with a
 * suggestion, or INVALID with *allow set to the methods that the path has ("GET, POST"), which is status 405. */
const struct route *route_find(enum http_method method, char *const *segments, size_t count,
                               const char *params[static ROUTE_PARAM_MAX], char **allow, struct error *err);
/* Whether it has the query parameter `namespace`. */
bool route_takes_namespace(const struct route *route);
/* The n-th query parameter that the route knows, NULL behind the last. */
const struct query_param *route_query(const struct route *route, size_t n);
/* Refuses unknown and missing parameters, naming the known ones. */
int route_check_query(const struct route *route, const struct http_headers *query, struct error *err);

/* The description of the API, from the table and the types' tables. */
void route_openapi(struct buf *out);
void route_markdown(struct buf *out);
