#include "agent/agent_config.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "model/profile.h"
#include "net/address.h"

static const char *const tls_names[] = {"default", "auto", "files", "off", NULL};
static const char *const level_names[] = {"debug", "info", "warn", "error", NULL};

#define CONFIG(key, number, kind_, member, ...) \
    {.name = key, .tag = number, .kind = kind_, .offset = offsetof(struct agent_config, member), __VA_ARGS__}

static const struct field agent_security_fields[] = {
    {.name = "profiles", .tag = 1, .kind = FIELD_STR_LIST, .offset = offsetof(struct agent_security, profiles),
     .help = "Security profiles that tasks of this node may have; default: every one."},
    {.name = "privileges", .tag = 2, .kind = FIELD_STR_LIST, .flags = FIELD_SCALAR_OK,
     .offset = offsetof(struct agent_security, privileges),
     .help = "What tasks may here beyond their profiles, as in policy.yaml; default: all that the policy allows; `none`."},
    {0},
};
static const struct type agent_security_type = {
    .name = "agent_security", .size = sizeof(struct agent_security), .fields = agent_security_fields,
    .help = "What this node allows, whatever the servers say.",
};

static const struct field agent_config_fields[] = {
    CONFIG("name", 1, FIELD_STRING, name, .help = "Name of this node; default: the host's name."),
    CONFIG("data_dir", 2, FIELD_STRING, data_dir, .default_text = "/var/lib/mentat/agent",
           .help = "Allocations, their logs, and the agent's store."),
    CONFIG("volume_root", 3, FIELD_STRING, volume_root, .default_text = "/mnt/unikernel-volumes",
           .help = "Directory under which the volumes of services are kept."),
    CONFIG("shared_volumes", 51, FIELD_BOOL, shared_volumes, .default_text = "false",
           .help = "Other nodes have the same files below volume_root. Network file systems are known by themselves."),
    CONFIG("volume_lease", 52, FIELD_DURATION, volume_lease_ms, .default_text = "60s", .min = 1000, .max = 3600000,
           .help = "Where volumes are shared: tasks that have some are ended when no server has answered for this long, and are not "
                   "started elsewhere before. At least node_grace of the servers."),
    CONFIG("secrets_dir", 48, FIELD_STRING, secrets_dir,
           .help = "Directory on a tmpfs below which the secrets of tasks are; default: /run, or /dev/shm where /run is on a disk."),
    CONFIG("servers", 4, FIELD_STR_LIST, servers, .flags = FIELD_SCALAR_OK,
           .help = "Addresses (host:port) of servers; one that works is enough, it tells of the others. Default: 127.0.0.1:4646."),
    CONFIG("bind", 5, FIELD_STRING, bind,
           .help = "Address that the agent API listens on; default: 0.0.0.0 with TLS, else 127.0.0.1."),
    CONFIG("port", 6, FIELD_INT, port, .default_text = "4647", .min = 0, .max = 65535,
           .help = "Port of the agent API; 0 takes any free one."),
    CONFIG("advertise", 7, FIELD_STRING, advertise,
           .help = "host or host:port under which the servers reach the agent API; default: ip and port."),
    CONFIG("ip", 8, FIELD_STRING, ip,
           .help = "Address at which the tasks of this node are reached; default: that of the route to the servers."),
    CONFIG("class", 9, FIELD_STRING, node_class, .help = "Class of the node, for constraints on node.class."),
    CONFIG("meta", 10, FIELD_MAP, meta, .help = "Free keys and values, for constraints on meta.KEY and ${meta.KEY}."),
    CONFIG("cpus", 11, FIELD_FLOAT, cpus, .min = 0, .max = 4096,
           .help = "Processors that Mentat may use; default: all that the host has."),
    CONFIG("reserved_cpus", 12, FIELD_FLOAT, reserved_cpus, .min = 0, .max = 4096,
           .help = "Processors kept back for the host itself."),
    CONFIG("memory_mb", 13, FIELD_SIZE_MB, memory_mb, .min = 0, .max = 1 << 30,
           .help = "Memory that Mentat may use; default: all that the host has."),
    CONFIG("reserved_memory_mb", 14, FIELD_SIZE_MB, reserved_memory_mb, .min = 0, .max = 1 << 30,
           .help = "Memory kept back for the host itself."),
    CONFIG("disk_mb", 15, FIELD_SIZE_MB, disk_mb, .min = 0, .max = 1 << 30,
           .help = "Disk that Mentat may use; default: the size of data_dir's file system."),
    CONFIG("cgroup_root", 16, FIELD_STRING, cgroup_root, .default_text = "mentat",
           .help = "Name of this agent's subtree below the cgroup mount; each agent on a machine needs its own."),
    CONFIG("drivers", 17, FIELD_STR_LIST, drivers, .flags = FIELD_SCALAR_OK,
           .help = "Drivers that this node offers; default: every driver that works here."),
    CONFIG("log_level", 18, FIELD_ENUM, log_level, .names = level_names, .default_text = "info",
           .help = "debug, info, warn or error."),
    CONFIG("tls", 35, FIELD_ENUM, tls, .names = tls_names, .default_text = "default",
           .help = "`auto`: the cluster gives this agent its certificate, and renews it; `files`: that of tls_cert; `off`: plain text. "
                   "Default: files where there is a tls_cert; off where all servers are on loopback, and with allow_insecure; else auto."),
    CONFIG("join_token_file", 36, FIELD_STRING, join_token_file,
           .help = "With auto: file with what lets this agent in: a join token (`mt node token`), or the secret that founders and agents "
                   "of a new cluster share. It may come later. Default: join-token in data_dir."),
    CONFIG("tls_cert", 19, FIELD_STRING, tls_cert, .help = "Certificate file (PEM) of this agent."),
    CONFIG("tls_key", 20, FIELD_STRING, tls_key, .help = "Key file (PEM) of this agent."),
    CONFIG("tls_ca", 21, FIELD_STRING, tls_ca, .help = "Certificate file (PEM) of the authority that peers must have."),
    CONFIG("allow_insecure", 22, FIELD_BOOL, allow_insecure,
           .help = "Allow the agent API without TLS on an address other than loopback."),
    CONFIG("stop_tasks_on_exit", 23, FIELD_BOOL, stop_tasks_on_exit,
           .help = "Stop every task and remove what was made for it when the agent ends (used by mt dev)."),
    CONFIG("new_cluster", 29, FIELD_BOOL, new_cluster,
           .help = "Take the word of another cluster than the one whose tasks run here; that cluster's tasks end."),
    CONFIG("gc_age", 24, FIELD_DURATION, gc_age_ms, .default_text = "24h",
           .help = "How long the files of a dead allocation are kept."),
    CONFIG("gc_max_allocs", 25, FIELD_INT, gc_max_allocs, .default_text = "200", .min = 0, .max = 100000,
           .help = "How many dead allocations keep their files."),
    CONFIG("gc_max_mb", 26, FIELD_SIZE_MB, gc_max_mb, .default_text = "1024", .min = 0, .max = 1 << 30,
           .help = "How much disk the files of dead allocations may take."),
    CONFIG("docker", 27, FIELD_OBJECT, docker, .type = &docker_config_type, .help = "Containers."),
    CONFIG("firecracker", 34, FIELD_OBJECT, firecracker, .type = &firecracker_config_type, .help = "MicroVMs."),
    CONFIG("security", 28, FIELD_OBJECT, security, .type = &agent_security_type,
           .help = "What this node allows, whatever the servers say."),
    CONFIG("ingress", 30, FIELD_BOOL, ingress,
           .help = "Take requests from outside for the cluster's services, by a proxy on this node, which the operator has to let (docs/ingress.md)."),
    CONFIG("proxy", 31, FIELD_OBJECT, proxy, .type = &ingress_config_type, .help = "That proxy."),
    {0},
};

const struct type agent_config_type = {
    .name = "agent.yaml",
    .size = sizeof(struct agent_config),
    .fields = agent_config_fields,
    .help = "Configuration of mentat-agent.",
};

static int check_security_config(const struct agent_security *s, struct error *err)
{
    for (uint32_t i = 0; i < s->profiles.n; i++)
        if (enum_value(security_profile_names, s->profiles.v[i]) < 1)
            return error_set(err, ERROR_INVALID, "security.profiles: there is no profile `%s`", s->profiles.v[i]);
    return 0;
}

static int check(const struct agent_config *c, struct error *err)
{
    bool files = c->tls_cert || c->tls_key || c->tls_ca;
    if (files && !(c->tls_cert && c->tls_key && c->tls_ca))
        return error_set(err, ERROR_INVALID, "tls_cert, tls_key and tls_ca belong together: set all three or none");
    if (files != (c->tls == AGENT_TLS_FILES))
        return error_set(err, ERROR_INVALID, files ? "tls: %s is without tls_cert, tls_key and tls_ca; take them out, or set `files`"
                                                   : "tls: %s needs tls_cert, tls_key and tls_ca", tls_names[c->tls]);
    if (c->tls == AGENT_TLS_OFF && !address_text_is_local(c->bind) && !c->allow_insecure)
        return error_set(err, ERROR_INVALID, "bind: %s without TLS would open the agent API to the network; set tls: auto, or tls_cert, "
                         "tls_key and tls_ca, or bind to 127.0.0.1, or set allow_insecure", c->bind);
    if (check_security_config(&c->security, err) < 0 || ingress_config_check(&c->proxy, err) < 0)
        return -1;
    const struct { const char *key, *path; } paths[] = {
        {"data_dir", c->data_dir}, {"join_token_file", c->join_token_file}, {"volume_root", c->volume_root}, {"firecracker.run_dir", c->firecracker.run_dir},
    };
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        if (paths[i].path[0] != '/')
            return error_set(err, ERROR_INVALID, "%s: must be an absolute path", paths[i].key);
    if (!text_is_name(c->name))
        return error_set(err, ERROR_INVALID, "name: \"%s\" is not a node name: use lower-case letters, digits and "
                         "hyphens, at most 63", c->name);
    return 0;
}

/* Host names may hold capitals and dots; a node's name is the first label in lower case. */
static char *host_name(void)
{
    char text[HOST_NAME_MAX + 1] = "";
    gethostname(text, sizeof(text) - 1);
    text[strcspn(text, ".")] = '\0';
    for (char *p = text; *p; p++)
        *p = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p == '_' ? '-' : *p;
    return mem_strdup(text_is_name(text) ? text : "node");
}

int agent_config_admits(const struct agent_config *c, const struct service *s, struct error *err)
{
    const struct agent_security *own = &c->security;
    const char *profile = profile_of(s->driver, s->security.profile)->name;
    if (security_check(s, err) < 0)
        return -1;
    bool listed = own->profiles.n == 0;
    for (uint32_t i = 0; i < own->profiles.n && !listed; i++)
        listed = !strcmp(own->profiles.v[i], profile);
    if (!listed)
        return error_set(err, ERROR_DENIED, "this node does not run profile %s: security.profiles of its agent.yaml", profile);
    struct str_list loosened = {0};
    int result = 0;
    privileges_loosened(s, &loosened);
    for (uint32_t i = 0; own->privileges.n && result == 0 && i < loosened.n; i++)
        if (!policy_matches(&own->privileges, loosened.v[i]))
            result = error_set(err, ERROR_DENIED, "this node does not let a task have %s beyond profile %s: "
                               "security.privileges of its agent.yaml", loosened.v[i], profile);
    str_list_clear(&loosened);
    return result;
}

/* Nothing is open by default, and what stays on this host needs nothing. */
static void choose_tls(struct agent_config *c)
{
    bool outside = c->bind && !address_text_is_local(c->bind);
    for (uint32_t i = 0; i < c->servers.n; i++)
        outside |= !text_has_prefix(c->servers.v[i], "http://") && !address_text_is_local(c->servers.v[i]);
    if (c->tls == AGENT_TLS_DEFAULT)
        c->tls = c->tls_cert || c->tls_key || c->tls_ca ? AGENT_TLS_FILES : outside && !c->allow_insecure ? AGENT_TLS_AUTO : AGENT_TLS_OFF;
}

int agent_config_load(int argc, char **argv, struct agent_config *config, struct error *err)
{
    int rc = config_load(&agent_config_type, argc, argv, AGENT_CONFIG_FILE, config, err);
    if (rc)
        return rc;
    if (!config->name)
        config->name = host_name();
    if (!config->servers.n)
        str_list_add(&config->servers, "127.0.0.1:4646");
    if (!config->firecracker.image_roots.n)
        str_list_add(&config->firecracker.image_roots, "/srv/images");
    choose_tls(config);
    if (!config->bind)
        config->bind = mem_strdup(config->tls == AGENT_TLS_OFF ? "127.0.0.1" : "0.0.0.0");
    if (!config->join_token_file)
        config->join_token_file = mem_printf("%s/join-token", config->data_dir);
    return check(config, err);
}
