#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/api_streams.h"
#include "agent/logfile.h"
#include "base/timefmt.h"

#define PENDING_LIMIT (256 * 1024)

struct logs_stream {
    struct api_stream head;
    struct http_request *req;
    struct log_reader *reader;
    bool paused;
};

static void logs_free(struct logs_stream *l)
{
    LIST_REMOVE(&l->head, link);
    log_reader_close(l->reader);
    free(l->head.alloc_id);
    free(l);
}

static void on_data(void *arg, const void *bytes, size_t n)
{
    struct logs_stream *l = arg;
    if (http_stream_write(l->req, bytes, n) > PENDING_LIMIT && !l->paused) {
        l->paused = true;
        log_reader_pause(l->reader, true);
    }
}

static void on_end(void *arg, const struct error *err)
{
    struct logs_stream *l = arg;
    struct http_request *req = l->req;
    logs_free(l);
    if (err)
        http_stream_abort(req);
    else
        http_stream_end(req);
}

static void on_drain(struct http_request *req)
{
    struct logs_stream *l = req->data;
    if (l->paused) {
        l->paused = false;
        log_reader_pause(l->reader, false);
    }
}

static void logs_close(struct api_stream *s)
{
    struct logs_stream *l = (struct logs_stream *)s;
    struct http_request *req = l->req;
    logs_free(l);
    http_stream_abort(req);
}

static void on_close(struct http_request *req)
{
    logs_close(req->data);
}

static void logs_ended(struct api_stream *s)
{
    log_reader_finish(((struct logs_stream *)s)->reader);
}

/* "NUMBER-OFFSET", as LOG_POSITION_HEADER gave it. */
static int parse_from(const char *text, struct log_position *p, struct error *err)
{
    int end = 0;
    if (sscanf(text, "%" SCNu64 "-%" SCNu64 "%n", &p->number, &p->offset, &end) == 2 && !text[end])
        return 0;
    return error_set(err, ERROR_INVALID, "from: \"%.40s\" is not a place that " LOG_POSITION_HEADER " gave", text);
}

static int parse_query(const struct http_request *req, struct log_query *q, struct log_position *from, struct error *err)
{
    const char *stream = http_request_query(req, "stream"), *follow = http_request_query(req, "follow");
    const char *tail = http_request_query(req, "tail"), *since = http_request_query(req, "since");
    *q = (struct log_query){.tail = -1};
    if (stream && !strcmp(stream, log_stream_names[LOG_STDERR]))
        q->stream = LOG_STDERR;
    else if (stream && strcmp(stream, log_stream_names[LOG_STDOUT]))
        return error_set(err, ERROR_INVALID, "stream: \"%.40s\" is neither stdout nor stderr", stream);
    q->follow = follow && strcmp(follow, "false") && strcmp(follow, "0");
    if (tail && *tail) {
        char *end;
        q->tail = strtoll(tail, &end, 10);
        if (*end || q->tail < 0)
            return error_set(err, ERROR_INVALID, "tail: \"%.40s\" is not a number of lines", tail);
    }
    if (since && *since && time_parse(since, &q->since_ms) < 0)
        return error_set(err, ERROR_INVALID, "since: \"%.40s\" is not a time such as 2026-11-24T08:19:16Z", since);
    const char *place = http_request_query(req, "from");
    if (place && *place) {
        q->from = from;
        return parse_from(place, from, err);
    }
    return 0;
}

void api_logs(uv_loop_t *loop, struct api_stream_list *list, struct http_request *req, const struct runner_view *view,
              const char *alloc_dir, bool over)
{
    struct log_query query;
    struct log_position from;
    struct error err;
    if (parse_query(req, &query, &from, &err) < 0) {
        http_respond_error(req, &err);
        return;
    }
    query.follow = query.follow && !over;
    struct logs_stream *l = NEW(struct logs_stream);
    l->head = (struct api_stream){.alloc_id = mem_strdup(view->record->alloc.id), .ended = logs_ended,
                                  .close = logs_close};
    LIST_INSERT_HEAD(list, &l->head, link);
    l->req = req;
    req->data = l;
    req->on_close = on_close;
    req->on_drain = on_drain;
    static const struct log_events events = {.data = on_data, .end = on_end};
    l->reader = log_reader_open(loop, alloc_dir, &query, &events, l);
    struct log_position begin = log_reader_begin(l->reader);
    CLEANUP_FREE char *position = mem_printf("%" PRIu64 "-%" PRIu64, begin.number, begin.offset);
    struct http_header headers[] = {{"Content-Type", "application/octet-stream"}, {LOG_POSITION_HEADER, position}};
    http_stream_begin(req, 200, headers, ARRAY_LEN(headers), query.follow ? HTTP_STREAM_ENDLESS : HTTP_STREAM_FINITE);
}
