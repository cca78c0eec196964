/* Happy path: GET /version tells that the engine is there and which versions of its API it speaks; from then on it is
 * asked /_ping now and then. While it does not answer it is asked again every second: a connection to a socket where
 * nobody listens fails at once and costs nothing. */
#include "agent/drivers/docker_engine.h"

#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

#define LOOK_UP_MS 15000             /* between looks while it answers */
#define LOOK_DOWN_MS 1000
#define CALL_TIMEOUT_MS 30000
#define LOOK_TIMEOUT_MS 10000
#define MESSAGE_LIMIT 65536
#define SILENT "the Docker engine did not answer: "

struct engine_call {
    LIST_ENTRY(engine_call) entry;
    struct engine *engine;
    struct http_call *http;
    void (*on_data)(void *arg, const char *data, size_t len);
    void (*on_upgrade)(void *arg, struct stream *stream);
    engine_done done;
    void *arg;
    bool raw;
    int status;
    struct buf message;              /* of an error, with on_data */
};
LIST_HEAD(call_list, engine_call);

struct engine {
    uv_loop_t *loop;
    char *target;                    /* "unix:/var/run/docker.sock" */
    struct http_client *http;
    struct call_list calls;
    uv_timer_t timer;
    struct engine_call *look;
    bool up, known, closing, seccomp;
    char *version;
    int api;
    char trouble[512];
    void (*changed)(void *arg);
    void *arg;
    unsigned open_parts;
};

/* --- calls --- */

static void call_free(struct engine_call *c)
{
    LIST_REMOVE(c, entry);
    buf_free(&c->message);
    free(c);
}

static enum error_code code_of(int status, const char *message)
{
    if (strstr(message, "no space left on device"))
        return ERROR_NO_SPACE;
    return status == 404 ? ERROR_NOT_FOUND : status == 409 ? ERROR_CONFLICT : status == 400 ? ERROR_INVALID :
           status == 401 || status == 403 ? ERROR_DENIED : ERROR_SYSTEM;
}

static void answer_judge(struct engine_answer *a, const struct buf *body)
{
    if (a->status < 400)
        return;
    const char *message = value_text(&a->json, "message");
    CLEANUP_FREE char *plain = mem_strndup(body->data ? body->data : "", body->len < 300 ? body->len : 300);
    if (!message)
        message = *plain ? plain : "it gave no reason";
    for (char *p = plain; *p; p++)
        if ((unsigned char)*p < ' ')
            *p = ' ';
    error_set(&a->err, code_of(a->status, message), "Docker: %s", message);
}

static void on_done(struct http_call *http, struct http_response *res, const struct error *err, void *arg)
{
    struct engine_call *c = arg;
    struct engine_answer a = {.status = res ? res->status : 0};
    const struct buf *body = res && !c->on_data ? &res->body : &c->message;
    struct engine *e = c->engine;
    if (err)
        error_set(&a.err, err->code, SILENT "%s", err->text);
    bool is_json = !err && body->len && (a.status >= 400 || (!c->raw && !c->on_data));
    if (is_json) {
        struct problem_list problems = {0};
        if (value_from_json(body->data, body->len, &a.json, &problems) < 0 && a.status < 400)
            error_set(&a.err, ERROR_CORRUPT, "the Docker engine's answer is not JSON: %s", problems.v[0].message);
        problem_list_clear(&problems);
    }
    if (!err)
        answer_judge(&a, body);
    a.body = body;
    if (err && err->code == ERROR_UNAVAILABLE && c != e->look)
        engine_suspect(e);
    struct buf message = c->message;             /* the callback may end with the engine closed */
    c->message = (struct buf){0};
    engine_done done = c->done;
    void *done_arg = c->arg;
    if (a.body == &c->message)
        a.body = &message;
    call_free(c);
    done(done_arg, &a);
    value_clear(&a.json);
    buf_free(&message);
}

static void on_data(struct http_call *http, const char *data, size_t len, void *arg)
{
    struct engine_call *c = arg;
    if (c->status < 400)
        c->on_data(c->arg, data, len);
    else if (c->message.len + len < MESSAGE_LIMIT)
        buf_add(&c->message, data, len);
}

static void on_head(struct http_call *http, const struct http_response *res, void *arg)
{
    struct engine_call *c = arg;
    c->status = res->status;
}

static void on_upgraded(struct http_call *http, struct http_response *res, struct stream *stream, void *arg)
{
    struct engine_call *c = arg;
    void (*upgraded)(void *arg, struct stream *stream) = c->on_upgrade;
    void *upgraded_arg = c->arg;
    call_free(c);
    upgraded(upgraded_arg, stream);
}

struct engine_call *engine_start(struct engine *e, const struct engine_request *r, engine_done done, void *arg)
{
    struct engine_call *c = NEW(struct engine_call);
    *c = (struct engine_call){.engine = e, .on_data = r->on_data, .on_upgrade = r->on_upgrade, .done = done, .arg = arg,
                              .raw = r->raw};
    LIST_INSERT_HEAD(&e->calls, c, entry);
    struct http_header headers[4];
    size_t n = 0;
    if (r->body)
        headers[n++] = (struct http_header){"Content-Type", "application/json"};
    if (r->registry_auth)
        headers[n++] = (struct http_header){"X-Registry-Auth", r->registry_auth};
    if (r->on_upgrade)
        headers[n++] = (struct http_header){"Upgrade", "tcp"};
    CLEANUP_FREE char *path = e->api ? mem_printf("/v1.%d%s", e->api, r->path) : mem_strdup(r->path);
    c->http = http_call_start(e->http, &(struct http_call_options){
        .method = r->method, .target = e->target, .path = path, .headers = headers, .header_count = n,
        .body = r->body, .body_len = r->body ? strlen(r->body) : 0,
        .response_timeout_ms = r->timeout_ms ? r->timeout_ms : CALL_TIMEOUT_MS, .idle_timeout_ms = r->idle_ms,
        .on_head = on_head, .on_data = r->on_data ? on_data : NULL, .on_done = on_done,
        .on_upgrade = r->on_upgrade ? on_upgraded : NULL, .arg = c,
    });
    return c;
}

void engine_cancel(struct engine_call *c)
{
    if (!c)
        return;
    http_call_cancel(c->http);
    call_free(c);
}

/* --- whether it is there --- */

static void on_timer(uv_timer_t *timer);

static void state_set(struct engine *e, bool up)
{
    bool first = !e->known, changed = first || e->up != up;
    e->up = up;
    e->known = true;
    uv_timer_start(&e->timer, on_timer, up ? LOOK_UP_MS : LOOK_DOWN_MS, 0);
    if (!changed)
        return;
    if (up)
        LOG_I("the Docker engine answers", "version", e->version, "api", LOG_I64(e->api), "socket", e->target);
    else if (first)
        LOG_I("there is no Docker engine", "reason", e->trouble);
    else
        LOG_W("the Docker engine does not answer", "reason", e->trouble);
    if (e->changed)
        e->changed(e->arg);
}

static int minor_of(const char *version)
{
    int major, minor;
    return version && sscanf(version, "%d.%d", &major, &minor) == 2 && major == 1 ? minor : 0;
}

/* The newest version of the API that both sides know. */
static int negotiate(struct engine *e, const struct value *json)
{
    int most = minor_of(value_text(json, "ApiVersion")), least = minor_of(value_text(json, "MinAPIVersion"));
    const char *version = value_text(json, "Version");
    if (!most || !version) {
        snprintf(e->trouble, sizeof e->trouble, "what answers at %s is no Docker engine", e->target);
        return -1;
    }
    if (most < ENGINE_API_LEAST || least > ENGINE_API_MOST) {
        snprintf(e->trouble, sizeof e->trouble, "Docker %.40s speaks versions 1.%d to 1.%d of its API, this agent 1.%d to "
                 "1.%d: %s", version, least, most, ENGINE_API_LEAST, ENGINE_API_MOST,
                 most < ENGINE_API_LEAST ? "upgrade Docker to 20.10 or newer" : "upgrade this agent");
        return -1;
    }
    mem_set_string(&e->version, version);
    e->api = most < ENGINE_API_MOST ? most : ENGINE_API_MOST;
    return 0;
}

static void info_seen(void *arg, const struct engine_answer *a)
{
    struct engine *e = arg;
    e->look = NULL;
    const struct value *options = value_path(&a->json, "SecurityOptions");
    e->seccomp = false;
    for (uint32_t i = 0; options && options->kind == VALUE_LIST && i < options->n; i++) {
        const char *text = options->entries[i].value.text;
        e->seccomp = e->seccomp || (text && strstr(text, "seccomp"));
    }
    if (a->err.code)
        snprintf(e->trouble, sizeof e->trouble, "%s", a->err.text);
    state_set(e, !a->err.code);
}

/* The socket is named once: of "GET unix:PATH: connecting to unix:PATH: connection refused" the end is told. */
static void tell_silence(struct engine *e, const struct error *err)
{
    const char *why = err->text;
    for (const char *next; text_has_prefix(err->text, SILENT) && (next = strstr(why, ": "));)
        why = next + strlen(": ");
    snprintf(e->trouble, sizeof e->trouble, "no Docker engine answers at %.100s: %.350s", e->target + strlen("unix:"), why);
}

static void version_seen(void *arg, const struct engine_answer *a)
{
    struct engine *e = arg;
    e->look = NULL;
    if (a->err.code) {
        tell_silence(e, &a->err);
        state_set(e, false);
        return;
    }
    if (negotiate(e, &a->json) < 0) {
        state_set(e, false);
        return;
    }
    e->look = engine_start(e, &(struct engine_request){.path = "/info", .timeout_ms = LOOK_TIMEOUT_MS}, info_seen, e);
}

static void ping_seen(void *arg, const struct engine_answer *a)
{
    struct engine *e = arg;
    e->look = NULL;
    if (a->err.code)
        tell_silence(e, &a->err);
    state_set(e, !a->err.code);
}

static void look(struct engine *e)
{
    if (e->look || e->closing)
        return;
    uv_timer_stop(&e->timer);
    if (e->up) {
        e->look = engine_start(e, &(struct engine_request){.path = "/_ping", .timeout_ms = LOOK_TIMEOUT_MS, .raw = true},
                               ping_seen, e);
        return;
    }
    /* It may be another release than before. Asked without a version, each answers in its newest. */
    e->api = 0;
    e->look = engine_start(e, &(struct engine_request){.path = "/version", .timeout_ms = LOOK_TIMEOUT_MS}, version_seen, e);
}

static void on_timer(uv_timer_t *timer)
{
    look(timer->data);
}

void engine_suspect(struct engine *e)
{
    look(e);
}

void engine_ask(struct engine *e)
{
    if (e->up)
        return;
    e->known = false;
    look(e);
}

bool engine_known(const struct engine *e)
{
    return e->known;
}

bool engine_up(const struct engine *e)
{
    return e->up;
}

const char *engine_trouble(const struct engine *e)
{
    return e->trouble;
}

const char *engine_version(const struct engine *e)
{
    return e->version;
}

int engine_api(const struct engine *e)
{
    return e->api;
}

bool engine_has_seccomp(const struct engine *e)
{
    return e->seccomp;
}

struct engine *engine_open(uv_loop_t *loop, const char *socket, void (*changed)(void *arg), void *arg)
{
    struct engine *e = NEW(struct engine);
    e->loop = loop;
    e->target = mem_printf("unix:%s", socket);
    e->changed = changed;
    e->arg = arg;
    snprintf(e->trouble, sizeof e->trouble, "the Docker engine at %s was not asked yet", socket);
    e->http = http_client_new(loop, &(struct http_client_options){.keep_per_target = 32});
    uv_timer_init(loop, &e->timer);
    e->timer.data = e;
    e->open_parts = 2;
    look(e);
    return e;
}

static void part_closed(struct engine *e)
{
    if (--e->open_parts)
        return;
    free(e->target);
    free(e->version);
    free(e);
}

static void http_closed(void *arg)
{
    part_closed(arg);
}

static void timer_closed(uv_handle_t *h)
{
    part_closed(h->data);
}

void engine_close(struct engine *e)
{
    struct engine_call *c;
    e->closing = true;
    while ((c = LIST_FIRST(&e->calls)))
        engine_cancel(c);
    http_client_close(e->http, http_closed, e);
    uv_close((uv_handle_t *)&e->timer, timer_closed);
}
