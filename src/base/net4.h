/* Networks of IPv4 addresses: "10.64.3.0/24". Addresses are numbers in the host's byte order. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define NET4_TEXT_SIZE 19                /* "255.255.255.255/32" */

struct net4 { uint32_t base; int bits; };

/* False unless the text is such a network, without a bit of an address beyond its mask. A NULL text is none. */
bool net4_parse(const char *text, struct net4 *out);
void net4_format(char out[static NET4_TEXT_SIZE], const struct net4 *n);
bool net4_overlap(const struct net4 *a, const struct net4 *b);
static inline uint32_t net4_mask(int bits) { return bits ? ~0u << (32 - bits) : 0; }

bool ip4_parse(const char *text, uint32_t *out);
void ip4_format(char out[static NET4_TEXT_SIZE], uint32_t address);
