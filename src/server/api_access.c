/* Tokens and roles. */
#include <string.h>

#include "base/id.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "server/api.h"
#include "server/api_types.h"
#include "server/secret.h"

/* A list that is short: all of it. */
static void answer_list(struct control *c, struct request *r, const struct type *type, const void *list)
{
    buf_add_string(&r->answer.body, "{\"items\":");
    list_to_json(type, list, &r->answer.body);
    buf_printf(&r->answer.body, ",\"next_cursor\":\"\",\"index\":%llu}", (unsigned long long)core_index(c->core));
}

API_READ(api_tokens)
{
    answer_list(c, r, &access_token_type, &core_access(c->core)->tokens);
    return 0;
}

API_READ(api_token_self)
{
    static const char *const kinds[] = {"nobody", "local", "token", "agent", "server"};
    const struct access_holder *h = r->who.holder;
    struct whoami me = {.kind = (char *)(uintptr_t)kinds[r->who.kind], .name = r->who.name, .id = h ? h->id : NULL,
                        .expires_at = h ? h->expires_at : 0};
    if (h)
        me.roles = h->roles;         /* borrowed */
    type_to_json(&whoami_type, &me, &r->answer.body);
    return 0;
}

/* The secret goes into the answer alone. A repeat with the same Idempotency-Key does not see it again. */
API_READ(api_token_create)
{
    const struct access_request *body = r->body;
    char secret[SECRET_SIZE], hash[SECRET_HASH_SIZE];
    CLEANUP_FREE char *id = id_new();
    secret_new(secret);
    secret_hash(secret, hash);
    struct command_token_create payload = {
        .token = {.id = id, .name = body->name, .secret_hash = hash, .roles = body->roles,
                  .expires_at = body->ttl_ms ? time_now_ms() + body->ttl_ms : 0}};
    request_command(r, COMMAND_TOKEN_CREATE, &payload);
    free(r->secret);
    r->secret = mem_printf("%s.%s", id, secret);
    return 0;
}

void api_token_created(struct control *c, struct request *r)
{
    const struct access_request *body = r->body;
    struct token_result result = {.token = r->secret, .expires_at = body->ttl_ms ? time_now_ms() + body->ttl_ms : 0};
    buf_clear(&r->answer.body);
    type_to_json(&token_result_type, &result, &r->answer.body);
}

API_PREPARE(api_token_revoke)
{
    struct command_token_revoke payload = {.id = (char *)(uintptr_t)r->params[0]};
    request_command(r, COMMAND_TOKEN_REVOKE, &payload);
    return 0;
}

API_READ(api_roles)
{
    answer_list(c, r, &role_type, &core_access(c->core)->roles);
    return 0;
}

API_PREPARE(api_role_set)
{
    struct command_role_set payload = {.role = *(const struct role *)r->body};      /* borrowed */
    if (strcmp(payload.role.name, r->params[0]))
        return error_set(err, ERROR_INVALID, "the body is role %.64s, the path role %.64s", payload.role.name, r->params[0]);
    r->command_level = command_role_level(&payload.role);
    request_command(r, COMMAND_ROLE_SET, &payload);
    return 0;
}

API_PREPARE(api_role_delete)
{
    struct command_role_delete payload = {.name = (char *)(uintptr_t)r->params[0]};
    request_command(r, COMMAND_ROLE_DELETE, &payload);
    return 0;
}
