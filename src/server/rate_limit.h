/* Rate limits: how often one token, one address and one address's failures may ask. Each has an allowance that fills at its
 * rate, up to ten seconds' worth. Any thread. */
#pragma once
#include <stdint.h>

enum rate_kind { RATE_TOKEN, RATE_ADDRESS, RATE_FAILURE, RATE_KINDS };

struct rate_limits;

/* per_second: for each kind; 0: no limit. */
struct rate_limits *rate_limits_new(const int64_t per_second[static RATE_KINDS]);
void rate_limits_free(struct rate_limits *l);        /* NULL does nothing */
/* Takes one from the allowance of `key` (a token's id, an address). 0, or how many milliseconds from now there is one. Those
 * who have not asked for longest are forgotten when there are many. */
int64_t rate_take(struct rate_limits *l, enum rate_kind kind, const char *key, int64_t now_ms);
