/* The leader's answer is handed on as it is. When it could not be reached, or says that it does not lead, nothing was done,
 * and the request goes back to the core thread, which knows when there is another leader, until its time is over. When it
 * broke in between, that is done only with what may be repeated; else its outcome is told to be unknown. */
#include "server/forward.h"

#include <stdio.h>
#include <string.h>

#include "base/timefmt.h"
#include "server/audit_request.h"
#include "server/http_thread.h"

#define SLICE_MS 2000                 /* how long a leader may be silent before what may be repeated is */
#define ANSWER_LIMIT ((size_t)1 << 30)

static const char *const request_headers[] = {"Content-Type", "Accept", "Authorization", "Idempotency-Key"};
static const char *const answer_headers[] = {"Content-Type", HEADER_REQUEST, "X-Mentat-Index", "X-Mentat-Lag", "Allow", "Retry-After"};

static int64_t left_ms(const struct request *r)
{
    return r->answer_by_ms - time_monotonic_ms();
}

static void unknown(struct request *r, const char *why)
{
    error_set(&r->answer.error, ERROR_UNKNOWN_OUTCOME, "%s: the change may or may not be made; look, or repeat such requests "
              "with an Idempotency-Key", why);
    request_finish(r);
}

/* maybe_done: it may have been done there. */
static void another_leader(struct request *r, bool maybe_done, const char *why)
{
    bool write = !r->route->read;
    if (maybe_done && write && !r->repeatable) {
        unknown(r, why);
        return;
    }
    r->unknown |= maybe_done && write;
    free(steal(&r->forward));
    request_send(r);
}

static void hand_back(struct request *r, struct http_response *res)
{
    if (request_left_open(r, res->status)) {
        unknown(r, "a leader was lost while it had the request, and the next one did not do it");
        return;
    }
    struct http_header headers[ARRAY_LEN(answer_headers)];
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(answer_headers); i++) {
        const char *value = http_headers_get(&res->headers, answer_headers[i]);
        if (value)
            headers[n++] = (struct http_header){answer_headers[i], value};
    }
    int status = res->status;
    request_answered(r, status);
    http_respond(r->http, status, headers, n, &res->body);
    request_done(r);
}

static void on_done(struct http_call *call, struct http_response *res, const struct error *err, void *arg)
{
    struct request *r = arg;
    r->call = NULL;
    r->cut = NULL;
    if (atomic_load(&r->gone)) {
        request_answered(r, 499);
        http_request_drop(r->http);
        request_done(r);
    } else if (err) {
        another_leader(r, err->code != ERROR_UNAVAILABLE, err->text);
    } else if (res->status == 503) {
        another_leader(r, false, NULL);
    } else if (res->status == error_http_status(ERROR_UNKNOWN_OUTCOME) && r->repeatable) {
        another_leader(r, true, NULL);
    } else {
        hand_back(r, res);
    }
}

static void cut(struct request *r)
{
    http_call_cancel(steal(&r->call));
    if (atomic_load(&r->gone)) {
        request_answered(r, 499);
        http_request_drop(r->http);
        request_done(r);
    } else {
        unknown(r, "this server is stopping");
    }
}

void forward_start(struct request *r)
{
    struct http_header headers[ARRAY_LEN(request_headers) + 4];
    size_t n = 0;
    char limit[TIME_TEXT_SIZE];
    int64_t left = left_ms(r) > 1 ? left_ms(r) : 1;
    for (size_t i = 0; i < ARRAY_LEN(request_headers); i++) {
        const char *value = http_request_header(r->http, request_headers[i]);
        if (value)
            headers[n++] = (struct http_header){request_headers[i], value};
    }
    duration_format(limit, left);
    headers[n++] = (struct http_header){HEADER_TIMEOUT, limit};
    headers[n++] = (struct http_header){HEADER_REQUEST, r->id};
    headers[n++] = (struct http_header){HEADER_FORWARDED, http_thread_config(r->thread)->name};
    if (r->who.kind == IDENTITY_AGENT && !r->who.any_node)
        headers[n++] = (struct http_header){HEADER_AGENT, r->who.name};
    bool slice = r->repeatable && !r->route->limit_ms;
    if (r->wait_ms)
        left = r->wait_ms + SLICE_MS;
    struct http_call_options call = {
        .method = r->route->method,
        .target = r->forward,
        .path = r->http->target,
        .headers = headers,
        .header_count = n,
        .body = r->http->body.data,
        .body_len = r->http->body.len,
        .secret = r->route->secret,
        .response_limit = ANSWER_LIMIT,
        .response_timeout_ms = slice && !r->wait_ms && left > SLICE_MS ? SLICE_MS : left,
        .idle_timeout_ms = SLICE_MS * 5,
        .on_done = on_done,
        .arg = r,
    };
    r->cut = cut;
    r->call = http_call_start(http_thread_servers(r->thread), &call);
}
