/* Core: a command's way through the state. Decode, look whether its key was seen, apply, remember the answer. What
 * fails is refused as a whole; the applied index and the running hash move in any case. */
#include "core/core.h"

#include <string.h>

#include "base/random.h"
#include "core/apply.h"
#include "core/keys.h"
#include "core/ingress.h"
#include "core/network.h"
#include "core/peers.h"

struct core *core_new(void)
{
    struct core *c = NEW(struct core);
    state_init(c);
    return c;
}

void core_free(struct core *c)
{
    if (!c)
        return;
    state_clear(c);
    free(c);
}

void core_result_clear(struct core_result *r)
{
    buf_free(&r->body);
    *r = (struct core_result){0};
}

static apply_fn *const appliers[COMMAND_KIND_COUNT] = {
    [COMMAND_JOB_SUBMIT] = apply_job_submit,
    [COMMAND_JOB_DELETE] = apply_job_delete,
    [COMMAND_SERVICE_SCALE] = apply_service_scale,
    [COMMAND_SERVICE_RESTART] = apply_service_restart,
    [COMMAND_SERVICE_ROLLBACK] = apply_service_rollback,
    [COMMAND_SERVICE_DELETE] = apply_service_delete,
    [COMMAND_NODE_REGISTER] = apply_node_register,
    [COMMAND_NODE_STATE] = apply_node_state,
    [COMMAND_NODE_REMOVE] = apply_node_remove,
    [COMMAND_NODE_FENCED] = apply_node_fenced,
    [COMMAND_ALLOC_REPORT] = apply_alloc_report,
    [COMMAND_ALLOC_STOP] = apply_alloc_stop,
    [COMMAND_ALLOC_RESTART] = apply_alloc_restart,
    [COMMAND_ALLOC_PAUSE] = apply_alloc_pause,
    [COMMAND_ALLOC_RESUME] = apply_alloc_resume,
    [COMMAND_DECIDE] = apply_decide,
    [COMMAND_MEMBER_SET] = apply_member_set,
    [COMMAND_MEMBER_REMOVE] = apply_member_remove,
    [COMMAND_JOIN_TOKEN] = apply_join_token,
    [COMMAND_RESTORE_CHUNK] = apply_restore_chunk,
    [COMMAND_RESTORE] = apply_restore,
    [COMMAND_EVENT] = apply_event,
    [COMMAND_POLICY_SET] = apply_policy_set,
    [COMMAND_INGRESS_REPORT] = apply_ingress_report,
    [COMMAND_ROLE_SET] = apply_role_set,
    [COMMAND_ROLE_DELETE] = apply_role_delete,
    [COMMAND_TOKEN_CREATE] = apply_token_create,
    [COMMAND_TOKEN_REVOKE] = apply_token_revoke,
    [COMMAND_SERVICE_PROMOTE] = apply_service_promote,
    [COMMAND_SERVICE_ABORT] = apply_service_abort,
    [COMMAND_CLOCK] = apply_clock,
    [COMMAND_SECRET_PUT] = apply_secret_put,
    [COMMAND_SECRET_DELETE] = apply_secret_delete,
    [COMMAND_SECRET_RESEAL] = apply_secret_reseal,
    [COMMAND_IDENTITY_KEY] = apply_identity_key,
    [COMMAND_AUTHORITY_SET] = apply_authority_set,
    [COMMAND_AUTHORITY_REMOVE] = apply_authority_remove,
    [COMMAND_ENROL] = apply_enrol,
    [COMMAND_AGENT_TOKEN] = apply_join_token,
    [COMMAND_NAMESPACE_PUT] = apply_namespace_put,
    [COMMAND_NAMESPACE_DELETE] = apply_namespace_delete,
    [COMMAND_NODE_INGRESS] = apply_node_ingress,
};

static void apply_command(struct core *c, const struct command *cmd, struct core_result *result)
{
    c->now = cmd->time;
    c->actor = cmd->actor;
    c->event_seq = 0;
    if (cmd->kind != COMMAND_CLOCK) {        /* which gives what is kept its new times first */
        keys_expire(c);
        staging_expire(c);
    }
    if (cmd->key && keys_answer(c, cmd, result))
        return;
    if (appliers[cmd->kind] && appliers[cmd->kind](c, cmd->payload, &result->body, &result->error))
        buf_clear(&result->body);
    peers_tell(c);
    ingress_tell(c);
    network_tell(c);
    if (cmd->key)
        keys_remember(c, cmd, result);
    c->actor = NULL;
}

/* Over commands and what came of them, so that servers that differ in either show it at once. */
static void mix_hash(struct core *c, const void *command, size_t len, const struct core_result *result)
{
    uint64_t h = hash_bytes(command, len, c->hash ^ hash_mix(c->index));
    h = hash_bytes(result->body.data ? result->body.data : "", result->body.len, h + (uint64_t)result->error.code);
    c->hash = hash_mix(h ^ c->event_count);
}

void core_apply(struct core *c, uint64_t index, const void *command, size_t len, struct core_result *result)
{
    CLEANUP_COMMAND struct command cmd;
    *result = (struct core_result){0};
    INVARIANT(index + c->ahead > c->index);
    c->index = index + c->ahead;
    if (command_decode(command, len, &cmd, &result->error) == 0)
        apply_command(c, &cmd, result);
    else
        result->unknown = result->error.code == ERROR_UNSUPPORTED;
    mix_hash(c, command, len, result);
}

uint64_t core_index(const struct core *c)
{
    return c->index;
}

int64_t core_time(const struct core *c)
{
    return c->now;
}

uint64_t core_ahead(const struct core *c)
{
    return c->ahead;
}

const char *core_cluster(const struct core *c)
{
    return c->clusters.n ? c->clusters.v[0] : NULL;
}

uint64_t core_hash(const struct core *c)
{
    return c->hash;
}
