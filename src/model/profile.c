#include "model/profile.h"

#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "model/checks.h"
#include "model/namespace.h"

extern const struct type policy_profile_type;

/* What Docker gives containers by itself. */
static const char *const engine_capabilities[] = {
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
};

/* A virtual machine and a process of the host are not confined by these: their rows allow everything. */
#define UNCONFINED .root = true, .writable_root = true, .new_privileges = true, .any_network = true, .any_volume = true, \
                   .engine_seccomp = true

static const struct profile profiles[] = {
    [PROFILE_FIRECRACKER] = {
        .name = "firecracker", .driver = DRIVER_FIRECRACKER,
        .help = "A virtual machine of its own: the kernel that the task sees is not the host's.",
        .may = {UNCONFINED},
    },
    [PROFILE_DOCKER_HARDENED] = {
        .name = "docker-hardened", .driver = DRIVER_DOCKER,
        .help = "A container that cannot harm its host or its neighbours when its program is taken over.",
        .may = {.tmpfs_mb = 64, .pids = 512},
    },
    [PROFILE_DOCKER_LEGACY] = {
        .name = "docker-legacy", .driver = DRIVER_DOCKER,
        .help = "A container as Docker itself runs them, for images that need root or write to their own files.",
        .named = true,
        .may = {UNCONFINED, .capabilities = engine_capabilities, .n_capabilities = ARRAY_LEN(engine_capabilities),
                .pids = 4096},
    },
    [PROFILE_EXEC_INTERNAL] = {
        .name = "exec-internal", .driver = DRIVER_EXEC,
        .help = "A process of the host within its limits, for programs that are trusted as the host is.",
        .named = true,
        .may = {UNCONFINED},
    },
};

const struct profile *profile_of(enum driver_kind driver, enum security_profile profile)
{
    static const enum security_profile defaults[] = {
        [DRIVER_NONE] = PROFILE_EXEC_INTERNAL, [DRIVER_FIRECRACKER] = PROFILE_FIRECRACKER,
        [DRIVER_DOCKER] = PROFILE_DOCKER_HARDENED, [DRIVER_EXEC] = PROFILE_EXEC_INTERNAL,
    };
    return &profiles[profile == PROFILE_DEFAULT ? defaults[driver] : profile];
}

/* --- privileges that are either there or not --- */

static const struct flag { const char *name; size_t may, wish; const char *help; } flags[] = {
#define FLAG(name, help) {#name, offsetof(struct privileges, name), offsetof(struct security, name), help}
    FLAG(root, "Run as root."),
    FLAG(writable_root, "Write to its own root file system."),
    FLAG(new_privileges, "Gain privileges by set-user-ID programs and file capabilities."),
    FLAG(any_network, "Join a named network; else the network of its job, or `none`."),
    FLAG(any_volume, "Use directories below the volume root that are not named after the service."),
    FLAG(engine_seccomp, "Make every system call that Docker's own filter lets through; else those of the strict filter."),
};

#define TMPFS "tmpfs_mb"
#define PIDS "pids"
#define CAPABILITIES "capabilities"

const char *const privilege_names[] = {"root", "writable_root", "new_privileges", "any_network", "any_volume",
                                       "engine_seccomp", TMPFS, PIDS, NULL};

static bool *flag_at(const struct flag *f, struct privileges *p)
{
    return (bool *)(void *)((char *)p + f->may);
}

/* "true", "false", or NULL: as the profile has it. */
static const char *wish_at(const struct flag *f, const struct security *s)
{
    return *(char *const *)(const void *)((const char *)s + f->wish);
}

void privileges_of(const struct service *s, struct privileges *out)
{
    *out = profile_of(s->driver, s->security.profile)->may;
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        const char *wish = wish_at(&flags[i], &s->security);
        if (wish)
            *flag_at(&flags[i], out) = !strcmp(wish, "true");
    }
    if (s->security.capabilities.n) {
        bool none = !strcmp(s->security.capabilities.v[0], "none");
        out->capabilities = (const char *const *)s->security.capabilities.v;
        out->n_capabilities = none ? 0 : s->security.capabilities.n;
    }
    if (s->security.tmpfs_mb)
        out->tmpfs_mb = s->security.tmpfs_mb;
    if (s->resources.pids)
        out->pids = s->resources.pids;
}

static bool has_capability(const struct privileges *p, const char *name)
{
    for (uint32_t i = 0; i < p->n_capabilities; i++)
        if (!strcmp(p->capabilities[i], name))
            return true;
    return false;
}

void privileges_loosened(const struct service *s, struct str_list *out)
{
    struct privileges base = profile_of(s->driver, s->security.profile)->may, now;
    if (s->driver != DRIVER_DOCKER)
        return;
    privileges_of(s, &now);
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (*flag_at(&flags[i], &now) && !*flag_at(&flags[i], &base))
            str_list_add(out, flags[i].name);
    if (base.tmpfs_mb && now.tmpfs_mb > base.tmpfs_mb)
        str_list_add(out, TMPFS);
    if (base.pids && now.pids > base.pids)
        str_list_add(out, PIDS);
    for (uint32_t i = 0; i < now.n_capabilities; i++)
        if (!has_capability(&base, now.capabilities[i])) {
            CLEANUP_FREE char *name = mem_printf(CAPABILITIES ".%s", now.capabilities[i]);
            str_list_add(out, name);
        }
}

/* --- checks --- */

static bool names_root(const char *user)
{
    size_t n = strcspn(user, ":");
    return (n == 4 && !strncmp(user, "root", 4)) || (n && strspn(user, "0") == n);
}

int security_check(const struct service *s, struct error *err)
{
    const char *network = s->config.network, *profile = profile_of(s->driver, s->security.profile)->name;
    struct privileges may;
    privileges_of(s, &may);
    if (s->driver != DRIVER_DOCKER)
        return 0;
    if (network && (!strcmp(network, "host") || text_has_prefix(network, "container:")))
        return error_set(err, ERROR_DENIED, "service %s: config.network: `%s` shares a network that is not the task's own, "
                         "which no profile allows", s->name, network);
    if (network && strcmp(network, "none") && !may.any_network)
        return error_set(err, ERROR_DENIED, "service %s: config.network: profile %s gives a task the network of its job, or "
                         "`none`; for `%s` set security.profile: docker-legacy, or security.any_network where the policy "
                         "allows it", s->name, profile, network);
    if (s->config.user && names_root(s->config.user) && !may.root)
        return error_set(err, ERROR_DENIED, "service %s: config.user: profile %s does not allow root; set another user, "
                         "security.profile: docker-legacy, or security.root where the policy allows it", s->name, profile);
    return 0;
}

static bool pattern_matches(const char *pattern, const char *word)
{
    size_t n = strlen(pattern);
    bool open = n && pattern[n - 1] == '*';
    return open ? !strncmp(pattern, word, n - 1) : !strcmp(pattern, word);
}

bool policy_matches(const struct str_list *patterns, const char *word)
{
    for (uint32_t i = 0; i < patterns->n; i++)
        if (pattern_matches(patterns->v[i], word))
            return true;
    return false;
}

/* The beginning of a service's name is not that of a namespace's. */
bool policy_matches_service(const struct str_list *patterns, const char *service)
{
    for (uint32_t i = 0; i < patterns->n; i++) {
        const char *pattern = patterns->v[i];
        if (pattern_matches(pattern, service) && (!strcmp(pattern, "*") || namespace_same(pattern, service)))
            return true;
    }
    return false;
}

void policy_restricted(struct policy *p)
{
    type_init(&policy_type, p);
    for (size_t k = PROFILE_FIRECRACKER; k < ARRAY_LEN(profiles); k++) {
        if (!profiles[k].named)
            continue;
        struct policy_profile *named = list_add((struct list *)(void *)&p->profiles, &policy_profile_type);
        mem_set_string(&named->name, profiles[k].name);
    }
}

/* "pids:4096": as many at most. */
static bool bound_allows(const char *rule, const char *privilege, int64_t amount)
{
    size_t n = strlen(privilege);
    return amount && !strncmp(rule, privilege, n) && rule[n] == ':' && strtoll(rule + n + 1, NULL, 10) >= amount;
}

/* amount: how much of it, where it is a number; else 0. */
static bool allows(const struct policy *p, const char *service, const char *privilege, int64_t amount)
{
    for (uint32_t i = 0; i < p->exceptions.n; i++) {
        const struct policy_exception *e = &p->exceptions.v[i];
        bool allowed = policy_matches(&e->allow, privilege);
        for (uint32_t k = 0; k < e->allow.n && !allowed; k++)
            allowed = bound_allows(e->allow.v[k], privilege, amount);
        if (allowed && policy_matches_service(&e->services, service))
            return true;
    }
    return false;
}

int policy_check(const struct policy *p, const struct service *s, struct error *err)
{
    const struct profile *profile = profile_of(s->driver, s->security.profile);
    for (uint32_t i = 0; i < p->profiles.n; i++)
        if (!strcmp(p->profiles.v[i].name, profile->name) && !policy_matches_service(&p->profiles.v[i].services, s->name))
            return error_set(err, ERROR_DENIED, "service %s: the cluster's policy does not let it use profile %s; what would: "
                             "profiles: [{name: %s, services: [%s]}], see `mt policy get` and `mt policy set`", s->name,
                             profile->name, profile->name, s->name);
    struct str_list loosened = {0};
    int result = 0;
    struct privileges now;
    privileges_of(s, &now);
    privileges_loosened(s, &loosened);
    for (uint32_t i = 0; result == 0 && i < loosened.n; i++) {
        const char *what = loosened.v[i];
        int64_t amount = !strcmp(what, PIDS) ? now.pids : !strcmp(what, TMPFS) ? now.tmpfs_mb : 0;
        CLEANUP_FREE char *rule = amount ? mem_printf("\"%s:%lld\"", what, (long long)amount) : mem_strdup(what);
        if (!allows(p, s->name, what, amount))
            result = error_set(err, ERROR_DENIED, "service %s: %s goes beyond profile %s, and the cluster's policy has no "
                               "exception for it; what would allow it: exceptions: [{services: [%s], allow: [%s]}], see `mt "
                               "policy get` and `mt policy set`", s->name, what, profile->name, s->name, rule);
    }
    str_list_clear(&loosened);
    return result;
}

/* --- what users write: the types' own checks --- */

static const char *const capability_names[] = {
    "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN", "DAC_OVERRIDE",
    "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN",
    "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "PERFMON", "SETFCAP", "SETGID",
    "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT",
    "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM", NULL,
};

static void unknown_name(struct problem_list *problems, const char *path, const char *key, const char *name, const char *what,
                         const char *const *known)
{
    const char *near = text_nearest(name, known);
    CLEANUP_FREE char *at = *path ? mem_printf("%s.%s", path, key) : mem_strdup(key);
    problem_add(problems, at, "`%.60s` is not %s%s%s%s", name, what, near ? "; did you mean `" : "", near ? near : "",
                near ? "`?" : "");
}

void check_security(const void *object, const char *path, struct problem_list *problems)
{
    const struct security *s = object;
    for (uint32_t i = 0; i < s->capabilities.n; i++) {
        const char *name = s->capabilities.v[i];
        bool alone = !strcmp(name, "none") && s->capabilities.n == 1;
        if (!alone && enum_value(capability_names, name) < 0)
            unknown_name(problems, path, CAPABILITIES, name, "a capability (in capitals, without CAP_), nor `none` alone",
                         capability_names);
    }
}

void check_policy_profile(const void *object, const char *path, struct problem_list *problems)
{
    const struct policy_profile *p = object;
    if (p->name && (enum_value(security_profile_names, p->name) < 0 || !strcmp(p->name, "default")))
        unknown_name(problems, path, "name", p->name, "a profile", security_profile_names + 1);
}

static bool is_bound(const char *rule, const char *prefix)
{
    size_t n = strlen(prefix), digits = text_has_prefix(rule, prefix) ? strspn(rule + n, "0123456789") : 0;
    return digits && digits < 10 && !rule[n + digits];
}

void check_policy_exception(const void *object, const char *path, struct problem_list *problems)
{
    const struct policy_exception *e = object;
    for (uint32_t i = 0; i < e->allow.n; i++) {
        const char *name = e->allow.v[i];
        bool bound = is_bound(name, PIDS ":") || is_bound(name, TMPFS ":");
        bool capability = text_has_prefix(name, CAPABILITIES ".") &&
                          (!strcmp(name, CAPABILITIES ".*") || enum_value(capability_names, name + strlen(CAPABILITIES ".")) >= 0);
        if (!capability && !bound && strcmp(name, "*") && enum_value(privilege_names, name) < 0)
            unknown_name(problems, path, "allow", name, "a privilege: a key of `security`, pids (or pids:MOST, tmpfs_mb:MOST), "
                         "capabilities.NAME or `*`",
                         privilege_names);
    }
}

/* --- documentation --- */

static void row_end(struct buf *out)
{
    buf_add_string(out, "\n");
}

static void number_row(struct buf *out, const char *name, const char *help, size_t offset)
{
    buf_printf(out, "| `%s` | %s |", name, help);
    for (size_t k = PROFILE_FIRECRACKER; k < ARRAY_LEN(profiles); k++) {
        int64_t n = *(const int64_t *)(const void *)((const char *)&profiles[k].may + offset);
        if (n)
            buf_printf(out, " %lld |", (long long)n);
        else
            buf_add_string(out, " no limit |");
    }
    row_end(out);
}

void profiles_markdown(struct buf *out)
{
    buf_add_string(out, "## Profiles\n\n| profile | driver | what it is |\n| --- | --- | --- |\n");
    for (size_t k = PROFILE_FIRECRACKER; k < ARRAY_LEN(profiles); k++)
        buf_printf(out, "| `%s` | %s | %s |\n", profiles[k].name, driver_kind_names[profiles[k].driver], profiles[k].help);
    buf_add_string(out, "\n| `security` key | what it allows |");
    for (size_t k = PROFILE_FIRECRACKER; k < ARRAY_LEN(profiles); k++)
        buf_printf(out, " %s |", profiles[k].name);
    buf_add_string(out, "\n| --- | --- | --- | --- | --- | --- |\n");
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        buf_printf(out, "| `%s` | %s |", flags[i].name, flags[i].help);
        for (size_t k = PROFILE_FIRECRACKER; k < ARRAY_LEN(profiles); k++) {
            struct privileges may = profiles[k].may;
            buf_add_string(out, *flag_at(&flags[i], &may) ? " yes |" : " no |");
        }
        row_end(out);
    }
    buf_add_string(out, "| `" CAPABILITIES "` | Capabilities of the kernel, without CAP_. |");
    for (size_t k = PROFILE_FIRECRACKER; k < ARRAY_LEN(profiles); k++) {
        const struct privileges *may = &profiles[k].may;
        for (uint32_t i = 0; i < may->n_capabilities; i++)
            buf_printf(out, "%s%s", i ? ", " : " ", may->capabilities[i]);
        buf_add_string(out, profiles[k].driver != DRIVER_DOCKER ? " its user's |" : may->n_capabilities ? " |" : " none |");
    }
    row_end(out);
    number_row(out, TMPFS, "MB of /tmp, which is in memory.", offsetof(struct privileges, tmpfs_mb));
    number_row(out, "resources." PIDS, "Processes and threads: the limit, and the most that a service may set.",
               offsetof(struct privileges, pids));
}
