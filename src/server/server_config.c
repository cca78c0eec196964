#include "server/server_config.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/net4.h"
#include "base/text.h"
#include "net/address.h"

static const char *const access_names[] = {"auto", "open", "tokens", NULL};
static const char *const tls_names[] = {"default", "auto", "files", "off", NULL};
static const char *const audit_names[] = {"auto", "off", "on", "required", NULL};
static const char *const audit_sink_names[] = {"none", "syslog", "command", NULL};
static const char *const level_names[] = {"debug", "info", "warn", "error", NULL};

#define CONFIG(key, number, kind_, member, ...) \
    {.name = key, .tag = number, .kind = kind_, .offset = offsetof(struct server_config, member), __VA_ARGS__}

static const char *const new_cluster_policy_names[] = {"restricted", "open", NULL};

static const struct field server_config_fields[] = {
    CONFIG("name", 1, FIELD_STRING, name, .help = "Name of this server; default: the host's name."),
    CONFIG("data_dir", 2, FIELD_STRING, data_dir, .default_text = "/var/lib/mentat/state",
           .help = "The replicated log and its snapshots."),
    CONFIG("bind", 3, FIELD_STRING, bind,
           .help = "Address that the API listens on; default: 0.0.0.0 with TLS, or where servers or advertise name another host; else 127.0.0.1."),
    CONFIG("port", 4, FIELD_INT, port, .default_text = "4646", .min = 0, .max = 65535,
           .help = "Port of the API; 0 takes any free one."),
    CONFIG("advertise", 26, FIELD_STRING, advertise,
           .help = "host or host:port at which others reach the API; default: bind, or the address of the default route."),
    CONFIG("raft_bind", 27, FIELD_STRING, raft_bind,
           .help = "Address that this server listens on for the other servers; default: bind."),
    CONFIG("raft_port", 28, FIELD_INT, raft_port, .min = 0, .max = 65535,
           .help = "Port for the other servers; default: the API's port + 2, which is 4648."),
    CONFIG("raft_advertise", 29, FIELD_STRING, raft_advertise,
           .help = "host or host:port at which the other servers reach this one; default: advertise, with raft_port."),
    CONFIG("servers", 30, FIELD_STR_LIST, servers, .flags = FIELD_SCALAR_OK,
           .help = "APIs (host:port) of all servers, this one too, that make the cluster together when none is there yet."),
    CONFIG("expect", 31, FIELD_INT, expect, .default_text = "-1", .min = -1, .max = 9,
           .help = "How many of them, the first ones, must see each other first; 0: wait for `mt cluster init` or `join`; "
                   "default: all of them, or 1 without servers."),
    CONFIG("server_id", 32, FIELD_INT, server_id, .min = 0, .max = 9e15,
           .help = "Id of this server, for a new data_dir; with TLS its certificate must carry DNS:ID.server.mentat. "
                   "Default: a random one."),
    CONFIG("election_timeout", 33, FIELD_DURATION, election_timeout_ms, .default_text = "400ms", .min = 50, .max = 60000,
           .help = "How long servers are without a leader before they elect one."),
    CONFIG("raft_heartbeat", 34, FIELD_DURATION, raft_heartbeat_ms, .default_text = "60ms", .min = 10, .max = 10000,
           .help = "How often the leader tells the others that it is there."),
    CONFIG("dead_server_after", 35, FIELD_DURATION, dead_server_after_ms, .default_text = "10m", .min = 0, .max = 31536000000,
           .help = "A server that was dead for so long is removed, once enough others (`expect`, at least 3) are there; "
                   "0s: never."),
    CONFIG("http_threads", 5, FIELD_INT, http_threads, .default_text = "2", .min = 1, .max = 64,
           .help = "Threads that serve connections."),
    CONFIG("tls", 41, FIELD_ENUM, tls, .names = tls_names, .default_text = "default",
           .help = "`auto`: the cluster makes and renews the certificates of its servers and agents itself; `files`: those of tls_cert; "
                   "`off`: plain text. Default: files where there is a tls_cert; off on loopback and with allow_insecure; else auto."),
    CONFIG("tls_names", 42, FIELD_STR_LIST, tls_names, .flags = FIELD_SCALAR_OK,
           .help = "With auto: further host names and addresses under which this server is reached, for its certificate."),
    CONFIG("certificate_lifetime", 43, FIELD_DURATION, certificate_lifetime_ms, .default_text = "7d", .min = 3000, .max = 31536000000,
           .help = "With auto: how long certificates last."),
    CONFIG("certificate_renewal", 47, FIELD_DURATION, certificate_renewal_ms, .min = 0, .max = 31536000000,
           .help = "With auto: after how long they are renewed. Default: two thirds of certificate_lifetime."),
    CONFIG("join_token_file", 44, FIELD_STRING, join_token_file,
           .help = "With auto: file with what lets this server in where there is a cluster, or found one with others: a join token "
                   "(`mt cluster token`), or a secret that all founders and their agents share (openssl rand -hex 32). Default: "
                   "join-token in data_dir."),
    CONFIG("cluster_key_file", 45, FIELD_STRING, cluster_key_file,
           .help = "File with the keys under which the cluster seals its secrets and its authority's key. Default: cluster-keys in data_dir."),
    CONFIG("cluster_key_command", 46, FIELD_STRING, cluster_key_command,
           .help = "Shell command that prints a passphrase with which that file is locked; run once at the start."),
    CONFIG("tls_cert", 6, FIELD_STRING, tls_cert, .help = "Certificate file (PEM) of this server, for both ports: with the names under which its API is reached, and "
                  "DNS:ID.server.mentat with its server_id. With it nothing is spoken in plain text."),
    CONFIG("tls_key", 7, FIELD_STRING, tls_key, .help = "Key file (PEM) of this server."),
    CONFIG("tls_ca", 8, FIELD_STRING, tls_ca,
           .help = "Certificate file (PEM) of the authority whose servers, agents and, with access: open, clients are believed."),
    CONFIG("allow_insecure", 9, FIELD_BOOL, allow_insecure,
           .help = "Allow the API without TLS on an address other than loopback."),
    CONFIG("access", 36, FIELD_ENUM, access, .names = access_names, .default_text = "auto",
           .help = "Who may use the API: `open`: whoever reaches it, with TLS by a certificate of tls_ca; `tokens`: whoever "
                   "shows a token, and agents and servers by their certificates; `auto`: tokens with `tls: auto`, else open."),
    CONFIG("audit", 37, FIELD_ENUM, audit, .names = audit_names, .default_text = "auto",
           .help = "Whether it is written down who changed what, ran commands in tasks or read logs: `on`, `off`; `required`: "
                   "refused while that cannot be written; `auto`: on with `access: tokens`."),
    CONFIG("audit_dir", 38, FIELD_STRING, audit_dir, .help = "Where the audit files are; default: audit in data_dir."),
    CONFIG("audit_mb", 39, FIELD_SIZE_MB, audit_mb, .default_text = "1024", .min = 2, .max = 1048576,
           .help = "How much of them is kept, in files of a sixteenth of that."),
    CONFIG("audit_keep", 40, FIELD_DURATION, audit_keep_ms, .default_text = "365d", .min = 60000, .max = 315360000000,
           .help = "How long they are kept."),
    CONFIG("audit_sink", 54, FIELD_ENUM, audit_sink, .names = audit_sink_names, .default_text = "none",
           .help = "Where its lines go as well: `syslog`: the host's, to /dev/log; `command`: the stdin of audit_command."),
    CONFIG("audit_command", 55, FIELD_STRING, audit_command,
           .help = "Shell command that reads lines of the audit as long as it runs; started again when it ends."),
    CONFIG("heartbeat", 10, FIELD_DURATION, heartbeat_ms, .default_text = "3s", .min = 100, .max = 3600000,
           .help = "How often agents report that they are alive."),
    CONFIG("new_cluster_policy", 40, FIELD_ENUM, new_cluster_policy, .names = new_cluster_policy_names,
           .default_text = "restricted", .help = "The policy of a cluster that this server founds. restricted: exec-internal and "
           "docker-legacy are for services that the policy names, and it names none; open: every profile is for all."),
    CONFIG("node_grace", 11, FIELD_DURATION, node_grace_ms, .default_text = "15s", .min = 200, .max = 86400000,
           .help = "A node that was silent for so long is down."),
    CONFIG("mass_loss_hold", 21, FIELD_DURATION, mass_loss_hold_ms, .default_text = "10m", .min = 0, .max = 86400000,
           .help = "When most nodes fall silent at once, how long they are not taken for dead; 0s: no time."),
    CONFIG("segment_mb", 12, FIELD_SIZE_MB, segment_mb, .default_text = "8", .min = 1, .max = 1024,
           .help = "Size of one file of the log."),
    CONFIG("snapshot_mb", 13, FIELD_SIZE_MB, snapshot_mb, .default_text = "32", .min = 1, .max = 65536,
           .help = "Log written since the last snapshot after which the next one is taken."),
    CONFIG("reserve_mb", 14, FIELD_SIZE_MB, reserve_mb, .default_text = "32", .min = 1, .max = 1048576,
           .help = "Free disk under data_dir below which writes are refused."),
    CONFIG("backup_every", 22, FIELD_DURATION, backup_every_ms, .default_text = "24h", .min = 0, .max = 31536000000,
           .help = "How often a snapshot of the state is kept in backup_dir; 0s: never."),
    CONFIG("backup_keep", 23, FIELD_DURATION, backup_keep_ms, .default_text = "7d", .min = 60000,
           .max = 315360000000, .help = "How long these are kept; the newest one stays in any case."),
    CONFIG("backup_dir", 24, FIELD_STRING, backup_dir, .help = "Where they are kept; default: backups in data_dir."),
    CONFIG("backup_command", 25, FIELD_STRING, backup_command,
           .help = "Shell command that is run after each, such as a copy to another place; the file is $MENTAT_SNAPSHOT."),
    CONFIG("network", 41, FIELD_OBJECT, network, .type = &cluster_network_type,
           .help = "The network of all microVMs; the same on every server."),
    CONFIG("max_connections", 15, FIELD_INT, max_connections, .default_text = "10000", .min = 1, .max = 1000000,
           .help = "Connections of each HTTP thread; further ones get 503. Fewer where the limit of open files is low."),
    CONFIG("max_per_address", 50, FIELD_INT, max_per_address, .min = 0, .max = 1000000,
           .help = "Of these, connections of one client's address; default: half of them."),
    CONFIG("token_rate", 51, FIELD_INT, token_rate, .default_text = "1000", .min = 0, .max = 1000000,
           .help = "With `access: tokens`: requests of one token in a second, with ten seconds' worth in reserve; further ones get "
                   "429. 0: no limit. Agents and servers have none."),
    CONFIG("address_rate", 52, FIELD_INT, address_rate, .default_text = "200", .min = 0, .max = 1000000,
           .help = "The same of one address, for requests that say of nobody who asks."),
    CONFIG("failure_rate", 53, FIELD_INT, failure_rate, .default_text = "10", .min = 0, .max = 1000000,
           .help = "The same of one address, for requests that are refused since who asks is not known; further ones are neither "
                   "logged nor written down one by one."),
    CONFIG("max_queue", 16, FIELD_INT, max_queue, .default_text = "8192", .min = 1, .max = 1000000,
           .help = "Requests that wait for the core thread; further ones get 503."),
    CONFIG("max_waiting", 17, FIELD_INT, max_waiting, .default_text = "20000", .min = 1, .max = 1000000,
           .help = "Waiting reads and event streams; further ones get 429."),
    CONFIG("body_limit_mb", 18, FIELD_SIZE_MB, body_limit_mb, .default_text = "3", .min = 1, .max = 64,
           .help = "Size of a request's body; larger ones get 413."),
    CONFIG("stop_grace", 19, FIELD_DURATION, stop_grace_ms, .default_text = "5s", .min = 0, .max = 600000,
           .help = "How long requests may still run after SIGTERM."),
    CONFIG("sandbox", 41, FIELD_BOOL, sandbox, .default_text = "true",
           .help = "Take from the process what it does not need: system calls, other programs and, where the kernel has "
                   "Landlock, all paths but its own."),
    CONFIG("log_level", 20, FIELD_ENUM, log_level, .names = level_names, .default_text = "info",
           .help = "debug, info, warn or error."),
    {0},
};

const struct type server_config_type = {
    .name = "server.yaml",
    .size = sizeof(struct server_config),
    .fields = server_config_fields,
    .help = "Configuration of mentat-server.",
};

static int check_cluster(const struct server_config *c, struct error *err)
{
    for (uint32_t i = 0; i < c->servers.n; i++) {
        struct address a;
        if (address_parse(c->servers.v[i], -1, &a, err) || a.is_unix)
            return err->code ? error_context(err, "servers") : error_set(err, ERROR_INVALID, "servers: host:port is needed");
        for (uint32_t k = 0; k < i; k++)
            if (!strcmp(c->servers.v[i], c->servers.v[k]))
                return error_set(err, ERROR_INVALID, "servers: %s stands there twice", c->servers.v[i]);
    }
    if (c->servers.n && c->expect > (int64_t)c->servers.n)
        return error_set(err, ERROR_INVALID, "expect: %lld servers are more than the %u of `servers`", (long long)c->expect,
                         c->servers.n);
    if (!c->servers.n && c->expect > 1)
        return error_set(err, ERROR_INVALID, "expect: list the %lld servers under `servers`", (long long)c->expect);
    if (c->election_timeout_ms < 3 * c->raft_heartbeat_ms)
        return error_set(err, ERROR_INVALID, "election_timeout must be at least three times raft_heartbeat, or one late "
                         "heartbeat unseats the leader");
    return 0;
}

/* At least four networks, since a range is there for growth, and no more than are looked through at once. */
static int check_network(const struct cluster_network *n, struct error *err)
{
    struct net4 range;
    if (!n->range)
        return 0;
    if (!net4_parse(n->range, &range) || range.bits < 8 || range.bits > 26)
        return error_set(err, ERROR_INVALID, "network.range: `%.64s` is no network such as 10.64.0.0/12 (from /8 to /26), and "
                         "not `none`", n->range);
    if (n->node_bits < range.bits + 2 || n->node_bits > range.bits + 16)
        return error_set(err, ERROR_INVALID, "network.node_bits: from %d to %d with network.range %s", range.bits + 2,
                         range.bits + 16 < 29 ? range.bits + 16 : 29, n->range);
    return 0;
}

static int check(const struct server_config *c, struct error *err)
{
    struct address bind = {0};
    if (address_parse(c->bind, (int)c->port, &bind, err))
        return error_context(err, "bind");
    bool files = c->tls_cert || c->tls_key || c->tls_ca;
    if (files && !(c->tls_cert && c->tls_key && c->tls_ca))
        return error_set(err, ERROR_INVALID, "tls_cert, tls_key and tls_ca belong together: set all three or none");
    if (files != (c->tls == TLS_FILES))
        return error_set(err, ERROR_INVALID, files ? "tls: %s is without tls_cert, tls_key and tls_ca; take them out, or set `files`"
                                                   : "tls: %s needs tls_cert, tls_key and tls_ca", tls_names[c->tls]);
    if (c->tls == TLS_OFF && !address_is_local(&bind) && !c->allow_insecure)
        return error_set(err, ERROR_INVALID, "bind: %s without TLS would open the API to the network; set tls: auto, or tls_cert, "
                         "tls_key and tls_ca, or bind to 127.0.0.1, or set allow_insecure", c->bind);
    if (c->access == ACCESS_TOKENS && c->tls == TLS_OFF)
        return error_set(err, ERROR_INVALID, "access: tokens would be read on their way; set tls: auto, or tls_cert, tls_key and tls_ca");
    if (c->access == ACCESS_OPEN && c->tls == TLS_AUTO)
        return error_set(err, ERROR_INVALID, "access: open is not for tls: auto, where whoever joins has no certificate yet");
    if (c->certificate_renewal_ms >= c->certificate_lifetime_ms)
        return error_set(err, ERROR_INVALID, "certificate_renewal must be shorter than certificate_lifetime");
    if (c->join_token_file[0] != '/' || c->cluster_key_file[0] != '/')
        return error_set(err, ERROR_INVALID, "join_token_file and cluster_key_file: absolute paths are needed");
    if (c->data_dir[0] != '/')
        return error_set(err, ERROR_INVALID, "data_dir: %s is not an absolute path", c->data_dir);
    if (c->audit_dir[0] != '/')
        return error_set(err, ERROR_INVALID, "audit_dir: %s is not an absolute path", c->audit_dir);
    if ((c->audit_sink == AUDIT_SINK_COMMAND) != (c->audit_command != NULL))
        return error_set(err, ERROR_INVALID, "audit_command and `audit_sink: command` belong together");
    if (c->audit_sink != AUDIT_SINK_NONE && c->audit == AUDIT_OFF)
        return error_set(err, ERROR_INVALID, "audit_sink: nothing is written down; set `audit: on`");
    if (c->backup_dir[0] != '/')
        return error_set(err, ERROR_INVALID, "backup_dir: %s is not an absolute path", c->backup_dir);
    if (!text_is_name(c->name))
        return error_set(err, ERROR_INVALID, "name: \"%s\" is not a server name: use lower-case letters, digits and "
                         "hyphens, at most 63", c->name);
    if (c->node_grace_ms < 2 * c->heartbeat_ms)
        return error_set(err, ERROR_INVALID, "node_grace must be at least twice heartbeat, or one late heartbeat takes "
                         "a node down");
    return check_network(&c->network, err) < 0 ? -1 : check_cluster(c, err);
}

/* Host names may hold capitals and dots; a server's name is the first label in lower case. */
static char *host_name(void)
{
    char text[HOST_NAME_MAX + 1] = "";
    gethostname(text, sizeof text - 1);
    text[strcspn(text, ".")] = '\0';
    for (char *p = text; *p; p++)
        *p = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p == '_' ? '-' : *p;
    return mem_strdup(text_is_name(text) ? text : "server");
}

/* Nothing is open by default, and what stays on this host needs nothing. */
static void choose_tls(struct server_config *c)
{
    bool outside = c->advertise && !address_text_is_local(c->advertise);
    for (uint32_t i = 0; i < c->servers.n; i++)
        outside |= !address_text_is_local(c->servers.v[i]);
    bool files = c->tls_cert || c->tls_key || c->tls_ca;
    if (!c->bind)
        c->bind = mem_strdup(files || outside || c->tls == TLS_AUTO ? "0.0.0.0" : "127.0.0.1");
    if (c->tls == TLS_DEFAULT)
        c->tls = files ? TLS_FILES : c->allow_insecure || address_text_is_local(c->bind) ? TLS_OFF : TLS_AUTO;
    if (c->access == ACCESS_AUTO)
        c->access = c->tls == TLS_AUTO ? ACCESS_TOKENS : ACCESS_OPEN;
}

int server_config_load(int argc, char **argv, struct server_config *config, struct error *err)
{
    int rc = config_load(&server_config_type, argc, argv, SERVER_CONFIG_FILE, config, err);
    if (rc)
        return rc;
    if (!config->name)
        config->name = host_name();
    choose_tls(config);
    if (!config->certificate_renewal_ms)
        config->certificate_renewal_ms = config->certificate_lifetime_ms / 3 * 2;
    if (!config->join_token_file)
        config->join_token_file = mem_printf("%s/join-token", config->data_dir);
    if (!config->cluster_key_file)
        config->cluster_key_file = mem_printf("%s/cluster-keys", config->data_dir);
    if (config->expect < 0)
        config->expect = config->servers.n ? (int64_t)config->servers.n : 1;
    if (config->network.range && !strcmp(config->network.range, "none"))
        mem_set_string(&config->network.range, NULL);
    if (!config->backup_dir)
        config->backup_dir = mem_printf("%s/backups", config->data_dir);
    if (!config->audit_dir)
        config->audit_dir = mem_printf("%s/audit", config->data_dir);
    if (config->audit == AUDIT_AUTO)
        config->audit = config->access == ACCESS_TOKENS ? AUDIT_ON : AUDIT_OFF;
    return check(config, err);
}
