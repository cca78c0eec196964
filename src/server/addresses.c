#include "server/addresses.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define SOMEWHERE "192.0.2.1"       /* no host has it (RFC 5737): the way to it is the default route */
#define RAFT_OFFSET 2

static bool is_any(const char *host)
{
    return !*host || !strcmp(host, "0.0.0.0") || !strcmp(host, "::");
}

/* The host part under which others reach what listens on `bind`. */
static char *reachable_host(const char *bind)
{
    struct address a;
    struct error ignored;
    if (!address_parse(bind, 0, &a, &ignored) && !is_any(a.host))
        return mem_strdup(a.host);
    char *own = address_local(SOMEWHERE, 1);
    return own ? own : mem_strdup("127.0.0.1");
}

static char *format(const char *host, int port)
{
    struct address a = {.port = port};
    char text[ADDRESS_TEXT_SIZE];
    snprintf(a.host, sizeof a.host, "%s", host);
    address_format(text, &a);
    return mem_strdup(text);
}

/* TEXT (host or host:port), or what is found out. */
static int advertised(const char *key, const char *text, const char *bind, int port, struct address *out, struct error *err)
{
    CLEANUP_FREE char *found = text ? NULL : reachable_host(bind);
    CLEANUP_FREE char *whole = found ? format(found, port) : mem_strdup(text);
    if (address_parse(whole, port, out, err))
        return error_context(err, "%s", key);
    if (out->is_unix || is_any(out->host))
        return error_set(err, ERROR_INVALID, "%s: \"%s\" is no address at which others can reach this server", key, whole);
    return 0;
}

int address_check_free(const struct address *a, struct error *err)
{
    int rc = a->is_unix || !a->port ? 0 : address_probe(a, ADDRESS_TCP);
    if (rc == -EADDRINUSE)
        return error_set(err, ERROR_EXISTS, "port %d on %s is taken by another program; stop it, or set another port",
                         a->port, a->host);
    return rc >= 0 || rc == -EINVAL ? 0 : error_set_errno(err, -rc, "cannot listen on %s:%d", a->host, a->port);
}

/* Where no port was asked for, one server alone can do without. */
static int listen_for_servers(const struct server_config *c, int port, struct server_addresses *out, struct error *err)
{
    struct address a;
    if (address_parse(c->raft_bind ? c->raft_bind : c->bind, port, &a, err))
        return error_context(err, "raft_bind");
    a.port = port;
    if (a.is_unix)
        return 0;
    if (address_check_free(&a, err)) {
        if (c->raft_port || err->code != ERROR_EXISTS)
            return error_context(err, "raft_port");
        LOG_W("other servers cannot reach this one", "error", err->text);
        return 0;
    }
    out->raft_listen = format(a.host, port);
    return 0;
}

int server_addresses_find(const struct server_config *c, int api_port, struct server_addresses *out, struct error *err)
{
    struct address api, raft;
    int port = c->raft_port ? (int)c->raft_port : api_port + RAFT_OFFSET;
    *out = (struct server_addresses){0};
    if (!api_port && !c->advertise) {             /* a unix socket: nobody else comes here */
        out->api = mem_strdup(c->bind);
        out->raft = format("127.0.0.1", port);
        return 0;
    }
    if (advertised("advertise", c->advertise, c->bind, api_port, &api, err))
        return -1;
    if (port <= 65535 && listen_for_servers(c, port, out, err)) {
        server_addresses_clear(out);
        return -1;
    }
    out->api = format(api.host, api.port);
    const char *raft_bind = c->raft_advertise || c->raft_bind ? c->raft_bind : NULL;
    if (raft_bind || c->raft_advertise) {
        if (advertised("raft_advertise", c->raft_advertise, raft_bind ? raft_bind : c->bind, port, &raft, err)) {
            server_addresses_clear(out);
            return -1;
        }
    } else {
        raft = (struct address){.port = port};
        memcpy(raft.host, api.host, sizeof raft.host);
    }
    out->raft = format(raft.host, raft.port);
    return 0;
}

char *server_addresses_host(const struct server_config *c)
{
    struct address a;
    struct error ignored;
    return advertised("advertise", c->advertise, c->bind, 0, &a, &ignored) ? NULL : mem_strdup(a.host);
}

void server_addresses_clear(struct server_addresses *a)
{
    free(a->api);
    free(a->raft_listen);
    free(a->raft);
    *a = (struct server_addresses){0};
}
