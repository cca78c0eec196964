#include "server/peers.h"

#include <string.h>

#include "net/http_client.h"

#define CONNECT_MS 1000
#define ANSWER_LIMIT (4u << 20)

struct peer_ask {
    LIST_ENTRY(peer_ask) link;
    peer_done *done;
    void *ctx;
};

static void on_done(struct http_call *call, struct http_response *res, const struct error *err, void *arg)
{
    struct peer_ask ask = *(struct peer_ask *)arg;
    LIST_REMOVE((struct peer_ask *)arg, link);
    free(arg);
    static const struct buf none;
    ask.done(ask.ctx, err ? 0 : res->status, err ? &none : &res->body, err);
}

void peer_call(struct control *c, enum http_method method, const char *address, const char *path, const struct buf *body,
               int64_t timeout_ms, peer_done *done, void *ctx)
{
    struct peer_ask *ask = NEW(struct peer_ask);
    *ask = (struct peer_ask){.done = done, .ctx = ctx};
    LIST_INSERT_HEAD(&c->peer_asks, ask, link);
    CLEANUP_FREE char *target = strstr(address, "://") ? mem_strdup(address)
                                                       : mem_printf("%s://%s", c->tls ? "https" : "http", address);
    static const struct http_header json = {"Content-Type", "application/json"};
    struct http_call_options o = {
        .method = method, .target = target, .path = path, .headers = &json, .header_count = body ? 1 : 0,
        .body = body ? body->data : NULL, .body_len = body ? body->len : 0, .secret = true, .response_limit = ANSWER_LIMIT,
        .response_timeout_ms = timeout_ms, .idle_timeout_ms = timeout_ms, .on_done = on_done, .arg = ask,
    };
    http_call_start(c->peers, &o);
}

void peers_open(struct control *c, struct tls_context *tls)
{
    c->tls = tls;
    c->peers = http_client_new(c->loop, &(struct http_client_options){.tls = tls, .connect_timeout_ms = CONNECT_MS});
}

void peers_close(struct control *c)
{
    struct peer_ask *ask;
    if (c->peers)
        http_client_close(steal(&c->peers), NULL, NULL);
    while ((ask = LIST_FIRST(&c->peer_asks))) {
        LIST_REMOVE(ask, link);
        free(ask);
    }
}
