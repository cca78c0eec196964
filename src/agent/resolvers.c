#include "agent/resolvers.h"

#include <stdio.h>
#include <string.h>

#include "agent/dns.h"
#include "base/net4.h"
#include "net/address.h"

static void add(struct resolvers *r, const char *text, uint32_t self)
{
    struct address a;
    uint32_t ip;
    if (r->n == RESOLVERS_MOST || address_parse(text, DNS_PORT, &a, NULL) < 0 || !ip4_parse(a.host, &ip)
        || (ip == self && a.port == DNS_PORT))
        return;
    r->v[r->n++] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)a.port), .sin_addr.s_addr = htonl(ip)};
}

void resolvers_read(struct resolvers *r, const struct str_list *own, const char *resolv_conf, uint32_t self)
{
    char word[64];
    *r = (struct resolvers){.refuse = own->n == 1 && !strcmp(own->v[0], "none")};
    for (uint32_t i = 0; i < own->n; i++)
        add(r, own->v[i], self);
    for (const char *line = own->n ? "" : resolv_conf; *line; line += strcspn(line, "\n"), line += *line == '\n')
        if (sscanf(line, "nameserver%*[ \t]%63[^ \t\r\n]", word) == 1)
            add(r, word, self);
}

const struct sockaddr_in *resolvers_next(const struct resolvers *r, unsigned *turn)
{
    return *turn < r->n ? &r->v[(*turn)++] : NULL;
}
