/* Namespaces: which there are, what they may want and what they do want. */
#include <string.h>

#include "core/command.h"
#include "model/namespace.h"
#include "server/api.h"
#include "server/api_types.h"
#include "server/scope.h"

/* Names of one namespace stand together; those of default are between all others. */
static int64_t count_jobs(const struct control *c, const char *name)
{
    CLEANUP_FREE char *from = namespace_qualify(name, "");
    int64_t n = 0;
    for (const char *job = core_job_next(c->core, from); job; job = core_job_next(c->core, job)) {
        bool of_it = namespace_has(name, job);
        if (!of_it && !namespace_is_default(name))
            break;
        n += of_it;
    }
    return n;
}

static void fill(struct control *c, const char *name, struct namespace_view *out)
{
    const struct namespace *n = namespace_find(core_access(c->core), name);
    const struct secret_list *secrets = &core_secrets(c->core)->secrets;
    *out = (struct namespace_view){.name = (char *)(uintptr_t)name, .quota = n ? n->quota : (struct quota){0}};      /* borrowed */
    core_namespace_wants(c->core, name, &out->wanted);
    out->jobs = count_jobs(c, name);
    for (uint32_t i = 0; i < secrets->n; i++)
        out->secrets += namespace_has(name, secrets->v[i].name);
}

static bool add(struct control *c, struct request *r, const char *name, bool first)
{
    struct namespace_view view;
    if (!scope_sees_namespace(r, name))
        return false;
    fill(c, name, &view);
    buf_add_string(&r->answer.body, first ? "" : ",");
    type_to_json(&namespace_view_type, &view, &r->answer.body);
    return true;
}

API_READ(api_namespaces)
{
    const struct namespace_list *all = &core_access(c->core)->namespaces;
    buf_add_string(&r->answer.body, "{\"items\":[");
    bool some = add(c, r, NAMESPACE_DEFAULT, true);
    for (uint32_t i = 0; i < all->n; i++)
        if (!namespace_is_default(all->v[i].name))
            some |= add(c, r, all->v[i].name, !some);
    buf_printf(&r->answer.body, "],\"next_cursor\":\"\",\"index\":%llu}", (unsigned long long)core_index(c->core));
    return 0;
}

API_READ(api_namespace)
{
    struct namespace_view view;
    if (!namespace_exists(core_access(c->core), r->params[0]))
        return error_set(err, ERROR_NOT_FOUND, "there is no namespace %.64s; `mt namespace list` lists them", r->params[0]);
    fill(c, r->params[0], &view);
    type_to_json(&namespace_view_type, &view, &r->answer.body);
    return 0;
}

API_PREPARE(api_namespace_put)
{
    struct command_namespace_put payload = {.namespace = *(const struct namespace *)r->body};      /* borrowed */
    if (strcmp(payload.namespace.name, r->params[0]))
        return error_set(err, ERROR_INVALID, "the body is namespace %.64s, the path namespace %.64s", payload.namespace.name,
                         r->params[0]);
    request_command(r, COMMAND_NAMESPACE_PUT, &payload);
    return 0;
}

API_PREPARE(api_namespace_delete)
{
    struct command_namespace_delete payload = {.name = (char *)(uintptr_t)r->params[0]};
    request_command(r, COMMAND_NAMESPACE_DELETE, &payload);
    return 0;
}
