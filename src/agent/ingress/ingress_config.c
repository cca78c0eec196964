#include "agent/ingress/ingress_config.h"

#include <arpa/inet.h>
#include <string.h>

#define KEY(key, number, kind_, member, ...) \
    {.name = key, .tag = number, .kind = kind_, .offset = offsetof(struct ingress_config, member), __VA_ARGS__}

static const struct field ingress_config_fields[] = {
    KEY("haproxy", 1, FIELD_STRING, haproxy, .default_text = "/usr/sbin/haproxy", .help = "The program, HAProxy 2.6 or newer."),
    KEY("bind", 2, FIELD_STR_LIST, bind, .flags = FIELD_SCALAR_OK,
        .help = "IP addresses that it listens on; default: all of the host."),
    KEY("http_port", 3, FIELD_INT, http_port, .default_text = "80", .min = 0, .max = 65535,
        .help = "Port of plain requests; 0: none."),
    KEY("https_port", 4, FIELD_INT, https_port, .default_text = "443", .min = 0, .max = 65535,
        .help = "Port of requests over TLS; 0: none."),
    KEY("certificates", 5, FIELD_STRING, certificates, .default_text = "/etc/mentat/certificates",
        .help = "Directory of *.pem files, each a certificate with its chain and its key; the names in a certificate say for "
                "which hosts it is. Changes are taken over while it runs."),
    KEY("user", 6, FIELD_STRING, user, .default_text = "haproxy",
        .help = "User that its processes run as when the agent is root."),
    KEY("threads", 7, FIELD_INT, threads, .min = 0, .max = 64, .help = "Threads; default: one for each processor."),
    KEY("max_connections", 8, FIELD_INT, max_connections, .default_text = "20000", .min = 10, .max = 1000000,
        .help = "Connections of clients at the same time; those beyond wait."),
    KEY("request_timeout", 9, FIELD_DURATION, request_timeout_ms, .default_text = "10s", .min = 100, .max = 3600000,
        .help = "How long a client may take to send the head of a request."),
    KEY("idle_timeout", 10, FIELD_DURATION, idle_timeout_ms, .default_text = "1m", .min = 100, .max = 86400000,
        .help = "How long a client may say nothing, within a request or between two."),
    KEY("response_timeout", 11, FIELD_DURATION, response_timeout_ms, .default_text = "1m", .min = 100, .max = 86400000,
        .help = "How long a replica may say nothing within its answer."),
    KEY("tunnel_timeout", 12, FIELD_DURATION, tunnel_timeout_ms, .default_text = "1h", .min = 1000, .max = 604800000,
        .help = "How long a WebSocket or TCP connection may be silent in both directions."),
    KEY("hard_stop", 13, FIELD_DURATION, hard_stop_ms, .default_text = "5m", .min = 1000, .max = 604800000,
        .help = "After a reload the process before it finishes its connections for this long."),
    KEY("max_body_mb", 14, FIELD_SIZE_MB, max_body_mb, .min = 0, .max = 1 << 20,
        .help = "Longest body of a request, as its Content-Length says (413 beyond); default: no limit."),
    KEY("requests_per_second", 15, FIELD_INT, requests_per_second, .min = 0, .max = 1000000,
        .help = "Requests of one client address in a second, 429 beyond; default: no limit."),
    KEY("access_log", 16, FIELD_BOOL, access_log, .default_text = "true",
        .help = "Log each request, to data_dir/ingress/logs."),
    KEY("log_max_files", 17, FIELD_INT, log_max_files, .default_text = "5", .min = 1, .max = 100,
        .help = "Files of the access log that are kept."),
    KEY("log_max_mb", 18, FIELD_SIZE_MB, log_max_mb, .default_text = "100", .min = 1, .max = 10240,
        .help = "Size at which the access log goes on in a new file."),
    KEY("acme_directory", 19, FIELD_STRING, acme_directory,
        .help = "URL of an ACME server's directory, from which certificates for `acme: true` come; by naming it you agree to its "
                "terms. Default: none, no such certificates."),
    KEY("acme_email", 20, FIELD_STRING, acme_email, .help = "Where the ACME server writes to; default: nowhere."),
    KEY("acme_program", 21, FIELD_STRING, acme_program, .default_text = "/usr/bin/uacme", .help = "The program uacme."),
    KEY("acme_retry", 22, FIELD_DURATION, acme_retry_ms, .default_text = "5m", .min = 1000, .max = 86400000,
        .help = "When a certificate could not be had, the time until it is tried again; it doubles with each time, up to a day."),
    {0},
};

const struct type ingress_config_type = {
    .name = "proxy_config", .size = sizeof(struct ingress_config), .fields = ingress_config_fields,
    .help = "The proxy of a node with `ingress: true`: HAProxy, run by the agent.",
};

/* Texts that stand in the proxy's configuration as they are. */
static bool is_plain(const char *s)
{
    return s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/-._")] == '\0';
}

int ingress_config_check(const struct ingress_config *c, struct error *err)
{
    struct in6_addr address;
    for (uint32_t i = 0; i < c->bind.n; i++)
        if (inet_pton(AF_INET, c->bind.v[i], &address) != 1 && inet_pton(AF_INET6, c->bind.v[i], &address) != 1)
            return error_set(err, ERROR_INVALID, "proxy.bind: \"%.60s\" is not an IP address", c->bind.v[i]);
    if (c->haproxy[0] != '/' || !is_plain(c->haproxy))
        return error_set(err, ERROR_INVALID, "proxy.haproxy: must be an absolute path");
    if (c->certificates[0] != '/' || !is_plain(c->certificates))
        return error_set(err, ERROR_INVALID, "proxy.certificates: must be an absolute path of letters, digits and /-._");
    if (c->acme_directory && strncmp(c->acme_directory, "https://", 8) && strncmp(c->acme_directory, "http://", 7))
        return error_set(err, ERROR_INVALID, "proxy.acme_directory: must be a URL that begins with https://");
    if (c->acme_email && (c->acme_email[0] == '-' || !strchr(c->acme_email, '@')))
        return error_set(err, ERROR_INVALID, "proxy.acme_email: is not an address");
    if (c->acme_program[0] != '/')
        return error_set(err, ERROR_INVALID, "proxy.acme_program: must be an absolute path");
    if (!is_plain(c->user))
        return error_set(err, ERROR_INVALID, "proxy.user: is not the name of a user");
    if (!c->http_port && !c->https_port)
        return error_set(err, ERROR_INVALID, "proxy: http_port and https_port are both 0: nothing would be served");
    if (c->http_port == c->https_port)
        return error_set(err, ERROR_INVALID, "proxy: http_port and https_port are the same");
    return 0;
}
