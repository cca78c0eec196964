/* A stream's life: accepted or connected → (TLS handshake) → open → reads and writes → end → closed.
 *
 * Writes go to the kernel at once when it takes them. What is left is queued in chunks, of which one batch at a time is
 * with libuv. With TLS, plain bytes become records in the same queue; what is written before the handshake is done
 * waits in `early_out`. Reads land in the owner's shared buffer and are passed on from there. Bytes that arrived but
 * may not be passed on (paused) wait in `raw_left` (TLS records) or `unread` (plain); an idle handle, made when first
 * needed, delivers them once reading starts again.
 *
 * Anything may fail: the reason is kept, the handle closed, and on_close tells it from the loop. After a failed write
 * reading goes on until it fails too, because the peer may have answered before it stopped listening. */
#include "net/stream.h"

#include <string.h>
#include <sys/queue.h>
#include <uv.h>

#include "base/mem.h"
#include "net/stream_impl.h"
#include "net/stream_open.h"
#include "net/tls_session.h"

#define CHUNK_BYTES (16 * 1024)     /* small writes are gathered up to this */
#define BATCH_CHUNKS 16

static void pump(struct stream *s);

struct stream_shared *stream_shared_new(void)
{
    struct stream_shared *shared = NEW(struct stream_shared);
    shared->refs = 1;
    return shared;
}

struct stream_shared *stream_shared_hold(struct stream_shared *shared)
{
    shared->refs++;
    return shared;
}

void stream_shared_release(struct stream_shared *shared)
{
    if (shared && !--shared->refs)
        free(shared);
}

/* ---- Failing and closing ---- */

static void chunks_free(struct chunk_list *list)
{
    struct chunk *c;
    while ((c = TAILQ_FIRST(list))) {
        TAILQ_REMOVE(list, c, entry);
        buf_free(&c->bytes);
        free(c);
    }
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct stream *s = handle->data;
    if (--s->open_handles)
        return;
    if (s->handlers && s->handlers->on_close)
        s->handlers->on_close(s, s->arg, s->why);
    chunks_free(&s->queue);
    buf_free(&s->unread);
    buf_free(&s->raw_left);
    buf_free(&s->early_out);
    tls_session_free(s->tls);
    tls_peer_release(s->tls_peer);
    stream_shared_release(s->shared);
    free(s->why);
    free(s->peer);
    free(s);
}

static void on_kick_closed(uv_handle_t *handle)
{
    free(handle);
}

void stream_close(struct stream *s)
{
    if (s->closing)
        return;
    if (s->tls && s->state == STREAM_OPEN && !s->ended && !s->why) {
        s->ended = true;
        tls_session_end(s->tls);
        stream_flush(s);
    }
    s->closing = true;
    if (s->kick) {
        uv_close((uv_handle_t *)s->kick, on_kick_closed);
        s->kick = NULL;
    }
    stream_connect_forget(s);
    /* While the next address is prepared, the handle is closing already; its callback goes on here. */
    if (!uv_is_closing(&s->uv.handle))
        uv_close(&s->uv.handle, on_handle_closed);
}

void stream_close_finish(struct stream *s)
{
    on_handle_closed(&s->uv.handle);
}

bool stream_closing(const struct stream *s)
{
    return s->closing;
}

void stream_fail(struct stream *s, const struct error *err)
{
    if (!s->why && !s->closing)
        s->why = mem_dup(err, sizeof *err);
    stream_close(s);
}

static void fail_uv(struct stream *s, int status, const char *what)
{
    struct error err;
    error_set_errno(&err, status, "%s %s", what, s->peer);
    stream_fail(s, &err);
}

/* ---- Writing ---- */

struct write_batch {
    uv_write_t req;
    struct chunk_list chunks;
    size_t bytes;
};

static void drop_output(struct stream *s)
{
    chunks_free(&s->queue);
    buf_clear(&s->early_out);
    s->queued = 0;
}

static void write_failed(struct stream *s, int status)
{
    drop_output(s);
    if (s->write_failed || s->closing)
        return;
    s->write_failed = status;
    if (!s->uv_reading)
        fail_uv(s, status, "writing to");
}

static void maybe_end(struct stream *s);

static void on_written(uv_write_t *req, int status)
{
    struct write_batch *batch = container_of(req, struct write_batch, req);
    struct stream *s = req->data;
    if (!status)
        s->written += batch->bytes;
    chunks_free(&batch->chunks);
    free(batch);
    s->in_flight = NULL;
    if (s->closing)
        return;
    if (status) {
        write_failed(s, status);
        return;
    }
    stream_flush(s);
    if (s->in_flight || s->closing)
        return;
    maybe_end(s);
    if (!s->closing && s->handlers && s->handlers->on_drain)
        s->handlers->on_drain(s, s->arg);
}

static unsigned fill_batch(const struct stream *s, uv_buf_t *bufs, unsigned limit)
{
    unsigned n = 0;
    struct chunk *c;
    TAILQ_FOREACH(c, &s->queue, entry) {
        if (n == limit)
            break;
        bufs[n++] = uv_buf_init(c->bytes.data + c->from, (unsigned)(c->bytes.len - c->from));
    }
    return n;
}

static void consume(struct stream *s, size_t n)
{
    s->written += n;
    s->queued -= n;
    while (n) {
        struct chunk *c = TAILQ_FIRST(&s->queue);
        size_t left = c->bytes.len - c->from;
        if (n < left) {
            c->from += n;
            return;
        }
        n -= left;
        TAILQ_REMOVE(&s->queue, c, entry);
        buf_free(&c->bytes);
        free(c);
    }
}

static void submit_batch(struct stream *s)
{
    uv_buf_t bufs[BATCH_CHUNKS];
    unsigned n = fill_batch(s, bufs, BATCH_CHUNKS);
    struct write_batch *batch = NEW(struct write_batch);
    TAILQ_INIT(&batch->chunks);
    for (unsigned i = 0; i < n; i++) {
        struct chunk *c = TAILQ_FIRST(&s->queue);
        TAILQ_REMOVE(&s->queue, c, entry);
        TAILQ_INSERT_TAIL(&batch->chunks, c, entry);
        batch->bytes += bufs[i].len;
    }
    s->queued -= batch->bytes;
    batch->req.data = s;
    s->in_flight = &batch->req;
    int status = uv_write(&batch->req, &s->uv.stream, bufs, n, on_written);
    if (status) {
        s->in_flight = NULL;
        chunks_free(&batch->chunks);
        free(batch);
        write_failed(s, status);
    }
}

void stream_flush(struct stream *s)
{
    if (s->closing || s->in_flight || s->corked || s->state < STREAM_HANDSHAKE)
        return;
    while (s->queued) {
        uv_buf_t bufs[BATCH_CHUNKS];
        unsigned n = fill_batch(s, bufs, BATCH_CHUNKS);
        int sent = uv_try_write(&s->uv.stream, bufs, n);
        if (sent == UV_EAGAIN) {
            submit_batch(s);
            return;
        }
        if (sent < 0) {
            write_failed(s, sent);
            return;
        }
        consume(s, (size_t)sent);
    }
}

static struct chunk *add_chunk(struct stream *s)
{
    struct chunk *c = NEW(struct chunk);
    TAILQ_INSERT_TAIL(&s->queue, c, entry);
    return c;
}

/* Raw bytes into the queue. */
static void queue_bytes(void *arg, const char *data, size_t len)
{
    struct stream *s = arg;
    struct chunk *last = TAILQ_LAST(&s->queue, chunk_list);
    if (!last || last->bytes.len + len > CHUNK_BYTES)
        last = add_chunk(s);
    buf_add(&last->bytes, data, len);
    s->queued += len;
}

static bool writable(const struct stream *s)
{
    return !s->closing && !s->ending && !s->write_failed;
}

static void tls_write(struct stream *s, const char *data, size_t len)
{
    if (s->state != STREAM_OPEN) {
        buf_add(&s->early_out, data, len);
        return;
    }
    struct error err;
    if (tls_session_write(s->tls, data, len, &err))
        stream_fail(s, &err);
}

void stream_write(struct stream *s, const void *data, size_t len)
{
    if (!len || !writable(s))
        return;
    if (s->secure) {
        tls_write(s, data, len);
    } else if (!s->queued && !s->in_flight && !s->corked && s->state == STREAM_OPEN) {
        uv_buf_t bytes = uv_buf_init((char *)(uintptr_t)data, (unsigned)len);
        int sent = len > UINT32_MAX ? UV_EAGAIN : uv_try_write(&s->uv.stream, &bytes, 1);
        size_t n = sent > 0 ? (size_t)sent : 0;
        s->written += n;
        if (n < len)
            queue_bytes(s, (const char *)data + n, len - n);
    } else {
        queue_bytes(s, data, len);
    }
    stream_flush(s);
}

void stream_write_buf(struct stream *s, struct buf *b)
{
    if (s->secure || (b->len <= CHUNK_BYTES / 4 && !b->secret)) {
        stream_write(s, b->data, b->len);
        buf_free(b);
        return;
    }
    if (writable(s)) {
        struct chunk *c = add_chunk(s);
        c->bytes = *b;
        s->queued += b->len;
        *b = (struct buf){0};
        stream_flush(s);
    }
    buf_free(b);
}

void stream_cork(struct stream *s)
{
    s->corked = true;
}

void stream_uncork(struct stream *s)
{
    s->corked = false;
    stream_flush(s);
    maybe_end(s);
}

size_t stream_pending(const struct stream *s)
{
    size_t with_uv = s->in_flight && !s->closing ? uv_stream_get_write_queue_size(&s->uv.stream) : 0;
    return s->queued + s->early_out.len + with_uv;
}

uint64_t stream_written(const struct stream *s)
{
    if (!s->in_flight)
        return s->written;
    const struct write_batch *batch = container_of(s->in_flight, struct write_batch, req);
    return s->written + batch->bytes - uv_stream_get_write_queue_size(&s->uv.stream);
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
    free(req);
}

/* Sends what ends our direction once nothing is before it. */
static void maybe_end(struct stream *s)
{
    if (!s->ending || s->ended || s->closing || s->corked || s->state != STREAM_OPEN || s->write_failed)
        return;
    if (s->queued || s->in_flight)
        return;
    s->ended = true;
    if (s->tls) {
        tls_session_end(s->tls);
        stream_flush(s);
        if (s->closing || s->write_failed)
            return;
    }
    /* libuv sends FIN after what it still has. */
    uv_shutdown_t *req = NEW(uv_shutdown_t);
    if (uv_shutdown(req, &s->uv.stream, on_shutdown))
        free(req);
}

void stream_end(struct stream *s)
{
    s->ending = true;
    maybe_end(s);
}

/* ---- Reading ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct stream *s = handle->data;
    *out = uv_buf_init(s->shared->raw, sizeof s->shared->raw);
}

static void pass_on(struct stream *s, const char *data, size_t len)
{
    if (s->handlers && s->handlers->on_read)
        s->handlers->on_read(s, s->arg, data, len);
}

static void ended_by_peer(struct stream *s)
{
    s->eof = true;
    if (s->uv_reading) {
        s->uv_reading = false;
        uv_read_stop(&s->uv.stream);
    }
    if (s->write_failed)
        fail_uv(s, s->write_failed, "writing to");
    else if (s->handlers && s->handlers->on_eof)
        s->handlers->on_eof(s, s->arg);
}

/* Plain bytes out of TLS records, as long as there are any and someone reads. */
static void tls_pump(struct stream *s)
{
    while (!s->closing && s->reading && !s->eof) {
        size_t got = 0;
        struct error err;
        switch (tls_session_read(s->tls, s->shared->plain, sizeof s->shared->plain, &got, &err)) {
        case TLS_DONE:
            pass_on(s, s->shared->plain, got);
            explicit_bzero(s->shared->plain, got);      /* maybe somebody's secret */
            break;
        case TLS_WANTS_INPUT:
            stream_flush(s);    /* an answer to a key update */
            return;
        case TLS_ENDED:
            ended_by_peer(s);
            return;
        case TLS_FAILED:
            stream_flush(s);
            error_context(&err, "%s", s->peer);
            stream_fail(s, &err);
            return;
        }
    }
}

static void tls_handshake(struct stream *s)
{
    struct error err;
    switch (tls_session_handshake(s->tls, &err)) {
    case TLS_WANTS_INPUT:
        stream_flush(s);
        return;
    case TLS_FAILED:
        stream_flush(s);    /* the alert that tells the peer why */
        error_context(&err, "TLS with %s", s->peer);
        stream_fail(s, &err);
        return;
    default:
        break;
    }
    s->state = STREAM_OPEN;
    s->tls_peer = tls_session_peer(s->tls);
    CLEANUP_BUF struct buf early = s->early_out;
    s->early_out = (struct buf){0};
    if (early.len)
        tls_write(s, early.data, early.len);
    stream_flush(s);
    if (!s->closing && s->handlers && s->handlers->on_open)
        s->handlers->on_open(s, s->arg);
    maybe_end(s);
}

/* Raw bytes went in: handshake, then plain bytes. What stays over is kept for later. */
static void tls_advance(struct stream *s)
{
    if (s->state == STREAM_HANDSHAKE)
        tls_handshake(s);
    if (!s->closing && s->state == STREAM_OPEN)
        tls_pump(s);
}

static void tls_input(struct stream *s, const char *data, size_t len)
{
    tls_session_input(s->tls, data, len);
    tls_advance(s);
    size_t left = tls_session_input_left(s->tls);
    if (left && !s->closing)
        buf_add(&s->raw_left, data + len - left, left);
    tls_session_input(s->tls, NULL, 0);
}

static void on_read(uv_stream_t *uv, ssize_t got, const uv_buf_t *buf)
{
    struct stream *s = uv->data;
    if (got > 0 && s->tls) {
        tls_input(s, buf->base, (size_t)got);
    } else if (got > 0) {
        pass_on(s, buf->base, (size_t)got);
    } else if (got == UV_EOF && s->tls && !s->eof) {
        struct error err;
        error_set(&err, ERROR_UNAVAILABLE, "%s closed the connection without ending TLS", s->peer);
        stream_fail(s, &err);
    } else if (got == UV_EOF) {
        ended_by_peer(s);
    } else if (got < 0) {
        fail_uv(s, (int)got, "reading from");
    }
    if (!s->closing)
        pump(s);
}

static void on_kick(uv_idle_t *idle)
{
    struct stream *s = idle->data;
    uv_idle_stop(idle);
    if (s->reading && s->unread.len) {
        CLEANUP_BUF struct buf b = s->unread;
        s->unread = (struct buf){0};
        pass_on(s, b.data, b.len);
    } else if (s->tls && s->reading) {
        s->tls_paused = false;
        CLEANUP_BUF struct buf b = s->raw_left;
        s->raw_left = (struct buf){0};
        tls_input(s, b.data, b.len);
    }
    if (!s->closing)
        pump(s);
}

static void kick(struct stream *s)
{
    if (!s->kick) {
        s->kick = NEW(uv_idle_t);
        uv_idle_init(s->uv.handle.loop, s->kick);
        s->kick->data = s;
    }
    uv_idle_start(s->kick, on_kick);
}

/* Makes what libuv does fit what is wanted now. */
static void pump(struct stream *s)
{
    bool handshake = s->tls && s->state == STREAM_HANDSHAKE;
    bool open = s->state == STREAM_OPEN && s->reading;
    /* A session that stopped in the middle may hold decrypted bytes of its own: read them before the socket. */
    bool stored = s->unread.len || s->raw_left.len || (s->tls && s->tls_paused);
    bool want = !s->closing && !s->eof && (handshake || (open && !stored));
    if (!s->closing && open && stored)
        kick(s);
    if (want == s->uv_reading)
        return;
    s->uv_reading = want;
    if (!want) {
        uv_read_stop(&s->uv.stream);
        return;
    }
    int status = uv_read_start(&s->uv.stream, on_alloc, on_read);
    if (status)
        fail_uv(s, status, "reading from");
}

void stream_read_start(struct stream *s)
{
    if (s->closing || s->reading)
        return;
    s->reading = true;
    pump(s);
}

void stream_read_stop(struct stream *s)
{
    if (s->closing || !s->reading)
        return;
    s->reading = false;
    s->tls_paused = s->tls;
    if (s->write_failed)
        fail_uv(s, s->write_failed, "writing to");
    else
        pump(s);
}

void stream_unread(struct stream *s, struct buf *b)
{
    if (s->unread.len) {
        buf_add(b, s->unread.data, s->unread.len);
        buf_free(&s->unread);
    }
    s->unread = *b;
    *b = (struct buf){0};
    pump(s);
}

/* ---- The rest ---- */

struct stream *stream_new(struct stream_shared *shared, const struct stream_handlers *handlers, void *arg)
{
    struct stream *s = NEW(struct stream);
    s->shared = stream_shared_hold(shared);
    s->handlers = handlers;
    s->arg = arg;
    s->open_handles = 1;
    TAILQ_INIT(&s->queue);
    return s;
}

void stream_start(struct stream *s, struct tls_context *tls, bool listening, const char *verify_name)
{
    uv_handle_t *handle = &s->uv.handle;
    if (handle->type == UV_TCP)
        uv_tcp_nodelay(&s->uv.tcp, 1);
    if (!tls) {
        s->state = STREAM_OPEN;
        stream_flush(s);
        maybe_end(s);
    } else {
        s->state = STREAM_HANDSHAKE;
        s->tls = tls_session_new(tls, listening, verify_name, queue_bytes, s);
        if (!listening)
            tls_handshake(s);
    }
    if (!s->closing)
        pump(s);
}

void stream_set_handlers(struct stream *s, const struct stream_handlers *handlers, void *arg)
{
    s->handlers = handlers;
    s->arg = arg;
}

const char *stream_peer(const struct stream *s)
{
    return s->peer;
}

const struct tls_peer *stream_tls_peer(const struct stream *s)
{
    return s->tls_peer;
}

bool stream_is_open(const struct stream *s)
{
    return s->state == STREAM_OPEN && !s->closing;
}
