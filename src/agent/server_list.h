/* Server list: the servers that an agent knows, in the order in which it tries them. Those that the servers told of come
 * first, in an order of the node's own, so that agents spread over them; then those of the configuration that were not
 * told of, which help when all others have moved. */
#pragma once
#include <stdbool.h>

#include "model/field.h"

struct server_list {
    char *node_id;
    bool tls;
    struct str_list configured, learned;     /* as targets of http_client.h, in the node's order */
    struct str_list all;                     /* what is tried */
};

/* addresses: host:port, or whole http://, https:// or unix: targets. */
void server_list_init(struct server_list *l, const char *node_id, const struct str_list *addresses, bool tls);
void server_list_clear(struct server_list *l);
/* Replaces what was learned; an empty list says nothing. True when something changed. */
bool server_list_learn(struct server_list *l, const struct str_list *addresses);
/* Index in `all`, or -1. */
int server_list_find(const struct server_list *l, const char *target);
