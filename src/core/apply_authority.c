/* Authority: whose certificates servers and agents have, and who may get one. The core keeps what the leader made; keys
 * come here sealed, and it never opens them. */
#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "base/text.h"
#include "core/apply.h"
#include "core/command.h"
#include "core/ingress_right.h"

#define AUTHORITIES_MOST 8u
#define ID_DIGITS 64
#define CERTIFICATE_MOST (64u << 10)

static void tell(struct core *c, const char *id, const char *to, const char *reason)
{
    CLEANUP_FREE char *subject = mem_strndup(id, 12);
    state_event_by_actor(c, (struct event_text){.kind = "authority", .subject = subject, .to = to}, reason);
    c->access.modify_index = c->index;
}

static struct authority *find(struct core *c, const char *id)
{
    for (uint32_t i = 0; id && i < c->access.authorities.n; i++)
        if (!strcmp(c->access.authorities.v[i].id, id))
            return &c->access.authorities.v[i];
    return NULL;
}

static bool is_hex(const char *s, size_t digits)
{
    return s && strlen(s) == digits && !s[strspn(s, "0123456789abcdef")];
}

static int check(const struct authority *a, struct error *err)
{
    if (!is_hex(a->id, ID_DIGITS))
        return error_set(err, ERROR_INVALID, "authority.id must be the hash of its key");
    if (!a->certificate || !*a->certificate || strlen(a->certificate) > CERTIFICATE_MOST)
        return error_set(err, ERROR_INVALID, "the authority's certificate is missing or too long");
    if (a->state == AUTHORITY_SIGNING && (!a->sealed_key || !*a->sealed_key))
        return error_set(err, ERROR_INVALID, "an authority cannot sign without its key");
    return 0;
}

static void leave(struct core *c, struct authority *a, int64_t until)
{
    a->state = AUTHORITY_LEAVING;
    a->since = c->now;
    a->until = until;
}

int apply_authority_set(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_authority_set *p = payload;
    struct authority *a = find(c, p->authority.id);
    if (check(&p->authority, err))
        return -1;
    if (!a && c->access.authorities.n >= AUTHORITIES_MOST)
        return error_set(err, ERROR_TOO_MANY, "there are %u authorities already; wait until some have left", AUTHORITIES_MOST);
    for (uint32_t i = 0; p->authority.state == AUTHORITY_SIGNING && i < c->access.authorities.n; i++)
        if (c->access.authorities.v[i].state == AUTHORITY_SIGNING && &c->access.authorities.v[i] != a)
            leave(c, &c->access.authorities.v[i], p->other_until);
    bool moved = !a || a->state != p->authority.state;
    int64_t created = a ? a->created_at : c->now, since = moved ? c->now : a->since;
    if (a)
        type_clear(&authority_type, a);
    else
        a = list_add_zero((struct list *)&c->access.authorities, &authority_type);
    type_copy(&authority_type, a, &p->authority);
    a->created_at = created;
    a->since = since;
    static const char *const reasons[] = {"its certificates are believed from now on", "it signs from now on", "it signs no more"};
    if (moved)
        tell(c, a->id, authority_state_names[a->state], reasons[a->state]);
    c->access.modify_index = c->index;
    buf_printf(body, "{\"index\":%llu}", (unsigned long long)c->index);
    return 0;
}

int apply_authority_remove(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_authority_remove *p = payload;
    struct authority *a = find(c, p->id);
    if (!a)
        return error_set(err, ERROR_NOT_FOUND, "there is no authority %.64s", p->id ? p->id : "");
    if (a->state == AUTHORITY_SIGNING)
        return error_set(err, ERROR_CONFLICT, "authority %.12s signs; another one has to take its place first", a->id);
    tell(c, a->id, "removed", p->reason ? p->reason : "removed");
    list_remove((struct list *)&c->access.authorities, &authority_type, (uint32_t)(a - c->access.authorities.v));
    buf_printf(body, "{\"index\":%llu}", (unsigned long long)c->index);
    return 0;
}

static struct revocation *find_revocation(const struct access *access, const char *name)
{
    for (uint32_t i = 0; i < access->revoked.n; i++)
        if (!strcmp(access->revoked.v[i].name, name))
            return &access->revoked.v[i];
    return NULL;
}

/* Certificates have whole seconds: what was given in the one of its removal is of before. */
void authority_revoke_name(struct core *c, const char *id, const char *role, int64_t until)
{
    CLEANUP_FREE char *name = mem_printf("%s.%s", id, role);
    struct list *all = (struct list *)&c->access.revoked;
    if (!until)
        return;
    for (uint32_t i = c->access.revoked.n; i-- > 0;)
        if (c->access.revoked.v[i].until <= c->now)
            list_remove(all, &revocation_type, i);
    struct revocation *r = find_revocation(&c->access, name);
    if (!r)
        r = list_add_zero(all, &revocation_type);
    mem_set_string(&r->name, name);
    r->before = (c->now / 1000 + 1) * 1000;
    r->until = until > r->until ? until : r->until;
    c->access.modify_index = c->index;
}

int64_t core_certificate_from(const struct access *access, const char *id, const char *role)
{
    CLEANUP_FREE char *name = mem_printf("%s.%s", id, role);
    const struct revocation *r = find_revocation(access, name);
    return r ? r->before : 0;
}

/* A certificate of its name would make a newcomer the node that lives. */
int core_check_enrol(const struct core *c, const struct command_enrol *e, int64_t now_ms, struct error *err)
{
    const struct node_entry *node = e->agent ? state_node_by_name(c, e->name) : NULL;
    if (!e->name || !text_is_name(e->name))
        return error_set(err, ERROR_INVALID, "name: \"%.64s\" is no name: lower-case letters, digits and hyphens, at most 63",
                         e->name ? e->name : "");
    if (node && node->n.state != NODE_DOWN)
        return error_set(err, ERROR_CONFLICT, "node %s lives; give this one another name, or end the agent there and wait until "
                         "that node is down", e->name);
    return state_check_token(c, &(struct token_use){e->token_id, e->token_hash, e->name, e->agent}, now_ms, err);
}

int apply_enrol(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct command_enrol *p = payload;
    if (core_check_enrol(c, p, c->now, err))
        return -1;
    const struct join_token *t = state_use_token(c, &(struct token_use){p->token_id, p->token_hash, p->name, p->agent});
    if (p->agent && core_level(c) >= INGRESS_RIGHT_LEVEL)
        ingress_right_set(c, p->name, t->ingress);
    state_event(c, (struct event_text){.kind = p->agent ? "node" : "server", .subject = p->name},
                "it gets a certificate, by join token %s", p->token_id);
    return 0;
}

void core_certificate_mark(const struct core *c, char mark[static CERTIFICATE_MARK_SIZE])
{
    const struct authority_list *all = &c->access.authorities;
    uint64_t hash = 0;
    bool signs = false;
    for (uint32_t i = 0; i < all->n; i++) {
        hash = hash_string(all->v[i].id, hash * 2 + (all->v[i].state == AUTHORITY_SIGNING));
        signs |= all->v[i].state == AUTHORITY_SIGNING;
    }
    snprintf(mark, CERTIFICATE_MARK_SIZE, signs ? "%016llx" : "", (unsigned long long)hash);
}
