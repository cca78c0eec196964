/* One function for each part of a container's description. What later versions of the service will have differently is a
 * note; data that they will not find is a loss; what no service may have is an obstacle. */
#include "agent/drivers/docker_describe.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "model/profile.h"

#define MB (1ll << 20)
#define MS_IN_NS 1000000
#define SHARES_PER_CPU 1024.0
#define DEFAULT_SHM_BYTES (64 * MB)
#define MEMORY_GUESS_STEP_MB 64
#define ANONYMOUS_NAME_LEN 64        /* hexadecimal, as the engine names volumes by itself */

struct describe {
    const struct value *container, *image;
    const struct describe_facts *facts;
    struct service *s;
    struct found_container *out;
};

static __attribute__((format(printf, 2, 3))) void say(struct str_list *to, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    text_tame(text, false);
    str_list_add(to, text);
}

static const struct value *list_at(const struct value *v, const char *path)
{
    static const struct value none = {.kind = VALUE_LIST};
    const struct value *l = value_path(v, path);
    return l && l->kind == VALUE_LIST ? l : &none;
}

static const struct value *map_at(const struct value *v, const char *path)
{
    static const struct value none = {.kind = VALUE_MAP};
    const struct value *m = value_path(v, path);
    return m && m->kind == VALUE_MAP ? m : &none;
}

static const char *item_text(const struct value *list, uint32_t i)
{
    const struct value *v = &list->entries[i].value;
    return v->kind == VALUE_TEXT && v->text ? v->text : "";
}

static bool list_has(const struct value *list, const char *text)
{
    for (uint32_t i = 0; i < list->n; i++)
        if (!strcmp(item_text(list, i), text))
            return true;
    return false;
}

static bool lists_equal(const struct value *a, const struct value *b)
{
    bool equal = a->n == b->n;
    for (uint32_t i = 0; equal && i < a->n; i++)
        equal = !strcmp(item_text(a, i), item_text(b, i));
    return equal;
}

static void add_literals(struct str_list *to, const struct value *list)
{
    for (uint32_t i = 0; i < list->n; i++) {
        CLEANUP_FREE char *text = value_literal(item_text(list, i));
        str_list_add(to, text);
    }
}

/* --- what it may --- */

/* Paths of the host that are the host itself, and not somebody's data; but for what only tells its time zone. */
static bool is_system_path(const char *path)
{
    static const char *const folders[] = {"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root",
                                          "/run", "/sbin", "/sys", "/usr", "/var/lib/docker", "/var/lib/mentat", "/var/run"};
    static const char *const harmless[] = {"/etc/localtime", "/etc/timezone"};
    const char *last = strrchr(path, '/');
    for (size_t i = 0; i < ARRAY_LEN(harmless); i++)
        if (!strcmp(path, harmless[i]))
            return false;
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        size_t n = strlen(folders[i]);
        if (!strncmp(path, folders[i], n) && (!path[n] || path[n] == '/'))
            return true;
    }
    return !strcmp(path, "/") || (last && (!strcmp(last, "/docker.sock") || !strcmp(last, "/containerd.sock")));
}

/* The first of its mounts that is a part of the host itself; NULL. */
static const char *system_mount(const struct value *c)
{
    const struct value *mounts = list_at(c, "Mounts");
    for (uint32_t i = 0; i < mounts->n; i++) {
        const struct value *m = &mounts->entries[i].value;
        const char *type = value_text(m, "Type"), *source = value_text(m, "Source");
        if (type && !strcmp(type, "bind") && source && is_system_path(source))
            return source;
    }
    return NULL;
}

/* What no profile allows; the caller frees it. NULL: nothing of the kind. */
static char *beyond_profiles(const struct value *c)
{
    static const struct { const char *path, *value, *text; } shared[] = {
        {"HostConfig/NetworkMode", "host", "uses the host's network"},
        {"HostConfig/NetworkMode", "container:", "shares another container's network"},
        {"HostConfig/PidMode", "host", "sees the host's processes"},
        {"HostConfig/PidMode", "container:", "sees another container's processes"},
        {"HostConfig/IpcMode", "host", "shares the host's memory segments"},
        {"HostConfig/IpcMode", "container:", "shares another container's memory segments"},
        {"HostConfig/UTSMode", "host", "has the host's name for its own"},
        {"HostConfig/UsernsMode", "host", "is outside of the engine's user namespace"},
    };
    static const struct { const char *path, *text; } lists[] = {
        {"HostConfig/Devices", "has devices of the host"},
        {"HostConfig/DeviceRequests", "has devices of the host"},
        {"HostConfig/DeviceCgroupRules", "has devices of the host"},
    };
    if (value_true(c, "HostConfig/Privileged"))
        return mem_strdup("is privileged");
    for (size_t i = 0; i < ARRAY_LEN(shared); i++) {
        const char *mode = value_text(c, shared[i].path);
        if (mode && text_has_prefix(mode, shared[i].value))
            return mem_strdup(shared[i].text);
    }
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        if (list_at(c, lists[i].path)->n)
            return mem_strdup(lists[i].text);
    const struct value *options = list_at(c, "HostConfig/SecurityOpt"), *masked = value_path(c, "HostConfig/MaskedPaths");
    for (uint32_t i = 0; i < options->n; i++) {
        const char *option = item_text(options, i);
        if (text_has_prefix(option, "seccomp") || strstr(option, "unconfined") || strstr(option, "disable"))
            return mem_printf("was made with the security option %.60s", option);
    }
    if (masked && !(masked->kind == VALUE_LIST && masked->n))
        return mem_strdup("sees the paths of /proc that others are kept from");
    if (list_has(list_at(c, "HostConfig/CapAdd"), "ALL"))
        return mem_strdup("has every capability of the kernel");
    return system_mount(c) ? mem_printf("has %.100s of the host", system_mount(c)) : NULL;
}

/* "NET_ADMIN" of "CAP_NET_ADMIN". */
static const char *bare(const char *capability)
{
    return text_has_prefix(capability, "CAP_") ? capability + 4 : capability;
}

static bool names_capability(const struct value *list, const char *name)
{
    for (uint32_t i = 0; i < list->n; i++)
        if (!strcmp(bare(item_text(list, i)), name) || !strcmp(item_text(list, i), "ALL"))
            return true;
    return false;
}

/* What the engine made of its own list, what was added and what was dropped. */
static void capabilities_of(const struct value *c, struct str_list *out)
{
    const struct privileges *legacy = &profile_of(DRIVER_DOCKER, PROFILE_DOCKER_LEGACY)->may;
    const struct value *added = list_at(c, "HostConfig/CapAdd"), *dropped = list_at(c, "HostConfig/CapDrop");
    for (uint32_t i = 0; i < legacy->n_capabilities; i++)
        if (!names_capability(dropped, legacy->capabilities[i]))
            str_list_add(out, legacy->capabilities[i]);
    for (uint32_t i = 0; i < added->n; i++) {
        bool there = false;
        const char *name = bare(item_text(added, i));
        for (uint32_t k = 0; k < out->n; k++)
            there |= !strcmp(out->v[k], name);
        if (!there)
            str_list_add(out, name);
    }
}

/* 1: a number other than 0; 0: root; -1: a name that only its image knows. */
static int user_kind(const char *user)
{
    size_t n = strcspn(user, ":");
    if (!n || (n == 4 && !strncmp(user, "root", 4)) || strspn(user, "0") == n)
        return 0;
    return strspn(user, "0123456789") == n ? 1 : -1;
}

static bool may_gain(const struct value *c)
{
    const struct value *options = list_at(c, "HostConfig/SecurityOpt");
    return !list_has(options, "no-new-privileges") && !list_has(options, "no-new-privileges:true") &&
           !list_has(options, "no-new-privileges=true");
}

static const char *user_of(const struct value *v)
{
    const char *user = value_text(v, "Config/User");
    return user ? user : "";
}

int docker_describe_allowed(const struct value *c, const struct privileges *may, struct error *err)
{
    CLEANUP_FREE char *beyond = beyond_profiles(c);
    if (beyond)
        return error_set(err, ERROR_DENIED, "the container %s, which no profile allows", beyond);
    const char *network = value_text(c, "HostConfig/NetworkMode"), *missing = NULL;
    if (!may->root && user_kind(user_of(c)) < 1)
        missing = "root";
    else if (!may->writable_root && !value_true(c, "HostConfig/ReadonlyRootfs"))
        missing = "writable_root";
    else if (!may->new_privileges && may_gain(c))
        missing = "new_privileges";
    else if (!may->any_network && network && strcmp(network, "none"))
        missing = "any_network";
    else if (!may->engine_seccomp)
        missing = "engine_seccomp";
    struct str_list capabilities = {0};
    capabilities_of(c, &capabilities);
    for (uint32_t i = 0; !missing && i < capabilities.n; i++) {
        bool allowed = false;
        for (uint32_t k = 0; k < may->n_capabilities; k++)
            allowed |= !strcmp(may->capabilities[k], capabilities.v[i]);
        missing = allowed ? NULL : "capabilities";
    }
    str_list_clear(&capabilities);
    return missing ? error_set(err, ERROR_DENIED, "the container has more than its service may: security.%s", missing) : 0;
}

static void describe_security(struct describe *d)
{
    const struct value *c = d->container;
    struct security *sec = &d->s->security;
    const struct privileges *legacy = &profile_of(DRIVER_DOCKER, PROFILE_DOCKER_LEGACY)->may;
    CLEANUP_FREE char *beyond = beyond_profiles(c);
    if (beyond)
        say(&d->out->obstacles, "it %s, which no security profile allows", beyond);
    sec->profile = PROFILE_DOCKER_LEGACY;
    if (user_kind(user_of(c)) == 1)
        mem_set_string(&sec->root, "false");
    if (value_true(c, "HostConfig/ReadonlyRootfs"))
        mem_set_string(&sec->writable_root, "false");
    if (!may_gain(c))
        mem_set_string(&sec->new_privileges, "false");
    struct str_list capabilities = {0};
    capabilities_of(c, &capabilities);
    bool same = capabilities.n == legacy->n_capabilities;
    for (uint32_t i = 0; same && i < capabilities.n; i++)
        same = !strcmp(capabilities.v[i], legacy->capabilities[i]);
    if (!same && !capabilities.n)
        str_list_add(&sec->capabilities, "none");
    for (uint32_t i = 0; !same && i < capabilities.n; i++)
        str_list_add(&sec->capabilities, capabilities.v[i]);
    str_list_clear(&capabilities);
}

/* --- what it runs --- */

static void describe_image(struct describe *d)
{
    const char *name = value_text(d->container, "Config/Image");
    const struct value *tags = list_at(d->image, "RepoTags"), *digests = list_at(d->image, "RepoDigests");
    if (!name || text_has_prefix(name, "sha256:") || strspn(name, "0123456789abcdef") == strlen(name))
        name = tags->n ? item_text(tags, 0) : digests->n ? item_text(digests, 0) : NULL;
    if (!name) {
        say(&d->out->obstacles, "its image has no name: give it one (`docker tag`)");
        return;
    }
    mem_set_string(&d->s->config.image, name);
    CLEANUP_FREE char *latest = mem_printf("%s:latest", name);
    if (!list_has(tags, name) && !list_has(tags, latest) && !list_has(digests, name))
        say(&d->out->notes, "the name %s means another image by now: later versions run that one", name);
}

static void describe_command(struct describe *d)
{
    struct config *config = &d->s->config;
    const struct value *entry = list_at(d->container, "Config/Entrypoint"), *cmd = list_at(d->container, "Config/Cmd");
    bool same_entry = lists_equal(entry, list_at(d->image, "Config/Entrypoint"));
    if (!same_entry)
        add_literals(&config->entrypoint, entry);
    if (!same_entry || !lists_equal(cmd, list_at(d->image, "Config/Cmd")))
        add_literals(&config->command, cmd);
    const char *workdir = value_text(d->container, "Config/WorkingDir"), *theirs = value_text(d->image, "Config/WorkingDir");
    if (workdir && *workdir && strcmp(workdir, theirs ? theirs : ""))
        mem_set_string(&config->workdir, workdir);
    if (strcmp(user_of(d->container), user_of(d->image)))
        mem_set_string(&config->user, *user_of(d->container) ? user_of(d->container) : "0");
}

static void describe_env(struct describe *d)
{
    const struct value *env = list_at(d->container, "Config/Env"), *theirs = list_at(d->image, "Config/Env");
    for (uint32_t i = 0; i < env->n; i++) {
        const char *pair = item_text(env, i), *equals = strchr(pair, '=');
        if (!equals || equals == pair || list_has(theirs, pair))
            continue;
        CLEANUP_FREE char *key = mem_strndup(pair, (size_t)(equals - pair)), *value = value_literal(equals + 1);
        kv_set(&d->s->config.env, key, value);
    }
}

static int64_t ms_or(const struct value *health, const char *key, int64_t otherwise)
{
    int64_t ns = value_number(health, key);
    return ns > 0 ? (ns + MS_IN_NS - 1) / MS_IN_NS : otherwise;
}

static void describe_health(struct describe *d)
{
    const struct value *check = value_path(d->container, "Config/Healthcheck"), *test = list_at(check, "Test");
    struct health *h = &d->s->health;
    const char *kind = test->n ? item_text(test, 0) : "";
    bool shell = !strcmp(kind, "CMD-SHELL");
    if (test->n < 2 || (!shell && strcmp(kind, "CMD")))
        return;
    if (shell) {
        str_list_add(&h->command, "/bin/sh");
        str_list_add(&h->command, "-c");
    }
    for (uint32_t i = 1; i < test->n; i++) {
        CLEANUP_FREE char *word = value_literal(item_text(test, i));
        str_list_add(&h->command, word);
    }
    h->type = HEALTH_EXEC;
    h->interval_ms = ms_or(check, "Interval", 30000);
    h->timeout_ms = ms_or(check, "Timeout", 30000);
    if (h->timeout_ms > h->interval_ms)
        h->timeout_ms = h->interval_ms;
    h->grace_ms = ms_or(check, "StartPeriod", 0);
    h->unhealthy = value_number(check, "Retries") > 0 ? value_number(check, "Retries") : 3;
    int64_t patience = (h->grace_ms + h->interval_ms + h->timeout_ms + 999) / 1000;
    if (patience > d->s->deploy.health_timeout_secs)
        d->s->deploy.health_timeout_secs = patience;
}

static void describe_end(struct describe *d)
{
    const struct value *c = d->container;
    const char *signal = value_text(c, "Config/StopSignal"), *policy = value_text(c, "HostConfig/RestartPolicy/Name");
    if (signal && *signal)
        mem_set_string(&d->s->kill.signal, signal);
    if (value_path(c, "Config/StopTimeout") && value_path(c, "Config/StopTimeout")->kind == VALUE_NUMBER)
        d->s->kill.timeout_ms = value_number(c, "Config/StopTimeout") * 1000;
    if (policy && !strcmp(policy, "on-failure") && value_number(c, "HostConfig/RestartPolicy/MaximumRetryCount") > 0)
        d->s->restart.attempts = value_number(c, "HostConfig/RestartPolicy/MaximumRetryCount");
    if (policy && *policy && strcmp(policy, "no"))
        say(&d->out->notes, "the engine's own restart policy (%.40s) is switched off: Mentat restarts it, by `restart`", policy);
    if (value_true(c, "HostConfig/AutoRemove"))
        say(&d->out->notes, "the engine removes it when it ends (--rm): how it ends is lost when no agent is there to see it");
}

/* --- what it uses --- */

static void describe_limits(struct describe *d)
{
    const struct value *c = d->container, *ulimits = list_at(c, "HostConfig/Ulimits");
    struct resources *r = &d->s->resources;
    int64_t memory = value_number(c, "HostConfig/Memory"), shares = value_number(c, "HostConfig/CpuShares");
    int64_t nano = value_number(c, "HostConfig/NanoCpus"), quota = value_number(c, "HostConfig/CpuQuota");
    int64_t period = value_number(c, "HostConfig/CpuPeriod");
    if (memory > 0) {
        r->memory_mb = (memory + MB - 1) / MB;
    } else {
        int64_t guess = 2 * d->facts->memory_bytes / MB;
        r->memory_mb = (guess / MEMORY_GUESS_STEP_MB + 1) * MEMORY_GUESS_STEP_MB;
        say(&d->out->notes, "it has no memory limit: memory_mb is a guess (twice what it uses now), and holds from the next "
            "version on");
    }
    if (nano > 0)
        r->cpu_max = (double)nano / 1e9;
    else if (quota > 0)
        r->cpu_max = (double)quota / (double)(period > 0 ? period : 100000);
    if (shares > 0)
        r->cpus = (double)shares / SHARES_PER_CPU;
    if (r->cpu_max > 0 && r->cpus > r->cpu_max)
        r->cpus = r->cpu_max;
    if (value_number(c, "HostConfig/PidsLimit") > 0)
        r->pids = value_number(c, "HostConfig/PidsLimit");
    for (uint32_t i = 0; i < ulimits->n; i++) {
        const struct value *u = &ulimits->entries[i].value;
        CLEANUP_FREE char *pair = mem_printf("%" PRId64 ":%" PRId64, value_number(u, "Soft"), value_number(u, "Hard"));
        if (value_text(u, "Name"))
            kv_set(&d->s->config.ulimits, value_text(u, "Name"), pair);
    }
}

static void add_port(struct describe *d, const char *key, const struct value *bindings)
{
    int inside = 0;
    char protocol[8] = "";
    const struct value *first = bindings->n ? &bindings->entries[0].value : NULL;
    if (!first || sscanf(key, "%d/%7s", &inside, protocol) != 2)
        return;
    const char *host = value_text(first, "HostPort"), *ip = value_text(first, "HostIp");
    if (strcmp(protocol, "tcp") && strcmp(protocol, "udp")) {
        say(&d->out->notes, "port %.40s is not published by later versions: only tcp and udp are", key);
        return;
    }
    struct port *p = list_add((struct list *)(void *)&d->s->ports, &port_type);
    p->protocol = !strcmp(protocol, "udp") ? PROTOCOL_UDP : PROTOCOL_TCP;
    p->name = mem_printf("%s%d", p->protocol == PROTOCOL_UDP ? "udp" : "p", inside);
    p->port = inside;
    p->host = host ? atoi(host) : 0;
    if (ip && *ip && strcmp(ip, "0.0.0.0") && strcmp(ip, "::") && (!d->facts->ip || strcmp(ip, d->facts->ip)))
        say(&d->out->notes, "port %.40s is published at %.60s now, by later versions at the node's address %s", key, ip,
            d->facts->ip ? d->facts->ip : "(each one)");
    for (uint32_t i = 1; i < bindings->n; i++) {
        const char *other = value_text(&bindings->entries[i].value, "HostPort");
        if (other && host && strcmp(other, host))
            say(&d->out->notes, "port %.40s is published at host port %.8s too, which later versions do not do", key, other);
    }
}

static void describe_network(struct describe *d)
{
    const char *mode = value_text(d->container, "HostConfig/NetworkMode");
    const struct value *ports = map_at(d->container, "NetworkSettings/Ports");
    const struct value *networks = map_at(d->container, "NetworkSettings/Networks");
    for (uint32_t i = 0; i < ports->n; i++)
        if (ports->entries[i].value.kind == VALUE_LIST)
            add_port(d, ports->entries[i].key, &ports->entries[i].value);
    bool by_name = mode && (!strcmp(mode, "none") || value_get(networks, mode));
    if (!mode || !*mode || !strcmp(mode, "default"))
        mem_set_string(&d->s->config.network, "bridge");
    else if (by_name || !networks->n)
        mem_set_string(&d->s->config.network, mode);
    else
        mem_set_string(&d->s->config.network, networks->entries[0].key);
    for (uint32_t i = 0; i < networks->n; i++)
        if (strcmp(networks->entries[i].key, d->s->config.network))
            say(&d->out->notes, "it is in the network %.60s too; later versions are in %.60s alone", networks->entries[i].key,
                d->s->config.network);
}

static bool is_anonymous(const char *name)
{
    return strlen(name) == ANONYMOUS_NAME_LEN && strspn(name, "0123456789abcdef") == ANONYMOUS_NAME_LEN;
}

/* Replica 0 of a service has SOURCE/0. */
static bool add_volume(struct describe *d, const char *source, const char *target, bool read_only)
{
    size_t root = strlen(d->facts->volume_root), n = strlen(source);
    if (n < root + 4 || strncmp(source, d->facts->volume_root, root) || source[root] != '/' || strcmp(source + n - 2, "/0"))
        return false;
    struct volume *v = list_add((struct list *)(void *)&d->s->volumes, &volume_type);
    v->source = mem_strndup(source, n - 2);
    v->target = mem_strdup(target);
    v->read_only = read_only;
    return true;
}

static void describe_mounts(struct describe *d)
{
    const struct value *mounts = list_at(d->container, "Mounts"), *tmpfs = map_at(d->container, "HostConfig/Tmpfs");
    for (uint32_t i = 0; i < mounts->n; i++) {
        const struct value *m = &mounts->entries[i].value;
        const char *type = value_text(m, "Type"), *source = value_text(m, "Source"), *target = value_text(m, "Destination");
        const char *name = value_text(m, "Name");
        if (!type || !target || !strcmp(type, "tmpfs"))
            continue;
        if (!strcmp(type, "bind") && source && add_volume(d, source, target, !value_true(m, "RW")))
            continue;
        else if (name && is_anonymous(name))
            say(&d->out->losses, "what is in %.100s, which is in a volume without a name (%.12s)", target, name);
        else if (name)
            say(&d->out->losses, "what is in %.100s, which is in the engine's volume %.60s", target, name);
        else
            say(&d->out->losses, "what is in %.100s, which is %.100s of the host: a service has directories SOURCE/<replica> "
                "below %s", target, source ? source : "?", d->facts->volume_root);
    }
    for (uint32_t i = 0; i < tmpfs->n; i++) {
        const char *options = tmpfs->entries[i].value.text, *size = options ? strstr(options, "size=") : NULL;
        char *end = NULL;
        int64_t n = size ? strtoll(size + 5, &end, 10) : 0;
        int64_t bytes = !end ? 0 : tolower((unsigned char)*end) == 'g' ? n * 1024 * MB : tolower((unsigned char)*end) == 'm' ? n * MB
                      : tolower((unsigned char)*end) == 'k' ? n * 1024 : n;
        if (!strcmp(tmpfs->entries[i].key, "/tmp") && bytes >= MB && bytes < 1 << 30)
            d->s->security.tmpfs_mb = bytes / MB;
        else
            say(&d->out->notes, "%.60s is in memory now, and not in later versions", tmpfs->entries[i].key);
    }
}

/* --- what a service has no word for --- */

static void describe_rest(struct describe *d)
{
    static const struct { const char *path, *what; } lists[] = {
        {"HostConfig/Dns", "name servers of its own"}, {"HostConfig/DnsSearch", "name suffixes of its own"},
        {"HostConfig/ExtraHosts", "names in /etc/hosts"}, {"HostConfig/GroupAdd", "more groups"},
        {"HostConfig/Links", "links to other containers"}, {"HostConfig/VolumesFrom", "volumes of another container"},
        {"HostConfig/Sysctls", "settings of the kernel (sysctls)"},
    };
    const struct value *c = d->container, *labels = map_at(c, "Config/Labels"), *theirs = map_at(d->image, "Config/Labels");
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        const struct value *v = value_path(c, lists[i].path);
        if (v && v->n)
            say(&d->out->notes, "later versions do not have its %s (%s)", lists[i].what, strchr(lists[i].path, '/') + 1);
    }
    if (value_true(c, "HostConfig/Init"))
        say(&d->out->notes, "later versions do not have the engine's init process (Init)");
    if (value_number(c, "HostConfig/ShmSize") > DEFAULT_SHM_BYTES)
        say(&d->out->notes, "later versions have 64 MB in /dev/shm (ShmSize)");
    if (value_text(c, "HostConfig/CpusetCpus") && *value_text(c, "HostConfig/CpusetCpus"))
        say(&d->out->notes, "later versions run on every processor (CpusetCpus)");
    uint32_t own = 0;
    for (uint32_t i = 0; i < labels->n; i++)
        own += value_get(theirs, labels->entries[i].key) == NULL;
    if (own)
        say(&d->out->notes, "later versions do not have its %u label%s", own, own == 1 ? "" : "s");
    if (value_get(labels, "com.docker.compose.project"))
        say(&d->out->notes, "Docker Compose made it: take it out of its compose file, or `docker compose up` makes another one");
    if (value_get(labels, "com.docker.swarm.service.id"))
        say(&d->out->obstacles, "it belongs to a swarm, which would make another one");
    if (value_get(labels, "mentat.agent"))
        say(&d->out->obstacles, "it is an agent's of Mentat already");
    const char *driver = value_text(c, "HostConfig/LogConfig/Type"), *status = value_text(c, "State/Status");
    if (driver && !strcmp(driver, "none"))
        say(&d->out->obstacles, "its log driver is `none`: nothing of what it writes can be read");
    if (!status || strcmp(status, "running"))
        say(&d->out->obstacles, "it does not run (%.40s): start it, or write a services.yaml", status ? status : "?");
}

static void describe_place(struct describe *d)
{
    struct constraint *c = list_add((struct list *)(void *)&d->s->constraints, &constraint_type);
    mem_set_string(&c->attribute, "node.name");
    str_list_add(&c->value, d->facts->node);
}

int docker_describe(const struct value *container, const struct value *image, const struct describe_facts *facts,
                    struct found_container *out, struct error *err)
{
    type_init(&found_container_type, out);
    const char *id = value_text(container, "Id"), *name = value_text(container, "Name");
    if (!id || !name || value_path(container, "HostConfig") == NULL || value_path(container, "Config") == NULL)
        return error_set(err, ERROR_CORRUPT, "the Docker engine's description of the container is not understood");
    mem_set_string(&out->id, id);
    mem_set_string(&out->name, name + (*name == '/'));
    out->job.name = text_make_name(out->name, "container");
    struct describe d = {.container = container, .image = image, .facts = facts, .out = out};
    d.s = list_add((struct list *)(void *)&out->job.services, &service_type);
    d.s->name = mem_strdup(out->job.name);
    d.s->driver = DRIVER_DOCKER;
    static void (*const parts[])(struct describe *d) = {
        describe_security, describe_image, describe_command, describe_env, describe_health, describe_end, describe_limits,
        describe_network, describe_mounts, describe_place, describe_rest,
    };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        parts[i](&d);
    struct problem_list problems = {0};
    type_validate(&job_type, &out->job, "", &problems);
    for (uint32_t i = 0; i < problems.n; i++)
        say(&out->obstacles, "it cannot be written as a service: %s: %s", problems.v[i].path, problems.v[i].message);
    problem_list_clear(&problems);
    return 0;
}
