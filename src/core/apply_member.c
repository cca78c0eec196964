/* Members: the servers themselves, the tokens with which new ones join, and what they have to tell. */
#include <string.h>

#include "base/text.h"
#include "core/apply.h"

#define ADDRESS_MOST 300
#define TOKENS_KEPT 100
#define TOKEN_KEPT_MS (7 * 24 * 3600 * 1000LL)      /* behind its end, so that late users are told why */

static bool is_id(const char *s)
{
    return s && *s >= '1' && *s <= '9' && strlen(s) <= 20 && !s[strspn(s, "0123456789")];
}

static bool is_address(const char *s)
{
    return s && strchr(s, ':') && strlen(s) <= ADDRESS_MOST;
}

static int check_member(struct core *c, const struct member *m, struct error *err)
{
    if (!is_id(m->id))
        return error_set(err, ERROR_INVALID, "member.id must be a number");
    if (!m->name || !text_is_name(m->name))
        return error_set(err, ERROR_INVALID, "member.name must be a name of lower-case letters, digits and hyphens");
    if (!is_address(m->address) || !is_address(m->raft_address))
        return error_set(err, ERROR_INVALID, "member.address and member.raft_address must be host:port");
    struct member_entry *other;
    RB_FOREACH(other, member_tree, &c->members)
        if (strcmp(other->m.name, m->name) == 0 && strcmp(other->m.id, m->id) != 0)
            return error_set(err, ERROR_CONFLICT, "there is a server %s already (id %s); give this one another name, or "
                             "remove that one first: mt cluster remove %s", m->name, other->m.id, other->m.name);
    return 0;
}

static struct token_entry *find_token(const struct core *c, const char *id)
{
    struct token_entry *t;
    TAILQ_FOREACH(t, &c->tokens, link)
        if (strcmp(t->t.id, id) == 0)
            return t;
    return NULL;
}

/* Who used it last may come again, with the same token, after an answer that got lost. */
int state_check_token(const struct core *c, const struct token_use *u, int64_t now, struct error *err)
{
    const struct token_entry *e = u->id ? find_token(c, u->id) : NULL;
    const char *make = u->agent ? "make a new one with `mt node token`" : "make a new one with `mt cluster token`";
    if (!e || !u->hash || !text_same_secret(e->t.secret_hash, u->hash))
        return error_set(err, ERROR_DENIED, "this cluster does not know the join token; %s", make);
    const struct join_token *t = &e->t;
    if (t->agents != u->agent)
        return error_set(err, ERROR_DENIED, "the join token is for %s; %s", t->agents ? "agents" : "servers", make);
    /* But not after it was removed. */
    bool removed = core_certificate_from(&c->access, u->by, u->agent ? "agent" : "server") > t->used_at;
    if (t->used_by && !strcmp(t->used_by, u->by) && !removed)
        return 0;
    if (t->used >= (t->uses ? t->uses : 1) || (t->used_by && !t->uses))
        return error_set(err, ERROR_DENIED, "the join token was used already, by %s %s; %s",
                         u->agent ? "node" : "the server with id", t->used_by, make);
    if (t->expires_at <= now)
        return error_set(err, ERROR_DENIED, "the join token has expired, or ended when a node was removed; %s", make);
    return 0;
}

const struct join_token *state_use_token(struct core *c, const struct token_use *u)
{
    struct join_token *t = &find_token(c, u->id)->t;
    if (t->used_by && !strcmp(t->used_by, u->by))
        return t;
    mem_set_string(&t->used_by, u->by);
    t->used_at = c->now;
    t->used++;
    return t;
}

void state_end_shared_tokens(struct core *c)
{
    struct token_entry *e;
    TAILQ_FOREACH(e, &c->tokens, link)
        if (e->t.agents && e->t.uses > 1 && e->t.used && e->t.expires_at > c->now)
            e->t.expires_at = c->now;
}

int core_check_join_token(const struct core *c, const char *token_id, const char *hash, const char *member_id, int64_t now_ms,
                          struct error *err)
{
    return state_check_token(c, &(struct token_use){token_id, hash, member_id, false}, now_ms, err);
}

static void member_event(struct core *c, const struct member *m, const char *to, const char *reason)
{
    state_event(c, (struct event_text){.kind = "server", .subject = m->name, .to = to}, "%s", reason);
}

static void set_member(struct core *c, struct member_entry *e, const struct member *facts)
{
    struct member m;
    type_copy(&member_type, &m, facts);
    m.joined_at = e->m.joined_at ? e->m.joined_at : c->now;
    m.create_index = e->m.create_index ? e->m.create_index : c->index;
    m.modify_index = c->index;
    type_clear(&member_type, &e->m);
    e->m = m;
    state_touch_members(c);
}

static bool same_member(const struct member_entry *e, const struct member *facts)
{
    struct member m = *facts;
    m.joined_at = e->m.joined_at;
    m.create_index = e->m.create_index;
    m.modify_index = e->m.modify_index;
    return type_equal(&member_type, &m, &e->m);
}

int apply_member_set(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_member_set *p = payload;
    struct token_use use = {p->token_id, p->token_hash, p->member.id, false};
    if (check_member(c, &p->member, err) || (p->token_id && state_check_token(c, &use, c->now, err)))
        return -1;
    if (p->token_id)
        state_use_token(c, &use);
    if (!c->clusters.n && p->cluster && *p->cluster)
        str_list_add(&c->clusters, p->cluster);
    struct member_entry *e = state_member(c, p->member.id);
    if (!e) {
        e = NEW(struct member_entry);
        set_member(c, e, &p->member);
        RB_INSERT(member_tree, &c->members, e);
        member_event(c, &e->m, "joined", "it joined the cluster");
    } else if (!same_member(e, &p->member)) {
        bool moved = strcmp(e->m.address, p->member.address) || strcmp(e->m.raft_address, p->member.raft_address);
        bool released = !text_same(e->m.version, p->member.version) || e->m.level != p->member.level;
        set_member(c, e, &p->member);
        if (moved || released)
            member_event(c, &e->m, NULL, moved ? "its address changed" : "it runs another release");
    }
    return 0;
}

int apply_member_remove(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_member_remove *p = payload;
    struct member_entry *e = state_member(c, p->id);
    if (!e)
        return error_set(err, ERROR_NOT_FOUND, "there is no server with id %s", p->id ? p->id : "");
    member_event(c, &e->m, "removed", p->reason ? p->reason : "removed");
    authority_revoke_name(c, e->m.id, "server", p->revoked_until);
    state_remove_member(c, e);
    state_touch_members(c);
    return 0;
}

static void forget_old_tokens(struct core *c)
{
    struct token_entry *t, *next;
    unsigned n = 0;
    TAILQ_FOREACH(t, &c->tokens, link)
        n++;
    for (t = TAILQ_FIRST(&c->tokens); t; t = next) {
        next = TAILQ_NEXT(t, link);
        if (n >= TOKENS_KEPT || t->t.expires_at + TOKEN_KEPT_MS <= c->now) {
            state_remove_token(c, t);
            n--;
        }
    }
}

int apply_join_token(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct join_token *t = &((const struct command_join_token *)payload)->token;
    if (!t->id || !*t->id || !t->secret_hash || !*t->secret_hash || t->expires_at <= c->now)
        return error_set(err, ERROR_INVALID, "a join token needs an id, a secret and a time in the future");
    if (find_token(c, t->id))
        return error_set(err, ERROR_EXISTS, "there is a join token %s already", t->id);
    forget_old_tokens(c);
    struct token_entry *e = NEW(struct token_entry);
    type_copy(&join_token_type, &e->t, t);
    mem_set_string(&e->t.created_by, c->actor);
    mem_set_string(&e->t.used_by, NULL);
    e->t.created_at = c->now;
    e->t.used_at = e->t.used = 0;
    TAILQ_INSERT_TAIL(&c->tokens, e, link);
    return 0;
}

int apply_event(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_event *p = payload;
    if (!p->kind || !p->subject || !p->reason)
        return error_set(err, ERROR_INVALID, "an event needs a kind, a subject and a reason");
    state_event(c, (struct event_text){.kind = p->kind, .subject = p->subject, .to = p->to}, "%s", p->reason);
    return 0;
}
