#include "core/command.h"

#include <string.h>

#include "core/table.h"

/* Enum fields name their texts through pointers that other files define; a table cannot copy those at compile time,
 * so states travel as numbers and are checked when applied. */
#define COMMAND_VERSION 1

ROWS(command_job_submit, ROW_OBJECT(command_job_submit, 1, job, job_type), ROW_BOOL(command_job_submit, 2, check_index),
     ROW_UINT(command_job_submit, 3, expected_index));
ROWS(command_job_delete, ROW_STRING(command_job_delete, 1, name), ROW_BOOL(command_job_delete, 2, purge));
ROWS(command_service, ROW_STRING(command_service, 1, service));
ROWS(command_service_scale, ROW_STRING(command_service_scale, 1, service), ROW_INT(command_service_scale, 2, count));
ROWS(command_service_rollback, ROW_STRING(command_service_rollback, 1, service),
     ROW_UINT(command_service_rollback, 2, to_version));
ROWS(command_service_delete, ROW_STRING(command_service_delete, 1, service), ROW_BOOL(command_service_delete, 2, purge));
ROWS(command_node, ROW_STRING(command_node, 1, node_id));
ROWS(command_node_register, ROW_OBJECT(command_node_register, 1, node, node_type));
ROWS(command_node_state, ROW_STRING(command_node_state, 1, node_id), ROW_INT(command_node_state, 2, state),
     ROW_STRING(command_node_state, 3, reason));
ROWS(command_alloc, ROW_STRING(command_alloc, 1, alloc_id), ROW_STRING(command_alloc, 2, reason));

ROWS(decide_place, ROW_STRING(decide_place, 1, alloc_id), ROW_STRING(decide_place, 2, service),
     ROW_UINT(decide_place, 3, version), ROW_INT(decide_place, 4, replica), ROW_STRING(decide_place, 5, node_id),
     ROW_LIST(decide_place, 6, ports, alloc_port_type), ROW_FLOAT(decide_place, 7, cpus),
     ROW_INT(decide_place, 8, memory_mb), ROW_INT(decide_place, 9, disk_mb), ROW_STRING(decide_place, 10, previous),
     ROW_STRING(decide_place, 11, reason), ROW_INT(decide_place, 12, attempt), ROW_INT(decide_place, 13, run_at));
static const struct type decide_place_type = TYPE_OF(decide_place);
ROWS(decide_stop, ROW_STRING(decide_stop, 1, alloc_id), ROW_STRING(decide_stop, 2, reason),
     ROW_UINT(decide_stop, 3, version), ROW_STRING(decide_stop, 4, replacement), ROW_BOOL(decide_stop, 5, draining));
static const struct type decide_stop_type = TYPE_OF(decide_stop);
ROWS(decide_deployment, ROW_STRING(decide_deployment, 1, id), ROW_INT(decide_deployment, 2, state),
     ROW_STRING(decide_deployment, 3, reason), ROW_INT(decide_deployment, 4, desired),
     ROW_INT(decide_deployment, 5, placed), ROW_INT(decide_deployment, 6, healthy),
     ROW_INT(decide_deployment, 7, unhealthy));
static const struct type decide_deployment_type = TYPE_OF(decide_deployment);
ROWS(decide_service, ROW_STRING(decide_service, 1, service), ROW_UINT(decide_service, 2, version),
     ROW_STRING(decide_service, 3, reason), ROW_INT(decide_service, 4, next_run_at), ROW_INT(decide_service, 5, run_at),
     ROW_STRING(decide_service, 6, skipped), ROW_BOOL(decide_service, 7, set_next_run),
     ROW_INT(decide_service, 8, unplaced));
static const struct type decide_service_type = TYPE_OF(decide_service);
ROWS(command_decide, ROW_LIST(command_decide, 1, places, decide_place_type),
     ROW_LIST(command_decide, 2, stops, decide_stop_type), ROW_STR_LIST(command_decide, 3, restarts),
     ROW_LIST(command_decide, 4, deployments, decide_deployment_type),
     ROW_LIST(command_decide, 5, services, decide_service_type), ROW_STR_LIST(command_decide, 6, forget),
     ROW_STR_LIST(command_decide, 7, forget_nodes));

const struct type command_job_submit_type = TYPE_OF(command_job_submit);
const struct type command_job_delete_type = TYPE_OF(command_job_delete);
const struct type command_service_type = TYPE_OF(command_service);
const struct type command_service_scale_type = TYPE_OF(command_service_scale);
const struct type command_service_rollback_type = TYPE_OF(command_service_rollback);
const struct type command_service_delete_type = TYPE_OF(command_service_delete);
const struct type command_node_type = TYPE_OF(command_node);
const struct type command_node_register_type = TYPE_OF(command_node_register);
const struct type command_node_state_type = TYPE_OF(command_node_state);
const struct type command_alloc_type = TYPE_OF(command_alloc);
const struct type command_decide_type = TYPE_OF(command_decide);

static const struct {
    const char *name;
    const struct type *type;
} kinds[COMMAND_KIND_COUNT] = {
    [COMMAND_NONE] = {"none", NULL},
    [COMMAND_JOB_SUBMIT] = {"job_submit", &command_job_submit_type},
    [COMMAND_JOB_DELETE] = {"job_delete", &command_job_delete_type},
    [COMMAND_SERVICE_SCALE] = {"service_scale", &command_service_scale_type},
    [COMMAND_SERVICE_RESTART] = {"service_restart", &command_service_type},
    [COMMAND_SERVICE_ROLLBACK] = {"service_rollback", &command_service_rollback_type},
    [COMMAND_SERVICE_DELETE] = {"service_delete", &command_service_delete_type},
    [COMMAND_NODE_REGISTER] = {"node_register", &command_node_register_type},
    [COMMAND_NODE_STATE] = {"node_state", &command_node_state_type},
    [COMMAND_NODE_REMOVE] = {"node_remove", &command_node_type},
    [COMMAND_ALLOC_REPORT] = {"alloc_report", &agent_report_type},
    [COMMAND_ALLOC_STOP] = {"alloc_stop", &command_alloc_type},
    [COMMAND_ALLOC_RESTART] = {"alloc_restart", &command_alloc_type},
    [COMMAND_DECIDE] = {"decide", &command_decide_type},
};

const struct type *command_payload_type(enum command_kind kind)
{
    return (unsigned)kind < COMMAND_KIND_COUNT ? kinds[kind].type : NULL;
}

const char *command_kind_name(enum command_kind kind)
{
    return (unsigned)kind < COMMAND_KIND_COUNT ? kinds[kind].name : "unknown";
}

void command_init(struct command *c, enum command_kind kind, int64_t time_ms, const char *key, const char *actor)
{
    const struct type *t = command_payload_type(kind);
    *c = (struct command){.kind = kind, .time = time_ms, .key = mem_strdup(key), .actor = mem_strdup(actor)};
    c->payload = t ? type_new(t) : NULL;
}

void command_clear(struct command *c)
{
    const struct type *t = command_payload_type(c->kind);
    if (t)
        type_free(t, c->payload);
    free(c->key);
    free(c->actor);
    *c = (struct command){0};
}

static void add_text(struct buf *out, const char *s)
{
    size_t n = s ? strlen(s) : 0;
    buf_add_varint(out, n);
    buf_add(out, s ? s : "", n);
}

void command_encode_payload(enum command_kind kind, int64_t time_ms, const char *key, const char *actor,
                            const void *payload, struct buf *out)
{
    const struct type *t = command_payload_type(kind);
    buf_add_u8(out, COMMAND_VERSION);
    buf_add_varint(out, (uint64_t)kind);
    buf_add_u64(out, (uint64_t)time_ms);
    add_text(out, key);
    add_text(out, actor);
    if (t)
        type_encode(t, payload, out);
}

void command_encode(const struct command *c, struct buf *out)
{
    command_encode_payload(c->kind, c->time, c->key, c->actor, c->payload, out);
}

/* Empty texts come back as NULL. */
static bool read_text(struct cursor *in, char **s)
{
    uint64_t n;
    const uint8_t *p;
    if (!cursor_varint(in, &n) || n > cursor_left(in) || !cursor_bytes(in, n, &p) || memchr(p, 0, n))
        return false;
    *s = n ? mem_strndup((const char *)p, n) : NULL;
    return true;
}

int command_decode(const void *bytes, size_t len, struct command *c, struct error *err)
{
    struct cursor in = cursor_of(bytes, len);
    uint8_t version;
    uint64_t kind, time;
    *c = (struct command){0};
    if (!cursor_u8(&in, &version))
        return error_set(err, ERROR_CORRUPT, "a command without any bytes");
    if (version != COMMAND_VERSION)
        return error_set(err, ERROR_UNSUPPORTED, "command version %u is not known to this release", version);
    if (!cursor_varint(&in, &kind) || !cursor_u64(&in, &time))
        return error_set(err, ERROR_CORRUPT, "a command that ends within its head");
    if (kind >= COMMAND_KIND_COUNT)
        return error_set(err, ERROR_UNSUPPORTED, "command kind %llu is not known to this release",
                         (unsigned long long)kind);
    *c = (struct command){.kind = (enum command_kind)kind, .time = (int64_t)time};
    const struct type *t = command_payload_type(c->kind);
    if (!read_text(&in, &c->key) || !read_text(&in, &c->actor)) {
        command_clear(c);
        return error_set(err, ERROR_CORRUPT, "a %s command that ends within its head", kinds[kind].name);
    }
    if (!t)
        return 0;
    c->payload = mem_alloc(t->size);
    if (type_decode(t, in.p, cursor_left(&in), c->payload, err)) {
        command_clear(c);
        return error_context(err, "%s command", kinds[kind].name);
    }
    return 0;
}
