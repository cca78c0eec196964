#include "server/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "model/namespace.h"

#define IDEMPOTENCY_KEY_MAX 128

struct request *request_new(struct http_thread *thread, struct http_request *http, const struct route *route)
{
    struct request *r = NEW(struct request);
    r->thread = thread;
    r->http = http;
    r->route = route;
    http->body.secret = r->answer.body.secret = route->secret;
    return r;
}

static void wipe_texts(const struct type *t, void *object)
{
    for (const struct field *f = t->fields; f->name; f++) {
        char *text = f->kind == FIELD_STRING ? *(char **)((char *)object + f->offset) : NULL;
        if (text)
            explicit_bzero(text, strlen(text));
    }
}

void request_delete(struct request *r)
{
    if (!r)
        return;
    if (r->body && r->route->secret)
        wipe_texts(r->route->request, r->body);
    if (r->body)
        type_free(r->route->request, r->body);
    buf_free(&r->command);
    list_filter_clear(&r->filter);
    core_result_clear(&r->proposal.result);
    buf_free(&r->answer.body);
    problem_list_clear(&r->answer.problems);
    free(r->namespace);
    free(r->qualified);
    free(r->service);
    free(r->forward);
    free(r->tried_leader);
    free(r->target);
    free(r->secret);
    free(r->node_name);
    free(r->alloc_id);
    free(r->agent_path);
    identity_clear(&r->who);
    free(r);
}

bool request_left_open(const struct request *r, int status)
{
    return r->unknown && (status >= 500 || status == error_http_status(ERROR_TOO_MANY));
}

const char *request_query(const struct request *r, const char *name)
{
    return http_request_query(r->http, name);
}

int request_query_number(const struct request *r, const char *name, uint64_t fallback, uint64_t max, uint64_t *out,
                         struct error *err)
{
    const char *text = request_query(r, name);
    *out = fallback;
    if (!text)
        return 0;
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || v > max)
        return error_set(err, ERROR_INVALID, "%s: \"%.64s\" is not a whole number from 0 to %llu", name, text,
                         (unsigned long long)max);
    *out = v;
    return 0;
}

int request_query_bool(const struct request *r, const char *name, bool *out, struct error *err)
{
    const char *text = request_query(r, name);
    *out = text && (!*text || !strcmp(text, "true"));
    if (text && !*out && strcmp(text, "false"))
        return error_set(err, ERROR_INVALID, "%s: write true or false, not \"%.64s\"", name, text);
    return 0;
}

static int parse_consistency(struct request *r, struct error *err)
{
    const char *text = request_query(r, "consistency");
    static const char *const names[] = {"default", "stale", "strong", NULL};
    int consistency = text ? enum_value(names, text) : 0;
    if (consistency < 0)
        return error_set(err, ERROR_INVALID, "consistency: stale, default or strong, not \"%.64s\"", text);
    r->consistency = (enum consistency)consistency;
    return 0;
}

static int parse_wait(struct request *r, struct error *err)
{
    const char *text;
    r->has_index = request_query(r, "index") != NULL;
    if (!r->route->positions && request_query_number(r, "index", 0, INT64_MAX, &r->index, err))
        return -1;
    r->wait_ms = r->has_index ? WAIT_MS_DEFAULT : 0;
    if ((text = request_query(r, "wait"))) {
        if (duration_parse(text, &r->wait_ms))
            return error_set(err, ERROR_INVALID, "wait: \"%.64s\" is not a duration such as 30s or 2m", text);
        if (!r->has_index)
            return error_set(err, ERROR_INVALID, "wait: needs index, the X-Mentat-Index of an earlier answer");
        if (r->wait_ms > WAIT_MS_MAX)
            r->wait_ms = WAIT_MS_MAX;
    }
    return 0;
}

static int parse_limit(struct request *r, struct error *err)
{
    const char *text = http_request_header(r->http, HEADER_TIMEOUT);
    r->limit_ms = r->route->limit_ms ? r->route->limit_ms : LIMIT_MS_DEFAULT;
    if (!text)
        return 0;
    if (duration_parse(text, &r->limit_ms) || !r->limit_ms)
        return error_set(err, ERROR_INVALID, HEADER_TIMEOUT ": \"%.64s\" is not a duration such as 500ms or 30s", text);
    if (r->limit_ms > LIMIT_MS_MAX)
        r->limit_ms = LIMIT_MS_MAX;
    return 0;
}

static int parse_page(struct request *r, struct error *err)
{
    uint64_t limit;
    if (request_query_number(r, "limit", PAGE_LIMIT_DEFAULT, UINT32_MAX, &limit, err))
        return -1;
    if (!limit)
        return error_set(err, ERROR_INVALID, "limit: at least 1");
    r->limit = limit > PAGE_LIMIT_MAX ? PAGE_LIMIT_MAX : (uint32_t)limit;
    return list_filter_parse(r->route->response, request_query(r, "filter"), &r->filter, err);
}

/* The first few problems in one text; all of them are in the details. */
static int problems_error(const struct type *type, const struct problem_list *problems, struct error *err)
{
    CLEANUP_BUF struct buf text = {0};
    for (uint32_t i = 0; i < problems->n && i < 3; i++) {
        const struct problem *p = &problems->v[i];
        bool has_path = p->path && *p->path;
        buf_printf(&text, "%s%s%s%s", i ? "; " : "", has_path ? p->path : "", has_path ? ": " : "", p->message);
    }
    if (problems->n > 3)
        buf_printf(&text, "; and %u more", problems->n - 3);
    return error_set(err, ERROR_INVALID, "the body is not a valid %s: %s", type->name,
                     text.len ? text.data : "not JSON");
}

static int parse_body(struct request *r, struct error *err)
{
    const struct route *route = r->route;
    const struct buf *body = &r->http->body;
    if (route->body == BODY_NONE)
        return body->len ? error_set(err, ERROR_INVALID, "this route takes no body") : 0;
    if (!body->len && route->body == BODY_REQUIRED)
        return error_set(err, ERROR_INVALID, "a JSON body is needed%s%s", route->request ? ": " : "",
                         route->request && route->request->help ? route->request->help : "");
    if (!route->request)
        return 0;
    r->body = type_new(route->request);
    if (!body->len)
        return 0;
    type_clear(route->request, r->body);
    bool internal = route->right == RIGHT_AGENT;
    if (type_from_json(route->request, body->data, body->len, internal, r->body, &r->answer.problems) == 0)
        return 0;
    return problems_error(route->request, &r->answer.problems, err);
}

/* --- namespaces --- */

bool request_in_namespace(const struct request *r, const char *namespace)
{
    const char *asked = r->namespace ? r->namespace : NAMESPACE_DEFAULT;
    return !namespace || namespace_is_any(asked) || !strcmp(asked, namespace);
}

/* A name as it was asked for: in the request's namespace, or with its own before it. */
static int qualify(struct request *r, const char *name, char **out, struct error *err)
{
    bool any = namespace_is_any(r->namespace);
    if (strchr(name, '.') && namespace_is_qualified_name(name)) {
        char own[NAMESPACE_SIZE];
        if (r->namespace && !any && strcmp(namespace_of(name, own), r->namespace))
            return error_set(err, ERROR_INVALID, "namespace: %.64s was asked for, and %.64s is of another one", r->namespace, name);
        *out = mem_strdup(name);
        return 0;
    }
    if (any)
        return error_set(err, ERROR_INVALID, "namespace: `*` is for lists; say in which namespace %.64s is", name);
    *out = namespace_qualify(r->namespace, name);
    return 0;
}

/* A job says itself which namespace it is for, or leaves it to the question; both must not differ. */
static int settle_job(struct request *r, struct job *job, struct error *err)
{
    if (namespace_is_any(r->namespace))
        return error_set(err, ERROR_INVALID, "namespace: `*` is for lists; a job is of one namespace");
    if (r->namespace && job->namespace && strcmp(r->namespace, job->namespace))
        return error_set(err, ERROR_INVALID, "namespace: %.64s was asked for, and the job says %.64s", r->namespace,
                         job->namespace);
    if (!r->namespace)
        r->namespace = mem_strdup(job->namespace);
    mem_set_string(&job->namespace, namespace_is_default(r->namespace) ? NULL : r->namespace);
    return 0;
}

static int parse_namespace(struct request *r, struct error *err)
{
    const char *asked = request_query(r, "namespace"), *service = request_query(r, "service");
    enum scope scope = r->route->scope;
    if (!route_takes_namespace(r->route))
        return 0;
    if (asked && !namespace_is_any(asked) && !text_is_name(asked))
        return error_set(err, ERROR_INVALID, "namespace: \"%.64s\" is no name", asked);
    r->namespace = mem_strdup(asked);
    if ((scope == SCOPE_BODY || scope == SCOPE_JOB_BODY) && settle_job(r, r->body, err))
        return -1;
    if (service && qualify(r, service, &r->service, err))
        return -1;
    bool by_name = scope == SCOPE_SERVICE || scope == SCOPE_JOB || scope == SCOPE_JOB_BODY || scope == SCOPE_SECRET ||
                   scope == SCOPE_SUBJECT;
    if (!by_name)
        return 0;
    if (qualify(r, r->params[0], &r->qualified, err))
        return -1;
    if (scope != SCOPE_SUBJECT)          /* which may be an id */
        r->params[0] = r->qualified;
    return 0;
}

int request_parse_way(struct request *r, struct error *err)
{
    const char *key = http_request_header(r->http, "Idempotency-Key");
    if (key && (!*key || strlen(key) > IDEMPOTENCY_KEY_MAX || !text_is_utf8(key, strlen(key))))
        return error_set(err, ERROR_INVALID, "Idempotency-Key: 1 to %d bytes of UTF-8", IDEMPOTENCY_KEY_MAX);
    r->has_key = key != NULL;
    r->forwarded = http_request_header(r->http, HEADER_FORWARDED) != NULL;
    return parse_limit(r, err);
}

int request_parse(struct request *r, struct error *err)
{
    if (route_check_query(r->route, &r->http->query, err) || request_parse_way(r, err))
        return -1;
    if (r->route->query_sets & (QUERY_WAIT | QUERY_CONSISTENCY) && parse_consistency(r, err))
        return -1;
    if (r->route->query_sets & QUERY_WAIT && parse_wait(r, err))
        return -1;
    if (r->route->query_sets & QUERY_PAGE && parse_page(r, err))
        return -1;
    if (parse_body(r, err) || parse_namespace(r, err))
        return -1;
    return r->route->prepare ? r->route->prepare(r, err) : 0;
}

char *request_key(const struct request *r)
{
    const char *key = http_request_header(r->http, "Idempotency-Key");
    if (!key)
        return NULL;
    return r->who.holder ? mem_printf("%s@%s", key, r->who.holder->id) : mem_strdup(key);
}

void request_command(struct request *r, int kind, const void *payload)
{
    /* Agents' messages are idempotent by themselves. */
    CLEANUP_FREE char *key = r->who.kind == IDENTITY_AGENT ? NULL : request_key(r);
    const char *actor = r->who.kind == IDENTITY_AGENT ? NULL : r->who.name;
    buf_clear(&r->command);
    r->command_kind = kind;
    int64_t level = r->qualified ? command_name_level(r->qualified) : 0;
    r->command_level = level > r->command_level ? level : r->command_level;
    command_encode_payload((enum command_kind)kind, time_now_ms(), key, actor, payload, &r->command);
}

void answer_error_body(const struct error *error, const struct problem_list *problems, struct buf *out)
{
    buf_add_string(out, "{\"error\":{\"code\":");
    json_add_string(out, error_code_name(error->code));
    buf_add_string(out, ",\"message\":");
    json_add_string(out, error->text);
    if (problems && problems->n) {
        buf_add_string(out, ",\"details\":[");
        for (uint32_t i = 0; i < problems->n; i++) {
            const struct problem *p = &problems->v[i];
            buf_add_string(out, i ? ",{\"path\":" : "{\"path\":");
            json_add_string(out, p->path ? p->path : "");
            buf_add_string(out, ",\"message\":");
            json_add_string(out, p->message);
            if (p->line)
                buf_printf(out, ",\"line\":%d,\"column\":%d", p->line, p->column);
            buf_add_char(out, '}');
        }
        buf_add_char(out, ']');
    }
    buf_add_string(out, "}}");
}
