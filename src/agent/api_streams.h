/* API streams: the long answers of the agent API: logs and commands in tasks. Each belongs to a list of its API. */
#pragma once
#include <sys/queue.h>
#include <uv.h>

#include "agent/runner.h"
#include "net/http_server.h"

/* Someone who is connected for long. */
struct api_stream {
    char *alloc_id;
    void (*ended)(struct api_stream *s);     /* the allocation is over; may be NULL */
    void (*close)(struct api_stream *s);     /* now; frees s */
    LIST_ENTRY(api_stream) link;
};
LIST_HEAD(api_stream_list, api_stream);

/* Both take the request over and answer it in any case. */
void api_logs(uv_loop_t *loop, struct api_stream_list *list, struct http_request *req, const struct runner_view *view,
              const char *alloc_dir, bool over);
void api_exec(struct api_stream_list *list, struct http_request *req, const struct runner_view *view);
