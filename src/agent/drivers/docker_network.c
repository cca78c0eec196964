/* Docker driver: the network of a job on this node. The first of its tasks makes it; the others know it by its id, since
 * a name may be given twice by requests that meet. */
#include <string.h>

#include "agent/drivers/docker.h"
#include "base/mem.h"

#define AGAIN_MS 10
#define CONFLICTS_MOST 20            /* of names: the engine says one is taken, and nobody has it */

static void have(struct docker_task *t, const char *id)
{
    CLEANUP_FREE char *name = docker_job_network(t->job);
    mem_set_string(&t->spec.network, id);        /* id may be what is replaced in the next line */
    kv_set(&t->d->networks, name, t->spec.network);
    docker_create_begin(t);
}

/* The next task that needs it looks anew. */
static void unknown(struct docker_task *t)
{
    CLEANUP_FREE char *name = docker_job_network(t->job);
    kv_remove(&t->d->networks, name);
}

static void made(void *arg, const struct engine_answer *a)
{
    struct docker_task *t = arg;
    const char *id = value_text(&a->json, "Id");
    t->call = NULL;
    if (!a->err.code && id) {
        have(t, id);
        return;
    }
    unknown(t);
    if (a->err.code == ERROR_CONFLICT && ++t->conflicts < CONFLICTS_MOST)
        docker_network_begin(t);            /* somebody was faster */
    else
        docker_start_failed(t, &a->err);
}

static void make(struct docker_task *t)
{
    CLEANUP_FREE char *name = docker_job_network(t->job);
    CLEANUP_BUF struct buf body = {0};
    buf_add_string(&body, "{\"Name\":");
    json_add_string(&body, name);
    buf_add_string(&body, ",\"CheckDuplicate\":true,\"Driver\":\"bridge\",\"Labels\":{\"" LABEL_AGENT "\":");
    json_add_string(&body, t->d->agent);
    buf_add_string(&body, ",\"" LABEL_JOB "\":");
    json_add_string(&body, t->job);
    buf_add_string(&body, "}}");
    docker_task_call(t, STEP_NETWORK, &(struct engine_request){
        .method = HTTP_METHOD_POST, .path = "/networks/create", .body = body.data, .timeout_ms = DOCKER_MAKE_TIMEOUT_MS,
    }, made);
}

static void seen(void *arg, const struct engine_answer *a)
{
    struct docker_task *t = arg;
    CLEANUP_FREE char *name = docker_job_network(t->job), *found = NULL;
    t->call = NULL;
    if (a->err.code) {
        unknown(t);
        docker_start_failed(t, &a->err);
        return;
    }
    /* The filter also gives longer names. Of several the same one is taken each time. */
    for (uint32_t i = 0; a->json.kind == VALUE_LIST && i < a->json.n; i++) {
        const char *other = value_text(&a->json.entries[i].value, "Name"), *id = value_text(&a->json.entries[i].value, "Id");
        if (other && id && !strcmp(other, name) && (!found || strcmp(id, found) < 0))
            mem_set_string(&found, id);
    }
    if (found)
        have(t, found);
    else
        make(t);
}

void docker_network_begin(struct docker_task *t)
{
    CLEANUP_FREE char *name = docker_job_network(t->job);
    const char *known = t->spec.config.network ? NULL : kv_get(&t->d->networks, name);
    if (t->spec.config.network) {
        docker_create_begin(t);
    } else if (known && *known) {
        have(t, known);
    } else if (known) {
        t->step = STEP_NETWORK;      /* another task is at it */
        docker_again_in(t, AGAIN_MS);
    } else {
        CLEANUP_BUF struct buf filter = {0}, path = {0};
        kv_set(&t->d->networks, name, "");
        buf_add_string(&filter, "{\"name\":[");
        json_add_string(&filter, name);
        buf_add_string(&filter, "]}");
        buf_add_string(&path, "/networks?filters=");
        http_add_encoded(&path, filter.data);
        docker_task_call(t, STEP_NETWORK, &(struct engine_request){.path = path.data}, seen);
    }
}

void docker_network_abandon(struct docker_task *t)
{
    if (t->step == STEP_NETWORK && t->call)
        unknown(t);
}

void docker_network_again(struct docker_task *t)
{
    unknown(t);
    docker_network_begin(t);
}
