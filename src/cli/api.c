/* A request goes to the address that answered last, then to the others in turn while they cannot be reached or say that
 * they cannot serve now. The first answer that is anything else is the answer. */
#include "cli/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/text.h"
#include "model/namespace.h"
#include "net/http_client.h"

#define RESPONSE_MS 90000        /* longer than any waiting read that is asked for */
#define ADDRESSES_MAX 16
#define HEADERS_MAX 5

struct api {
    uv_loop_t loop;
    struct http_client *client;
    struct tls_context *tls;
    char *addresses[ADDRESSES_MAX];
    size_t address_count, current;
    char *authorization, *namespace;
    bool unreached;
    uv_timer_t turn;
};

/* One exchange under way. */
struct exchange {
    struct api *api;
    struct http_call *call;
    bool done;
    int status;
    uint64_t index;
    struct buf body;
    struct error error;
    struct stream *stream;
    char position[sizeof((struct api_part){0}.position)];
    bool delivered;              /* some of it was told on: it cannot be asked for again */
    bool (*on_data)(const char *data, size_t len, void *arg);
    void *arg;
};

static int add_address(struct api *api, const char *text, size_t len, struct error *err)
{
    while (len && *text == ' ')
        text++, len--;
    while (len && (text[len - 1] == ' ' || text[len - 1] == '/'))
        len--;
    if (!len)
        return 0;
    if (api->address_count == ADDRESSES_MAX)
        return error_set(err, ERROR_INVALID, "--address: at most %d addresses", ADDRESSES_MAX);
    CLEANUP_FREE char *word = mem_strndup(text, len);
    bool whole = text_has_prefix(word, "http://") || text_has_prefix(word, "https://") || text_has_prefix(word, "unix:");
    if (!whole && strstr(word, "://"))
        return error_set(err, ERROR_INVALID, "--address: \"%.64s\" is not http://host:port, https://host:port or "
                         "unix:/path", word);
    api->addresses[api->address_count++] = mem_printf("%s%s", whole ? "" : api->tls ? "https://" : "http://", word);
    return 0;
}

struct api *api_new(const struct api_options *o, struct error *err)
{
    struct api *api = NEW(struct api);
    INVARIANT(uv_loop_init(&api->loop) == 0);
    uv_timer_init(&api->loop, &api->turn);
    bool https = strstr(o->addresses, "https://") != NULL;
    if (https || o->ca || o->cert || o->key || o->ca_hash) {
        struct tls_options tls = {.ca_file = o->ca, .cert_file = o->cert, .key_file = o->key, .ca_hash = o->ca_hash};
        if (!!o->cert != !!o->key) {
            error_set(err, ERROR_INVALID, "--cert and --key belong together: give both or none");
            api_free(api);
            return NULL;
        }
        api->tls = tls_context_new(&tls, err);
        if (!api->tls) {
            api_free(api);
            return NULL;
        }
    }
    for (const char *p = o->addresses; *p; p += *p == ',') {
        size_t len = strcspn(p, ",");
        if (add_address(api, p, len, err)) {
            api_free(api);
            return NULL;
        }
        p += len;
    }
    if (!api->address_count) {
        error_set(err, ERROR_INVALID, "--address: no address in \"%.64s\"", o->addresses);
        api_free(api);
        return NULL;
    }
    if (o->token)
        api->authorization = mem_printf("Bearer %s", o->token);
    if (o->namespace && !namespace_is_any(o->namespace) && !text_is_name(o->namespace)) {
        error_set(err, ERROR_INVALID, "--namespace: \"%.64s\" is no name of a namespace", o->namespace);
        api_free(api);
        return NULL;
    }
    api->namespace = namespace_is_default(o->namespace) ? NULL : mem_strdup(o->namespace);
    struct http_client_options options = {.tls = api->tls};
    api->client = http_client_new(&api->loop, &options);
    return api;
}

void api_free(struct api *api)
{
    if (api->client)
        http_client_close(api->client, NULL, NULL);
    uv_close((uv_handle_t *)&api->turn, NULL);
    uv_run(&api->loop, UV_RUN_DEFAULT);
    INVARIANT(uv_loop_close(&api->loop) == 0);
    tls_context_free(api->tls);
    for (size_t i = 0; i < api->address_count; i++)
        free(api->addresses[i]);
    free(api->authorization);
    free(api->namespace);
    free(api);
}

bool api_unreached(const struct api *api)
{
    return api->unreached;
}

const char *api_address(const struct api *api)
{
    return api->addresses[api->current];
}

const char *api_namespace(const struct api *api)
{
    return api->namespace;
}

void api_turn_to_next(struct api *api)
{
    api->current = (api->current + 1) % api->address_count;
}

uv_loop_t *api_loop(struct api *api)
{
    return &api->loop;
}

/* --- one exchange --- */

static void on_head(struct http_call *call, const struct http_response *res, void *arg)
{
    struct exchange *x = arg;
    x->status = res->status;
    const char *index = http_headers_get(&res->headers, "X-Mentat-Index");
    x->index = index ? strtoull(index, NULL, 10) : 0;
    const char *position = http_headers_get(&res->headers, LOG_POSITION_HEADER);
    snprintf(x->position, sizeof x->position, "%s", position ? position : "");
}

static void on_data(struct http_call *call, const char *data, size_t len, void *arg)
{
    struct exchange *x = arg;
    if (!x->on_data || x->status >= 300) {
        buf_add(&x->body, data, len);
        return;
    }
    x->delivered = true;
    if (!x->on_data(data, len, x->arg)) {
        x->done = true;
        http_call_cancel(call);
    }
}

static void on_done(struct http_call *call, struct http_response *res, const struct error *err, void *arg)
{
    struct exchange *x = arg;
    x->done = true;
    if (err)
        x->error = *err;
    else if (res)
        x->status = res->status;
}

static void on_upgrade(struct http_call *call, struct http_response *res, struct stream *stream, void *arg)
{
    struct exchange *x = arg;
    x->done = true;
    x->status = res->status;
    x->stream = stream;
}

struct exchange_ask {
    enum http_method method;
    const char *path;
    const struct buf *body;
    const char *accept, *upgrade, *key, *content_type;      /* content_type NULL: JSON */
    int64_t quiet_ms;                                       /* 0: the answer may rest for any time */
};

/* What has a name or is a list; what has an id is found by that. */
static bool has_namespace(const char *path)
{
    static const char *const named[] = {"/v1/jobs", "/v1/services", "/v1/plan", "/v1/explain/", "/v1/secrets", "/v1/events",
                                        "/v1/volumes"};
    static const char *const lists[] = {"/v1/allocs", "/v1/deployments"};
    size_t n = strcspn(path, "?");
    if (strstr(path + n, "namespace=") || !strcmp(path, "/v1/secrets/rotate"))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(named); i++)
        if (text_has_prefix(path, named[i]))
            return true;
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        if (n == strlen(lists[i]) && !strncmp(path, lists[i], n))
            return true;
    return text_has_prefix(path, "/v1/nodes/") && n > strlen("/adopt") && !strncmp(path + n - strlen("/adopt"), "/adopt", strlen("/adopt"));
}

static char *path_in_namespace(const struct api *api, const char *path)
{
    if (!api->namespace || !has_namespace(path))
        return mem_strdup(path);
    return mem_printf("%s%snamespace=%s", path, strchr(path, '?') ? "&" : "?", api->namespace);
}

static void exchange_start(struct exchange *x, const struct exchange_ask *ask)
{
    struct http_header headers[HEADERS_MAX];
    CLEANUP_FREE char *path = path_in_namespace(x->api, ask->path);
    size_t n = 0;
    if (x->api->authorization)
        headers[n++] = (struct http_header){"Authorization", x->api->authorization};
    if (ask->accept)
        headers[n++] = (struct http_header){"Accept", ask->accept};
    if (ask->body)
        headers[n++] = (struct http_header){"Content-Type", ask->content_type ? ask->content_type : "application/json"};
    if (ask->key)
        headers[n++] = (struct http_header){"Idempotency-Key", ask->key};
    if (ask->upgrade)
        headers[n++] = (struct http_header){"Upgrade", ask->upgrade};
    struct http_call_options o = {
        .method = ask->method, .target = api_address(x->api), .path = path, .headers = headers, .header_count = n,
        .body = ask->body ? ask->body->data : NULL, .body_len = ask->body ? ask->body->len : 0,
        .response_timeout_ms = RESPONSE_MS, .idle_timeout_ms = ask->quiet_ms, .on_head = on_head, .on_data = on_data, .on_done = on_done,
        .on_upgrade = ask->upgrade ? on_upgrade : NULL, .arg = x,
    };
    x->call = http_call_start(x->api->client, &o);
}

/* The message of {"error":{…}}, its details one in a line below it. */
static void read_refusal(const struct exchange *x, struct error *err)
{
    CLEANUP(json_decref) json_t *root = json_loadb(x->body.data ? x->body.data : "", x->body.len, 0, NULL);
    const json_t *e = json_object_get(root, "error");
    const char *code = json_string_value(json_object_get(e, "code"));
    const char *message = json_string_value(json_object_get(e, "message"));
    if (!message) {
        error_set(err, error_code_from_http_status(x->status), "%s answered %d %s", api_address(x->api), x->status,
                  http_status_text(x->status));
        return;
    }
    CLEANUP_BUF struct buf text = {0};
    buf_add_string(&text, message);
    size_t i;
    json_t *d;
    json_array_foreach(json_object_get(e, "details"), i, d) {
        const char *path = json_string_value(json_object_get(d, "path"));
        const char *what = json_string_value(json_object_get(d, "message"));
        if (what && !strstr(message, what))
            buf_printf(&text, "\n  %s%s%s", path ? path : "", path && *path ? ": " : "", what);
    }
    error_set(err, code ? error_code_from_name(code) : error_code_from_http_status(x->status), "%s", text.data);
}

static bool may_try_next(const struct exchange *x, const struct exchange_ask *ask)
{
    enum error_code code = x->error.code;
    if (x->delivered)
        return false;
    if (code == ERROR_NONE)
        return x->status == 503;
    /* With an idempotency key even a write of unknown outcome may be repeated. */
    return code == ERROR_UNAVAILABLE || ((code == ERROR_TIMEOUT || code == ERROR_UNKNOWN_OUTCOME) &&
                                         (ask->key || http_method_idempotent(ask->method)));
}

static void clear(struct exchange *x)
{
    buf_free(&x->body);
    x->status = 0;
    x->index = 0;
    x->done = false;
    x->error = (struct error){0};
}

/* Why a connection could not be made, without the addresses around it. */
static const char *connect_reason(const char *text)
{
    const char *p = strstr(text, "connecting to ");
    p = p ? strstr(p, ": ") : NULL;
    return p ? p + 2 : text;
}

static void not_reached(const struct api *api, const struct error *last, struct error *err)
{
    CLEANUP_BUF struct buf all = {0};
    for (size_t i = 0; i < api->address_count; i++)
        buf_printf(&all, "%s%s", i ? ", " : "", api->addresses[i]);
    error_set(err, last->code, "no server reached at %s: %s; start one with `mt dev`, or give --address", all.data,
              connect_reason(last->text));
}

/* Runs x to its end, over the addresses. -1 with err when there is no good answer; then x is cleared. */
static int exchange_run(struct exchange *x, const struct exchange_ask *ask, struct error *err)
{
    struct api *api = x->api;
    struct error last = {0};
    api->unreached = true;
    for (size_t tried = 0; tried < api->address_count; tried++) {
        clear(x);
        exchange_start(x, ask);
        while (!x->done)
            uv_run(&api->loop, UV_RUN_ONCE);
        if (x->error.code == ERROR_NONE)
            api->unreached = false;
        if (x->error.code == ERROR_NONE && x->status < 300)
            return 0;
        if (x->error.code != ERROR_NONE)
            last = x->error;
        else
            read_refusal(x, &last);
        if (!may_try_next(x, ask))
            break;
        if (tried + 1 < api->address_count)
            api_turn_to_next(api);
    }
    clear(x);
    if (api->unreached && last.code == ERROR_UNAVAILABLE)
        not_reached(api, &last, err);
    else if (api->unreached && last.code == ERROR_DENIED)
        error_set(err, ERROR_DENIED, "%s; --ca, --cert and --key give the certificates to believe and to show", last.text);
    else
        *err = last;
    return -1;
}

/* --- requests --- */

/* A write gets a key of its own. json and index may be NULL. */
static int call_json(struct api *api, struct exchange_ask *ask, json_t **json, uint64_t *index, struct error *err)
{
    bool write = ask->method != HTTP_METHOD_GET && ask->method != HTTP_METHOD_HEAD;
    CLEANUP_FREE char *key = write ? id_new() : NULL;
    struct exchange x = {.api = api};
    ask->key = key;
    ask->accept = "application/json";
    if (exchange_run(&x, ask, err))
        return -1;
    if (index)
        *index = x.index;
    int rc = 0;
    if (json) {
        json_error_t where;
        *json = x.body.len ? json_loadb(x.body.data, x.body.len, JSON_DECODE_ANY, &where) : NULL;
        if (x.body.len && !*json)
            rc = error_set(err, ERROR_CORRUPT, "the answer of %s is not JSON: %s", api_address(api), where.text);
    }
    clear(&x);
    return rc;
}

int api_call(struct api *api, enum http_method method, const char *path, const struct buf *body, json_t **json,
             uint64_t *index, struct error *err)
{
    return call_json(api, &(struct exchange_ask){.method = method, .path = path, .body = body}, json, index, err);
}

int api_put(struct api *api, const char *path, const struct buf *body, json_t **json, struct error *err)
{
    return call_json(api, &(struct exchange_ask){.method = HTTP_METHOD_PUT, .path = path, .body = body,
                                                 .content_type = "application/octet-stream"}, json, NULL, err);
}

int api_text(struct api *api, const char *path, struct buf *out, struct error *err)
{
    struct exchange x = {.api = api};
    if (exchange_run(&x, &(struct exchange_ask){.method = HTTP_METHOD_GET, .path = path}, err))
        return -1;
    buf_add(out, x.body.data ? x.body.data : "", x.body.len);
    clear(&x);
    return 0;
}

json_t *api_get(struct api *api, const char *path, struct error *err)
{
    json_t *json = NULL;
    if (api_call(api, HTTP_METHOD_GET, path, NULL, &json, NULL, err))
        return NULL;
    if (!json)
        error_set(err, ERROR_CORRUPT, "%s gave an empty answer to %s", api_address(api), path);
    return json;
}

json_t *api_list(struct api *api, const char *path, struct error *err)
{
    CLEANUP(json_decref) json_t *all = json_array();
    CLEANUP_FREE char *cursor = NULL;
    for (;;) {
        CLEANUP_BUF struct buf p = {0};
        buf_add_string(&p, path);
        if (cursor) {
            buf_add_string(&p, strchr(path, '?') ? "&cursor=" : "?cursor=");
            http_add_encoded(&p, cursor);
        }
        CLEANUP(json_decref) json_t *page = api_get(api, p.data, err);
        if (!page)
            return NULL;
        json_array_extend(all, json_object_get(page, "items"));
        const char *next = json_string_value(json_object_get(page, "next_cursor"));
        if (!next || !*next)
            return steal(&all);
        mem_set_string(&cursor, next);
    }
}

int api_stream(struct api *api, const char *path, int64_t quiet_ms,
               bool (*each)(const char *data, size_t len, void *arg), void *arg, struct error *err)
{
    struct exchange x = {.api = api, .on_data = each, .arg = arg};
    if (exchange_run(&x, &(struct exchange_ask){.method = HTTP_METHOD_GET, .path = path, .quiet_ms = quiet_ms}, err))
        return -1;
    clear(&x);
    return 0;
}

void api_part_begin(struct api *api, struct api_part *part)
{
    part->error = (struct error){0};
    part->position[0] = '\0';
    part->exchange = NEW(struct exchange);
    *part->exchange = (struct exchange){.api = api, .on_data = part->on_data, .arg = part->arg};
    exchange_start(part->exchange, &(struct exchange_ask){.method = HTTP_METHOD_GET, .path = part->path});
}

static void part_free(struct api_part *part)
{
    clear(part->exchange);
    free(steal(&part->exchange));
}

bool api_part_over(struct api_part *part)
{
    struct exchange *x = part->exchange;
    if (!x)
        return true;
    memcpy(part->position, x->position, sizeof part->position);
    if (!x->done)
        return false;
    if (x->error.code != ERROR_NONE)
        part->error = x->error;
    else if (x->status >= 300)
        read_refusal(x, &part->error);
    part_free(part);
    return true;
}

void api_part_cut(struct api_part *part)
{
    if (!part->exchange)
        return;
    if (!part->exchange->done)
        http_call_cancel(part->exchange->call);
    part_free(part);
}

static void on_turn_timer(uv_timer_t *timer) { }

void api_turn(struct api *api, int64_t most_ms)
{
    uv_timer_start(&api->turn, on_turn_timer, most_ms > 0 ? (uint64_t)most_ms : 0, 0);
    uv_run(&api->loop, UV_RUN_ONCE);
    uv_timer_stop(&api->turn);
}

struct stream *api_upgrade(struct api *api, const char *path, const char *protocol, struct error *err)
{
    struct exchange x = {.api = api};
    if (exchange_run(&x, &(struct exchange_ask){.method = HTTP_METHOD_GET, .path = path, .upgrade = protocol}, err))
        return NULL;
    clear(&x);
    if (!x.stream)
        error_set(err, ERROR_UNSUPPORTED, "%s did not open a stream", api_address(api));
    return x.stream;
}

char *api_path(const char *before, const char *name, const char *after)
{
    struct buf path = {0};
    buf_add_string(&path, before);
    http_add_encoded(&path, name);
    buf_add_string(&path, after);
    return buf_steal(&path);
}
