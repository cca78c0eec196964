/* Explain: why a service or an allocation is where it is, or is not placed, as JSON. */
#include <string.h>

#include "core/slots.h"
#include "core/status.h"
#include "model/namespace.h"

#define EVENTS_EXPLAINED 30

static void add_events(const struct core *c, const char *service, const char *alloc, struct buf *json)
{
    uint64_t first = c->event_count > EVENTS_KEPT ? c->event_count - EVENTS_KEPT : 0, at[EVENTS_EXPLAINED];
    uint32_t n = 0;
    for (uint64_t i = c->event_count; i-- > first && n < EVENTS_EXPLAINED;) {
        const struct event *e = &c->events[i % EVENTS_KEPT];
        const char *of = alloc ? e->alloc : e->service;
        if (of && strcmp(of, alloc ? alloc : service) == 0)
            at[n++] = i;
    }
    buf_add_string(json, ",\"events\":[");
    for (bool first_item = true; n-- > 0; first_item = false) {
        buf_add_string(json, first_item ? "" : ",");
        event_show(&c->events[at[n] % EVENTS_KEPT], json);
    }
    buf_add_char(json, ']');
}

static void add_nodes(struct core *c, const struct service_entry *s, int64_t replica, uint32_t limit, struct buf *json)
{
    struct node_entry *n;
    uint32_t count = 0, left_off = 0;
    struct sched_request request = {.spec = &s->current->v.spec, .service = s->name, .replica = replica};
    buf_add_string(json, ",\"nodes\":[");
    RB_FOREACH(n, node_id_tree, &c->nodes) {
        CLEANUP_BUF struct buf text = {0};
        bool fits = false;
        if (count >= limit) {
            left_off++;
            continue;
        }
        sched_explain_node(c->sched, &request, n->n.id, &fits, &text);
        buf_add_string(json, count++ ? ",{\"id\":" : "{\"id\":");
        json_add_string(json, n->n.id);
        buf_add_string(json, ",\"name\":");
        json_add_string(json, n->n.name);
        buf_printf(json, ",\"fits\":%s,\"verdict\":", fits ? "true" : "false");
        json_add_string(json, text.data ? text.data : "");
        buf_add_char(json, '}');
    }
    buf_printf(json, "],\"nodes_left_off\":%u", left_off);
}

static bool serves(const struct alloc *a)
{
    return a->desired == DESIRED_RUN && (a->state == ALLOC_RUNNING || a->state == ALLOC_HEALTHY);
}

/* Those that do not serve come first: they are what one asks about. */
static void add_allocs(struct service_entry *s, uint32_t limit, struct buf *json)
{
    struct alloc_entry *a;
    uint32_t count = 0, left_off = 0;
    buf_add_string(json, ",\"allocs\":[");
    for (int serving = 0; serving <= 1; serving++)
        RB_FOREACH(a, alloc_replica_tree, &s->allocs) {
            if (serves(&a->a) != serving)
                continue;
            if (count >= limit) {
                left_off++;
                continue;
            }
            buf_add_string(json, count++ ? "," : "");
            type_show_json(&alloc_type, &a->a, json);
        }
    buf_printf(json, "],\"allocs_left_off\":%u", left_off);
}

static void add_ingress_problems(const struct core *c, const char *service, struct buf *json)
{
    struct ingress_problem_list problems;
    core_ingress_problems(c, service, NULL, &problems);
    buf_add_string(json, ",\"ingress_problems\":");
    list_show_json(&ingress_problem_type, (struct list *)&problems, json);
    list_clear((struct list *)&problems, &ingress_problem_type);
}

int core_explain(struct core *c, const char *service_or_alloc, uint32_t limit, struct buf *json, struct error *err)
{
    struct service_entry *s = state_service(c, service_or_alloc);
    struct alloc_entry *a = s ? NULL : state_alloc(c, service_or_alloc);
    struct service_status status = {0};
    if (!s && !a)
        return error_set(err, ERROR_NOT_FOUND, "there is no service and no allocation %s",
                         service_or_alloc ? service_or_alloc : "");
    if (!s)
        s = a->service;
    service_status_fill(c, s, &status);
    buf_add_string(json, "{\"service\":");
    type_show_json(&service_status_type, &status, json);
    type_clear(&service_status_type, &status);
    if (a) {
        buf_add_string(json, ",\"alloc\":");
        type_show_json(&alloc_type, &a->a, json);
    } else {
        add_allocs(s, limit, json);
    }
    add_nodes(c, s, a ? a->a.replica : 0, limit, json);
    add_ingress_problems(c, s->name, json);
    add_events(c, s->name, a ? a->a.id : NULL, json);
    buf_add_char(json, '}');
    return 0;
}
