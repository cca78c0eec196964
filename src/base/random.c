#include "base/random.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#include "base/error.h"

uint64_t hash_mix(uint64_t v)
{
    v = (v ^ (v >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    v = (v ^ (v >> 27)) * UINT64_C(0x94d049bb133111eb);
    return v ^ (v >> 31);
}

uint64_t random_next(struct random *r)
{
    r->state += UINT64_C(0x9e3779b97f4a7c15);
    return hash_mix(r->state);
}

uint64_t random_below(struct random *r, uint64_t limit)
{
    /* Multiply-shift (Lemire 2019); the bias is below 2^-32 for the limits used here. */
    return (uint64_t)(((__uint128_t)random_next(r) * limit) >> 64);
}

uint64_t hash_bytes(const void *p, size_t n, uint64_t seed)
{
    return XXH64(p, n, seed);
}

uint64_t hash_string(const char *s, uint64_t seed)
{
    return XXH64(s, strlen(s), seed);
}

void random_system(void *p, size_t n)
{
    uint8_t *at = p;
    while (n) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        INVARIANT(got > 0);
        at += got;
        n -= (size_t)got;
    }
}
