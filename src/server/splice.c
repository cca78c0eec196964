#include "server/splice.h"

#include <stdlib.h>

#include "base/mem.h"

#define PENDING_LIMIT (256 * 1024)

struct splice_end {
    struct splice *splice;
    struct stream *stream;           /* NULL once closed */
    struct splice_end *other;
    bool ended;                      /* it sends no more */
};

struct splice {
    struct splice_end ends[2];
    LIST_ENTRY(splice) link;
    struct access_holder *holder;
};

static void on_read(struct stream *s, void *arg, const char *data, size_t len)
{
    struct splice_end *end = arg;
    if (!end->other->stream)
        return;
    stream_write(end->other->stream, data, len);
    if (stream_pending(end->other->stream) > PENDING_LIMIT)
        stream_read_stop(s);
}

static void on_eof(struct stream *s, void *arg)
{
    struct splice_end *end = arg;
    end->ended = true;
    if (end->other->stream)
        stream_end(end->other->stream);
    if (!end->other->ended)
        return;
    /* What is pending still goes out: each side is closed when it has drained. */
    if (!stream_pending(s))
        stream_close(s);
    if (end->other->stream && !stream_pending(end->other->stream))
        stream_close(end->other->stream);
}

static void on_drain(struct stream *s, void *arg)
{
    struct splice_end *end = arg;
    if (end->ended && end->other->ended)
        stream_close(s);
    else if (end->other->stream && !end->other->ended)
        stream_read_start(end->other->stream);
}

static void on_close(struct stream *s, void *arg, const struct error *err)
{
    struct splice_end *end = arg;
    end->stream = NULL;
    if (end->other->stream) {
        stream_close(end->other->stream);
        return;
    }
    LIST_REMOVE(end->splice, link);
    access_holder_free(end->splice->holder);
    free(end->splice);
}

static const struct stream_handlers handlers = {
    .on_read = on_read, .on_eof = on_eof, .on_drain = on_drain, .on_close = on_close,
};

void splice_start(struct splice_list *list, struct stream *a, struct stream *b, struct access_holder *holder)
{
    struct splice *p = NEW(struct splice);
    p->holder = holder ? access_holder_hold(holder) : NULL;
    p->ends[0] = (struct splice_end){.splice = p, .stream = a, .other = &p->ends[1]};
    p->ends[1] = (struct splice_end){.splice = p, .stream = b, .other = &p->ends[0]};
    LIST_INSERT_HEAD(list, p, link);
    stream_set_handlers(a, &handlers, &p->ends[0]);
    stream_set_handlers(b, &handlers, &p->ends[1]);
    stream_read_start(a);
    stream_read_start(b);
}

static void close_both(struct splice *p)
{
    for (int i = 0; i < 2; i++)
        if (p->ends[i].stream)
            stream_close(p->ends[i].stream);
}

void splice_close_all(struct splice_list *list)
{
    struct splice *p;
    LIST_FOREACH(p, list, link)
        close_both(p);
}

void splice_close_revoked(struct splice_list *list)
{
    struct splice *p;
    LIST_FOREACH(p, list, link)
        if (access_holder_revoked(p->holder))
            close_both(p);
}
