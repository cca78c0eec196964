#include "core/command.h"

#include <string.h>

#include "core/table.h"
#include "model/namespace.h"
#include "model/secret.h"

#define COMMAND_VERSION 1

ROWS(command_job_submit, OBJECT(command_job_submit, job, 1, job), BOOL(command_job_submit, check_index, 2),
     UINT(command_job_submit, expected_index, 3));
ROWS(command_job_delete, STRING(command_job_delete, name, 1), BOOL(command_job_delete, purge, 2));
ROWS(command_service, STRING(command_service, service, 1));
ROWS(command_service_scale, STRING(command_service_scale, service, 1), INT(command_service_scale, count, 2));
ROWS(command_service_rollback, STRING(command_service_rollback, service, 1),
     UINT(command_service_rollback, to_version, 2));
ROWS(command_service_promote, STRING(command_service_promote, service, 1), INT(command_service_promote, percent, 2));
ROWS(command_service_delete, STRING(command_service_delete, service, 1), BOOL(command_service_delete, purge, 2));
ROWS(command_node, STRING(command_node, node_id, 1), INT(command_node, revoked_until, 2));
ROWS(command_node_register, OBJECT(command_node_register, node, 1, node), STRING(command_node_register, cluster, 2),
     INT(command_node_register, tasks, 3), OBJECT(command_node_register, network, 4, cluster_network),
     BOOL(command_node_register, by_right, 5));
ROWS(command_node_state, STRING(command_node_state, node_id, 1), INT(command_node_state, state, 2),
     STRING(command_node_state, reason, 3));
ROWS(command_node_fenced, STRING(command_node_fenced, node_id, 1), TIME(command_node_fenced, since, 2));
ROWS(command_alloc, STRING(command_alloc, alloc_id, 1), STRING(command_alloc, reason, 2));

ROWS(decide_place, STRING(decide_place, alloc_id, 1), STRING(decide_place, service, 2),
     UINT(decide_place, version, 3), INT(decide_place, replica, 4), STRING(decide_place, node_id, 5),
     LIST(decide_place, ports, 6, alloc_port), FLOAT(decide_place, cpus, 7),
     INT(decide_place, memory_mb, 8), INT(decide_place, disk_mb, 9), STRING(decide_place, previous, 10),
     STRING(decide_place, reason, 11), INT(decide_place, attempt, 12), INT(decide_place, run_at, 13));
static TABLE(decide_place, decide_place_rows, "");
ROWS(decide_stop, STRING(decide_stop, alloc_id, 1), STRING(decide_stop, reason, 2),
     UINT(decide_stop, version, 3), STRING(decide_stop, replacement, 4), BOOL(decide_stop, draining, 5));
static TABLE(decide_stop, decide_stop_rows, "");
ROWS(decide_deployment, STRING(decide_deployment, id, 1), INT(decide_deployment, state, 2),
     STRING(decide_deployment, reason, 3), INT(decide_deployment, desired, 4),
     INT(decide_deployment, placed, 5), INT(decide_deployment, healthy, 6),
     INT(decide_deployment, unhealthy, 7), BOOL(decide_deployment, set_share, 8), INT(decide_deployment, share, 9),
     BOOL(decide_deployment, promote, 10), BOOL(decide_deployment, held, 11), INT(decide_deployment, analysis, 12));
static TABLE(decide_deployment, decide_deployment_rows, "");
ROWS(decide_service, STRING(decide_service, service, 1), UINT(decide_service, version, 2),
     STRING(decide_service, reason, 3), INT(decide_service, next_run_at, 4), INT(decide_service, run_at, 5),
     STRING(decide_service, skipped, 6), BOOL(decide_service, set_next_run, 7),
     INT(decide_service, unplaced, 8));
static TABLE(decide_service, decide_service_rows, "");
ROWS(command_decide, LIST(command_decide, places, 1, decide_place),
     LIST(command_decide, stops, 2, decide_stop), STR_LIST(command_decide, restarts, 3),
     LIST(command_decide, deployments, 4, decide_deployment),
     LIST(command_decide, services, 5, decide_service), STR_LIST(command_decide, forget, 6),
     STR_LIST(command_decide, forget_nodes, 7));

ROWS(command_member_set, OBJECT(command_member_set, member, 1, member), STRING(command_member_set, token_id, 2),
     STRING(command_member_set, token_hash, 3), STRING(command_member_set, cluster, 4));
ROWS(command_member_remove, STRING(command_member_remove, id, 1), STRING(command_member_remove, reason, 2),
     INT(command_member_remove, revoked_until, 3));
ROWS(command_join_token, OBJECT(command_join_token, token, 1, join_token));
ROWS(command_restore_chunk, STRING(command_restore_chunk, upload, 1), INT(command_restore_chunk, offset, 2),
     STRING(command_restore_chunk, data, 3));
ROWS(command_restore, STRING(command_restore, upload, 1), INT(command_restore, size, 2),
     UINT(command_restore, hash, 3), INT(command_restore, taken_at, 4));
ROWS(command_event, STRING(command_event, kind, 1), STRING(command_event, subject, 2), STRING(command_event, to, 3),
     STRING(command_event, reason, 4));
ROWS(command_policy_set, OBJECT(command_policy_set, policy, 1, policy), BOOL(command_policy_set, initial, 2));
ROWS(command_role_set, OBJECT(command_role_set, role, 1, role));
ROWS(command_role_delete, STRING(command_role_delete, name, 1));
ROWS(command_token_create, OBJECT(command_token_create, token, 1, access_token));
ROWS(command_token_revoke, STRING(command_token_revoke, id, 1));
ROWS(command_clock, INT(command_clock, by, 1));
ROWS(command_secret_put, STRING(command_secret_put, name, 1), STRING(command_secret_put, sealed, 2),
     UINT(command_secret_put, version, 3), INT(command_secret_put, bytes, 4), STR_LIST(command_secret_put, services, 5),
     BOOL(command_secret_put, set_services, 6));
ROWS(command_secret_delete, STRING(command_secret_delete, name, 1));
ROWS(command_secret_reseal, MAP(command_secret_reseal, secrets, 1), MAP(command_secret_reseal, keys, 2),
     STRING(command_secret_reseal, cluster_key, 3));
ROWS(command_identity_key, OBJECT(command_identity_key, key, 1, identity_key), STR_LIST(command_identity_key, drop, 2));
ROWS(command_authority_set, OBJECT(command_authority_set, authority, 1, authority), INT(command_authority_set, other_until, 2));
ROWS(command_authority_remove, STRING(command_authority_remove, id, 1), STRING(command_authority_remove, reason, 2));
ROWS(command_enrol, BOOL(command_enrol, agent, 1), STRING(command_enrol, name, 2), STRING(command_enrol, token_id, 3),
     STRING(command_enrol, token_hash, 4));

ROWS(command_namespace_put, OBJECT(command_namespace_put, namespace, 1, namespace));
ROWS(command_namespace_delete, STRING(command_namespace_delete, name, 1));

TABLE(command_job_submit, command_job_submit_rows, "");
TABLE(command_job_delete, command_job_delete_rows, "");
TABLE(command_service, command_service_rows, "");
TABLE(command_service_scale, command_service_scale_rows, "");
TABLE(command_service_rollback, command_service_rollback_rows, "");
TABLE(command_service_promote, command_service_promote_rows, "");
TABLE(command_service_delete, command_service_delete_rows, "");
TABLE(command_node, command_node_rows, "");
TABLE(command_node_register, command_node_register_rows, "");
TABLE(command_node_state, command_node_state_rows, "");
TABLE(command_node_fenced, command_node_fenced_rows, "");
TABLE(command_alloc, command_alloc_rows, "");
TABLE(command_decide, command_decide_rows, "");
TABLE(command_member_set, command_member_set_rows, "");
TABLE(command_member_remove, command_member_remove_rows, "");
TABLE(command_join_token, command_join_token_rows, "");
TABLE(command_restore_chunk, command_restore_chunk_rows, "");
TABLE(command_restore, command_restore_rows, "");
TABLE(command_event, command_event_rows, "");
TABLE(command_policy_set, command_policy_set_rows, "");
TABLE(command_role_set, command_role_set_rows, "");
TABLE(command_role_delete, command_role_delete_rows, "");
TABLE(command_token_create, command_token_create_rows, "");
TABLE(command_token_revoke, command_token_revoke_rows, "");
TABLE(command_clock, command_clock_rows, "");
TABLE(command_secret_put, command_secret_put_rows, "");
TABLE(command_secret_delete, command_secret_delete_rows, "");
TABLE(command_secret_reseal, command_secret_reseal_rows, "");
TABLE(command_identity_key, command_identity_key_rows, "");
TABLE(command_authority_set, command_authority_set_rows, "");
TABLE(command_authority_remove, command_authority_remove_rows, "");
TABLE(command_enrol, command_enrol_rows, "");
TABLE(command_namespace_put, command_namespace_put_rows, "");
TABLE(command_namespace_delete, command_namespace_delete_rows, "");

static const struct {
    const char *name;
    const struct type *type;
    int64_t level;             /* 0: 1 */
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
    [COMMAND_MEMBER_SET] = {"member_set", &command_member_set_type, 2},
    [COMMAND_MEMBER_REMOVE] = {"member_remove", &command_member_remove_type, 2},
    [COMMAND_JOIN_TOKEN] = {"join_token", &command_join_token_type, 2},
    [COMMAND_RESTORE_CHUNK] = {"restore_chunk", &command_restore_chunk_type, 2},
    [COMMAND_RESTORE] = {"restore", &command_restore_type, 2},
    [COMMAND_EVENT] = {"event", &command_event_type, 2},
    [COMMAND_POLICY_SET] = {"policy_set", &command_policy_set_type, 2},
    [COMMAND_INGRESS_REPORT] = {"ingress_report", &ingress_report_type, 3},
    [COMMAND_ROLE_SET] = {"role_set", &command_role_set_type, 3},
    [COMMAND_ROLE_DELETE] = {"role_delete", &command_role_delete_type, 3},
    [COMMAND_TOKEN_CREATE] = {"token_create", &command_token_create_type, 3},
    [COMMAND_TOKEN_REVOKE] = {"token_revoke", &command_token_revoke_type, 3},
    [COMMAND_SERVICE_PROMOTE] = {"service_promote", &command_service_promote_type, 3},
    [COMMAND_SERVICE_ABORT] = {"service_abort", &command_service_type, 3},
    [COMMAND_CLOCK] = {"clock", &command_clock_type, 3},
    [COMMAND_SECRET_PUT] = {"secret_put", &command_secret_put_type, 4},
    [COMMAND_SECRET_DELETE] = {"secret_delete", &command_secret_delete_type, 4},
    [COMMAND_SECRET_RESEAL] = {"secret_reseal", &command_secret_reseal_type, 4},
    [COMMAND_IDENTITY_KEY] = {"identity_key", &command_identity_key_type, 4},
    [COMMAND_AUTHORITY_SET] = {"authority_set", &command_authority_set_type, 4},
    [COMMAND_AUTHORITY_REMOVE] = {"authority_remove", &command_authority_remove_type, 4},
    [COMMAND_ENROL] = {"enrol", &command_enrol_type, 4},
    [COMMAND_AGENT_TOKEN] = {"agent_token", &command_join_token_type, 4},
    [COMMAND_NAMESPACE_PUT] = {"namespace_put", &command_namespace_put_type, NAMESPACES_LEVEL},
    [COMMAND_NAMESPACE_DELETE] = {"namespace_delete", &command_namespace_delete_type, NAMESPACES_LEVEL},
    [COMMAND_ALLOC_PAUSE] = {"alloc_pause", &command_alloc_type, 5},
    [COMMAND_ALLOC_RESUME] = {"alloc_resume", &command_alloc_type, 5},
    [COMMAND_NODE_FENCED] = {"node_fenced", &command_node_fenced_type, LEASE_LEVEL},
    [COMMAND_NODE_INGRESS] = {"node_ingress", &command_node_type, INGRESS_RIGHT_LEVEL},
};

const struct type *command_payload_type(enum command_kind kind)
{
    return (unsigned)kind < COMMAND_KIND_COUNT ? kinds[kind].type : NULL;
}

const char *command_kind_name(enum command_kind kind)
{
    return (unsigned)kind < COMMAND_KIND_COUNT ? kinds[kind].name : "unknown";
}

int64_t command_kind_level(enum command_kind kind)
{
    return (unsigned)kind < COMMAND_KIND_COUNT && kinds[kind].level ? kinds[kind].level : 1;
}

static bool has_new_ingress(const struct service *s)
{
    for (uint32_t i = 0; i < s->ingress.n; i++)
        if (s->ingress.v[i].acme || s->ingress.v[i].certificate || s->ingress.v[i].sticky_header || s->ingress.v[i].max_body_mb
            || s->ingress.v[i].requests_per_second)
            return true;
    return false;
}

static void need(int64_t *level, int64_t least)
{
    if (*level < least)
        *level = least;
}

int64_t command_job_level(const struct job *job)
{
    int64_t level = command_kind_level(COMMAND_JOB_SUBMIT);
    for (uint32_t i = 0; i < job->services.n; i++) {
        const struct service *s = &job->services.v[i];
        if (s->ingress.n || s->deploy.strategy != STRATEGY_ROLLING || s->after.n)
            need(&level, 3);
        if (s->deploy.analysis.window_secs || s->deploy.min_healthy_secs || service_has_secrets(s) || has_new_ingress(s))
            need(&level, 4);
        if (s->config.balloon_mb)
            need(&level, BALLOON_LEVEL);
        if (s->config.snapshot)
            need(&level, SNAPSHOT_LEVEL);
    }
    if (!namespace_is_default(job->namespace))
        need(&level, NAMESPACES_LEVEL);
    return level;
}

int64_t command_role_level(const struct role *role)
{
    int64_t level = command_kind_level(COMMAND_ROLE_SET);
    for (uint32_t i = 0; i < role->rules.n; i++)
        if (role->rules.v[i].namespaces.n)
            level = NAMESPACES_LEVEL;
    return level;
}

int64_t command_name_level(const char *qualified)
{
    return namespace_has(NULL, qualified) ? 0 : NAMESPACES_LEVEL;
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

void command_stamp(void *bytes, size_t len, int64_t time_ms)
{
    CLEANUP_BUF struct buf time = {0};
    struct cursor in = cursor_of(bytes, len);
    uint8_t version;
    uint64_t kind, was;
    if (!cursor_u8(&in, &version) || !cursor_varint(&in, &kind) || !cursor_u64(&in, &was))
        abort();                     /* it was not encoded here */
    buf_add_u64(&time, (uint64_t)time_ms);
    memcpy((uint8_t *)bytes + (len - cursor_left(&in)) - time.len, time.data, time.len);
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
    if (kind >= COMMAND_KIND_COUNT || !kinds[kind].name || command_kind_level((enum command_kind)kind) > command_level)
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
