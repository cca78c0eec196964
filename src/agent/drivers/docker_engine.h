/* Docker engine: one connection point to its API over the unix socket. Knows whether the engine answers and which
 * version of the API both speak; makes calls, whose answers are JSON; all on the loop's thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"
#include "model/value.h"
#include "net/http_client.h"

#define ENGINE_API_LEAST 41          /* 1.41: Docker 20.10 */
#define ENGINE_API_MOST 50           /* 1.50: Docker 28 */

struct engine;
struct engine_call;

/* changed (may be NULL): it began or ceased to answer. */
struct engine *engine_open(uv_loop_t *loop, const char *socket, void (*changed)(void *arg), void *arg);
/* Cancels all calls, without callbacks. Frees itself as the loop runs on. */
void engine_close(struct engine *e);

bool engine_up(const struct engine *e);
/* False until the first look has ended: whether it is up is not known yet. */
bool engine_known(const struct engine *e);
/* Why it is not up, in words that say what to do. */
const char *engine_trouble(const struct engine *e);
/* "20.10.24"; NULL before it was up. */
const char *engine_version(const struct engine *e);
/* The minor number of the API's version in use: 41 … 50; 0 before it was up. */
int engine_api(const struct engine *e);
bool engine_has_seccomp(const struct engine *e);
/* Whether it is up is asked anew when it was not: engine_known is false until the answer. */
void engine_ask(struct engine *e);
/* A call failed in a way that tells of an engine that is gone: looks at once. */
void engine_suspect(struct engine *e);

/* What a call gave. err.code is ERROR_NONE for statuses below 400. Codes: as http_client.h says when no whole answer
 * came; else NOT_FOUND, CONFLICT, DENIED, INVALID, NO_SPACE, SYSTEM by status and the engine's message. */
struct engine_answer {
    int status;                      /* 0: none came */
    struct value json;               /* a null when the answer had no JSON; valid in the callback */
    const struct buf *body;
    struct error err;
};
typedef void (*engine_done)(void *arg, const struct engine_answer *answer);

struct engine_request {
    enum http_method method;
    const char *path;                /* without the version: "/containers/create?name=x" */
    const char *body;                /* JSON; NULL: none */
    int64_t timeout_ms;              /* until the head of the answer; 0: 30 s */
    int64_t idle_ms;                 /* between pieces of the answer; 0: none */
    const char *registry_auth;       /* X-Registry-Auth; NULL: none */
    bool raw;                        /* the answer is no JSON: see body */
    /* Given: the answer's pieces go here, and the answer has no JSON. Not called for errors. */
    void (*on_data)(void *arg, const char *data, size_t len);
    /* Given: asks for the connection itself, after which `done` is not called. The stream is paused. */
    void (*on_upgrade)(void *arg, struct stream *stream);
};
/* `done` is called once, never from inside this, unless it is cancelled before. */
struct engine_call *engine_start(struct engine *e, const struct engine_request *request, engine_done done, void *arg);
void engine_cancel(struct engine_call *c);

/* True when an error says that the engine did not answer, and not what it thought. */
static inline bool engine_absent(const struct error *err)
{
    return err->code == ERROR_UNAVAILABLE || err->code == ERROR_UNKNOWN_OUTCOME || err->code == ERROR_TIMEOUT ||
           err->code == ERROR_CORRUPT;
}
