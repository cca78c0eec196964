#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/sched_ask.h"

void sched_reason_list_clear(struct sched_reason_list *l)
{
    for (uint32_t i = 0; i < l->n; i++) {
        free(l->v[i].text);
        free(l->v[i].example);
    }
    free(l->v);
    *l = (struct sched_reason_list){0};
}

void reason_list_copy(struct sched_reason_list *to, const struct sched_reason_list *from)
{
    *to = (struct sched_reason_list){mem_array(from->n, sizeof(*to->v)), from->n};
    for (uint32_t i = 0; i < from->n; i++)
        to->v[i] = (struct sched_reason){mem_strdup(from->v[i].text), from->v[i].nodes, mem_strdup(from->v[i].example)};
}

/* --- words --- */

/* At most three digits behind the point, none of them in vain. */
static void add_cores(struct buf *b, int64_t nano)
{
    char text[32];
    snprintf(text, sizeof(text), "%.3f", (double)(nano < 0 ? 0 : nano) / 1e9);
    size_t n = strlen(text);
    while (text[n - 1] == '0')
        n--;
    n -= text[n - 1] == '.';
    buf_add(b, text, n);
}

static void add_megabytes(struct buf *b, const char *what, int64_t need, int64_t most)
{
    buf_printf(b, "not enough %s: needs %lld MiB, most free is %lld MiB", what, (long long)need,
               (long long)(most < 0 ? 0 : most));
}

static void add_distinct(struct buf *b, const struct signature *sig, uint32_t index)
{
    if (index == 0)
        buf_add_string(b, "another replica is on the node already (distinct)");
    else
        buf_printf(b, "another replica has the same %s already (distinct)", sig->distinct.v[index - 1]);
}

static void add_sick_driver(struct buf *b, const char *driver, const struct sched_node *n)
{
    buf_printf(b, "driver %s is not healthy", driver);
    for (uint32_t i = 0; n && i < n->facts.drivers.n; i++) {
        const struct driver_info *d = &n->facts.drivers.v[i];
        if (d->name && strcmp(d->name, driver) == 0 && d->detail && *d->detail)
            buf_printf(b, ": %.300s", d->detail);
    }
}

void reason_format(const struct ask *a, int32_t code, const struct tree_room *most, const struct sched_node *example,
                   struct buf *out)
{
    const struct signature *sig = a->view->signature;
    const struct tree_room *need = &a->need.room;
    const struct port *port;
    switch (REASON_KIND(code)) {
    case REASON_NONE:
    case REASON_GONE: buf_add_string(out, "the node is not known"); break;
    case REASON_DOWN: buf_add_string(out, "the node is down"); break;
    case REASON_DRAINING: buf_add_string(out, "the node is draining"); break;
    case REASON_INELIGIBLE: buf_add_string(out, "the node is ineligible (takes nothing new)"); break;
    case REASON_NO_DRIVER: buf_printf(out, "driver %s is not there", sig->driver); break;
    case REASON_SICK_DRIVER: add_sick_driver(out, sig->driver, example); break;
    case REASON_CONSTRAINT:
        buf_add_string(out, "constraint not met: ");
        matcher_format(&sig->constraints[REASON_INDEX(code)], out);
        break;
    case REASON_PORT:
        port = &sig->ports.v[REASON_INDEX(code)];
        buf_printf(out, "host port %lld/%s is taken", (long long)port->host,
                   port->protocol == PROTOCOL_UDP ? "udp" : "tcp");
        break;
    case REASON_DISTINCT: add_distinct(out, sig, REASON_INDEX(code)); break;
    case REASON_CPU:
        buf_add_string(out, "not enough cpu: needs ");
        add_cores(out, need->cpu_nano);
        buf_add_string(out, " cores, most free is ");
        add_cores(out, most->cpu_nano);
        break;
    case REASON_MEMORY: add_megabytes(out, "memory", need->memory_mb, most->memory_mb); break;
    case REASON_DISK: add_megabytes(out, "disk", need->disk_mb, most->disk_mb); break;
    case REASON_DYNAMIC_PORTS:
        buf_printf(out, "not enough free ports in %d-%d", PORT_DYNAMIC_FIRST, PORT_DYNAMIC_LAST);
        break;
    }
}

/* --- counting --- */

struct counted {
    int32_t code;
    int64_t nodes;
    struct tree_room most;
    const char *example;             /* id or name of a node, and the node itself */
    const struct sched_node *node;
};
struct counts {
    struct counted *v;
    uint32_t n;
};

static void raise_to(int64_t *a, int64_t b)
{
    if (*a < b)
        *a = b;
}

static void count_node(const struct ask *a, const struct sched_node *n, struct counts *counts)
{
    struct candidate ignored;
    int32_t code = ask_node(a, n, &ignored);
    if (!code)
        return;
    uint32_t i = 0;
    while (i < counts->n && counts->v[i].code != code)
        i++;
    if (i == counts->n) {
        counts->v = mem_realloc_array(counts->v, ++counts->n, sizeof(*counts->v));
        counts->v[i] = (struct counted){.code = code, .example = n->facts.name, .node = n};
    }
    struct counted *c = &counts->v[i];
    struct tree_room room = ask_free_room(a, n);
    c->nodes++;
    raise_to(&c->most.cpu_nano, room.cpu_nano);
    raise_to(&c->most.memory_mb, room.memory_mb);
    raise_to(&c->most.disk_mb, room.disk_mb);
    if (n->facts.name && (!c->example || strcmp(n->facts.name, c->example) < 0)) {
        c->example = n->facts.name;
        c->node = n;
    }
}

static int by_nodes(const void *a, const void *b)
{
    const struct counted *x = a, *y = b;
    if (x->nodes != y->nodes)
        return x->nodes > y->nodes ? -1 : 1;
    return x->code < y->code ? -1 : x->code > y->code;
}

void ask_reasons(const struct ask *a, struct sched_reason_list *why)
{
    struct counts counts = {0};
    const char *only = a->request->only_node;
    const struct sched_node *n = only ? sched_node_find(a->s, only) : NULL;
    if (n)
        count_node(a, n, &counts);
    for (uint32_t i = 0; !only && i < a->s->n_slots; i++)
        if (a->s->nodes[i])
            count_node(a, a->s->nodes[i], &counts);
    if (only && !n) {
        counts.v = mem_array(1, sizeof(*counts.v));
        counts.v[counts.n++] = (struct counted){.code = REASON_CODE(REASON_GONE, 0), .nodes = 1, .example = only};
    }
    if (counts.n)
        qsort(counts.v, counts.n, sizeof(*counts.v), by_nodes);
    *why = (struct sched_reason_list){mem_array(counts.n, sizeof(*why->v)), counts.n};
    for (uint32_t i = 0; i < counts.n; i++) {
        struct buf text = {0};
        if (a->request->only_for_volume)
            buf_add_string(&text, "the replica's volume is on the node: ");
        reason_format(a, counts.v[i].code, &counts.v[i].most, counts.v[i].node, &text);
        why->v[i] = (struct sched_reason){buf_steal(&text), counts.v[i].nodes, mem_strdup(counts.v[i].example)};
    }
    free(counts.v);
}
