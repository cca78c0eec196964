#include "core/chance.h"

#include <math.h>

#define HALVINGS 60                  /* of the interval of probabilities: more than a double tells apart */

static double part_of(struct chance_count c)
{
    return c.of ? (double)c.hits / (double)c.of : 0;
}

static double term(double seen, double p)
{
    return seen > 0 ? seen * log(seen / p) : 0;
}

/* Of so many: the divergence of what was seen from p, of Kullback and Leibler. */
static double divergence(struct chance_count c, double p)
{
    double seen = part_of(c);
    return (double)c.of * (term(seen, p) + term(1 - seen, 1 - p));
}

double chance_of_more(struct chance_count c, double p)
{
    return part_of(c) > p ? divergence(c, p) : 0;
}

double chance_of_difference(struct chance_count a, struct chance_count b, double by)
{
    double low = part_of(a), high = part_of(b) - by;
    if (high <= low)
        return 0;
    /* The sum is convex in a's probability. */
    for (int i = 0; i < HALVINGS; i++) {
        double left = low + (high - low) / 3, right = high - (high - low) / 3;
        if (divergence(a, left) + divergence(b, left + by) < divergence(a, right) + divergence(b, right + by))
            high = right;
        else
            low = left;
    }
    double p = (low + high) / 2;
    return divergence(a, p) + divergence(b, p + by);
}
