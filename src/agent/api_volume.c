/* Volumes that are made and deleted by hand: DELETE and PUT /v1/volumes/NAME?service=S&replica=N, PUT with size_mb too. The
 * servers have looked whether a service wants it; here it is seen whether something has it, and who its owner is by now.
 * The blocking part is a worker's. What is left of a directory is deleted after the answer, which may take long. */
#include <stdlib.h>

#include "agent/api_streams.h"
#include "agent/volumes.h"
#include "base/log.h"

struct volume_order {
    uv_loop_t *loop;
    struct http_request *req;        /* NULL: answered */
    char *root, *rest;
    struct node_volume want;
    bool create;
    int result;
    struct error err;
    void (*changed)(void *ctx);
    void *ctx;
    uv_work_t work;
};

static void order_free(struct volume_order *o)
{
    free(o->root);
    free(o->rest);
    type_clear(&node_volume_type, &o->want);
    free(o);
}

static void rest_run(uv_work_t *work)
{
    struct volume_order *o = work->data;
    o->result = volume_delete_rest(o->rest, &o->err);
}

static void rest_done(uv_work_t *work, int status)
{
    struct volume_order *o = work->data;
    if (o->result < 0)
        LOG_W("something of a deleted volume is left", "volume", o->want.name, "error", o->err.text);
    o->changed(o->ctx);
    order_free(o);
}

static void order_run(uv_work_t *work)
{
    struct volume_order *o = work->data;
    o->result = o->create ? volume_create(o->root, &o->want, &o->err) : volume_delete(o->root, &o->want, &o->rest, &o->err);
}

static void order_done(uv_work_t *work, int status)
{
    struct volume_order *o = work->data;
    if (o->result < 0) {
        http_respond_error(o->req, &o->err);
        order_free(o);
        return;
    }
    LOG_I(o->create ? "a volume was made" : "a volume was deleted", "volume", o->want.name, "service", o->want.service, "replica",
          LOG_I64(o->want.replica));
    http_respond_text(o->req, 204, NULL, NULL);
    o->changed(o->ctx);
    if (o->rest)
        uv_queue_work(o->loop, &o->work, rest_run, rest_done);
    else
        order_free(o);
}

static int64_t number(const struct http_request *req, const char *name)
{
    const char *text = http_request_query(req, name);
    char *end = NULL;
    long long n = text && *text ? strtoll(text, &end, 10) : -1;
    return end && !*end ? n : -1;
}

static int check(const struct volume_order *o, struct runner *runner, struct error *err)
{
    if (!o->want.service || !*o->want.service || o->want.replica < 0 || (o->create && o->want.size_mb <= 0))
        return error_set(err, ERROR_INVALID, "service, replica, and for a new volume size_mb, must be given");
    CLEANUP_FREE char *dir = volume_path(o->root, o->want.name, err);
    const char *user = dir ? runner_volume_user(runner, dir) : NULL;
    if (!dir)
        return -1;
    return user ? error_set(err, ERROR_CONFLICT, "allocation %s has volume %s", user, o->want.name) : 0;
}

void api_volume(const struct api_volume_options *options, struct http_request *req)
{
    struct error err;
    struct volume_order *o = NEW(struct volume_order);
    const char *service = http_request_query(req, "service");
    *o = (struct volume_order){
        .loop = options->loop, .req = req, .root = mem_strdup(options->root), .create = req->method == HTTP_METHOD_PUT,
        .want = {.name = mem_strdup(req->segments[2]), .service = mem_strdup(service), .replica = number(req, "replica"),
                 .size_mb = number(req, "size_mb")},
        .changed = options->changed, .ctx = options->ctx, .work.data = o};
    if (check(o, options->runner, &err) < 0) {
        http_respond_error(req, &err);
        order_free(o);
        return;
    }
    uv_queue_work(o->loop, &o->work, order_run, order_done);
}
