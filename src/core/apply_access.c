/* Access: the tokens that prove who asks, and the roles that they carry. Whether they allow something is asked by the
 * servers (model/access.h); the core keeps them, and keeps them sound. */
#include <string.h>

#include "core/apply.h"
#include "model/access.h"

#define ROLES_MOST 1000u
#define RULES_MOST 100u
#define TOKENS_MOST 10000u
#define TOKEN_ROLES_MOST 20u
#define TOKEN_NAME_MOST 63

static void access_event(struct core *c, const char *subject, const char *to, const char *what)
{
    state_event_by_actor(c, (struct event_text){.kind = "access", .subject = subject, .to = to}, what);
    c->access.modify_index = c->index;
}

static void answer_index(struct core *c, struct buf *body)
{
    buf_printf(body, "{\"index\":%llu}", (unsigned long long)c->index);
}

/* --- roles --- */

static struct role *find_role(struct core *c, const char *name)
{
    for (uint32_t i = 0; name && i < c->access.roles.n; i++)
        if (!strcmp(c->access.roles.v[i].name, name))
            return &c->access.roles.v[i];
    return NULL;
}

static int check_role(const struct role *r, struct error *err)
{
    if (object_admits(&role_type, r, err))
        return -1;
    if (role_is_builtin(r->name))
        return error_set(err, ERROR_CONFLICT, "role %s is always there and cannot be changed; give yours another name", r->name);
    if (r->rules.n > RULES_MOST)
        return error_set(err, ERROR_INVALID, "a role can have %u rules at most", RULES_MOST);
    return 0;
}

int apply_role_set(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct role *new = &((const struct command_role_set *)payload)->role;
    if (check_role(new, err))
        return -1;
    struct role *r = find_role(c, new->name);
    if (!r && c->access.roles.n >= ROLES_MOST)
        return error_set(err, ERROR_TOO_MANY, "there are %u roles already", ROLES_MOST);
    if (r)
        type_clear(&role_type, r);
    else
        r = list_add_zero((struct list *)&c->access.roles, &role_type);
    type_copy(&role_type, r, new);
    r->modify_index = c->index;
    access_event(c, r->name, "set", "role set");
    answer_index(c, body);
    return 0;
}

static const char *token_with_role(const struct core *c, const char *role)
{
    for (uint32_t i = 0; i < c->access.tokens.n; i++)
        for (uint32_t k = 0; k < c->access.tokens.v[i].roles.n; k++)
            if (!strcmp(c->access.tokens.v[i].roles.v[k], role))
                return c->access.tokens.v[i].name;
    return NULL;
}

int apply_role_delete(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const char *name = ((const struct command_role_delete *)payload)->name;
    struct role *r = find_role(c, name);
    if (!r)
        return error_set(err, ERROR_NOT_FOUND, "there is no role %.64s; `mt role list` lists them", name ? name : "");
    const char *user = token_with_role(c, name);
    if (user)
        return error_set(err, ERROR_CONFLICT, "token %s has role %s; revoke it first", user, name);
    access_event(c, name, "deleted", "role deleted");
    list_remove((struct list *)&c->access.roles, &role_type, (uint32_t)(r - c->access.roles.v));
    answer_index(c, body);
    return 0;
}

/* --- tokens --- */

static struct access_token *find_token(struct core *c, const char *id)
{
    for (uint32_t i = 0; id && i < c->access.tokens.n; i++)
        if (!strcmp(c->access.tokens.v[i].id, id))
            return &c->access.tokens.v[i];
    return NULL;
}

static int check_token(struct core *c, const struct access_token *t, struct error *err)
{
    if (!t->id || !*t->id || !t->secret_hash || !*t->secret_hash)
        return error_set(err, ERROR_INVALID, "a token needs an id and a secret");
    if (!t->name || !*t->name || strlen(t->name) > TOKEN_NAME_MOST)
        return error_set(err, ERROR_INVALID, "name: say who or what uses the token, in 1 to %d bytes", TOKEN_NAME_MOST);
    if (!t->roles.n || t->roles.n > TOKEN_ROLES_MOST)
        return error_set(err, ERROR_INVALID, "roles: 1 to %u are needed, such as reader, deployer, operator or admin",
                         TOKEN_ROLES_MOST);
    for (uint32_t i = 0; i < t->roles.n; i++)
        if (!role_is_builtin(t->roles.v[i]) && !find_role(c, t->roles.v[i]))
            return error_set(err, ERROR_INVALID, "roles: there is no role %.64s; `mt role list` lists them", t->roles.v[i]);
    if (t->expires_at && t->expires_at <= c->now)
        return error_set(err, ERROR_INVALID, "the token would have expired already");
    if (find_token(c, t->id))
        return error_set(err, ERROR_EXISTS, "there is a token %s already", t->id);
    return 0;
}

static void forget_expired(struct core *c)
{
    for (uint32_t i = c->access.tokens.n; i-- > 0;) {
        const struct access_token *t = &c->access.tokens.v[i];
        if (t->expires_at && t->expires_at <= c->now)
            list_remove((struct list *)&c->access.tokens, &access_token_type, i);
    }
}

int apply_token_create(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct access_token *new = &((const struct command_token_create *)payload)->token;
    if (check_token(c, new, err))
        return -1;
    forget_expired(c);
    if (c->access.tokens.n >= TOKENS_MOST)
        return error_set(err, ERROR_TOO_MANY, "there are %u tokens already; revoke those that nobody needs", TOKENS_MOST);
    struct access_token *t = list_add_zero((struct list *)&c->access.tokens, &access_token_type);
    type_copy(&access_token_type, t, new);
    mem_set_string(&t->created_by, c->actor);
    t->created_at = c->now;
    t->create_index = c->index;
    access_event(c, t->name, "created", "token created");
    answer_index(c, body);
    return 0;
}

int apply_token_revoke(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const char *id = ((const struct command_token_revoke *)payload)->id;
    struct access_token *t = find_token(c, id);
    if (!t)
        return error_set(err, ERROR_NOT_FOUND, "there is no token %.64s; `mt token list` lists them", id ? id : "");
    access_event(c, t->name, "revoked", "token revoked");
    list_remove((struct list *)&c->access.tokens, &access_token_type, (uint32_t)(t - c->access.tokens.v));
    answer_index(c, body);
    return 0;
}
