/* Event stream: the server's events out of the pieces of an answer (server-sent events, as /v1/events gives them). */
#pragma once
#include <stdbool.h>

#include "base/buf.h"

/* Zeroed: nothing came yet. */
struct event_stream {
    struct buf line;             /* one that is not complete yet */
    bool is_error;               /* the event under way says why the stream ends */
};
void event_stream_clear(struct event_stream *s);
/* Takes bytes as they come; on_event gets the data of each event, and says whether to go on. False when it did not, or
 * when a line has no end: then no more is to be given. */
bool event_stream_add(struct event_stream *s, const char *data, size_t len,
                      bool (*on_event)(void *arg, bool is_error, const char *data), void *arg);
