#include "agent/secret_source.h"

#include <string.h>
#include <sys/queue.h>

#include "agent/sync.h"
#include "base/base64.h"
#include "base/locked.h"
#include "net/http_client.h"

#define CONNECT_MS 2000
#define ANSWER_MS 5000
#define ANSWER_LIMIT (16u << 20)

struct secret_source {
    uv_loop_t *loop;
    struct http_client *client;      /* NULL: not yet */
    LIST_HEAD(, secret_ask) waiting;
    const struct sync *sync;
    char *node_id;
};

struct secret_ask {
    LIST_ENTRY(secret_ask) entry;    /* without a call */
    struct http_call *call;
    char *alloc_id;
    secret_ask_done *done;
    void *ctx;
};

/* --- what one allocation has --- */

void secret_set_free(struct secret_set *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; i < s->n; i++) {
        locked_free(s->v[i].bytes, s->v[i].len);
        free(s->v[i].name);
    }
    if (s->identity)
        explicit_bzero(s->identity, strlen(s->identity));
    free(s->identity);
    free(s->v);
    free(s);
}

const struct secret_item *secret_set_find(const struct secret_set *s, const char *name)
{
    for (uint32_t i = 0; s && i < s->n; i++)
        if (!strcmp(s->v[i].name, name))
            return &s->v[i];
    return NULL;
}

static bool add_item(struct secret_set *set, const struct secret_value *value)
{
    CLEANUP_WIPE struct buf plain = {0};
    const char *text = value->value ? value->value : "";
    buf_reserve(&plain, strlen(text));
    if (!value->name || !base64_read(text, &plain))
        return false;
    struct secret_item *item = &set->v[set->n++];
    *item = (struct secret_item){.name = mem_strdup(value->name), .version = value->version, .len = plain.len,
                                 .bytes = locked_new(plain.len)};
    memcpy(item->bytes, plain.data, plain.len);
    return true;
}

static void wipe_answer(struct agent_secrets *answer)
{
    for (uint32_t i = 0; i < answer->secrets.n; i++)
        if (answer->secrets.v[i].value)
            explicit_bzero(answer->secrets.v[i].value, strlen(answer->secrets.v[i].value));
    type_clear(&agent_secrets_type, answer);
}

static struct secret_set *set_of(struct agent_secrets *answer)
{
    struct secret_set *set = NEW(struct secret_set);
    set->v = mem_array(answer->secrets.n + 1, sizeof *set->v);
    set->identity = steal(&answer->identity);
    set->identity_expires_at = answer->identity_expires_at;
    for (uint32_t i = 0; i < answer->secrets.n; i++)
        if (!add_item(set, &answer->secrets.v[i])) {
            secret_set_free(set);
            return NULL;
        }
    return set;
}

/* --- asking --- */

static struct secret_set *read_answer(struct buf *body, struct error *err)
{
    struct problem_list problems = {0};
    struct agent_secrets answer;
    int rc = type_from_json(&agent_secrets_type, body->data ? body->data : "", body->len, true, &answer, &problems);
    problem_list_clear(&problems);
    struct secret_set *set = rc ? NULL : set_of(&answer);
    if (!rc)
        wipe_answer(&answer);
    if (!set)
        error_set(err, ERROR_UNAVAILABLE, "the server's answer cannot be read");
    return set;
}

/* Servers that cannot serve now are as good as none. */
static void read_refusal(int status, const struct buf *body, struct error *err)
{
    http_refusal(status, body, err);
    err->code = status >= 500 || status == 404 ? ERROR_UNAVAILABLE : ERROR_DENIED;
}

static void ask_free(struct secret_ask *ask)
{
    free(ask->alloc_id);
    free(ask);
}

static void on_done(struct http_call *call, struct http_response *res, const struct error *why, void *arg)
{
    struct secret_ask ask = *(struct secret_ask *)arg;
    struct error err;
    struct secret_set *set = NULL;
    ask_free(arg);
    if (why)
        error_set(&err, ERROR_UNAVAILABLE, "%s", why->text);
    else if (res->status / 100 != 2)
        read_refusal(res->status, &res->body, &err);
    else
        set = read_answer(&res->body, &err);
    ask.done(ask.ctx, set, set ? NULL : &err);
}

static void begin(struct secret_source *s, struct secret_ask *ask)
{
    CLEANUP_FREE char *path = mem_printf("/v1/agent/secrets?node=%s&alloc=%s", s->node_id, ask->alloc_id);
    ask->call = http_call_start(s->client, &(struct http_call_options){
        .method = HTTP_METHOD_GET, .target = sync_server(s->sync), .path = path, .secret = true, .response_limit = ANSWER_LIMIT,
        .response_timeout_ms = ANSWER_MS, .idle_timeout_ms = ANSWER_MS, .on_done = on_done, .arg = ask,
    });
}

struct secret_ask *secret_source_ask(struct secret_source *s, const char *alloc_id, secret_ask_done *done, void *ctx)
{
    struct secret_ask *ask = NEW(struct secret_ask);
    *ask = (struct secret_ask){.alloc_id = mem_strdup(alloc_id), .done = done, .ctx = ctx};
    if (s->client)
        begin(s, ask);
    else
        LIST_INSERT_HEAD(&s->waiting, ask, entry);
    return ask;
}

void secret_ask_cancel(struct secret_ask *ask)
{
    if (ask->call)
        http_call_cancel(ask->call);
    else
        LIST_REMOVE(ask, entry);
    ask_free(ask);
}

/* --- life --- */

struct secret_source *secret_source_new(uv_loop_t *loop, const char *node_id)
{
    struct secret_source *s = NEW(struct secret_source);
    *s = (struct secret_source){.loop = loop, .node_id = mem_strdup(node_id)};
    LIST_INIT(&s->waiting);
    return s;
}

void secret_source_use(struct secret_source *s, struct tls_context *tls, const struct sync *sync)
{
    struct secret_ask *ask;
    s->sync = sync;
    s->client = http_client_new(s->loop, &(struct http_client_options){.tls = tls, .connect_timeout_ms = CONNECT_MS});
    while ((ask = LIST_FIRST(&s->waiting))) {
        LIST_REMOVE(ask, entry);
        begin(s, ask);
    }
}

static void on_closed(void *arg)
{
    struct secret_source *s = arg;
    free(s->node_id);
    free(s);
}

void secret_source_close(struct secret_source *s)
{
    if (s->client)
        http_client_close(s->client, on_closed, s);
    else
        on_closed(s);
}
