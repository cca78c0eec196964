/* A container that runs on this node without Mentat, as the service that it would be. */
#include "agent/api_streams.h"

struct container_request {
    struct http_request *req;
    int (*admits)(void *ctx, const struct service *s, struct error *err);
    void *ctx;
};

static void on_described(void *arg, const struct found_container *found, const struct error *err)
{
    struct container_request *r = arg;
    struct http_header type = {"Content-Type", "application/json"};
    struct buf body = {0};
    if (err) {
        http_respond_error(r->req, err);
    } else {
        struct found_container told;
        struct error refusal;
        type_copy(&found_container_type, &told, found);
        for (uint32_t i = 0; i < told.job.services.n && r->admits; i++)
            if (r->admits(r->ctx, &told.job.services.v[i], &refusal) < 0)
                str_list_add(&told.obstacles, refusal.text);
        type_to_json(&found_container_type, &told, &body);
        type_clear(&found_container_type, &told);
        http_respond(r->req, 200, &type, 1, &body);
    }
    free(r);
}

void api_container(struct drivers *drivers, int (*admits)(void *ctx, const struct service *s, struct error *err), void *ctx,
                   struct http_request *req)
{
    struct error err;
    struct container_request *r = NEW(struct container_request);
    *r = (struct container_request){.req = req, .admits = admits, .ctx = ctx};
    if (drivers_describe(drivers, driver_kind_names[DRIVER_DOCKER], req->segments[2], on_described, r, &err) == 0)
        return;
    free(r);
    http_respond_error(req, &err);
}
