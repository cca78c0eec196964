#include "agent/peers.h"

#include <string.h>
#include <uthash.h>

#include "agent/task_env.h"
#include "base/buf.h"
#include "base/mem.h"

struct peers_entry {
    struct service_peers told;
    bool kept;
    UT_hash_handle hh;
};

static struct peers_entry *find(const struct peers *p, const char *service)
{
    struct peers_entry *e;
    HASH_FIND_STR(p->entries, service, e);
    return e;
}

static void forget(struct peers *p, struct peers_entry *e)
{
    HASH_DEL(p->entries, e);
    type_clear(&service_peers_type, &e->told);
    free(e);
}

static void put(struct peers *p, const struct service_peers *told)
{
    struct peers_entry *e = find(p, told->service);
    if (e)
        forget(p, e);
    e = NEW(struct peers_entry);
    type_copy(&service_peers_type, &e->told, told);
    HASH_ADD_KEYPTR(hh, p->entries, e->told.service, strlen(e->told.service), e);
}

static const struct service_peers *told_of(const struct agent_work *work, const char *service)
{
    for (uint32_t i = 0; i < work->peers.n; i++)
        if (work->peers.v[i].service && !strcmp(work->peers.v[i].service, service))
            return &work->peers.v[i];
    return NULL;
}

void peers_apply(struct peers *p, const struct agent_work *work)
{
    for (uint32_t i = 0; i < work->peers.n; i++) {
        const struct service_peers *told = &work->peers.v[i];
        if (told->service)
            put(p, told);
    }
    for (uint32_t i = 0; i < work->allocs.n; i++) {
        const struct alloc *a = &work->allocs.v[i];
        struct peers_entry *e = a->service && alloc_live(a) ? find(p, a->service) : NULL;
        if (e && !told_of(work, a->service))
            forget(p, e);
    }
}

void peers_keep(struct peers *p, const char *service)
{
    struct peers_entry *e = find(p, service);
    if (e)
        e->kept = true;
}

void peers_sweep(struct peers *p)
{
    struct peers_entry *e, *next;
    HASH_ITER(hh, p->entries, e, next) {
        if (!e->kept)
            forget(p, e);
        else
            e->kept = false;
    }
}

/* --- what a task is told --- */

/* In mode every-node each replica is number 0, and a node is its place. */
static bool same_place(const struct peer *p, const struct alloc *a, bool every_node)
{
    return p->replica == a->replica &&
           (!every_node || !strcmp(p->node_id ? p->node_id : "", a->node_id ? a->node_id : ""));
}

static void add_address(struct buf *list, const char *ip, const struct service *spec, const struct alloc_port_list *ports,
                        const char *name)
{
    for (uint32_t i = 0; i < ports->n; i++) {
        if (strcmp(ports->v[i].name, name))
            continue;
        CLEANUP_FREE char *port = mem_printf("%lld", (long long)task_outer_port(spec->driver, &ports->v[i]));
        buf_add_string(list, list->len ? "," : "");
        task_add_address(list, ip, port);
    }
}

void peers_texts(const struct peers *p, const struct service *spec, const struct alloc *alloc, const char *ip,
                 struct kv_list *texts)
{
    const struct peers_entry *e = alloc->service ? find(p, alloc->service) : NULL;
    bool every_node = spec->mode == MODE_EVERY_NODE;
    for (uint32_t k = 0; e && k < alloc->ports.n; k++) {
        const char *name = alloc->ports.v[k].name;
        CLEANUP_BUF struct buf list = {0};
        bool self = false;
        for (uint32_t i = 0; i < e->told.peers.n; i++) {
            const struct peer *peer = &e->told.peers.v[i];
            bool here = same_place(peer, alloc, every_node);
            /* An older word may not have this allocation, or another one in its place. */
            if (!self && (here || (!every_node && peer->replica > alloc->replica))) {
                add_address(&list, ip, spec, &alloc->ports, name);
                self = true;
            }
            if (!here)
                add_address(&list, peer->ip ? peer->ip : "", spec, &peer->ports, name);
        }
        if (!self)
            add_address(&list, ip, spec, &alloc->ports, name);
        kv_set(texts, name, list.data ? list.data : "");
    }
}

void peers_clear(struct peers *p)
{
    struct peers_entry *e, *next;
    HASH_ITER(hh, p->entries, e, next)
        forget(p, e);
}
