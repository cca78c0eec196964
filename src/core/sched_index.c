#include "core/sched_index.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "core/sched_view.h"

int64_t cpus_to_nano(double cpus)
{
    return llround(cpus * 1e9);
}

struct tree_room node_free_room(const struct sched_node *n)
{
    return (struct tree_room){n->total.cpu_nano - n->used.cpu_nano, n->total.memory_mb - n->used.memory_mb,
                              n->total.disk_mb - n->used.disk_mb};
}

static double free_share(int64_t total, int64_t used)
{
    if (total <= 0 || used >= total)
        return 0;
    return used <= 0 ? 1 : (double)(total - used) / (double)total;
}

int64_t packing_score(const struct tree_room *total, const struct tree_room *used)
{
    double cpu = free_share(total->cpu_nano, used->cpu_nano), memory = free_share(total->memory_mb, used->memory_mb);
    return llround((20 - exp10(cpu) - exp10(memory)) / 18 * (double)SCORE_ONE);
}

static void node_changed(struct sched *s, struct sched_node *n)
{
    n->packing = packing_score(&n->total, &n->used);
    s->stamps[n->slot]++;
    s->journal[s->journal_at++ % JOURNAL_SIZE] = n->slot;
}

/* --- services --- */

struct sched_service *sched_service_get(struct sched *s, const char *name)
{
    struct sched_service *service;
    size_t n = strlen(name);
    HASH_FIND(hh, s->services, name, n, service);
    if (service)
        return service;
    service = mem_alloc(sizeof(*service) + n + 1);
    memcpy(service->name, name, n + 1);
    LIST_INIT(&service->tallies);
    HASH_ADD_KEYPTR(hh, s->services, service->name, n, service);
    return service;
}

static void tally_free(struct tally *t)
{
    struct tally_value *v, *next;
    HASH_ITER(hh, t->values, v, next) {
        HASH_DEL(t->values, v);
        free(v);
    }
    free(t->attribute);
    free(t);
}

void sched_service_drop_unused(struct sched *s, struct sched_service *service)
{
    if (service->allocs || service->view)
        return;
    INVARIANT(!service->presence);
    while (!LIST_EMPTY(&service->tallies)) {
        struct tally *t = LIST_FIRST(&service->tallies);
        LIST_REMOVE(t, link);
        tally_free(t);
    }
    HASH_DEL(s->services, service);
    free(service);
}

int64_t service_count_on(const struct sched_service *service, uint32_t slot)
{
    struct presence *p;
    HASH_FIND(hh, service->presence, &slot, sizeof(slot), p);
    return p ? p->count : 0;
}

static struct tally_value *tally_get(struct tally *t, const char *value)
{
    struct tally_value *v;
    size_t n = strlen(value);
    HASH_FIND(hh, t->values, value, n, v);
    if (v)
        return v;
    v = mem_alloc(sizeof(*v) + n + 1);
    memcpy(v->value, value, n + 1);
    HASH_ADD_KEYPTR(hh, t->values, v->value, n, v);
    return v;
}

static void tally_add(struct tally *t, const struct node *facts, int64_t count)
{
    char number[ATTRIBUTE_NUMBER_SIZE];
    const char *value = attribute_value(facts, t->attribute, number);
    tally_get(t, value ? value : "")->count += count;
}

struct tally_value *service_tally(struct sched *s, struct sched_service *service, const char *attribute,
                                  const char *value)
{
    struct tally *t;
    LIST_FOREACH(t, &service->tallies, link)
        if (strcmp(t->attribute, attribute) == 0)
            return tally_get(t, value);
    t = NEW(struct tally);
    t->attribute = mem_strdup(attribute);
    LIST_INSERT_HEAD(&service->tallies, t, link);
    for (struct presence *p = service->presence; p; p = p->hh.next)
        tally_add(t, &s->nodes[p->slot]->facts, p->count);
    return tally_get(t, value);
}

static void service_count(struct sched_service *service, struct sched_node *n, int64_t change)
{
    struct presence *p;
    HASH_FIND(hh, service->presence, &n->slot, sizeof(n->slot), p);
    if (!p) {
        p = NEW(struct presence);
        p->slot = n->slot;
        HASH_ADD(hh, service->presence, slot, sizeof(p->slot), p);
    }
    p->count += change;
    if (p->count == 0) {
        HASH_DEL(service->presence, p);
        free(p);
    }
    service->allocs += change;
    struct tally *t;
    LIST_FOREACH(t, &service->tallies, link)
        tally_add(t, &n->facts, change);
}

/* --- classes of nodes --- */

/* So that no two lists of texts look the same: a mark whether there is one, and an end that no text contains. */
static void add_text(struct buf *b, const char *s)
{
    buf_add_u8(b, s != NULL);
    if (s)
        buf_add(b, s, strlen(s) + 1);
}

static struct sched_class *class_get(struct sched *s, const struct node *n)
{
    CLEANUP_BUF struct buf key = {0};
    add_text(&key, n->node_class);
    add_text(&key, n->arch);
    add_text(&key, n->kernel);
    buf_printf(&key, "%d %.17g %lld %u", n->kvm, n->cpus, (long long)n->memory_mb, n->drivers.n);
    for (uint32_t i = 0; i < n->drivers.n; i++) {
        add_text(&key, n->drivers.v[i].name);
        add_text(&key, n->drivers.v[i].version);
        buf_add_u8(&key, n->drivers.v[i].healthy);
    }
    for (uint32_t i = 0; i < n->meta.n; i++) {
        add_text(&key, n->meta.v[i].key);
        add_text(&key, n->meta.v[i].value);
    }
    struct sched_class *c;
    HASH_FIND(hh, s->classes, key.data, key.len, c);
    if (!c) {
        c = mem_alloc(sizeof(*c) + key.len);
        memcpy(c->key, key.data, key.len);
        c->len = key.len;
        c->id = s->n_free_classes ? s->free_classes[--s->n_free_classes] : s->n_classes++;
        c->serial = ++s->class_serial;
        HASH_ADD_KEYPTR(hh, s->classes, c->key, c->len, c);
    }
    c->refs++;
    return c;
}

static void class_release(struct sched *s, struct sched_class *c)
{
    if (!c || --c->refs)
        return;
    s->free_classes = mem_realloc_array(s->free_classes, s->n_free_classes + 1, sizeof(*s->free_classes));
    s->free_classes[s->n_free_classes++] = c->id;
    HASH_DEL(s->classes, c);
    free(c);
}

/* --- nodes --- */

struct sched_node *sched_node_find(const struct sched *s, const char *id)
{
    struct sched_node *n;
    HASH_FIND_STR(s->by_id, id, n);
    return n;
}

static uint32_t slot_take(struct sched *s)
{
    if (s->n_free_slots)
        return s->free_slots[--s->n_free_slots];
    if (s->n_slots == s->cap_slots) {
        uint32_t cap = s->cap_slots ? s->cap_slots * 2 : 16;
        s->nodes = mem_realloc_array(s->nodes, cap, sizeof(*s->nodes));
        s->stamps = mem_realloc_array(s->stamps, cap, sizeof(*s->stamps));
        memset(s->stamps + s->cap_slots, 0, (cap - s->cap_slots) * sizeof(*s->stamps));
        s->cap_slots = cap;
    }
    return s->n_slots++;
}

static struct sched_node *node_new(struct sched *s, const struct node *node)
{
    struct sched_node *n = NEW(struct sched_node);
    n->slot = slot_take(s);
    n->tie = hash_string(node->id, 0);
    TAILQ_INIT(&n->allocs);
    s->nodes[n->slot] = n;
    s->n_nodes++;
    return n;
}

/* The replicas on the node count for other values when its facts change. */
static void count_allocs(struct sched_node *n, int64_t change)
{
    struct sched_alloc *a;
    TAILQ_FOREACH(a, &n->allocs, link) {
        struct tally *t;
        LIST_FOREACH(t, &a->service->tallies, link)
            tally_add(t, &n->facts, change);
    }
}

void sched_node_set(struct sched *s, const struct node *node)
{
    struct sched_node *n = sched_node_find(s, node->id);
    if (n) {
        HASH_DEL(s->by_id, n);
        count_allocs(n, -1);
        type_clear(&node_type, &n->facts);
    } else {
        n = node_new(s, node);
    }
    type_copy(&node_type, &n->facts, node);
    HASH_ADD_KEYPTR(hh, s->by_id, n->facts.id, strlen(n->facts.id), n);
    count_allocs(n, 1);
    struct sched_class *before = n->class;
    n->class = class_get(s, &n->facts);
    class_release(s, before);
    n->total = (struct tree_room){cpus_to_nano(node->cpus), node->memory_mb, node->disk_mb};
    node_changed(s, n);
}

static void node_free(struct sched *s, struct sched_node *n)
{
    class_release(s, n->class);
    port_set_clear(&n->ports);
    type_clear(&node_type, &n->facts);
    free(n);
}

void sched_node_remove(struct sched *s, const char *node_id)
{
    struct sched_node *n = sched_node_find(s, node_id);
    INVARIANT(n && TAILQ_EMPTY(&n->allocs));
    node_changed(s, n);
    HASH_DEL(s->by_id, n);
    s->nodes[n->slot] = NULL;
    s->n_nodes--;
    s->free_slots = mem_realloc_array(s->free_slots, s->n_free_slots + 1, sizeof(*s->free_slots));
    s->free_slots[s->n_free_slots++] = n->slot;
    node_free(s, n);
}

/* --- allocations --- */

struct sched_alloc *sched_alloc_find(const struct sched *s, const char *id)
{
    struct sched_alloc *a;
    HASH_FIND_STR(s->allocs, id, a);
    return a;
}

static void room_add(struct tree_room *r, const struct tree_room *more, int sign)
{
    r->cpu_nano += sign * more->cpu_nano;
    r->memory_mb += sign * more->memory_mb;
    r->disk_mb += sign * more->disk_mb;
}

void sched_alloc_add(struct sched *s, const struct alloc *alloc)
{
    INVARIANT(!sched_alloc_find(s, alloc->id));
    struct sched_node *n = sched_node_find(s, alloc->node_id);
    INVARIANT(n);
    size_t len = strlen(alloc->id);
    struct sched_alloc *a = mem_alloc(sizeof(*a) + len + 1);
    memcpy(a->id, alloc->id, len + 1);
    a->node = n;
    a->service = sched_service_get(s, alloc->service);
    a->room = (struct tree_room){cpus_to_nano(alloc->cpus), alloc->memory_mb, alloc->disk_mb};
    if (alloc->ports.n)
        a->ports = (struct alloc_port_list){mem_array(alloc->ports.n, sizeof(*a->ports.v)), alloc->ports.n};
    for (uint32_t i = 0; i < alloc->ports.n; i++) {
        a->ports.v[i] = (struct alloc_port){.host = alloc->ports.v[i].host, .protocol = alloc->ports.v[i].protocol};
        port_set_add(&n->ports, a->ports.v[i].host, a->ports.v[i].protocol);
    }
    room_add(&n->used, &a->room, 1);
    TAILQ_INSERT_TAIL(&n->allocs, a, link);
    HASH_ADD_KEYPTR(hh, s->allocs, a->id, len, a);
    service_count(a->service, n, 1);
    node_changed(s, n);
}

static void alloc_free(struct sched_alloc *a)
{
    free(a->ports.v);
    free(a);
}

void sched_alloc_remove(struct sched *s, const struct alloc *alloc)
{
    struct sched_alloc *a = sched_alloc_find(s, alloc->id);
    INVARIANT(a);
    struct sched_node *n = a->node;
    struct sched_service *service = a->service;
    for (uint32_t i = 0; i < a->ports.n; i++)
        port_set_remove(&n->ports, a->ports.v[i].host, a->ports.v[i].protocol);
    room_add(&n->used, &a->room, -1);
    TAILQ_REMOVE(&n->allocs, a, link);
    HASH_DEL(s->allocs, a);
    service_count(service, n, -1);
    alloc_free(a);
    node_changed(s, n);
    if (!service->allocs && service->view)
        view_forget(s, service);
    else
        sched_service_drop_unused(s, service);
}

/* --- the whole --- */

struct sched *sched_new(void)
{
    struct sched *s = NEW(struct sched);
    TAILQ_INIT(&s->signatures_by_use);
    TAILQ_INIT(&s->views_by_use);
    return s;
}

void sched_free(struct sched *s)
{
    if (!s)
        return;
    view_forget_all(s);
    struct sched_alloc *a, *next_alloc;
    HASH_ITER(hh, s->allocs, a, next_alloc) {
        HASH_DEL(s->allocs, a);
        service_count(a->service, a->node, -1);
        sched_service_drop_unused(s, a->service);
        alloc_free(a);
    }
    HASH_CLEAR(hh, s->by_id);
    for (uint32_t i = 0; i < s->n_slots; i++)
        if (s->nodes[i])
            node_free(s, s->nodes[i]);
    tree_pool_clear(&s->pool);
    free(s->nodes);
    free(s->stamps);
    free(s->free_slots);
    free(s->free_classes);
    free(s);
}

void sched_demand(const struct service *spec, double *cpus, int64_t *memory_mb, int64_t *disk_mb)
{
    *cpus = spec->resources.cpus;
    *memory_mb = spec->resources.memory_mb;
    *disk_mb = spec->resources.disk_mb;
    if (spec->driver != DRIVER_FIRECRACKER)
        return;
    if (*cpus < (double)spec->config.vcpus)
        *cpus = (double)spec->config.vcpus;
    if (*memory_mb < spec->config.memory_mb)
        *memory_mb = spec->config.memory_mb;
}

bool sched_room_makes_sense(double cpus, int64_t memory_mb, int64_t disk_mb)
{
    return cpus >= 0 && cpus < 1e6 && memory_mb >= 0 && memory_mb <= INT64_C(1) << 40 && disk_mb >= 0
           && disk_mb <= INT64_C(1) << 40;
}
