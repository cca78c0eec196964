/* Where a service of a compose file runs, and by which ways and volumes it is reached and reaches others. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/compose_import.h"

#define RANGE_MAX 100                /* ports that one line may publish */

/* --- ports --- */

static void add_port(struct import_service *i, const struct value_entry *e, const char *name, long inside, long host, bool udp)
{
    if (inside < 1 || inside > 65535 || host < 0 || host > 65535) {
        left_add(i, e, "there is no port %ld", inside < 1 || inside > 65535 ? inside : host);
        return;
    }
    struct port *p = list_add((struct list *)(void *)&i->s->ports, &port_type);
    p->name = name && text_is_name(name) ? mem_strdup(name) : mem_printf("%s%ld", udp ? "udp" : "p", inside);
    p->port = inside;
    p->host = host;
    p->protocol = udp ? PROTOCOL_UDP : PROTOCOL_TCP;
}

/* "80" or "8000-8005"; false when it is neither. */
static bool read_range(const char *text, long *from, long *to)
{
    char *end;
    *from = *to = strtol(text, &end, 10);
    if (end == text)
        return false;
    if (*end == '-' && end[1] >= '0' && end[1] <= '9')
        *to = strtol(end + 1, &end, 10);
    return !*end && *to >= *from && *to - *from < RANGE_MAX;
}

/* "[[IP:]HOST:]INSIDE[/PROTOCOL]" */
static void take_short_port(struct import_service *i, const struct value_entry *e, const char *whole)
{
    CLEANUP_FREE char *text = mem_strdup(whole);
    char *slash = strchr(text, '/'), *host = NULL, *inside = strrchr(text, ':');
    bool udp = slash && !strcmp(slash, "/udp");
    long from, to, host_from = 0, host_to = 0;
    if (slash)
        *slash = 0;
    if (inside) {
        *inside++ = 0;
        host = strrchr(text, ':');
        if (host)
            *host++ = 0;
    }
    const char *published = host ? host : inside ? text : "", *target = inside ? inside : text;
    if ((slash && !udp && strcmp(slash, "")) && strcmp(whole + (slash - text), "/tcp")) {
        left_add(i, e, "`%.60s`: only tcp and udp ports are published", whole);
        return;
    }
    if (!read_range(target, &from, &to) || (*published && !read_range(published, &host_from, &host_to))) {
        left_add(i, e, "`%.60s` is not understood", whole);
        return;
    }
    if (host && *text)
        left_add(i, e, "`%.60s`: ports are published at the node's own address, not at %.60s", whole, text);
    bool one_of_many = *published && host_to - host_from != to - from;
    if (one_of_many)
        left_add(i, e, "`%.60s`: a free port of the node is taken, not one of this range", whole);
    for (long k = 0; k <= to - from; k++)
        add_port(i, e, NULL, from + k, *published && !one_of_many ? host_from + k : 0, udp);
}

static void take_long_port(struct import_service *i, const struct value_entry *e, const struct value *v)
{
    const struct value *target = value_path(v, "target"), *published = value_path(v, "published");
    const char *protocol = value_text(v, "protocol"), *ip = value_text(v, "host_ip");
    long inside = strtol(compose_scalar(target), NULL, 10), from = 0, to = 0;
    if (published && *compose_scalar(published) && !read_range(compose_scalar(published), &from, &to))
        left_add(i, e, "published `%.60s` is not understood: a free port is taken", compose_scalar(published));
    else if (from != to) {
        left_add(i, e, "a free port of the node is taken, not one of the range %.60s", compose_scalar(published));
        from = 0;
    }
    if (ip)
        left_add(i, e, "ports are published at the node's own address, not at %.60s", ip);
    if (protocol && strcmp(protocol, "tcp") && strcmp(protocol, "udp"))
        left_add(i, e, "only tcp and udp ports are published");
    else
        add_port(i, e, value_text(v, "name"), inside, from, protocol && !strcmp(protocol, "udp"));
}

TAKE(ports)
{
    for (uint32_t k = 0; e->value.kind == VALUE_LIST && k < e->value.n; k++) {
        const struct value *v = &e->value.entries[k].value;
        struct value_entry at = {.key = e->key, .line = v->line, .column = v->column};
        if (v->kind == VALUE_MAP)
            take_long_port(i, &at, v);
        else
            take_short_port(i, &at, compose_scalar(v));
    }
    if (e->value.kind != VALUE_LIST)
        left_add(i, e, "not a list");
}

/* --- volumes --- */

static bool has_volume(const struct value *service, const char *name)
{
    const struct value *volumes = value_path(service, "volumes");
    size_t n = strlen(name);
    for (uint32_t k = 0; volumes && volumes->kind == VALUE_LIST && k < volumes->n; k++) {
        const struct value *v = &volumes->entries[k].value;
        const char *text = v->kind == VALUE_MAP ? value_text(v, "source") : compose_scalar(v);
        if (text && !strncmp(text, name, n) && (!text[n] || text[n] == ':'))
            return true;
    }
    return false;
}

bool compose_volume_is_shared(const struct import *im, const char *name)
{
    const struct value *services = value_path(im->root, "services");
    unsigned users = 0;
    for (uint32_t k = 0; services && services->kind == VALUE_MAP && k < services->n; k++)
        users += has_volume(&services->entries[k].value, name);
    return users > 1;
}

static void add_volume(struct import_service *i, char *source, const char *target, bool read_only)
{
    struct volume *v = list_add((struct list *)(void *)&i->s->volumes, &volume_type);
    v->source = source;
    v->target = value_literal(target);
    v->read_only = read_only;
}

static void take_named(struct import_service *i, const struct value_entry *e, const char *name, const char *target, bool read_only)
{
    CLEANUP_FREE char *folder = compose_name(name);
    bool shared = compose_volume_is_shared(i->im, name);
    char *source = mem_printf(COMPOSE_VOLUME_ROOT "/%s/%s", shared ? i->im->job->name : i->s->name, folder);
    left_add(i, e, "volume %.60s is %s/<replica> of the node on which the replica is: copy its data there", name, source);
    i->shares_volume |= shared;
    if (shared)
        left_add(i, e, "volume %.60s is shared by replicas of the same number on the same node alone", name);
    add_volume(i, source, target, read_only);
}

static void take_bind(struct import_service *i, const struct value_entry *e, const char *path, const char *target, bool read_only)
{
    if (text_has_prefix(path, COMPOSE_VOLUME_ROOT "/") && !strstr(path, "..")) {
        CLEANUP_FREE char *source = value_literal(path);
        left_add(i, e, "replica k has %.100s/<k>: move what is there", path);
        add_volume(i, steal(&source), target, read_only);
    } else if (strstr(path, "docker.sock")) {
        left_add(i, e, "no security profile gives Docker's socket");
    } else {
        left_add(i, e, "%.100s of the host for %.100s: a service sees directories below the node's volume root alone; put it into "
                 "the image, or into a volume", path, target);
    }
}

static int64_t tmpfs_mb(const char *size)
{
    int64_t bytes = compose_bytes(size);
    return bytes > 0 ? (bytes + (1 << 20) - 1) >> 20 : 64;
}

static void take_memory(struct import_service *i, const struct value_entry *e, const char *path, int64_t mb)
{
    if (!strcmp(path, "/tmp"))
        i->s->security.tmpfs_mb = mb;
    else
        left_add(i, e, "%.100s cannot be in memory: /tmp can", path);
}

static void take_mount(struct import_service *i, const struct value_entry *e, const char *source, const char *target, bool read_only)
{
    bool is_path = source && strchr("./~", *source);
    if (!*target || *target != '/')
        left_add(i, e, "`%.60s` is no absolute path", target);
    else if (!source || !*source)
        left_add(i, e, "what the image declares at %.100s has a volume without a name, which is new with each run", target);
    else if (is_path)
        take_bind(i, e, source, target, read_only);
    else
        take_named(i, e, source, target, read_only);
}

/* "[SOURCE:]TARGET[:OPTIONS]" */
static void take_short_volume(struct import_service *i, const struct value_entry *e, const char *text)
{
    struct str_list parts = {0};
    CLEANUP_FREE char *copy = mem_strdup(text);
    char *rest = copy;
    for (char *part; (part = strsep(&rest, ":")); )
        str_list_add(&parts, part);
    bool read_only = false;
    CLEANUP_FREE char *options = parts.n > 2 ? mem_strdup(parts.v[2]) : NULL;
    rest = options;
    for (char *o; rest && (o = strsep(&rest, ",")); )
        read_only |= !strcmp(o, "ro");
    if (parts.n > 3 || !parts.n)
        left_add(i, e, "`%.100s` is not understood", text);
    else if (parts.n == 1)
        take_mount(i, e, NULL, parts.v[0], false);
    else
        take_mount(i, e, parts.v[0], parts.v[1], read_only);
    str_list_clear(&parts);
}

TAKE(volumes)
{
    for (uint32_t k = 0; e->value.kind == VALUE_LIST && k < e->value.n; k++) {
        const struct value *v = &e->value.entries[k].value;
        struct value_entry at = {.key = e->key, .line = v->line, .column = v->column};
        const char *type = value_text(v, "type"), *target = value_text(v, "target");
        if (v->kind != VALUE_MAP)
            take_short_volume(i, &at, compose_scalar(v));
        else if (type && !strcmp(type, "tmpfs"))
            take_memory(i, &at, target ? target : "", tmpfs_mb(compose_scalar(value_path(v, "tmpfs/size"))));
        else if (type && strcmp(type, "bind") && strcmp(type, "volume"))
            left_add(i, &at, "mounts of type `%.40s` cannot be had", type);
        else
            take_mount(i, &at, value_text(v, "source"), target ? target : "", value_true(v, "read_only"));
    }
    if (e->value.kind != VALUE_LIST)
        left_add(i, e, "not a list");
}

static void take_tmpfs(struct import_service *i, const struct value_entry *e, const char *text)
{
    CLEANUP_FREE char *path = mem_strndup(text, strcspn(text, ":"));
    const char *size = strstr(text, "size=");
    CLEANUP_FREE char *amount = size ? mem_strndup(size + 5, strcspn(size + 5, ",")) : mem_strdup("");
    take_memory(i, e, path, tmpfs_mb(amount));
}

TAKE(tmpfs)
{
    if (e->value.kind != VALUE_LIST)
        take_tmpfs(i, e, compose_scalar(&e->value));
    for (uint32_t k = 0; e->value.kind == VALUE_LIST && k < e->value.n; k++)
        take_tmpfs(i, e, compose_scalar(&e->value.entries[k].value));
}

/* --- networks --- */

TAKE(networks)
{
    const struct value *v = &e->value;
    for (uint32_t k = 0; k < v->n; k++) {
        const char *name = v->kind == VALUE_MAP ? v->entries[k].key : compose_scalar(&v->entries[k].value);
        CLEANUP_FREE char *path = mem_printf("networks/%.60s/external", name);
        struct value_entry at = {.key = e->key, .line = v->entries[k].value.line, .column = v->entries[k].value.column};
        if (value_true(i->im->root, path) && v->n == 1 && text_is_name(name))
            mem_set_string(&i->s->config.network, name);
        else if (strcmp(name, "default"))
            left_add(i, &at, "network %.60s: all services of a job share one network of their own on each node", name);
        if (v->kind == VALUE_MAP && v->entries[k].value.n)
            left_add(i, &at, "network %.60s: other names and fixed addresses cannot be had", name);
    }
}

TAKE(network_mode)
{
    const char *mode = compose_scalar(&e->value);
    if (!strcmp(mode, "none") || !strcmp(mode, "bridge"))
        mem_set_string(&i->s->config.network, mode);
    else
        left_add(i, e, "`%.60s`: no security profile shares another network", mode);
}

TAKE(depends_on)
{
    left_add(i, e, "services start together: one that needs another is restarted until that is there, see `restart`");
}

/* --- deploy --- */

static const struct value_entry *inner(const struct value *v, const char *path, const char *key)
{
    const struct value *at = value_path(v, path);
    return at && at->kind == VALUE_MAP ? value_get(at, key) : NULL;
}

static void take_resources(struct import_service *i, const struct value *v)
{
    const struct value_entry *e;
    if ((e = inner(v, "resources/limits", "memory")))
        compose_memory_limit(i, e);
    if ((e = inner(v, "resources/limits", "cpus")))
        compose_cpus(i, e);
    if ((e = inner(v, "resources/limits", "pids")))
        compose_pids_limit(i, e);
    if ((e = inner(v, "resources/reservations", "cpus")) && strtod(compose_scalar(&e->value), NULL) > 0)
        i->s->resources.cpus = strtod(compose_scalar(&e->value), NULL);
    if ((e = inner(v, "resources/reservations", "memory")))
        left_add(i, e, "memory is a hard limit: resources.memory_mb");
    if ((e = inner(v, "resources/reservations", "devices")))
        left_add(i, e, "no security profile gives devices of the host");
}

static void take_restart_policy(struct import_service *i, const struct value *v)
{
    const struct value_entry *attempts = value_get(v, "max_attempts"), *delay = value_get(v, "delay"), *window = value_get(v, "window");
    const char *condition = value_text(v, "condition");
    struct restart *r = &i->s->restart;
    if (attempts && *compose_scalar(&attempts->value))
        r->attempts = strtoll(compose_scalar(&attempts->value), NULL, 10);
    if (delay && compose_duration(compose_scalar(&delay->value)) > 0)
        r->delay_ms = compose_duration(compose_scalar(&delay->value));
    if (window && compose_duration(compose_scalar(&window->value)) > 0)
        r->window_ms = compose_duration(compose_scalar(&window->value));
    if (condition && !strcmp(condition, "none")) {
        r->attempts = 0;
        r->then = THEN_FAIL;
    }
}

/* "node.hostname == n1", "node.labels.disk != ssd" */
static void take_constraint(struct import_service *i, const struct value_entry *e, const char *text)
{
    char what[64], sign[3], value[64];
    if (sscanf(text, "%63[a-zA-Z0-9._-] %2[=!] %63[a-zA-Z0-9._-]", what, sign, value) != 3 ||
        (strcmp(sign, "==") && strcmp(sign, "!=")) ||
        (strcmp(what, "node.hostname") && !(text_has_prefix(what, "node.labels.") && what[strlen("node.labels.")]))) {
        left_add(i, e, "`%.100s` has nothing like it: see `constraints`", text);
        return;
    }
    struct constraint *c = list_add((struct list *)(void *)&i->s->constraints, &constraint_type);
    c->attribute = strcmp(what, "node.hostname") ? mem_printf("meta.%s", what + strlen("node.labels.")) : mem_strdup("node.name");
    c->op = *sign == '=' ? OP_EQ : OP_NE;
    str_list_add(&c->value, value);
}

static void take_placement(struct import_service *i, const struct value *v)
{
    const struct value_entry *constraints = value_get(v, "constraints"), *most = value_get(v, "max_replicas_per_node");
    for (uint32_t k = 0; constraints && constraints->value.kind == VALUE_LIST && k < constraints->value.n; k++)
        take_constraint(i, constraints, compose_scalar(&constraints->value.entries[k].value));
    if (most && !strcmp(compose_scalar(&most->value), "1"))
        mem_set_string(&i->s->spread, "node");
    else if (most)
        left_add(i, most, "there is `spread: node` alone");
    if (value_get(v, "preferences"))
        left_add(i, value_get(v, "preferences"), "see `spread` and `affinities`");
}

static void take_update(struct import_service *i, const struct value *v)
{
    const struct value_entry *parallel = value_get(v, "parallelism");
    const char *failure = value_text(v, "failure_action");
    long n = parallel ? strtol(compose_scalar(&parallel->value), NULL, 10) : 0;
    if (n > 0 && n <= 10000)
        i->s->deploy.max_unavailable = n;
    if (failure)
        i->s->deploy.auto_revert = !strcmp(failure, "rollback");
    for (uint32_t k = 0; k < v->n; k++)
        if (v->entries[k].key && strcmp(v->entries[k].key, "parallelism") && strcmp(v->entries[k].key, "failure_action"))
            left_add(i, &v->entries[k], "has nothing like it: see `deploy`");
}

TAKE(deploy)
{
    const struct value *v = &e->value;
    for (uint32_t k = 0; v->kind == VALUE_MAP && k < v->n; k++) {
        const struct value_entry *d = &v->entries[k];
        const char *text = compose_scalar(&d->value);
        long n = strtol(text, NULL, 10);
        if (!strcmp(d->key, "resources")) {
            take_resources(i, v);
        } else if (!strcmp(d->key, "replicas")) {
            i->s->count = n >= 0 && n < 1000000 ? n : 1;
        } else if (!strcmp(d->key, "mode") && !strcmp(text, "global")) {
            i->s->mode = MODE_EVERY_NODE;
        } else if (!strcmp(d->key, "mode") && !strcmp(text, "replicated-job")) {
            i->s->mode = MODE_TASK;
        } else if (!strcmp(d->key, "restart_policy") && d->value.kind == VALUE_MAP) {
            take_restart_policy(i, &d->value);
        } else if (!strcmp(d->key, "placement") && d->value.kind == VALUE_MAP) {
            take_placement(i, &d->value);
        } else if (!strcmp(d->key, "update_config") && d->value.kind == VALUE_MAP) {
            take_update(i, &d->value);
        } else if (strcmp(d->key, "mode") || strcmp(text, "replicated")) {
            left_add(i, d, "has nothing like it: see `deploy`");
        }
    }
    if (i->s->mode == MODE_EVERY_NODE)
        i->s->count = 1;
}
