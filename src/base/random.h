/* Random: seeded numbers for decisions that must be repeatable, and the system's for ids and keys. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* SplitMix64 (Steele, Lea, Flood 2014): small, seedable, good enough for jitter, tie-breaks and simulations.
 * Never for secrets. */
struct random {
    uint64_t state;
};
uint64_t random_next(struct random *r);
uint64_t random_below(struct random *r, uint64_t limit);   /* 0 … limit-1; limit > 0 */

uint64_t hash_mix(uint64_t v);                              /* the finaliser of SplitMix64 */
uint64_t hash_bytes(const void *p, size_t n, uint64_t seed);/* XXH64 */
uint64_t hash_string(const char *s, uint64_t seed);

void random_system(void *p, size_t n);                      /* getrandom(2); aborts when the system has none */
