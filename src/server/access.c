#include "server/access.h"

#include <string.h>

#include "base/file.h"
#include "base/id.h"
#include "base/log.h"
#include "base/timefmt.h"
#include "core/command.h"
#include "join/revoked.h"
#include "server/secret.h"

#define AGAIN_MS 1000

static bool is_admin(const struct access_token *t, const struct role_list *roles, int64_t now)
{
    struct grant grant = {0};
    grant_add_names(&grant, &t->roles, roles);
    bool admin = (!t->expires_at || t->expires_at > now) && grant_allows_all(&grant, RIGHT_ACCESS);
    grant_clear(&grant);
    return admin;
}

static bool has_admin(const struct access *a)
{
    int64_t now = time_now_ms();
    for (uint32_t i = 0; i < a->tokens.n; i++)
        if (is_admin(&a->tokens.v[i], &a->roles, now))
            return true;
    return false;
}

void access_start(struct control *c, struct access_table *table)
{
    c->access = table;
    c->admin_file = table ? mem_printf("%s/" ADMIN_TOKEN_FILE, c->config->data_dir) : NULL;
}

void access_end(struct control *c)
{
    free(steal(&c->admin_file));
}

static void on_made(struct control *c, struct proposal *p, enum consensus_outcome outcome)
{
    struct error err;
    c->admin_after_ms = time_monotonic_ms() + AGAIN_MS;
    c->making_admin = false;
    if (proposal_error(c, p, outcome, &err))
        LOG_W("the administrator's token could not be made; trying again", "error", err.text);
    core_result_clear(&p->result);
}

/* The file comes first: a token that nobody can read would be worse than a file with one that is not good. */
static void make_admin(struct control *c)
{
    char secret[SECRET_SIZE], hash[SECRET_HASH_SIZE];
    struct error err;
    CLEANUP_BUF struct buf command = {0};
    CLEANUP_FREE char *id = id_new();
    secret_new(secret);
    secret_hash(secret, hash);
    CLEANUP_FREE char *text = mem_printf("%s.%s\n", id, secret);
    c->admin_after_ms = time_monotonic_ms() + AGAIN_MS;
    if (file_write(c->admin_file, text, strlen(text), 0600, &err)) {
        LOG_E("the administrator's token could not be written", "error", err.text);
        return;
    }
    char *role = (char[]){"admin"};
    struct command_token_create payload = {
        .token = {.id = id, .name = (char[]){"administrator"}, .secret_hash = hash, .roles = {.v = &role, .n = 1}}};
    command_encode_payload(COMMAND_TOKEN_CREATE, time_now_ms(), NULL, NULL, &payload, &command);
    c->making_admin = true;
    LOG_I("there is no administrator's token; making one", "file", c->admin_file);
    control_propose(c, &c->admin, command.data, command.len, on_made);
}

void access_begin(struct control *c)
{
    c->access_seen = false;
}

/* It has all that its leader told it, and that is not nothing. */
static bool follows(const struct control *c)
{
    struct consensus_stats stats;
    if (!c->consensus || c->role == CONSENSUS_LEADER || !control_in_contact(c) || !core_member_next(c->core, NULL))
        return false;
    consensus_stats(c->consensus, &stats);
    return stats.applied_index >= stats.commit_index;
}

void access_look(struct control *c)
{
    const struct access *now = core_access(c->core);
    if (c->tls && c->revoked_index != now->modify_index) {
        revoked_use(c->tls, &now->revoked);
        c->revoked_index = now->modify_index;
    }
    if (!c->access)
        return;
    access_table_set_in_cluster(c->access, c->consensus && !c->forming);
    if (!c->access_seen || now->modify_index != c->access_index)
        access_table_set(c->access, now);
    bool rules = c->role == CONSENSUS_LEADER && c->consensus && consensus_lease_ms(c->consensus);
    bool leads = rules && !c->stopping && core_level(c->core) >= command_kind_level(COMMAND_TOKEN_CREATE);
    access_table_set_knowledge(c->access, rules ? ACCESS_COMPLETE : follows(c) ? ACCESS_CURRENT : ACCESS_BEHIND);
    if (c->access_seen && now->modify_index == c->access_index && (!leads || c->admin_seen))
        return;
    c->access_seen = true;
    c->access_index = now->modify_index;
    c->admin_seen = leads && has_admin(now);
    if (leads && !c->admin_seen && !c->making_admin && time_monotonic_ms() >= c->admin_after_ms)
        make_admin(c);
}
