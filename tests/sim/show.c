/* Show: what --verbose prints. */
#include <stdio.h>

#include "world.h"

static void show_events(const struct core *c)
{
    struct event_list l = {0};
    core_events(c, core_index(c) - 1, INT64_MAX, UINT32_MAX, &l);
    for (uint32_t i = 0; i < l.n; i++) {
        const struct event *e = &l.v[i];
        printf("%30s %-10s %s %s -> %s: %s\n", e->kind, e->subject, e->service ? e->service : "", e->from ? e->from : "",
               e->to ? e->to : "", e->reason);
    }
    list_clear((struct list *)&l, &event_type);
}

void show_applied(const struct world *w, const struct entry *e, const struct core_result *r)
{
    CLEANUP_COMMAND struct command c = {0};
    CLEANUP_BUF struct buf json = {0};
    struct error ignored;
    bool known = command_decode(e->bytes, e->len, &c, &ignored) == 0;
    printf("%8llu term %llu %12lld  %-18s %s %s\n", (unsigned long long)e->index, (unsigned long long)e->term,
           (long long)c.time, known ? command_kind_name(c.kind) : "", r->error.text, r->body.data ? r->body.data : "");
    const struct type *t = known ? command_payload_type(c.kind) : NULL;
    if (t && c.kind != COMMAND_JOB_SUBMIT) {
        type_to_json(t, c.payload, &json);
        printf("%30s %s\n", "", json.data);
    }
    show_events(w->s.front);
}

void show_state(const struct world *w)
{
    CLEANUP_BUF struct buf out = {0};
    const struct core *c = w->s.front;
    for (const struct node *n = core_node_next(c, NULL); n; n = core_node_next(c, n->id))
        printf("node %s %s %s\n", n->id, n->name, enum_name(node_state_names, (int)n->state));
    for (const struct service_version *v = core_service_next(c, NULL); v; v = core_service_next(c, v->service)) {
        struct service_status status;
        core_service_status(c, v->service, &status);
        type_to_json(&service_status_type, &status, &out);
        buf_add_char(&out, '\n');
        type_to_json(&service_version_type, v, &out);
        buf_add_char(&out, '\n');
        type_clear(&service_status_type, &status);
    }
    for (const struct alloc *a = core_alloc_next(c, NULL); a; a = core_alloc_next(c, a->id)) {
        type_to_json(&alloc_type, a, &out);
        buf_add_char(&out, '\n');
    }
    printf("%s", out.data ? out.data : "");
}
