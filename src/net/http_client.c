/* Calls as their users see them: started, paused, resumed, cancelled; and the client that holds them. What happens on
 * the connections is in http_link.c. A call that failed at its start, or that was resumed with bytes held back, is
 * `due`: an idle handle goes on with it from the loop. */
#include "net/http_client.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/text.h"
#include "net/http_client_impl.h"

#define DEFAULT(field, value) do { if (!(field)) (field) = (value); } while (0)

/* ---- Targets ---- */

static int target_parse(const char *text, const char *name, const struct http_client *client, struct target *t, struct error *err)
{
    char host[ADDRESS_TEXT_SIZE];
    bool https = text_has_prefix(text, "https://");
    if (!https && !text_has_prefix(text, "http://") && !text_has_prefix(text, "unix:"))
        return error_set(err, ERROR_INVALID,
                         "target \"%s\": expected http://HOST:PORT, https://HOST:PORT or unix:/PATH", text);
    if (https && !client->o.tls)
        return error_set(err, ERROR_INVALID, "target \"%s\": https needs a CA file", text);
    const char *from = text_has_prefix(text, "unix:") ? text : strstr(text, "://") + 3;
    size_t len = *from == 'u' && from == text ? strlen(from) : strcspn(from, "/?#");
    if (len >= sizeof host || (from != text && from[len] && strcmp(from + len, "/")))
        return error_set(err, ERROR_INVALID, "target \"%s\": the path belongs into the request", text);
    snprintf(host, sizeof host, "%.*s", (int)len, from);
    if (address_parse(host, https ? 443 : 80, &t->address, err))
        return -1;
    if (!*t->address.host)
        return error_set(err, ERROR_INVALID, "target \"%s\": the host is missing", text);
    t->tls = https;
    t->text = mem_strdup(text);
    t->name = mem_strdup(name ? name : client->server_name ? client->server_name : t->address.host);
    return 0;
}

/* ---- Calls ---- */

static void add_clean(struct buf *out, const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s >= 0x20 || *s == '\t')
            buf_add_char(out, *s);
}

static void build_request(struct http_call *call, const struct http_call_options *o)
{
    struct buf *out = &call->request;
    out->secret = call->res.body.secret = o->secret;
    char host[ADDRESS_TEXT_SIZE];
    address_format(host, &call->target.address);
    buf_reserve(out, 256 + o->body_len);
    buf_printf(out, "%s ", http_method_name(o->method));
    for (const char *p = o->path && *o->path ? o->path : "/"; *p; p++)
        if ((unsigned char)*p > 0x20)
            buf_add_char(out, *p);
    buf_printf(out, " HTTP/1.1\r\nHost: %s\r\n", call->target.address.is_unix ? "localhost" : host);
    for (size_t i = 0; i < o->header_count; i++) {
        call->wants_upgrade = call->wants_upgrade || !strcasecmp(o->headers[i].name, "Upgrade");
        add_clean(out, o->headers[i].name);
        buf_add_string(out, ": ");
        add_clean(out, o->headers[i].value);
        buf_add_string(out, "\r\n");
    }
    if (call->wants_upgrade)
        buf_add_string(out, "Connection: upgrade\r\n");
    bool sends = o->method == HTTP_METHOD_POST || o->method == HTTP_METHOD_PUT || o->method == HTTP_METHOD_PATCH;
    if (o->body_len || sends)
        buf_printf(out, "Content-Length: %zu\r\n", o->body_len);
    buf_add_string(out, "\r\n");
    buf_add(out, o->body, o->body_len);
}

static void on_soon(uv_idle_t *idle);

static void call_due(struct http_call *call)
{
    call->due = true;
    if (!uv_is_active((uv_handle_t *)&call->client->soon))
        uv_idle_start(&call->client->soon, on_soon);
}

struct http_call *http_call_start(struct http_client *client, const struct http_call_options *options)
{
    struct http_call *call = NEW(struct http_call);
    call->client = client;
    call->o = *options;
    DEFAULT(call->o.response_limit, 64 * 1024 * 1024);
    LIST_INSERT_HEAD(&client->calls, call, entry);
    INVARIANT(!client->closed);
    if (!target_parse(options->target, options->server_name, client, &call->target, &call->why))
        build_request(call, options);
    /* The caller's strings end with this call. */
    call->o.target = call->o.server_name = NULL;
    call->o.path = NULL;
    call->o.headers = NULL;
    call->o.body = NULL;
    if (call->request.len)
        link_start(call);
    else
        call_due(call);
    return call;
}

void http_call_cancel(struct http_call *call)
{
    struct link *l = call->link;
    if (call->leaving)
        return;
    call_leave(call);
    if (l)
        link_close(l);
    call_free(call);
}

void http_call_pause(struct http_call *call)
{
    call->paused = true;
    if (call->link)
        stream_read_stop(call->link->stream);
}

void http_call_resume(struct http_call *call)
{
    if (!call->paused)
        return;
    call->paused = false;
    if (call->held.len || call->ended) {
        call_due(call);
        return;
    }
    call_wait_for(call, call->wait);
    if (call->link)
        stream_read_start(call->link->stream);
}

static struct http_call *next_due(struct http_client *client)
{
    struct http_call *call;
    LIST_FOREACH(call, &client->calls, entry)
        if (call->due)
            return call;
    return NULL;
}

/* Gives a resumed call what was held back, or a call that could not start its error. */
static void call_continue(struct http_call *call)
{
    call->due = false;
    if (call->why.code) {
        call_done(call, &call->why);
        return;
    }
    if (call->paused)
        return;
    if (call->held.len) {
        CLEANUP_BUF struct buf b = call->held;
        call->held = (struct buf){0};
        bool gone = false;
        call->gone = &gone;
        call->o.on_data(call, b.data, b.len, call->o.arg);
        if (gone)
            return;
        call->gone = NULL;
        if (call->paused || call->due)
            return;
    }
    if (call->ended && call->link)
        call_complete(call);
    else if (call->ended)
        call_done(call, NULL);
    else if (call->link)
        stream_read_start(call->link->stream);
}

static void on_soon(uv_idle_t *idle)
{
    struct http_client *client = container_of(idle, struct http_client, soon);
    struct http_call *call;
    uv_idle_stop(idle);
    while ((call = next_due(client)))
        call_continue(call);
}

/* ---- The client ---- */

struct http_client *http_client_new(uv_loop_t *loop, const struct http_client_options *options)
{
    signal(SIGPIPE, SIG_IGN);
    struct http_client *client = NEW(struct http_client);
    client->loop = loop;
    client->o = options ? *options : (struct http_client_options){0};
    DEFAULT(client->o.connect_timeout_ms, 5000);
    DEFAULT(client->o.keep_ms, 30000);
    DEFAULT(client->o.keep_per_target, 8);
    client->server_name = mem_strdup(client->o.server_name);
    if (client->o.tls)
        tls_context_hold(client->o.tls);
    client->shared = stream_shared_new();
    deadlines_init(&client->deadlines, loop);
    uv_idle_init(loop, &client->soon);
    client->open_handles = 2;
    return client;
}

static void client_handle_closed(struct http_client *client)
{
    if (--client->open_handles)
        return;
    if (client->on_closed)
        client->on_closed(client->closed_arg);
    tls_context_free(client->o.tls);
    stream_shared_release(client->shared);
    free(client->server_name);
    free(client);
}

static void on_timer_closed(uv_handle_t *handle)
{
    client_handle_closed(container_of((uv_timer_t *)handle, struct http_client, deadlines.timer));
}

static void on_soon_closed(uv_handle_t *handle)
{
    client_handle_closed(container_of((uv_idle_t *)handle, struct http_client, soon));
}

void client_maybe_closed(struct http_client *client)
{
    if (!client->closed || !LIST_EMPTY(&client->idle) || !LIST_EMPTY(&client->busy) || !LIST_EMPTY(&client->closing))
        return;
    if (uv_is_closing((uv_handle_t *)&client->soon))
        return;
    deadlines_close(&client->deadlines, on_timer_closed);
    uv_close((uv_handle_t *)&client->soon, on_soon_closed);
}

void http_client_close(struct http_client *client, void (*on_closed)(void *arg), void *arg)
{
    client->on_closed = on_closed;
    client->closed_arg = arg;
    client->closed = true;
    struct http_call *call;
    struct link *l;
    while ((call = LIST_FIRST(&client->calls)))
        http_call_cancel(call);
    while ((l = LIST_FIRST(&client->idle)) || (l = LIST_FIRST(&client->busy)))
        link_close(l);
    client_maybe_closed(client);
}
