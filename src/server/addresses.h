/* Addresses: where this server is reached, found out from its configuration and the host. */
#pragma once
#include "net/address.h"
#include "server/server_config.h"

struct server_addresses {
    char *api;                       /* host:port, for agents, clients and other servers */
    char *raft_listen;               /* host:port to listen on for other servers; NULL: the port is taken */
    char *raft;                      /* host:port at which they reach it */
};

/* api_port: the one that the API listens on. -1 with err when what is configured cannot be. */
int server_addresses_find(const struct server_config *config, int api_port, struct server_addresses *out,
                          struct error *err);
/* The host part of `api`, before anything listens; NULL: not known yet. The caller's. */
char *server_addresses_host(const struct server_config *config);
void server_addresses_clear(struct server_addresses *a);
/* 0, or -1 with ERROR_EXISTS when a port is taken, and other errors when it cannot be listened on at all. */
int address_check_free(const struct address *a, struct error *err);
