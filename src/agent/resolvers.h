/* Resolvers: the name servers that a node's questions go to, one after the other. Pure. */
#pragma once
#include <netinet/in.h>

#include "model/model.h"

#define RESOLVERS_MOST 8

struct resolvers {
    struct sockaddr_in v[RESOLVERS_MOST];
    unsigned n;
    bool refuse;                         /* nothing is to be asked */
};

/* Those of `own`: addresses, with or without a port, or "none" alone: refuse. Where it is empty, those of the text of a
 * resolv.conf. What is no IPv4 address, more than RESOLVERS_MOST, and `self`, port 53, which would ask itself, is left out. */
void resolvers_read(struct resolvers *r, const struct str_list *own, const char *resolv_conf, uint32_t self);
/* The one whose turn it is, and moves on; NULL: all had theirs. The list may have become another one since the last turn. */
const struct sockaddr_in *resolvers_next(const struct resolvers *r, unsigned *turn);
