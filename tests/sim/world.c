#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/id.h"

#define START_MS INT64_C(1764000000000)

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
    v->up = true;
}

void world_init(struct world *w, uint64_t seed, const struct knobs *k, struct counts *counts)
{
    *w = (struct world){.r = {.state = seed}, .k = *k, .counts = counts, .now = START_MS};
    w->core = core_new();
    w->second = k->second ? core_new() : NULL;
    w->nodes = mem_array(k->nodes, sizeof(*w->nodes));
    for (uint32_t i = 0; i < k->nodes; i++)
        init_node(w, i);
}

static void message_clear(struct message *m)
{
    free(m->bytes);
    free(m->task);
}

void world_clear(struct world *w)
{
    struct seen *s, *next;
    for (uint32_t i = 0; i < w->k.nodes; i++)
        agent_clear(&w->nodes[i]);
    for (uint32_t i = 0; i < w->message_count; i++)
        message_clear(&w->messages[i]);
    HASH_ITER(hh, w->seen, s, next) {
        HASH_DEL(w->seen, s);
        free(s);
    }
    free(w->messages);
    free(w->nodes);
    core_free(w->core);
    core_free(w->second);
}

/* --- the log --- */

static void show_events(struct world *w)
{
    struct event_list l = {0};
    core_events(w->core, w->index - 1, INT64_MAX, UINT32_MAX, &l);
    for (uint32_t i = 0; i < l.n; i++) {
        const struct event *e = &l.v[i];
        printf("%30s %-10s %s %s -> %s: %s\n", e->kind, e->subject, e->service ? e->service : "", e->from ? e->from : "",
               e->to ? e->to : "", e->reason);
    }
    list_clear((struct list *)&l, &event_type);
}

static void show_decision(const void *bytes, size_t len)
{
    CLEANUP_COMMAND struct command c = {0};
    CLEANUP_BUF struct buf json = {0};
    struct error ignored;
    if (command_decode(bytes, len, &c, &ignored) || c.kind != COMMAND_DECIDE)
        return;
    type_to_json(&command_decide_type, c.payload, &json);
    printf("%30s %s\n", "", json.data);
}

void world_show(struct world *w)
{
    CLEANUP_BUF struct buf out = {0};
    for (const struct node *n = core_node_next(w->core, NULL); n; n = core_node_next(w->core, n->id))
        printf("node %s %s %s\n", n->id, n->name, enum_name(node_state_names, (int)n->state));
    for (const struct service_version *v = core_service_next(w->core, NULL); v;
         v = core_service_next(w->core, v->service)) {
        struct service_status status;
        core_service_status(w->core, v->service, &status);
        type_to_json(&service_status_type, &status, &out);
        buf_add_char(&out, '\n');
        type_clear(&service_status_type, &status);
    }
    for (const struct alloc *a = core_alloc_next(w->core, NULL); a; a = core_alloc_next(w->core, a->id)) {
        type_to_json(&alloc_type, a, &out);
        buf_add_char(&out, '\n');
    }
    printf("%s", out.data ? out.data : "");
}

bool world_apply(struct world *w, const void *bytes, size_t len)
{
    struct core_result r;
    w->index++;
    count(w, COUNT_COMMANDS);
    core_apply(w->core, w->index, bytes, len, &r);
    bool done = r.error.code == ERROR_NONE;
    if (w->k.verbose)
        printf("%8llu %+10lld ms  %-18s %s %s\n", (unsigned long long)w->index, (long long)(w->now - START_MS),
               len > 1 ? command_kind_name((enum command_kind)((const uint8_t *)bytes)[1]) : "", r.error.text,
               r.body.data ? r.body.data : "");
    core_result_clear(&r);
    if (w->k.verbose) {
        show_decision(bytes, len);
        show_events(w);
    }
    if (w->second) {
        core_apply(w->second, w->index, bytes, len, &r);
        core_result_clear(&r);
        if (core_hash(w->core) != core_hash(w->second))
            world_fail(w, "the two cores differ after command %llu", (unsigned long long)w->index);
    }
    if (w->k.check_each)
        check_invariants(w);
    return done;
}

bool world_command(struct world *w, struct command *c)
{
    CLEANUP_BUF struct buf bytes = {0};
    command_encode(c, &bytes);
    command_clear(c);
    return world_apply(w, bytes.data, bytes.len);
}

void world_compare(struct world *w)
{
    CLEANUP_BUF struct buf a = {0}, b = {0};
    if (!w->second)
        return;
    core_snapshot(w->core, &a);
    core_snapshot(w->second, &b);
    if (a.len != b.len || memcmp(a.data, b.data, a.len) != 0)
        world_fail(w, "the snapshots of the two cores differ at index %llu", (unsigned long long)w->index);
}

void world_restart_core(struct world *w)
{
    CLEANUP_BUF struct buf a = {0}, b = {0};
    struct error err = {0};
    struct core *next = core_new();
    core_snapshot(w->core, &a);
    if (core_restore(next, a.data, a.len, &err)) {
        world_fail(w, "restore: %s", err.text);
        core_free(next);
        return;
    }
    core_snapshot(next, &b);
    if (a.len != b.len || memcmp(a.data, b.data, a.len) != 0 || core_hash(next) != core_hash(w->core))
        world_fail(w, "a restored core differs from the one that it was taken of");
    core_free(w->core);
    w->core = next;
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

void world_deliver(struct world *w)
{
    struct message *due = mem_array(w->message_count + 1, sizeof(*due));
    uint32_t n = 0, kept = 0;
    for (uint32_t i = 0; i < w->message_count; i++) {
        if (w->messages[i].at <= w->now)
            due[n++] = w->messages[i];
        else
            w->messages[kept++] = w->messages[i];
    }
    w->message_count = kept;
    qsort(due, n, sizeof(*due), compare_messages);
    for (uint32_t i = 0; i < n; i++) {
        if (!world_failed(w) && world_apply(w, due[i].bytes, due[i].len) && due[i].task
            && (w->k.calm || !chance(w, 3)))
            agent_ack(w, due[i].node, due[i].task, due[i].seq);
        if (!due[i].task)
            check_placed(w);
        message_clear(&due[i]);
    }
    free(due);
}

/* --- the leader --- */

/* Now and then a decision is not applied at once: its leader was cut off, a new one decides meanwhile, and then the
 * old decision turns up in the log after all. */
void world_decide(struct world *w)
{
    for (int round = 0; round < 1000 && !world_failed(w); round++) {
        CLEANUP_BUF struct buf command = {0};
        if (!core_decide(w->core, w->now, random_next(&w->r), &command)) {
            check_decided(w);
            return;
        }
        if (!w->k.calm && chance(w, 4)) {
            size_t len = command.len;
            int64_t at = w->now + (int64_t)random_below(&w->r, 20000);
            world_post(w, (struct message){.at = at, .bytes = buf_steal(&command), .len = len});
            if (chance(w, 50))
                world_restart_core(w);
            return;
        }
        world_apply(w, command.data, command.len);
        check_placed(w);
    }
    if (!world_failed(w))
        world_fail(w, "the leader decides again and again without an end");
}

#define SETTLE_MS (45 * 60 * 1000)

void world_settle(struct world *w)
{
    int64_t end = w->now + SETTLE_MS;
    w->k.calm = true;
    for (uint32_t i = 0; i < w->k.nodes; i++)
        if (!w->nodes[i].up && chance(w, 50))
            agent_return(w, i);
    for (int round = 0; round < 20000 && w->now < end && !world_failed(w); round++) {
        world_deliver(w);
        agents_run(w);
        world_decide(w);
        if (!w->k.check_each)
            check_invariants(w);
        int64_t next = core_next_wake(w->core), agents = agents_next(w);
        next = agents < next ? agents : next;
        for (uint32_t i = 0; i < w->message_count; i++)
            next = w->messages[i].at < next ? w->messages[i].at : next;
        /* big clusters move in longer steps: each one costs a look at every node */
        int64_t soonest = w->now + 1 + w->k.nodes / 2;
        w->now = next < soonest ? soonest : next > end ? end : next;
    }
    check_quiet(w);
}
