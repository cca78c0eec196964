#include "join/enrol.h"

#include <string.h>

#include "base/log.h"
#include "model/table.h"
#include "net/http_client.h"

#define CONNECT_MS 3000
#define ANSWER_MS 15000
#define ANSWER_LIMIT (512u << 10)

static const struct field certificate_request_fields[] = {
    STRING(certificate_request, request, 1, .flags = FIELD_REQUIRED, .help = "Certificate request (PKCS #10, PEM): whose key it is for."),
    STRING(certificate_request, role, 2, .flags = FIELD_REQUIRED, .help = "server or agent."),
    STRING(certificate_request, name, 3, .flags = FIELD_REQUIRED, .help = "The server's id, or the agent's node."),
    STR_LIST(certificate_request, names, 4, .help = "Of a server: further names and addresses under which it is reached, as DNS:… and IP:…."),
    STRING(certificate_request, token, 5, .help = "ID.SECRET of a join token; without, the certificate of the connection says who asks."),
    {0},
};
TABLE(certificate_request, certificate_request_fields, "Asks for a certificate.");

static const struct field certificate_answer_fields[] = {
    STRING(certificate_answer, certificate, 1, .help = "The certificate and its chain, as PEM."),
    STRING(certificate_answer, authorities, 2, .help = "The authorities that are to be believed, as PEM."),
    STRING(certificate_answer, mark, 3, .help = "Of these authorities; who hears of another one asks again."),
    TIME(certificate_answer, expires_at, 4, .help = "When it expires."),
    TIME(certificate_answer, renew_at, 5, .help = "When to ask for the next one."),
    {0},
};
TABLE(certificate_answer, certificate_answer_fields, "A certificate.");

struct enrol {
    struct enrol_options o;
    struct http_client *client;
    uv_timer_t timer;                /* the next step, never from inside a callback of the client */
    struct str_list targets;
    uint32_t next;
    char *key;
    struct buf body;
    bool over, good;
    struct error err;
};

static bool is_final(enum error_code code)
{
    return code == ERROR_DENIED || code == ERROR_CONFLICT || code == ERROR_INVALID || code == ERROR_UNSUPPORTED;
}

static void take_answer(struct enrol *e, const struct buf *body)
{
    struct certificate_answer a = {0};
    struct problem_list problems = {0};
    if (type_from_json(&certificate_answer_type, body->data ? body->data : "", body->len, true, &a, &problems))
        error_set(&e->err, ERROR_CORRUPT, "the answer cannot be read");
    else
        e->good = credentials_keep(e->o.credentials, e->key, &a, &e->err) == 0;
    problem_list_clear(&problems);
    type_clear(&certificate_answer_type, &a);
}

static void on_step(uv_timer_t *timer);

static void on_done(struct http_call *call, struct http_response *res, const struct error *err, void *arg)
{
    struct enrol *e = arg;
    e->err.code = ERROR_NONE;
    if (err)
        e->err = *err;
    else if (res->status >= 200 && res->status < 300)
        take_answer(e, &res->body);
    else
        http_refusal(res->status, &res->body, &e->err);
    /* What the server says of a certificate or a token another one would say too; a connection that is refused may be only
     * this server's trouble. */
    e->over = e->good || (!err && is_final(e->err.code)) || e->next == e->targets.n;
    uv_timer_start(&e->timer, on_step, 0, 0);
}

static void ask(struct enrol *e)
{
    static const struct http_header json = {"Content-Type", "application/json"};
    http_call_start(e->client, &(struct http_call_options){
        .method = HTTP_METHOD_POST, .target = e->targets.v[e->next++], .path = "/v1/certificates", .headers = &json, .header_count = 1,
        .body = e->body.data, .body_len = e->body.len, .response_limit = ANSWER_LIMIT, .response_timeout_ms = ANSWER_MS,
        .idle_timeout_ms = ANSWER_MS, .on_done = on_done, .arg = e,
    });
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct enrol *e = handle->data;
    str_list_clear(&e->targets);
    certificate_key_free(e->key);
    buf_free(&e->body);
    free(e);
}

void enrol_cancel(struct enrol *e)
{
    http_client_close(e->client, NULL, NULL);
    uv_close((uv_handle_t *)&e->timer, on_timer_closed);
}

static void on_step(uv_timer_t *timer)
{
    struct enrol *e = timer->data;
    if (!e->over) {
        ask(e);
        return;
    }
    struct error err = e->err;
    bool good = e->good;
    void (*done)(void *ctx, const struct error *err) = e->o.done;
    void *ctx = e->o.ctx;
    enrol_cancel(e);
    done(ctx, good ? NULL : &err);
}

static void write_body(struct enrol *e)
{
    const struct enrol_options *o = &e->o;
    CLEANUP_FREE char *request = certificate_request_new(e->key);
    CLEANUP_FREE char *token = o->token ? mem_printf("%s.%s", o->token->id, o->token->secret) : NULL;
    struct certificate_request body = {.request = request, .role = o->credentials->role, .name = o->credentials->name, .token = token};
    if (o->names)
        body.names = *o->names;      /* borrowed */
    type_to_json(&certificate_request_type, &body, &e->body);
}

struct enrol *enrol_start(const struct enrol_options *o, struct error *err)
{
    struct tls_context *pinned = NULL;
    if (o->token && !o->token->ca_hash) {
        error_set(err, ERROR_INVALID, "the join token does not name the cluster's authority, so nothing says that it is that "
                  "cluster which answers; make one where the servers have tls: auto");
        return NULL;
    }
    if (o->token && !(pinned = tls_context_new(&(struct tls_options){.ca_hash = o->token->ca_hash}, err)))
        return NULL;
    struct enrol *e = NEW(struct enrol);
    e->o = *o;
    e->key = certificate_key_new();
    for (uint32_t i = 0; i < o->addresses->n; i++) {
        const char *address = o->addresses->v[i];
        CLEANUP_FREE char *target = strstr(address, "://") ? mem_strdup(address) : mem_printf("https://%s", address);
        str_list_add(&e->targets, target);
    }
    write_body(e);
    e->client = http_client_new(o->loop, &(struct http_client_options){.tls = pinned ? pinned : o->tls, .connect_timeout_ms = CONNECT_MS});
    tls_context_free(pinned);
    uv_timer_init(o->loop, &e->timer);
    e->timer.data = e;
    uv_timer_start(&e->timer, on_step, 0, 0);
    return e;
}
