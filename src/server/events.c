#include "server/events.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model/namespace.h"
#include "server/http_thread.h"
#include "server/scope.h"

#define KEEP_ALIVE_MS 15000
#define BATCH 500
#define EVENTS_KEPT 8192         /* by the core: see core.h */
#define PENDING_LIMIT (256 * 1024)

/* "INDEX" or "INDEX-SEQ", as ids of events are written. */
static int parse_position(const char *name, const char *text, struct request *r, struct error *err)
{
    char *end;
    errno = 0;
    unsigned long long index = strtoull(text, &end, 10);
    long long seq = INT64_MAX;
    bool ok = *text >= '0' && *text <= '9' && !errno;
    if (ok && *end == '-') {
        const char *rest = end + 1;
        seq = strtoll(rest, &end, 10);
        ok = *rest >= '0' && *rest <= '9' && !errno;
    }
    if (!ok || *end)
        return error_set(err, ERROR_INVALID, "%s: \"%.64s\" is not an index, nor an event's id such as 12-0", name,
                         text);
    r->index = index;
    r->seq = index ? seq : 0;
    r->positioned = true;
    return 0;
}

int events_prepare(struct request *r, struct error *err)
{
    const char *accept = http_request_header(r->http, "Accept");
    r->sse = !accept || !strstr(accept, "application/json");
    const char *cursor = request_query(r, "cursor"), *last = http_request_header(r->http, "Last-Event-ID");
    const char *index = request_query(r, "index");
    /* Not a wait by index: there may be more events of the same index behind the position. */
    r->has_index = false;
    if (index && parse_position("index", index, r, err))
        return -1;
    if (cursor && *cursor && parse_position("cursor", cursor, r, err))
        return -1;
    if (last && *last && parse_position("Last-Event-ID", last, r, err))
        return -1;
    r->wait_ms = r->sse ? KEEP_ALIVE_MS : index && request_query(r, "wait") ? r->wait_ms : 0;
    if (!r->sse)
        return 0;
    r->streaming = r->endless = true;
    static const struct http_header headers[] = {{"Content-Type", "text/event-stream"}, {"Cache-Control", "no-store"}};
    http_stream_begin(r->http, 200, headers, 2, HTTP_STREAM_ENDLESS);
    static const char hello[] = ": mentat events\n\n";
    http_stream_write(r->http, hello, sizeof hello - 1);
    return 0;
}

static bool wanted(const struct request *r, const struct event *e)
{
    const char *service = r->service, *kind = request_query(r, "kind");
    if (service && (!e->service || strcmp(service, e->service)))
        return false;
    if (kind && (!e->kind || strcmp(kind, e->kind)))
        return false;
    char own[NAMESPACE_SIZE];
    struct event shown = event_shown(e, own);
    return scope_sees(r, &event_type, e) && list_filter_match(&r->filter, &shown);
}

static void add_event(struct request *r, const struct event *e, uint32_t *count)
{
    struct buf *out = &r->answer.body;
    if (r->sse)
        buf_printf(out, "id: %llu-%lld\nevent: %s\ndata: ", (unsigned long long)e->index, (long long)e->seq, e->kind);
    else if (*count)
        buf_add_char(out, ',');
    event_show(e, out);
    if (r->sse)
        buf_add_string(out, "\n\n");
    ++*count;
}

/* Events behind the reader's position were dropped: the oldest one that is kept comes later, and as many are kept as
 * can be. Counting is dear, and only done for readers that are that far behind. */
static bool missed(struct control *c, const struct request *r)
{
    struct event_list kept = {0};
    bool behind = false;
    if (r->index && core_events(c->core, 0, 0, 1, &kept)) {
        const struct event *oldest = kept.v;
        behind = oldest->index > r->index || (oldest->index == r->index && oldest->seq > r->seq);
    }
    list_clear((struct list *)&kept, &event_type);
    if (!behind)
        return false;
    kept = (struct event_list){0};
    bool full = core_events(c->core, 0, 0, EVENTS_KEPT, &kept) >= EVENTS_KEPT;
    list_clear((struct list *)&kept, &event_type);
    return full;
}

/* Moves r's position over what it looks at. True: there may be more behind it. */
static bool collect(struct control *c, struct request *r, uint32_t limit, uint32_t *count)
{
    struct event_list batch = {0};
    uint32_t n = core_events(c->core, r->index, r->seq, BATCH, &batch);
    bool more = n == BATCH;
    for (uint32_t i = 0; i < n; i++) {
        const struct event *e = &batch.v[i];
        if (wanted(r, e)) {
            if (*count == limit) {
                more = true;
                break;
            }
            add_event(r, e, count);
        }
        r->index = e->index;
        r->seq = e->seq;
    }
    list_clear((struct list *)&batch, &event_type);
    return more;
}

int events_read(struct control *c, struct request *r, struct error *err)
{
    buf_clear(&r->answer.body);
    if (r->sse && !r->positioned) {
        /* From now on. */
        r->positioned = true;
        r->index = core_index(c->core);
        r->seq = INT64_MAX;
    }
    if (missed(c, r))
        return error_set(err, ERROR_CONFLICT, "events after %llu are not kept any more: this reader was too slow "
                         "or away for too long; look at the state anew and ask from index %llu on",
                         (unsigned long long)r->index, (unsigned long long)core_index(c->core));
    uint32_t count = 0, limit = r->sse ? BATCH : r->limit;
    if (!r->sse)
        buf_add_string(&r->answer.body, "{\"items\":[");
    bool more;
    do
        more = collect(c, r, limit, &count);
    while (more && count < limit);
    if (!count && !r->expired && (r->sse || r->wait_ms)) {
        buf_clear(&r->answer.body);
        /* All that is applied was looked at: a wait that wakes for nothing starts behind it. */
        if (r->index < core_index(c->core)) {
            r->index = core_index(c->core);
            r->seq = INT64_MAX;
        }
        return READ_NOT_YET;
    }
    if (r->sse)
        return 0;
    buf_add_string(&r->answer.body, "],\"next_cursor\":\"");
    if (more)
        buf_printf(&r->answer.body, "%llu-%lld", (unsigned long long)r->index, (long long)r->seq);
    buf_printf(&r->answer.body, "\",\"index\":%llu}", (unsigned long long)core_index(c->core));
    return 0;
}

static void cut(struct request *r)
{
    request_answered(r, 200);
    if (!atomic_load(&r->gone))
        http_stream_end(r->http);
    else
        http_request_drop(r->http);
    request_done(r);
}

static void on_drain(struct http_request *http)
{
    struct request *r = http->data;
    if (!r->away)
        request_send(r);
}

void events_respond(struct request *r)
{
    if (!r->sse) {
        request_finish(r);
        return;
    }
    if (atomic_load(&r->gone)) {
        cut(r);
        return;
    }
    r->cut = cut;
    r->http->on_drain = on_drain;
    if (r->answer.error.code != ERROR_NONE) {
        CLEANUP_BUF struct buf last = {0};
        buf_add_string(&last, "event: error\ndata: ");
        answer_error_body(&r->answer.error, NULL, &last);
        buf_add_string(&last, "\n\n");
        http_stream_write(r->http, last.data, last.len);
        cut(r);
        return;
    }
    static const char keep_alive[] = ": keep-alive\n\n";
    const struct buf *body = &r->answer.body;
    size_t pending = body->len ? http_stream_write(r->http, body->data, body->len)
                               : http_stream_write(r->http, keep_alive, sizeof keep_alive - 1);
    if (pending < PENDING_LIMIT)
        request_send(r);
}
