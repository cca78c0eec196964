/* Chance: how far what was counted is from what chance explains. The results are natural logarithms: e to the minus result bounds
 * the probability of such counts, so that 6.9 is one in a thousand. Pure. Private to src/core. */
#pragma once
#include <stdint.h>

struct chance_count { int64_t of, hits; };   /* 0 <= hits <= of */

/* That c.hits of c.of come when each is a hit with probability p, 0 < p < 1, or less; 0 when they are not more than that.
 * Chernoff's bound: W. Hoeffding, Probability inequalities for sums of bounded random variables, 1963, theorem 1. */
double chance_of_more(struct chance_count c, double p);
/* That `b` has more hits than `a`, when b's probability is at most a's plus `by`, 0 <= by < 1; 0 when it has not. The probability
 * that fits both best is taken: a generalised likelihood ratio (S. S. Wilks, 1938), of which the two bounds above are the parts. */
double chance_of_difference(struct chance_count a, struct chance_count b, double by);
