/* Tables of what users write. Every default is the one of docs/services-yaml.md, which is made from here. */
#include "model/checks.h"
#include "model/model.h"
#include "model/table.h"

#define FIRECRACKER (1u << DRIVER_FIRECRACKER)
#define DOCKER (1u << DRIVER_DOCKER)
#define EXEC (1u << DRIVER_EXEC)
enum { MANY = 1 << 30 };

#define FLAG(T, member, number, text) \
    STRING(T, member, number, .flags = FIELD_BOOL_TEXT, .only = DOCKER, .help = text)

static const char *const port_protocol_names[] = {"tcp", "udp", NULL};

static const struct field port_fields[] = {
    STRING(port, name, 1, .flags = FIELD_REQUIRED | FIELD_NAME_RULE,
           .help = "Name of the port: for health, ingress, ${port.NAME} and MENTAT_PORT_<NAME>."),
    INT(port, port, 2, .flags = FIELD_REQUIRED, RANGE(1, 65535), .help = "Port that the task listens on."),
    INT(port, host, 3, RANGE(0, 65535), .default_text = "0",
        .help = "Port of the node; 0 takes a free one from 20000 to 32000, a number is static."),
    ENUM(port, protocol, 4, port_protocol_names, .default_text = "tcp", .help = "Protocol of the port."),
    {0},
};
TABLE(port, port_fields, "A port that the task listens on.");

static const struct field volume_fields[] = {
    STRING(volume, source, 1, .flags = FIELD_EXPAND, .help = "Directory under the node's volume root."),
    STRING(volume, name, 2, .flags = FIELD_NAME_RULE, .help = "Name of a registered volume, instead of `source`."),
    STRING(volume, target, 3, .flags = FIELD_REQUIRED, 
           .help = "Absolute path at which the task sees the volume; exec: nothing is mounted, the directory's path is in "
                   "`MENTAT_VOLUME_<LAST PART OF TARGET>`."),
    SIZE_MB(volume, size_mb, 4, RANGE(0, MANY), .help = "Size; 0 sets no limit of its own."),
    BOOL(volume, read_only, 5, .default_text = "false", .help = "The task may only read it."),
    {0},
};
TABLE(volume, volume_fields, "Persistent data; replica k gets its own volume and returns to it.", .check = check_volume);

static const struct field rate_limits_fields[] = {
    INT(rate_limits, disk_bytes_per_second, 1, RANGE(0, 1e15), .help = "Bytes read and written per second; 0: no limit."),
    INT(rate_limits, disk_ops_per_second, 2, RANGE(0, 1e12), .help = "Disk operations per second; 0: no limit."),
    INT(rate_limits, net_bytes_per_second, 3, RANGE(0, 1e15), .help = "Bytes sent and received per second; 0: no limit."),
    {0},
};
TABLE(rate_limits, rate_limits_fields, "Limits of a microVM's disk and network.");

static const struct field config_fields[] = {
    STRING(config, image, 1, .only = FIRECRACKER | DOCKER,
           .help = "firecracker: static binary, rootfs directory or tar, ext4 or squashfs image, or OCI archive; "
                   "docker: image reference."),
    STRING(config, kernel, 2, .only = FIRECRACKER, .help = "Kernel image; default: the agent's."),
    STRING(config, kernel_args, 3, .only = FIRECRACKER, .help = "Kernel command line, added to Mentat's own."),
    INT(config, vcpus, 4, .only = FIRECRACKER, RANGE(1, 32), .default_text = "1", .help = "Virtual processors."),
    SIZE_MB(config, memory_mb, 5, .only = FIRECRACKER, RANGE(16, MANY), .default_text = "128",
            .help = "Memory of the microVM."),
    SIZE_MB(config, balloon_mb, 19, .flags = FIELD_ADJUSTABLE, .only = FIRECRACKER, RANGE(0, MANY),
            .help = "How much of `memory_mb` the guest gives back to the node while it does not need it itself."),
    OBJECT(config, rate_limits, 6, rate_limits, .only = FIRECRACKER, .help = "Limits of disk and network."),
    ENUM(config, pull, 7, pull_policy_names, .only = DOCKER, .default_text = "missing", .help = "When the image is pulled."),
    STR_LIST(config, entrypoint, 8, .flags = FIELD_SCALAR_OK | FIELD_EXPAND, .only = DOCKER, .help = "Replaces the image's entry point."),
    STRING(config, network, 9, .only = DOCKER, .help = "Docker network; default: Mentat's bridge."),
    STRING(config, registry_auth, 10, .only = DOCKER, .help = "Name of the secret that holds the registry's login."),
    STR_LIST(config, command, 11, .flags = FIELD_SCALAR_OK | FIELD_EXPAND,
             .help = "exec: the program; docker: replaces the image's command; firecracker: replaces the image's program."),
    STR_LIST(config, args, 12, .flags = FIELD_EXPAND, .help = "Arguments of the program."),
    MAP(config, env, 13, .flags = FIELD_EXPAND, .help = "Environment; wins over the service's `env`."),
    LIST(config, volumes, 14, volume, .only = FIRECRACKER | DOCKER, .help = "Volumes, in addition to the service's."),
    STRING(config, user, 15, .help = "User (and optionally :group) to run as; default: the agent's, docker and firecracker: the image's."),
    STRING(config, workdir, 16,
           .help = "Working directory; default: the allocation's own directory, docker and firecracker: the image's."),
    BOOL(config, snapshot, 20, .only = FIRECRACKER,
         .help = "Later replicas of a version begin with the memory that its first one on a node had when it was healthy. Not with "
                 "volumes, secrets or `resources.disk_mb`."),
    STRING(config, snapshot_signal, 21, .only = FIRECRACKER,
           .help = "Signal for the program of such a replica, once it has its own name, address and entropy."),
    MAP(config, ulimits, 17, .only = DOCKER, .help = "Limits of each process, such as nofile: \"1024:2048\" (soft:hard)."),
    {0},
};
TABLE(config, config_fields, "What the driver runs; which keys exist depends on `driver`.", .check = check_config);

static const struct field resources_fields[] = {
    FLOAT(resources, cpus, 1, RANGE(0.001, 4096), .default_text = "0.1",
          .help = "Processors that are set aside: for placement, and the share under load."),
    FLOAT(resources, cpu_max, 2, RANGE(0, 4096), .help = "Processors that may be used at most; 0: no limit."),
    SIZE_MB(resources, memory_mb, 3, RANGE(1, MANY), .default_text = "64", .help = "Memory; a hard limit."),
    SIZE_MB(resources, disk_mb, 4, RANGE(0, MANY), .help = "Disk that is set aside; 0: none."),
    INT(resources, pids, 5, RANGE(0, 4194304), .help = "Processes and threads at most; 0: no limit."),
    {0},
};
TABLE(resources, resources_fields, "What one replica holds of its node.", .check = check_resources);

static const struct field constraint_fields[] = {
    STRING(constraint, attribute, 1, .flags = FIELD_REQUIRED,
           .help = "node.name, node.class, cpu.arch, cpu.cores, memory.mb, kernel.version, driver.NAME, "
                   "driver.NAME.version, kvm, or meta.KEY."),
    ENUM(constraint, op, 2, constraint_op_names, .default_text = "=", .help = "How the attribute is compared."),
    STR_LIST(constraint, value, 3, .flags = FIELD_SCALAR_OK, .help = "One value; a list with `in`; none with `exists`."),
    {0},
};
TABLE(constraint, constraint_fields, "A node that does not satisfy it gets no replica.", .check = check_constraint);

static const struct field affinity_fields[] = {
    STRING(affinity, attribute, 1, .flags = FIELD_REQUIRED, .help = "As in constraints."),
    ENUM(affinity, op, 2, constraint_op_names, .default_text = "=", .help = "How the attribute is compared."),
    STR_LIST(affinity, value, 3, .flags = FIELD_SCALAR_OK, .help = "One value; a list with `in`; none with `exists`."),
    INT(affinity, weight, 4, RANGE(-100, 100), .default_text = "50",
        .help = "How much nodes that satisfy it are preferred; below 0: avoided."),
    {0},
};
TABLE(affinity, affinity_fields, "Nodes that satisfy it are preferred.", .check = check_affinity);

static const struct field health_fields[] = {
    ENUM(health, type, 1, health_type_names, .default_text = "none", .help = "How the replica is checked."),
    STRING(health, port, 2, .help = "Name of the port; may be left out when the service has one port."),
    STRING(health, path, 3, .help = "http: path of the request, default /; every 2xx and 3xx answer is healthy."),
    STR_LIST(health, command, 4, .flags = FIELD_SCALAR_OK | FIELD_EXPAND, .help = "exec: command that exits with 0 when healthy."),
    DURATION(health, interval_ms, "interval", 5, RANGE(100, 86400000), .default_text = "5s", .help = "Time between checks."),
    DURATION(health, timeout_ms, "timeout", 6, RANGE(10, 3600000), .default_text = "2s", .help = "Time that a check may take."),
    INT(health, healthy, 7, RANGE(1, 1000), .default_text = "1", .help = "Good checks in a row until healthy."),
    INT(health, unhealthy, 8, RANGE(1, 1000), .default_text = "3", .help = "Bad checks in a row until unhealthy."),
    DURATION(health, grace_ms, "grace", 9, RANGE(0, 86400000), .default_text = "0s",
             .help = "Time after the start in which bad checks do not count."),
    DURATION(health, min_running_ms, "min_running", 10, RANGE(0, 3600000), .default_text = "1s",
             .help = "none: time that a replica must have run until it counts as healthy in a rollout."),
    {0},
};
const struct type health_type_table = {
    .name = "health", .size = sizeof(struct health), .fields = health_fields, .check = check_health,
    .help = "How one sees that a replica works.",
};

static const struct field restart_fields[] = {
    INT(restart, attempts, 1, RANGE(0, 1000000), .default_text = "3", .help = "Restarts on the same node within `window`."),
    DURATION(restart, window_ms, "window", 2, RANGE(1000, 604800000), .default_text = "1m",
             .help = "Time over which `attempts` are counted."),
    DURATION(restart, delay_ms, "delay", 3, RANGE(1, 86400000), .default_text = "1s",
             .help = "Wait before the first restart; doubles with each, up to 30s."),
    ENUM(restart, then, 4, restart_then_names, .default_text = "reschedule",
         .help = "What follows when the attempts are used up: another node, or failed."),
    {0},
};
TABLE(restart, restart_fields, "What happens when the task ends by itself. A task that stays unhealthy, for three times "
      "`unhealthy` times `interval` of its `health` and at least 30s, is restarted in the same way.");

static const struct field kill_fields[] = {
    STRING(kill, signal, 1, .default_text = "SIGTERM", .help = "Signal that asks the task to end."),
    DURATION(kill, timeout_ms, "timeout", 2, RANGE(0, 86400000), .default_text = "10s",
             .help = "Time that it has until SIGKILL."),
    {0},
};
TABLE(kill, kill_fields, "How the task is stopped.", .check = check_kill);

static const struct field analysis_fields[] = {
    INT(analysis, window_secs, 1, RANGE(0, 604800),
        .help = "Seconds over which the new version's requests are compared with those of the version before; default: 0, no analysis."),
    INT(analysis, min_requests, 2, RANGE(0, 1000000000), .default_text = "100",
        .help = "Requests of each version that it takes; with fewer it waits."),
    FLOAT(analysis, max_error_rate_increase, 3, RANGE(0, 100), .default_text = "1",
          .help = "By how many percentage points more of the new version's requests may fail: 5xx, or no whole answer."),
    FLOAT(analysis, max_p99_ratio, 4, RANGE(0, 1000), .default_text = "2",
          .help = "How many times as long as before 99 % of its answers may take; 0: no matter."),
    INT(analysis, timeout_secs, 5, RANGE(0, 2592000), .default_text = "3600",
        .help = "Seconds after which it gives up waiting for requests; a canary stays paused then, a rollout goes on."),
    ENUM(analysis, then, 6, analysis_then_names, .default_text = "promote",
         .help = "What follows when a canary passes: promote, or pause until you do."),
    {0},
};
TABLE(analysis, analysis_fields, "canary, rolling: how the new version is judged by its requests.", .check = check_analysis);

static const struct field deploy_fields[] = {
    ENUM(deploy, strategy, 1, deploy_strategy_names, .default_text = "rolling", .help = "How a new version replaces the old."),
    INT(deploy, max_unavailable, 2, RANGE(1, 10000), .default_text = "1",
        .help = "Replicas that may be missing at once during the change."),
    INT(deploy, health_timeout_secs, 3, RANGE(1, 86400), .default_text = "10",
        .help = "Seconds that a new replica has to become healthy."),
    BOOL(deploy, auto_revert, 4, .default_text = "true", .help = "Go back to the last good version when it fails."),
    INT(deploy, canary_percent, 5, RANGE(1, 100), .default_text = "10", .help = "canary: part of the requests that the new version gets first."),
    INT(deploy, standby_secs, 6, RANGE(0, 604800), .default_text = "600",
        .help = "blue-green: seconds that the old version is kept ready."),
    INT(deploy, min_healthy_secs, 8, RANGE(0, 300),
        .help = "Seconds that a new replica must have served without a break until the rollout goes on."),
    OBJECT(deploy, analysis, 7, analysis, .help = "canary, rolling: judges the new version by its requests, and goes on or takes it back."),
    {0},
};
TABLE(deploy, deploy_fields, "How a new version is rolled out.");

static const struct field ingress_fields[] = {
    STRING(ingress, host, 1, .help = "Host name of the requests; required for http."),
    STRING(ingress, path, 2, .default_text = "/", .help = "Beginning of the requests' path."),
    STRING(ingress, port, 3, .flags = FIELD_REQUIRED, .help = "Name of the service's port."),
    BOOL(ingress, tls, 4, .default_text = "false", .help = "Serve it by TLS."),
    STRING(ingress, redirect_https, 5, .flags = FIELD_BOOL_TEXT,
           .help = "Redirect plain requests to https; default: true when `tls`."),
    BOOL(ingress, sticky, 6, .default_text = "false", .help = "A client stays with its replica, by a cookie."),
    STRING(ingress, sticky_header, 11, .help = "Name of a header of the requests: during a canary those with the same value of it get the "
           "same version."),
    SIZE_MB(ingress, max_body_mb, 12, RANGE(0, 1 << 20), .help = "Longest body of a request, as its Content-Length says (413 beyond); "
            "default: as the nodes have it."),
    INT(ingress, requests_per_second, 13, RANGE(0, 1000000), .help = "Requests of one client address in a second to the service, at each "
        "ingress node (429 beyond); default: as the nodes have it."),
    ENUM(ingress, protocol, 7, protocol_names, .default_text = "http", .help = "http, or tcp with `listen`."),
    INT(ingress, listen, 8, RANGE(0, 65535), .help = "tcp: port of the ingress node."),
    STRING(ingress, certificate, 10, .help = "Name of a secret with a certificate, its chain and its key (PEM); without it and `acme` "
           "the files of the ingress nodes count."),
    BOOL(ingress, acme, 9, .default_text = "false", .help = "The ingress nodes get a certificate for the host by ACME, and renew it."),
    {0},
};
TABLE(ingress, ingress_fields, "A way in from outside.", .check = check_ingress);

static const struct field security_fields[] = {
    ENUM(security, profile, 1, security_profile_names, .default_text = "default",
         .help = "What the task may do; default: firecracker, docker-hardened or exec-internal, as the driver."),
    FLAG(security, root, 2, "Whether it may run as root; default: as the profile has it, like all that follows."),
    FLAG(security, writable_root, 3, "Whether it may write to its own root file system."),
    FLAG(security, new_privileges, 4, "Whether it may gain privileges by set-user-ID programs."),
    FLAG(security, any_network, 5, "Whether it may join a named network."),
    FLAG(security, any_volume, 6, "Whether it may use volumes of other services."),
    FLAG(security, engine_seccomp, 7, "Whether Docker's own filter of system calls replaces the strict one."),
    STR_LIST(security, capabilities, 8, .flags = FIELD_SCALAR_OK, .only = DOCKER,
             .help = "Capabilities, without CAP_, instead of the profile's; `none` takes all away."),
    SIZE_MB(security, tmpfs_mb, 9, .only = DOCKER, RANGE(0, MANY), .help = "Size of /tmp in memory; 0: as the profile has it."),
    {0},
};
TABLE(security, security_fields, "What the task may do on its node: a profile, and changes to it. What goes beyond the profile "
      "needs an exception in the cluster's policy.", .check = check_security);

static const struct field policy_profile_fields[] = {
    STRING(policy_profile, name, 1, .flags = FIELD_REQUIRED, .help = "Name of a profile."),
    STR_LIST(policy_profile, services, 2, .help = "The services that may use it: names, `web-*`, or `*`."),
    {0},
};
TABLE(policy_profile, policy_profile_fields, "Who may use a profile.", .check = check_policy_profile);

static const struct field policy_exception_fields[] = {
    STR_LIST(policy_exception, services, 1, .flags = FIELD_REQUIRED, .help = "The services: names, `web-*`, `team-a.*` of a namespace, or `*`."),
    STR_LIST(policy_exception, allow, 2, .flags = FIELD_REQUIRED,
             .help = "What they may beyond their profile: keys of `security`, pids, capabilities.NAME, or `*`; `pids:8000` and "
                     "`tmpfs_mb:512` up to so many."),
    STRING(policy_exception, why, 3, .help = "Why, for whoever reads it later."),
    {0},
};
TABLE(policy_exception, policy_exception_fields, "Services that may do more than their profile.", .check = check_policy_exception);

static const struct field policy_fields[] = {
    LIST(policy, profiles, 1, policy_profile, .help = "Profiles that only some services may use; others are for all."),
    LIST(policy, exceptions, 2, policy_exception, .help = "What goes beyond profiles."),
    {0},
};
TABLE(policy, policy_fields, "What services may do, over the whole cluster.");

static const struct field secret_ref_fields[] = {
    STRING(secret_ref, name, 1, .flags = FIELD_REQUIRED, .help = "Name of the secret."),
    STRING(secret_ref, env, 2, .help = "Environment variable that gets it."),
    STRING(secret_ref, file, 3, .help = "File that gets it, in the task's secrets directory."),
    ENUM(secret_ref, on_change, 4, secret_change_names, .default_text = "restart",
         .help = "What happens when the secret changes."),
    {0},
};
TABLE(secret_ref, secret_ref_fields, "A secret that the task gets.", .check = check_secret_ref);

static const struct field identity_spec_fields[] = {
    STR_LIST(identity_spec, audience, 1, .flags = FIELD_SCALAR_OK,
             .help = "Whom the token is for (its `aud`); none: the task gets no token."),
    STRING(identity_spec, file, 2, .default_text = "identity.jwt", .help = "File that gets it, in the task's secrets directory."),
    DURATION(identity_spec, ttl_ms, "ttl", 3, RANGE(0, 86400000), .default_text = "1h",
             .help = "How long each token is good, at least 5m; the file gets a new one in time."),
    {0},
};
TABLE(identity_spec, identity_spec_fields, "A signed token that says which task this is.", .check = check_identity_spec);

static const struct field logs_fields[] = {
    INT(logs, max_files, 1, RANGE(1, 1000), .default_text = "5", .help = "Files that are kept for each of stdout and stderr."),
    SIZE_MB(logs, max_mb, 2, RANGE(1, 1 << 20), .default_text = "10", .help = "Size at which a file is rotated."),
    {0},
};
TABLE(logs, logs_fields, "How the task's output is kept.");

static const struct field service_fields[] = {
    STRING(service, name, 1, .flags = FIELD_REQUIRED | FIELD_NAME_RULE | FIELD_QUALIFIED, .help = "Name of the service."),
    ENUM(service, driver, 2, driver_kind_names, .flags = FIELD_REQUIRED, .help = "What runs it."),
    ENUM(service, mode, 3, service_mode_names, .default_text = "service",
         .help = "service: `count` replicas; every-node: one on each node; task: runs to completion."),
    STRING(service, schedule, 4, .flags = FIELD_NO_RESTART,
           .help = "When a task runs: five cron fields (minute, hour, day, month, weekday), or @hourly, @daily, @weekly, "
                   "@monthly, @yearly."),
    STRING(service, time_zone, 5, .flags = FIELD_NO_RESTART,
           .help = "Time zone of `schedule`: a name such as Europe/Berlin, or a POSIX TZ rule; default UTC."),
    STRING(service, time_zone_rule, 6, .flags = FIELD_INTERNAL | FIELD_NO_RESTART,
           .help = "The POSIX TZ rule that the server found for time_zone."),
    INT(service, count, 7, .flags = FIELD_NO_RESTART, RANGE(0, 100000), .default_text = "1",
        .help = "Replicas, each with a stable index 0, 1, 2 …"),
    OBJECT(service, config, 8, config, .help = "What the driver runs."),
    MAP(service, env, 9, .flags = FIELD_EXPAND, .help = "Environment of the task."),
    LIST(service, ports, 10, port, .help = "Ports that the task listens on."),
    OBJECT(service, resources, 11, resources, .help = "What one replica holds of its node."),
    LIST(service, volumes, 12, volume, .help = "Persistent data."),
    LIST(service, constraints, 13, constraint, .help = "Which nodes may run it."),
    LIST(service, affinities, 14, affinity, .flags = FIELD_NO_RESTART, .help = "Which nodes are preferred."),
    STRING(service, spread, 15, .flags = FIELD_NO_RESTART,
           .help = "node: replicas on different nodes; or an attribute such as meta.zone: evenly over its values."),
    INT(service, priority, 16, .flags = FIELD_NO_RESTART, RANGE(1, 100), .default_text = "50",
        .help = "Higher is placed first."),
    {.name = "health", .tag = 17, .kind = FIELD_OBJECT, .offset = offsetof(struct service, health),
     .type = &health_type_table, .flags = FIELD_NO_RESTART, .help = "How one sees that a replica works."},
    OBJECT(service, restart, 18, restart, .flags = FIELD_NO_RESTART, .help = "What happens when the task ends by itself."),
    OBJECT(service, kill, 19, kill, .flags = FIELD_NO_RESTART, .help = "How the task is stopped."),
    OBJECT(service, deploy, 20, deploy, .flags = FIELD_NO_RESTART, .help = "How a new version is rolled out."),
    LIST(service, ingress, 21, ingress, .flags = FIELD_NO_RESTART, .help = "Ways in from outside."),
    OBJECT(service, security, 22, security, .help = "What the task may do on its node."),
    LIST(service, secrets, 23, secret_ref, .help = "Secrets that the task gets."),
    OBJECT(service, identity, 30, identity_spec, .help = "A signed token for other systems, which says which task this is."),
    OBJECT(service, logs, 24, logs, .help = "How the task's output is kept."),
    MAP(service, meta, 25, .flags = FIELD_NO_RESTART, .help = "Free keys and values."),
    STR_LIST(service, after, 29, .flags = FIELD_NO_RESTART | FIELD_SCALAR_OK,
             .help = "Services of the same job: replicas of a new version start only once these are healthy; tasks, once they "
                     "have completed."),
    STRING(service, adopt, 28, .flags = FIELD_INTERNAL | FIELD_NO_RESTART, .help = "Id of the container that it was at first."),
    {0},
};
TABLE(service, service_fields, "A program that Mentat keeps running.", .check = check_service);

static const struct field job_fields[] = {
    STRING(job, name, 1, .yaml_name = "job", .flags = FIELD_REQUIRED | FIELD_NAME_RULE, .help = "Name of the job."),
    STRING(job, namespace, 3, .flags = FIELD_NAME_RULE, .help = "Namespace of the job; default: the one that is asked for, or `default`."),
    LIST(job, services, 2, service, .flags = FIELD_REQUIRED, .help = "The services of the job."),
    {0},
};
TABLE(job, job_fields, "Services that are submitted together.", .check = check_job);
