#include "model/checks.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/cron.h"
#include "base/pattern.h"
#include "base/text.h"
#include "model/ingress_rules.h"
#include "model/model.h"
#include "model/secret.h"

enum { PORTS_MAX = 256, SERVICES_MAX = 1000, AFTER_MAX = 32, SECRETS_MAX = 64, AUDIENCES_MAX = 8, AUDIENCE_LENGTH_MAX = 255,
       FILE_NAME_MAX = 100, IDENTITY_TTL_LEAST_MS = 300000 };

/* Adds a problem at path.key. */
#define PROBLEM(key, ...)                                       \
    do {                                                        \
        CLEANUP_FREE char *problem_path = join(path, key);      \
        problem_add(problems, problem_path, __VA_ARGS__);       \
    } while (0)

static char *join(const char *path, const char *key)
{
    return *path ? mem_printf("%s.%s", path, key) : mem_strdup(key);
}

static bool is_absolute(const char *s)
{
    return s[0] == '/';
}

static bool has_dot_dot(const char *path)
{
    for (const char *p = path; (p = strstr(p, "..")); p += 2)
        if ((p == path || p[-1] == '/') && (!p[2] || p[2] == '/'))
            return true;
    return false;
}

void check_volume(const void *object, const char *path, struct problem_list *problems)
{
    const struct volume *v = object;
    if (!v->source == !v->name)
        PROBLEM("source", v->source ? "give either `source` or `name`, not both"
                                    : "give `source` (a directory) or `name` (a registered volume)");
    if (v->source && ((!is_absolute(v->source) && !text_has_prefix(v->source, "${")) || has_dot_dot(v->source)))
        PROBLEM("source", "must be an absolute path without `..`");
    if (v->target && (!is_absolute(v->target) || has_dot_dot(v->target)))
        PROBLEM("target", "must be an absolute path without `..`");
}

static const char *env_name_problem(const char *key)
{
    if (!*key || isdigit((unsigned char)*key) ||
        key[strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")])
        return "is not a name of an environment variable: letters, digits and _, no digit first";
    return text_has_prefix(key, "MENTAT_") ? "names that begin with MENTAT_ are set by Mentat: choose another" : NULL;
}

static void check_env(const struct kv_list *env, const char *path, struct problem_list *problems)
{
    for (uint32_t i = 0; i < env->n; i++) {
        const char *problem = env_name_problem(env->v[i].key);
        if (problem) {
            CLEANUP_FREE char *at = mem_printf("%s.%s", path, env->v[i].key);
            problem_add(problems, at, "%s", problem);
        }
    }
}

static const char *const ulimit_names[] = {"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile",
                                           "nproc", "rss", "rtprio", "rttime", "sigpending", "stack", NULL};

/* "1024" or "1024:2048", soft and hard. */
static bool is_ulimit(const char *s)
{
    unsigned long long soft, hard;
    int end = 0;
    size_t digits = strspn(s, "0123456789");
    if (!digits || digits > 18 || (s[digits] && s[digits] != ':') || strspn(s + digits, ":0123456789") != strlen(s + digits))
        return false;
    if (!s[digits])
        return true;
    return sscanf(s, "%llu:%18llu%n", &soft, &hard, &end) == 2 && !s[end] && soft <= hard;
}

static void check_ulimits(const struct kv_list *ulimits, const char *path, struct problem_list *problems)
{
    for (uint32_t i = 0; i < ulimits->n; i++) {
        const struct kv *u = &ulimits->v[i];
        CLEANUP_FREE char *at = mem_printf("%s.ulimits.%s", path, u->key);
        if (enum_value(ulimit_names, u->key) < 0) {
            const char *near = text_nearest(u->key, ulimit_names);
            problem_add(problems, at, "is not the name of a limit; %s%s%s", near ? "did you mean `" : "nofile, nproc, core and "
                        "others are", near ? near : "", near ? "`?" : "");
        } else if (!is_ulimit(u->value)) {
            problem_add(problems, at, "must be a number, or two as \"soft:hard\", the first one not larger");
        }
    }
}

void check_config(const void *object, const char *path, struct problem_list *problems)
{
    const struct config *c = object;
    CLEANUP_FREE char *env = join(path, "env");
    check_env(&c->env, env, problems);
    check_ulimits(&c->ulimits, path, problems);
    if (c->workdir && !is_absolute(c->workdir))
        PROBLEM("workdir", "must be an absolute path");
    if (c->balloon_mb && c->balloon_mb >= c->memory_mb)
        PROBLEM("balloon_mb", "must be less than `memory_mb`, of which it is a part");
}

void check_resources(const void *object, const char *path, struct problem_list *problems)
{
    const struct resources *r = object;
    if (r->cpu_max > 0 && r->cpu_max < r->cpus)
        PROBLEM("cpu_max", "is less than `cpus`, which are set aside for it: raise it or lower `cpus`");
}

static bool is_number(const char *s)
{
    char *end;
    strtod(s, &end);
    return *s && !*end;
}

static const char *const attributes[] = {"node.name", "node.class", "node.id", "cpu.arch", "cpu.cores", "memory.mb",
                                         "kernel.version", "kvm", NULL};

static bool is_attribute(const char *s)
{
    return enum_value(attributes, s) >= 0 || (text_has_prefix(s, "meta.") && s[5]) || (text_has_prefix(s, "driver.") && s[7]);
}

static void unknown_attribute(const char *attribute, const char *path, const char *key, struct problem_list *problems)
{
    const char *near = text_nearest(attribute, attributes);
    PROBLEM(key, "`%.80s` is not an attribute of nodes%s%s%s; meta.KEY and driver.NAME are others", attribute,
            near ? "; did you mean `" : "", near ? near : "", near ? "`?" : "");
}

static void check_condition(const char *attribute, enum constraint_op op, const struct str_list *value, const char *path,
                            struct problem_list *problems)
{
    if (!attribute)
        return;
    if (!is_attribute(attribute))
        unknown_attribute(attribute, path, "attribute", problems);
    if (op == OP_EXISTS || op == OP_DISTINCT) {
        if (value->n)
            PROBLEM("value", "`%s` takes no value: remove it", enum_name(constraint_op_names, op));
        return;
    }
    if (!value->n) {
        PROBLEM("value", "is required with `%s`", enum_name(constraint_op_names, op));
        return;
    }
    if (value->n > 1 && op != OP_IN)
        PROBLEM("value", "a list needs `op: in`");
    if (op == OP_MATCHES) {
        struct error err;
        if (pattern_check(value->v[0], &err) < 0)
            PROBLEM("value", "%s", err.text);
    }
    if (op >= OP_LT && op <= OP_GE && (!strcmp(attribute, "cpu.cores") || !strcmp(attribute, "memory.mb")) &&
        !is_number(value->v[0]))
        PROBLEM("value", "must be a number to be compared with %s", attribute);
}

void check_constraint(const void *object, const char *path, struct problem_list *problems)
{
    const struct constraint *c = object;
    check_condition(c->attribute, c->op, &c->value, path, problems);
}

void check_affinity(const void *object, const char *path, struct problem_list *problems)
{
    const struct affinity *a = object;
    if (a->op == OP_DISTINCT)
        PROBLEM("op", "`distinct` is for constraints; to prefer different nodes use `spread: node`");
    check_condition(a->attribute, a->op, &a->value, path, problems);
}

void check_health(const void *object, const char *path, struct problem_list *problems)
{
    const struct health *h = object;
    if (h->type == HEALTH_EXEC && !h->command.n)
        PROBLEM("command", "is required with `type: exec`");
    if (h->type != HEALTH_EXEC && h->command.n)
        PROBLEM("command", "is for `type: exec`");
    if (h->path && h->type != HEALTH_HTTP)
        PROBLEM("path", "is for `type: http`");
    else if (h->path && !is_absolute(h->path))
        PROBLEM("path", "must begin with /");
    if (h->type != HEALTH_NONE && h->min_running_ms
        && !field_is_default(type_field(&health_type_table, "min_running"), &h->min_running_ms))
        PROBLEM("min_running", "is for services without a check; with one, raise `healthy`");
    bool default_timeout = field_is_default(type_field(&health_type_table, "timeout"), &h->timeout_ms);
    if (h->type != HEALTH_NONE && h->timeout_ms > h->interval_ms && !default_timeout)
        PROBLEM("timeout", "must not be longer than `interval`");
}

void check_kill(const void *object, const char *path, struct problem_list *problems)
{
    const struct kill *k = object;
    static const char *const signals[] = {"SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL",
                                          "SIGWINCH", "SIGABRT", "SIGALRM", "SIGCONT", "SIGPIPE", NULL};
    if (!k->signal || enum_value(signals, k->signal) >= 0)
        return;
    const char *near = text_nearest(k->signal, signals);
    PROBLEM("signal", "`%.40s` is not a signal that ends a task; %s%s%s", k->signal, near ? "did you mean `" : "try `",
            near ? near : "SIGTERM", near ? "`?" : "`");
}

/* Without a window the other keys would be of no use. All are zero in jobs of releases that did not have them. */
void check_analysis(const void *object, const char *path, struct problem_list *problems)
{
    static const struct analysis none;
    const struct analysis *a = object;
    struct analysis defaults;
    type_init(&analysis_type, &defaults);
    if (!a->window_secs && !type_equal(&analysis_type, a, &none) && !type_equal(&analysis_type, a, &defaults))
        PROBLEM("window_secs", "is required: the seconds over which the requests of both versions are compared");
    if (a->window_secs && !a->min_requests)
        PROBLEM("min_requests", "must be at least 1");
    if (a->window_secs > a->timeout_secs)
        PROBLEM("timeout_secs", "must not be less than `window_secs`");
}

/* All that comes to a TCP port is one service's, as it is. */
static void check_ingress_tcp(const struct ingress *i, const char *path, struct problem_list *problems)
{
    const struct { const char *key; bool given; } http_only[] = {
        {"host", i->host != NULL}, {"path", i->path && strcmp(i->path, "/")}, {"tls", i->tls}, {"sticky", i->sticky},
        {"sticky_header", i->sticky_header != NULL}, {"max_body_mb", i->max_body_mb != 0},
        {"requests_per_second", i->requests_per_second != 0}};
    for (size_t k = 0; k < ARRAY_LEN(http_only); k++)
        if (http_only[k].given)
            PROBLEM(http_only[k].key, "is for `protocol: http`: with `protocol: tcp` all that comes to the port of `listen` goes to the "
                    "service as it is; remove it");
    if (!i->listen)
        PROBLEM("listen", "is required with `protocol: tcp`: the port that the ingress listens on");
}

static void check_ingress_http(const struct ingress *i, const char *path, struct problem_list *problems)
{
    const char *host_problem = i->host ? ingress_host_problem(i->host) : NULL;
    const char *path_problem = i->path ? ingress_path_problem(i->path) : NULL;
    if (i->listen)
        PROBLEM("listen", "is for `protocol: tcp`");
    if (!i->host)
        PROBLEM("host", "is required: the host name of the requests");
    if (i->sticky_header && i->sticky)
        PROBLEM("sticky_header", "give either `sticky` or `sticky_header`, not both");
    if (i->sticky_header && ingress_header_problem(i->sticky_header))
        PROBLEM("sticky_header", "%s", ingress_header_problem(i->sticky_header));
    if (host_problem)
        PROBLEM("host", "%s", host_problem);
    if (path_problem)
        PROBLEM("path", "%s", path_problem);
}

void check_ingress(const void *object, const char *path, struct problem_list *problems)
{
    const struct ingress *i = object;
    if (i->protocol == PROTOCOL_UDP)
        PROBLEM("protocol", "must be http or tcp");
    if (i->protocol == PROTOCOL_TCP)
        check_ingress_tcp(i, path, problems);
    if (i->protocol == PROTOCOL_HTTP)
        check_ingress_http(i, path, problems);
    if (i->redirect_https && !strcmp(i->redirect_https, "true") && !i->tls)
        PROBLEM("redirect_https", "is for `tls: true`: without it nothing is served where the requests would be sent");
    if (i->acme && !i->tls)
        PROBLEM("acme", "is for `tls: true`");
    if (i->certificate && !i->tls)
        PROBLEM("certificate", "is for `tls: true`");
    if (i->certificate && i->acme)
        PROBLEM("certificate", "give either `certificate` or `acme`, not both");
    if (i->certificate && !text_is_name(i->certificate))
        PROBLEM("certificate", "is not a name of a secret: use lower-case letters, digits and hyphens, at most 63");
    if (i->acme && i->host && strchr(i->host, '*'))
        PROBLEM("acme", "cannot prove all hosts of `%.200s`: name the hosts one by one, or give the nodes a certificate file",
                i->host);
}

#define PLAIN_FILE_RULE "is not a plain name of a file: letters, digits, `.`, `_` and `-`, at most 100, no `.` first"

static bool is_plain_file(const char *name)
{
    size_t n = strlen(name);
    return n && n <= FILE_NAME_MAX && *name != '.' &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

void check_secret_ref(const void *object, const char *path, struct problem_list *problems)
{
    const struct secret_ref *s = object;
    if (!s->env == !s->file)
        PROBLEM("env", "give either `env` or `file`: how the task gets the secret");
    const char *problem = s->env ? env_name_problem(s->env) : NULL;
    if (problem)
        PROBLEM("env", "%s", problem);
    if (s->name && !text_is_name(s->name))
        PROBLEM("name", "is not a name: use lower-case letters, digits and hyphens, at most 63");
    if (s->file && !is_plain_file(s->file))
        PROBLEM("file", PLAIN_FILE_RULE);
    if (s->env && s->on_change == ON_CHANGE_SIGNAL)
        PROBLEM("on_change", "a variable of a running task cannot be changed: use `file`, or `on_change: restart`");
}

void check_identity_spec(const void *object, const char *path, struct problem_list *problems)
{
    const struct identity_spec *s = object;
    if (s->audience.n && (!s->file || !is_plain_file(s->file)))
        PROBLEM("file", PLAIN_FILE_RULE);
    if (s->audience.n && s->ttl_ms < IDENTITY_TTL_LEAST_MS)
        PROBLEM("ttl", "must be at least 5m");
    if (s->audience.n > AUDIENCES_MAX)
        PROBLEM("audience", "has %u entries; at most %d are possible", s->audience.n, AUDIENCES_MAX);
    for (uint32_t i = 0; i < s->audience.n; i++)
        if (!*s->audience.v[i] || strlen(s->audience.v[i]) > AUDIENCE_LENGTH_MAX) {
            CLEANUP_FREE char *at = mem_printf("audience[%u]", i);
            PROBLEM(at, "takes 1 to %d bytes", AUDIENCE_LENGTH_MAX);
        }
}

static bool takes_same_place(const struct secret_ref *a, const struct secret_ref *b)
{
    return (a->env && b->env && !strcmp(a->env, b->env)) || (a->file && b->file && !strcmp(a->file, b->file));
}

static void check_secrets(const struct service *s, const char *path, struct problem_list *problems)
{
    if (s->secrets.n > SECRETS_MAX) {
        PROBLEM("secrets", "has %u entries; at most %d are possible", s->secrets.n, SECRETS_MAX);
        return;
    }
    for (uint32_t i = 0; i < s->secrets.n; i++) {
        const struct secret_ref *ref = &s->secrets.v[i];
        CLEANUP_FREE char *at = mem_printf("%s.secrets[%u]", path, i);
        for (uint32_t k = 0; k < i; k++)
            if (takes_same_place(ref, &s->secrets.v[k]))
                problem_add(problems, at, "`%s` is taken by secrets[%u]", ref->env ? ref->env : ref->file, k);
        if (ref->env && (kv_get(&s->env, ref->env) || kv_get(&s->config.env, ref->env)))
            problem_add(problems, at, "`%s` stands under `env` too", ref->env);
        if (ref->file && s->identity.audience.n && s->identity.file && !strcmp(ref->file, s->identity.file))
            problem_add(problems, at, "`%s` is the file of `identity`", ref->file);
    }
}

static bool has_port(const struct service *s, const char *name)
{
    for (uint32_t i = 0; i < s->ports.n; i++)
        if (s->ports.v[i].name && !strcmp(s->ports.v[i].name, name))
            return true;
    return false;
}

static void check_port_name(const struct service *s, const char *name, const char *path, const char *key,
                            struct problem_list *problems)
{
    if (name && !has_port(s, name))
        PROBLEM(key, "the service has no port named `%.63s`: add it to `ports`", name);
}

/* ${port.NAME} and ${peers.NAME} must name ports of the service. */
static void check_references(const struct service *s, const char *text, const char *path, struct problem_list *problems)
{
    static const char *const families[] = {"${port.", "${peers."};
    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        for (const char *at = text; (at = strstr(at, families[i]));) {
            at += strlen(families[i]);
            size_t n = strcspn(at, "}");
            CLEANUP_FREE char *name = mem_strndup(at, n);
            if (!has_port(s, name))
                problem_add(problems, path, "%s%s} names a port that the service does not have: add it to `ports`",
                            families[i], name);
        }
}

static void check_texts(const struct service *s, const char *path, struct problem_list *problems)
{
    for (uint32_t i = 0; i < s->config.args.n; i++) {
        CLEANUP_FREE char *at = mem_printf("%s.config.args[%u]", path, i);
        check_references(s, s->config.args.v[i], at, problems);
    }
    for (uint32_t i = 0; i < s->config.env.n; i++) {
        CLEANUP_FREE char *at = mem_printf("%s.config.env.%s", path, s->config.env.v[i].key);
        check_references(s, s->config.env.v[i].value, at, problems);
    }
    for (uint32_t i = 0; i < s->env.n; i++) {
        CLEANUP_FREE char *at = mem_printf("%s.env.%s", path, s->env.v[i].key);
        check_references(s, s->env.v[i].value, at, problems);
    }
}

static void check_ports(const struct service *s, const char *path, struct problem_list *problems)
{
    if (s->ports.n > PORTS_MAX) {
        PROBLEM("ports", "has %u ports; at most %d are possible", s->ports.n, PORTS_MAX);
        return;
    }
    for (uint32_t i = 0; i < s->ports.n; i++)
        for (uint32_t k = 0; k < i; k++) {
            const struct port *a = &s->ports.v[i], *b = &s->ports.v[k];
            CLEANUP_FREE char *at = mem_printf("%s.ports[%u]", path, i);
            if (a->name && b->name && !strcmp(a->name, b->name))
                problem_add(problems, at, "the name `%s` is taken by ports[%u]", a->name, k);
            if (a->host && a->host == b->host && a->protocol == b->protocol)
                problem_add(problems, at, "host port %d is taken by ports[%u]", (int)a->host, k);
        }
}

static void check_mode(const struct service *s, const char *path, struct problem_list *problems)
{
    struct error err;
    if (s->schedule && s->mode != MODE_TASK)
        PROBLEM("schedule", "is for `mode: task`");
    else if (s->schedule && cron_check(s->schedule, &err) < 0)
        PROBLEM("schedule", "%s", err.text);
    else if (s->schedule && !cron_comes(s->schedule))
        PROBLEM("schedule", "`%.100s` never comes: its months have no such day", s->schedule);
    if (s->time_zone && !s->schedule)
        PROBLEM("time_zone", "is for services with a `schedule`");
    if (s->mode != MODE_SERVICE && s->count > 1)
        PROBLEM("count", s->mode == MODE_TASK ? "a task runs once: remove it" : "there is one replica on each node: remove it");
    if (s->mode == MODE_TASK && s->health.type != HEALTH_NONE)
        PROBLEM("health", "a task runs to completion and has no health check: remove it");
    if (s->mode == MODE_TASK && s->ingress.n)
        PROBLEM("ingress", "a task takes no traffic: remove it");
}

/* Both strategies start the new replicas beside the old ones. */
static void check_strategy(const struct service *s, const char *path, struct problem_list *problems)
{
    const char *name = enum_name(deploy_strategy_names, (int)s->deploy.strategy);
    if (s->deploy.analysis.window_secs && s->mode != MODE_TASK && !spec_takes_web(s))
        PROBLEM("deploy.analysis", "compares requests, of which the service gets none: add an `ingress` with `protocol: http`");
    if (s->deploy.strategy == STRATEGY_ROLLING)
        return;
    if (s->mode == MODE_EVERY_NODE)
        PROBLEM("deploy.strategy", "services with `mode: every-node` have one replica on each node, so there can be no second "
                "one beside it for `%s`: use `rolling`", name);
    if (s->mode == MODE_TASK)
        PROBLEM("deploy.strategy", "a task runs to completion and is not rolled out: remove it");
    if (spec_has_volume(s))
        PROBLEM("deploy.strategy", "with `%s` the new replicas run beside the old ones, and a volume has one user: use "
                "`rolling`, which stops each replica before its successor starts", name);
    for (uint32_t i = 0; i < s->ports.n; i++)
        if (s->ports.v[i].host)
            PROBLEM("deploy.strategy", "with `%s` the new replicas run beside the old ones, which hold port %d of their nodes: "
                    "use `rolling`, or leave the host port out", name, (int)s->ports.v[i].host);
}

static void check_driver(const struct service *s, const char *path, struct problem_list *problems)
{
    if (s->driver == DRIVER_EXEC && !s->config.command.n)
        PROBLEM("config.command", "is required: the program to run");
    else if (s->driver == DRIVER_EXEC && s->config.command.n > 1)
        PROBLEM("config.command", "is one program; its arguments go into `args`");
    else if (s->driver == DRIVER_EXEC && !is_absolute(s->config.command.v[0]))
        PROBLEM("config.command", "must be an absolute path");
    if ((s->driver == DRIVER_DOCKER || s->driver == DRIVER_FIRECRACKER) && !s->config.image)
        PROBLEM("config.image", "is required: what to run");
    static const enum driver_kind profile_drivers[] = {
        [PROFILE_FIRECRACKER] = DRIVER_FIRECRACKER, [PROFILE_DOCKER_HARDENED] = DRIVER_DOCKER,
        [PROFILE_DOCKER_LEGACY] = DRIVER_DOCKER, [PROFILE_EXEC_INTERNAL] = DRIVER_EXEC};
    enum driver_kind wanted = profile_drivers[s->security.profile];
    if (wanted && s->driver && wanted != s->driver)
        PROBLEM("security.profile", "`%s` is for the %s driver, not for %s",
                enum_name(security_profile_names, (int)s->security.profile), enum_name(driver_kind_names, (int)wanted),
                enum_name(driver_kind_names, (int)s->driver));
}

/* What cannot be in two machines cannot be in a memory that they share. */
static void check_snapshot(const struct service *s, const char *path, struct problem_list *problems)
{
    const struct { const char *what; bool there; } others[] = {
        {"volumes", spec_has_volume(s)}, {"secrets", service_has_secrets(s)},
        {"resources.disk_mb", s->resources.disk_mb > 0},
    };
    if (s->config.snapshot_signal && !s->config.snapshot)
        PROBLEM("config.snapshot_signal", "is for `config.snapshot: true`");
    for (size_t i = 0; s->config.snapshot && i < ARRAY_LEN(others); i++)
        if (others[i].there)
            PROBLEM("config.snapshot", "is not possible with `%s`", others[i].what);
}

static void check_after(const struct service *s, const char *path, struct problem_list *problems)
{
    if (s->after.n > AFTER_MAX)
        PROBLEM("after", "names %u services; at most %d are possible", s->after.n, AFTER_MAX);
}

/* Entries of a port share the proxy's way to it. */
static void check_limits(const struct service *s, uint32_t i, const char *path, struct problem_list *problems)
{
    const struct ingress *way = &s->ingress.v[i];
    for (uint32_t k = 0; k < i; k++) {
        const struct ingress *other = &s->ingress.v[k];
        if (!way->port || !other->port || strcmp(way->port, other->port) || way->protocol != other->protocol)
            continue;
        CLEANUP_FREE char *at = mem_printf("ingress[%u]", i);
        if (way->max_body_mb != other->max_body_mb || way->requests_per_second != other->requests_per_second) {
            PROBLEM(at, "has other limits than ingress[%u], which leads to the same port: give both the same `max_body_mb` and "
                    "`requests_per_second`", k);
            return;
        }
    }
}

void check_service(const void *object, const char *path, struct problem_list *problems)
{
    const struct service *s = object;
    check_driver(s, path, problems);
    check_snapshot(s, path, problems);
    check_mode(s, path, problems);
    check_strategy(s, path, problems);
    check_after(s, path, problems);
    check_ports(s, path, problems);
    check_texts(s, path, problems);
    check_secrets(s, path, problems);
    CLEANUP_FREE char *env = join(path, "env");
    check_env(&s->env, env, problems);
    if (s->spread && strcmp(s->spread, "node") && !is_attribute(s->spread))
        unknown_attribute(s->spread, path, "spread", problems);
    if (s->health.type == HEALTH_HTTP || s->health.type == HEALTH_TCP) {
        if (s->health.port)
            check_port_name(s, s->health.port, path, "health.port", problems);
        else if (s->ports.n != 1)
            PROBLEM("health.port", "is required: the name of the port to check");
    }
    for (uint32_t i = 0; i < s->ingress.n; i++) {
        CLEANUP_FREE char *at = mem_printf("ingress[%u].port", i);
        check_port_name(s, s->ingress.v[i].port, path, at, problems);
        check_limits(s, i, path, problems);
    }
}

/* --- jobs --- */

/* "/x/" is "/x". */
static size_t path_length(const char *path)
{
    size_t n = path ? strlen(path) : 0;
    while (n && path[n - 1] == '/')
        n--;
    return n;
}

bool ingress_same_way(const struct ingress *a, const struct ingress *b)
{
    if (a->protocol != b->protocol)
        return false;
    if (a->protocol == PROTOCOL_TCP)
        return a->listen == b->listen;
    size_t n = path_length(a->path);
    return a->host && b->host && !strcasecmp(a->host, b->host) && n == path_length(b->path)
           && !strncmp(a->path ? a->path : "", b->path ? b->path : "", n);
}

bool spec_takes_web(const struct service *spec)
{
    for (uint32_t i = 0; i < spec->ingress.n; i++)
        if (spec->ingress.v[i].protocol == PROTOCOL_HTTP)
            return true;
    return false;
}

/* The way in number k of service i, against all before it. */
static void check_way(const struct job *j, uint32_t i, uint32_t k, const char *path, struct problem_list *problems)
{
    const struct ingress *way = &j->services.v[i].ingress.v[k];
    for (uint32_t o = 0; o <= i; o++)
        for (uint32_t m = 0; m < j->services.v[o].ingress.n && (o < i || m < k); m++)
            if (ingress_same_way(way, &j->services.v[o].ingress.v[m])) {
                CLEANUP_FREE char *at = mem_printf("services[%u].ingress[%u]", i, k);
                PROBLEM(at, "is the same way in as services[%u].ingress[%u]: give it another host or path, or take one out", o,
                        m);
                return;
            }
}

/* Its index, or -1. */
static int64_t find_service(const struct job *j, const char *name)
{
    for (uint32_t i = 0; i < j->services.n; i++)
        if (j->services.v[i].name && !strcmp(j->services.v[i].name, name))
            return i;
    return -1;
}

static void check_names_after(const struct job *j, uint32_t i, const char *path, struct problem_list *problems)
{
    const struct service *s = &j->services.v[i];
    for (uint32_t k = 0; k < s->after.n; k++) {
        CLEANUP_FREE char *at = mem_printf("services[%u].after[%u]", i, k);
        int64_t other = find_service(j, s->after.v[k]);
        if (other < 0)
            PROBLEM(at, "the job has no service `%.63s`", s->after.v[k]);
        else if (j->services.v[other].schedule)
            PROBLEM(at, "`%s` runs by a schedule: there is nothing to wait for", s->after.v[k]);
    }
}

static bool can_start(const struct job *j, uint32_t i, const bool *started)
{
    const struct str_list *after = &j->services.v[i].after;
    for (uint32_t k = 0; k < after->n; k++) {
        int64_t other = find_service(j, after->v[k]);
        if (other >= 0 && !started[other])
            return false;
    }
    return true;
}

/* Among services of which none can start, each waits for another one: following that leads around a circle. */
static void tell_circle(const struct job *j, uint32_t i, const bool *started, const char *path, struct problem_list *problems)
{
    CLEANUP_BUF struct buf text = {0};
    CLEANUP_FREE char *at = NULL;
    int64_t first = -1;
    for (uint32_t step = 0; step < 2 * j->services.n && (int64_t)i != first; step++) {
        const struct service *s = &j->services.v[i];
        if (step == j->services.n) {              /* by now it is within the circle */
            first = i;
            at = mem_printf("services[%u].after", i);
        }
        if (first >= 0)
            buf_printf(&text, "%s%s waits for ", s->name, text.len ? ", which" : "");
        for (uint32_t k = 0; k < s->after.n; k++) {
            int64_t next = find_service(j, s->after.v[k]);
            if (next >= 0 && !started[next]) {
                i = (uint32_t)next;
                break;
            }
        }
    }
    PROBLEM(at, "%.400s%s, so that none of them would ever start", text.data, j->services.v[i].name);
}

static void check_order(const struct job *j, const char *path, struct problem_list *problems)
{
    CLEANUP_FREE bool *started = mem_array(j->services.n + 1, sizeof(bool));
    bool more = true;
    for (uint32_t i = 0; i < j->services.n; i++) {
        check_names_after(j, i, path, problems);
        started[i] = !j->services.v[i].name;
    }
    while (more) {
        more = false;
        for (uint32_t i = 0; i < j->services.n; i++)
            if (!started[i] && can_start(j, i, started))
                started[i] = more = true;
    }
    for (uint32_t i = 0; i < j->services.n; i++)
        if (!started[i]) {
            tell_circle(j, i, started, path, problems);
            return;
        }
}

void check_job(const void *object, const char *path, struct problem_list *problems)
{
    const struct job *j = object;
    if (j->services.n > SERVICES_MAX) {
        PROBLEM("services", "has %u services; at most %d are possible", j->services.n, SERVICES_MAX);
        return;
    }
    for (uint32_t i = 0; i < j->services.n; i++)
        for (uint32_t k = 0; k < i; k++)
            if (j->services.v[i].name && j->services.v[k].name && !strcmp(j->services.v[i].name, j->services.v[k].name)) {
                CLEANUP_FREE char *at = mem_printf("services[%u].name", i);
                PROBLEM(at, "the name `%s` is taken by services[%u]", j->services.v[i].name, k);
            }
    for (uint32_t i = 0; i < j->services.n; i++)
        for (uint32_t k = 0; k < j->services.v[i].ingress.n; k++)
            check_way(j, i, k, path, problems);
    check_order(j, path, problems);
}
