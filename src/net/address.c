#include "net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "base/mem.h"
#include "base/text.h"

static int parse_unix(const char *path, const char *text, struct address *out, struct error *err)
{
    size_t limit = sizeof ((struct sockaddr_un *)0)->sun_path;
    if (path[0] != '/')
        return error_set(err, ERROR_INVALID, "address \"%s\": a unix socket needs an absolute path", text);
    if (strlen(path) >= limit)
        return error_set(err, ERROR_INVALID, "address \"%s\": the path of a unix socket has at most %zu bytes", text,
                         limit - 1);
    out->is_unix = true;
    snprintf(out->host, sizeof out->host, "%s", path);
    return 0;
}

static int parse_port(const char *port, const char *text, int *out, struct error *err)
{
    size_t digits = strspn(port, "0123456789");
    if (!digits || digits > 5 || port[digits] || atoi(port) > 65535)
        return error_set(err, ERROR_INVALID, "address \"%s\": the port must be a number from 0 to 65535", text);
    *out = atoi(port);
    return 0;
}

int address_parse(const char *text, int default_port, struct address *out, struct error *err)
{
    *out = (struct address){.port = default_port};
    if (text_has_prefix(text, "unix:"))
        return out->port = 0, parse_unix(text + strlen("unix:"), text, out, err);

    const char *host = text, *port = NULL;
    size_t host_len;
    if (*text == '[') {
        const char *end = strchr(text, ']');
        if (!end || (end[1] && end[1] != ':'))
            return error_set(err, ERROR_INVALID, "address \"%s\": an IPv6 address is written [::1]:4646", text);
        host++;
        host_len = (size_t)(end - host);
        port = end[1] ? end + 2 : NULL;
    } else {
        const char *colon = strchr(text, ':');
        if (colon && strchr(colon + 1, ':'))
            return error_set(err, ERROR_INVALID, "address \"%s\": an IPv6 address is written [::1]:4646", text);
        host_len = colon ? (size_t)(colon - text) : strlen(text);
        port = colon ? colon + 1 : NULL;
    }
    if (host_len >= sizeof out->host || memchr(host, '/', host_len) || memchr(host, ' ', host_len))
        return error_set(err, ERROR_INVALID, "address \"%s\": the host is not a name or an IP address", text);
    memcpy(out->host, host, host_len);
    if (port)
        return parse_port(port, text, &out->port, err);
    if (default_port < 0)
        return error_set(err, ERROR_INVALID, "address \"%s\": the port is missing (HOST:PORT)", text);
    return 0;
}

void address_format(char out[static ADDRESS_TEXT_SIZE], const struct address *a)
{
    if (a->is_unix)
        snprintf(out, ADDRESS_TEXT_SIZE, "unix:%s", a->host);
    else
        snprintf(out, ADDRESS_TEXT_SIZE, strchr(a->host, ':') ? "[%s]:%d" : "%s:%d", a->host, a->port);
}

bool address_is_local(const struct address *a)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (a->is_unix || !strcasecmp(a->host, "localhost"))
        return true;
    if (inet_pton(AF_INET, a->host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, a->host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

bool address_text_is_local(const char *text)
{
    struct address a;
    return !address_parse(text, 0, &a, NULL) && address_is_local(&a);
}

int address_probe(const struct address *a, enum address_transport transport)
{
    union { struct sockaddr any; struct sockaddr_in v4; struct sockaddr_in6 v6; } sa = {0};
    socklen_t len = sizeof sa.v4;
    if (inet_pton(AF_INET, a->host, &sa.v4.sin_addr) == 1) {
        sa.v4.sin_family = AF_INET;
        sa.v4.sin_port = htons((uint16_t)a->port);
    } else if (inet_pton(AF_INET6, a->host, &sa.v6.sin6_addr) == 1) {
        sa.v6.sin6_family = AF_INET6;
        sa.v6.sin6_port = htons((uint16_t)a->port);
        len = sizeof sa.v6;
    } else {
        return -EINVAL;
    }
    int fd = socket(sa.any.sa_family, (transport == ADDRESS_UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0)
        return -errno;
    /* What a connection that has ended leaves for a minute is nobody; a listener refuses nevertheless. */
    if (transport == ADDRESS_TCP)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    int rc = bind(fd, &sa.any, len) < 0 || getsockname(fd, &sa.any, &len) < 0 ? -errno
           : ntohs(sa.any.sa_family == AF_INET ? sa.v4.sin_port : sa.v6.sin6_port);
    close(fd);
    return rc;
}

char *address_local(const char *host, int port)
{
    struct sockaddr_storage to, own;
    socklen_t len = sizeof own;
    if (uv_ip4_addr(host, port, (struct sockaddr_in *)&to) && uv_ip6_addr(host, port, (struct sockaddr_in6 *)&to))
        return NULL;
    int fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return NULL;
    char text[INET6_ADDRSTRLEN] = "";
    socklen_t to_len = to.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (!connect(fd, (struct sockaddr *)&to, to_len) && !getsockname(fd, (struct sockaddr *)&own, &len))
        uv_ip_name((struct sockaddr *)&own, text, sizeof text);
    close(fd);
    return *text ? mem_strdup(text) : NULL;
}

int address_sockaddr(const struct address *a, struct sockaddr_storage *out, struct error *err)
{
    char text[ADDRESS_TEXT_SIZE];
    const char *host = !*a->host ? "0.0.0.0" : !strcmp(a->host, "localhost") ? "127.0.0.1" : a->host;
    if (!a->is_unix && (!uv_ip4_addr(host, a->port, (struct sockaddr_in *)out) ||
                        !uv_ip6_addr(host, a->port, (struct sockaddr_in6 *)out)))
        return 0;
    address_format(text, a);
    return error_set(err, ERROR_INVALID, "listening on %s: the host must be an IP address of this machine", text);
}

void address_holder(const char *peer, char out[static ADDRESS_HOLDER_SIZE])
{
    struct address a;
    struct error ignored;
    struct in6_addr ip;
    if (address_parse(peer, 0, &a, &ignored) || a.is_unix)
        snprintf(out, ADDRESS_HOLDER_SIZE, "%s", peer);
    else if (inet_pton(AF_INET6, a.host, &ip) == 1 && !IN6_IS_ADDR_V4MAPPED(&ip))
        snprintf(out, ADDRESS_HOLDER_SIZE, "%02x%02x:%02x%02x:%02x%02x:%02x%02x::/64", ip.s6_addr[0], ip.s6_addr[1], ip.s6_addr[2],
                 ip.s6_addr[3], ip.s6_addr[4], ip.s6_addr[5], ip.s6_addr[6], ip.s6_addr[7]);
    else
        snprintf(out, ADDRESS_HOLDER_SIZE, "%.*s", ADDRESS_HOLDER_SIZE - 1, a.host);
}
