#include "core/peers.h"

#include <string.h>

static bool names_peers(const char *text)
{
    return text && (strstr(text, "${peers.") || strstr(text, "MENTAT_PEERS_"));
}

static bool list_names_peers(const struct str_list *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (names_peers(l->v[i]))
            return true;
    return false;
}

static bool map_names_peers(const struct kv_list *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (names_peers(l->v[i].value))
            return true;
    return false;
}

static bool volumes_name_peers(const struct volume_list *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (names_peers(l->v[i].source))
            return true;
    return false;
}

bool spec_names_peers(const struct service *spec)
{
    const struct config *config = &spec->config;
    return list_names_peers(&config->command) || list_names_peers(&config->entrypoint)
           || list_names_peers(&config->args) || map_names_peers(&config->env) || map_names_peers(&spec->env)
           || volumes_name_peers(&config->volumes) || volumes_name_peers(&spec->volumes);
}

void peers_set_changed(struct core *c, struct service_entry *s)
{
    if (s->peers_changed)
        return;
    s->peers_changed = true;
    STAILQ_INSERT_TAIL(&c->peers_changed, s, peers_link);
}

void peers_forget(struct core *c, struct service_entry *s)
{
    if (!s->peers_changed)
        return;
    s->peers_changed = false;
    STAILQ_REMOVE(&c->peers_changed, s, service_entry, peers_link);
}

/* Replicas of an older version may still speak of peers when the current one does not. */
static bool should_tell(struct service_entry *s)
{
    const struct service *spec = &s->current->v.spec;
    struct version_entry *v;
    struct alloc_entry *a;
    bool ports = false, named = false;
    uint32_t n = 0;
    TAILQ_FOREACH(v, &s->versions, link) {
        ports |= v->v.spec.ports.n > 0;
        named |= v->names_peers;
    }
    if (!ports || named || (spec->mode == MODE_SERVICE && spec->count > PEERS_ALWAYS))
        return ports && named;
    RB_FOREACH(a, alloc_replica_tree, &s->allocs)
        if (entry_wanted(a) && ++n > PEERS_ALWAYS)
            return false;
    return true;
}

static void tell(struct core *c, struct service_entry *s)
{
    struct alloc_entry *a;
    bool before = s->tells_peers;
    s->tells_peers = should_tell(s);
    if (!before && !s->tells_peers)
        return;
    RB_FOREACH(a, alloc_replica_tree, &s->allocs)
        if (entry_wanted(a))
            state_send_again(c, a);
}

void peers_tell(struct core *c)
{
    struct service_entry *s;
    while ((s = STAILQ_FIRST(&c->peers_changed))) {
        STAILQ_REMOVE_HEAD(&c->peers_changed, peers_link);
        s->peers_changed = false;
        tell(c, s);
    }
}

/* --- what agents get --- */

static bool same_slot(const struct alloc_entry *a, const struct alloc_entry *b)
{
    return a && b && a->a.replica == b->a.replica && (!a->every_node || a->node == b->node);
}

static void add_peer(struct peer_list *to, const struct alloc_entry *a)
{
    struct peer *p = list_add_zero((struct list *)to, &peer_type);
    p->alloc = mem_strdup(a->a.id);
    p->node_id = mem_strdup(a->a.node_id);
    p->replica = a->a.replica;
    p->ip = mem_strdup(a->a.ip);
    for (uint32_t i = 0; i < a->a.ports.n; i++)
        type_copy(&alloc_port_type, list_add_zero((struct list *)&p->ports, &alloc_port_type), &a->a.ports.v[i]);
}

/* A replica whose replacement is there already (its node drains, say) is reached where it will stay. */
void peers_add_to_work(struct service_entry *s, struct agent_work *out)
{
    struct alloc_entry *a, *newest = NULL;
    if (!s->tells_peers)
        return;
    for (uint32_t i = out->peers.n; i-- > 0;)
        if (strcmp(out->peers.v[i].service, s->name) == 0)
            return;
    struct service_peers *to = list_add_zero((struct list *)&out->peers, &service_peers_type);
    to->service = mem_strdup(s->name);
    RB_FOREACH(a, alloc_replica_tree, &s->allocs) {
        if (!entry_wanted(a))
            continue;
        if (newest && !same_slot(newest, a))
            add_peer(&to->peers, newest);
        newest = a;
    }
    if (newest)
        add_peer(&to->peers, newest);
}
