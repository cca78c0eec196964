#include "model/namespace.h"

#include <string.h>

#include "base/text.h"
#include "model/table.h"

#define SEPARATOR '.'

bool namespace_is_default(const char *namespace)
{
    return !namespace || !strcmp(namespace, NAMESPACE_DEFAULT);
}

bool namespace_is_any(const char *namespace)
{
    return namespace && !strcmp(namespace, NAMESPACE_ANY);
}

char *namespace_qualify(const char *namespace, const char *name)
{
    if (!name || namespace_is_default(namespace))
        return mem_strdup(name);
    return mem_printf("%s%c%s", namespace, SEPARATOR, name);
}

const char *namespace_bare(const char *qualified)
{
    const char *dot = qualified ? strchr(qualified, SEPARATOR) : NULL;
    return dot ? dot + 1 : qualified;
}

const char *namespace_of(const char *qualified, char out[static NAMESPACE_SIZE])
{
    const char *dot = qualified ? strchr(qualified, SEPARATOR) : NULL, *from = dot ? qualified : NAMESPACE_DEFAULT;
    size_t n = dot ? (size_t)(dot - qualified) : strlen(NAMESPACE_DEFAULT);
    n = n < NAMESPACE_SIZE ? n : NAMESPACE_SIZE - 1;
    memcpy(out, from, n);
    out[n] = '\0';
    return out;
}

bool namespace_has(const char *namespace, const char *qualified)
{
    char own[NAMESPACE_SIZE];
    return !strcmp(namespace_of(qualified, own), namespace ? namespace : NAMESPACE_DEFAULT);
}

bool namespace_same(const char *a, const char *b)
{
    char own[NAMESPACE_SIZE];
    return namespace_has(namespace_of(a, own), b);
}

bool namespace_is_qualified_name(const char *text)
{
    char own[NAMESPACE_SIZE];
    const char *bare = namespace_bare(text);
    return text_is_name(bare) && strlen(text) - strlen(bare) <= NAMESPACE_SIZE && text_is_name(namespace_of(text, own)) &&
           (bare == text || !namespace_is_default(own));
}

static void qualify(const char *namespace, char **name)
{
    char *was = *name;
    *name = namespace_qualify(namespace, was);
    free(was);
}

void job_qualify(struct job *job)
{
    if (namespace_is_default(job->namespace))
        return;
    qualify(job->namespace, &job->name);
    for (uint32_t i = 0; i < job->services.n; i++)
        qualify(job->namespace, &job->services.v[i].name);
}

const struct namespace *namespace_find(const struct access *access, const char *name)
{
    for (uint32_t i = 0; name && i < access->namespaces.n; i++)
        if (!strcmp(access->namespaces.v[i].name, name))
            return &access->namespaces.v[i];
    return NULL;
}

bool namespace_exists(const struct access *access, const char *name)
{
    return namespace_is_default(name) || namespace_find(access, name);
}

static bool is_kind(const struct event *e, const char *kind)
{
    return e->kind && !strcmp(e->kind, kind);
}

/* Its subject is the name of something that has a namespace. */
static bool has_qualified_subject(const struct event *e)
{
    return e->subject && (is_kind(e, "job") || is_kind(e, "service") || is_kind(e, "secret"));
}

const char *event_namespace(const struct event *e, char out[static NAMESPACE_SIZE])
{
    if (e->service)
        return namespace_of(e->service, out);
    if (has_qualified_subject(e))
        return namespace_of(e->subject, out);
    return is_kind(e, "namespace") ? e->subject : NULL;
}

struct event event_shown(const struct event *e, char own[static NAMESPACE_SIZE])
{
    struct event shown = *e;
    const char *namespace = event_namespace(e, own);
    shown.namespace = namespace_is_default(namespace) ? NULL : (char *)(uintptr_t)namespace;
    shown.service = (char *)(uintptr_t)namespace_bare(e->service);
    if (has_qualified_subject(e))
        shown.subject = (char *)(uintptr_t)namespace_bare(e->subject);
    return shown;
}

void event_show(const struct event *e, struct buf *out)
{
    char own[NAMESPACE_SIZE];
    struct event shown = event_shown(e, own);
    type_to_json(&event_type, &shown, out);
}

/* --- tables --- */

static const struct field quota_fields[] = {
    FLOAT(quota, cpus, 1, RANGE(0, 1000000), .help = "Processors, as in `resources`; 0: no limit."),
    SIZE_MB(quota, memory_mb, 2, RANGE(0, 1e12), .help = "Memory; 0: no limit."),
    INT(quota, replicas, 3, RANGE(0, 100000000), .help = "Replicas; 0: no limit."),
    {0},
};
TABLE(quota, quota_fields, "What all replicas together that the services of a namespace want come to.");

static const struct field namespace_fields[] = {
    STRING(namespace, name, 1, .flags = FIELD_REQUIRED | FIELD_NAME_RULE, .help = "Name of the namespace."),
    OBJECT(namespace, quota, 2, quota, .help = "How much its services may want."),
    UINT(namespace, create_index, 3, .flags = FIELD_INTERNAL, .help = "Index at which it was made."),
    UINT(namespace, modify_index, 4, .flags = FIELD_INTERNAL, .help = "Index at which it changed last."),
    {0},
};
TABLE(namespace, namespace_fields, "Jobs and secrets with names, rights and a quota of their own.");
