#include "base/net4.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

bool ip4_parse(const char *text, uint32_t *out)
{
    struct in_addr a;
    if (!text || inet_pton(AF_INET, text, &a) != 1)
        return false;
    *out = ntohl(a.s_addr);
    return true;
}

void ip4_format(char out[static NET4_TEXT_SIZE], uint32_t address)
{
    struct in_addr a = {.s_addr = htonl(address)};
    inet_ntop(AF_INET, &a, out, NET4_TEXT_SIZE);
}

bool net4_parse(const char *text, struct net4 *out)
{
    char host[INET_ADDRSTRLEN], rest;
    unsigned bits;
    uint32_t base;
    if (!text || sscanf(text, "%15[0-9.]/%2u%c", host, &bits, &rest) != 2 || bits > 32 || !ip4_parse(host, &base)
        || (base & ~net4_mask((int)bits)))
        return false;
    *out = (struct net4){base, (int)bits};
    return true;
}

void net4_format(char out[static NET4_TEXT_SIZE], const struct net4 *n)
{
    ip4_format(out, n->base);
    snprintf(out + strlen(out), NET4_TEXT_SIZE - strlen(out), "/%d", n->bits);
}

bool net4_overlap(const struct net4 *a, const struct net4 *b)
{
    return ((a->base ^ b->base) & net4_mask(a->bits < b->bits ? a->bits : b->bits)) == 0;
}
