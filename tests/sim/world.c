#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "breaks.h"

#define START_MS INT64_C(1764000000000)
#define SETTLE_MS (240 * 60 * 1000)      /* longer than the core waits, with clocks set back, and than big rollouts take */

void world_fail(struct world *w, const char *fmt, ...)
{
    va_list args;
    if (world_failed(w))
        return;
    va_start(args, fmt);
    vsnprintf(w->failure, sizeof(w->failure), fmt, args);
    va_end(args);
}

static void init_node(struct world *w, uint32_t i)
{
    struct virtual_node *v = &w->nodes[i];
    struct node *n = &v->facts;
    char id[ID_LEN + 1];
    id_format(id, hash_mix(i + 1));
    *n = (struct node){.id = mem_strdup(id), .name = mem_printf("n%u", i), .address = mem_strdup("127.0.0.1:4647"),
                       .ip = mem_strdup("127.0.0.1"), .arch = mem_strdup("x86_64"), .kernel = mem_strdup("6.1.0"),
                       .cpus = (double)(1 + random_below(&w->r, 8)),
                       .memory_mb = (int64_t)(512 << random_below(&w->r, 5)), .disk_mb = 10000};
    struct driver_info *d = list_add_zero((struct list *)&n->drivers, &driver_info_type);
    d->name = mem_strdup("exec");
    d->healthy = true;
    kv_set(&n->meta, "zone", (const char *[]){"a", "b", "c"}[random_below(&w->r, 3)]);
    n->ingress = i < 3 && chance(w, 60);
    v->up = true;
    v->server = (uint32_t)random_below(&w->r, w->k.servers);
}

void world_init(struct world *w, uint64_t seed, const struct knobs *k, struct counts *counts)
{
    *w = (struct world){.r = {.state = seed}, .k = *k, .counts = counts, .now = START_MS};
    servers_init(w);
    w->nodes = mem_array(k->nodes, sizeof(*w->nodes));
    for (uint32_t i = 0; i < k->nodes; i++)
        init_node(w, i);
}

static void message_clear(struct message *m)
{
    if (m->report)
        type_free(&agent_report_type, m->report);
    if (m->ingress)
        type_free(&ingress_report_type, m->ingress);
    free(m->decision);
    *m = (struct message){0};
}

void world_clear(struct world *w)
{
    for (uint32_t i = 0; i < w->k.nodes; i++)
        agent_clear(&w->nodes[i]);
    for (uint32_t i = 0; i < w->message_count; i++)
        message_clear(&w->messages[i]);
    free(w->messages);
    free(w->nodes);
    buf_free(&w->repeat);
    known_clear(&w->known);
    servers_clear(w);
}

/* --- messages: a heap would be faster, but there are few at a time and order must not depend on it --- */

void world_post(struct world *w, struct message m)
{
    if (w->message_count == w->message_cap) {
        w->message_cap = w->message_cap ? w->message_cap * 2 : 16;
        w->messages = mem_realloc_array(w->messages, w->message_cap, sizeof(*w->messages));
    }
    m.order = w->order++;
    w->messages[w->message_count++] = m;
}

static int compare_messages(const void *a, const void *b)
{
    const struct message *x = a, *y = b;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static void deliver(struct world *w, struct message *m)
{
    if (m->decision) {
        count(w, COUNT_DECISIONS_LATE);
        servers_propose(w, m->decision, m->len, (struct origin){0});
        return;
    }
    CLEANUP_BUF struct buf bytes = {0};
    if (m->ingress) {
        command_encode_payload(COMMAND_INGRESS_REPORT, servers_now(w), NULL, NULL, m->ingress, &bytes);
        servers_propose(w, bytes.data, bytes.len, (struct origin){.asker = ASKER_PROXY, .node = m->node, .version = m->version});
        return;
    }
    agent_delivers(w, m->node, m->report);
    for (uint32_t i = 0; i < m->report->allocs.n && broken == BREAK_REPORTS; i++)
        m->report->allocs.v[i].seq = ++w->order;
    command_encode_payload(COMMAND_ALLOC_REPORT, servers_now(w), NULL, NULL, m->report, &bytes);
    servers_propose(w, bytes.data, bytes.len,
                    (struct origin){.asker = ASKER_REPORT, .node = m->node, .report = steal(&m->report)});
}

void world_deliver(struct world *w)
{
    uint32_t n = 0, kept = 0;
    int64_t first = INT64_MAX;
    for (uint32_t i = 0; i < w->message_count; i++)
        first = w->messages[i].at < first ? w->messages[i].at : first;
    if (first > w->now)
        return;
    struct message *due = mem_array(w->message_count, sizeof(*due));
    for (uint32_t i = 0; i < w->message_count; i++) {
        if (w->messages[i].at <= w->now)
            due[n++] = w->messages[i];
        else
            w->messages[kept++] = w->messages[i];
    }
    w->message_count = kept;
    qsort(due, n, sizeof(*due), compare_messages);
    for (uint32_t i = 0; i < n; i++) {
        if (!world_failed(w))
            deliver(w, &due[i]);
        message_clear(&due[i]);
    }
    free(due);
}

/* --- the end --- */

static int64_t next_event(struct world *w)
{
    int64_t next = core_next_wake(servers_core(w)), agents = agents_next(w);
    next = agents < next ? agents : next;
    for (uint32_t i = 0; i < w->message_count; i++)
        next = w->messages[i].at < next ? w->messages[i].at : next;
    return next;
}

void world_settle(struct world *w)
{
    int64_t end = w->now + SETTLE_MS;
    servers_calm(w);
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        w->nodes[i].facts.drivers.v[0].healthy = true;
        w->nodes[i].registered = false;
        if (!w->nodes[i].up && chance(w, 50))
            agent_return(w, i);
    }
    for (int round = 0; round < 20000 && !world_failed(w); round++) {
        world_deliver(w);
        agents_run(w);
        servers_decide(w);
        if (!w->k.check_each)
            check_invariants(w, servers_core(w));
        check_ended(w, servers_core(w));
        if (w->now >= end && agents_heard(w))
            break;
        /* big clusters move in longer steps: each one costs a look at every node */
        int64_t next = next_event(w), soonest = w->now + 1 + (w->k.check_each ? 0 : w->k.nodes * 2);
        w->now = next < soonest ? soonest : next > end && w->now < end ? end : next;
    }
    if (!world_failed(w))
        check_quiet(w, servers_core(w));
}
