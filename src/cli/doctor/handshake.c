#include "cli/doctor/handshake.h"

#include <uv.h>

#include "net/stream_open.h"

#define SHAKE_MS 3000

struct shaking {
    uv_loop_t loop;
    uv_timer_t timer;
    struct handshake *list;
    size_t n;
};

/* Their names are not looked at: a server proves its id and an agent its node, which this host need not know. */
static void on_open(struct stream *s, void *arg)
{
    stream_close(s);
}

static void on_close(struct stream *s, void *arg, const struct error *err)
{
    struct handshake *shake = arg;
    shake->stream = NULL;
    shake->problem = err ? mem_strdup(err->text) : NULL;
}

static void on_timeout(uv_timer_t *timer)
{
    struct shaking *all = timer->data;
    struct error err;
    error_set(&err, ERROR_TIMEOUT, "it shakes no hands");
    for (size_t i = 0; i < all->n; i++)
        if (all->list[i].stream)
            stream_fail(all->list[i].stream, &err);
}

void doctor_handshakes(struct tls_context *tls, struct handshake *list, size_t n)
{
    static const struct stream_handlers handlers = {.on_open = on_open, .on_close = on_close};
    struct stream_shared *shared = stream_shared_new();
    struct shaking all = {.list = list, .n = n};
    uv_loop_init(&all.loop);
    uv_timer_init(&all.loop, &all.timer);
    all.timer.data = &all;
    uv_timer_start(&all.timer, on_timeout, SHAKE_MS, 0);
    uv_unref((uv_handle_t *)&all.timer);
    for (size_t i = 0; i < n; i++)
        list[i].stream = stream_connect(&all.loop, &list[i].to, shared, tls, NULL, &handlers, &list[i]);
    uv_run(&all.loop, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&all.timer, NULL);
    uv_run(&all.loop, UV_RUN_DEFAULT);
    uv_loop_close(&all.loop);
    stream_shared_release(shared);
}
