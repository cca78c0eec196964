#include "agent/task_env.h"

#include <ctype.h>
#include <string.h>

#include "base/text.h"
#include "model/namespace.h"

int64_t task_port(enum driver_kind driver, const struct alloc_port *port)
{
    return driver == DRIVER_EXEC || driver == DRIVER_NONE ? port->host : port->port;
}

void task_add_address(struct buf *out, const char *ip, const char *port)
{
    bool v6 = strchr(ip, ':') != NULL;
    buf_printf(out, "%s%s%s:%s", v6 ? "[" : "", ip, v6 ? "]" : "", port);
}

int64_t task_outer_port(enum driver_kind driver, const struct alloc_port *port)
{
    return driver == DRIVER_DOCKER || driver == DRIVER_FIRECRACKER ? port->host : task_port(driver, port);
}

/* --- variables --- */

static int var_replica(const struct task_facts *f, const char *key, struct buf *out, struct error *err)
{
    buf_printf(out, "%lld", (long long)f->alloc->replica);
    return 0;
}

static int var_ip(const struct task_facts *f, const char *key, struct buf *out, struct error *err)
{
    buf_add_string(out, f->ip);
    return 0;
}

static int var_node_name(const struct task_facts *f, const char *key, struct buf *out, struct error *err)
{
    buf_add_string(out, f->node_name);
    return 0;
}

static const struct alloc_port *port_find(const struct task_facts *f, const char *name)
{
    for (uint32_t i = 0; i < f->alloc->ports.n; i++)
        if (!strcmp(f->alloc->ports.v[i].name, name))
            return &f->alloc->ports.v[i];
    return NULL;
}

static int var_port(const struct task_facts *f, const char *key, struct buf *out, struct error *err)
{
    const struct alloc_port *port = port_find(f, key);
    if (port) {
        buf_printf(out, "%lld", (long long)task_port(f->spec->driver, port));
        return 0;
    }
    return error_set(err, ERROR_INVALID, "${port.%s}: the service has no port of this name; add it under `ports`", key);
}

/* Servers that did not tell of the others leave the task alone with itself. */
static int var_peers(const struct task_facts *f, const char *key, struct buf *out, struct error *err)
{
    const char *peers = f->peers ? kv_get(f->peers, key) : NULL;
    if (peers) {
        buf_add_string(out, peers);
        return 0;
    }
    const struct alloc_port *port = port_find(f, key);
    if (!port)
        return error_set(err, ERROR_INVALID, "${peers.%s}: the service has no port of this name; add it under `ports`",
                         key);
    CLEANUP_FREE char *number = mem_printf("%lld", (long long)task_outer_port(f->spec->driver, port));
    task_add_address(out, f->ip, number);
    return 0;
}

static int var_meta(const struct task_facts *f, const char *key, struct buf *out, struct error *err)
{
    const char *value = f->node_meta ? kv_get(f->node_meta, key) : NULL;
    if (!value)
        return error_set(err, ERROR_INVALID, "${meta.%s}: node %s has no such meta key; set it in the agent's "
                         "configuration, or constrain the service to nodes that have it", key, f->node_name);
    buf_add_string(out, value);
    return 0;
}

/* A name that ends with a dot takes a key behind it. */
static const struct variable {
    const char *name;
    int (*write)(const struct task_facts *f, const char *key, struct buf *out, struct error *err);
} variables[] = {
    {"replica", var_replica},
    {"ip", var_ip},
    {"node.name", var_node_name},
    {"port.", var_port},
    {"peers.", var_peers},
    {"meta.", var_meta},
};

/* Returns 1 when the name is none of ours. */
static int write_variable(const struct task_facts *f, const char *name, struct buf *out, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(variables); i++) {
        size_t n = strlen(variables[i].name);
        bool keyed = variables[i].name[n - 1] == '.';
        if (keyed ? !strncmp(name, variables[i].name, n) : !strcmp(name, variables[i].name))
            return variables[i].write(f, name + n, out, err);
    }
    return 1;
}

int task_interpolate(const struct task_facts *f, const char *text, struct buf *out, struct error *err)
{
    while (*text) {
        const char *dollar = strchr(text, '$');
        if (!dollar) {
            buf_add_string(out, text);
            break;
        }
        buf_add(out, text, (size_t)(dollar - text));
        text = dollar;
        const char *end = text[1] == '{' ? strchr(text, '}') : NULL;
        if (text[1] == '$' && text[2] == '{') {
            buf_add_string(out, "${");
            text += 3;
        } else if (!end) {
            buf_add_char(out, *text++);
        } else {
            CLEANUP_FREE char *name = mem_strndup(text + 2, (size_t)(end - text - 2));
            int rc = write_variable(f, name, out, err);
            if (rc < 0)
                return -1;
            if (rc > 0)
                buf_add(out, text, (size_t)(end + 1 - text));
            text = end + 1;
        }
    }
    return 0;
}

/* --- what the task gets --- */

static int set_interpolated(const struct task_facts *f, const struct kv_list *from, const char *where,
                            struct kv_list *env, struct error *err)
{
    for (uint32_t i = 0; i < from->n; i++) {
        CLEANUP_BUF struct buf value = {0};
        if (task_interpolate(f, from->v[i].value ? from->v[i].value : "", &value, err) < 0)
            return error_context(err, "%s.%s", where, from->v[i].key);
        kv_set(env, from->v[i].key, value.data ? value.data : "");
    }
    return 0;
}

static void set_port_variable(struct kv_list *env, const char *prefix, const char *port, const char *value)
{
    CLEANUP_FREE char *key = mem_printf("%s%s", prefix, port);
    for (char *p = key; *p; p++)
        *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    kv_set(env, key, value);
}

static void set_number(struct kv_list *env, const char *key, long long v)
{
    CLEANUP_FREE char *text = mem_printf("%lld", v);
    kv_set(env, key, text);
}

int task_env(const struct task_facts *f, struct kv_list *env, struct error *err)
{
    if (set_interpolated(f, &f->spec->env, "env", env, err) < 0 ||
        set_interpolated(f, &f->spec->config.env, "config.env", env, err) < 0)
        return -1;
    char namespace[NAMESPACE_SIZE];
    kv_set(env, "MENTAT_SERVICE", namespace_bare(f->alloc->service));
    kv_set(env, "MENTAT_NAMESPACE", namespace_of(f->alloc->service, namespace));
    kv_set(env, "MENTAT_ALLOC_ID", f->alloc->id);
    kv_set(env, "MENTAT_NODE", f->node_name);
    kv_set(env, "MENTAT_IP", f->ip);
    if (f->secrets_dir)
        kv_set(env, "MENTAT_SECRETS_DIR", f->secrets_dir);
    set_number(env, "MENTAT_REPLICA", f->alloc->replica);
    set_number(env, "MENTAT_VERSION", (long long)f->alloc->version);
    for (uint32_t i = 0; i < f->alloc->ports.n; i++) {
        const struct alloc_port *p = &f->alloc->ports.v[i];
        CLEANUP_FREE char *number = mem_printf("%lld", (long long)task_port(f->spec->driver, p));
        set_port_variable(env, "MENTAT_PORT_", p->name, number);
        const char *peers = f->peers ? kv_get(f->peers, p->name) : NULL;
        if (peers)
            set_port_variable(env, "MENTAT_PEERS_", p->name, peers);
    }
    return 0;
}

int task_args(const struct task_facts *f, const struct str_list *args, struct str_list *out, struct error *err)
{
    for (uint32_t i = 0; i < args->n; i++) {
        CLEANUP_BUF struct buf value = {0};
        if (task_interpolate(f, args->v[i], &value, err) < 0)
            return error_context(err, "args[%u]", i);
        str_list_add(out, value.data ? value.data : "");
    }
    return 0;
}

/* --- volumes --- */

static bool climbs(const char *path)
{
    for (const char *p = path; (p = strstr(p, "..")); p += 2)
        if ((p == path || p[-1] == '/') && (p[2] == '/' || !p[2]))
            return true;
    return false;
}

/* Each directory has one name, by which one sees whose it is: no part is empty or a dot. */
static void tidy(struct buf *path)
{
    char *to = path->data;
    for (const char *from = path->data; *from;) {
        const char *end = from + 1 + strcspn(from + 1, "/");
        if (end - from > 1 && !(end - from == 2 && from[1] == '.')) {
            memmove(to, from, (size_t)(end - from));
            to += end - from;
        }
        from = end;
    }
    *to = '\0';
    path->len = (size_t)(to - path->data);
}

int task_volume_path(const struct task_facts *f, const char *volume_root, const struct volume *v, char **path,
                     struct error *err)
{
    const char *source = v->source ? v->source : v->name;
    if (!source || !*source)
        return error_set(err, ERROR_INVALID, "volume %s: has no source", v->target ? v->target : "");
    CLEANUP_BUF struct buf b = {0};
    if (source[0] != '/')
        buf_printf(&b, "%s/", volume_root);
    if (task_interpolate(f, source, &b, err) < 0)
        return error_context(err, "volume %s", source);
    CLEANUP_BUF struct buf root = {0};
    buf_add_string(&root, volume_root);
    tidy(&root);
    if (b.data[0] == '/')
        tidy(&b);
    if (climbs(b.data) || strncmp(b.data, root.data, root.len) || b.data[root.len] != '/')
        return error_set(err, ERROR_DENIED, "volume %s: is not below the node's volume_root %s", source, volume_root);
    if (!strstr(source, "${replica}"))
        buf_printf(&b, "/%lld", (long long)f->alloc->replica);
    *path = buf_steal(&b);
    return 0;
}
