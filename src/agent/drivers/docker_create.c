/* How a container is made: the service's words, what its profile leaves of them, and nothing else. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/drivers/docker.h"
#include "agent/drivers/docker_seccomp.h"
#include "agent/secret_files.h"
#include "base/mem.h"
#include "model/namespace.h"

#define SHARES_PER_CPU 1024
#define SHARES_LEAST 2
#define MB (1ll << 20)
#define TAR_BLOCK 512

extern const struct type volume_type, alloc_port_type, logs_type;

/* --- the copy --- */

void docker_spec_copy(struct docker_spec *to, const struct task_spec *from)
{
    *to = (struct docker_spec){
        .alloc_id = mem_strdup(from->alloc_id), .service = mem_strdup(from->service),
        .secrets_dir = mem_strdup(from->secrets_dir), .login = mem_strdup(from->registry_login),
        .job = mem_strdup(from->job ? from->job : from->service), .replica = from->replica, .run = from->run,
    };
    type_copy(&config_type, &to->config, from->config);
    type_copy(&resources_type, &to->resources, from->resources);
    type_copy(&logs_type, &to->logs, from->logs);
    for (uint32_t i = 0; i < from->env->n; i++)
        kv_set(&to->env, from->env->v[i].key, from->env->v[i].value);
    for (uint32_t i = 0; i < from->volumes->n; i++)
        type_copy(&volume_type, list_add_zero((struct list *)(void *)&to->volumes, &volume_type), &from->volumes->v[i]);
    for (uint32_t i = 0; i < from->ports->n; i++)
        type_copy(&alloc_port_type, list_add_zero((struct list *)(void *)&to->ports, &alloc_port_type), &from->ports->v[i]);
    if (from->security)
        type_copy(&security_type, &to->security, from->security);
    struct service rules = {.driver = DRIVER_DOCKER, .security = to->security, .resources = to->resources};
    privileges_of(&rules, &to->may);
    to->profile = profile_of(DRIVER_DOCKER, to->security.profile)->name;
}

void docker_spec_clear(struct docker_spec *s)
{
    free(s->alloc_id);
    free(s->service);
    free(s->job);
    free(s->network);
    for (uint32_t i = 0; s->secrets_dir && i < s->env.n; i++)
        explicit_bzero(s->env.v[i].value, strlen(s->env.v[i].value));
    free(s->secrets_dir);
    if (s->login)
        explicit_bzero(s->login, strlen(s->login));
    free(s->login);
    type_clear(&security_type, &s->security);
    type_clear(&config_type, &s->config);
    type_clear(&resources_type, &s->resources);
    type_clear(&logs_type, &s->logs);
    kv_clear(&s->env);
    list_clear((struct list *)(void *)&s->volumes, &volume_type);
    list_clear((struct list *)(void *)&s->ports, &alloc_port_type);
    *s = (struct docker_spec){0};
}

void docker_image_clear(struct docker_image *i)
{
    free(i->id);
    free(i->user);
    *i = (struct docker_image){0};
}

/* --- users --- */

const char *docker_user(const struct docker_spec *s, const struct docker_image *image)
{
    return s->config.user ? s->config.user : image->user && *image->user ? image->user : "0";
}

static uint64_t octal(const char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n && p[i] >= '0' && p[i] <= '7'; i++)
        v = v * 8 + (uint64_t)(p[i] - '0');
    return v;
}

static int passwd_search(const char *text, const char *name, unsigned *uid, unsigned *gid, struct error *err)
{
    size_t n = strlen(name);
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, name, n) || line[n] != ':')
            continue;
        if (sscanf(line + n, ":%*[^:\n]:%u:%u", uid, gid) == 2 || sscanf(line + n, "::%u:%u", uid, gid) == 2)
            return 0;
    }
    return error_set(err, ERROR_INVALID, "the image has no user `%.64s` in its /etc/passwd: give config.user in numbers, for "
                     "example 1000:1000", name);
}

int docker_passwd_find(const struct buf *tar, const char *name, unsigned *uid, unsigned *gid, struct error *err)
{
    bool regular = tar->len >= TAR_BLOCK && (tar->data[156] == '0' || tar->data[156] == 0);
    uint64_t size = regular ? octal(tar->data + 124, 12) : 0;
    if (!regular || size > tar->len - TAR_BLOCK)
        return error_set(err, ERROR_INVALID, "the image's /etc/passwd cannot be read: give config.user in numbers, for "
                         "example 1000:1000");
    CLEANUP_FREE char *text = mem_strndup(tar->data + TAR_BLOCK, size);
    return passwd_search(text, name, uid, gid, err);
}

/* --- what is allowed --- */

int docker_user_allowed(const struct docker_spec *s, const char *user, struct error *err)
{
    if (!s->may.root && strtoul(user, NULL, 10) == 0)
        return error_set(err, ERROR_DENIED, "the image %s runs as root, which profile %s does not allow: set config.user (for "
                         "example 1000:1000), or security.profile: docker-legacy, or security.root where the cluster's policy "
                         "allows it", s->config.image, s->profile);
    return 0;
}

/* Below, and not the same. */
static bool is_below(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    return !strncmp(path, dir, n) && path[n] == '/';
}

int docker_volumes_allowed(const struct docker_spec *s, const char *volume_root, struct error *err)
{
    CLEANUP_FREE char *root = realpath(volume_root, NULL);
    if (!s->volumes.n)
        return 0;
    if (!root)
        return error_set_errno(err, errno, "the volume root %s", volume_root);
    CLEANUP_FREE char *own = mem_printf("%s/%s", root, s->service);
    for (uint32_t i = 0; i < s->volumes.n; i++) {
        const char *source = s->volumes.v[i].source;
        CLEANUP_FREE char *real = realpath(source, NULL);
        if (!real)
            return error_set_errno(err, errno, "volume %s", source);
        if (!is_below(real, root))
            return error_set(err, ERROR_DENIED, "volume %s: leads to %s, which is not below the volume root", source, real);
        if (!s->may.any_volume && !is_below(real, own))
            return error_set(err, ERROR_DENIED, "volume %s: profile %s gives a service what is below %s/%s; for others set "
                             "security.profile: docker-legacy, or security.any_volume where the cluster's policy allows it",
                             source, s->profile, volume_root, s->service);
    }
    return 0;
}

char *docker_job_network(const char *job)
{
    return mem_printf("mentat-job-%s", job);
}

/* --- the body --- */

static void add_pair(struct buf *out, const char *key, const char *value)
{
    json_add_string(out, key);
    buf_add_char(out, ':');
    json_add_string(out, value);
}

static void add_list(struct buf *out, const char *key, const struct str_list *a, const struct str_list *b)
{
    json_add_string(out, key);
    buf_add_string(out, ":[");
    const char *comma = "";
    for (uint32_t i = 0; i < a->n + b->n; i++, comma = ",") {
        buf_add_string(out, comma);
        json_add_string(out, i < a->n ? a->v[i] : b->v[i - a->n]);
    }
    buf_add_string(out, "],");
}

static void add_labels(const struct docker_spec *s, const char *data_dir, struct buf *out)
{
    buf_add_string(out, "\"Labels\":{");
    add_pair(out, LABEL_AGENT, data_dir);
    buf_add_char(out, ',');
    add_pair(out, LABEL_ALLOC, s->alloc_id);
    buf_add_char(out, ',');
    add_pair(out, LABEL_SERVICE, s->service);
    buf_add_char(out, ',');
    add_pair(out, LABEL_JOB, s->job);
    buf_printf(out, ",\"" LABEL_RUN "\":\"%llu\",\"" LABEL_LOG_FILES "\":\"%lld\",\"" LABEL_LOG_MB "\":\"%lld\"},",
               (unsigned long long)s->run, (long long)s->logs.max_files, (long long)s->logs.max_mb);
}

static void add_env(const struct docker_spec *s, struct buf *out)
{
    buf_add_string(out, "\"Env\":[");
    for (uint32_t i = 0; i < s->env.n; i++) {
        CLEANUP_FREE char *pair = mem_printf("%s=%s", s->env.v[i].key, s->env.v[i].value);
        buf_add_string(out, i ? "," : "");
        json_add_string(out, pair);
    }
    buf_add_string(out, "],");
}

static void add_ports(const struct docker_spec *s, const char *host_ip, struct buf *exposed, struct buf *bindings)
{
    for (uint32_t i = 0; i < s->ports.n; i++) {
        const struct alloc_port *p = &s->ports.v[i];
        const char *comma = i ? "," : "", *protocol = p->protocol == PROTOCOL_UDP ? "udp" : "tcp";
        buf_printf(exposed, "%s\"%d/%s\":{}", comma, (int)p->port, protocol);
        buf_printf(bindings, "%s\"%d/%s\":[{\"HostIp\":", comma, (int)p->port, protocol);
        json_add_string(bindings, host_ip ? host_ip : "");
        buf_printf(bindings, ",\"HostPort\":\"%d\"}]", (int)p->host);
    }
}

static void add_mount(const char *source, const char *target, bool read_only, struct buf *out)
{
    buf_printf(out, "%s{\"Type\":\"bind\",", out->data[out->len - 1] == '[' ? "" : ",");
    add_pair(out, "Source", source);
    buf_add_char(out, ',');
    add_pair(out, "Target", target);
    buf_printf(out, ",\"ReadOnly\":%s,\"BindOptions\":{\"Propagation\":\"rprivate\"}}", read_only ? "true" : "false");
}

static void add_mounts(const struct docker_spec *s, struct buf *out)
{
    buf_add_string(out, "\"Mounts\":[");
    for (uint32_t i = 0; i < s->volumes.n; i++)
        add_mount(s->volumes.v[i].source, s->volumes.v[i].target, s->volumes.v[i].read_only, out);
    if (s->secrets_dir)
        add_mount(s->secrets_dir, SECRETS_DIR_INSIDE, true, out);
    buf_add_string(out, "],");
}

/* "nofile": "1024:2048" or "1024". */
static void add_ulimits(const struct docker_spec *s, struct buf *out)
{
    buf_add_string(out, "\"Ulimits\":[");
    for (uint32_t i = 0; i < s->config.ulimits.n; i++) {
        const struct kv *u = &s->config.ulimits.v[i];
        long long soft = strtoll(u->value, NULL, 10);
        const char *colon = strchr(u->value, ':');
        buf_printf(out, "%s{\"Name\":", i ? "," : "");
        json_add_string(out, u->key);
        buf_printf(out, ",\"Soft\":%lld,\"Hard\":%lld}", soft, colon ? strtoll(colon + 1, NULL, 10) : soft);
    }
    buf_add_string(out, "],");
}

static void add_limits(const struct docker_spec *s, struct buf *out)
{
    const struct resources *r = &s->resources;
    long long memory = r->memory_mb * MB, shares = (long long)(r->cpus * SHARES_PER_CPU);
    buf_printf(out, "\"Memory\":%lld,\"MemorySwap\":%lld,\"CpuShares\":%lld,", memory, memory,
               shares < SHARES_LEAST ? SHARES_LEAST : shares);
    if (r->cpu_max > 0)
        buf_printf(out, "\"NanoCpus\":%lld,", (long long)(r->cpu_max * 1e9));
    if (s->may.pids)
        buf_printf(out, "\"PidsLimit\":%lld,", (long long)s->may.pids);
}

static void add_privileges(const struct docker_spec *s, bool has_seccomp, struct buf *out)
{
    const struct privileges *may = &s->may;
    buf_printf(out, "\"Privileged\":false,\"ReadonlyRootfs\":%s,\"IpcMode\":\"private\",\"CapDrop\":[\"ALL\"],\"CapAdd\":[",
               may->writable_root ? "false" : "true");
    for (uint32_t i = 0; i < may->n_capabilities; i++)
        buf_printf(out, "%s\"%s\"", i ? "," : "", may->capabilities[i]);
    buf_add_string(out, "],\"SecurityOpt\":[");
    const char *comma = "";
    if (!may->new_privileges) {
        buf_add_string(out, "\"no-new-privileges\"");
        comma = ",";
    }
    if (!may->engine_seccomp && has_seccomp) {
        CLEANUP_BUF struct buf option = {0};
        buf_add_string(&option, "seccomp=");
        docker_seccomp_strict(&option);
        buf_add_string(out, comma);
        json_add_string(out, option.data);
    }
    buf_add_string(out, "],");
    if (may->tmpfs_mb)
        buf_printf(out, "\"Tmpfs\":{\"/tmp\":\"rw,nosuid,nodev,mode=1777,size=%lldm\"},", (long long)may->tmpfs_mb);
}

static void add_host_config(const struct docker_spec *s, const char *network, const struct buf *bindings, bool has_seccomp,
                            struct buf *out)
{
    buf_add_string(out, "\"HostConfig\":{");
    add_mounts(s, out);
    add_ulimits(s, out);
    add_limits(s, out);
    add_privileges(s, has_seccomp, out);
    add_pair(out, "NetworkMode", network);
    buf_printf(out, ",\"PortBindings\":{%s},\"RestartPolicy\":{\"Name\":\"no\"},\"AutoRemove\":false,",
               bindings->data ? bindings->data : "");
    /* The engine keeps as much as one of our own files holds, so that an agent that was away finds it. */
    buf_printf(out, "\"LogConfig\":{\"Type\":\"json-file\",\"Config\":{\"max-size\":\"%lldm\",\"max-file\":\"2\"}}},",
               (long long)(s->logs.max_mb > 0 ? s->logs.max_mb : 1));
}

static void add_networking(const struct docker_spec *s, const char *network, struct buf *out)
{
    buf_add_string(out, "\"NetworkingConfig\":{\"EndpointsConfig\":{");
    if (!s->config.network) {
        const char *name = namespace_bare(s->service);       /* all of the network are of one job */
        CLEANUP_FREE char *replica = mem_printf("%lld.%s", (long long)s->replica, name);
        json_add_string(out, network);
        buf_add_string(out, ":{\"Aliases\":[");
        json_add_string(out, name);
        buf_add_char(out, ',');
        json_add_string(out, replica);
        buf_add_string(out, "]}");
    }
    buf_add_string(out, "}}");
}

void docker_create_body(const struct docker_spec *s, const struct docker_image *image, const char *user,
                        const char *data_dir, const char *host_ip, bool has_seccomp, struct buf *out)
{
    const char *network = s->config.network ? s->config.network : s->network;
    CLEANUP_BUF struct buf exposed = {0}, bindings = {0};
    add_ports(s, host_ip, &exposed, &bindings);
    buf_add_char(out, '{');
    /* By its id: the name may come to mean another image before the container is made. */
    add_pair(out, "Image", image->id);
    buf_add_char(out, ',');
    if (s->config.entrypoint.n)
        add_list(out, "Entrypoint", &s->config.entrypoint, &(struct str_list){0});
    if (s->config.command.n || s->config.args.n)
        add_list(out, "Cmd", &s->config.command, &s->config.args);
    if (user) {
        add_pair(out, "User", user);
        buf_add_char(out, ',');
    }
    if (s->config.workdir) {
        add_pair(out, "WorkingDir", s->config.workdir);
        buf_add_char(out, ',');
    }
    add_env(s, out);
    add_labels(s, data_dir, out);
    /* Mentat checks health itself. */
    buf_printf(out, "\"ExposedPorts\":{%s},\"Tty\":false,\"OpenStdin\":false,\"Healthcheck\":{\"Test\":[\"NONE\"]},",
               exposed.data ? exposed.data : "");
    add_host_config(s, network, &bindings, has_seccomp, out);
    add_networking(s, network, out);
    buf_add_char(out, '}');
}
