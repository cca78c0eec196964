/* Api: requests to the servers, one at a time, and streams. Every call runs an event loop of its own until it is
 * done. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"
#include "net/http.h"
#include "net/stream.h"

struct api;

struct api_options {
    const char *addresses;       /* comma separated, tried in turn; "http://host:port", "host:port", "unix:/path" */
    const char *token;           /* NULL: none */
    const char *namespace;       /* of what has one; NULL: default */
    const char *ca, *cert, *key; /* PEM files; NULL: none */
    const char *ca_hash;         /* instead of ca (net/tls.h) */
};
struct api *api_new(const struct api_options *options, struct error *err);
void api_free(struct api *api);

static inline void json_decref_cleanup(json_t **p) { json_decref(*p); }

/* True when the last request failed because no server answered at all. */
bool api_unreached(const struct api *api);
/* The address that answered last. */
const char *api_address(const struct api *api);
/* The namespace of what has one; NULL: default. */
const char *api_namespace(const struct api *api);
/* The next request goes to the next address: the last one does not help. */
void api_turn_to_next(struct api *api);

/* Paths of what has a namespace get the one of these options, unless they name one themselves.
 *
 * The error of a refused request carries the server's message; the details follow, one in a line. body NULL: none.
 * json may be NULL; it is set to NULL when the answer has no body, else it is the caller's. index may be NULL.
 * A write carries an Idempotency-Key, so that it is done once although it may be sent to several servers. */
int api_call(struct api *api, enum http_method method, const char *path, const struct buf *body, json_t **json,
             uint64_t *index, struct error *err);
/* PUT of bytes. */
int api_put(struct api *api, const char *path, const struct buf *body, json_t **json, struct error *err);
/* GET with any answer as text. */
int api_text(struct api *api, const char *path, struct buf *out, struct error *err);
json_t *api_get(struct api *api, const char *path, struct error *err);
/* All items of a list, over all its pages; the caller's. */
json_t *api_list(struct api *api, const char *path, struct error *err);

/* GET whose answer is delivered piece by piece; on_data returns false to end it. 0 when it ended either way. quiet_ms: it
 * fails when nothing came for so long; 0: never. */
int api_stream(struct api *api, const char *path, int64_t quiet_ms,
               bool (*on_data)(const char *data, size_t len, void *arg), void *arg, struct error *err);

/* A GET that runs beside others, at the address that answered last: begun with path, on_data and arg set. */
struct api_part {
    const char *path;
    bool (*on_data)(const char *data, size_t len, void *arg);
    void *arg;
    char position[48];           /* LOG_POSITION_HEADER of the answer; "": none */
    struct error error;          /* once over; code ERROR_NONE: none */
    struct exchange *exchange;   /* NULL: over, or not begun */
};
void api_part_begin(struct api *api, struct api_part *part);
/* True when it has ended: by the server, by on_data, or with an error. */
bool api_part_over(struct api_part *part);
void api_part_cut(struct api_part *part);
/* Waits until something happens to a part, at most so long. */
void api_turn(struct api *api, int64_t most_ms);

/* GET with an upgrade: the stream is the caller's, paused. */
struct stream *api_upgrade(struct api *api, const char *path, const char *protocol, struct error *err);
uv_loop_t *api_loop(struct api *api);

/* "/v1/services/NAME/rest", with NAME encoded. The caller's. */
char *api_path(const char *before, const char *name, const char *after);
