#include "core/sched_ports.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/random.h"

#define DYNAMIC_COUNT (PORT_DYNAMIC_LAST - PORT_DYNAMIC_FIRST + 1)

static int family_of(enum protocol protocol)
{
    return protocol == PROTOCOL_UDP ? PORT_UDP : PORT_TCP;
}

static uint32_t key_of(int64_t host, enum protocol protocol)
{
    return (uint32_t)family_of(protocol) << 16 | (uint32_t)host;
}

static bool is_dynamic(int64_t host)
{
    return host >= PORT_DYNAMIC_FIRST && host <= PORT_DYNAMIC_LAST;
}

static bool is_port(int64_t host)
{
    return host > 0 && host <= UINT16_MAX;
}

void port_set_clear(struct port_set *s)
{
    free(s->v);
    *s = (struct port_set){0};
}

/* The first place whose key is not below. */
static uint32_t lower_bound(const struct port_set *s, uint32_t key)
{
    uint32_t from = 0, to = s->n;
    while (from < to) {
        uint32_t middle = (from + to) / 2;
        if (s->v[middle] < key)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

uint32_t port_set_count(const struct port_set *s, int64_t host, enum protocol protocol)
{
    uint32_t key = key_of(host, protocol), from = lower_bound(s, key), n = 0;
    while (from + n < s->n && s->v[from + n] == key)
        n++;
    return n;
}

void port_set_add(struct port_set *s, int64_t host, enum protocol protocol)
{
    if (!is_port(host))
        return;
    uint32_t key = key_of(host, protocol), at = lower_bound(s, key);
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 8;
        s->v = mem_realloc_array(s->v, s->cap, sizeof(*s->v));
    }
    if (is_dynamic(host) && (at == s->n || s->v[at] != key))
        s->dynamic_used[family_of(protocol)]++;
    memmove(s->v + at + 1, s->v + at, (s->n - at) * sizeof(*s->v));
    s->v[at] = key;
    s->n++;
}

void port_set_remove(struct port_set *s, int64_t host, enum protocol protocol)
{
    if (!is_port(host))
        return;
    uint32_t key = key_of(host, protocol), at = lower_bound(s, key);
    INVARIANT(at < s->n && s->v[at] == key);
    memmove(s->v + at, s->v + at + 1, (s->n - at - 1) * sizeof(*s->v));
    s->n--;
    if (is_dynamic(host) && (at == s->n || s->v[at] != key)) {
        s->dynamic_used[family_of(protocol)]--;
        s->recent[s->recent_at++ % PORT_RECENT] = key;
    }
}

void port_demand(const struct port_list *ports, int32_t out[static PORT_FAMILIES])
{
    memset(out, 0, PORT_FAMILIES * sizeof(*out));
    for (uint32_t i = 0; i < ports->n; i++)
        if (ports->v[i].host == 0 || is_dynamic(ports->v[i].host))
            out[family_of(ports->v[i].protocol)]++;
}

/* --- choosing --- */

static uint32_t count_in(const struct alloc_port_list *l, uint32_t key)
{
    uint32_t n = 0;
    for (uint32_t i = 0; l && i < l->n; i++)
        n += l->v[i].host != 0 && key_of(l->v[i].host, l->v[i].protocol) == key;
    return n;
}

static bool is_recent(const struct port_set *s, uint32_t key)
{
    for (int i = 0; i < PORT_RECENT; i++)
        if (s->recent[i] == key)
            return true;
    return false;
}

static int64_t choose_one(const struct port_set *s, const struct alloc_port_list *free_anyway,
                          const struct alloc_port_list *mine, enum protocol protocol, uint64_t seed)
{
    struct random r = {seed};
    uint32_t start = (uint32_t)random_below(&r, DYNAMIC_COUNT);
    for (int avoid_recent = 1; avoid_recent >= 0; avoid_recent--)
        for (uint32_t i = 0; i < DYNAMIC_COUNT; i++) {
            int64_t host = PORT_DYNAMIC_FIRST + (start + i) % DYNAMIC_COUNT;
            uint32_t key = key_of(host, protocol);
            if (port_set_count(s, host, protocol) <= count_in(free_anyway, key) && !count_in(mine, key)
                && !(avoid_recent && (is_recent(s, key) || count_in(free_anyway, key))))
                return host;
        }
    INVARIANT(!"a dynamic port is free");
    return 0;
}

void port_choose(const struct port_set *s, const struct port_list *ports, const struct alloc_port_list *free_anyway,
                 uint64_t seed, struct alloc_port_list *out)
{
    *out = (struct alloc_port_list){.n = ports->n};
    if (!ports->n)
        return;
    out->v = mem_array(ports->n, sizeof(*out->v));
    for (uint32_t i = 0; i < ports->n; i++) {        /* all static ones first: a dynamic one must not take theirs */
        const struct port *p = &ports->v[i];
        out->v[i] = (struct alloc_port){mem_strdup(p->name), p->port, p->host, p->protocol};
    }
    for (uint32_t i = 0; i < ports->n; i++)
        if (ports->v[i].host == 0)
            out->v[i].host = choose_one(s, free_anyway, out, ports->v[i].protocol, hash_mix(seed + i));
}
