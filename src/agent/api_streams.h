/* API streams: the answers of the agent API that take their time. Logs and commands in tasks belong to a list of their
 * API. */
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

/* All take the request over and answer it in any case. */
void api_logs(uv_loop_t *loop, struct api_stream_list *list, struct http_request *req, const struct runner_view *view,
              const char *alloc_dir, bool over);
void api_exec(struct api_stream_list *list, struct http_request *req, const struct runner_view *view);
/* Adds what is known of the node's running tasks, as Prometheus reads it. */
void api_task_metrics(struct runner *runner, struct buf *out);
/* GET /v1/containers/NAME. admits may be NULL; what it says against the service is an obstacle. */
void api_container(struct drivers *drivers, int (*admits)(void *ctx, const struct service *s, struct error *err), void *ctx,
                   struct http_request *req);
/* DELETE and PUT /v1/volumes/NAME. changed: there are other volumes than before; must hold as long as the loop runs. */
struct api_volume_options { uv_loop_t *loop; struct runner *runner; const char *root; void (*changed)(void *ctx); void *ctx; };
void api_volume(const struct api_volume_options *options, struct http_request *req);
