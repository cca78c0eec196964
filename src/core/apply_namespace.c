/* Namespaces: which there are, and their quotas. `default` is always there. */
#include <string.h>

#include "core/apply.h"
#include "model/namespace.h"

#define NAMESPACES_MOST 1000u

static void namespace_event(struct core *c, const char *name, const char *to, const char *what)
{
    state_event_by_actor(c, (struct event_text){.kind = "namespace", .subject = name, .to = to}, what);
    c->access.modify_index = c->index;
}

static struct namespace *find(struct core *c, const char *name)
{
    return (struct namespace *)(uintptr_t)namespace_find(&c->access, name);      /* the core's own */
}

int namespace_admits(const struct core *c, const char *name, struct error *err)
{
    if (namespace_exists(&c->access, name))
        return 0;
    return error_set(err, ERROR_INVALID, "there is no namespace %.64s; `mt namespace list` lists them, `mt namespace put %.64s` "
                     "makes it", name, name);
}

int apply_namespace_put(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const struct namespace *new = &((const struct command_namespace_put *)payload)->namespace;
    if (object_admits(&namespace_type, new, err))
        return -1;
    struct namespace *n = find(c, new->name);
    if (!n && c->access.namespaces.n >= NAMESPACES_MOST)
        return error_set(err, ERROR_TOO_MANY, "there are %u namespaces already", NAMESPACES_MOST);
    if (!n) {
        n = list_add_zero((struct list *)&c->access.namespaces, &namespace_type);
        n->name = mem_strdup(new->name);
        n->create_index = c->index;
    }
    n->quota = new->quota;
    n->modify_index = c->index;
    namespace_event(c, n->name, "put", "namespace put");
    buf_printf(body, "{\"index\":%llu}", (unsigned long long)c->index);
    return 0;
}

static int check_empty(struct core *c, const char *name, struct error *err)
{
    struct job_entry *j;
    RB_FOREACH(j, job_tree, &c->jobs)
        if (namespace_has(name, j->name))
            return error_set(err, ERROR_CONFLICT, "namespace %s has job %s; stop its jobs first, and let them be forgotten: mt "
                             "stop --namespace %s --purge --job %s", name, namespace_bare(j->name), name,
                             namespace_bare(j->name));
    for (uint32_t i = 0; i < c->secrets.secrets.n; i++)
        if (namespace_has(name, c->secrets.secrets.v[i].name))
            return error_set(err, ERROR_CONFLICT, "namespace %s has secret %s; delete its secrets first: mt secret delete "
                             "--namespace %s %s", name, namespace_bare(c->secrets.secrets.v[i].name), name,
                             namespace_bare(c->secrets.secrets.v[i].name));
    return 0;
}

int apply_namespace_delete(struct core *c, const void *payload, struct buf *body, struct error *err)
{
    const char *name = ((const struct command_namespace_delete *)payload)->name;
    const struct namespace *n = find(c, name);
    if (namespace_is_default(name))
        return error_set(err, ERROR_CONFLICT, "namespace default is always there");
    if (!n)
        return error_set(err, ERROR_NOT_FOUND, "there is no namespace %.64s; `mt namespace list` lists them", name);
    if (check_empty(c, name, err))
        return -1;
    namespace_event(c, name, "deleted", "namespace deleted");
    list_remove((struct list *)&c->access.namespaces, &namespace_type, (uint32_t)(n - c->access.namespaces.v));
    buf_printf(body, "{\"index\":%llu}", (unsigned long long)c->index);
    return 0;
}
