#include "server/audit_request.h"

#include <string.h>

#include "base/log.h"
#include "model/namespace.h"

static const char *const kinds[] = {
    [IDENTITY_NOBODY] = "nobody", [IDENTITY_LOCAL] = "local", [IDENTITY_TOKEN] = "token", [IDENTITY_AGENT] = "agent",
    [IDENTITY_SERVER] = "server",
};

bool audit_wants(const struct route *route)
{
    bool reads = route->method == HTTP_METHOD_GET || route->right == RIGHT_READ;
    return route->secret || (route->right != RIGHT_AGENT && (!reads || route->right == RIGHT_EXEC || route->right == RIGHT_LOGS));
}

/* A token belongs into a header; who puts it into the address shall at least not find it here. */
static char *target_told(const struct http_request *http)
{
    static const char *const secret[] = {"token", "access_token", "authorization"};
    for (size_t i = 0; i < ARRAY_LEN(secret); i++)
        if (http_request_query(http, secret[i]))
            return mem_strndup(http->target, strcspn(http->target, "?"));
    return mem_strdup(http->target);
}

/* The caller's; NULL: the body is no job. */
static char *job_told(const struct request *r)
{
    const struct job *job = r->route->scope == SCOPE_BODY ? r->body : NULL;
    return job && job->name ? namespace_qualify(job->namespace, job->name) : NULL;
}

static int write_line(struct audit *a, const struct http_request *http, const struct identity *who, const char *id,
                      const char *job, int status, const struct error *problem, struct error *err)
{
    char name[TLS_NAME_SIZE];
    CLEANUP_FREE char *target = target_told(http);
    bool was_failing = audit_failing(a), failed = problem && problem->code != ERROR_NONE;
    struct audit_record record = {
        .request = id, .kind = kinds[who->kind], .who = *who->name ? who->name : NULL,
        .token = who->holder ? who->holder->id : NULL, .peer = http->peer, .method = http_method_name(http->method),
        .path = target, .job = job, .status = status, .error = failed ? problem->text : NULL,
        .handed_on = tls_peer_role(http->tls, "server", name),
    };
    int rc = audit_write(a, &record, err);
    if (rc && !was_failing)
        LOG_E("the audit file cannot be written", "error", err->text);
    else if (!rc && was_failing)
        LOG_I("the audit file can be written again");
    return rc;
}

int audit_admit(struct audit *a, struct error *err)
{
    struct error why;
    if (!a || !audit_failing(a) || audit_note(a, "lines before this one could not be written", &why) == 0)
        return 0;
    return error_set(err, ERROR_NO_SPACE, "who does what cannot be written down (%s), and this server's configuration says "
                     "`audit: required`; make room, or set `audit: on`", why.text);
}

void audit_request(struct audit *a, struct request *r, int status)
{
    struct error err;
    if (!a || !audit_wants(r->route))
        return;
    CLEANUP_FREE char *job = job_told(r);
    write_line(a, r->http, &r->who, r->id, job, status, &r->answer.error, &err);
}

void audit_refused(struct audit *a, const struct http_request *http, const struct identity *who, const char *id, int status,
                   const struct error *err)
{
    struct error ignored;
    if (a)
        write_line(a, http, who, id, NULL, status, err, &ignored);
}
