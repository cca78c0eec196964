/* Finding objects by what people type: an id, a unique beginning of it, a name. */
#include "base/text.h"
#include "server/control.h"
#include "server/page.h"
#include "server/scope.h"

/* The first one behind `after` that begins so, of those that r may see. */
static const struct alloc *next_seen(struct control *c, const struct request *r, const char *begin, const char *after)
{
    const struct alloc *a = core_alloc_next(c->core, after);
    while (a && text_has_prefix(a->id, begin) && !scope_sees_service(r, a->service))
        a = core_alloc_next(c->core, a->id);
    return a && text_has_prefix(a->id, begin) ? a : NULL;
}

const struct alloc *control_find_alloc(struct control *c, const struct request *r, struct error *err)
{
    const char *text = r->params[0];
    const struct alloc *a = core_alloc(c->core, text);
    if (a)
        return a;
    CLEANUP_FREE char *floor = page_floor(text);
    a = *text ? next_seen(c, r, text, floor) : NULL;
    if (!a) {
        error_set(err, ERROR_NOT_FOUND, "there is no allocation %.64s; `mt allocs --all` lists them", text);
        return NULL;
    }
    const struct alloc *other = next_seen(c, r, text, a->id);
    if (other) {
        error_set(err, ERROR_CONFLICT, "%.64s is the beginning of several allocations (%s, %s); write more of it", text,
                  a->id, other->id);
        return NULL;
    }
    return a;
}

const struct node *control_find_node(struct control *c, const char *text, struct error *err)
{
    const struct node *n = core_node(c->core, text);
    if (!n)
        n = core_node_by_name(c->core, text);
    if (n)
        return n;
    CLEANUP_FREE char *floor = page_floor(text);
    n = core_node_next(c->core, floor);
    if (!*text || !n || !text_has_prefix(n->id, text)) {
        error_set(err, ERROR_NOT_FOUND, "there is no node %.64s; `mt nodes` lists them", text);
        return NULL;
    }
    const struct node *other = core_node_next(c->core, n->id);
    if (other && text_has_prefix(other->id, text)) {
        error_set(err, ERROR_CONFLICT, "%.64s is the beginning of several nodes (%s, %s); write more of it", text,
                  n->id, other->id);
        return NULL;
    }
    return n;
}
